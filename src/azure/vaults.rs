//! Key vaults as resources: which permission model, and access policies.

use std::sync::LazyLock;

use azure_core::http::Method;
use serde_json::{Value, json};
use url::Url;

use super::locks::Locks;
use super::pipeline::{Call, TRIES_AFTER_LOSS, after_loss, pause};
use super::{AccessPolicy, Azure, Error, PrincipalId, Vault, VaultId};

const API_VERSION: &str = "2026-02-01";
/// Of the list of all resources of a subscription.
const RESOURCES_VERSION: &str = "2021-04-01";

/// Tries while others change the vault. They hold it for about a second each.
const TRIES: u32 = 10;

/// One lock a vault for the whole process: parallel policy writes undo each other's conflicts.
static LOCKS: LazyLock<Locks<VaultId>> = LazyLock::new(Locks::default);

impl Azure {
    /// What is known of a vault; `None` if it or its resource group does not exist.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn vault(&self, id: &VaultId) -> Result<Option<Vault>, Error> {
        let url = self.arm_url(id.as_str(), &[("api-version", API_VERSION)]).await?;
        let call = Call::get("read vault", id.name(), url, self.arm_auth().await?);
        let answer = self.send(&call).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(None);
        };
        let vault = parse(id, &body).map_err(|reason| answer.unexpected(&reason))?;
        if let Some(host) = Url::parse(&vault.uri).ok().as_ref().and_then(Url::host_str) {
            self.named_vault_hosts().insert(host.to_owned());
        }
        Ok(Some(vault))
    }

    /// The vault of that name, if the caller sees it in the subscription.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn find_vault(&self, subscription: &str, name: &str) -> Result<Option<VaultId>, Error> {
        // Names are letters, digits and hyphens; nothing else may reach the filter.
        let plain: String = name
            .chars()
            .filter(|it| it.is_ascii_alphanumeric() || *it == '-')
            .collect();
        let filter = format!("resourceType eq 'Microsoft.KeyVault/vaults' and name eq '{plain}'");
        let path = format!("/subscriptions/{subscription}/resources");
        let query = [("$filter", filter.as_str()), ("api-version", RESOURCES_VERSION)];
        let url = self.arm_url(&path, &query).await?;
        let call = Call::get("find vault", &plain, url, self.arm_auth().await?);
        let body = self.send(&call).await?.json()?;
        let found = body.pointer("/value/0/id").and_then(Value::as_str);
        Ok(found.and_then(|id| VaultId::parse(id).ok()))
    }

    /// Adds rights on secrets to what a principal has already.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `Microsoft.KeyVault/vaults/accessPolicies/write`; [`Error::Conflict`] if others
    /// kept changing the vault; those of writing.
    pub async fn add_access_policy(
        &self,
        vault: &VaultId,
        tenant: &str,
        principal: &PrincipalId,
        secrets: &[&str],
    ) -> Result<(), Error> {
        self.change_access_policy("add an access policy", "add", vault, tenant, principal, secrets)
            .await
    }

    /// Takes rights on secrets away and leaves the principal's others. What is not there is no error.
    ///
    /// # Errors
    /// As [`Azure::add_access_policy`].
    pub async fn remove_access_policy(
        &self,
        vault: &VaultId,
        tenant: &str,
        principal: &PrincipalId,
        secrets: &[&str],
    ) -> Result<(), Error> {
        let operation = "remove an access policy";
        match self
            .change_access_policy(operation, "remove", vault, tenant, principal, secrets)
            .await
        {
            Err(Error::Rejected { status: 404, .. }) => Ok(()),
            outcome => outcome,
        }
    }

    async fn change_access_policy(
        &self,
        operation: &'static str,
        verb: &str,
        vault: &VaultId,
        tenant: &str,
        principal: &PrincipalId,
        secrets: &[&str],
    ) -> Result<(), Error> {
        let _alone = LOCKS.hold(vault.clone()).await;
        let url = self
            .arm_url(
                &format!("{vault}/accessPolicies/{verb}"),
                &[("api-version", API_VERSION)],
            )
            .await?;
        let policy =
            json!({"tenantId": tenant, "objectId": principal.0, "permissions": {"secrets": secrets}});
        let call = Call::write(operation, vault.name(), Method::Put, url, self.arm_auth().await?)
            .body(json!({"properties": {"accessPolicies": [policy]}}));
        let (mut tries, mut losses) = (0, 0);
        loop {
            let answer = match self.send(&call).await {
                Ok(answer) if answer.is_success() => return Ok(()),
                Ok(answer) if !answer.is_doubtful() => answer,
                Err(error) if !matches!(error, Error::Unreachable { .. }) => return Err(error),
                lost => {
                    losses += 1;
                    // It may have happened: the vault knows.
                    let seen = self.vault(vault).await?;
                    let policies = seen.map(|seen| seen.policies).unwrap_or_default();
                    if is_settled(&policies, verb, principal, secrets) {
                        return Ok(());
                    }
                    if losses < TRIES_AFTER_LOSS {
                        after_loss(losses).await;
                        continue;
                    }
                    return Err(lost.map_or_else(|error| error, |answer| answer.refusal()));
                }
            };
            match answer.refusal() {
                Error::Conflict { .. } if tries < TRIES => tries += 1,
                error => return Err(error),
            }
            let short = super::pipeline::jitter(std::time::Duration::from_millis(500 * u64::from(tries)));
            pause(answer.retry_after().or(Some(short))).await;
        }
    }
}

/// Whether policies are as the change of this verb leaves them.
fn is_settled(policies: &[AccessPolicy], verb: &str, principal: &PrincipalId, secrets: &[&str]) -> bool {
    let mut own = policies
        .iter()
        .filter(|policy| policy.object_id.0.eq_ignore_ascii_case(&principal.0));
    match verb {
        "add" => own.any(|policy| policy.allows_secrets(secrets)),
        _ => !own.any(|policy| secrets.iter().any(|right| policy.allows_secrets(&[right]))),
    }
}

fn parse(id: &VaultId, body: &Value) -> Result<Vault, String> {
    let properties = body
        .get("properties")
        .filter(|value| value.is_object())
        .ok_or("it has no \"properties\"")?;
    let text = |key: &str| properties.get(key).and_then(Value::as_str).map(str::to_owned);
    let uri = text("vaultUri").ok_or("it has no \"vaultUri\"")?;
    let policies = properties
        .get("accessPolicies")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    Ok(Vault {
        id: id.clone(),
        // Without the slash while the vault is new.
        uri: format!("{}/", uri.trim_end_matches('/')),
        tenant_id: text("tenantId").ok_or("it has no \"tenantId\"")?,
        rbac: properties
            .get("enableRbacAuthorization")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        // Old vaults' answers lack it.
        provisioning_state: text("provisioningState").unwrap_or_else(|| "Succeeded".to_owned()),
        policies: policies.iter().filter_map(parse_policy).collect(),
    })
}

fn parse_policy(policy: &Value) -> Option<AccessPolicy> {
    let text = |key: &str| policy.get(key).and_then(Value::as_str).map(str::to_owned);
    let rights = |kind: &str| {
        let list = policy
            .pointer(&format!("/permissions/{kind}"))
            .and_then(Value::as_array);
        let list = list.into_iter().flatten().filter_map(Value::as_str);
        list.map(str::to_ascii_lowercase).collect()
    };
    Some(AccessPolicy {
        tenant_id: text("tenantId")?,
        object_id: PrincipalId(text("objectId")?),
        secrets: rights("secrets"),
        certificates: rights("certificates"),
    })
}

impl AccessPolicy {
    /// Whether it allows everything named, on secrets.
    pub fn allows_secrets(&self, wanted: &[&str]) -> bool {
        wanted
            .iter()
            .all(|right| self.secrets.iter().any(|has| has == right || has == "all"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv";

    fn read(properties: &Value) -> Vault {
        parse(&VaultId::parse(ID).unwrap(), &json!({"properties": properties})).unwrap()
    }

    #[test]
    fn what_azure_leaves_out_means_access_policies() {
        for (flag, rbac) in [(json!(true), true), (json!(false), false), (Value::Null, false)] {
            let vault = read(
                &json!({"vaultUri": "https://kv.local", "tenantId": "t", "enableRbacAuthorization": flag}),
            );
            assert_eq!(vault.rbac, rbac, "{flag}");
            assert_eq!(vault.uri, "https://kv.local/");
        }
    }

    #[test]
    fn policies_are_read_without_case() {
        let vault = read(
            &json!({"vaultUri": "https://kv.local/", "tenantId": "t", "provisioningState": "RegisteringDns",
            "accessPolicies": [{"tenantId": "t", "objectId": "o", "permissions": {"secrets": ["Get", "list"], "keys": ["all"]}}]}),
        );
        assert_eq!(vault.provisioning_state, "RegisteringDns");
        let policy = &vault.policies[0];
        assert_eq!(
            (policy.secrets.as_slice(), policy.certificates.len()),
            (["get".to_owned(), "list".to_owned()].as_slice(), 0)
        );
        assert!(policy.allows_secrets(&["get"]));
        assert!(!policy.allows_secrets(&["get", "set"]));
    }
}
