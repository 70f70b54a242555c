//! Role assignments: who may do what where. Found by content, named by content, removed by ID.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use azure_core::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::locks::Locks;
use super::long_running::next_page;
use super::permissions::Permissions;
use super::pipeline::{Call, TRIES_AFTER_LOSS, after_loss, pause};
use super::{Azure, Error, PrincipalId, Role, RoleAssignment};

const API_VERSION: &str = "2022-04-01";

/// What the driver does in the vault.
const READ_SECRET: &str = "Microsoft.KeyVault/vaults/secrets/getSecret/action";

/// Built-in roles that allow it (reference: the public role catalogue): Secrets User, Certificate User, Secrets Officer,
/// Administrator. What other roles allow is read from their definitions.
const READER_ROLES: [&str; 4] = [
    "4633458b-17de-408a-b874-0445c86b69e6",
    "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "00482a5a-887f-4fb3-b363-3b7fe8e74483",
];

/// The namespace of assignment names; chosen once at random, and never to change, or a repeated apply would not find
/// its own work.
const NAMES: Uuid = Uuid::from_u128(0x8f0b_6c1e_53a7_4d42_9d0e_2b6a_7c14_90f3);

/// One lock an assignment for the whole process, and whether this process has asked for it before: bindings that are
/// made at once need the same one, and one write is enough for all.
static ASKED: LazyLock<Locks<String, bool>> = LazyLock::new(Locks::default);

/// Tries while Entra ID does not show a principal yet that AKS made seconds ago.
const TRIES_FOR_A_NEW_PRINCIPAL: u32 = 6;

/// What Azure says where the assignment's name is another's, somewhere in the tenant.
const NAME_IS_TAKEN: &str = "Conflict";

/// The name an assignment has: the same for the same content, in every run on every machine. Names are unique in a
/// tenant; the other one is for the case that the first is taken there.
fn name(scope: &str, principal: &PrincipalId, role: Role, other: bool) -> Uuid {
    let other = if other { "|2" } else { "" };
    let content = format!("{scope}|{principal}|{}{other}", role.guid()).to_ascii_lowercase();
    Uuid::new_v5(&NAMES, content.as_bytes())
}

impl Azure {
    /// The roles a principal has at a scope, given there, above it or below it, to itself or to a group it is in.
    ///
    /// # Errors
    /// Those of reading; also where it depends on a role's definition alone whether the principal reads secrets, and the
    /// definition cannot be read.
    pub async fn role_assignments(
        &self,
        scope: &str,
        principal: &PrincipalId,
    ) -> Result<Vec<RoleAssignment>, Error> {
        let filter = format!("assignedTo('{principal}')");
        let mut found = self.assignments(scope, &filter).await?;
        let unknown: BTreeSet<String> = found
            .iter()
            .filter(|it| !it.reads_secrets)
            .map(|it| it.role_guid.clone())
            .collect();
        let known_reader = found.iter().any(|it| it.reads_secrets);
        for role in unknown {
            match self.role_reads_secrets(scope, &role).await {
                Ok(reads) => {
                    let of_role = found.iter_mut().filter(|it| it.role_guid == role);
                    of_role.for_each(|it| it.reads_secrets = reads);
                }
                Err(_) if known_reader => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn role_reads_secrets(&self, scope: &str, role: &str) -> Result<bool, Error> {
        let path = format!(
            "{}/providers/Microsoft.Authorization/roleDefinitions/{role}",
            subscription(scope)
        );
        let url = self.arm_url(&path, &[("api-version", API_VERSION)]).await?;
        let call = Call::get("read role definition", role, url, self.arm_auth().await?);
        let definition = self.send(&call).await?.json_if_found()?;
        let allows = |definition: Value| Permissions::of_role(&definition).allow_data(READ_SECRET);
        Ok(definition.is_some_and(allows))
    }

    async fn assignments(&self, scope: &str, filter: &str) -> Result<Vec<RoleAssignment>, Error> {
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments");
        let url = self
            .arm_url(&path, &[("api-version", API_VERSION), ("$filter", filter)])
            .await?;
        let mut call = Some(Call::get(
            "list role assignments",
            last(scope),
            url,
            self.arm_auth().await?,
        ));
        let mut found = Vec::new();
        while let Some(page) = call {
            let answer = self.send(&page).await?;
            let Some(body) = answer.json_if_found()? else {
                break;
            };
            let items = body
                .get("value")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            found.extend(items.iter().filter_map(parse));
            call = next_page(&body, &page, &answer)?;
        }
        Ok(found)
    }

    /// Gives a role to a service principal (managed identities are such) at a scope. The flag says whether this call
    /// made the assignment; one that was there already, of whatever maker, is found and returned.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `Microsoft.Authorization/roleAssignments/write`; [`Error::Rejected`] if the
    /// principal does not exist; those of reading and writing.
    pub async fn assign_role(
        &self,
        scope: &str,
        role: Role,
        principal: &PrincipalId,
        description: &str,
    ) -> Result<(RoleAssignment, bool), Error> {
        self.assign_role_to(scope, role, (principal, "ServicePrincipal"), description)
            .await
    }

    /// As [`Azure::assign_role`], to the caller, who may be a person.
    ///
    /// # Errors
    /// As [`Azure::assign_role`].
    pub async fn assign_role_to_caller(
        &self,
        scope: &str,
        role: Role,
        description: &str,
    ) -> Result<(RoleAssignment, bool), Error> {
        let caller = self.caller().await?;
        let kind = if caller.is_user {
            "User"
        } else {
            "ServicePrincipal"
        };
        let principal = PrincipalId(caller.object_id);
        self.assign_role_to(scope, role, (&principal, kind), description)
            .await
    }

    async fn assign_role_to(
        &self,
        scope: &str,
        role: Role,
        whom: (&PrincipalId, &str),
        description: &str,
    ) -> Result<(RoleAssignment, bool), Error> {
        let scope = scope.trim_end_matches('/');
        match self
            .assign_role_as(name(scope, whom.0, role, false), scope, role, whom, description)
            .await
        {
            Err(Error::Conflict { code, .. }) if code == NAME_IS_TAKEN => {
                self.assign_role_as(name(scope, whom.0, role, true), scope, role, whom, description)
                    .await
            }
            outcome => outcome,
        }
    }

    async fn assign_role_as(
        &self,
        name: Uuid,
        scope: &str,
        role: Role,
        (principal, kind): (&PrincipalId, &str),
        description: &str,
    ) -> Result<(RoleAssignment, bool), Error> {
        let id = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}");
        let url = self.arm_url(&id, &[("api-version", API_VERSION)]).await?;
        let definition = format!(
            "{}/providers/Microsoft.Authorization/roleDefinitions/{}",
            subscription(scope),
            role.guid()
        );
        let call = Call::write(
            "assign a role",
            last(scope),
            Method::Put,
            url,
            self.arm_auth().await?,
        )
        .body(json!({
            "properties": {
                "roleDefinitionId": definition,
                "principalId": principal.0,
                "principalType": kind,
                "description": description,
            }
        }));
        let mut asked = ASKED.hold(id.to_ascii_lowercase()).await;
        if *asked && let Some((found, _)) = self.made_after_all(&id).await? {
            return Ok((found, false));
        }
        *asked = true;
        let mut tries = 0;
        loop {
            tries += 1;
            let (answer, failure) = match self.send(&call).await {
                Ok(answer) if answer.is_success() => {
                    let made = parse(&answer.json()?)
                        .ok_or_else(|| answer.unexpected("it is no role assignment"))?;
                    return Ok((made, answer.status == 201));
                }
                Ok(answer) if answer.is_doubtful() => (None, answer.refusal()),
                Ok(answer) => {
                    let refusal = answer.refusal();
                    (Some(answer), refusal)
                }
                Err(error @ Error::Unreachable { .. }) => (None, error),
                Err(error) => return Err(error),
            };
            let Some(answer) = answer else {
                // It may have happened. If not, the same name and content make it safe to ask again.
                match self.made_after_all(&id).await? {
                    Some(made) => return Ok(made),
                    None if tries < TRIES_AFTER_LOSS => {
                        after_loss(tries).await;
                        continue;
                    }
                    None => return Err(failure),
                }
            };
            match answer.envelope().code.as_str() {
                // Made by somebody else just now, it may not be listed yet.
                "RoleAssignmentExists" => match self.same_assignment(scope, role, principal).await? {
                    Some(found) => return Ok((found, false)),
                    None if tries < TRIES_AFTER_LOSS => after_loss(tries).await,
                    None => return Err(failure),
                },
                "PrincipalNotFound" if tries < TRIES_FOR_A_NEW_PRINCIPAL => pause(answer.retry_after()).await,
                _ => return Err(failure),
            }
        }
    }

    /// Whether a write without an answer happened.
    async fn made_after_all(&self, id: &str) -> Result<Option<(RoleAssignment, bool)>, Error> {
        let url = self.arm_url(id, &[("api-version", API_VERSION)]).await?;
        let call = Call::get("read role assignment", last(id), url, self.arm_auth().await?);
        let body = self.send(&call).await?.json_if_found()?;
        Ok(body.as_ref().and_then(parse).map(|assignment| (assignment, true)))
    }

    /// The same assignment under another name.
    async fn same_assignment(
        &self,
        scope: &str,
        role: Role,
        principal: &PrincipalId,
    ) -> Result<Option<RoleAssignment>, Error> {
        let all = self
            .assignments(scope, &format!("principalId eq '{principal}'"))
            .await?;
        Ok(all.into_iter().find(|found| {
            found.role_guid == role.guid()
                && found.scope.eq_ignore_ascii_case(scope)
                && found.principal.0.eq_ignore_ascii_case(&principal.0)
        }))
    }

    /// Removes an assignment; `false` if there was none.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `Microsoft.Authorization/roleAssignments/delete`; those of writing.
    pub async fn remove_role_assignment(&self, id: &str) -> Result<bool, Error> {
        let url = self.arm_url(id, &[("api-version", API_VERSION)]).await?;
        let call = Call::write(
            "remove a role assignment",
            last(id),
            Method::Delete,
            url,
            self.arm_auth().await?,
        );
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.send(&call).await {
                Ok(answer) if !answer.is_doubtful() => {
                    return match answer.status {
                        204 | 404 => Ok(false),
                        _ if answer.is_success() => Ok(true),
                        _ => Err(answer.refusal()),
                    };
                }
                Ok(answer) => answer.refusal(),
                Err(error @ Error::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            // It may have happened. Another apply may have made the same assignment anew since, so it is looked for
            // before it is removed again.
            match self.made_after_all(id).await? {
                None => return Ok(true),
                Some(_) if tries < TRIES_AFTER_LOSS => after_loss(tries).await,
                Some(_) => return Err(failure),
            }
        }
    }
}

fn parse(item: &Value) -> Option<RoleAssignment> {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    // With the subscription in front at some scopes, without it at others: only the end counts.
    let role_guid = last(&text("/properties/roleDefinitionId")?).to_ascii_lowercase();
    Some(RoleAssignment {
        id: text("/id")?,
        scope: text("/properties/scope")?,
        reads_secrets: READER_ROLES.contains(&role_guid.as_str()),
        role_guid,
        principal: PrincipalId(text("/properties/principalId")?),
        description: text("/properties/description").filter(|text| !text.is_empty()),
    })
}

/// `/subscriptions/GUID` of a scope below one.
fn subscription(scope: &str) -> String {
    scope.split('/').take(3).collect::<Vec<_>>().join("/")
}

fn last(id: &str) -> &str {
    id.trim_end_matches('/').rsplit('/').next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: &str = "/subscriptions/1/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv";

    #[test]
    fn the_name_follows_from_the_content_without_case() {
        let principal = PrincipalId("aaaa".into());
        let one = name(VAULT, &principal, Role::KeyVaultSecretsUser, false);
        assert_eq!(
            one,
            name(
                &VAULT.to_uppercase(),
                &PrincipalId("AAAA".into()),
                Role::KeyVaultSecretsUser,
                false
            )
        );
        assert_ne!(
            one,
            name(
                VAULT,
                &PrincipalId("bbbb".into()),
                Role::KeyVaultSecretsUser,
                false
            )
        );
        assert_eq!(one.get_version_num(), 5);
    }

    #[test]
    fn an_assignment_is_read_with_and_without_a_subscription_in_its_role() {
        for prefix in ["", "/subscriptions/1"] {
            let item = json!({"id": "/x", "properties": {
                "scope": VAULT, "principalId": "p", "description": null,
                "roleDefinitionId": format!("{prefix}/providers/Microsoft.Authorization/roleDefinitions/4633458B-17de-408a-b874-0445c86b69e6"),
            }});
            let assignment = parse(&item).unwrap();
            assert_eq!(assignment.role_guid, Role::KeyVaultSecretsUser.guid());
            assert_eq!(assignment.description, None);
        }
        assert_eq!(subscription(VAULT), "/subscriptions/1");
    }
}
