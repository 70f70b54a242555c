//! Who owns which fields of an object, from its `metadata.managedFields`. Pure.
//!
//! Kubernetes records ownership as a tree: `f:name` is a field, `k:{…}` an element of a list that is keyed by some of
//! its members, `v:…` an element of a list of plain values, `i:N` one by its place, and `.` the thing itself. A leaf
//! (`{}`) is owned whole.

use serde_json::{Map, Value};

/// A live object cut down to the fields that the manager's own applies own, plus `apiVersion`, `kind` and
/// `metadata.name`/`namespace`. `Null` where the manager has applied nothing (or its record was stripped).
pub fn owned(live: &Value, manager: &str) -> Value {
    let entry = entries(live).find(|entry| {
        text(entry, "manager") == manager
            && text(entry, "operation") == "Apply"
            && text(entry, "subresource").is_empty()
    });
    let Some(fields) = entry.and_then(|entry| entry.get("fieldsV1")) else {
        return Value::Null;
    };
    let mut kept = project(live, fields).unwrap_or_else(|| Value::Object(Map::new()));
    for path in [
        &["apiVersion"][..],
        &["kind"],
        &["metadata", "name"],
        &["metadata", "namespace"],
    ] {
        copy(live, &mut kept, path);
    }
    kept
}

/// Who last wrote a field (or something in it), and when: manager and RFC 3339 time. The path is written as the API
/// server writes it in conflicts: `.spec.tls`, `.spec.template.spec.containers[name="sync"].image`.
pub fn last_editor(live: &Value, path: &str) -> Option<(String, String)> {
    let with_field =
        entries(live).filter(|entry| entry.get("fieldsV1").is_some_and(|fields| holds(fields, path)));
    let newest = with_field.max_by_key(|entry| text(entry, "time").to_owned())?;
    Some((
        text(newest, "manager").to_owned(),
        text(newest, "time").to_owned(),
    ))
}

/// All managers that own anything of the object, each once, in the record's order.
pub fn managers(live: &Value) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for entry in entries(live) {
        let manager = text(entry, "manager");
        if !manager.is_empty() && !all.iter().any(|known| known == manager) {
            all.push(manager.to_owned());
        }
    }
    all
}

fn entries(live: &Value) -> impl Iterator<Item = &Value> {
    live.pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The part of a value that a tree of fields names; `None` where it names nothing that is there.
fn project(live: &Value, fields: &Value) -> Option<Value> {
    let tree = fields.as_object()?;
    if tree.is_empty() {
        return Some(live.clone());
    }
    match live {
        Value::Object(members) => {
            let kept = tree.iter().filter_map(|(key, below)| {
                let name = key.strip_prefix("f:")?;
                Some((name.to_owned(), project(members.get(name)?, below)?))
            });
            Some(Value::Object(kept.collect()))
        }
        Value::Array(elements) => {
            // In the live list's order, so that order is not drift.
            let kept = elements.iter().enumerate().filter_map(|(place, element)| {
                let (key, below) = tree.iter().find(|(key, _)| is_element(key, place, element))?;
                let mut part = project(element, below)?;
                restore_keys(key, element, &mut part);
                Some(part)
            });
            Some(Value::Array(kept.collect()))
        }
        // Owned in depth, yet flat by now: somebody replaced it, and that is what is to be seen.
        flat => Some(flat.clone()),
    }
}

/// Whether an element of a list is the one that a key of the tree is about.
fn is_element(key: &str, place: usize, element: &Value) -> bool {
    if let Some(members) = key.strip_prefix("k:") {
        let Ok(Value::Object(members)) = serde_json::from_str::<Value>(members) else {
            return false;
        };
        return members.iter().all(|(name, value)| match element.get(name) {
            Some(found) => found == value,
            // A defaulted key may be absent in what is shown (ports' protocol is TCP).
            None => name == "protocol" && value == "TCP",
        });
    }
    if let Some(value) = key.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *element);
    }
    key.strip_prefix("i:").and_then(|text| text.parse::<usize>().ok()) == Some(place)
}

/// An element is not recognised without the members it is keyed by, even if the manager does not own them by itself.
fn restore_keys(key: &str, element: &Value, part: &mut Value) {
    let members = key
        .strip_prefix("k:")
        .and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    if let (Some(members), Value::Object(part)) = (members, part) {
        for name in members.keys() {
            if let Some(value) = element.get(name) {
                part.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

fn copy(from: &Value, to: &mut Value, path: &[&str]) {
    let (Some((first, rest)), Some(members)) = (path.split_first(), to.as_object_mut()) else {
        return;
    };
    let Some(value) = from.get(*first) else { return };
    if rest.is_empty() {
        members.insert((*first).to_owned(), value.clone());
    } else {
        let below = members
            .entry((*first).to_owned())
            .or_insert_with(|| Value::Object(Map::new()));
        copy(value, below, rest);
    }
}

/// Whether a tree of fields has the path, or owns something the path is in.
fn holds(fields: &Value, path: &str) -> bool {
    if path.is_empty() {
        return true;
    }
    let Some(tree) = fields.as_object() else {
        return false;
    };
    if tree.is_empty() {
        return true;
    }
    tree.iter().any(|(key, below)| match step(key, path) {
        Some(rest) => holds(below, rest),
        None => false,
    })
}

/// What is left of a path after a key of the tree. Names may hold dots (annotations do), hence by prefix.
fn step<'a>(key: &str, path: &'a str) -> Option<&'a str> {
    if let Some(name) = key.strip_prefix("f:") {
        let rest = path.strip_prefix('.').unwrap_or(path).strip_prefix(name)?;
        return (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest);
    }
    let (inside, rest) = path.strip_prefix('[')?.split_once(']')?;
    if let Some(members) = key.strip_prefix("k:") {
        let members = serde_json::from_str::<Map<String, Value>>(members).ok()?;
        let matches = inside.split(',').all(|pair| {
            pair.split_once('=').is_some_and(|(name, value)| {
                serde_json::from_str(value).is_ok_and(|value: Value| members.get(name) == Some(&value))
            })
        });
        return matches.then_some(rest);
    }
    let same = key
        .strip_prefix("v:")
        .is_some_and(|value| inside == format!("={value}"))
        || key.strip_prefix("i:") == Some(inside);
    same.then_some(rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "shop", "namespace": "shop", "uid": "u", "resourceVersion": "9",
                "labels": {"app.kubernetes.io/managed-by": "kvtls", "other": "x"},
                "annotations": {"kvtls.io/binding": "b", "deployment.kubernetes.io/revision": "3"},
                "managedFields": [
                    {"manager": "kvtls", "operation": "Apply", "time": "2026-11-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:app.kubernetes.io/managed-by": {}}, "f:annotations": {"f:kvtls.io/binding": {}}},
                        "f:spec": {
                            "f:selector": {},
                            "f:template": {"f:spec": {
                                "f:containers": {"k:{\"name\":\"sync\"}": {".": {}, "f:name": {}, "f:image": {},
                                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
                                "f:tolerations": {}}}}}},
                    {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "time": "2026-11-03T00:00:00Z",
                     "fieldsV1": {"f:status": {"f:replicas": {}}, "f:metadata": {"f:annotations": {"f:deployment.kubernetes.io/revision": {}}}}},
                    {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-22T09:14:03Z",
                     "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"sync\"}": {"f:image": {}}}}}}}}]},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": "shop"}},
                "template": {"spec": {
                    "dnsPolicy": "ClusterFirst", "tolerations": [{"key": "a"}],
                    "containers": [
                        {"name": "injected", "image": "mesh"},
                        {"name": "sync", "image": "edited", "imagePullPolicy": "Always",
                         "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
            "status": {"replicas": 1},
        })
    }

    #[test]
    fn only_what_our_applies_own_is_kept() {
        let expected = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "shop", "namespace": "shop", "labels": {"app.kubernetes.io/managed-by": "kvtls"},
                         "annotations": {"kvtls.io/binding": "b"}},
            "spec": {"selector": {"matchLabels": {"app": "shop"}}, "template": {"spec": {
                "tolerations": [{"key": "a"}],
                "containers": [{"name": "sync", "image": "edited", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
        });
        assert_eq!(
            owned(&deployment(), "kvtls"),
            json!({
                "apiVersion": expected["apiVersion"], "kind": expected["kind"], "metadata": expected["metadata"], "spec": expected["spec"],
            })
        );
        assert_eq!(owned(&deployment(), "kubectl-edit"), Value::Null);
        assert_eq!(owned(&json!({"metadata": {}}), "kvtls"), Value::Null);
    }

    #[test]
    fn a_field_that_is_gone_is_not_invented() {
        let mut live = deployment();
        live["spec"]["template"]["spec"]
            .as_object_mut()
            .unwrap()
            .remove("tolerations");
        live["spec"]["template"]["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .pop();
        let kept = owned(&live, "kvtls");
        assert_eq!(kept["spec"]["template"]["spec"], json!({"containers": []}));
    }

    #[test]
    fn a_replaced_list_of_values_shows_what_is_there() {
        let live = json!({"metadata": {"managedFields": [{"manager": "kvtls", "operation": "Apply",
            "fieldsV1": {"f:spec": {"f:hosts": {"v:\"a\"": {}}, "f:deep": {"f:x": {}}, "f:nth": {"i:1": {}}}}}]},
            "spec": {"hosts": ["b", "a"], "deep": "flat", "nth": [1, 2]}});
        assert_eq!(
            owned(&live, "kvtls")["spec"],
            json!({"hosts": ["a"], "deep": "flat", "nth": [2]})
        );
    }

    #[test]
    fn the_last_editor_of_a_field_is_named() {
        let rows = [
            (
                ".spec.template.spec.containers[name=\"sync\"].image",
                Some(("kubectl-edit", "2026-11-22T09:14:03Z")),
            ),
            (".spec.template", Some(("kubectl-edit", "2026-11-22T09:14:03Z"))),
            (
                ".spec.selector.matchLabels",
                Some(("kvtls", "2026-11-01T00:00:00Z")),
            ),
            (
                ".metadata.annotations.kvtls.io/binding",
                Some(("kvtls", "2026-11-01T00:00:00Z")),
            ),
            (
                ".metadata.annotations.deployment.kubernetes.io/revision",
                Some(("kube-controller-manager", "2026-11-03T00:00:00Z")),
            ),
            (".spec.template.spec.containers[name=\"other\"].image", None),
            (".spec.replicas", None),
        ];
        for (path, expected) in rows {
            let found = last_editor(&deployment(), path);
            let found = found
                .as_ref()
                .map(|(manager, time)| (manager.as_str(), time.as_str()));
            assert_eq!(found, expected, "{path}");
        }
        assert_eq!(
            managers(&deployment()),
            ["kvtls", "kube-controller-manager", "kubectl-edit"]
        );
    }
}
