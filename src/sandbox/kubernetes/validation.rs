//! Whether an object is acceptable: types, required members, allowed words, and the rules of single kinds.

use serde_json::Value;

use super::kinds::{Kind, Version};
use super::refusal::{Cause, Outcome, Refusal};
use super::schema::{Shape, Type, View};
use super::selectors;
use super::store::{Store, at, meta, text_at};

mod names;
mod network;
mod pods;

/// Refuses values that are not of their type, as decoding does.
pub(super) fn types(kind: &Kind, version: &Version, object: &Value) -> Outcome<()> {
    let mut wrong = Vec::new();
    mistyped(&version.of, object, "", &mut wrong);
    let Some((path, expected, value)) = wrong.first() else {
        return Ok(());
    };
    if kind.custom && !path.starts_with("metadata") {
        let causes: Vec<_> = wrong
            .iter()
            .map(|(path, expected, value)| {
                let found = Value::from(json_type(value));
                let why = format!("{path} in body must be of type {expected}: {found}");
                Cause {
                    reason: "FieldValueTypeInvalid",
                    ..Cause::invalid(path.as_str(), &found, why)
                }
            })
            .collect();
        return Err(Refusal::invalid(
            &kind.dotted_kind(),
            meta(object, "name"),
            &causes,
        ));
    }
    let handled = format!(
        "{kind} in version {version:?} cannot be handled as a {kind}",
        kind = kind.kind,
        version = version.name
    );
    let why = if *expected == "base64" {
        format!("illegal base64 data at input byte {}", misfit(value))
    } else {
        let go = match *expected {
            "integer" => "int32",
            "boolean" => "bool",
            "array" => "[]",
            "object" => "struct",
            other => other,
        };
        // A map's own keys are not part of the name.
        let path = if kind.is("", "configmaps") || kind.is("", "secrets") {
            path.split('.').next().unwrap_or_default()
        } else {
            path
        };
        format!(
            "json: cannot unmarshal {} into Go struct field {}.{path} of type {go}",
            go_word(value),
            kind.kind
        )
    };
    Err(Refusal::bad_request(format!("{handled}: {why}")))
}

/// Where a text stops to be base64.
fn misfit(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(&byte);
    text.bytes().position(|byte| !fits(byte)).unwrap_or(text.len())
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_word(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        other => json_type(other),
    }
}

fn mistyped<'a>(of: &Type, value: &'a Value, path: &str, wrong: &mut Vec<(String, &'static str, &'a Value)>) {
    let expected = match (of.view(), value) {
        (_, Value::Null) | (View::Any, _) => return,
        (View::Struct(inner), Value::Object(members)) => {
            for (name, member) in members {
                if let Some(of) = inner.fields.get(name) {
                    mistyped(of, member, &joined(path, name), wrong);
                }
            }
            return;
        }
        (View::Map(of), Value::Object(members)) => {
            for (name, member) in members {
                mistyped(of, member, &joined(path, name), wrong);
            }
            return;
        }
        (View::List(of, _), Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                mistyped(of, item, &format!("{path}[{at}]"), wrong);
            }
            return;
        }
        (View::Struct(_) | View::Map(_), _) => "object",
        (View::List(..), _) => "array",
        (View::Leaf, value) => match &of.shape {
            Shape::Text if !value.is_string() => "string",
            Shape::Bytes if !value.is_string() => "string",
            Shape::Bytes if !is_base64(value) => "base64",
            Shape::Integer if !(value.is_i64() || value.is_u64()) => "integer",
            Shape::Number if !value.is_number() => "number",
            Shape::Boolean if !value.is_boolean() => "boolean",
            Shape::IntOrText | Shape::Quantity if !(value.is_number() || value.is_string()) => "string",
            _ => return,
        },
    };
    wrong.push((path.to_owned(), expected, value));
}

fn is_base64(value: &Value) -> bool {
    use base64::Engine as _;
    let text = value.as_str().unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Refuses an object that breaks a rule; `live` is absent on creation.
pub(super) fn check(
    store: &Store,
    kind: &Kind,
    version: &Version,
    object: &Value,
    live: Option<&Value>,
) -> Outcome<()> {
    let mut causes = Vec::new();
    names::check_metadata(kind, object, live, &mut causes);
    required(&version.of, object, "", kind.custom, &mut causes);
    let own = |causes: &mut Vec<Cause>| match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "secrets") => check_secret(object, live, causes),
        ("", "configmaps") => {
            check_keys(object, causes);
            check_immutable(object, live, causes);
        }
        ("rbac.authorization.k8s.io", "clusterrolebindings")
            if object["roleRef"]["kind"] != "ClusterRole" =>
        {
            let known = ["ClusterRole".to_owned()];
            causes.push(Cause::unsupported(
                "roleRef.kind",
                &object["roleRef"]["kind"],
                &known,
            ));
        }
        ("", "services") => network::check_service(object, live, causes),
        ("", "pods") => pods::check_pod(object, live, causes),
        ("apps", plural) => pods::check_workload(plural, object, live, causes),
        ("networking.k8s.io", "ingresses") => network::check_ingress(object, causes),
        ("networking.k8s.io", "ingressclasses") => {
            immutable(object, live, &["spec", "controller"], causes);
            let controller = text_at(object, &["spec", "controller"]);
            if live.is_none() && !controller.is_empty() && !controller.contains('/') {
                let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                causes.push(Cause::invalid(
                    "spec.controller",
                    &object["spec"]["controller"],
                    why,
                ));
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings")
            if live.is_some_and(|live| live["roleRef"] != object["roleRef"]) =>
        {
            causes.push(Cause::invalid(
                "roleRef",
                &object["roleRef"],
                "cannot change roleRef",
            ));
        }
        ("apiextensions.k8s.io", _) => check_definition(store, object, causes),
        _ => {}
    };
    own(&mut causes);
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid(
            &kind.dotted_kind(),
            meta(object, "name"),
            &causes,
        ))
    }
}

fn required(of: &Type, value: &Value, path: &str, custom: bool, causes: &mut Vec<Cause>) {
    match (of.view(), value) {
        (View::Struct(inner), Value::Object(members)) => {
            for (name, of) in &inner.fields {
                // The original does not judge what its own controllers report.
                if path.is_empty() && (name == "metadata" || (name == "status" && !custom)) {
                    continue;
                }
                let at = joined(path, name);
                match members.get(name) {
                    Some(member) if !is_blank(member, custom) => required(of, member, &at, custom, causes),
                    _ if of.required => {
                        let why = match name.as_str() {
                            "pathType" => "pathType must be specified",
                            _ => "",
                        };
                        causes.push(Cause::required(at, why));
                    }
                    _ => {}
                }
            }
        }
        (View::Map(of), Value::Object(members)) => {
            for (name, member) in members {
                required(of, member, &joined(path, name), custom, causes);
            }
        }
        (View::List(of, _), Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                required(of, item, &format!("{path}[{at}]"), custom, causes);
            }
        }
        (View::Leaf, Value::String(text)) if !of.words.is_empty() && !of.words.contains(text) => {
            causes.push(Cause::unsupported(path, value, &of.words));
        }
        _ => {}
    }
}

/// Whether a member counts as missing: in built-in kinds the empty value does.
fn is_blank(value: &Value, custom: bool) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !custom,
        Value::Array(items) => items.is_empty() && !custom,
        _ => false,
    }
}

/// A member that may not change.
fn immutable(object: &Value, live: Option<&Value>, path: &[&str], causes: &mut Vec<Cause>) {
    let Some(live) = live else { return };
    let (old, new) = (at(live, path), at(object, path));
    if old != new {
        causes.push(Cause::invalid(
            path.join("."),
            new.unwrap_or(&Value::Null),
            "field is immutable",
        ));
    }
}

fn check_immutable(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let Some(live) = live.filter(|live| live["immutable"] == true) else {
        return;
    };
    const WHY: &str = "field is immutable when `immutable` is set";
    if object["immutable"] != true {
        causes.push(Cause::forbidden("immutable", WHY));
    }
    for member in ["data", "binaryData"] {
        if live.get(member) != object.get(member) {
            causes.push(Cause::forbidden(member, WHY));
        }
    }
}

/// Keys become file names.
fn check_keys(object: &Value, causes: &mut Vec<Cause>) {
    const WHY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
                       or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    for member in ["data", "binaryData"] {
        let entries = object.get(member).and_then(Value::as_object);
        for (key, _) in entries.into_iter().flatten() {
            let good = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
            if key.is_empty() || !key.chars().all(good) {
                causes.push(Cause::invalid(
                    format!("{member}[{key}]"),
                    &Value::from(key.as_str()),
                    WHY,
                ));
            }
        }
    }
}

fn check_secret(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    immutable(object, live, &["type"], causes);
    check_immutable(object, live, causes);
    if object["type"] == "kubernetes.io/tls" {
        for key in ["tls.crt", "tls.key"] {
            if at(object, &["data", key]).is_none() {
                causes.push(Cause::required(format!("data[{key}]"), ""));
            }
        }
    }
    for key in object
        .get("data")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        let fine = !key.is_empty()
            && key.len() <= 253
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if !fine {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
            causes.push(Cause::invalid(
                format!("data[{key}]"),
                &Value::from(key.as_str()),
                why,
            ));
        }
    }
}

fn check_definition(_store: &Store, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let wanted = format!(
        "{}.{}",
        text_at(spec, &["names", "plural"]),
        text_at(spec, &["group"])
    );
    if meta(object, "name") != wanted {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &object["metadata"]["name"], why));
    }
    let versions = spec
        .get("versions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid(
            "spec.versions",
            &Value::from(versions.clone()),
            why,
        ));
    }
    for (at, version) in versions.iter().enumerate() {
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            causes.push(Cause::required(
                format!("spec.versions[{at}].schema.openAPIV3Schema"),
                "schemas are required",
            ));
        }
    }
}

/// Whether a selector fits the labels of a template.
fn selects(selector: &Value, labels: Option<&Value>) -> bool {
    selectors::matches(selector, labels.and_then(Value::as_object))
}
