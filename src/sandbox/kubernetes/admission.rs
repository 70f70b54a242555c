//! Admission: what the cluster adds to objects, and what it does not let in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::ingress_nginx;
use super::kinds::Kind;
use super::refusal::{Outcome, Refusal};
use super::safeguards;
use super::store::{Store, at, meta, text_at};
use super::writes::suffix;

/// The webhook that the world's denials come from, as AKS names it.
pub(crate) const WEBHOOK: &str = "validation.gatekeeper.sh";

/// The rule that stands for AKS deployment safeguards.
const SAFEGUARDS: &str = "safeguards";

/// The rule that stands for the webhook of ingress-nginx.
const INGRESS_NGINX: &str = "ingress-nginx";

/// Runs what may change an object; `live` is absent on creation.
pub(super) fn mutate(store: &Store, kind: &Kind, object: &mut Value, live: Option<&Value>) -> Outcome<()> {
    if live.is_none() {
        match (kind.group.as_str(), kind.plural.as_str()) {
            ("", "pods") => {
                use_service_account(store, kind, object)?;
                tolerate(object);
                prioritise(object);
            }
            ("", "nodes") => taint_new_node(object),
            ("networking.k8s.io", "ingresses") => use_default_class(store, object),
            _ => {}
        }
    }
    change_by_rules(&store.admission, kind, object);
    Ok(())
}

/// What the world's rules change in an object.
fn change_by_rules(rules: &[Value], kind: &Kind, object: &mut Value) {
    for rule in rules {
        if rule == SAFEGUARDS {
            safeguards::mutate(kind, object);
        }
        if !concerns(rule, kind, object) {
            continue;
        }
        let Some(patch) = rule.get("patch") else { continue };
        let Ok(patch) = serde_json::from_value::<json_patch::Patch>(patch.clone()) else {
            continue;
        };
        let mut changed = object.clone();
        // A patch that does not fit this object is a webhook that has nothing to say about it.
        if json_patch::patch(&mut changed, &patch).is_ok() {
            *object = changed;
        }
    }
}

/// Why the world's rules refuse an object.
fn denied_by_rules(rules: &[Value], kind: &Kind, object: &Value) -> Option<String> {
    rules.iter().find_map(|rule| {
        if rule == SAFEGUARDS {
            return safeguards::denial(kind, object);
        }
        let deny = rule.get("deny").and_then(Value::as_str);
        deny.filter(|_| concerns(rule, kind, object)).map(str::to_owned)
    })
}

/// Answers an `AdmissionReview` by the world's rules, as the webhooks do that a real API server asks: `changes` says
/// whether the webhook is one that may change the object, or one that judges it.
pub(crate) fn review(rules: &[Value], review: &Value, changes: bool) -> Value {
    let request = &review["request"];
    let kind = Kind::named(
        text_at(request, &["resource", "group"]),
        text_at(request, &["resource", "resource"]),
        text_at(request, &["kind", "kind"]),
    );
    let object = &request["object"];
    let mut response = json!({"uid": request["uid"], "allowed": true});
    if changes {
        let mut changed = object.clone();
        change_by_rules(rules, &kind, &mut changed);
        let patch = json_patch::diff(object, &changed);
        if !patch.0.is_empty() {
            response["patchType"] = Value::from("JSONPatch");
            response["patch"] = Value::from(STANDARD.encode(json!(patch).to_string()));
        }
    } else if let Some(text) = denied_by_rules(rules, &kind, object) {
        response["allowed"] = Value::from(false);
        response["status"] = json!({"code": 403, "reason": "Forbidden", "message": text});
    }
    json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})
}

/// What the original says about a new object that it takes nevertheless.
pub(super) fn warnings(kind: &Kind, object: &Value) -> Option<String> {
    if kind.is("", "secrets") && object["type"] == "kubernetes.io/tls" {
        let certificate = STANDARD
            .decode(text_at(object, &["data", "tls.crt"]))
            .unwrap_or_default();
        let is_pem = String::from_utf8_lossy(&certificate).contains("-----BEGIN CERTIFICATE-----");
        return (!is_pem).then(|| "tls: failed to find any PEM data in certificate input".to_owned());
    }
    let named = at(
        object,
        &["metadata", "annotations", "kubernetes.io/ingress.class"],
    )
    .is_some();
    (kind.is("networking.k8s.io", "ingresses") && named).then(|| {
        "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead".to_owned()
    })
}

/// Runs what only says yes or no.
pub(super) fn judge(store: &Store, kind: &Kind, object: &Value) -> Outcome<()> {
    if let Some(text) = denied_by_rules(&store.admission, kind, object) {
        let message = format!("admission webhook {WEBHOOK:?} denied the request: {text}");
        return Err(Refusal::new(403, "Forbidden", message));
    }
    let asks_nginx = store.admission.iter().any(|rule| rule == INGRESS_NGINX);
    if asks_nginx && let Some(text) = ingress_nginx::denial(store, kind, object) {
        let message = format!(
            "admission webhook {:?} denied the request: {text}",
            ingress_nginx::WEBHOOK
        );
        return Err(Refusal::new(400, "BadRequest", message));
    }
    Ok(())
}

fn concerns(rule: &Value, kind: &Kind, object: &Value) -> bool {
    let lists = |member: &str, names: &[&str]| match rule.get(member).and_then(Value::as_array) {
        Some(list) => list
            .iter()
            .any(|one| names.iter().any(|name| one == name) || one == "*"),
        None => true,
    };
    rule.is_object()
        && lists("kinds", &[&kind.kind, &kind.plural, &kind.resource()])
        && lists("namespaces", &[meta(object, "namespace")])
}

fn use_service_account(store: &Store, kind: &Kind, pod: &mut Value) -> Outcome<()> {
    let (namespace, name) = (meta(pod, "namespace").to_owned(), meta(pod, "name").to_owned());
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else {
        return Ok(());
    };
    if text_at(spec, &["serviceAccountName"]).is_empty() {
        spec["serviceAccountName"] = Value::from("default");
        spec["serviceAccount"] = Value::from("default");
    }
    let account = text_at(spec, &["serviceAccountName"]).to_owned();
    let Some(found) = store.get_at("", "serviceaccounts", &namespace, &account) else {
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        );
        return Err(Refusal::forbidden(&kind.resource(), &name, &why));
    };
    let flag = |value: &Value| value.get("automountServiceAccountToken").and_then(Value::as_bool);
    if flag(spec).or_else(|| flag(&found)).unwrap_or(true) {
        mount_token(spec);
    }
    if spec.get("imagePullSecrets").is_none()
        && let Some(secrets) = found.get("imagePullSecrets")
    {
        spec["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

/// Mounts the service account's token into every container that has nothing there.
fn mount_token(spec: &mut Value) {
    const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let volume = format!("kube-api-access-{}", suffix());
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter(|container| container.is_object())
        {
            let mounts = container
                .get("volumeMounts")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            if mounts.iter().any(|mount| mount["mountPath"] == PATH) {
                continue;
            }
            let mut mounts = mounts;
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": PATH}));
            container["volumeMounts"] = Value::Array(mounts);
            mounted = true;
        }
    }
    if !mounted {
        return;
    }
    let mut volumes = spec
        .get("volumes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}}));
    spec["volumes"] = Value::Array(volumes);
}

fn tolerate(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    let mut tolerations = spec
        .get("tolerations")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|one| {
            let same_key = one["key"] == key || (one.get("key").is_none() && one["operator"] == "Exists");
            same_key && (one["effect"] == "NoExecute" || one.get("effect").is_none())
        });
        if !covered {
            tolerations.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
    spec["tolerations"] = Value::Array(tolerations);
}

/// Nobody is scheduled to a node before a controller has found it ready.
fn taint_new_node(node: &mut Value) {
    const KEY: &str = "node.kubernetes.io/not-ready";
    let Some(spec) = node.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let taints = spec.entry("taints").or_insert_with(|| json!([]));
    let Some(taints) = taints.as_array_mut() else {
        return;
    };
    if !taints
        .iter()
        .any(|taint| taint["key"] == KEY && taint["effect"] == "NoSchedule")
    {
        taints.push(json!({"key": KEY, "effect": "NoSchedule"}));
    }
}

fn prioritise(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    let priority = match text_at(spec, &["priorityClassName"]) {
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        _ => 0,
    };
    spec["priority"] = Value::from(priority);
    if spec.get("preemptionPolicy").is_none() {
        spec["preemptionPolicy"] = Value::from("PreemptLowerPriority");
    }
}

fn use_default_class(store: &Store, ingress: &mut Value) {
    let named = at(ingress, &["spec", "ingressClassName"]).is_some()
        || at(
            ingress,
            &["metadata", "annotations", "kubernetes.io/ingress.class"],
        )
        .is_some();
    if named || !ingress.get("spec").is_some_and(Value::is_object) {
        return;
    }
    const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
    // Of several defaults the youngest wins, then the first by name.
    let mut defaults: Vec<_> = store
        .all("networking.k8s.io", "ingressclasses")
        .filter(|(_, class)| {
            at(class, &["metadata", "annotations", DEFAULT]).is_some_and(|flag| flag == "true")
        })
        .map(|(_, class)| {
            (
                std::cmp::Reverse(meta(class, "creationTimestamp")),
                meta(class, "name"),
            )
        })
        .collect();
    defaults.sort_unstable();
    if let Some((_, name)) = defaults.first() {
        ingress["spec"]["ingressClassName"] = Value::from(*name);
    }
}
