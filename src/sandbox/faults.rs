//! "Fail the second PUT with 409": what goes wrong, staged from outside.
//!
//! A fault matches by plane, method, path, action, principal, actor and cluster. `action` is computed from method and
//! path before a plane sees the request ([`super::front::action`]), so that a fault can act before any effect:
//! ARM's is `Microsoft.ContainerService/managedClusters/write`, a vault's
//! `Microsoft.KeyVault/vaults/certificates/read`, Kubernetes' `networking.k8s.io/ingresses/patch`.
//!
//! A fault without `actor` never meets the world's own actors, or staging trouble for a client would stop the
//! world; `"actor":"*"` means any of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::core::{StagedOutcome, WorldError};
use super::journal::glob_matches;
use super::world::duration;

/// The faults; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Rings with every hit.
    hits: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    last: u64,
    faults: Vec<Fault>,
}

struct Fault {
    id: u64,
    /// As it was written.
    source: Value,
    matches: Match,
    /// Which match is the first to be hit.
    nth: u64,
    /// How many are hit from there on; `None` for all.
    times: Option<u64>,
    seen: u64,
    hits: u64,
    held: u64,
    has_held: bool,
    acts: Act,
    released: CancellationToken,
    /// Of a throttle, by principal.
    buckets: BTreeMap<String, Bucket>,
}

/// What a principal has asked since it was last let in again.
#[derive(Default)]
struct Bucket {
    asked: u64,
    /// Nothing is let in before.
    until: Option<OffsetDateTime>,
}

#[derive(Default)]
struct Match {
    plane: Option<String>,
    method: Option<String>,
    path: Option<String>,
    action: Option<String>,
    principal: Option<String>,
    actor: Option<String>,
    cluster: Option<String>,
    dry_run: Option<bool>,
}

/// What a fault does to a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// Answers so, without any effect.
    Status {
        status: u16,
        headers: BTreeMap<String, String>,
        body: Value,
    },
    /// Answers as the service would in this case, with these headers besides, without any effect.
    Named {
        name: String,
        headers: BTreeMap<String, String>,
    },
    /// Cuts the connection: after the effect, or before it.
    Lose { answered: bool },
    /// Resets the connection.
    Reset(Cut),
    /// Waits, really, before the effect.
    Delay(Duration),
    /// Keeps the request until the fault is deleted: after the effect, or before it.
    Hold { after: bool },
    /// The long-running operation ends so.
    Outcome(StagedOutcome),
    /// Lets this many requests of each principal in, then refuses all with 429 until the span is over.
    Throttle {
        after: u64,
        code: String,
        retry_after: Duration,
        /// What is left of the span, in the answer to a request.
        rest: Duration,
    },
}

/// Where a connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before the effect.
    Before,
    /// After the answer's head.
    Headers,
    /// Inside the answer's body.
    Body,
}

/// What is known of a request before it is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) plane: &'static str,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) action: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) actor: Option<String>,
    pub(crate) cluster: Option<String>,
    /// Whether nothing is to be stored.
    pub(crate) dry_run: bool,
}

/// A fault that a request met.
pub(crate) struct Met {
    /// `f1`.
    pub(crate) id: String,
    pub(crate) act: Act,
    number: u64,
    released: CancellationToken,
    faults: Faults,
}

impl Faults {
    /// Adds a fault as the control API describes it.
    pub(crate) fn add(&self, source: &Value) -> Result<String, WorldError> {
        let members = object(source, "", &["match", "nth", "times", "do"])?;
        let matches = members.get("match").unwrap_or(&Value::Null);
        let acts = members
            .get("do")
            .ok_or_else(|| WorldError::new("/do", "is required"))?;
        let act = Act::parse(acts)?;
        let fault = Fault {
            id: 0,
            matches: Match::parse(matches)?,
            nth: count(members, "nth")?.unwrap_or(1),
            times: match (members.get("times"), &act) {
                // A throttle is a rule, not an event.
                (Some(Value::Null), _) | (None, Act::Throttle { .. }) => None,
                _ => Some(count(members, "times")?.unwrap_or(1)),
            },
            seen: 0,
            hits: 0,
            held: 0,
            has_held: false,
            acts: act,
            buckets: BTreeMap::new(),
            released: CancellationToken::new(),
            source: source.clone(),
        };
        let mut state = self.lock();
        state.last += 1;
        let id = state.last;
        state.faults.push(Fault { id, ..fault });
        Ok(name(id))
    }

    /// The first fault, in order of creation, that hits a request with these facts. A match that only counts towards
    /// `nth` hides no later fault.
    pub(crate) fn meet(&self, facts: &Facts, now: OffsetDateTime) -> Option<Met> {
        let mut state = self.lock();
        let hit = state.faults.iter_mut().find_map(|fault| {
            if !fault.matches.admits(facts) {
                return None;
            }
            fault.seen += 1;
            let spent = fault.times.is_some_and(|times| fault.hits >= times);
            if fault.seen < fault.nth || spent {
                return None;
            }
            let act = fault.act(facts, now)?;
            fault.hits += 1;
            Some(Met {
                id: name(fault.id),
                act,
                number: fault.id,
                released: fault.released.clone(),
                faults: self.clone(),
            })
        })?;
        drop(state);
        self.0.hits.send_modify(|hits| *hits += 1);
        Some(hit)
    }

    /// All faults, as the control API shows them.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.lock().faults.iter().map(Fault::shown).collect()
    }

    /// One fault, as the control API shows it.
    pub(crate) fn get(&self, id: &str) -> Option<Value> {
        let state = self.lock();
        let fault = state.faults.iter().find(|fault| name(fault.id) == id)?;
        Some(fault.shown())
    }

    /// One fault, once it was hit, and once it holds where it is to hold: `after` the effect there is an effect then.
    /// `None` when it is deleted meanwhile.
    pub(crate) async fn hit(&self, id: &str) -> Option<Value> {
        let mut hits = self.0.hits.subscribe();
        loop {
            hits.mark_unchanged();
            if self.has_acted(id)? {
                return self.get(id);
            }
            hits.changed().await.ok()?;
        }
    }

    fn has_acted(&self, id: &str) -> Option<bool> {
        let state = self.lock();
        let fault = state.faults.iter().find(|fault| name(fault.id) == id)?;
        Some(match fault.acts {
            Act::Hold { .. } => fault.has_held,
            _ => fault.hits > 0,
        })
    }

    /// Deletes one fault, or all, and releases what it holds.
    pub(crate) fn delete(&self, id: Option<&str>) -> bool {
        let mut state = self.lock();
        let before = state.faults.len();
        state.faults.retain(|fault| {
            let stays = id.is_some_and(|id| name(fault.id) != id);
            if !stays {
                fault.released.cancel();
            }
            stays
        });
        let deleted = state.faults.len() < before;
        drop(state);
        // Whoever waits for a hit of a deleted fault has to learn it.
        self.0.hits.send_modify(|_| {});
        deleted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_held(&self, id: u64, held: bool) {
        let mut state = self.lock();
        if let Some(fault) = state.faults.iter_mut().find(|fault| fault.id == id) {
            fault.has_held |= held;
            fault.held = if held {
                fault.held + 1
            } else {
                fault.held.saturating_sub(1)
            };
        }
        drop(state);
        self.0.hits.send_modify(|_| {});
    }
}

impl Met {
    /// Waits until the fault is deleted, and counts as held meanwhile.
    pub(crate) async fn hold(&self) {
        struct Held<'a>(&'a Met);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.faults.count_held(self.0.number, false);
            }
        }
        self.faults.count_held(self.number, true);
        let held = Held(self);
        self.released.cancelled().await;
        drop(held);
    }
}

fn name(id: u64) -> String {
    format!("f{id}")
}

impl Fault {
    /// What happens to a request that would be hit; `None` where a throttle lets it in.
    fn act(&mut self, facts: &Facts, now: OffsetDateTime) -> Option<Act> {
        let Act::Throttle {
            after,
            code,
            retry_after,
            ..
        } = &self.acts
        else {
            return Some(self.acts.clone());
        };
        let principal = facts.principal.clone().unwrap_or_default();
        let bucket = self.buckets.entry(principal).or_default();
        if bucket.until.is_some_and(|until| until <= now) {
            *bucket = Bucket::default();
        }
        bucket.asked += 1;
        if bucket.asked <= *after {
            return None;
        }
        let until = *bucket.until.get_or_insert(now + *retry_after);
        Some(Act::Throttle {
            after: *after,
            code: code.clone(),
            retry_after: *retry_after,
            rest: Duration::try_from(until - now).unwrap_or_default(),
        })
    }

    fn shown(&self) -> Value {
        let mut shown = json!({"id": name(self.id), "hits": self.hits, "held": self.held});
        if let (Some(shown), Some(source)) = (shown.as_object_mut(), self.source.as_object()) {
            shown.extend(source.clone());
        }
        shown
    }
}

impl Match {
    fn parse(source: &Value) -> Result<Self, WorldError> {
        if source.is_null() {
            return Ok(Self::default());
        }
        let known = [
            "plane", "method", "path", "action", "as", "actor", "cluster", "dry_run",
        ];
        let members = object(source, "/match", &known)?;
        let text = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(WorldError::new(format!("/match/{name}"), "must be text")),
        };
        const PLANES: &[&str] = &["arm", "login", "imds", "graph", "vault", "kubernetes", "edge"];
        let plane = text("plane")?;
        if plane.as_deref().is_some_and(|plane| !PLANES.contains(&plane)) {
            let message = format!("is none of {}", PLANES.join(", "));
            return Err(WorldError::new("/match/plane", message));
        }
        Ok(Self {
            plane,
            method: text("method")?,
            path: text("path")?,
            action: text("action")?,
            principal: text("as")?,
            actor: text("actor")?,
            cluster: text("cluster")?,
            dry_run: match members.get("dry_run") {
                None | Some(Value::Null) => None,
                Some(Value::Bool(wanted)) => Some(*wanted),
                Some(_) => return Err(WorldError::new("/match/dry_run", "must be true or false")),
            },
        })
    }

    fn admits(&self, facts: &Facts) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| is.is_some_and(|is| wanted.eq_ignore_ascii_case(is)))
        };
        let globbed = |wanted: &Option<String>, is: Option<&str>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| is.is_some_and(|is| glob_matches(wanted, is)))
        };
        let actor = match self.actor.as_deref() {
            None => facts.actor.is_none(),
            Some("*") => facts.actor.is_some(),
            Some(wanted) => facts.actor.as_deref() == Some(wanted),
        };
        // An action's `*` stands for any of its parts, as in a role definition.
        let action = self.action.as_deref().map(|action| action.replace('*', "**"));
        actor
            && same(&self.plane, Some(facts.plane))
            && same(&self.method, Some(&facts.method))
            && same(&self.principal, facts.principal.as_deref())
            && same(&self.cluster, facts.cluster.as_deref())
            && self.dry_run.is_none_or(|wanted| wanted == facts.dry_run)
            && globbed(&self.path, Some(&facts.path))
            && globbed(&action, facts.action.as_deref())
    }
}

impl Act {
    fn parse(source: &Value) -> Result<Self, WorldError> {
        let known = [
            "status", "headers", "body", "named", "lose", "reset", "delay", "hold", "outcome", "error",
            "throttle",
        ];
        let members = object(source, "/do", &known)?;
        let wrong = |name: &str, message: &str| WorldError::new(format!("/do/{name}"), message);
        let word = |name: &str| members.get(name).and_then(Value::as_str);
        let headers = || {
            let headers = members.get("headers").cloned().unwrap_or_else(|| json!({}));
            serde_json::from_value(headers).map_err(|error| wrong("headers", &error.to_string()))
        };
        if let Some(status) = members.get("status") {
            let status = status.as_u64().and_then(|status| u16::try_from(status).ok());
            let status = status.filter(|status| (200..600).contains(status));
            return Ok(Self::Status {
                status: status.ok_or_else(|| wrong("status", "must be a status from 200 to 599"))?,
                headers: headers()?,
                body: members.get("body").cloned().unwrap_or(Value::Null),
            });
        }
        if let Some(named) = word("named") {
            if !super::front::refusals::is_known(named) {
                let names = super::front::refusals::names().collect::<Vec<_>>().join(", ");
                let message = format!("is none of {names}, AADSTS and a number");
                return Err(wrong("named", &message));
            }
            return Ok(Self::Named {
                name: named.to_owned(),
                headers: headers()?,
            });
        }
        if let Some(delay) = word("delay") {
            return duration(delay)
                .map(Self::Delay)
                .ok_or_else(|| wrong("delay", "must be a duration like 2s"));
        }
        if let Some(throttle) = members.get("throttle") {
            return Self::parse_throttle(throttle);
        }
        if let Some(status) = word("outcome") {
            return Ok(Self::Outcome(StagedOutcome {
                status: status.to_owned(),
                error: members.get("error").cloned(),
            }));
        }
        Ok(match (word("lose"), word("reset"), word("hold")) {
            (Some("answer"), ..) => Self::Lose { answered: true },
            (Some("request"), ..) => Self::Lose { answered: false },
            (_, Some("before"), _) => Self::Reset(Cut::Before),
            (_, Some("headers"), _) => Self::Reset(Cut::Headers),
            (_, Some("body"), _) => Self::Reset(Cut::Body),
            (.., Some("before")) => Self::Hold { after: false },
            (.., Some("after")) => Self::Hold { after: true },
            _ => {
                let message = "must hold status, named, lose (answer|request), reset (before|headers|body), delay, \
                               hold (before|after), outcome or throttle";
                return Err(WorldError::new("/do", message));
            }
        })
    }
}

impl Act {
    fn parse_throttle(source: &Value) -> Result<Self, WorldError> {
        let here = "/do/throttle";
        let members = object(source, here, &["after", "code", "retry_after"])?;
        let number = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(number) => match number.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(WorldError::new(
                    format!("{here}/{name}"),
                    "must be a whole number",
                )),
            },
        };
        let code = match members.get("code") {
            None => "ResourceRequestsThrottled".to_owned(),
            Some(Value::String(code)) => code.clone(),
            Some(_) => return Err(WorldError::new(format!("{here}/code"), "must be text")),
        };
        let retry_after = Duration::from_secs(number("retry_after")?.unwrap_or(7));
        Ok(Self::Throttle {
            after: number("after")?.unwrap_or_default(),
            code,
            retry_after,
            rest: retry_after,
        })
    }
}

fn object<'a>(
    source: &'a Value,
    pointer: &str,
    known: &[&str],
) -> Result<&'a serde_json::Map<String, Value>, WorldError> {
    let Some(members) = source.as_object() else {
        return Err(WorldError::new(pointer, "must be an object"));
    };
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => Err(WorldError::new(format!("{pointer}/{unknown}"), "is not known")),
        None => Ok(members),
    }
}

fn count(members: &serde_json::Map<String, Value>, name: &str) -> Result<Option<u64>, WorldError> {
    match members.get(name) {
        None => Ok(None),
        Some(number) => match number.as_u64() {
            Some(number) if number > 0 => Ok(Some(number)),
            _ => Err(WorldError::new(format!("/{name}"), "must be a number from 1 on")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put() -> Facts {
        Facts {
            plane: "arm",
            method: "PUT".to_owned(),
            path: "/subscriptions/s/providers/Microsoft.ContainerService/managedClusters/a".to_owned(),
            action: Some("Microsoft.ContainerService/managedClusters/write".to_owned()),
            principal: Some("deployer".to_owned()),
            ..Facts::default()
        }
    }

    #[test]
    fn nth_and_times_choose_which_matches_are_hit() {
        let faults = Faults::default();
        let fault = json!({"match": {"plane": "arm", "action": "*/write"}, "nth": 2, "times": 2,
            "do": {"status": 503}});
        faults.add(&fault).unwrap();
        let hits: Vec<_> = (0..5)
            .map(|_| faults.meet(&put(), OffsetDateTime::UNIX_EPOCH).is_some())
            .collect();
        assert_eq!(hits, [false, true, true, false, false]);
    }

    #[tokio::test]
    async fn what_is_to_hold_was_hit_when_it_holds() {
        let faults = Faults::default();
        let id = faults.add(&json!({"do": {"hold": "after"}})).unwrap();
        let met = faults.meet(&put(), OffsetDateTime::UNIX_EPOCH).unwrap();
        let mut hit = Box::pin(faults.hit(&id));
        assert!(
            futures_util::poll!(&mut hit).is_pending(),
            "the effect is still to come"
        );
        let mut holding = Box::pin(met.hold());
        assert!(futures_util::poll!(&mut holding).is_pending());
        assert_eq!(hit.await.unwrap()["held"], 1);
        faults.delete(Some(&id));
        holding.await;
    }

    #[test]
    fn actors_meet_only_faults_that_name_them() {
        let faults = Faults::default();
        faults
            .add(&json!({"match": {"method": "PUT"}, "do": {"lose": "answer"}}))
            .unwrap();
        let mut facts = put();
        facts.actor = Some("kubelet".to_owned());
        assert!(faults.meet(&facts, OffsetDateTime::UNIX_EPOCH).is_none());
        faults
            .add(&json!({"match": {"actor": "*"}, "do": {"lose": "answer"}}))
            .unwrap();
        assert_eq!(
            faults.meet(&facts, OffsetDateTime::UNIX_EPOCH).map(|met| met.id),
            Some("f2".to_owned())
        );
    }

    #[test]
    fn a_throttle_lets_each_principal_in_again_when_its_span_is_over() {
        let faults = Faults::default();
        let fault = json!({"do": {"throttle": {"after": 2, "code": "Throttled", "retry_after": 7}}});
        faults.add(&fault).unwrap();
        let start = OffsetDateTime::UNIX_EPOCH;
        let at = |seconds: i64| start + time::Duration::seconds(seconds);
        let rest = |who: &str, seconds: i64| {
            let facts = Facts {
                principal: Some(who.to_owned()),
                ..put()
            };
            faults.meet(&facts, at(seconds)).map(|met| match met.act {
                Act::Throttle { rest, .. } => rest.as_secs(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(
            [0, 0, 0, 3].map(|second| rest("a", second)),
            [None, None, Some(7), Some(4)]
        );
        assert_eq!(rest("b", 3), None, "another principal");
        assert_eq!([7, 7, 8].map(|second| rest("a", second)), [None, None, Some(7)]);
    }

    #[test]
    fn unknown_members_are_refused_where_they_stand() {
        for (source, pointer) in [
            (json!({"do": {"status": 503}, "once": true}), "/once"),
            (
                json!({"match": {"verb": "PUT"}, "do": {"status": 503}}),
                "/match/verb",
            ),
            (json!({"do": {"status": 42}}), "/do/status"),
            (json!({"do": {"explode": true}}), "/do/explode"),
            (json!({"do": {"throttle": {"before": 2}}}), "/do/throttle/before"),
            (json!({"do": {"named": "Nonsense"}}), "/do/named"),
            (json!({}), "/do"),
        ] {
            let refused = Faults::default().add(&source).unwrap_err();
            assert_eq!(refused.pointer, pointer, "{source}");
        }
    }
}
