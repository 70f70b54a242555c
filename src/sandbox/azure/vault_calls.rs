//! Calls on vaults: read, create, change, delete.
//!
//! A write reads the vault, takes a moment, and is refused if the vault changed meanwhile: two writers at once are
//! one too many, as on Azure.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::access::Question;
use super::call::{Call, Reply};
use super::key_vault::Objects;
use super::path::same;
use super::refusal::Refusal;
use super::tree;
use super::vaults::{Deleted, Touch, Vault, deleted_name, taken_name, unchanged, valid_name, writable};
use super::{Azure, State};
use crate::sandbox::core::Effect;
use crate::sandbox::entra::PrincipalKind;

/// The first api-version under which a new vault gets Azure RBAC unless it says otherwise.
const RBAC_SINCE: &str = "2026-02-01";

/// How long a write takes, really: long enough for two at once to meet.
const WRITE: Duration = Duration::from_millis(15);

/// What the vault service says it is.
const SERVICE_VERSION: &str = "1.5.1086.0";

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
                tree::merge_over(&mut vault.properties, &set);
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
        let recover = tree::text(&call.body, "properties.createMode") == "recover";
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
        let location = call.location()?;
        let given = writable(&call.body["properties"], None)?;
        let mut properties = json!({"accessPolicies": [], "enabledForDeployment": false});
        tree::merge_over(&mut properties, &given);
        tree::set(&mut properties, "enableSoftDelete", json!(true));
        if properties.get("publicNetworkAccess").is_none() {
            tree::set(&mut properties, "publicNetworkAccess", json!("Enabled"));
        }
        if properties.get("enableRbacAuthorization").is_none() && call.version.as_str() >= RBAC_SINCE {
            tree::set(&mut properties, "enableRbacAuthorization", json!(true));
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
    pub(super) async fn take_a_moment(&self) {
        let moment = WRITE.mul_f64(self.core.clock.rate().max(0.001));
        self.core.clock.sleep(moment, "a vault is being written").await;
    }

    pub(super) fn touch(&self, vault: &mut Vault, call: &Call) {
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

/// What answers to writes carry beside.
pub(super) fn written(reply: Reply) -> Reply {
    said(reply.header("x-ms-ratelimit-remaining-subscription-writes", "1199"))
}

/// The header all answers of the vault service carry.
pub(super) fn said(reply: Reply) -> Reply {
    reply.header("x-ms-keyvault-service-version", SERVICE_VERSION)
}
