//! What a plan would change, read from `terraform show -json`.

use std::collections::BTreeSet;

use serde_json::Value;

/// One resource that a plan touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The resource's address.
    pub address: String,
    /// `create`, `update`, `delete`; a replacement has two.
    pub actions: Vec<String>,
    /// The members that differ, at most two levels deep: `addon_state.rotation_enabled`, `manifests.Ingress/shop`.
    pub paths: BTreeSet<String>,
}

/// Everything that the plan would change; no-ops and reads are left out.
pub fn changes(plan: &Value) -> Vec<Change> {
    let all = plan["resource_changes"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(change).collect()
}

fn change(entry: &Value) -> Option<Change> {
    let change = &entry["change"];
    let actions: Vec<String> = change["actions"]
        .as_array()?
        .iter()
        .filter_map(|action| action.as_str().map(str::to_owned))
        .collect();
    if actions.iter().all(|action| action == "no-op" || action == "read") {
        return None;
    }
    let mut paths = BTreeSet::new();
    differences(
        &change["before"],
        &change["after"],
        &change["after_unknown"],
        "",
        2,
        &mut paths,
    );
    Some(Change {
        address: entry["address"].as_str()?.to_owned(),
        actions,
        paths,
    })
}

/// Collects where `before` and what is to come differ, `depth` levels deep.
fn differences(
    before: &Value,
    after: &Value,
    unknown: &Value,
    path: &str,
    depth: u8,
    found: &mut BTreeSet<String>,
) {
    let objects = (before.as_object(), after.as_object());
    let (Some(left), Some(right), true) = (objects.0, objects.1, depth > 0) else {
        if before != after || holds_true(unknown) {
            found.insert(path.to_owned());
        }
        return;
    };
    let nothing = serde_json::Map::new();
    let undecided = unknown.as_object().unwrap_or(&nothing);
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).chain(undecided.keys()).collect();
    for name in names {
        let inner = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        differences(
            &before[name],
            &after[name],
            &unknown[name],
            &inner,
            depth - 1,
            found,
        );
    }
}

fn holds_true(unknown: &Value) -> bool {
    match unknown {
        Value::Bool(yes) => *yes,
        Value::Array(list) => list.iter().any(holds_true),
        Value::Object(members) => members.values().any(holds_true),
        Value::Null | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(before: &Value, after: &Value, unknown: &Value) -> Value {
        json!({ "resource_changes": [{
            "address": "kvtls_ingress_binding.shop",
            "change": { "actions": ["update"], "before": before, "after": after, "after_unknown": unknown },
        }] })
    }

    #[test]
    fn a_change_is_named_two_levels_deep() {
        let plan = plan(
            &json!({ "id": "x", "addon_state": { "enabled": true, "rotation_enabled": false }, "manifests": { "Ingress/shop": "a" } }),
            &json!({ "id": "x", "addon_state": { "enabled": true, "rotation_enabled": true }, "manifests": { "Ingress/shop": "b" } }),
            &json!({ "addon_state": {}, "manifests": {} }),
        );
        let found = changes(&plan);
        let paths: Vec<_> = found[0].paths.iter().map(String::as_str).collect();
        assert_eq!(paths, ["addon_state.rotation_enabled", "manifests.Ingress/shop"]);
    }

    #[test]
    fn what_will_only_be_known_after_apply_is_a_change() {
        let plan = plan(
            &json!({ "status": { "phase": "served" } }),
            &json!({}),
            &json!({ "status": true }),
        );
        assert!(changes(&plan)[0].paths.contains("status"));
    }

    #[test]
    fn an_object_that_is_missing_is_a_change() {
        let plan = plan(
            &json!({ "manifests": { "Ingress/shop": "a" } }),
            &json!({ "manifests": { "Ingress/shop": "a", "Deployment/shop": "b" } }),
            &json!({}),
        );
        let found = changes(&plan);
        let paths: Vec<_> = found[0].paths.iter().map(String::as_str).collect();
        assert_eq!(paths, ["manifests.Deployment/shop"]);
    }

    #[test]
    fn a_plan_without_changes_has_none() {
        let plan = json!({ "resource_changes": [{ "address": "a.b", "change": { "actions": ["no-op"] } }] });
        assert_eq!(changes(&plan), []);
    }
}
