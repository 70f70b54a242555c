//! Patches that are not server-side apply.

use serde_json::{Map, Value};

use super::fields::{element, index};
use super::kinds::{Kind, Version};
use super::refusal::{Cause, Outcome, Refusal};
use super::request::Call;
use super::schema::{Listing, Type, View};

/// The object after the patch in the call's body.
pub(super) fn patched(call: &Call, kind: &Kind, version: &Version, live: &Value) -> Outcome<Value> {
    let media = call.content_type.split(';').next().unwrap_or_default().trim();
    let body: Value = serde_json::from_slice(&call.body).map_err(|error| {
        let words = if error.is_eof() {
            "unexpected end of JSON input".to_owned()
        } else {
            error.to_string()
        };
        Refusal::bad_request(format!("error decoding patch: {words}"))
    })?;
    match media {
        "application/merge-patch+json" => {
            let mut object = live.clone();
            json_patch::merge(&mut object, &body);
            Ok(object)
        }
        "application/json-patch+json" => json_patched(live, body),
        "application/strategic-merge-patch+json" if !kind.custom => {
            let mut object = live.clone();
            strategic(&version.of, &mut object, &body);
            Ok(object)
        }
        "application/strategic-merge-patch+json" => {
            let known = [
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ];
            Err(Refusal::unsupported_media_type(&known.join(", ")))
        }
        _ => {
            let refusal = Refusal::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
            Err(refusal.with_no_details())
        }
    }
}

fn json_patched(live: &Value, body: Value) -> Outcome<Value> {
    let patch: json_patch::Patch = serde_json::from_value(body)
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    let mut object = live.clone();
    json_patch::patch(&mut object, &patch).map_err(|error| {
        tracing::debug!(%error, "a JSON patch does not fit");
        let message = "the server rejected our request due to an error in our request";
        Refusal::new(422, "Invalid", message).with_no_details()
    })?;
    if !object.is_object() {
        let cause = Cause::invalid("patch", &object, "the result is not an object");
        return Err(Refusal::invalid("", "", &[cause]));
    }
    Ok(object)
}

/// Strategic merge, as far as kubectl needs it: maps merge, keyed lists merge by key (the first key, as the original's
/// patch merge keys do), `$patch: delete|replace`, `$setElementOrder` is passed over, `$deleteFromPrimitiveList`.
fn strategic(of: &Type, object: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if changes.get("$patch").and_then(Value::as_str) == Some("replace") {
        let mut changes = changes.clone();
        changes.remove("$patch");
        *object = Value::Object(changes);
        return;
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(members) = object.as_object_mut() else {
        return;
    };
    let retained = changes.get("$retainKeys").and_then(Value::as_array);
    if let Some(retained) = retained {
        members.retain(|name, _| retained.iter().any(|one| one == name));
    }
    for (name, change) in changes {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(items), Some(gone)) = (
                members.get_mut(list).and_then(Value::as_array_mut),
                change.as_array(),
            ) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        let of = of.member(name).unwrap_or(&super::schema::ANY);
        match change {
            Value::Null => {
                members.remove(name);
            }
            Value::Object(change_members) => {
                match change_members.get("$patch").and_then(Value::as_str) {
                    Some("delete") => {
                        members.remove(name);
                        continue;
                    }
                    // What is not there is not replaced.
                    Some("replace") if !members.contains_key(name) => continue,
                    _ => {}
                }
                let member = members
                    .entry(name.clone())
                    .or_insert_with(|| Value::Object(Map::new()));
                strategic(of, member, change);
            }
            Value::Array(items) => {
                let member = members
                    .entry(name.clone())
                    .or_insert_with(|| Value::Array(Vec::new()));
                strategic_list(of, member, items);
            }
            scalar => {
                members.insert(name.clone(), scalar.clone());
            }
        }
    }
}

fn strategic_list(of: &Type, object: &mut Value, changes: &[Value]) {
    let View::List(item_type, listing) = of.view() else {
        *object = Value::Array(changes.to_vec());
        return;
    };
    let listing = match listing {
        Listing::Atomic => {
            *object = Value::Array(changes.to_vec());
            return;
        }
        Listing::Set => Listing::Set,
        Listing::Keyed(keys) => Listing::Keyed(keys.iter().take(1).cloned().collect()),
    };
    let replaces = |item: &Value, word: &str| item.get("$patch").and_then(Value::as_str) == Some(word);
    let whole = changes.iter().any(|item| replaces(item, "replace"));
    let mut items = if whole {
        Vec::new()
    } else {
        object.as_array().cloned().unwrap_or_default()
    };
    let order_before = items.clone();
    let named = |item: &Value| match element(item_type, &listing, item) {
        Some(key) => format!("{key:?}"),
        None => item.to_string(),
    };
    for change in changes.iter().filter(|change| !replaces(change, "replace")) {
        let key = element(item_type, &listing, change);
        let found = items
            .iter()
            .position(|item| key.is_some() && element(item_type, &listing, item) == key);
        match found {
            Some(at) if replaces(change, "delete") => {
                items.remove(at);
            }
            Some(at) => {
                if let Some(item) = items.get_mut(at) {
                    strategic(item_type, item, change);
                }
            }
            None if replaces(change, "delete") => {}
            None => items.push(change.clone()),
        }
    }
    let items = in_order(items, &order_before, changes, named);
    let list = Value::Array(items);
    if listing == Listing::Set {
        let unique: Vec<_> = index(item_type, &listing, Some(&list))
            .into_values()
            .cloned()
            .collect();
        if unique.len() != list.as_array().map_or(0, Vec::len) {
            *object = Value::Array(unique);
            return;
        }
    }
    *object = list;
}

/// The original's order of a merged list: what the patch names comes in the patch's order, and before whatever the
/// server had later, or did not have at all.
fn in_order(
    items: Vec<Value>,
    before: &[Value],
    changes: &[Value],
    named: impl Fn(&Value) -> String,
) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| {
        let name = named(item);
        list.iter().position(|other| named(other) == name)
    };
    let (mut patched, kept): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| place(changes, item).is_some());
    patched.sort_by_key(|item| place(changes, item));
    let mut all = Vec::new();
    let (mut patched, mut kept) = (patched.into_iter().peekable(), kept.into_iter().peekable());
    loop {
        let next = match (kept.peek(), patched.peek()) {
            (Some(left), Some(right)) => match (place(before, left), place(before, right)) {
                (Some(left), Some(right)) if left < right => kept.next(),
                _ => patched.next(),
            },
            (Some(_), None) => kept.next(),
            (None, _) => patched.next(),
        };
        match next {
            Some(item) => all.push(item),
            None => return all,
        }
    }
}
