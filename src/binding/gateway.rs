//! Gateway API: the wished Gateway, its objects as the fields we own, and what the conditions of live objects mean.
//!
//! Pure. A Gateway of our own is applied whole. A foreign one is never written: our listeners stand in a ListenerSet of
//! ours, or its owner references our Secrets and we permit that with a ReferenceGrant.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::desired::{Desired, PathRule, Port, Rule};
use super::manifests::{object, with_defaults};
use crate::k8s::{GATEWAY, HTTP_ROUTE, LISTENER_SET, ObjectRef, REFERENCE_GRANT};

const GROUP: &str = "gateway.networking.k8s.io";

/// The wished part of Gateway API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Names the Gateway or ListenerSet, and the routes.
    pub name: String,
    /// Whose Gateway it is.
    pub parent: Parent,
    /// By name; none where the Gateway's owner has them.
    pub listeners: BTreeMap<String, Listener>,
    /// Hosts and where their requests go.
    pub rules: Vec<Rule>,
    /// Whether plain HTTP is redirected; otherwise it is served as it is.
    pub ssl_redirect: bool,
    /// Labels of what the Gateway brings along.
    pub infrastructure_labels: BTreeMap<String, String>,
    /// Annotations of what the Gateway brings along.
    pub infrastructure_annotations: BTreeMap<String, String>,
    /// Addresses to ask for.
    pub addresses: Vec<String>,
    /// As written, on every object of this part.
    pub labels: BTreeMap<String, String>,
    /// As written, on every object of this part.
    pub annotations: BTreeMap<String, String>,
    /// Namespaces whose Gateways may use our Secrets.
    pub grants_from: BTreeSet<String>,
}

/// Whose Gateway serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// Ours, of this class.
    Own {
        /// The GatewayClass.
        class: String,
    },
    /// Somebody else's.
    Foreign {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// How our listeners come to it.
        attach: Attach,
    },
}

/// How our certificates come to a foreign Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// By a ListenerSet of ours.
    ListenerSet,
    /// Its owner references our Secrets.
    Reference,
}

/// A listener that terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its host.
    pub host: String,
    /// Logical name of its certificate.
    pub certificate: String,
    /// Its port.
    pub port: u16,
    /// Of which namespaces it takes routes: `Same` or `All`.
    pub allowed_routes: String,
}

/// The name of a host's listener where none is written.
pub fn listener_name(host: &str) -> String {
    host.replacen('*', "wildcard", 1)
}

impl Gateway {
    /// The Gateway that publishes the address: ours, or the foreign one.
    pub fn publisher(&self, namespace: &str) -> ObjectRef {
        match &self.parent {
            Parent::Own { .. } => GATEWAY.named(namespace, &self.name),
            Parent::Foreign { namespace, name, .. } => GATEWAY.named(namespace, name),
        }
    }

    /// The object whose listeners are ours.
    fn listening(&self, namespace: &str) -> Option<ObjectRef> {
        match &self.parent {
            Parent::Own { .. } => Some(GATEWAY.named(namespace, &self.name)),
            Parent::Foreign {
                attach: Attach::ListenerSet,
                ..
            } => Some(LISTENER_SET.named(namespace, &self.name)),
            Parent::Foreign {
                attach: Attach::Reference,
                ..
            } => None,
        }
    }

    /// Namespaces whose Gateways may use our Secrets, the foreign Gateway's own among them.
    fn grants(&self, own: &str) -> BTreeSet<&str> {
        let mut from: BTreeSet<&str> = self.grants_from.iter().map(String::as_str).collect();
        if let Parent::Foreign {
            namespace,
            attach: Attach::Reference,
            ..
        } = &self.parent
            && namespace != own
        {
            from.insert(namespace);
        }
        from
    }

    /// The listeners that serve a host.
    fn listeners_of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (&'a String, &'a Listener)> {
        self.listeners
            .iter()
            .filter(move |(_, listener)| covers(&listener.host, host))
    }

    /// Whether some listener serves this host; always so where the Gateway's owner has them.
    pub fn listens_for(&self, host: &str) -> bool {
        matches!(
            self.parent,
            Parent::Foreign {
                attach: Attach::Reference,
                ..
            }
        ) || self.listeners_of(host).next().is_some()
    }

    /// The listeners for plain HTTP: name, and host where it has one.
    fn plain_listeners(&self) -> BTreeMap<String, Option<&str>> {
        if self.listeners.is_empty() {
            return BTreeMap::new();
        }
        match self.parent {
            Parent::Own { .. } => BTreeMap::from([(PLAIN.to_owned(), None)]),
            // A listener for all hosts would be in the way of the Gateway's own.
            Parent::Foreign { .. } => {
                let hosts: BTreeSet<&str> = self.listeners.values().map(|it| it.host.as_str()).collect();
                let named = hosts.into_iter();
                named
                    .map(|host| (format!("{PLAIN}-{}", listener_name(host)), Some(host)))
                    .collect()
            }
        }
    }
}

/// Name of the listener for plain HTTP.
pub const PLAIN: &str = "http";

/// Whether a listener's host takes in a rule's.
fn covers(listener: &str, host: &str) -> bool {
    crate::tls::covers(listener, host)
}

/// Every object of a binding's Gateway part with its manifest, without stamps, in the order in which they are applied.
pub fn objects(desired: &Desired) -> Vec<(ObjectRef, Value)> {
    let Some(wanted) = &desired.gateway else {
        return Vec::new();
    };
    let namespace = desired.namespace.as_str();
    let mut objects = Vec::new();
    let mut add = |reference: ObjectRef, spec: Value| {
        let manifest = object(
            &reference,
            &wanted.annotations,
            with_defaults(desired, &wanted.labels),
            &spec,
        );
        objects.push((reference, manifest));
    };
    let grants = wanted.grants(namespace);
    if !grants.is_empty() {
        add(
            REFERENCE_GRANT.named(namespace, &wanted.name),
            grant_spec(desired, &grants),
        );
    }
    if let Some(reference) = wanted.listening(namespace) {
        add(reference, listening_spec(desired, wanted));
    }
    for rule in &wanted.rules {
        let name = match wanted.rules.len() {
            1 => wanted.name.clone(),
            _ => format!("{}-{}", wanted.name, listener_name(&rule.host)),
        };
        add(
            HTTP_ROUTE.named(namespace, &name),
            route_spec(desired, wanted, rule),
        );
    }
    let plain = wanted.plain_listeners();
    if wanted.ssl_redirect && !plain.is_empty() {
        let name = format!("{}-redirect", wanted.name);
        add(
            HTTP_ROUTE.named(namespace, &name),
            redirect_spec(desired, wanted, plain.keys()),
        );
    }
    objects
}

fn grant_spec(desired: &Desired, from: &BTreeSet<&str>) -> Value {
    let from: Vec<Value> = from
        .iter()
        .map(|namespace| json!({ "group": GROUP, "kind": "Gateway", "namespace": namespace }))
        .collect();
    let to: Vec<Value> = desired
        .certificates
        .values()
        .map(|it| json!({ "group": "", "kind": "Secret", "name": it.secret_name }))
        .collect();
    json!({ "from": from, "to": to })
}

fn listening_spec(desired: &Desired, wanted: &Gateway) -> Value {
    let mut listeners: Vec<Value> = Vec::new();
    for (name, listener) in &wanted.listeners {
        let secret = desired
            .certificates
            .get(&listener.certificate)
            .map(|it| it.secret_name.as_str());
        listeners.push(json!({
            "name": name,
            "hostname": listener.host,
            "port": listener.port,
            "protocol": "HTTPS",
            "tls": { "mode": "Terminate", "certificateRefs": [{ "group": "", "kind": "Secret", "name": secret }] },
            "allowedRoutes": { "namespaces": { "from": listener.allowed_routes } },
        }));
    }
    for (name, host) in wanted.plain_listeners() {
        let mut listener = json!({
            "name": name,
            "port": 80,
            "protocol": "HTTP",
            "allowedRoutes": { "namespaces": { "from": "Same" } },
        });
        if let Some(host) = host {
            listener["hostname"] = json!(host);
        }
        listeners.push(listener);
    }
    let mut spec = Map::new();
    spec.insert("listeners".to_owned(), json!(listeners));
    match &wanted.parent {
        Parent::Own { class } => {
            spec.insert("gatewayClassName".to_owned(), json!(class));
            if !wanted.addresses.is_empty() {
                let addresses: Vec<Value> = wanted.addresses.iter().map(|text| address(text)).collect();
                spec.insert("addresses".to_owned(), json!(addresses));
            }
            let mut infrastructure = Map::new();
            for (member, texts) in [
                ("labels", &wanted.infrastructure_labels),
                ("annotations", &wanted.infrastructure_annotations),
            ] {
                if !texts.is_empty() {
                    infrastructure.insert(member.to_owned(), json!(texts));
                }
            }
            if !infrastructure.is_empty() {
                spec.insert("infrastructure".to_owned(), Value::Object(infrastructure));
            }
        }
        Parent::Foreign { namespace, name, .. } => {
            let parent = json!({ "group": GROUP, "kind": "Gateway", "namespace": namespace, "name": name });
            spec.insert("parentRef".to_owned(), parent);
        }
    }
    Value::Object(spec)
}

fn address(text: &str) -> Value {
    let kind = if text.parse::<std::net::IpAddr>().is_ok() {
        "IPAddress"
    } else {
        "Hostname"
    };
    json!({ "type": kind, "value": text })
}

/// References to the listeners of these names, or to the whole Gateway where its owner has them.
fn parents<'a>(
    desired: &Desired,
    wanted: &Gateway,
    sections: impl IntoIterator<Item = &'a String>,
) -> Vec<Value> {
    let Some(parent) = wanted.listening(&desired.namespace) else {
        let publisher = wanted.publisher(&desired.namespace);
        return vec![json!({
            "group": GROUP, "kind": "Gateway", "namespace": publisher.namespace, "name": publisher.name,
        })];
    };
    let reference = |section: &'a String| json!({ "group": GROUP, "kind": parent.kind.kind, "name": parent.name, "sectionName": section });
    sections.into_iter().map(reference).collect()
}

fn route_spec(desired: &Desired, wanted: &Gateway, rule: &Rule) -> Value {
    let mut sections: Vec<&String> = wanted.listeners_of(&rule.host).map(|(name, _)| name).collect();
    let plain = wanted.plain_listeners();
    if !wanted.ssl_redirect {
        let of_host = plain
            .iter()
            .filter(|(_, host)| host.is_none_or(|host| covers(host, &rule.host)));
        sections.extend(of_host.map(|(name, _)| name));
    }
    let rules: Vec<Value> = rule.paths.iter().map(path_rule).collect();
    json!({ "parentRefs": parents(desired, wanted, sections), "hostnames": [rule.host], "rules": rules })
}

fn path_rule(path: &PathRule) -> Value {
    let kind = if path.path_type == "Exact" {
        "Exact"
    } else {
        "PathPrefix"
    };
    let port = match &path.port {
        Port::Number(number) => json!(number),
        Port::Name(name) => json!(name),
    };
    json!({
        "matches": [{ "path": { "type": kind, "value": path.path } }],
        "backendRefs": [{ "group": "", "kind": "Service", "name": path.service, "port": port }],
    })
}

fn redirect_spec<'a>(
    desired: &Desired,
    wanted: &Gateway,
    sections: impl IntoIterator<Item = &'a String>,
) -> Value {
    let mut redirect = json!({ "scheme": "https", "statusCode": 301 });
    let ports: BTreeSet<u16> = wanted.listeners.values().map(|it| it.port).collect();
    if let (1, Some(port)) = (ports.len(), ports.first().filter(|port| **port != 443)) {
        redirect["port"] = json!(port);
    }
    json!({
        "parentRefs": parents(desired, wanted, sections),
        "rules": [{ "filters": [{ "type": "RequestRedirect", "requestRedirect": redirect }] }],
    })
}

/// The address that a Gateway publishes, if it does.
pub fn published_address(gateway: &Value) -> Option<String> {
    gateway["status"]["addresses"][0]["value"]
        .as_str()
        .map(str::to_owned)
}

/// Something that a controller says against one of the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which object, or which listener of it.
    pub subject: String,
    /// The condition, `ResolvedRefs=False, InvalidCertificateRef`.
    pub condition: String,
    /// The controller's own words.
    pub message: String,
    /// What it means.
    pub why: String,
    /// What to do.
    pub fix: String,
    /// Whether it can keep the certificate from being served.
    pub concerns_tls: bool,
}

/// What live objects of a binding's Gateway part say against it, worst first; `live` gives each as it is.
pub fn problems(
    desired: &Desired,
    publisher: Option<&Value>,
    live: &[(ObjectRef, Option<Value>)],
) -> Vec<Problem> {
    let Some(wanted) = &desired.gateway else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    let gateway = wanted.publisher(&desired.namespace);
    if let Parent::Foreign {
        attach: Attach::Reference,
        ..
    } = wanted.parent
        && let Some(publisher) = publisher
    {
        foreign_listeners(desired, &gateway, publisher, &mut problems);
    }
    for (reference, live) in live {
        let Some(live) = live else { continue };
        let generation = live["metadata"]["generation"].as_i64();
        let subject = reference.to_string();
        if reference.kind == HTTP_ROUTE {
            let own = live["status"]["parents"].as_array().into_iter().flatten();
            let mut parents = own.peekable();
            if parents.peek().is_none() {
                problems.push(unjudged(&subject, &gateway));
            }
            for parent in parents {
                conditions(&subject, generation, &parent["conditions"], &mut problems);
            }
        } else if [GATEWAY, LISTENER_SET].contains(&reference.kind) {
            let before = problems.len();
            for listener in live["status"]["listeners"].as_array().into_iter().flatten() {
                let name = listener["name"].as_str().unwrap_or_default();
                let subject = format!("listener {name} of {subject}");
                conditions(&subject, generation, &listener["conditions"], &mut problems);
            }
            // What a listener says explains what the whole says.
            if problems.len() == before {
                let all = live["status"]["conditions"].as_array().map_or(0, Vec::len);
                if all == 0 {
                    problems.push(unjudged(&subject, &gateway));
                }
                conditions(&subject, generation, &live["status"]["conditions"], &mut problems);
            }
        }
    }
    problems
}

/// Whether the owner's listeners use our Secrets, and what they say about it.
fn foreign_listeners(desired: &Desired, gateway: &ObjectRef, live: &Value, problems: &mut Vec<Problem>) {
    let secrets: BTreeSet<&str> = desired
        .certificates
        .values()
        .map(|it| it.secret_name.as_str())
        .collect();
    let own = gateway.namespace.as_deref().unwrap_or_default();
    let uses = |listener: &Value| {
        let references = listener["tls"]["certificateRefs"]
            .as_array()
            .into_iter()
            .flatten();
        let mut ours = references.filter(|reference| {
            reference["namespace"].as_str().unwrap_or(own) == desired.namespace
                && reference["name"]
                    .as_str()
                    .is_some_and(|name| secrets.contains(name))
        });
        ours.next().is_some()
    };
    let listeners = live["spec"]["listeners"].as_array().into_iter().flatten();
    let using: BTreeSet<&str> = listeners
        .filter(|listener| uses(listener))
        .filter_map(|listener| listener["name"].as_str())
        .collect();
    if using.is_empty() {
        let names: Vec<&str> = secrets.into_iter().collect();
        problems.push(Problem {
            subject: gateway.to_string(),
            condition: String::new(),
            message: String::new(),
            why: format!("No listener of it uses Secret {}", names.join(", ")),
            concerns_tls: true,
            fix: format!(
                "Its owner adds to a listener for the host  tls: {{ certificateRefs: [{{ name: {}, namespace: {} }}] }}",
                names.first().copied().unwrap_or_default(),
                desired.namespace
            ),
        });
    }
    let generation = live["metadata"]["generation"].as_i64();
    for listener in live["status"]["listeners"].as_array().into_iter().flatten() {
        let name = listener["name"].as_str().unwrap_or_default();
        if using.contains(name) {
            let subject = format!("listener {name} of {gateway}");
            conditions(&subject, generation, &listener["conditions"], problems);
        }
    }
}

fn unjudged(subject: &str, gateway: &ObjectRef) -> Problem {
    Problem {
        subject: subject.to_owned(),
        condition: String::new(),
        message: String::new(),
        why: "No controller has looked at it".to_owned(),
        concerns_tls: true,
        fix: format!(
            "Check that the controller of the Gateway's class runs and plays this kind:  kubectl describe {}  and  kubectl \
             get gatewayclass",
            gateway.to_string().replacen("Gateway ", "gateway -A ", 1)
        ),
    }
}

/// Conditions that say no, and their opposites that say yes.
const BAD: [(&str, &str); 6] = [
    ("Conflicted", "True"),
    ("OverlappingTLSConfig", "True"),
    ("ResolvedRefs", "False"),
    ("Accepted", "False"),
    ("PartiallyInvalid", "True"),
    ("Programmed", "False"),
];

/// Reason, what it means, what to do.
const REASONS: [(&str, &str, &str); 17] = [
    (
        "InvalidCertificateRef",
        "The controller finds no usable certificate in the Secret it is pointed to",
        "Look whether the Secret is there and of type kubernetes.io/tls; kvtls makes it from the vault's certificate",
    ),
    (
        "RefNotPermitted",
        "The reference leads into another namespace, and no ReferenceGrant there permits it",
        "Name the Gateway's namespace in  gateway.reference_grants_from , or for a Service make a ReferenceGrant in its namespace",
    ),
    (
        "HostnameConflict",
        "Another listener of the Gateway has the same port and host",
        "Remove one of the two, or use  gateway.parent.attach = \"reference\"  with the listener that is there",
    ),
    (
        "ProtocolConflict",
        "Another listener of the Gateway speaks another protocol at this port",
        "Use another  port",
    ),
    (
        "PortUnavailable",
        "The controller cannot listen at this port",
        "Use another  port",
    ),
    (
        "UnsupportedProtocol",
        "The controller does not terminate TLS at its listeners",
        "Use another  gateway.class_name",
    ),
    (
        "NotAllowedByListeners",
        "The Gateway's listeners take no routes from this namespace",
        "The Gateway's owner sets  allowedRoutes.namespaces  of the listener so that it takes in this namespace",
    ),
    (
        "NoMatchingListenerHostname",
        "No listener of the Gateway serves this host",
        "Add a listener for the host, or correct the host of the rule",
    ),
    (
        "NoMatchingParent",
        "The Gateway has no listener of that name or port",
        "Plan again; somebody may have removed it",
    ),
    (
        "NotAllowed",
        "The Gateway does not let listeners of this namespace in",
        "The Gateway's owner sets  spec.allowedListeners.namespaces.from: All  (or a selector that takes in this \
         namespace), or use  gateway.parent.attach = \"reference\"",
    ),
    (
        "BackendNotFound",
        "A Service that a rule names does not exist",
        "Make the Service, or correct  gateway.rules",
    ),
    (
        "InvalidKind",
        "A reference leads to a kind that the controller does not know",
        "Look at the object's conditions",
    ),
    (
        "AddressNotAssigned",
        "The Gateway has no address yet",
        "Look at the Service that its controller made:  kubectl get service -l gateway.networking.k8s.io/gateway-name",
    ),
    (
        "AddressNotUsable",
        "The address that is asked for cannot be had",
        "Correct  gateway.addresses , or leave it out",
    ),
    (
        "UnsupportedAddress",
        "The controller does not take addresses of this type",
        "Leave out  gateway.addresses",
    ),
    (
        "InvalidParameters",
        "The controller does not understand the class's or the Gateway's parameters",
        "Look at  kubectl describe gatewayclass",
    ),
    (
        "Pending",
        "The controller has not come to it yet",
        "Look at the controller's log",
    ),
];

/// What the conditions of one thing say against it: the first, which the others follow from.
fn conditions(subject: &str, generation: Option<i64>, all: &Value, problems: &mut Vec<Problem>) {
    let all: Vec<&Value> = all.as_array().into_iter().flatten().collect();
    let current = |condition: &&&Value| {
        let seen = condition["observedGeneration"].as_i64();
        // Some controllers leave it out.
        seen.is_none() || seen >= generation
    };
    if !all.is_empty() && !all.iter().any(|condition| current(&condition)) {
        problems.push(Problem {
            subject: subject.to_owned(),
            condition: String::new(),
            message: String::new(),
            why: "The controller has not yet looked at its newest generation".to_owned(),
            fix: "Look at the controller's log".to_owned(),
            concerns_tls: true,
        });
        return;
    }
    let said = |(kind, status): &(&str, &str)| {
        all.iter()
            .filter(current)
            .find(|condition| condition["type"] == *kind && condition["status"] == *status)
            .copied()
    };
    let Some(condition) = BAD.iter().find_map(said) else {
        return;
    };
    let text = |member: &str| condition[member].as_str().unwrap_or_default();
    let known = REASONS.iter().find(|(reason, _, _)| *reason == text("reason"));
    let (why, fix) = known.map_or(
        ("The controller refuses it", "Look at the controller's own words"),
        |(_, why, fix)| (*why, *fix),
    );
    problems.push(Problem {
        subject: subject.to_owned(),
        condition: format!("{}={}, {}", text("type"), text("status"), text("reason")),
        message: text("message").to_owned(),
        why: why.to_owned(),
        fix: fix.to_owned(),
        concerns_tls: !["BackendNotFound", "InvalidKind"].contains(&text("reason")),
    });
}

#[cfg(test)]
mod tests;
