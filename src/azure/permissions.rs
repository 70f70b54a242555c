//! What the caller may do at a scope, as Azure itself tells: asked before the first write, so that a missing right is
//! found while nothing is half done.

use serde_json::Value;

use super::long_running::next_page;
use super::pipeline::Call;
use super::{Azure, Error};

const API_VERSION: &str = "2022-04-01";

/// Stands for everybody in a deny assignment.
const EVERYONE: &str = "00000000-0000-0000-0000-000000000000";

/// What one identity may do at one scope, data of a service included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    granted: Vec<Permission>,
    denied: Vec<Permission>,
    /// The ID of the request that told, for a support case.
    pub request_id: Option<String>,
}

/// What one role definition allows, or one deny assignment forbids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Permission {
    actions: Vec<String>,
    not_actions: Vec<String>,
    data_actions: Vec<String>,
    not_data_actions: Vec<String>,
}

impl Permissions {
    /// What a role definition allows.
    pub(super) fn of_role(definition: &Value) -> Self {
        let list = definition
            .pointer("/properties/permissions")
            .and_then(Value::as_array);
        Self {
            granted: list.into_iter().flatten().map(parse).collect(),
            ..Self::default()
        }
    }

    /// Whether an action of the management plane is allowed. Conditions on role assignments are not evaluated: what one
    /// may forbid counts as allowed.
    pub fn allow(&self, action: &str) -> bool {
        let of = |permission: &Permission| covers(&permission.actions, &permission.not_actions, action);
        self.granted.iter().any(of) && !self.denied.iter().any(of)
    }

    /// Whether an action on a service's data is allowed.
    pub fn allow_data(&self, action: &str) -> bool {
        let of =
            |permission: &Permission| covers(&permission.data_actions, &permission.not_data_actions, action);
        self.granted.iter().any(of) && !self.denied.iter().any(of)
    }
}

fn covers(yes: &[String], no: &[String], action: &str) -> bool {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
    any(yes) && !any(no)
}

/// Whether a pattern of a role definition names an action: `*` stands for any text, case does not count.
fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| action.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

impl Azure {
    /// What the caller may do at a scope. Deny assignments count where they can be read.
    ///
    /// # Errors
    /// Those of reading; [`Error::Forbidden`] without `Microsoft.Authorization/permissions/read`.
    pub async fn permissions(&self, scope: &str) -> Result<Permissions, Error> {
        let (granted, denied) = tokio::join!(
            Box::pin(self.list_at(scope, "permissions", &[])),
            Box::pin(self.denied_at(scope)),
        );
        let (granted, request_id) = granted?;
        Ok(Permissions {
            granted: granted.iter().map(parse).collect(),
            denied,
            request_id,
        })
    }

    /// What deny assignments forbid the caller; nothing where they cannot be read, for a right is called missing only if
    /// that is certain.
    async fn denied_at(&self, scope: &str) -> Vec<Permission> {
        let Ok((denials, _)) = self
            .list_at(scope, "denyAssignments", &[("$filter", "atScope()")])
            .await
        else {
            return Vec::new();
        };
        if denials.is_empty() {
            return Vec::new();
        }
        let Ok(caller) = self.caller().await else {
            return Vec::new();
        };
        let concerned = denials
            .iter()
            .filter(|denial| concerns(denial, &caller.object_id));
        concerned
            .flat_map(|denial| {
                let permissions = denial
                    .pointer("/properties/permissions")
                    .and_then(Value::as_array);
                permissions.into_iter().flatten().map(parse)
            })
            .collect()
    }

    async fn list_at(
        &self,
        scope: &str,
        kind: &str,
        query: &[(&str, &str)],
    ) -> Result<(Vec<Value>, Option<String>), Error> {
        let path = format!("{scope}/providers/Microsoft.Authorization/{kind}");
        let query = [&[("api-version", API_VERSION)], query].concat();
        let url = self.arm_url(&path, &query).await?;
        let target = scope.rsplit('/').next().unwrap_or(scope);
        let mut call = Some(Call::get(
            "read the caller's permissions",
            target,
            url,
            self.arm_auth().await?,
        ));
        let (mut found, mut request_id) = (Vec::new(), None);
        while let Some(page) = call {
            let answer = self.send(&page).await?;
            let body = answer.json()?;
            let items = body.get("value").and_then(Value::as_array);
            found.extend(items.into_iter().flatten().cloned());
            request_id = answer.header("x-ms-request-id").map(str::to_owned);
            call = next_page(&body, &page, &answer)?;
        }
        Ok((found, request_id))
    }
}

fn parse(item: &Value) -> Permission {
    let texts = |member: &str| {
        let list = item.get(member).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    Permission {
        actions: texts("actions"),
        not_actions: texts("notActions"),
        data_actions: texts("dataActions"),
        not_data_actions: texts("notDataActions"),
    }
}

/// Whether a deny assignment is about a principal: by its ID, or about everybody without naming it as an exception.
/// Groups are not looked into.
fn concerns(denial: &Value, object_id: &str) -> bool {
    let names = |member: &str, id: &str| {
        let list = denial.pointer(member).and_then(Value::as_array);
        list.into_iter().flatten().any(|principal| {
            principal["id"]
                .as_str()
                .is_some_and(|named| named.eq_ignore_ascii_case(id))
        })
    };
    let (principals, excluded) = ("/properties/principals", "/properties/excludePrincipals");
    (names(principals, object_id) || names(principals, EVERYONE)) && !names(excluded, object_id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_are_matched_as_azure_matches_them() {
        let action = "Microsoft.Authorization/roleAssignments/write";
        let rows = [
            ("*", true),
            ("Microsoft.Authorization/*", true),
            ("microsoft.authorization/*/Write", true),
            ("*/write", true),
            ("*/read", false),
            ("Microsoft.Authorization/roleAssignments/write", true),
            ("Microsoft.Authorization/roleAssignments", false),
            ("Microsoft.Authorization/*/x/write", false),
        ];
        for (pattern, expected) in rows {
            assert_eq!(matches(pattern, action), expected, "{pattern}");
        }
    }

    #[test]
    fn an_exception_is_of_its_own_role_only_and_a_denial_wins() {
        let write = "Microsoft.Authorization/roleAssignments/write";
        let contributor =
            parse(&json!({"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"]}));
        let administrator =
            parse(&json!({"actions": [write], "dataActions": ["Microsoft.KeyVault/vaults/*"]}));
        let mut permissions = Permissions {
            granted: vec![contributor],
            ..Permissions::default()
        };
        assert!(!permissions.allow(write));
        assert!(permissions.allow("Microsoft.ContainerService/managedClusters/write"));
        permissions.granted.push(administrator);
        assert!(permissions.allow(write));
        assert!(permissions.allow_data("Microsoft.KeyVault/vaults/certificates/read"));
        assert!(!permissions.allow_data("Microsoft.Storage/read"));
        permissions.denied.push(parse(&json!({"actions": ["*/write"]})));
        assert!(!permissions.allow(write));
    }

    #[test]
    fn a_denial_for_everybody_has_exceptions() {
        let all =
            json!({"properties": {"principals": [{"id": EVERYONE}], "excludePrincipals": [{"id": "ME"}]}});
        let one = json!({"properties": {"principals": [{"id": "Me"}]}});
        assert!(!concerns(&all, "me") && concerns(&all, "you"));
        assert!(concerns(&one, "me") && !concerns(&one, "you"));
    }
}
