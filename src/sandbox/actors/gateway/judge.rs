//! What Gateway API's objects come to: which listeners are served with which certificate, which routes hang on them,
//! and what is to be said about each. Pure.

use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::sandbox::actors::cache::Cache;
use crate::sandbox::actors::edge::certificates::mistake;
use crate::sandbox::actors::edge::is_ip;
use crate::sandbox::actors::edge::plan::{Pair, Plan, Route, Target, backend};
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    at, includes, int, is_deleting, key, key_of, list, name, namespace, stamp, text,
};

pub(super) const GROUP: &str = "gateway.networking.k8s.io";

/// Whose Gateways are judged, and what else matters.
pub(super) struct Judge<'a> {
    pub(super) cache: &'a Cache,
    pub(super) controller: &'a str,
    /// Where the Gateways are reached; `None` while no address is known.
    pub(super) address: Option<&'a str>,
    pub(super) accepts_listener_sets: bool,
    pub(super) now: OffsetDateTime,
}

/// What is served, and the status each object should have.
#[derive(Default)]
pub(super) struct Judgement {
    pub(super) plan: Plan,
    pub(super) gateways: Vec<Arc<Value>>,
    pub(super) statuses: Vec<(Kind, Arc<Value>, Value)>,
}

/// One listener, of a Gateway or of a ListenerSet that was let in.
struct Slot {
    gateway: Arc<Value>,
    kind: Kind,
    owner: Arc<Value>,
    listener: Value,
    /// Why it is not taken: reason and message.
    refused: Option<(&'static str, String)>,
    /// Why its certificate cannot be had: reason and message.
    unresolved: Option<(&'static str, String)>,
    pair: Option<Pair>,
    attached: usize,
}

impl Slot {
    fn host(&self) -> String {
        text(&self.listener, "/hostname").to_lowercase()
    }

    fn is_secure(&self) -> bool {
        text(&self.listener, "/protocol") == "HTTPS"
    }

    fn port(&self) -> i64 {
        let otherwise = if self.is_secure() { 443 } else { 80 };
        int(&self.listener, "/port").unwrap_or(otherwise)
    }

    fn is_programmed(&self) -> bool {
        self.refused.is_none() && (!self.is_secure() || self.pair.is_some())
    }
}

impl Judge<'_> {
    pub(super) fn judge(&self) -> Judgement {
        let mut judgement = Judgement {
            gateways: self.claimed(),
            ..Judgement::default()
        };
        let mut slots = Vec::new();
        for gateway in &judgement.gateways {
            let before = slots.len();
            self.add_slots(&mut slots, gateway, Kind::Gateway, gateway);
            for set in self.sets_of(gateway) {
                self.add_slots(&mut slots, gateway, Kind::ListenerSet, &set);
            }
            refuse_doubles(&mut slots[before..]);
        }
        for slot in &mut slots {
            if slot.refused.is_none() && slot.is_secure() {
                self.resolve(slot);
            }
        }
        for route in oldest_first(self.cache.all(Kind::HttpRoute)) {
            self.attach(&route, &mut slots, &mut judgement);
        }
        for slot in slots.iter().filter(|slot| slot.is_programmed()) {
            if let Some(pair) = &slot.pair {
                judgement
                    .plan
                    .pairs
                    .entry(slot.host())
                    .or_insert_with(|| pair.clone());
            }
        }
        self.tell_of_gateways(&slots, &mut judgement);
        self.tell_of_sets(&slots, &mut judgement);
        judgement
    }

    /// The Gateways of this controller's classes, oldest first.
    fn claimed(&self) -> Vec<Arc<Value>> {
        let gateways = oldest_first(self.cache.all(Kind::Gateway)).into_iter();
        gateways
            .filter(|gateway| {
                let class = self
                    .cache
                    .get(Kind::GatewayClass, "", text(gateway, "/spec/gatewayClassName"));
                class.is_some_and(|class| text(&class, "/spec/controllerName") == self.controller)
            })
            .collect()
    }

    /// The sets that may hang on a Gateway, oldest first.
    fn sets_of(&self, gateway: &Value) -> Vec<Arc<Value>> {
        let mut sets = oldest_first(self.cache.all(Kind::ListenerSet));
        sets.retain(|set| is_parent(set, gateway) && self.lets_in(gateway, set));
        sets
    }

    fn lets_in(&self, gateway: &Value, set: &Value) -> bool {
        let allowed = at(gateway, "/spec/allowedListeners/namespaces");
        self.accepts_listener_sets && self.is_allowed(allowed, "None", namespace(gateway), namespace(set))
    }

    /// Whether `from` of an `allowedRoutes` or `allowedListeners` takes in a namespace.
    fn is_allowed(&self, allowed: &Value, otherwise: &str, own: &str, other: &str) -> bool {
        let from = match text(allowed, "/from") {
            "" => otherwise,
            from => from,
        };
        match from {
            "All" => true,
            "Same" => own == other,
            "Selector" => {
                let space = self.cache.get(Kind::Namespace, "", other).unwrap_or_default();
                includes(
                    at(&space, "/metadata/labels"),
                    at(allowed, "/selector/matchLabels"),
                )
            }
            _ => false,
        }
    }

    fn add_slots(&self, slots: &mut Vec<Slot>, gateway: &Arc<Value>, kind: Kind, owner: &Arc<Value>) {
        for listener in list(owner, "/spec/listeners") {
            let protocol = text(listener, "/protocol");
            let refused = (!["HTTP", "HTTPS"].contains(&protocol)).then(|| {
                let message = format!("protocol {protocol:?} is unsupported");
                ("UnsupportedProtocol", message)
            });
            slots.push(Slot {
                gateway: Arc::clone(gateway),
                kind,
                owner: Arc::clone(owner),
                listener: listener.clone(),
                refused,
                unresolved: None,
                pair: None,
                attached: 0,
            });
        }
    }

    /// Finds a listener's certificate.
    fn resolve(&self, slot: &mut Slot) {
        let references = list(&slot.listener, "/tls/certificateRefs");
        if references.is_empty() {
            let message = "no certificateRefs are given".to_owned();
            slot.unresolved = Some(("InvalidCertificateRef", message));
        }
        for reference in references {
            let (group, kind) = (text(reference, "/group"), text(reference, "/kind"));
            if !group.is_empty() || !["", "Secret"].contains(&kind) {
                let message = format!("invalid certificate reference to {kind}, only Secret is allowed");
                slot.unresolved = Some(("InvalidCertificateRef", message));
                continue;
            }
            let secret = text(reference, "/name");
            let space = match text(reference, "/namespace") {
                "" => namespace(&slot.owner),
                space => space,
            };
            let from = (slot.kind.place().kind, namespace(&slot.owner));
            if space != from.1 && !self.is_granted(from, ("Secret", space, secret)) {
                let message = format!(
                    "certificateRef {space}/{secret} not accessible to a {} in namespace {:?} (missing a ReferenceGrant?)",
                    from.0, from.1
                );
                slot.unresolved = Some(("RefNotPermitted", message));
                continue;
            }
            let pair = Pair::of(self.cache, space, secret);
            if self.cache.get(Kind::Secret, space, secret).is_none() {
                let message = format!("invalid certificate reference, secret {space}/{secret} not found");
                slot.unresolved = Some(("InvalidCertificateRef", message));
            } else if let Some(error) = mistake(&pair) {
                let message = format!("invalid certificate reference, the certificate is malformed: {error}");
                slot.unresolved = Some(("InvalidCertificateRef", message));
            } else if slot.pair.is_none() {
                slot.pair = Some(pair);
            }
        }
    }

    /// Whether a grant in the target's namespace permits the reference.
    fn is_granted(&self, from: (&str, &str), to: (&str, &str, &str)) -> bool {
        let grants = self.cache.within(Kind::ReferenceGrant, to.1);
        let mut grants = grants.iter().filter(|grant| !is_deleting(grant));
        grants.any(|grant| {
            list(grant, "/spec/from").iter().any(|entry| {
                text(entry, "/group") == GROUP
                    && text(entry, "/kind") == from.0
                    && text(entry, "/namespace") == from.1
            }) && list(grant, "/spec/to").iter().any(|entry| {
                text(entry, "/group").is_empty()
                    && text(entry, "/kind") == to.0
                    && ["", to.2].contains(&text(entry, "/name"))
            })
        })
    }

    /// Hangs a route on each parent that is ours, and says what came of it.
    fn attach(&self, route: &Arc<Value>, slots: &mut [Slot], judgement: &mut Judgement) {
        let mut parents: Vec<Value> = list(route, "/status/parents")
            .iter()
            .filter(|parent| text(parent, "/controllerName") != self.controller)
            .cloned()
            .collect();
        let foreign = parents.len();
        for reference in list(route, "/spec/parentRefs") {
            let kind = text(reference, "/kind");
            let space = match text(reference, "/namespace") {
                "" => namespace(route),
                space => space,
            };
            let wanted = key_of(space, text(reference, "/name"));
            let is_ours = |slot: &Slot| slot.kind.place().kind == kind && key(&slot.owner) == wanted;
            if !slots.iter().any(is_ours) {
                continue;
            }
            let accepted = self.try_attach(route, reference, slots, is_ours, &mut judgement.plan);
            let (status, reason, message) = match accepted {
                Ok(()) => ("True", "Accepted", "Route was valid".to_owned()),
                Err((reason, message)) => ("False", reason, message),
            };
            let resolved = self.backends(route);
            let (backend_status, backend_reason, backend_message) = match &resolved {
                Ok(()) => ("True", "ResolvedRefs", "All references resolved"),
                Err((reason, message)) => ("False", *reason, message.as_str()),
            };
            let old = list(route, "/status/parents").iter().find(|parent| {
                parent["controllerName"] == self.controller && parent["parentRef"] == *reference
            });
            let conditions = self.conditions(
                old.map_or(&[], |old| list(old, "/conditions")),
                route,
                &[
                    ["Accepted", status, reason, &message],
                    ["ResolvedRefs", backend_status, backend_reason, backend_message],
                ],
            );
            parents.push(
                json!({"parentRef": reference, "controllerName": self.controller, "conditions": conditions}),
            );
        }
        let had = list(route, "/status/parents").len();
        if parents.len() > foreign || had > foreign {
            let status = json!({"parents": parents});
            judgement
                .statuses
                .push((Kind::HttpRoute, Arc::clone(route), status));
        }
    }

    fn try_attach(
        &self,
        route: &Value,
        reference: &Value,
        slots: &mut [Slot],
        is_ours: impl Fn(&Slot) -> bool,
        plan: &mut Plan,
    ) -> Result<(), (&'static str, String)> {
        let (section, port) = (text(reference, "/sectionName"), int(reference, "/port"));
        let mut found: Vec<&mut Slot> = slots.iter_mut().filter(|slot| is_ours(slot)).collect();
        found.retain(|slot| {
            (section.is_empty() || text(&slot.listener, "/name") == section)
                && port.is_none_or(|port| port == slot.port())
        });
        if found.is_empty() {
            let message = if section.is_empty() {
                format!("port {} not found", port.unwrap_or_default())
            } else {
                format!("sectionName {section:?} not found")
            };
            return Err(("NoMatchingParent", message));
        }
        found.retain(|slot| {
            let allowed = at(&slot.listener, "/allowedRoutes/namespaces");
            self.is_allowed(allowed, "Same", namespace(&slot.owner), namespace(route))
        });
        if found.is_empty() {
            let message = format!(
                "hostnames matched parent hostname, but namespace {:?} is not allowed by the parent",
                namespace(route)
            );
            return Err(("NotAllowedByListeners", message));
        }
        let hostnames: Vec<String> = list(route, "/spec/hostnames")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_lowercase)
            .collect();
        let mut attached = false;
        for slot in found {
            let hosts = intersection(&slot.host(), &hostnames);
            if hosts.is_empty() {
                continue;
            }
            attached = true;
            slot.attached += 1;
            if slot.is_programmed() {
                for host in hosts {
                    self.add_routes(plan, route, &host, slot.is_secure());
                }
            }
        }
        if attached {
            return Ok(());
        }
        let message = "no hostnames matched parent hostname".to_owned();
        Err(("NoMatchingListenerHostname", message))
    }

    fn add_routes(&self, plan: &mut Plan, route: &Value, host: &str, secure: bool) {
        for rule in list(route, "/spec/rules") {
            let redirect = list(rule, "/filters")
                .iter()
                .find(|filter| filter["type"] == "RequestRedirect");
            let to = match (redirect, list(rule, "/backendRefs").first()) {
                (Some(filter), _) => {
                    let scheme = text(filter, "/requestRedirect/scheme");
                    let status = int(filter, "/requestRedirect/statusCode");
                    Target::Redirect {
                        scheme: (!scheme.is_empty()).then(|| scheme.to_owned()),
                        status: status.and_then(|code| u16::try_from(code).ok()).unwrap_or(302),
                    }
                }
                (None, Some(reference)) => {
                    let space = match text(reference, "/namespace") {
                        "" => namespace(route),
                        space => space,
                    };
                    let port = json!({"number": reference["port"]});
                    backend(self.cache, space, text(reference, "/name"), &port)
                }
                (None, None) => continue,
            };
            for matching in list(rule, "/matches") {
                plan.add(Route {
                    host: host.to_owned(),
                    path: text(matching, "/path/value").to_owned(),
                    exact: text(matching, "/path/type") == "Exact",
                    secure: Some(secure),
                    source: key(route),
                    to: to.clone(),
                });
            }
        }
    }

    /// Whether all Services a route names are there and permitted.
    fn backends(&self, route: &Value) -> Result<(), (&'static str, String)> {
        let rules = list(route, "/spec/rules").iter();
        for reference in rules.flat_map(|rule| list(rule, "/backendRefs")) {
            let service = text(reference, "/name");
            if !["", "Service"].contains(&text(reference, "/kind")) {
                let message = format!(
                    "referencing unsupported backendRef: kind {:?}",
                    text(reference, "/kind")
                );
                return Err(("InvalidKind", message));
            }
            let space = match text(reference, "/namespace") {
                "" => namespace(route),
                space => space,
            };
            let from = ("HTTPRoute", namespace(route));
            if space != from.1 && !self.is_granted(from, ("Service", space, service)) {
                let message = format!(
                    "backendRef {service}/{space} not accessible to a HTTPRoute in namespace {:?} (missing a ReferenceGrant?)",
                    from.1
                );
                return Err(("RefNotPermitted", message));
            }
            if self.cache.get(Kind::Service, space, service).is_none() {
                return Err((
                    "BackendNotFound",
                    format!("backend({service}.{space}.svc.cluster.local) not found"),
                ));
            }
        }
        Ok(())
    }

    fn listener_statuses(&self, slots: &[&Slot], owner: &Value) -> Vec<Value> {
        let old = list(owner, "/status/listeners");
        let status = |slot: &&Slot| {
            let own = text(&slot.listener, "/name");
            let old = old.iter().find(|listener| listener["name"] == own);
            let (accepted, conflicted) = match &slot.refused {
                None => (
                    ["True", "Accepted", "No errors found"],
                    ["False", "NoConflicts", "No errors found"],
                ),
                Some((reason, message)) if *reason == "UnsupportedProtocol" => (
                    ["False", reason, message],
                    ["False", "NoConflicts", "No errors found"],
                ),
                Some((reason, message)) => (["False", reason, message], ["True", reason, message]),
            };
            let programmed = if slot.is_programmed() {
                ["True", "Programmed", "No errors found"]
            } else {
                [
                    "False",
                    "Invalid",
                    slot.unresolved
                        .as_ref()
                        .or(slot.refused.as_ref())
                        .map_or("", |(_, message)| message),
                ]
            };
            let resolved = match &slot.unresolved {
                None => ["True", "ResolvedRefs", "No errors found"],
                Some((reason, message)) => ["False", reason, message],
            };
            let conditions = self.conditions(
                old.map_or(&[], |old| list(old, "/conditions")),
                owner,
                &[
                    ["Accepted", accepted[0], accepted[1], accepted[2]],
                    ["Conflicted", conflicted[0], conflicted[1], conflicted[2]],
                    ["Programmed", programmed[0], programmed[1], programmed[2]],
                    ["ResolvedRefs", resolved[0], resolved[1], resolved[2]],
                ],
            );
            json!({"name": own, "attachedRoutes": slot.attached,
                "supportedKinds": [{"group": GROUP, "kind": "HTTPRoute"}], "conditions": conditions})
        };
        slots.iter().map(status).collect()
    }

    fn tell_of_gateways(&self, slots: &[Slot], judgement: &mut Judgement) {
        for gateway in &judgement.gateways {
            let here = |slot: &&Slot| key(&slot.gateway) == key(gateway);
            let own: Vec<_> = slots
                .iter()
                .filter(|slot| here(slot) && slot.kind == Kind::Gateway)
                .collect();
            let bad = own.iter().filter(|slot| !slot.is_programmed()).count();
            let accepted = if bad == 0 {
                ["True", "Accepted", "Resource accepted"]
            } else if bad < own.len() {
                ["True", "ListenersNotValid", "One or more listeners are not valid"]
            } else {
                ["False", "ListenersNotValid", "No listener is valid"]
            };
            let wanted = list(gateway, "/spec/addresses");
            let usable = wanted.is_empty()
                || wanted
                    .iter()
                    .any(|address| self.address.is_some_and(|own| text(address, "/value") == own));
            let programmed = match self.address {
                None => [
                    "False",
                    "AddressNotAssigned",
                    "Assigned to service(s), but no address is known yet",
                ],
                Some(_) if !usable => [
                    "False",
                    "AddressNotUsable",
                    "No address of spec.addresses can be used",
                ],
                Some(_) if bad == own.len() => ["False", "Invalid", "No listener is valid"],
                Some(_) => [
                    "True",
                    "Programmed",
                    "Resource programmed, assigned to service(s)",
                ],
            };
            let conditions = self.conditions(
                list(gateway, "/status/conditions"),
                gateway,
                &[
                    ["Accepted", accepted[0], accepted[1], accepted[2]],
                    ["Programmed", programmed[0], programmed[1], programmed[2]],
                ],
            );
            let addresses: Vec<_> = self
                .address
                .filter(|_| usable)
                .iter()
                .map(|address| {
                    json!({"type": if is_ip(address) { "IPAddress" } else { "Hostname" }, "value": address})
                })
                .collect();
            let mut status = json!({"conditions": conditions, "addresses": addresses,
                "listeners": self.listener_statuses(&own, gateway)});
            if self.accepts_listener_sets {
                status["attachedListenerSets"] = self.sets_of(gateway).len().into();
            }
            judgement
                .statuses
                .push((Kind::Gateway, Arc::clone(gateway), status));
        }
    }

    fn tell_of_sets(&self, slots: &[Slot], judgement: &mut Judgement) {
        if !self.accepts_listener_sets {
            return;
        }
        for set in self.cache.all(Kind::ListenerSet) {
            let parent = judgement.gateways.iter().find(|gateway| is_parent(&set, gateway));
            let Some(parent) = parent.cloned() else { continue };
            let own: Vec<_> = slots
                .iter()
                .filter(|slot| slot.kind == Kind::ListenerSet && key(&slot.owner) == key(&set))
                .collect();
            let bad = own.iter().filter(|slot| !slot.is_programmed()).count();
            let (accepted, programmed) = if !self.lets_in(&parent, &set) {
                let words = "The parent Gateway does not allow listeners of this namespace";
                (["False", "NotAllowed", words], ["False", "NotAllowed", words])
            } else if bad == own.len() {
                let words = "No listener is valid";
                (
                    ["False", "ListenersNotValid", words],
                    ["False", "ListenersNotValid", words],
                )
            } else {
                (
                    ["True", "Accepted", "Resource accepted"],
                    ["True", "Programmed", "Resource programmed"],
                )
            };
            let conditions = self.conditions(
                list(&set, "/status/conditions"),
                &set,
                &[
                    ["Accepted", accepted[0], accepted[1], accepted[2]],
                    ["Programmed", programmed[0], programmed[1], programmed[2]],
                ],
            );
            let status = json!({"conditions": conditions, "listeners": self.listener_statuses(&own, &set)});
            judgement.statuses.push((Kind::ListenerSet, set, status));
        }
    }

    /// Conditions as wanted, each for the generation of `object`; a transition time moves with its status only.
    pub(super) fn conditions(&self, old: &[Value], object: &Value, wanted: &[[&str; 4]]) -> Vec<Value> {
        let generation = int(object, "/metadata/generation").unwrap_or(1);
        let since = |kind: &str, status: &str| {
            let same = old
                .iter()
                .find(|condition| condition["type"] == kind && condition["status"] == status);
            same.map_or_else(|| stamp(self.now).into(), |old| old["lastTransitionTime"].clone())
        };
        wanted
            .iter()
            .map(|[kind, status, reason, message]| {
                json!({"type": kind, "status": status, "reason": reason, "message": message,
                    "observedGeneration": generation, "lastTransitionTime": since(kind, status)})
            })
            .collect()
    }
}

/// Whether a set hangs itself on this Gateway.
fn is_parent(set: &Value, gateway: &Value) -> bool {
    let space = match text(set, "/spec/parentRef/namespace") {
        "" => namespace(set),
        space => space,
    };
    text(set, "/spec/parentRef/name") == name(gateway) && space == namespace(gateway)
}

fn oldest_first(mut objects: Vec<Arc<Value>>) -> Vec<Arc<Value>> {
    objects.retain(|object| !is_deleting(object));
    objects.sort_by_key(|object| {
        (
            text(object, "/metadata/creationTimestamp").to_owned(),
            key(object),
        )
    });
    objects
}

/// Of listeners of one Gateway with the same port, the first wins: another protocol there is refused, and another
/// listener for the same host.
fn refuse_doubles(slots: &mut [Slot]) {
    for index in 1..slots.len() {
        let (before, rest) = slots.split_at_mut(index);
        let Some(slot) = rest.first_mut().filter(|slot| slot.refused.is_none()) else {
            continue;
        };
        let mut same_port = before
            .iter()
            .filter(|other| other.refused.is_none() && other.port() == slot.port());
        let refused = same_port.find_map(|other| {
            let words = || format!("conflicts with listener {:?}", text(&other.listener, "/name"));
            if other.is_secure() != slot.is_secure() {
                Some(("ProtocolConflict", words()))
            } else if other.host() == slot.host() {
                Some(("HostnameConflict", words()))
            } else {
                None
            }
        });
        slot.refused = refused;
    }
}

/// The hosts that a listener and a route have in common; an empty host is any.
fn intersection(listener: &str, hostnames: &[String]) -> Vec<String> {
    if hostnames.is_empty() {
        return vec![listener.to_owned()];
    }
    let within = |wide: &str, narrow: &str| {
        wide.is_empty()
            || wide == narrow
            || wide
                .strip_prefix('*')
                .is_some_and(|suffix| narrow.trim_start_matches('*').ends_with(suffix))
    };
    hostnames
        .iter()
        .filter_map(|host| {
            if within(listener, host) {
                Some(host.clone())
            } else if within(host, listener) {
                Some(listener.to_owned())
            } else {
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_and_route_meet_in_the_narrower_host() {
        let meet = |listener: &str, host: &str| intersection(listener, &[host.to_owned()]);
        assert_eq!(meet("", "a.example.com"), ["a.example.com"]);
        assert_eq!(meet("*.example.com", "a.example.com"), ["a.example.com"]);
        assert_eq!(meet("a.example.com", "*.example.com"), ["a.example.com"]);
        assert_eq!(meet("a.example.com", "b.example.com"), Vec::<String>::new());
        assert_eq!(meet("*.example.com", "example.com"), Vec::<String>::new());
        assert_eq!(intersection("a.example.com", &[]), ["a.example.com"]);
    }
}
