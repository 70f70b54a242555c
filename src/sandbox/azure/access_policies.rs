//! Access policies of vaults: added to, replaced, taken away.

use http::StatusCode;
use serde_json::{Value, json};

use super::Azure;
use super::call::{Call, Reply};
use super::refusal::Refusal;
use super::tree;
use super::vault_calls::written;
use super::vaults::unchanged;

impl Azure {
    /// `PUT …/accessPolicies/{add|replace|remove}`.
    pub(super) async fn access_policy_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let revision = self.lock().vault(call)?.revision;
        self.take_a_moment().await;
        let mut state = self.lock();
        let vault = state.vault_mut(call)?;
        unchanged(vault, revision)?;
        let policies = call.body["properties"]["accessPolicies"]
            .as_array()
            .ok_or_else(|| {
                Refusal::provider(
                    StatusCode::BAD_REQUEST,
                    "BadRequest",
                    "The access policies of the request are missing.",
                )
            })?;
        let kind = call.name(1).to_ascii_lowercase();
        let mut stored = vault.properties["accessPolicies"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for policy in policies {
            change_policy(&mut stored, policy, &kind)?;
        }
        tree::set(&mut vault.properties, "accessPolicies", json!(stored));
        self.touch(vault, call);
        let body = json!({
            "id": format!("{}/accessPolicies/", vault.id()),
            "type": "Microsoft.KeyVault/vaults/accessPolicies",
            "properties": {"accessPolicies": stored},
        });
        Ok(written(Reply::ok(body)))
    }
}

/// Adds, replaces or removes one object's permissions.
fn change_policy(stored: &mut Vec<Value>, policy: &Value, kind: &str) -> Result<(), Refusal> {
    let same_object = |old: &Value| {
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_ascii_lowercase();
        text(old, "objectId") == text(policy, "objectId")
            && text(old, "tenantId") == text(policy, "tenantId")
            && text(old, "applicationId") == text(policy, "applicationId")
    };
    let position = stored.iter().position(same_object);
    match (kind, position) {
        ("add" | "replace", None) => stored.push(policy.clone()),
        ("replace", Some(index)) => stored[index] = policy.clone(),
        ("add", Some(index)) => each_kind(&mut stored[index], policy, |old, new| {
            let more: Vec<_> = new.iter().filter(|new| !contains(old, new)).cloned().collect();
            old.extend(more);
        }),
        ("remove", Some(index)) => {
            each_kind(&mut stored[index], policy, |old, gone| {
                old.retain(|old| !contains(gone, old))
            });
            let permissions = stored[index]["permissions"].as_object();
            let empty = permissions.is_none_or(|kinds| {
                kinds
                    .values()
                    .all(|list| list.as_array().is_none_or(Vec::is_empty))
            });
            if empty {
                stored.remove(index);
            }
        }
        ("remove", None) => {}
        _ => return Err(Refusal::unplayed("this kind of access policy change")),
    }
    Ok(())
}

/// Applies a change to the permissions on secrets, keys, certificates and storage, each.
fn each_kind(stored: &mut Value, policy: &Value, change: impl Fn(&mut Vec<Value>, &[Value])) {
    for kind in ["keys", "secrets", "certificates", "storage"] {
        let Some(given) = policy["permissions"][kind].as_array() else {
            continue;
        };
        let mut old = stored["permissions"][kind]
            .as_array()
            .cloned()
            .unwrap_or_default();
        change(&mut old, given);
        tree::set(stored, &format!("permissions.{kind}"), json!(old));
    }
}

fn contains(list: &[Value], one: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_ascii_lowercase();
    list.iter().any(|each| text(each) == text(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(permissions: &Value) -> Value {
        json!({"tenantId": "t", "objectId": "o", "permissions": permissions})
    }

    #[test]
    fn adding_unites_and_removing_all_drops_the_object() {
        let mut stored = vec![policy(&json!({"secrets": ["get", "list"]}))];
        change_policy(
            &mut stored,
            &policy(&json!({"secrets": ["Get"], "certificates": ["get"]})),
            "add",
        )
        .unwrap();
        assert_eq!(
            stored,
            [policy(
                &json!({"secrets": ["get", "list"], "certificates": ["get"]})
            )]
        );
        change_policy(&mut stored, &policy(&json!({"secrets": ["get"]})), "remove").unwrap();
        assert_eq!(stored[0]["permissions"]["secrets"], json!(["list"]));
        change_policy(
            &mut stored,
            &policy(&json!({"secrets": ["list"], "certificates": ["get"]})),
            "remove",
        )
        .unwrap();
        assert_eq!(stored, Vec::<Value>::new());
    }
}
