//! Vaults on the control plane: what one is, how it shows itself, what a write may set, and names.

use http::StatusCode;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::State;
use super::call::{Call, stamp};
use super::key_vault::Objects;
use super::path::same;
use super::refusal::Refusal;
use super::tree;

/// A vault.
pub(super) struct Vault {
    pub(super) name: String,
    pub(super) subscription: String,
    pub(super) group: String,
    pub(super) location: String,
    pub(super) tags: Value,
    /// As ARM stores them: without `vaultUri` and `provisioningState`.
    pub(super) properties: Value,
    pub(super) created: Touch,
    pub(super) modified: Touch,
    /// From when on its name resolves.
    pub(super) dns_at: OffsetDateTime,
    /// Counts changes.
    pub(super) revision: u64,
    pub(super) deleted: Option<Deleted>,
    /// What it holds.
    pub(super) objects: Objects,
}

/// Who touched a vault, and when.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    pub(super) by: String,
    pub(super) kind: &'static str,
    pub(super) at: OffsetDateTime,
}

/// A soft-deleted vault's dates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deleted {
    pub(super) at: OffsetDateTime,
    /// When it is gone, and since when it is being purged, if it is.
    pub(super) purge: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl Vault {
    pub(super) fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.KeyVault/vaults/{}",
            self.subscription, self.group, self.name
        )
    }

    /// True if role assignments decide on its data; null means access policies.
    pub(super) fn is_rbac(&self) -> bool {
        self.properties["enableRbacAuthorization"] == true
    }

    pub(super) fn tenant(&self) -> &str {
        tree::text(&self.properties, "tenantId")
    }

    /// How many days deleted things can be recovered.
    pub(super) fn retention(&self) -> i64 {
        self.properties["softDeleteRetentionInDays"]
            .as_i64()
            .unwrap_or(90)
    }

    /// What its objects say about recovery.
    pub(super) fn recovery_level(&self) -> &'static str {
        match (self.properties["enablePurgeProtection"] == true, self.retention()) {
            (true, 90) => "Recoverable",
            (true, _) => "CustomizedRecoverable",
            (false, 90) => "Recoverable+Purgeable",
            (false, _) => "CustomizedRecoverable+Purgeable",
        }
    }

    /// The vault as ARM shows it. `uri` has its slash; `fresh` is the answer to the PUT that made it.
    pub(super) fn body(&self, uri: &str, now: OffsetDateTime, fresh: bool) -> Value {
        let mut properties = self.properties.clone();
        let registering = fresh || now < self.dns_at;
        let uri = if fresh {
            with_name(uri, &self.name)
        } else {
            uri.to_owned()
        };
        let state = if registering {
            "RegisteringDns"
        } else {
            "Succeeded"
        };
        tree::set(&mut properties, "vaultUri", json!(uri));
        tree::set(&mut properties, "provisioningState", json!(state));
        json!({
            "id": self.id(),
            "name": self.name,
            "type": "Microsoft.KeyVault/vaults",
            "location": self.location,
            "tags": self.tags,
            "systemData": {
                "createdBy": self.created.by,
                "createdByType": self.created.kind,
                "createdAt": stamp(self.created.at, 3),
                "lastModifiedBy": self.modified.by,
                "lastModifiedByType": self.modified.kind,
                "lastModifiedAt": stamp(self.modified.at, 3),
            },
            "properties": properties,
        })
    }

    pub(super) fn deleted_body(&self) -> Value {
        let at = self.deleted.map_or(self.modified.at, |deleted| deleted.at);
        let mut properties = json!({
            "vaultId": self.id(),
            "location": self.location,
            "tags": self.tags,
            "deletionDate": stamp(at, 0),
            "scheduledPurgeDate": stamp(at + time::Duration::days(self.retention()), 0),
        });
        if self.properties["enablePurgeProtection"] == true {
            tree::set(&mut properties, "purgeProtectionEnabled", json!(true));
        }
        json!({
            "id": format!(
                "/subscriptions/{}/providers/Microsoft.KeyVault/locations/{}/deletedVaults/{}",
                self.subscription, self.location, self.name
            ),
            "name": self.name,
            "type": "Microsoft.KeyVault/deletedVaults",
            "properties": properties,
        })
    }
}

/// The URI a fresh vault answers with: its name as written, no slash.
fn with_name(uri: &str, name: &str) -> String {
    let uri = uri.trim_end_matches('/');
    uri.replacen(&name.to_ascii_lowercase(), name, 1)
}

impl State {
    /// The vault of this path, unless it is deleted.
    pub(super) fn vault(&self, call: &Call) -> Result<&Vault, Refusal> {
        let id = vault_id(call);
        let found = self
            .vaults
            .iter()
            .find(|vault| vault.deleted.is_none() && same(&vault.id(), &id));
        found.ok_or_else(|| missing(call))
    }

    pub(super) fn vault_mut(&mut self, call: &Call) -> Result<&mut Vault, Refusal> {
        let id = vault_id(call);
        let found = self
            .vaults
            .iter_mut()
            .find(|vault| vault.deleted.is_none() && same(&vault.id(), &id));
        found.ok_or_else(|| missing(call))
    }

    /// The vault of this name, unless it is deleted.
    pub(super) fn vault_named(&mut self, name: &str) -> Option<&mut Vault> {
        self.vaults
            .iter_mut()
            .find(|vault| vault.deleted.is_none() && same(&vault.name, name))
    }

    /// Ends purges that are due.
    pub(super) fn end_purges(&mut self, now: OffsetDateTime) {
        let done = |vault: &Vault| {
            let purge = vault.deleted.and_then(|deleted| deleted.purge);
            purge.filter(|(_, done)| *done <= now)
        };
        let ended = self.vaults.iter().filter_map(|vault| {
            let (began, ended) = done(vault)?;
            Some((vault.name.clone(), began, ended))
        });
        let ended: Vec<_> = ended.collect();
        self.vaults.retain(|vault| done(vault).is_none());
        self.purges.extend(ended);
    }
}

fn vault_id(call: &Call) -> String {
    format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.KeyVault/vaults/{}",
        call.subscription(),
        call.group(),
        call.name(0)
    )
}

fn missing(call: &Call) -> Refusal {
    Refusal::resource_not_found("Microsoft.KeyVault/vaults", call.name(0), call.group())
}

/// Refuses a write whose vault changed since it was read.
pub(super) fn unchanged(vault: &Vault, revision: u64) -> Result<(), Refusal> {
    if vault.revision == revision {
        return Ok(());
    }
    Err(Refusal::provider(
        StatusCode::CONFLICT,
        "ConflictError",
        format!(
            "A conflict occurred that prevented the operation from completing. The operation failed because the Key \
             Vault '{}' changed from the point the operation began. This can happen if parallel operations are being \
             performed on the Key Vault. To prevent this error, serialize the operations so that only one operation is \
             performed on the Key Vault at a time. Follow this link for more information: \
             https://go.microsoft.com/fwlink/?linkid=2147741",
            vault.name
        ),
    ))
}

/// The members a write may set, in the form in which they are stored.
pub(super) fn writable(properties: &Value, stored: Option<&Vault>) -> Result<Value, Refusal> {
    let refused = |message: &str| Err(Refusal::provider(StatusCode::BAD_REQUEST, "BadRequest", message));
    let mut given: Map<String, Value> = properties.as_object().cloned().unwrap_or_default();
    given.retain(|_, value| !value.is_null());
    for name in [
        "vaultUri",
        "provisioningState",
        "hsmPoolResourceId",
        "privateEndpointConnections",
        "createMode",
    ] {
        given.remove(name);
    }
    if given.get("enablePurgeProtection") == Some(&json!(false))
        && stored.is_some_and(|vault| vault.properties["enablePurgeProtection"] == true)
    {
        return refused(
            "The property \"enablePurgeProtection\" cannot be set to false. Enabling the purge protection for a vault \
             is an irreversible action.",
        );
    }
    if given.get("enablePurgeProtection") == Some(&json!(false)) {
        given.remove("enablePurgeProtection");
    }
    if let Some(days) = given.get("softDeleteRetentionInDays").and_then(Value::as_i64)
        && !(7..=90).contains(&days)
    {
        return refused("The property \"softDeleteRetentionInDays\" must be between 7 and 90.");
    }
    if let (Some(days), Some(vault)) = (given.get("softDeleteRetentionInDays"), stored)
        && days.as_i64() != Some(vault.retention())
    {
        return refused(
            "The property \"softDeleteRetentionInDays\" has been set already and it can't be modified.",
        );
    }
    if given
        .get("accessPolicies")
        .and_then(Value::as_array)
        .is_some_and(|list| list.len() > 1024)
    {
        return refused("The vault has more than 1024 access policies.");
    }
    if stored.is_none() && !(given.contains_key("tenantId") && given.contains_key("sku")) {
        return refused("The parameters 'tenantId' and 'sku' are required to create a vault.");
    }
    // Network rules that say nothing are not kept.
    let silent = json!({"bypass": "AzureServices", "defaultAction": "Allow"});
    if given.get("networkAcls").is_some_and(|rules| {
        let mut rules = rules.clone();
        if let Some(rules) = rules.as_object_mut() {
            rules.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
        }
        rules == silent
    }) {
        given.remove("networkAcls");
    }
    Ok(Value::Object(given))
}

pub(super) fn valid_name(name: &str) -> Result<(), Refusal> {
    let letters = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if letters && begins && (3..=24).contains(&name.len()) && !name.ends_with('-') && !name.contains("--") {
        return Ok(());
    }
    Err(Refusal::provider(
        StatusCode::BAD_REQUEST,
        "VaultNameNotValid",
        format!(
            "The vault name '{name}' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name \
             must begin with a letter, end with a letter or digit, and not contain consecutive hyphens."
        ),
    ))
}

pub(super) fn taken_name(name: &str) -> Refusal {
    Refusal::provider(
        StatusCode::CONFLICT,
        "VaultAlreadyExists",
        format!(
            "The vault name '{name}' is already in use. Vault names are globaly unique so it is possible that the name \
             is already taken. If you are sure that the vault name was not taken then it is possible that a vault with \
             the same name was recently deleted but not purged after being placed in a recoverable state. If the vault \
             is in a recoverable state then the vault will need to be purged before reusing the name."
        ),
    )
}

pub(super) fn deleted_name() -> Refusal {
    Refusal::provider(
        StatusCode::CONFLICT,
        "ConflictError",
        "A vault with the same name already exists in deleted state. You need to either recover or purge existing key \
         vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_rules_that_say_nothing_are_not_kept() {
        let rules =
            json!({"networkAcls": {"bypass": "AzureServices", "defaultAction": "Allow", "ipRules": []}});
        let given = json!({"tenantId": "t", "sku": {}, "networkAcls": rules["networkAcls"]});
        assert_eq!(writable(&given, None).unwrap().get("networkAcls"), None);
    }

    #[test]
    fn vault_names_are_judged_as_azure_does() {
        for (name, good) in [
            ("myAKSKeyVault", true),
            ("ab", false),
            ("1abc", false),
            ("a--b", false),
            ("abc-", false),
        ] {
            assert_eq!(valid_name(name).is_ok(), good, "{name}");
        }
    }
}
