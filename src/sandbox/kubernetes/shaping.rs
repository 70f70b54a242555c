//! Walks that bring a value into the shape of its type.

use serde_json::Value;

use super::quantity;
use super::schema::{Shape, Type, View};

/// Takes out members that the type does not have; returns their paths, as in `spec.x`.
pub(super) fn prune(of: &Type, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_at(of, value, "", &mut unknown);
    unknown
}

fn prune_at(of: &Type, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match (of.view(), value) {
        (View::Struct(inner), Value::Object(members)) => {
            if !inner.open {
                members.retain(|name, _| {
                    let known = inner.fields.contains_key(name);
                    if !known {
                        unknown.push(joined(path, name));
                    }
                    known
                });
            }
            for (name, member) in members.iter_mut() {
                if let Some(of) = inner.fields.get(name) {
                    prune_at(of, member, &joined(path, name), unknown);
                }
            }
        }
        (View::Map(of), Value::Object(members)) => {
            for (name, member) in members.iter_mut() {
                prune_at(of, member, &joined(path, name), unknown);
            }
        }
        (View::List(of, _), Value::Array(items)) => {
            for (at, item) in items.iter_mut().enumerate() {
                prune_at(of, item, &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Takes out members that are null, which is how absence is written: all of them in a built-in kind, those that are
/// not nullable in a custom one.
pub(super) fn drop_nulls(of: &Type, value: &mut Value) {
    match (of.view(), value) {
        (View::Struct(inner), Value::Object(members)) => {
            members.retain(|name, member| {
                !member.is_null()
                    || inner
                        .fields
                        .get(name)
                        .is_none_or(|of| of.nullable || matches!(of.shape, Shape::Any))
            });
            for (name, member) in members.iter_mut() {
                if let Some(of) = inner.fields.get(name) {
                    drop_nulls(of, member);
                }
            }
        }
        (View::Map(of), Value::Object(members)) => {
            for member in members.values_mut() {
                if member.is_null() && matches!(of.shape, Shape::Text) {
                    *member = Value::from("");
                }
                drop_nulls(of, member);
            }
        }
        (View::List(of, _), Value::Array(items)) => {
            for item in items {
                drop_nulls(of, item);
            }
        }
        _ => {}
    }
}

/// Lists that built-in kinds write though they are empty: their absence would be invalid.
const WRITTEN_EMPTY: &[&str] = &["containers", "sources", "ports", "rules", "paths"];

/// Takes out maps and lists that are empty, which is how built-in kinds are written.
pub(super) fn drop_empties(of: &Type, value: &mut Value) {
    match (of.view(), value) {
        (View::Struct(inner), Value::Object(members)) => {
            for (name, member) in members.iter_mut() {
                if let Some(of) = inner.fields.get(name) {
                    drop_empties(of, member);
                }
            }
            members.retain(|name, member| {
                let of = inner.fields.get(name).map(Type::view);
                let is_empty = match (of, &*member) {
                    (Some(View::Map(_)), Value::Object(members)) => members.is_empty(),
                    (Some(View::List(..)), Value::Array(items)) => {
                        items.is_empty() && !WRITTEN_EMPTY.contains(&name.as_str())
                    }
                    _ => false,
                };
                !is_empty
            });
        }
        (View::Map(of), Value::Object(members)) => {
            members.values_mut().for_each(|member| drop_empties(of, member));
        }
        (View::List(of, _), Value::Array(items)) => {
            items.iter_mut().for_each(|item| drop_empties(of, item));
        }
        _ => {}
    }
}

/// Writes quantities in their one form; texts that are none stay for validation.
pub(super) fn normalise(of: &Type, value: &mut Value) {
    match (of.view(), value) {
        (View::Struct(inner), Value::Object(members)) => {
            for (name, member) in members.iter_mut() {
                if let Some(of) = inner.fields.get(name) {
                    normalise(of, member);
                }
            }
        }
        (View::Map(of), Value::Object(members)) => {
            for member in members.values_mut() {
                normalise(of, member);
            }
        }
        (View::List(of, _), Value::Array(items)) => {
            for item in items {
                normalise(of, item);
            }
        }
        (View::Leaf, value) if matches!(of.shape, Shape::Quantity) => {
            let text = match &*value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if let Some(text) = quantity::canonical(&text) {
                *value = Value::from(text);
            }
        }
        _ => {}
    }
}

/// Fills in the defaults of members that are absent.
pub(super) fn fill_in(of: &Type, value: &mut Value) {
    match (of.view(), value) {
        (View::Struct(inner), Value::Object(members)) => {
            for (name, of) in &inner.fields {
                if let Some(default) = &of.default {
                    let absent = members
                        .get(name)
                        .is_none_or(|member| member.is_null() && !of.nullable);
                    if absent {
                        members.insert(name.clone(), default.clone());
                    }
                }
            }
            for (name, member) in members.iter_mut() {
                if let Some(of) = inner.fields.get(name) {
                    fill_in(of, member);
                }
            }
        }
        (View::Map(of), Value::Object(members)) => {
            for member in members.values_mut() {
                fill_in(of, member);
            }
        }
        (View::List(of, _), Value::Array(items)) => {
            for item in items {
                fill_in(of, item);
            }
        }
        _ => {}
    }
}
