//! Key vaults as things to make, change and remove. Only the fields that are named here are ever written: network
//! rules, access policies and what else a vault has stay as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use azure_core::http::Method;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::long_running::next_page;
use super::pipeline::{Call, TRIES_AFTER_LOSS, after_loss, pause};
use super::{Azure, Error, VaultId};

const API_VERSION: &str = "2026-02-01";

/// Tries while others change the vault.
const TRIES: u32 = 5;

/// A role given less than this ago may not have reached every vault yet: Azure promises ten minutes.
const SPREADS: time::Duration = time::Duration::minutes(10);

/// A vault as Azure described it at one moment, as far as it can be managed here.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyVault {
    /// Its data plane, as `https://kv-prod.vault.azure.net/`.
    pub uri: String,
    /// The region, as Azure writes it: `eastus`.
    pub location: String,
    /// `RegisteringDns`, then `Succeeded`.
    pub provisioning_state: String,
    /// When it was made, where Azure says so.
    pub created_at: Option<OffsetDateTime>,
    /// Azure's clock when it answered.
    pub seen_at: OffsetDateTime,
    /// How it is set.
    pub settings: KeyVaultSettings,
}

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVaultSettings {
    /// The tenant its callers come from.
    pub tenant_id: String,
    /// `standard` or `premium`.
    pub sku_name: String,
    /// Roles decide; otherwise access policies do.
    pub rbac: bool,
    /// How many days what is deleted can be recovered. Set once.
    pub retention_days: i64,
    /// Nobody can purge before that. Never off again.
    pub purge_protection: bool,
    /// Whether the public network leads to it.
    pub public_network: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A vault that was deleted and can be recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedKeyVault {
    /// What its ID was, and will be again.
    pub id: VaultId,
    /// Its region.
    pub location: String,
    /// Nobody can purge it.
    pub purge_protection: bool,
    /// When Azure purges it by itself.
    pub purged_on: String,
    /// The days between deletion and purge, where both are told.
    pub retention_days: Option<i64>,
}

impl Azure {
    /// What is known of a vault; `None` if it or its resource group does not exist.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn key_vault(&self, id: &VaultId) -> Result<Option<KeyVault>, Error> {
        let call = Call::get(
            "read vault",
            id.name(),
            self.vault_id_url(id).await?,
            self.arm_auth().await?,
        );
        let answer = self.send(&call).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(None);
        };
        let seen_at = answer.date().unwrap_or_else(OffsetDateTime::now_utc);
        let vault = parse(&body, seen_at).map_err(|reason| answer.unexpected(&reason))?;
        self.knows_vault(&vault.uri);
        Ok(Some(vault))
    }

    /// Makes a vault. Whoever calls this has looked that there is none; an answer that is lost is looked after.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken, also by a deleted vault; those of writing.
    pub async fn create_key_vault(
        &self,
        id: &VaultId,
        location: &str,
        settings: &KeyVaultSettings,
    ) -> Result<(), Error> {
        let mut properties = properties(settings);
        properties.insert("accessPolicies".to_owned(), json!([]));
        properties.insert("enableSoftDelete".to_owned(), json!(true));
        let body = json!({"location": location, "tags": settings.tags, "properties": properties});
        self.put_key_vault("create vault", id, body).await
    }

    /// Brings a deleted vault back, as it was.
    ///
    /// # Errors
    /// As [`Azure::create_key_vault`].
    pub async fn recover_key_vault(
        &self,
        deleted: &DeletedKeyVault,
        settings: &KeyVaultSettings,
    ) -> Result<(), Error> {
        let body = json!({
            "location": deleted.location,
            "properties": {
                "tenantId": settings.tenant_id,
                "sku": {"family": "A", "name": settings.sku_name},
                "createMode": "recover",
            },
        });
        self.put_key_vault("recover vault", &deleted.id, body).await
    }

    async fn put_key_vault(&self, operation: &'static str, id: &VaultId, body: Value) -> Result<(), Error> {
        let (url, auth) = (self.vault_id_url(id).await?, self.arm_auth().await?);
        let call = Call::write(operation, id.name(), Method::Put, url, auth).body(body);
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.send(&call).await {
                Ok(answer) if answer.is_success() => return Ok(()),
                Ok(answer) if answer.is_doubtful() => answer.refusal(),
                Ok(answer) => return Err(answer.refusal()),
                Err(error @ Error::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            // It may have happened.
            if self.key_vault(id).await?.is_some() {
                return Ok(());
            }
            if tries >= TRIES_AFTER_LOSS {
                return Err(failure);
            }
            after_loss(tries).await;
        }
    }

    /// Waits until a vault that exists is ready: its name has to spread in the DNS first. The caller bounds the wait by
    /// dropping it.
    ///
    /// # Errors
    /// Those of reading; [`Error::OperationFailed`] if it ends in another state, or is gone.
    pub async fn key_vault_ready(&self, id: &VaultId) -> Result<KeyVault, Error> {
        let mut wait = Duration::from_secs(1);
        loop {
            let Some(vault) = self.key_vault(id).await? else {
                return Err(ended(id, "gone"));
            };
            match vault.provisioning_state.as_str() {
                "Succeeded" => return Ok(vault),
                "RegisteringDns" => {}
                other => return Err(ended(id, other)),
            }
            tracing::debug!(vault = id.name(), "its name is being registered");
            pause(Some(wait)).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    /// Sets what `settings` says and leaves everything else.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `Microsoft.KeyVault/vaults/write`, or, for another permission model, without
    /// `Microsoft.Authorization/roleAssignments/write`; [`Error::Conflict`] if others kept changing the vault; those of
    /// writing.
    pub async fn change_key_vault(&self, id: &VaultId, settings: &KeyVaultSettings) -> Result<(), Error> {
        let mut properties = properties(settings);
        // Set once, when the vault is made.
        properties.remove("softDeleteRetentionInDays");
        let body = json!({"tags": settings.tags, "properties": properties});
        let (url, auth) = (self.vault_id_url(id).await?, self.arm_auth().await?);
        // Says what is to be, so that saying it twice comes to the same.
        let call = Call::write("change vault", id.name(), Method::Patch, url, auth)
            .body(body)
            .repeatable();
        let mut tries = 0;
        loop {
            let answer = self.send(&call).await?;
            if answer.is_success() {
                return Ok(());
            }
            match answer.refusal() {
                Error::Conflict { .. } if tries < TRIES => tries += 1,
                error => return Err(error),
            }
            let short = super::pipeline::jitter(Duration::from_millis(500 * u64::from(tries)));
            pause(answer.retry_after().or(Some(short))).await;
        }
    }

    /// Deletes a vault, so that it can be recovered. What is not there is no error.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn delete_key_vault(&self, id: &VaultId) -> Result<(), Error> {
        let (url, auth) = (self.vault_id_url(id).await?, self.arm_auth().await?);
        let call = Call::write("delete vault", id.name(), Method::Delete, url, auth).repeatable();
        let answer = self.send(&call).await?;
        match answer.status {
            404 => answer.json_if_found().map(|_| ()),
            _ if answer.is_success() => self.until_done(&call, &answer).await,
            _ => Err(answer.refusal()),
        }
    }

    /// The deleted vault of a name, in the subscription of `id`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `Microsoft.KeyVault/deletedVaults/read` on the subscription; those of reading.
    pub async fn deleted_key_vault(&self, id: &VaultId) -> Result<Option<DeletedKeyVault>, Error> {
        let path = format!(
            "/subscriptions/{}/providers/Microsoft.KeyVault/deletedVaults",
            id.subscription()
        );
        let url = self.arm_url(&path, &[("api-version", API_VERSION)]).await?;
        let mut call = Some(Call::get(
            "list deleted vaults",
            id.subscription(),
            url,
            self.arm_auth().await?,
        ));
        while let Some(page) = call {
            let answer = self.send(&page).await?;
            let body = answer.json()?;
            let items = body.get("value").and_then(Value::as_array).into_iter().flatten();
            let found = items
                .filter_map(parse_deleted)
                .find(|deleted| deleted.id.name().eq_ignore_ascii_case(id.name()));
            if found.is_some() {
                return Ok(found);
            }
            call = next_page(&body, &page, &answer)?;
        }
        Ok(None)
    }

    /// Removes a deleted vault for good, and waits for it. The caller bounds the wait by dropping it.
    ///
    /// # Errors
    /// [`Error::Rejected`] if purge protection forbids it; those of writing.
    pub async fn purge_key_vault(&self, deleted: &DeletedKeyVault) -> Result<(), Error> {
        let id = &deleted.id;
        let path = format!(
            "/subscriptions/{}/providers/Microsoft.KeyVault/locations/{}/deletedVaults/{}/purge",
            id.subscription(),
            deleted.location,
            id.name()
        );
        let url = self.arm_url(&path, &[("api-version", API_VERSION)]).await?;
        let auth = self.arm_auth().await?;
        let call = Call::write("purge vault", id.name(), Method::Post, url, auth).repeatable();
        let answer = self.send(&call).await?;
        match answer.status {
            404 => Ok(()),
            _ if answer.is_success() => self.until_done(&call, &answer).await,
            _ => Err(answer.refusal()),
        }
    }

    /// Whether the caller was given a role at the vault or above it so recently that it may not have spread yet.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn was_granted_lately(&self, id: &VaultId) -> Result<bool, Error> {
        let caller = self.caller().await?;
        let path = format!("{id}/providers/Microsoft.Authorization/roleAssignments");
        let filter = format!("assignedTo('{}')", caller.object_id);
        let query = [("api-version", "2022-04-01"), ("$filter", filter.as_str())];
        let url = self.arm_url(&path, &query).await?;
        let call = Call::get("list role assignments", id.name(), url, self.arm_auth().await?);
        let answer = self.send(&call).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(false);
        };
        let now = answer.date().unwrap_or_else(OffsetDateTime::now_utc);
        let items = body.get("value").and_then(Value::as_array).into_iter().flatten();
        let mut moments = items.filter_map(|item| moment(item.pointer("/properties/updatedOn")?));
        Ok(moments.any(|at| now - at < SPREADS))
    }

    /// Whether a role assignment exists.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn role_assignment_exists(&self, id: &str) -> Result<bool, Error> {
        let url = self.arm_url(id, &[("api-version", "2022-04-01")]).await?;
        let call = Call::get("read a role assignment", id, url, self.arm_auth().await?);
        Ok(self.send(&call).await?.json_if_found()?.is_some())
    }

    async fn vault_id_url(&self, id: &VaultId) -> Result<Url, Error> {
        self.arm_url(id.as_str(), &[("api-version", API_VERSION)]).await
    }

    fn knows_vault(&self, uri: &str) {
        if let Some(host) = Url::parse(uri).ok().as_ref().and_then(Url::host_str) {
            self.named_vault_hosts().insert(host.to_owned());
        }
    }
}

fn ended(id: &VaultId, state: &str) -> Error {
    Error::OperationFailed {
        operation: "create vault".to_owned(),
        target: id.name().to_owned(),
        status: state.to_owned(),
        code: String::new(),
        message: format!("the vault is {state}"),
        request_id: None,
        correlation_id: None,
    }
}

/// The properties of a write. Purge protection that is off is left out: Azure refuses the word "false" once it was on.
fn properties(settings: &KeyVaultSettings) -> Map<String, Value> {
    let mut properties = Map::from_iter([
        ("tenantId".to_owned(), json!(settings.tenant_id)),
        (
            "sku".to_owned(),
            json!({"family": "A", "name": settings.sku_name}),
        ),
        ("enableRbacAuthorization".to_owned(), json!(settings.rbac)),
        (
            "softDeleteRetentionInDays".to_owned(),
            json!(settings.retention_days),
        ),
        (
            "publicNetworkAccess".to_owned(),
            json!(if settings.public_network {
                "Enabled"
            } else {
                "Disabled"
            }),
        ),
    ]);
    if settings.purge_protection {
        properties.insert("enablePurgeProtection".to_owned(), json!(true));
    }
    properties
}

fn parse(body: &Value, seen_at: OffsetDateTime) -> Result<KeyVault, String> {
    let properties = body
        .get("properties")
        .filter(|value| value.is_object())
        .ok_or("it has no \"properties\"")?;
    let text = |key: &str| properties.get(key).and_then(Value::as_str).map(str::to_owned);
    let is = |key: &str| properties.get(key).and_then(Value::as_bool).unwrap_or(false);
    let uri = text("vaultUri").ok_or("it has no \"vaultUri\"")?;
    let sku = properties.pointer("/sku/name").and_then(Value::as_str);
    Ok(KeyVault {
        // Without the slash while the vault is new.
        uri: format!("{}/", uri.trim_end_matches('/')),
        location: body
            .get("location")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        provisioning_state: text("provisioningState").unwrap_or_else(|| "Succeeded".to_owned()),
        created_at: body.pointer("/systemData/createdAt").and_then(moment),
        seen_at,
        settings: KeyVaultSettings {
            tenant_id: text("tenantId").ok_or("it has no \"tenantId\"")?,
            sku_name: sku.unwrap_or("standard").to_ascii_lowercase(),
            rbac: is("enableRbacAuthorization"),
            retention_days: properties
                .get("softDeleteRetentionInDays")
                .and_then(Value::as_i64)
                .unwrap_or(90),
            purge_protection: is("enablePurgeProtection"),
            public_network: !text("publicNetworkAccess")
                .is_some_and(|text| text.eq_ignore_ascii_case("Disabled")),
            tags: tags(body.get("tags")),
        },
    })
}

/// Tags of anything; what is no text is passed over.
pub(super) fn tags(value: Option<&Value>) -> BTreeMap<String, String> {
    let members = value.and_then(Value::as_object).into_iter().flatten();
    members
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn parse_deleted(item: &Value) -> Option<DeletedKeyVault> {
    let properties = item.get("properties")?;
    let date = |key: &str| properties.get(key);
    let purged = date("scheduledPurgeDate");
    let days = match (purged.and_then(moment), date("deletionDate").and_then(moment)) {
        (Some(purge), Some(deletion)) => Some((purge - deletion).whole_days()),
        _ => None,
    };
    Some(DeletedKeyVault {
        id: VaultId::parse(properties.get("vaultId")?.as_str()?).ok()?,
        location: properties.get("location")?.as_str()?.to_owned(),
        purge_protection: properties
            .get("purgeProtectionEnabled")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        purged_on: purged.and_then(Value::as_str).unwrap_or_default().to_owned(),
        retention_days: days,
    })
}

fn moment(value: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn settings() -> KeyVaultSettings {
        KeyVaultSettings {
            tenant_id: "t".into(),
            sku_name: "standard".into(),
            rbac: true,
            retention_days: 7,
            purge_protection: false,
            public_network: true,
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_off_for_good_reasons_is_not_sent_as_false() {
        assert_eq!(properties(&settings()).get("enablePurgeProtection"), None);
        let protected = KeyVaultSettings {
            purge_protection: true,
            ..settings()
        };
        assert_eq!(properties(&protected)["enablePurgeProtection"], true);
    }

    #[test]
    fn a_vault_is_read_with_what_azure_leaves_out() {
        let body = json!({
            "location": "eastus", "systemData": {"createdAt": "2026-01-01T00:00:00Z"}, "tags": {"a": "b", "n": 1},
            "properties": {"tenantId": "t", "sku": {"family": "A", "name": "Standard"}, "vaultUri": "https://kv.local",
                "softDeleteRetentionInDays": 7, "provisioningState": "RegisteringDns"},
        });
        let vault = parse(&body, datetime!(2026-01-01 00:01 UTC)).unwrap();
        let expected = KeyVaultSettings {
            rbac: false,
            tags: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..settings()
        };
        assert_eq!(
            (vault.settings, vault.uri.as_str()),
            (expected, "https://kv.local/")
        );
        assert_eq!(vault.created_at, Some(datetime!(2026-01-01 00:00 UTC)));
    }

    #[test]
    fn a_deleted_vault_tells_how_long_it_stays() {
        let id = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv";
        let deleted = parse_deleted(&json!({"properties": {
            "vaultId": id, "location": "eastus", "deletionDate": "2026-01-01T00:00:00Z",
            "scheduledPurgeDate": "2026-01-08T00:00:00Z", "purgeProtectionEnabled": true,
        }}))
        .unwrap();
        assert_eq!(
            (deleted.retention_days, deleted.purge_protection),
            (Some(7), true)
        );
    }
}
