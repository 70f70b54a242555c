//! Who may do what: role-based access control.

use serde_json::Value;

use super::refusal::{Outcome, Refusal};
use super::request::Call;
use super::server::Identity;
use super::store::{Store, text_at};

const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Deed {
    pub(super) verb: String,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Set instead of all others if the deed is about a path.
    pub(super) path: Option<String>,
}

impl Deed {
    fn of(call: &Call) -> Self {
        let target = &call.target;
        Self {
            verb: call.verb().to_owned(),
            group: target.group.clone(),
            resource: target.resource.clone(),
            subresource: target.subresource.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            path: None,
        }
    }
}

/// Refuses a request that its user may not make.
pub(super) fn authorize(store: &Store, call: &Call) -> Outcome<()> {
    let deed = Deed::of(call);
    if allowed(store, &call.user, &deed).is_some() {
        return Ok(());
    }
    let resource = if deed.subresource.is_empty() {
        deed.resource.clone()
    } else {
        format!("{}/{}", deed.resource, deed.subresource)
    };
    let place = if deed.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", deed.namespace)
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        call.user.name, deed.verb, deed.group
    );
    let dotted = call.target.dotted();
    let about = if deed.name.is_empty() {
        dotted.clone()
    } else {
        format!("{dotted} {:?}", deed.name)
    };
    Err(Refusal::new(403, "Forbidden", format!("{about} is forbidden: {why}")).about(&dotted, &deed.name))
}

/// Refuses a request for a path that names no resource.
pub(super) fn authorize_path(store: &Store, call: &Call) -> Outcome<()> {
    let verb = call.method.as_str().to_lowercase();
    let deed = Deed {
        verb,
        path: Some(call.path.clone()),
        ..Deed::default()
    };
    if allowed(store, &call.user, &deed).is_some() {
        return Ok(());
    }
    let why = format!(
        "forbidden: User {:?} cannot {} path {:?}",
        call.user.name, deed.verb, call.path
    );
    Err(Refusal::new(403, "Forbidden", why).with_no_details())
}

/// Why a deed is allowed, in RBAC's words; `None` if it is not.
pub(super) fn allowed(store: &Store, user: &Identity, deed: &Deed) -> Option<String> {
    if user.groups.iter().any(|group| group == "system:masters") {
        return Some(String::new());
    }
    for binding in bindings(store, user, &deed.namespace) {
        if binding.rules.iter().any(|rule| covers(rule, deed)) {
            return Some(format!("RBAC: allowed by {}", binding.words));
        }
    }
    None
}

/// The rules that somebody has in a namespace.
pub(super) fn rules(store: &Store, user: &Identity, namespace: &str) -> Vec<Value> {
    bindings(store, user, namespace)
        .into_iter()
        .flat_map(|binding| binding.rules)
        .collect()
}

struct Binding {
    rules: Vec<Value>,
    words: String,
}

/// The bindings that name somebody: those of the cluster, and those of the namespace if there is one.
fn bindings(store: &Store, user: &Identity, namespace: &str) -> Vec<Binding> {
    let cluster = store
        .all(GROUP, "clusterrolebindings")
        .map(|(_, binding)| ("ClusterRoleBinding", binding));
    let local = store
        .all(GROUP, "rolebindings")
        .filter(|((place, _), _)| !namespace.is_empty() && place == namespace)
        .map(|(_, binding)| ("RoleBinding", binding));
    let mut found = Vec::new();
    for (kind, binding) in cluster.chain(local) {
        let subjects = binding.get("subjects").and_then(Value::as_array);
        let Some(subject) = subjects
            .into_iter()
            .flatten()
            .find(|subject| names(subject, user, namespace))
        else {
            continue;
        };
        let (role_kind, role) = (
            text_at(binding, &["roleRef", "kind"]),
            text_at(binding, &["roleRef", "name"]),
        );
        let role_object = if role_kind == "ClusterRole" {
            store.get_at(GROUP, "clusterroles", "", role)
        } else {
            store.get_at(GROUP, "roles", namespace, role)
        };
        let name = text_at(binding, &["metadata", "name"]);
        let full = if kind == "RoleBinding" {
            format!("{name}/{namespace}")
        } else {
            name.to_owned()
        };
        let words = format!(
            "{kind} {full:?} of {role_kind} {role:?} to {}",
            described(subject, namespace)
        );
        let rules = role_object
            .as_ref()
            .map(|role| role_rules(store, role))
            .unwrap_or_default();
        found.push(Binding { rules, words });
    }
    found
}

/// A role's rules; an aggregating role has those of the roles it selects.
fn role_rules(store: &Store, role: &Value) -> Vec<Value> {
    let own = role
        .get("rules")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let selectors = role
        .pointer("/aggregationRule/clusterRoleSelectors")
        .and_then(Value::as_array);
    let mut rules = own;
    for selector in selectors.into_iter().flatten() {
        for (_, other) in store.all(GROUP, "clusterroles") {
            let labels = other.pointer("/metadata/labels").and_then(Value::as_object);
            if super::selectors::matches(selector, labels) {
                rules.extend(
                    other
                        .get("rules")
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                        .cloned(),
                );
            }
        }
    }
    rules
}

/// A subject in RBAC's words.
fn described(subject: &Value, namespace: &str) -> String {
    let (kind, name) = (text_at(subject, &["kind"]), text_at(subject, &["name"]));
    match (kind, text_at(subject, &["namespace"])) {
        ("ServiceAccount", "") => format!("{kind} \"{name}/{namespace}\""),
        ("ServiceAccount", place) => format!("{kind} \"{name}/{place}\""),
        _ => format!("{kind} {name:?}"),
    }
}

fn names(subject: &Value, user: &Identity, namespace: &str) -> bool {
    let name = text_at(subject, &["name"]);
    match text_at(subject, &["kind"]) {
        "User" => name == user.name,
        "Group" => user.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let place = match text_at(subject, &["namespace"]) {
                "" => namespace,
                place => place,
            };
            user.name == format!("system:serviceaccount:{place}:{name}")
        }
        _ => false,
    }
}

fn covers(rule: &Value, deed: &Deed) -> bool {
    let list = |member: &str| {
        rule.get(member)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let has = |member: &str, wanted: &str| list(member).iter().any(|one| one == wanted || one == "*");
    if !has("verbs", &deed.verb) {
        return false;
    }
    if let Some(path) = &deed.path {
        return list("nonResourceURLs")
            .iter()
            .filter_map(Value::as_str)
            .any(|one| {
                one == path
                    || one
                        .strip_suffix('*')
                        .is_some_and(|prefix| path.starts_with(prefix))
            });
    }
    let resource = if deed.subresource.is_empty() {
        has("resources", &deed.resource)
    } else {
        has("resources", &format!("{}/{}", deed.resource, deed.subresource))
            || list("resources")
                .iter()
                .any(|one| *one == format!("*/{}", deed.subresource).as_str())
    };
    let named = list("resourceNames");
    resource
        && has("apiGroups", &deed.group)
        && (named.is_empty() || named.iter().any(|one| *one == deed.name.as_str()))
}
