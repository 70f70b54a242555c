//! The world file: what there is when the sandbox starts, and which of it may change later.
//!
//! A file says only how it differs from the world it `extends` (RFC 7396). Everything wrong with it is reported at
//! once, each mistake with a JSON pointer. GUIDs that are not given are UUID v5 of the pointer of the thing, so
//! identities are the same in every run. A `scope` is a pointer into the file (`/subscriptions/main`,
//! `/resource_groups/NAME`, `/vaults/NAME`, `/clusters/NAME`) or a full ARM ID.

mod shape;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::core::{PatchError, WorldError};

/// The built-in worlds.
const WORLDS: &[(&str, &str)] = &[
    ("default", include_str!("../worlds/default.json")),
    ("entra", include_str!("../worlds/entra.json")),
    ("private", include_str!("../worlds/private.json")),
    ("traefik", include_str!("../worlds/traefik.json")),
    ("agic", include_str!("../worlds/agic.json")),
];

/// How many worlds may extend each other: a file, and what is built in.
const DEEPEST: usize = 4;

/// Names of the built-in worlds.
pub(crate) fn names() -> Vec<&'static str> {
    WORLDS.iter().map(|(name, _)| *name).collect()
}

/// A built-in world as it is written.
pub(crate) fn built_in(name: &str) -> Option<Value> {
    let (_, text) = WORLDS.iter().find(|(known, _)| *known == name)?;
    serde_json::from_str(text).ok()
}

/// The whole world that a file describes, checked.
pub(crate) fn resolve(file: &Value) -> Result<Value, Vec<WorldError>> {
    // A mistake in the file is reported where the file has it, not where the merge has moved it.
    let mut errors = shape::mistakes(file);
    let merged = merged(file, DEEPEST).map_err(|error| vec![error])?;
    if file.get("version").and_then(Value::as_u64) != Some(1) {
        errors.push(WorldError::new("/version", "must be 1"));
    }
    errors.extend(references(&merged));
    if errors.is_empty() {
        Ok(merged)
    } else {
        Err(errors)
    }
}

fn merged(file: &Value, deepest: usize) -> Result<Value, WorldError> {
    let Some(base) = file.get("extends").and_then(Value::as_str) else {
        return Ok(file.clone());
    };
    let unknown = || {
        let message = format!("names none of the built-in worlds: {}", names().join(", "));
        WorldError::new("/extends", message)
    };
    let base = built_in(base).filter(|_| deepest > 0).ok_or_else(unknown)?;
    let mut world = merged(&base, deepest - 1)?;
    json_patch::merge(&mut world, file);
    if let Some(members) = world.as_object_mut() {
        members.remove("extends");
    }
    Ok(world)
}

/// A running world with this patch merged in.
pub(crate) fn patched(world: &Value, patch: &Value) -> Result<Value, PatchError> {
    if let Some(pointer) = shape::not_live(patch) {
        return Err(PatchError::NotLive(pointer));
    }
    let mut changed = world.clone();
    json_patch::merge(&mut changed, patch);
    let mut errors = shape::mistakes(&changed);
    errors.extend(references(&changed));
    if errors.is_empty() {
        Ok(changed)
    } else {
        Err(PatchError::Invalid(errors))
    }
}

/// The members that may change while the world runs.
pub(crate) fn live_members(world: &Value) -> Value {
    shape::live_members(world)
}

/// Names that lead nowhere.
fn references(world: &Value) -> Vec<WorldError> {
    let mut errors = Vec::new();
    let needs = |errors: &mut Vec<WorldError>, pointer: String, shelf: &str, name: Option<&Value>| {
        let Some(name) = name.and_then(Value::as_str) else {
            return;
        };
        if world.get(shelf).and_then(|shelf| shelf.get(name)).is_none() {
            errors.push(WorldError::new(pointer, format!("names nothing in /{shelf}")));
        }
    };
    for (shelf, member, target) in [
        ("subscriptions", "tenant", "tenants"),
        ("principals", "tenant", "tenants"),
        ("resource_groups", "subscription", "subscriptions"),
        ("clusters", "resource_group", "resource_groups"),
        ("vaults", "resource_group", "resource_groups"),
        ("vaults", "tenant", "tenants"),
        ("identities", "resource_group", "resource_groups"),
    ] {
        for (name, thing) in members(world, shelf) {
            needs(
                &mut errors,
                format!("/{shelf}/{name}/{member}"),
                target,
                thing.get(member),
            );
        }
    }
    for (name, principal) in members(world, "principals") {
        for (index, grant) in list(principal, "kubernetes").enumerate() {
            let pointer = format!("/principals/{name}/kubernetes/{index}/cluster");
            needs(&mut errors, pointer, "clusters", grant.get("cluster"));
        }
        for (index, assignment) in list(principal, "assignments").enumerate() {
            let scope = assignment.get("scope").and_then(Value::as_str);
            if scope.is_some_and(|scope| !is_scope(world, scope)) {
                let pointer = format!("/principals/{name}/assignments/{index}/scope");
                errors.push(WorldError::new(
                    pointer,
                    "is neither a pointer into this world nor an ARM ID",
                ));
            }
        }
    }
    errors
}

/// Whether a scope leads somewhere; an ARM ID may name what does not exist yet.
fn is_scope(world: &Value, scope: &str) -> bool {
    let is_arm = scope.to_ascii_lowercase().contains("/resourcegroups/") || scope.contains("/providers/");
    let is_subscription_id = scope
        .strip_prefix("/subscriptions/")
        .is_some_and(|id| Uuid::parse_str(id).is_ok());
    is_arm || is_subscription_id || world.pointer(scope).is_some()
}

/// The members of a shelf of the world, `clusters` or `vaults`, by name.
pub(crate) fn members<'a>(world: &'a Value, shelf: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    world
        .get(shelf)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

/// The items of a member that is a list.
pub(crate) fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value.get(member).and_then(Value::as_array).into_iter().flatten()
}

/// The GUID of a thing in the world, the same in every run.
pub(crate) fn id_of(path: &str) -> String {
    Uuid::new_v5(&NAMESPACE, path.as_bytes()).to_string()
}

/// A GUID that is new each time: request and correlation IDs.
pub(crate) fn random_uuid() -> String {
    Uuid::new_v4().to_string()
}

/// The sandbox's own name space.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d2f_2f0e_7c8b_5d6c_9c51_6f4b_76c4_4b01);

/// Parses `10m`, `1h30m`, `250ms`, `22d`.
pub(crate) fn duration(text: &str) -> Option<std::time::Duration> {
    let mut rest = text;
    let mut total = std::time::Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total += std::time::Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// As [`duration`], in Go's units, which know no days.
pub(crate) fn go_duration(text: &str) -> Option<std::time::Duration> {
    duration(text).filter(|_| !text.contains('d'))
}

/// A duration as [`duration`] parses it.
pub(crate) fn shown(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if !millis.is_multiple_of(1000) => format!("{millis}ms"),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ => format!("{}s", millis / 1000),
    }
}

/// Parses a moment: `-22d` and `+90d` are relative to the start, anything else is RFC 3339.
pub(crate) fn moment(text: &str, start: OffsetDateTime) -> Option<OffsetDateTime> {
    match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(before), _) => Some(start - duration(before)?),
        (_, Some(after)) => Some(start + duration(after)?),
        _ => OffsetDateTime::parse(text, &Rfc3339).ok(),
    }
}

/// When something of a world file was made: as its `age` says, or so many days before the start.
pub(crate) fn made_at(source: &Value, start: OffsetDateTime, days: i64) -> OffsetDateTime {
    let age = source.get("age").and_then(Value::as_str);
    age.and_then(|age| moment(age, start))
        .unwrap_or(start - time::Duration::days(days))
}

/// A moment as text, in UTC, to the second.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    let seconds = at.replace_nanosecond(0).unwrap_or(at);
    seconds
        .to_offset(time::UtcOffset::UTC)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_built_in_world_is_a_world() {
        for name in names() {
            let world = built_in(name).unwrap();
            assert_eq!(resolve(&world).map(|_| ()), Ok(()), "{name}");
        }
    }

    #[test]
    fn all_mistakes_of_a_file_are_found_at_once() {
        let file = json!({
            "version": 1, "extends": "default", "colour": "red",
            "clusters": {"myAKSCluster": {"nodes": "two", "driver": "9.9"}},
            "principals": {"deployer": {"tenant": "nowhere", "assignments": [{"role": "Owner", "scope": "/x"}]}},
        });
        let pointers: Vec<_> = resolve(&file)
            .unwrap_err()
            .into_iter()
            .map(|error| error.pointer)
            .collect();
        let expected = [
            "/colour",
            "/clusters/myAKSCluster/nodes",
            "/clusters/myAKSCluster/driver",
            "/principals/deployer/tenant",
            "/principals/deployer/assignments/0/scope",
        ];
        for pointer in expected {
            assert!(
                pointers.iter().any(|found| found == pointer),
                "{pointer} in {pointers:?}"
            );
        }
        assert_eq!(pointers.len(), expected.len());
    }

    #[test]
    fn only_live_members_change_while_the_world_runs() {
        let world = resolve(&built_in("default").unwrap()).unwrap();
        let state = json!({"clusters": {"myAKSCluster": {"state": "Upgrading"}}});
        let changed = patched(&world, &state).unwrap();
        assert_eq!(changed["clusters"]["myAKSCluster"]["state"], "Upgrading");
        let nodes = json!({"clusters": {"myAKSCluster": {"nodes": 3}}});
        let refused = patched(&world, &nodes).unwrap_err();
        assert_eq!(
            refused,
            PatchError::NotLive("/clusters/myAKSCluster/nodes".to_owned())
        );
        assert_eq!(
            live_members(&changed)["clusters"]["myAKSCluster"],
            json!({"state": "Upgrading"})
        );
    }

    #[test]
    fn durations_and_moments_are_read_as_written() {
        assert_eq!(duration("1h30m").map(|span| span.as_secs()), Some(5400));
        assert_eq!(duration("250ms").map(|span| span.as_millis()), Some(250));
        assert_eq!(duration("10"), None);
        for (text, seconds) in [
            ("90s", Some(90)),
            ("2m", Some(120)),
            ("1h30m", Some(5400)),
            ("1h30m0s", Some(5400)),
            ("", None),
            ("2", None),
            ("2 min", None),
        ] {
            assert_eq!(go_duration(text).map(|span| span.as_secs()), seconds, "{text:?}");
        }
        assert_eq!(go_duration("500ms").map(|span| span.as_millis()), Some(500));
        assert_eq!((duration("1d").is_some(), go_duration("1d")), (true, None));
        let start = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(moment("-1d", start), Some(start - time::Duration::days(1)));
    }
}
