//! Server-side apply: merge what is wanted into what is there, drop what the applier no longer wants and nobody else
//! does, and refuse to change what others own.
//!
//! A port of the rules of structured-merge-diff. The result is the merged object; ownership goes with it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::fields::{Element, Fields, Walk, compare, element, fields_of, index, shown, walk};
use super::managed::{Owned, Owner, Owners, Writer, before_first_apply, owners, set_owners};
use super::refusal::{Outcome, Refusal};
use super::schema::{Listing, Shape, Type, View};
use super::store::unset_meta;

/// Applies `wanted` to `live` (an object with nothing but its identity, if it does not exist yet).
pub(super) fn apply(
    of: &Type,
    live: &Value,
    wanted: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Outcome<Value> {
    let mut all = owners(live);
    if all.is_empty()
        && live
            .get("metadata")
            .is_some_and(|metadata| metadata.get("uid").is_some())
    {
        all.extend([before_first_apply(of, live, writer)]);
    }
    let mut bare = live.clone();
    unset_meta(&mut bare, "managedFields");
    let mut merged = merge(of, Some(&bare), Some(wanted)).unwrap_or(Value::Null);

    let me = writer.owner(true);
    let fields = writer.within_reach(&fields_of(of, wanted));
    let last = all.get(&me).cloned();
    let time = last.as_ref().and_then(|last| last.time.clone());
    all.insert(
        me.clone(),
        Owned {
            fields,
            api_version: writer.api_version.to_owned(),
            time,
        },
    );
    if let Some(last) = last.filter(|last| !last.fields.is_empty()) {
        merged = without_dropped(of, &merged, &all, &last.fields);
    }
    drop_null_members(&mut merged);
    yield_fields(of, &bare, &merged, &mut all, &me, force)?;
    let changed = bare != merged;
    // Who only shares what is there gets no time.
    if let Some(mine) = all.get_mut(&me).filter(|_| changed) {
        mine.time = Some(writer.now.to_owned());
    }
    set_owners(&mut merged, &all);
    Ok(merged)
}

/// Takes out of the merged object what only the applier owned and no longer names.
fn without_dropped(of: &Type, merged: &Value, all: &Owners, last: &Fields) -> Value {
    let named = |fields: &Fields| fields.with_named_parents(of);
    let last = named(last);
    let pruned = remove(of, merged, &last).unwrap_or(Value::Null);
    let merged_fields = named(&fields_of(of, merged));
    let owned = all
        .values()
        .fold(Fields::default(), |sum, owned| sum.union(&owned.fields));
    // Back comes what anybody still owns…
    let kept = named(&fields_of(of, &pruned)).union(&named(&owned));
    let pruned = remove(of, merged, &merged_fields.difference(&kept)).unwrap_or(Value::Null);
    // …and what was never the applier's.
    let dropped = merged_fields
        .difference(&named(&fields_of(of, &pruned)))
        .intersection(&last);
    remove(of, merged, &dropped).unwrap_or(Value::Null)
}

/// Members that pruning left empty are absent.
fn drop_null_members(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_null_members);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null_members),
        _ => {}
    }
}

/// Makes the other owners yield what changes; without force that is a conflict.
fn yield_fields(
    of: &Type,
    live: &Value,
    merged: &Value,
    all: &mut Owners,
    me: &Owner,
    force: bool,
) -> Outcome<()> {
    let comparison = compare(of, live, merged);
    let changed = comparison.added.union(&comparison.modified);
    let mut conflicts = Vec::new();
    for (owner, owned) in all.iter().filter(|(owner, _)| *owner != me) {
        for path in owned.fields.intersection(&changed).paths() {
            conflicts.push((spoken(owner, owned), shown(&path)));
        }
    }
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    let gone = changed.union(&comparison.removed);
    for (owner, owned) in all.iter_mut() {
        if owner != me {
            owned.fields = owned.fields.difference(&gone);
        }
    }
    all.retain(|_, owned| !owned.fields.is_empty());
    Ok(())
}

/// How a conflict names an owner.
fn spoken(owner: &Owner, owned: &Owned) -> String {
    let mut name = format!("{:?}", owner.manager);
    if !owner.subresource.is_empty() {
        name = format!("{name} with subresource {:?}", owner.subresource);
    }
    if owner.applies {
        name
    } else {
        format!("{name} using {}", owned.api_version)
    }
}

fn conflict(conflicts: &[(String, String)]) -> Refusal {
    let message = match conflicts {
        [(owner, path)] => format!("Apply failed with 1 conflict: conflict with {owner}: {path}"),
        many => {
            let mut lines = Vec::new();
            let names: BTreeSet<_> = many.iter().map(|(owner, _)| owner).collect();
            for name in names {
                lines.push(format!("conflicts with {name}:"));
                let paths = many.iter().filter(|(owner, _)| owner == name);
                lines.extend(paths.map(|(_, path)| format!("- {path}")));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let causes: Vec<_> = conflicts
        .iter()
        .map(|(owner, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {owner}"), "field": path})
        })
        .collect();
    Refusal::new(409, "Conflict", message).with_detail("causes", Value::Array(causes))
}

/// Merges the right value into the left one.
pub(super) fn merge(of: &Type, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let (left, right) = match (left, right) {
        (left, None) => return left.cloned(),
        (None, Some(right)) => return Some(right.clone()),
        (Some(left), Some(right)) => (left, right),
    };
    match walk(of, Some(right)) {
        Walk::Leaf => Some(right.clone()),
        Walk::Members => {
            let (Some(old), Some(new)) = (left.as_object(), right.as_object()) else {
                return Some(right.clone());
            };
            let mut result = Map::new();
            for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let of = of.member(name).unwrap_or(&super::schema::ANY);
                if let Some(value) = merge(of, old.get(name), new.get(name)) {
                    result.insert(name.clone(), value);
                }
            }
            Some(Value::Object(result))
        }
        Walk::Items(item, listing) => match (left.as_array(), right.as_array()) {
            (Some(old), Some(new)) => Some(Value::Array(merge_items(item, listing, old, new))),
            _ => Some(right.clone()),
        },
    }
}

/// Merges two lists: the right one's order, with the left one's further items where they were.
fn merge_items(of: &Type, listing: &Listing, left: &[Value], right: &[Value]) -> Vec<Value> {
    let elements = |items: &[Value]| -> Vec<Option<Element>> {
        items.iter().map(|item| element(of, listing, item)).collect()
    };
    let (left_elements, right_elements) = (elements(left), elements(right));
    let (left_list, right_list) = (Value::from(left.to_vec()), Value::from(right.to_vec()));
    let (in_left, in_right) = (
        index(of, listing, Some(&left_list)),
        index(of, listing, Some(&right_list)),
    );
    let merged = |element: &Option<Element>, fallback: &Value| {
        let element = element.as_deref().unwrap_or_default();
        let pair = (in_left.get(element).copied(), in_right.get(element).copied());
        merge(of, pair.0, pair.1).unwrap_or_else(|| fallback.clone())
    };
    let is_shared = |element: &Option<Element>| element.as_ref().is_some_and(|key| in_left.contains_key(key));
    let mut shared = right_elements.iter().filter(|element| is_shared(element));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Option<Element>> = BTreeSet::new();
    let mut result = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        let (here, there) = (left_elements.get(l), right_elements.get(r));
        if let (Some(mine), Some(theirs), Some(item)) = (here, there, right.get(r)) {
            if mine == theirs {
                done.insert(theirs);
                result.push(merged(theirs, item));
                (l, r, next_shared) = (l + 1, r + 1, shared.next());
                continue;
            }
            let known = mine.as_ref().is_some_and(|key| in_right.contains_key(key));
            if known && next_shared.is_some_and(|next| next != mine) {
                l += 1;
                continue;
            }
        }
        if let (Some(mine), Some(item)) = (here, left.get(l)) {
            if !mine.as_ref().is_some_and(|key| in_right.contains_key(key)) {
                result.push(item.clone());
                l += 1;
                continue;
            } else if done.contains(mine) {
                l += 1;
                continue;
            }
        }
        if let (Some(theirs), Some(item)) = (there, right.get(r)) {
            done.insert(theirs);
            result.push(merged(theirs, item));
            r += 1;
            if next_shared == Some(theirs) {
                next_shared = shared.next();
            }
        }
    }
    result
}

/// The value without these fields; `None` if nothing is left of it.
fn remove(of: &Type, value: &Value, fields: &Fields) -> Option<Value> {
    match walk(of, Some(value)) {
        Walk::Leaf => Some(value.clone()),
        Walk::Members => {
            let mut result = Map::new();
            for (name, member) in value.as_object()? {
                let element = format!("f:{name}");
                if fields.has(&element) {
                    continue;
                }
                let member = match (fields.child(&element), of.member(name)) {
                    (Some(fields), Some(of)) => remove(of, member, fields),
                    _ => Some(member.clone()),
                };
                result.insert(name.clone(), member.unwrap_or(Value::Null));
            }
            (!result.is_empty()).then_some(Value::Object(result))
        }
        Walk::Items(item_type, listing) => {
            let mut result = Vec::new();
            for item in value.as_array()? {
                let element = element(item_type, listing, item).unwrap_or_default();
                if fields.has(&element) {
                    continue;
                }
                let item = match fields.child(&element) {
                    Some(fields) => remove(item_type, item, fields),
                    None => Some(item.clone()),
                };
                result.push(item.unwrap_or(Value::Null));
            }
            (!result.is_empty()).then_some(Value::Array(result))
        }
    }
}

/// Why a value is not of its type, in the words of structured-merge-diff; all reasons.
pub(super) fn mistyped(of: &Type, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    judge(of, value, "", &mut errors);
    errors
}

fn judge(of: &Type, value: &Value, path: &str, errors: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let at = if path.is_empty() { "." } else { path };
    let object = |value: &Value| format!("&value.valueUnstructured{{Value:{value}}}");
    match of.view() {
        View::Any => {}
        View::Leaf => {
            let wrong = match of.shape {
                Shape::Text | Shape::Bytes if !value.is_string() => {
                    format!("expected string, got {}", object(value))
                }
                Shape::Integer | Shape::Number if !value.is_number() => {
                    format!("expected numeric (int or float), got {}", go_type(value))
                }
                Shape::Boolean if !value.is_boolean() => format!("expected boolean, got {}", object(value)),
                _ if value.is_object() || value.is_array() => {
                    format!("expected scalar, got {}", object(value))
                }
                _ => return,
            };
            errors.push(format!("{at}: {wrong}"));
        }
        View::Struct(inner) => match value.as_object() {
            None => errors.push(format!("{at}: expected map, got {}", object(value))),
            Some(members) => {
                for (name, member) in members {
                    let path = format!("{path}.{name}");
                    match inner.fields.get(name) {
                        Some(of) => judge(of, member, &path, errors),
                        None if inner.open => {}
                        None => errors.push(format!("{path}: field not declared in schema")),
                    }
                }
            }
        },
        View::Map(of) => match value.as_object() {
            None => errors.push(format!("{at}: expected map, got {}", object(value))),
            Some(members) => {
                for (name, member) in members {
                    judge(of, member, &format!("{path}.{name}"), errors);
                }
            }
        },
        View::List(item_type, listing) => match value.as_array() {
            None => errors.push(format!("{at}: expected list, got {}", object(value))),
            Some(items) => judge_items(item_type, listing, items, at, errors),
        },
    }
}

fn judge_items(of: &Type, listing: &Listing, items: &[Value], path: &str, errors: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let mut step = format!("[{at}]");
        if let Listing::Keyed(keys) = listing
            && element(of, listing, item).is_none_or(|_| {
                // One key without a default decides.
                keys.iter().any(|key| {
                    item.get(key).is_none()
                        && of
                            .member(key)
                            .is_none_or(|of| of.default.is_none() && of.required)
                })
            })
        {
            let key = keys
                .iter()
                .find(|key| item.get(*key).is_none())
                .map_or("", String::as_str);
            errors.push(format!(
                "{path}: element {at}: associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
            ));
            continue;
        }
        if let Some(element) = element(of, listing, item) {
            step = shown(std::slice::from_ref(&element));
            if !seen.insert(element) {
                errors.push(format!("{path}: duplicate entries for key {step}"));
            }
        }
        judge(of, item, &format!("{path}{step}"), errors);
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Null => "<nil>",
    }
}
