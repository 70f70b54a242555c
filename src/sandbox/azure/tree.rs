//! JSON values as trees: reading, changing and merging them at dotted paths.

use serde_json::{Value, json};

/// Members of objects one by one; null leaves what is there; all else replaces.
pub(super) fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (name, value) in change {
                match target.get_mut(name) {
                    Some(old) => merge(old, value),
                    None => drop(target.insert(name.clone(), value.clone())),
                }
            }
        }
        (target @ Value::Array(_), Value::Null) => *target = Value::Null,
        (_, Value::Null) => {}
        (target, change) => *target = change.clone(),
    }
}

/// Sets members of an object, each as a whole.
pub(super) fn merge_over(target: &mut Value, change: &Value) {
    if let (Some(target), Some(change)) = (target.as_object_mut(), change.as_object()) {
        target.extend(change.clone());
    }
}

/// The value at a dotted path.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, name| value.get(name))
}

/// The text at a dotted path, or nothing.
pub(super) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a value at a dotted path and makes the objects on the way.
pub(super) fn set(value: &mut Value, path: &str, new: Value) {
    let mut value = value;
    for name in path.split('.') {
        if !value.is_object() {
            *value = json!({});
        }
        value = &mut value[name];
    }
    *value = new;
}

/// Takes the value at a dotted path out.
pub(super) fn take(value: &mut Value, path: &str) -> Option<Value> {
    let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = parents
        .split('.')
        .filter(|name| !name.is_empty())
        .try_fold(value, |value, name| value.get_mut(name))?;
    parent.as_object_mut()?.remove(name)
}

/// The value at a dotted path, to be changed.
pub(super) fn at_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |value, name| value.get_mut(name))
}

/// The items of the list at a dotted path, none if there is no list.
pub(super) fn list_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut [Value] {
    at_mut(value, path)
        .and_then(Value::as_array_mut)
        .map_or(&mut [], Vec::as_mut_slice)
}
