//! Role assignments and role definitions over ARM.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use super::access::{Assignment, Question};
use super::arm::forbidden;
use super::call::{Call, Reply, stamp};
use super::path::{decode, is_at_or_above, last_segment, same};
use super::refusal::Refusal;
use super::{Azure, State};
use crate::sandbox::core::Effect;

/// How long a new principal is not found everywhere.
const YOUTH: Duration = Duration::minutes(2);

/// How many assignments one page of a list holds.
const PAGE: usize = 50;

/// The first api-version whose assignments have conditions and descriptions.
const CONDITIONS_SINCE: &str = "2020-03";

const WRITE: &str = "Microsoft.Authorization/roleAssignments/write";
const DELETE: &str = "Microsoft.Authorization/roleAssignments/delete";

/// An assignment as ARM shows it.
fn shown(assignment: &Assignment, call: &Call, fresh: bool) -> Value {
    let subscription = subscription_of(&assignment.scope);
    let prefix = subscription
        .map(|id| format!("/subscriptions/{id}"))
        .unwrap_or_default();
    let mut properties = json!({
        "roleDefinitionId":
            format!("{prefix}/providers/Microsoft.Authorization/roleDefinitions/{}", assignment.role),
        "principalId": assignment.principal,
        "principalType": assignment.principal_type,
        "scope": assignment.scope,
        "createdOn": stamp(assignment.created_on, 7),
        "updatedOn": stamp(assignment.updated_on, 7),
        "createdBy": if fresh { None } else { assignment.by.as_deref() },
        "updatedBy": assignment.by,
    });
    if let Some(properties) = properties.as_object_mut()
        && call.version.as_str() >= CONDITIONS_SINCE
    {
        properties.insert("condition".to_owned(), json!(assignment.condition));
        properties.insert("conditionVersion".to_owned(), json!(assignment.condition_version));
        properties.insert(
            "delegatedManagedIdentityResourceId".to_owned(),
            json!(assignment.delegated),
        );
        properties.insert("description".to_owned(), json!(assignment.description));
    }
    json!({
        "properties": properties,
        "id": assignment.id(),
        "type": "Microsoft.Authorization/roleAssignments",
        "name": assignment.name,
    })
}

/// The subscription in a scope.
pub(super) fn subscription_of(scope: &str) -> Option<&str> {
    let mut segments = scope.split('/').filter(|segment| !segment.is_empty());
    let first = segments.next()?;
    first
        .eq_ignore_ascii_case("subscriptions")
        .then(|| segments.next())
        .flatten()
}

impl Azure {
    /// Calls on role assignments.
    pub(super) fn assignment_call(&self, call: &Call) -> Result<Reply, Refusal> {
        match call.method {
            Method::GET if call.path.is_named() => {
                let state = self.lock();
                let found = state.access.find(&call.path.scope, call.name(0));
                found
                    .map(|assignment| Reply::ok(shown(assignment, call, false)))
                    .ok_or_else(|| {
                        Refusal::provider(
                            StatusCode::NOT_FOUND,
                            "RoleAssignmentNotFound",
                            format!("The role assignment '{}' is not found.", call.name(0)),
                        )
                    })
            }
            Method::GET => self.list_assignments(call),
            Method::PUT => self.put_assignment(call),
            Method::DELETE => self.delete_assignment(call),
            _ => Err(Refusal::unplayed("this method on a role assignment")),
        }
    }

    fn put_assignment(&self, call: &Call) -> Result<Reply, Refusal> {
        let refused =
            |code: &str, message: String| Err(Refusal::provider(StatusCode::BAD_REQUEST, code, message));
        let name = call.name(0);
        if name.parse::<Uuid>().is_err() {
            return refused(
                "InvalidRoleAssignmentId",
                format!(
                    "The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID."
                ),
            );
        }
        let given = &call.body["properties"];
        let text = |member: &str| given[member].as_str().unwrap_or_default();
        let principal = text("principalId");
        if principal.parse::<Uuid>().is_err() {
            return refused(
                "InvalidPrincipalId",
                format!("The Principal ID '{principal}' is not valid. Principal ID must be a GUID."),
            );
        }
        let mut state = self.lock();
        let role = role_of(&state, text("roleDefinitionId"))?;
        self.may_assign(&state, call, WRITE, &role)?;
        let scope = call.path.scope.as_str();
        if let Some(old) = state.access.find(scope, name) {
            if !same(&old.principal, principal) || !same(&old.role, &role) {
                return refused(
                    "RoleAssignmentUpdateNotPermitted",
                    "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
                        .to_owned(),
                );
            }
            let (now, description) = (call.now, given["description"].as_str().map(str::to_owned));
            let by = Some(call.caller.oid.clone());
            state.access.change(scope, name, |old| {
                old.updated_on = now;
                old.description = description;
                old.by = by;
            });
            let body = state.access.find(scope, name).map(|old| shown(old, call, false));
            return Ok(writes(
                Reply::ok(body.unwrap_or_default()).effect(Effect::Updated),
            ));
        }
        if state.access.existing().any(|other| same(&other.name, name)) {
            return Err(Refusal::provider(
                StatusCode::CONFLICT,
                "HashConflictOnDifferentRoleAssignmentIds",
                "A hash conflict was encountered for the role Assignment ID. Please use a new Guid.",
            ));
        }
        let twin = state.access.existing().any(|other| {
            same(&other.scope, scope) && same(&other.role, &role) && same(&other.principal, principal)
        });
        if twin {
            return Err(Refusal::provider(
                StatusCode::CONFLICT,
                "RoleAssignmentExists",
                "The role assignment already exists.",
            ));
        }
        let principal_type = self.principal_type(&state, call, principal, given["principalType"].as_str())?;
        let own = |member: &str| given[member].as_str().map(str::to_owned);
        let effective_at = call.now + self.core.lags.get("role_effect");
        let assignment = Assignment {
            name: name.to_owned(),
            scope: scope.to_owned(),
            role,
            principal: principal.to_owned(),
            principal_type,
            description: own("description"),
            condition: own("condition"),
            condition_version: own("conditionVersion"),
            delegated: own("delegatedManagedIdentityResourceId"),
            created_on: call.now,
            updated_on: call.now,
            by: Some(call.caller.oid.clone()),
            effective_at,
            ends_at: None,
        };
        let body = shown(&assignment, call, true);
        state.access.add(assignment);
        drop(state);
        self.wake_at(effective_at, format!("effect of role assignment {name}"));
        Ok(writes(Reply::new(StatusCode::CREATED, body)))
    }

    /// The principal's type: as given, or as the directory knows it, which it does not while the principal is young.
    fn principal_type(
        &self,
        state: &State,
        call: &Call,
        principal: &str,
        given: Option<&str>,
    ) -> Result<String, Refusal> {
        let known = self.core.directory.kind(principal);
        if let Some(given) = given {
            return match known {
                Some(known) if !known.eq_ignore_ascii_case(given) => Err(Refusal::provider(
                    StatusCode::BAD_REQUEST,
                    "UnmatchedPrincipalType",
                    format!(
                        "The PrincipalId '{}' has type '{known}' , which is different from specified PrinciaplType \
                         '{given}'.",
                        principal.replace('-', "")
                    ),
                )),
                _ => Ok(given.to_owned()),
            };
        }
        let age = self.core.directory.age(principal, call.now);
        let staged = state.aged.iter().any(|oid| same(oid, principal));
        match known {
            Some(known) if staged || age.is_some_and(|age| age >= YOUTH) => Ok(known.to_owned()),
            _ => Err(Refusal::provider(
                StatusCode::BAD_REQUEST,
                "PrincipalNotFound",
                format!(
                    "Principal {} does not exist in the directory {}. Check that you have the correct principal ID. If \
                     you are creating this principal and then immediately assigning a role, this error might be \
                     related to a replication delay. In this case, set the role assignment principalType property to a \
                     value, such as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype",
                    principal.replace('-', ""),
                    call.caller.tenant
                ),
            )),
        }
    }

    fn delete_assignment(&self, call: &Call) -> Result<Reply, Refusal> {
        let mut state = self.lock();
        let (scope, name) = (call.path.scope.as_str(), call.name(0));
        let Some(found) = state.access.find(scope, name) else {
            return Ok(Reply::empty(StatusCode::NO_CONTENT).effect(Effect::None));
        };
        let role = found.role.clone();
        self.may_assign(&state, call, DELETE, &role)?;
        let ends_at = call.now + self.core.lags.get("role_effect");
        let gone = state.access.remove(scope, name, ends_at);
        drop(state);
        self.wake_at(ends_at, format!("end of role assignment {name}"));
        let body = gone.map(|gone| shown(&gone, call, false)).unwrap_or_default();
        Ok(Reply::ok(body)
            .header("x-ms-ratelimit-remaining-subscription-deletes", "14997")
            .effect(Effect::Deleted))
    }

    /// A condition on the caller's own assignment may allow some roles only.
    fn may_assign(&self, state: &State, call: &Call, action: &str, role: &str) -> Result<(), Refusal> {
        let principals = call.principals();
        let scope = call.path.scope.as_str();
        let question = Question {
            principals: &principals,
            action,
            scope,
            data: false,
            now: call.now,
        };
        if state.access.allows_role(question, role) {
            return Ok(());
        }
        Err(forbidden(&call.caller, action, &call.path.id()))
    }

    fn list_assignments(&self, call: &Call) -> Result<Reply, Refusal> {
        let filter = Filter::parse(&call.query("$filter").unwrap_or_default())?;
        let groups = filter.assigned_to.as_ref().map(|oid| {
            let principal = self.core.directory.principal_by_oid(oid);
            principal.map(|principal| principal.groups).unwrap_or_default()
        });
        let scope = call.path.scope.as_str();
        let state = self.lock();
        let found: Vec<_> = state
            .access
            .existing()
            .filter(|each| {
                let above = is_at_or_above(&each.scope, scope);
                above || (!filter.at_scope && is_at_or_above(scope, &each.scope))
            })
            .filter(|each| {
                filter
                    .principal
                    .as_ref()
                    .is_none_or(|oid| same(oid, &each.principal))
            })
            .filter(|each| {
                filter.assigned_to.as_ref().is_none_or(|oid| {
                    let mut groups = groups.iter().flatten();
                    same(oid, &each.principal) || groups.any(|group| same(group, &each.principal))
                })
            })
            .collect();
        let skip: usize = call
            .query("$skiptoken")
            .and_then(|token| token.parse().ok())
            .unwrap_or_default();
        let value: Vec<_> = found
            .iter()
            .skip(skip)
            .take(PAGE)
            .map(|each| shown(each, call, false))
            .collect();
        let mut body = json!({"value": value});
        if found.len() > skip + PAGE
            && let Some(body) = body.as_object_mut()
        {
            let base = self.core.names.arm_base(&call.asked_as);
            let filter = call
                .query("$filter")
                .map(|filter| format!("$filter={}&", encode(&filter)));
            let next = format!(
                "{base}{}?{}api-version={}&$skiptoken={}",
                call.path.id(),
                filter.unwrap_or_default(),
                call.version,
                skip + PAGE
            );
            body.insert("nextLink".to_owned(), json!(next));
        }
        Ok(Reply::ok(body))
    }

    /// `GET` of one role definition, or of those a filter lets through.
    pub(super) fn definition_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let state = self.lock();
        let subscription = subscription_of(&call.path.scope);
        if call.path.is_named() {
            let name = call.name(0);
            let role = state.access.roles.iter().find(|role| same(&role.id, name));
            return role
                .map(|role| Reply::ok(role.document(subscription)))
                .ok_or_else(|| unknown_role(name));
        }
        let filter = call.query("$filter").unwrap_or_default();
        let wanted = quoted(&filter, "roleName eq ");
        let kind = quoted(&filter, "type eq ");
        if wanted.is_none() && kind.is_none() && !filter.is_empty() && !filter.contains("atScopeAndBelow()") {
            return Err(Refusal::unplayed(&format!("the filter '{filter}'")));
        }
        let value: Vec<_> = state
            .access
            .roles
            .iter()
            .filter(|role| {
                wanted
                    .as_ref()
                    .is_none_or(|name| role.name.eq_ignore_ascii_case(name))
            })
            .filter(|role| {
                kind.as_ref()
                    .is_none_or(|kind| (kind == "CustomRole") == role.custom)
            })
            .map(|role| role.document(subscription))
            .collect();
        Ok(Reply::ok(json!({"value": value})))
    }
}

/// What a list of assignments is narrowed to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    at_scope: bool,
    principal: Option<String>,
    assigned_to: Option<String>,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut filter = Self::default();
        for part in text.split(" and ").map(str::trim).filter(|part| !part.is_empty()) {
            if part.eq_ignore_ascii_case("atScope()") {
                filter.at_scope = true;
            } else if let Some(oid) = quoted(part, "principalId eq ") {
                filter.principal = Some(oid);
            } else if let Some(oid) = quoted(part, "assignedTo(") {
                filter.assigned_to = Some(oid);
            } else {
                return Err(Refusal::provider(
                    StatusCode::BAD_REQUEST,
                    "UnsupportedQuery",
                    format!(
                        "The filter '{part}' is not supported. Supported filters are either 'atScope()' or \
                             'principalId eq '{{value}}'' or 'assignedTo('{{value}}')'."
                    ),
                ));
            }
        }
        Ok(filter)
    }
}

/// The text in quotes after a prefix.
pub(super) fn quoted(text: &str, prefix: &str) -> Option<String> {
    let at = text.to_ascii_lowercase().find(&prefix.to_ascii_lowercase())?;
    let rest = text.get(at + prefix.len()..)?.trim_start().strip_prefix('\'')?;
    Some(rest.split('\'').next()?.to_owned())
}

fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(decode(text).as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

fn role_of(state: &State, id: &str) -> Result<String, Refusal> {
    let name = last_segment(id);
    let role = state.access.roles.iter().find(|role| same(&role.id, name));
    role.map(|role| role.id.clone()).ok_or_else(|| unknown_role(name))
}

fn unknown_role(name: &str) -> Refusal {
    Refusal::provider(
        StatusCode::NOT_FOUND,
        "RoleDefinitionDoesNotExist",
        format!("The specified role definition with ID '{name}' does not exist."),
    )
}

fn writes(reply: Reply) -> Reply {
    reply.header("x-ms-ratelimit-remaining-subscription-writes", "1199")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_the_service_knows() {
        let parsed = Filter::parse("atScope() and assignedTo('abc')").unwrap();
        assert_eq!(
            parsed,
            Filter {
                at_scope: true,
                principal: None,
                assigned_to: Some("abc".to_owned())
            }
        );
        let parsed = Filter::parse("principalId eq 'abc'").unwrap();
        assert_eq!(parsed.principal.as_deref(), Some("abc"));
        assert_eq!(Filter::parse("name eq 'x'").unwrap_err().code, "UnsupportedQuery");
    }
}
