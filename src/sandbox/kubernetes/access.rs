//! Who may do what: role-based access control.

use std::sync::Arc;

use serde_json::{Value, json};

use super::refusal::{Outcome, Refusal};
use super::request::Call;
use super::server::Identity;
use super::store::{Store, text_at};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Azure's word on what RBAC allows nobody: of a cluster that asks Azure.
pub(crate) type AzureRbac = Arc<dyn Fn(&Identity, &Deed) -> bool + Send + Sync>;

/// What Azure's authorizer says when it allows nothing.
const AZURE_REFUSES: &str =
    "User does not have access to the resource in Azure. Update role assignment to allow access.";

/// What somebody wants to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deed {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Set instead of all others if the deed is about a path.
    pub(crate) path: Option<String>,
}

impl Deed {
    /// What the specification of a review is about; `None` if it says nothing.
    pub(super) fn asked(spec: &Value) -> Option<Self> {
        if let Some(path) = spec.get("nonResourceAttributes") {
            return Some(Self {
                verb: text_at(path, &["verb"]).to_owned(),
                path: Some(text_at(path, &["path"]).to_owned()),
                ..Self::default()
            });
        }
        let what = spec.get("resourceAttributes")?;
        let word = |member: &str| text_at(what, &[member]).to_owned();
        Some(Self {
            verb: word("verb"),
            group: word("group"),
            resource: word("resource"),
            subresource: word("subresource"),
            namespace: word("namespace"),
            name: word("name"),
            path: None,
        })
    }

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
    let Err(reason) = allowed(store, &call.user, &deed) else {
        return Ok(());
    };
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
    let reason = reason.map(|words| format!(": {words}")).unwrap_or_default();
    Err(
        Refusal::new(403, "Forbidden", format!("{about} is forbidden: {why}{reason}"))
            .about(&dotted, &deed.name),
    )
}

/// Refuses a request for a path that names no resource.
pub(super) fn authorize_path(store: &Store, call: &Call) -> Outcome<()> {
    let verb = call.method.as_str().to_lowercase();
    let deed = Deed {
        verb,
        path: Some(call.path.clone()),
        ..Deed::default()
    };
    let Err(reason) = allowed(store, &call.user, &deed) else {
        return Ok(());
    };
    let mut why = format!(
        "forbidden: User {:?} cannot {} path {:?}",
        call.user.name, deed.verb, call.path
    );
    if let Some(words) = reason {
        why = format!("{why}: {words}");
    }
    Err(Refusal::new(403, "Forbidden", why).with_no_details())
}

/// Why a deed is allowed, in RBAC's words; if it is not, what the others say who were asked.
pub(super) fn allowed(store: &Store, user: &Identity, deed: &Deed) -> Result<String, Option<&'static str>> {
    if user.groups.iter().any(|group| group == "system:masters") {
        return Ok(String::new());
    }
    for binding in bindings(store, user, &deed.namespace) {
        if binding.rules.iter().any(|rule| covers(rule, deed)) {
            return Ok(format!("RBAC: allowed by {}", binding.words));
        }
    }
    azure_says(store.azure.as_ref(), user, deed).map(|()| String::new())
}

fn azure_says(azure: Option<&AzureRbac>, user: &Identity, deed: &Deed) -> Result<(), Option<&'static str>> {
    match azure {
        // Only those that Entra knows: accounts of the cluster are none of Azure's business.
        Some(azure) if !user.name.starts_with("system:") => {
            if azure(user, deed) {
                Ok(())
            } else {
                Err(Some(AZURE_REFUSES))
            }
        }
        _ => Err(None),
    }
}

/// The status of a `SubjectAccessReview` that an API server asks Azure with.
pub(crate) fn review(azure: Option<&AzureRbac>, review: &Value) -> Value {
    let spec = &review["spec"];
    let groups = spec["groups"].as_array().into_iter().flatten();
    let user = Identity {
        name: text_at(spec, &["user"]).to_owned(),
        uid: text_at(spec, &["uid"]).to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    let deed = Deed::asked(spec).unwrap_or_default();
    match azure_says(azure, &user, &deed) {
        Ok(()) => json!({"allowed": true}),
        Err(None) => json!({"allowed": false}),
        Err(Some(reason)) => json!({"allowed": false, "reason": reason}),
    }
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
