//! Vaults on the control plane: create, change, access policies, soft delete, purge.
//!
//! A write reads the vault, takes a moment, and is refused if the vault changed meanwhile: two writers at once are
//! one too many, as on Azure.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::access::Question;
use super::call::{Call, Reply, stamp};
use super::cluster_document as document;
use super::key_vault::Objects;
use super::path::same;
use super::refusal::Refusal;
use super::{Azure, State};
use crate::sandbox::core::Effect;
use crate::sandbox::entra::PrincipalKind;

/// The first api-version under which a new vault gets Azure RBAC unless it says otherwise.
const RBAC_SINCE: &str = "2026-02-01";

/// How long a write takes, really: long enough for two at once to meet.
const WRITE: Duration = Duration::from_millis(15);

/// What the vault service says it is.
const SERVICE_VERSION: &str = "1.5.1086.0";

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
        document::text(&self.properties, "tenantId")
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
    fn body(&self, uri: &str, now: OffsetDateTime, fresh: bool) -> Value {
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
        document::set(&mut properties, "vaultUri", json!(uri));
        document::set(&mut properties, "provisioningState", json!(state));
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

    fn deleted_body(&self) -> Value {
        let at = self.deleted.map_or(self.modified.at, |deleted| deleted.at);
        let mut properties = json!({
            "vaultId": self.id(),
            "location": self.location,
            "tags": self.tags,
            "deletionDate": stamp(at, 0),
            "scheduledPurgeDate": stamp(at + time::Duration::days(self.retention()), 0),
        });
        if self.properties["enablePurgeProtection"] == true {
            document::set(&mut properties, "purgeProtectionEnabled", json!(true));
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

impl Azure {
    /// Calls on one vault, or on all of a scope.
    pub(super) async fn vault_call(&self, call: &Call) -> Result<Reply, Refusal> {
        match call.method {
            Method::GET if call.path.is_named() => {
                let state = self.lock();
                let vault = state.vault(call)?;
                Ok(said(Reply::ok(self.vault_body(vault, call, false))))
            }
            Method::GET => Ok(said(self.list_vaults(call))),
            Method::PUT | Method::PATCH => self.write_vault(call).await.map(written),
            Method::DELETE => Ok(said(self.delete_vault(call))),
            _ => Err(Refusal::unplayed("this method on a vault")),
        }
    }

    fn vault_body(&self, vault: &Vault, call: &Call, fresh: bool) -> Value {
        vault.body(
            &self.core.names.vault_uri(&vault.name, &call.asked_as),
            call.now,
            fresh,
        )
    }

    fn list_vaults(&self, call: &Call) -> Reply {
        let state = self.lock();
        let value: Vec<_> = state
            .vaults
            .iter()
            .filter(|vault| vault.deleted.is_none() && same(&vault.subscription, call.subscription()))
            .filter(|vault| call.group().is_empty() || same(&vault.group, call.group()))
            .map(|vault| self.vault_body(vault, call, false))
            .collect();
        Reply::ok(json!({"value": value}))
    }

    async fn write_vault(&self, call: &Call) -> Result<Reply, Refusal> {
        let known = self.lock().vault(call).map(|vault| vault.revision);
        match known {
            Ok(revision) => {
                self.take_a_moment().await;
                let mut state = self.lock();
                self.may_set_model(&state, call)?;
                let vault = state.vault_mut(call)?;
                unchanged(vault, revision)?;
                let set = writable(&call.body["properties"], Some(vault))?;
                document::merge_over(&mut vault.properties, &set);
                if call.body["tags"].is_object() {
                    vault.tags = call.body["tags"].clone();
                }
                self.touch(vault, call);
                let vault = state.vault(call)?;
                Ok(Reply::ok(self.vault_body(vault, call, false)))
            }
            Err(missing) if call.method == Method::PATCH => Err(missing),
            Err(_) => self.create_vault(call).await,
        }
    }

    async fn create_vault(&self, call: &Call) -> Result<Reply, Refusal> {
        let name = call.name(0);
        valid_name(name)?;
        let recover = document::text(&call.body, "properties.createMode") == "recover";
        {
            let mut state = self.lock();
            if let Some(index) = state.vaults.iter().position(|vault| same(&vault.name, name)) {
                let vault = &state.vaults[index];
                let mine = vault.deleted.is_some() && same(&vault.id(), &call.path.id());
                match (mine && recover, vault.deleted.is_some()) {
                    (true, _) => {}
                    (false, true) => return Err(deleted_name()),
                    (false, false) => return Err(taken_name(name)),
                }
                state.vaults[index].deleted = None;
                state.vaults[index].dns_at = call.now + self.core.lags.get("vault_dns");
                self.touch(&mut state.vaults[index], call);
            } else {
                state.vaults.push(self.new_vault(call)?);
            }
        }
        self.open_vault(name).await;
        let dns = self.lock().vault(call)?.dns_at;
        self.wake_at(dns, format!("DNS of vault {name}"));
        let state = self.lock();
        Ok(Reply::ok(self.vault_body(state.vault(call)?, call, true)).effect(Effect::Created))
    }

    fn new_vault(&self, call: &Call) -> Result<Vault, Refusal> {
        let location = document::text(&call.body, "location")
            .replace(' ', "")
            .to_ascii_lowercase();
        if location.is_empty() {
            return Err(Refusal::gateway(
                StatusCode::BAD_REQUEST,
                "LocationRequired",
                "The location property is required for this definition.",
            ));
        }
        let given = writable(&call.body["properties"], None)?;
        let mut properties = json!({"accessPolicies": [], "enabledForDeployment": false});
        document::merge_over(&mut properties, &given);
        document::set(&mut properties, "enableSoftDelete", json!(true));
        if properties.get("publicNetworkAccess").is_none() {
            document::set(&mut properties, "publicNetworkAccess", json!("Enabled"));
        }
        if properties.get("enableRbacAuthorization").is_none() && call.version.as_str() >= RBAC_SINCE {
            document::set(&mut properties, "enableRbacAuthorization", json!(true));
        }
        let touch = self.touch_of(call);
        Ok(Vault {
            name: call.name(0).to_owned(),
            subscription: call.subscription().to_owned(),
            group: call.group().to_owned(),
            location,
            tags: if call.body["tags"].is_object() {
                call.body["tags"].clone()
            } else {
                json!({})
            },
            properties,
            created: touch.clone(),
            modified: touch,
            dns_at: call.now + self.core.lags.get("vault_dns"),
            revision: 1,
            deleted: None,
            objects: Objects::default(),
        })
    }

    /// Gives a vault its port and name.
    pub(super) async fn open_vault(&self, name: &str) {
        if let Err(error) = self.core.names.open_vault(name).await {
            tracing::error!(%error, vault = name, "a vault has no port");
        }
    }

    fn delete_vault(&self, call: &Call) -> Reply {
        let mut state = self.lock();
        let Ok(vault) = state.vault_mut(call) else {
            return Reply::empty(StatusCode::NO_CONTENT).effect(Effect::None);
        };
        vault.deleted = Some(Deleted {
            at: call.now,
            purge: None,
        });
        self.core.names.close_vault(&vault.name);
        Reply::empty(StatusCode::OK)
            .header("x-ms-ratelimit-remaining-subscription-deletes", "14999")
            .effect(Effect::Deleted)
    }

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
        document::set(&mut vault.properties, "accessPolicies", json!(stored));
        self.touch(vault, call);
        let body = json!({
            "id": format!("{}/accessPolicies/", vault.id()),
            "type": "Microsoft.KeyVault/vaults/accessPolicies",
            "properties": {"accessPolicies": stored},
        });
        Ok(written(Reply::ok(body)))
    }

    /// `GET …/deletedVaults[/NAME]` and `POST …/purge`.
    pub(super) fn deleted_vault_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let mut state = self.lock();
        if !call.path.is_named() && call.method == Method::GET {
            let deleted = state.vaults.iter().filter(|vault| vault.deleted.is_some());
            let value: Vec<_> = deleted.map(Vault::deleted_body).collect();
            return Ok(said(Reply::ok(json!({"value": value}))));
        }
        let (location, name) = (call.name(0).to_owned(), call.name(1).to_owned());
        let found = state.vaults.iter_mut().find(|vault| {
            vault.deleted.is_some() && same(&vault.name, &name) && same(&vault.location, &location)
        });
        let Some(vault) = found else {
            return Err(Refusal::provider(
                StatusCode::NOT_FOUND,
                "DeletedVaultNotFound",
                format!("The specified deleted vault '{name}' does not exist."),
            ));
        };
        if call.method == Method::GET {
            return Ok(said(Reply::ok(vault.deleted_body())));
        }
        if vault.properties["enablePurgeProtection"] == true {
            return Err(Refusal::provider(
                StatusCode::BAD_REQUEST,
                "DeletedVaultPurge",
                "Operation \"DeletedVaultPurge\" is not allowed because purge protection is enabled for this vault. Key \
                 Vault service will automatically purge it after the retention period has passed.",
            ));
        }
        let done = call.now + self.core.lags.get("purge");
        if let Some(deleted) = &mut vault.deleted {
            deleted.purge = Some((call.now, done));
        }
        self.wake_at(done, format!("purge of vault {name}"));
        let base = self.core.names.arm_base(&call.asked_as);
        let target = format!(
            "{base}/subscriptions/{}/providers/Microsoft.KeyVault/locations/{location}/operationResults/{}?api-version={}",
            call.subscription(),
            purge_token(&name),
            call.version
        );
        let reply = written(Reply::empty(StatusCode::ACCEPTED))
            .header("location", target)
            .header("retry-after", "5");
        Ok(said(reply.effect(Effect::Deleted)))
    }

    /// A poll of a purge.
    pub(super) fn purge_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let state = self.lock();
        let token = call.name(1);
        let found = state.purges.iter().find(|purge| purge_token(&purge.0) == token);
        if let Some((_, began, done)) = found {
            let body = json!({
                "createdDateTime": stamp(*began, 0).replace('T', " "),
                "lastActionDateTime": stamp(*done, 0).replace('T', " "),
                "status": "Succeeded",
            });
            return Ok(said(Reply::ok(body)));
        }
        let began = state
            .vaults
            .iter()
            .find(|vault| purge_token(&vault.name) == token)
            .and_then(|vault| vault.deleted.and_then(|deleted| deleted.purge));
        match began {
            Some((began, _)) => {
                let base = self.core.names.arm_base(&call.asked_as);
                let body =
                    json!({"createdDateTime": stamp(began, 0).replace('T', " "), "status": "NotStarted"});
                let reply = Reply::new(StatusCode::ACCEPTED, body)
                    .header("location", format!("{base}{}", call.target))
                    .header("retry-after", "5");
                Ok(said(reply))
            }
            None => Err(Refusal::provider(
                StatusCode::NOT_FOUND,
                "NotFound",
                "The operation could not be found.",
            )),
        }
    }

    /// `POST …/checkNameAvailability`.
    pub(super) fn name_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let name = document::text(&call.body, "name");
        let body = match valid_name(name) {
            Err(refusal) => {
                json!({"nameAvailable": false, "reason": "AccountNameInvalid", "message": refusal.message})
            }
            Ok(()) if self.lock().vaults.iter().any(|vault| same(&vault.name, name)) => {
                json!({"nameAvailable": false, "reason": "AlreadyExists", "message": taken_name(name).message})
            }
            Ok(()) => json!({"nameAvailable": true}),
        };
        Ok(said(Reply::ok(body).effect(Effect::None)))
    }

    /// Only who may assign roles may change who decides on the vault's data.
    fn may_set_model(&self, state: &State, call: &Call) -> Result<(), Refusal> {
        let vault = state.vault(call)?;
        let asked = call.body["properties"]["enableRbacAuthorization"].as_bool();
        let action = "Microsoft.Authorization/roleAssignments/write";
        let principals = call.principals();
        let id = vault.id();
        let question = Question {
            principals: &principals,
            action,
            scope: &id,
            data: false,
            now: call.now,
        };
        if asked.is_none_or(|asked| asked == vault.is_rbac()) || state.access.allows(question) {
            return Ok(());
        }
        Err(Refusal::provider(
            StatusCode::FORBIDDEN,
            "InsufficientPermissions",
            format!(
                "Caller is not allowed to change permission model. For more information on how to change the \
                 permissions model follow this link: https://go.microsoft.com/fwlink/?linkid=2155160. Details: \
                 oid={}; action={action}; resource={id}; decision=NotAllowed;",
                call.caller.oid
            ),
        ))
    }

    /// The time a write takes, in real milliseconds whatever the clock's rate.
    async fn take_a_moment(&self) {
        let moment = WRITE.mul_f64(self.core.clock.rate().max(0.001));
        self.core.clock.sleep(moment, "a vault is being written").await;
    }

    fn touch(&self, vault: &mut Vault, call: &Call) {
        vault.revision += 1;
        vault.modified = self.touch_of(call);
    }

    fn touch_of(&self, call: &Call) -> Touch {
        let principal = self.core.directory.principal_by_oid(&call.caller.oid);
        let user = principal.is_some_and(|principal| principal.kind == PrincipalKind::User);
        Touch {
            by: call
                .caller
                .app_id
                .clone()
                .unwrap_or_else(|| call.caller.oid.clone()),
            kind: if user { "User" } else { "Application" },
            at: call.now,
        }
    }
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

    fn vault_mut(&mut self, call: &Call) -> Result<&mut Vault, Refusal> {
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
fn unchanged(vault: &Vault, revision: u64) -> Result<(), Refusal> {
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
fn writable(properties: &Value, stored: Option<&Vault>) -> Result<Value, Refusal> {
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
        document::set(stored, &format!("permissions.{kind}"), json!(old));
    }
}

fn contains(list: &[Value], one: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_ascii_lowercase();
    list.iter().any(|each| text(each) == text(one))
}

fn valid_name(name: &str) -> Result<(), Refusal> {
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

fn taken_name(name: &str) -> Refusal {
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

fn deleted_name() -> Refusal {
    Refusal::provider(
        StatusCode::CONFLICT,
        "ConflictError",
        "A vault with the same name already exists in deleted state. You need to either recover or purge existing key \
         vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.",
    )
}

fn purge_token(name: &str) -> String {
    crate::sandbox::world::id_of(&format!("/purge/{}", name.to_ascii_lowercase())).replace('-', "")
}

/// What answers to writes carry beside.
fn written(reply: Reply) -> Reply {
    said(reply.header("x-ms-ratelimit-remaining-subscription-writes", "1199"))
}

/// The header all answers of the vault service carry.
fn said(reply: Reply) -> Reply {
    reply.header("x-ms-keyvault-service-version", SERVICE_VERSION)
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
