//! What resources of Azure share: work within an operation's time, tags of which only some are ours, and creations that
//! stopped half way.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::azure::{AddonIdentity, Error};
use crate::framework::resource::Private;
use crate::framework::{Deadline, Value};

/// How long may be read back after an operation's time is over, or after Ctrl-C, when five seconds are all there is.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// Why work ended before it was done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Halt {
    /// Azure said no.
    Azure(Error),
    /// Terraform asked to stop.
    Stopped,
    /// The operation's time is over.
    TooLate,
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Azure(error)
    }
}

/// The work's result, unless it takes longer than it may.
pub(super) async fn within<T>(
    deadline: &Deadline,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Halt> {
    tokio::select! {
        done = tokio::time::timeout_at(deadline.until, Box::pin(work)) => match done {
            Ok(result) => result.map_err(Halt::from),
            Err(_elapsed) => Err(Halt::TooLate),
        },
        () = deadline.stop.cancelled() => Err(Halt::Stopped),
    }
}

/// What is true after a failure, if it can be seen at once.
pub(super) async fn last_look<T>(work: impl Future<Output = Result<T, Error>>) -> Option<T> {
    tokio::time::timeout(LAST_LOOK, Box::pin(work)).await.ok()?.ok()
}

/// Creations that did not come to their end, by ID without case. Terraform shows every stored state before it plans, in
/// the same process: so the plan of a replacement can see that the object is to be completed and not to be made anew.
#[derive(Default)]
pub(super) struct Unfinished(Mutex<BTreeSet<String>>);

impl Unfinished {
    /// Remembers one stored state.
    pub(super) fn remember(&self, id: Option<&str>, unfinished: bool) {
        let Some(id) = id else { return };
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if unfinished {
            ids.insert(id.to_ascii_lowercase());
        } else {
            ids.remove(&id.to_ascii_lowercase());
        }
    }

    /// Whether a creation of this ID stopped half way.
    pub(super) fn has(&self, id: &str) -> bool {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.contains(&id.to_ascii_lowercase())
    }
}

/// The add-on's identity as an attribute; null if there is none.
pub(super) fn identity_value(identity: Option<&AddonIdentity>) -> Value {
    identity.map_or(Value::Null, |identity| {
        Value::object([
            ("client_id", Value::from(identity.client_id.0.as_str())),
            ("object_id", Value::from(identity.object_id.0.as_str())),
            ("resource_id", Value::from(identity.resource_id.as_str())),
        ])
    })
}

const RESUMES: &str = "resumes";

/// Private data of a plan whose creation goes on where another stopped.
pub(super) fn resuming(resumes: bool) -> Private {
    if resumes {
        Private::from([(RESUMES.to_owned(), serde_json::Value::Bool(true))])
    } else {
        Private::new()
    }
}

/// Whether the plan said so.
pub(super) fn resumes(private: &Private) -> bool {
    private.get(RESUMES) == Some(&serde_json::Value::Bool(true))
}

/// Tags of a configuration or state.
pub(super) fn tags(value: &Value) -> BTreeMap<String, String> {
    let members = value.get("tags").as_map().into_iter().flatten();
    members
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// What the tags should be: those of others stay, ours are as planned, and those that were ours go.
pub(super) fn wished_tags(
    live: &BTreeMap<String, String>,
    prior: &Value,
    planned: &Value,
) -> BTreeMap<String, String> {
    let (before, now) = (tags(prior), tags(planned));
    let others = live.iter().filter(|(name, _)| !before.contains_key(*name));
    let mut wished: BTreeMap<_, _> = others
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    wished.extend(now);
    wished
}

/// Our tags as they are: those that `state` names, of what is there.
pub(super) fn shown_tags(live: &BTreeMap<String, String>, state: &Value) -> Value {
    if state.get("tags").as_map().is_none() {
        return Value::Null;
    }
    let ours = tags(state);
    let shown = live.iter().filter(|(name, _)| ours.contains_key(*name));
    Value::object(shown.map(|(name, value)| (name.clone(), Value::from(value.as_str()))))
}

/// All tags, for an import.
pub(super) fn all_tags(live: &BTreeMap<String, String>) -> Value {
    if live.is_empty() {
        Value::Null
    } else {
        Value::object(
            live.iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str()))),
        )
    }
}

/// After a success, what the plan promised stands as promised; what somebody else did meanwhile, the next refresh shows.
pub(super) fn keep_promises(planned: &Value, state: &mut Value) {
    let (Some(planned), Some(members)) = (planned.as_map(), state.as_map_mut()) else {
        return;
    };
    for (name, value) in planned {
        if value.is_wholly_known() {
            members.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_others_stay() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let state = |pairs: &[(&str, &str)]| {
            Value::object([(
                "tags",
                Value::object(pairs.iter().map(|(k, v)| (*k, Value::from(*v)))),
            )])
        };
        let live = map(&[("policy", "x"), ("team", "old"), ("gone", "y")]);
        let wished = wished_tags(
            &live,
            &state(&[("team", "old"), ("gone", "y")]),
            &state(&[("team", "new")]),
        );
        assert_eq!(wished, map(&[("policy", "x"), ("team", "new")]));
        assert_eq!(
            shown_tags(&live, &state(&[("team", "new")])),
            state(&[("team", "old")]).get("tags").clone()
        );
        let none = Value::object([("tags", Value::Null)]);
        assert_eq!(shown_tags(&live, &none), Value::Null);
    }

    #[test]
    fn a_creation_is_unfinished_until_a_state_says_otherwise() {
        let unfinished = Unfinished::default();
        unfinished.remember(Some("/A"), true);
        assert!(unfinished.has("/a"));
        unfinished.remember(Some("/a"), false);
        assert!(!unfinished.has("/A"));
    }
}
