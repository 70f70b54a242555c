//! Manifests as text, and live objects seen through the fields we own.
//!
//! Pure. A live object holds far more than we sent: defaults, status, other managers' fields. [`project`] keeps what
//! the manifest names, so that defaulting and admission never show as drift while every change of a field of ours does.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::manifests::BOOKKEEPING;
use crate::k8s::FIELD_MANAGER;
use crate::k8s::ownership::owned;

/// Canonical YAML of a manifest: keys sorted, bookkeeping annotations left out.
pub fn yaml(manifest: &Value) -> String {
    let shown = without_bookkeeping(manifest);
    // Only maps with keys that are not text can fail, and JSON has none.
    serde_saphyr::to_string(&shown).unwrap_or_else(|_| shown.to_string())
}

/// The manifest without our bookkeeping annotations, at any depth.
#[must_use]
pub fn without_bookkeeping(manifest: &Value) -> Value {
    match manifest {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (name, member) in members {
                if name == "annotations" {
                    let shown: Map<String, Value> = member
                        .as_object()
                        .into_iter()
                        .flatten()
                        .filter(|(key, _)| !key.starts_with(BOOKKEEPING))
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect();
                    if !shown.is_empty() {
                        kept.insert(name.clone(), Value::Object(shown));
                    }
                } else {
                    kept.insert(name.clone(), without_bookkeeping(member));
                }
            }
            Value::Object(kept)
        }
        Value::Array(items) => Value::Array(items.iter().map(without_bookkeeping).collect()),
        _ => manifest.clone(),
    }
}

/// The live object reduced to the fields that `mask` names.
///
/// Lists are matched by the key that Kubernetes merges them by; a list without one is compared element by element,
/// and elements that `mask` does not have are shown whole, because such a list belongs to one manager as a whole.
#[must_use]
pub fn project(live: &Value, mask: &Value) -> Value {
    match (live, mask) {
        (Value::Object(live), Value::Object(mask)) => Value::Object(
            mask.iter()
                .filter_map(|(name, inner)| live.get(name).map(|value| (name.clone(), project(value, inner))))
                .collect(),
        ),
        (Value::Array(live), Value::Array(mask)) => Value::Array(project_list(live, mask)),
        _ => live.clone(),
    }
}

fn project_list(live: &[Value], mask: &[Value]) -> Vec<Value> {
    if let Some(key) = merge_key(mask) {
        return mask
            .iter()
            .filter_map(|wanted| {
                let found = live.iter().find(|item| item[key] == wanted[key])?;
                Some(project(found, wanted))
            })
            .collect();
    }
    live.iter()
        .enumerate()
        .map(|(index, item)| {
            mask.get(index)
                .map_or_else(|| item.clone(), |wanted| project(item, wanted))
        })
        .collect()
}

/// The key by which Kubernetes merges a list of this shape, for the lists in our manifests: containers and volumes
/// and listeners by name, volume mounts by path. `rules`, `tls`, `paths`, `secretObjects` and `data` are atomic, and so
/// are references to other objects, which have a name and a kind.
fn merge_key(items: &[Value]) -> Option<&'static str> {
    let all_have = |key: &str| !items.is_empty() && items.iter().all(|item| item[key].is_string());
    if all_have("kind") {
        None
    } else if all_have("mountPath") {
        Some("mountPath")
    } else if all_have("name") {
        Some("name")
    } else {
        None
    }
}

/// The fields in which two manifests differ, written as the API server writes them: `.spec.tls`,
/// `.spec.template.spec.containers[name="sync"].image`. A list that belongs to one manager as a whole is one field.
pub fn differences(left: &Value, right: &Value) -> Vec<String> {
    let mut fields = Vec::new();
    differ(left, right, String::new(), &mut fields);
    fields
}

fn differ(left: &Value, right: &Value, path: String, fields: &mut Vec<String>) {
    match (left, right) {
        (left, right) if left == right => {}
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in names {
                let at = format!("{path}.{name}");
                differ(or_null(left.get(name)), or_null(right.get(name)), at, fields);
            }
        }
        (Value::Array(left), Value::Array(right)) => match (merge_key(left), merge_key(right)) {
            (Some(key), Some(same)) if key == same => {
                let items = left.iter().chain(right);
                let names: BTreeSet<&str> = items.filter_map(|item| item[key].as_str()).collect();
                for name in names {
                    let left = left.iter().find(|item| item[key] == name);
                    let right = right.iter().find(|item| item[key] == name);
                    differ(
                        or_null(left),
                        or_null(right),
                        format!("{path}[{key}={name:?}]"),
                        fields,
                    );
                }
            }
            _ => fields.push(path),
        },
        _ => fields.push(path),
    }
}

fn or_null(value: Option<&Value>) -> &Value {
    value.unwrap_or(&Value::Null)
}

/// What to show for a live object: `wanted` wherever the live value is what the server made of our last write
/// (`admission`, see [`admission`]), the live value everywhere else.
#[must_use]
pub fn shown(live: &Value, wanted: &Value, admission: Option<&Value>) -> Value {
    // What we own beyond what we want is a leftover of ours, and is shown so that it is taken back.
    let mut seen = without_bookkeeping(&overlay(owned(live, FIELD_MANAGER), &project(live, wanted)));
    let wanted = without_bookkeeping(wanted);
    if is_autoscaled(live) && seen["spec"].is_object() {
        match wanted["spec"].get("replicas") {
            Some(replicas) => seen["spec"]["replicas"] = replicas.clone(),
            None => yield_to_autoscaler(&mut seen, live),
        }
    }
    match admission {
        None => seen,
        Some(admission) => forgive(&seen, &admission["admitted"], &admission["sent"], &wanted),
    }
}

/// Leaves the number of replicas out of what we want, if an autoscaler has set it: it would set it again.
pub fn yield_to_autoscaler(wanted: &mut Value, live: &Value) {
    if is_autoscaled(live)
        && let Some(spec) = wanted["spec"].as_object_mut()
    {
        spec.remove("replicas");
    }
}

/// Whether an autoscaler has set the number of replicas, as far as the object tells.
pub fn is_autoscaled(live: &Value) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(is_of_autoscaler)
}

/// Takes away what the object tells of an autoscaler that is gone: its number is nobody's any more.
pub fn forget_autoscaler(live: &mut Value) {
    let entries = live.pointer_mut("/metadata/managedFields");
    if let Some(entries) = entries.and_then(Value::as_array_mut) {
        entries.retain(|entry| !is_of_autoscaler(entry));
    }
}

fn is_of_autoscaler(entry: &Value) -> bool {
    // The HorizontalPodAutoscaler's controller writes through the scale subresource; people who scale do, too.
    entry["manager"] == "kube-controller-manager"
        && entry["subresource"] == "scale"
        && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
}

/// What the server made of a write of ours, to be remembered; nothing if it took it as it was.
pub fn admission(live: &Value, sent: &Value) -> Option<Value> {
    let sent = without_bookkeeping(sent);
    let admitted = without_bookkeeping(&project(live, &sent));
    (admitted != sent).then(|| json!({ "sent": sent, "admitted": admitted }))
}

/// `over` on top of `under`: maps are joined, everything else is replaced.
fn overlay(under: Value, over: &Value) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) => {
            for (name, value) in over {
                let below = under.remove(name).unwrap_or_default();
                under.insert(name.clone(), overlay(below, value));
            }
            Value::Object(under)
        }
        (_, over) => over.clone(),
    }
}

/// A field that is as admitted shows as wanted, as long as we want what we sent then.
fn forgive(seen: &Value, admitted: &Value, sent: &Value, wanted: &Value) -> Value {
    if seen == admitted && wanted == sent {
        return wanted.clone();
    }
    match (seen, admitted, sent, wanted) {
        (Value::Object(seen), Value::Object(admitted), Value::Object(sent), Value::Object(wanted)) => {
            let forgiven = seen.iter().map(|(name, value)| {
                let known = (admitted.get(name), sent.get(name), wanted.get(name));
                let value = match known {
                    (Some(admitted), Some(sent), Some(wanted)) => forgive(value, admitted, sent, wanted),
                    _ => value.clone(),
                };
                (name.clone(), value)
            });
            Value::Object(forgiven.collect())
        }
        _ => seen.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_other_managers_fields_are_not_drift() {
        let wanted = json!({ "spec": { "replicas": 1, "containers": [{ "name": "sync", "image": "a" }] } });
        let live = json!({
            "metadata": { "uid": "1" },
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "containers": [{ "name": "mesh", "image": "m" }, { "name": "sync", "image": "a", "tty": false }],
            },
        });
        assert_eq!(shown(&live, &wanted, None), wanted);
    }

    #[test]
    fn a_changed_field_and_an_added_element_of_an_atomic_list_are_drift() {
        let wanted = json!({ "spec": { "tls": [{ "secretName": "ours" }] } });
        let live = json!({ "spec": { "tls": [{ "secretName": "theirs" }, { "secretName": "more" }] } });
        assert_eq!(shown(&live, &wanted, None), live);
    }

    #[test]
    fn what_admission_made_of_our_write_is_forgiven_and_nothing_else() {
        let sent = json!({ "spec": { "image": "a", "replicas": 1 } });
        let admitted = json!({ "spec": { "image": "mirror/a", "replicas": 1 } });
        let admission = admission(&admitted, &sent).unwrap();
        assert_eq!(shown(&admitted, &sent, Some(&admission)), sent);
        let scaled = json!({ "spec": { "image": "mirror/a", "replicas": 3 } });
        let expected = json!({ "spec": { "image": "a", "replicas": 3 } });
        assert_eq!(shown(&scaled, &sent, Some(&admission)), expected);
        // A new wish is not what was sent then, so the live value shows.
        let wished = json!({ "spec": { "image": "b", "replicas": 1 } });
        assert_eq!(shown(&admitted, &wished, Some(&admission)), admitted);
        let more = json!({ "spec": { "image": "a", "replicas": 2 } });
        let expected = json!({ "spec": { "image": "a", "replicas": 1 } });
        assert_eq!(shown(&admitted, &more, Some(&admission)), expected);
    }

    #[test]
    fn what_differs_is_named_as_the_api_server_names_it() {
        let wanted = json!({
            "metadata": { "labels": { "app.kubernetes.io/name": "shop" } },
            "spec": { "tls": [{ "secretName": "ours" }], "containers": [{ "name": "sync", "image": "a" }], "replicas": 1 },
        });
        let live = json!({
            "metadata": { "labels": { "app.kubernetes.io/name": "blog" } },
            "spec": { "tls": [{ "secretName": "theirs" }], "containers": [{ "name": "sync", "image": "b" }] },
        });
        assert_eq!(
            differences(&live, &wanted),
            [
                ".metadata.labels.app.kubernetes.io/name",
                ".spec.containers[name=\"sync\"].image",
                ".spec.replicas",
                ".spec.tls",
            ]
        );
        assert!(differences(&live, &live).is_empty());
    }

    #[test]
    fn bookkeeping_is_never_shown() {
        let manifest = json!({ "metadata": { "name": "x", "annotations": { "kvtls.io/instance": "1" } } });
        assert_eq!(yaml(&manifest).trim(), "metadata:\n  name: x");
    }
}
