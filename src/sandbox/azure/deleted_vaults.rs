//! Vaults that are deleted and can be recovered, their purge, and the names they keep.

use http::{Method, StatusCode};
use serde_json::json;

use super::Azure;
use super::call::{Call, Reply, stamp};
use super::path::same;
use super::refusal::Refusal;
use super::tree;
use super::vault_calls::{said, written};
use super::vaults::{Vault, taken_name, valid_name};
use crate::sandbox::core::Effect;

impl Azure {
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
        let name = tree::text(&call.body, "name");
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
}

fn purge_token(name: &str) -> String {
    crate::sandbox::world::id_of(&format!("/purge/{}", name.to_ascii_lowercase())).replace('-', "")
}
