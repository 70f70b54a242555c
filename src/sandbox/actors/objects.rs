//! Reading and comparing Kubernetes objects as plain JSON.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What an absent member reads as.
static NULL: Value = Value::Null;

/// A member by its path. `Value::pointer` unescapes each part into new strings, which a controller that looks at every
/// object in every pass would feel; no path here needs that.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/')
        .skip(1)
        .try_fold(value, |value, part| match value {
            Value::Object(members) => members.get(part),
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
}

/// A string member, empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    find(value, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A whole number member.
pub(super) fn int(value: &Value, pointer: &str) -> Option<i64> {
    find(value, pointer).and_then(Value::as_i64)
}

/// A boolean member, false if there is none.
pub(super) fn flag(value: &Value, pointer: &str) -> bool {
    find(value, pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// A list member, empty if there is none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    find(value, pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Any member, null if there is none.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    find(value, pointer).unwrap_or(&NULL)
}

/// The members of a mapping member.
pub(super) fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    find(value, pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub(super) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// `namespace/name`, or the name alone.
pub(super) fn key(object: &Value) -> String {
    key_of(namespace(object), name(object))
}

/// `namespace/name`, or the name alone.
pub(super) fn key_of(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

/// The resource version as a number; both APIs count.
pub(super) fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

pub(super) fn is_deleting(object: &Value) -> bool {
    find(object, "/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

pub(super) fn owners(object: &Value) -> &[Value] {
    list(object, "/metadata/ownerReferences")
}

/// The UID of the owner that controls the object.
pub(super) fn controller_uid(object: &Value) -> &str {
    owners(object)
        .iter()
        .find(|owner| flag(owner, "/controller"))
        .map_or("", |owner| text(owner, "/uid"))
}

pub(super) fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    list(object, "/metadata/finalizers")
        .iter()
        .any(|held| held == finalizer)
}

/// An owner reference that controls `owner`'s dependents.
pub(super) fn controller_reference(api_version: &str, kind: &str, owner: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name(owner), "uid": uid(owner),
        "controller": true, "blockOwnerDeletion": true})
}

/// Whether `labels` holds each of `wanted`.
pub(super) fn includes(labels: &Value, wanted: &Value) -> bool {
    entries(wanted, "").all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether applying `patch` as a merge patch to `current` would change nothing.
pub(super) fn is_covered(current: &Value, patch: &Value) -> bool {
    match patch {
        Value::Object(members) => {
            current.is_object()
                && members
                    .iter()
                    .all(|(key, member)| match (current.get(key), member) {
                        (None, Value::Null) => true,
                        (Some(have), member) => is_covered(have, member),
                        (None, _) => false,
                    })
        }
        other => current == other,
    }
}

/// A moment as Kubernetes writes it, in whole seconds.
pub(super) fn stamp(moment: OffsetDateTime) -> String {
    let whole = moment
        .to_offset(time::UtcOffset::UTC)
        .replace_nanosecond(0)
        .unwrap_or(moment);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// A moment as Kubernetes writes it, back.
pub(super) fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// The condition of this type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == kind)
}

pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Puts a condition into a list. Its transition time moves only when its status changes; `update` adds the
/// `lastUpdateTime` that Deployments have, moved whenever anything changes.
pub(super) fn set_condition(
    conditions: &mut Vec<Value>,
    now: OffsetDateTime,
    update: bool,
    [kind, status, reason, message]: [&str; 4],
) {
    let mut wanted = Map::new();
    wanted.insert("type".into(), kind.into());
    wanted.insert("status".into(), status.into());
    for (member, words) in [("reason", reason), ("message", message)] {
        if !words.is_empty() {
            wanted.insert(member.into(), words.into());
        }
    }
    let old = conditions.iter_mut().find(|condition| condition["type"] == kind);
    let same = |member: &str| {
        old.as_ref()
            .is_some_and(|old| old.get(member).unwrap_or(&NULL) == wanted.get(member).unwrap_or(&NULL))
    };
    let (same_status, same_all) = (
        same("status"),
        same("status") && same("reason") && same("message"),
    );
    if same_all {
        return;
    }
    let since = old
        .as_ref()
        .filter(|_| same_status)
        .map_or_else(|| stamp(now).into(), |old| old["lastTransitionTime"].clone());
    wanted.insert("lastTransitionTime".into(), since);
    if update {
        wanted.insert("lastUpdateTime".into(), stamp(now).into());
    }
    match old {
        Some(old) => *old = Value::Object(wanted),
        None => conditions.push(Value::Object(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_changes_nothing_is_covered() {
        let current = json!({"status": {"replicas": 1, "conditions": [{"type": "A"}]}});
        assert!(is_covered(
            &current,
            &json!({"status": {"replicas": 1, "gone": null}})
        ));
        assert!(!is_covered(&current, &json!({"status": {"conditions": []}})));
    }

    #[test]
    fn a_condition_keeps_its_transition_time_while_its_status_stays() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let later = start + time::Duration::hours(1);
        let mut conditions = Vec::new();
        set_condition(&mut conditions, start, true, ["Ready", "False", "Pulling", ""]);
        set_condition(&mut conditions, later, true, ["Ready", "False", "Mounting", ""]);
        assert_eq!(conditions[0]["lastTransitionTime"], stamp(start));
        assert_eq!(conditions[0]["lastUpdateTime"], stamp(later));
        set_condition(&mut conditions, later, true, ["Ready", "True", "", ""]);
        assert_eq!(conditions[0]["lastTransitionTime"], stamp(later));
        assert_eq!(conditions.len(), 1);
    }
}
