//! What a caller may do at a scope, as it can be read: permissions, and deny assignments, which beat every role.

use http::StatusCode;
use serde_json::{Value, json};

use super::access::{Denial, Denied};
use super::call::{Call, Reply};
use super::path::{is_at_or_above, same};
use super::refusal::Refusal;
use super::role_assignments::quoted;
use super::roles::Role;
use super::staging::{members, text, texts};
use super::{Azure, State};
use crate::sandbox::core::WorldError;
use crate::sandbox::entra::Directory;
use crate::sandbox::world::id_of;

const KIND: &str = "Microsoft.Authorization/denyAssignments";
/// How a deny assignment names everybody.
const EVERYBODY: &str = "00000000-0000-0000-0000-000000000000";

impl Denial {
    /// Its ARM id.
    fn id(&self) -> String {
        format!(
            "{}/providers/{KIND}/{}",
            self.scope.trim_end_matches('/'),
            self.id
        )
    }

    fn body(&self, directory: &Directory) -> Value {
        let shown =
            |oid: &String| json!({"id": oid, "type": directory.kind(oid).unwrap_or("ServicePrincipal")});
        let principals = match &self.principals {
            None => vec![json!({"id": EVERYBODY, "type": "SystemDefined", "displayName": "All Principals"})],
            Some(some) => some.iter().map(shown).collect(),
        };
        json!({
            "properties": {
                "denyAssignmentName": self.name,
                "description": "",
                "permissions": [{
                    "actions": self.actions,
                    "notActions": self.not_actions,
                    "dataActions": self.data_actions,
                    "notDataActions": self.not_data_actions,
                    "condition": null,
                    "conditionVersion": null,
                }],
                "scope": self.scope,
                "doNotApplyToChildScopes": false,
                "principals": principals,
                "excludePrincipals": self.excluded.iter().map(shown).collect::<Vec<_>>(),
                "isSystemProtected": true,
                "createdOn": "2026-01-12T09:31:07.4420873Z",
                "updatedOn": "2026-01-12T09:31:07.4420873Z",
                "createdBy": null,
                "updatedBy": null,
            },
            "id": self.id(),
            "type": KIND,
            "name": self.id,
        })
    }
}

impl Azure {
    /// The deny assignments of the world file, in place of those it had under the same names.
    pub(super) fn staged_denials(&self, state: &mut State, world: &Value, errors: &mut Vec<WorldError>) {
        for (name, source) in members(world, "deny_assignments") {
            let pointer = format!("/deny_assignments/{name}");
            state.access.denials.retain(|known| known.name != *name);
            if source.is_null() {
                continue;
            }
            let Some(scope) = self.scope_of(state, text(source, "scope").unwrap_or_default()) else {
                errors.push(WorldError::new(format!("{pointer}/scope"), "leads nowhere"));
                continue;
            };
            let mut oids = |member: &str| -> Vec<String> {
                let mut found = Vec::new();
                for (index, each) in texts(source, member).iter().enumerate() {
                    match self.core.directory.principal_by_name(each) {
                        Some(principal) => found.push(principal.object_id),
                        None => {
                            let pointer = format!("{pointer}/{member}/{index}");
                            errors.push(WorldError::new(pointer, "names no principal"));
                        }
                    }
                }
                found
            };
            let principals = source.get("principals").map(|_| oids("principals"));
            let excluded = oids("excluded");
            state.access.denials.push(Denial {
                id: id_of(&pointer),
                name: name.clone(),
                scope,
                principals,
                excluded,
                actions: texts(source, "actions"),
                not_actions: texts(source, "not_actions"),
                data_actions: texts(source, "data_actions"),
                not_data_actions: texts(source, "not_data_actions"),
            });
        }
    }

    /// `GET` of the permissions the caller has at a scope: one entry for each assignment that counts there.
    pub(super) fn permission_call(&self, call: &Call) -> Reply {
        let state = self.lock();
        let value: Vec<_> = state
            .access
            .roles_at(&call.principals(), &call.path.scope, call.now)
            .map(Role::permission)
            .collect();
        Reply::ok(json!({"value": value}))
    }

    /// `GET` of one deny assignment, or of those at a scope.
    pub(super) fn denial_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let state = self.lock();
        let scope = call.path.scope.as_str();
        if call.path.is_named() {
            let mut all = state.access.denials.iter();
            let found = all.find(|each| same(&each.scope, scope) && same(&each.id, call.name(0)));
            return found
                .map(|found| Reply::ok(found.body(&self.core.directory)))
                .ok_or_else(|| {
                    Refusal::provider(
                        StatusCode::NOT_FOUND,
                        "DenyAssignmentNotFound",
                        format!("The deny assignment '{}' is not found.", call.name(0)),
                    )
                });
        }
        let filter = call.query("$filter").unwrap_or_default();
        let lower = filter.to_ascii_lowercase();
        let at_scope = lower.contains("atscope()");
        let name = quoted(&filter, "denyAssignmentName eq ");
        let principal = quoted(&filter, "principalId eq ");
        if !filter.is_empty() && !at_scope && name.is_none() && principal.is_none() {
            return Err(Refusal::unplayed(&format!("the filter '{filter}'")));
        }
        let value: Vec<_> = state
            .access
            .denials
            .iter()
            .filter(|each| {
                is_at_or_above(&each.scope, scope) || (!at_scope && is_at_or_above(scope, &each.scope))
            })
            .filter(|each| {
                name.as_ref()
                    .is_none_or(|name| each.name.eq_ignore_ascii_case(name))
            })
            .filter(|each| {
                let named = |oid: &String| each.principals.iter().flatten().any(|known| same(known, oid));
                principal.as_ref().is_none_or(named)
            })
            .map(|each| each.body(&self.core.directory))
            .collect();
        Ok(Reply::ok(json!({"value": value})))
    }
}

/// 403: a role allows it, and a deny assignment does not.
pub(super) fn denied(call: &Call, denied: &Denied<'_>, action: &str, scope: &str) -> Refusal {
    let (caller, denial) = (&call.caller, denied.0);
    Refusal::gateway(
        StatusCode::FORBIDDEN,
        "DenyAssignmentAuthorizationFailed",
        format!(
            "The client '{}' with object id '{}' has permission to perform action '{action}' on scope '{scope}'; however, \
             the access is denied because of the deny assignment with name '{}' and Id '{}' at scope '{}'.",
            caller.app_id.as_deref().unwrap_or(&caller.oid),
            caller.oid,
            denial.name,
            denial.id.replace('-', ""),
            denial.scope
        ),
    )
}
