//! Custom role definitions: made, changed and taken away. Built-in ones stay as they are.

use http::{Method, StatusCode};
use serde_json::Value;

use super::Azure;
use super::call::{Call, Reply};
use super::path::same;
use super::refusal::Refusal;
use super::role_assignments::subscription_of;
use super::roles::Role;
use super::staging::{items, texts};
use super::tree;
use crate::sandbox::core::Effect;

impl Azure {
    /// Calls on role definitions.
    pub(super) fn any_definition_call(&self, call: &Call) -> Result<Reply, Refusal> {
        match call.method {
            Method::GET => self.definition_call(call),
            Method::PUT => self.put_definition(call),
            Method::DELETE => self.delete_definition(call),
            _ => Err(Refusal::unplayed("this method on a role definition")),
        }
    }

    fn put_definition(&self, call: &Call) -> Result<Reply, Refusal> {
        let name = call.name(0);
        let role = wanted(name, &call.body)?;
        let mut state = self.lock();
        let roles = &mut state.access.roles;
        if roles.iter().any(|known| same(&known.id, name) && !known.custom) {
            return Err(read_only());
        }
        if roles
            .iter()
            .any(|known| !same(&known.id, name) && known.name.eq_ignore_ascii_case(&role.name))
        {
            return Err(Refusal::provider(
                StatusCode::CONFLICT,
                "RoleDefinitionWithSameNameExists",
                format!(
                    "A custom role with the same name already exists: '{}'.",
                    role.name
                ),
            ));
        }
        let before = roles.len();
        roles.retain(|known| !same(&known.id, name));
        let effect = if roles.len() < before {
            Effect::Updated
        } else {
            Effect::Created
        };
        let body = role.document(subscription_of(&call.path.scope));
        roles.push(role);
        Ok(Reply::new(StatusCode::CREATED, body).effect(effect))
    }

    fn delete_definition(&self, call: &Call) -> Result<Reply, Refusal> {
        let name = call.name(0);
        let mut state = self.lock();
        let Some(role) = state
            .access
            .roles
            .iter()
            .find(|known| same(&known.id, name))
            .cloned()
        else {
            return Ok(Reply::empty(StatusCode::NO_CONTENT).effect(Effect::None));
        };
        if !role.custom {
            return Err(read_only());
        }
        if state.access.existing().any(|each| same(&each.role, name)) {
            return Err(Refusal::provider(
                StatusCode::BAD_REQUEST,
                "RoleDefinitionHasAssignments",
                "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments).",
            ));
        }
        state.access.roles.retain(|known| !same(&known.id, name));
        Ok(Reply::ok(role.document(subscription_of(&call.path.scope))).effect(Effect::Deleted))
    }
}

/// The role a body asks for.
fn wanted(id: &str, body: &Value) -> Result<Role, Refusal> {
    let name = tree::text(body, "properties.roleName");
    if name.is_empty() {
        return Err(Refusal::provider(
            StatusCode::BAD_REQUEST,
            "RoleDefinitionNameNullOrEmpty",
            "The role definition name cannot be null or empty.",
        ));
    }
    let properties = &body["properties"];
    let of = |member: &str| {
        items(properties, "permissions")
            .flat_map(|permission| texts(permission, member))
            .collect()
    };
    Ok(Role {
        id: id.to_owned(),
        name: name.to_owned(),
        description: tree::text(body, "properties.description").to_owned(),
        custom: true,
        scopes: texts(properties, "assignableScopes"),
        actions: of("actions"),
        not_actions: of("notActions"),
        data_actions: of("dataActions"),
        not_data_actions: of("notDataActions"),
        assignable: None,
    })
}

fn read_only() -> Refusal {
    Refusal::provider(
        StatusCode::BAD_REQUEST,
        "RoleDefinitionCannotBeUpdated",
        "A built-in role definition cannot be changed.",
    )
}
