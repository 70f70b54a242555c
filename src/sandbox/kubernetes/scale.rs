//! The `scale` subresource.

use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::{Kind, Version};
use super::patch;
use super::refusal::{Outcome, Refusal};
use super::request::Call;
use super::store::{Store, at, meta};
use super::watch::shown;
use super::writes::Write;

/// Answers GET, PUT and PATCH of `scale`.
pub(super) fn answer(store: &mut Store, call: &Call, kind: &Arc<Kind>, version: &Version) -> Outcome<Value> {
    let target = &call.target;
    let Some(paths) = version.scale.clone() else {
        return Err(Refusal::no_such_path());
    };
    let object = store
        .get(kind, target.place(), &target.name)
        .ok_or_else(|| Refusal::not_found(&kind.resource(), &target.name))?;
    let current = as_scale(&object, version);
    let wanted = match call.method.as_str() {
        "GET" => return Ok(current),
        "PUT" => call.json()?,
        "PATCH" => patch::patched(call, kind, version, &current)?,
        _ => return Err(Refusal::method_not_allowed()),
    };
    let replicas = at(&wanted, &["spec", "replicas"])
        .cloned()
        .unwrap_or_else(|| Value::from(0));
    let mut change = replicas;
    for name in paths.replicas.iter().rev() {
        change = json!({ name.as_str(): change });
    }
    let said = meta(&wanted, "resourceVersion");
    if !said.is_empty() {
        change["metadata"] = json!({"resourceVersion": said});
    }
    let mut inner = call.clone();
    inner.method = http::Method::PATCH;
    inner.content_type = "application/merge-patch+json".to_owned();
    inner.body = change.to_string().into();
    Write::new(store, &inner, kind, version).patch()?;
    let object = store.get(kind, target.place(), &target.name);
    Ok(object.map_or(current, |object| {
        as_scale(&shown(kind, version, &object, false), version)
    }))
}

fn as_scale(object: &Value, version: &Version) -> Value {
    let number = |path: &[String]| {
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        at(object, &path).and_then(Value::as_i64).unwrap_or_default()
    };
    let paths = version.scale.as_ref();
    let (wanted, current) = paths.map_or((0, 0), |paths| {
        (number(&paths.replicas), number(&paths.status_replicas))
    });
    let mut metadata = json!({});
    for member in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = at(object, &["metadata", member]) {
            metadata[member] = value.clone();
        }
    }
    let mut status = json!({"replicas": current});
    let selector = paths.and_then(|paths| paths.selector.as_ref()).and_then(|path| {
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        at(object, &path)
    });
    match selector {
        Some(Value::String(text)) => status["selector"] = Value::from(text.as_str()),
        Some(selector) => {
            let labels = selector.get("matchLabels").and_then(Value::as_object);
            let labels: Vec<_> = labels
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect();
            status["selector"] = Value::from(labels.join(","));
        }
        None => {}
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": wanted}, "status": status,
    })
}
