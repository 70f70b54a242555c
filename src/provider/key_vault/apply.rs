//! Makes a planned vault true, or deletes one. Whatever fails, the state that is returned was read back.

use super::explain;
use super::state::{self, differ, observed, settings};
use super::{KeyVaultResource, is_unfinished, schema};
use crate::azure::ids::{Role, VaultId};
use crate::azure::{Azure, DeletedKeyVault, Error, KeyVaultSettings};
use crate::framework::{ApplyRequest, ApplyResponse, Deadline, Diagnostic, Diagnostics, Value};
use crate::provider::explain::Changed;
use crate::provider::operation::{Halt, keep_promises, last_look, resumes, wished_tags, within};

/// An apply that did not do all: what to tell, and whether something may have been written.
struct Failure {
    diagnostic: Diagnostic,
    wrote: bool,
}

impl Failure {
    fn before_writing(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostic,
            wrote: false,
        }
    }
}

/// One apply under way.
struct Work<'a> {
    azure: &'a Azure,
    id: &'a VaultId,
    prior: &'a Value,
    planned: &'a Value,
    deadline: &'a Deadline,
    warnings: Diagnostics,
    grant: Value,
}

/// Creates or updates.
pub(super) async fn write(resource: &KeyVaultResource, request: ApplyRequest) -> ApplyResponse {
    let ready = resource.configured.need().and_then(|world| {
        let id = schema::id(&request.planned).unwrap_or_default();
        let id = VaultId::parse(&id).map_err(|error| Diagnostic::bug(error.to_string()))?;
        Ok((world, id))
    });
    let (world, id) = match ready {
        Ok(ready) => ready,
        Err(diagnostic) => return unchanged(request.prior, Diagnostics::from(diagnostic)),
    };
    let mut work = Work {
        azure: world.azure(),
        id: &id,
        prior: &request.prior,
        planned: &request.planned,
        deadline: &request.deadline,
        warnings: Diagnostics::new(),
        grant: request.prior.get("caller_grant").clone(),
    };
    let done = if request.prior.is_null() && !resumes(&request.private) {
        work.create().await
    } else {
        work.update().await
    };
    let mut diagnostics = std::mem::take(&mut work.warnings);
    let state = match done {
        Ok(mut state) => {
            state.set("caller_grant", work.grant.clone());
            keep_promises(&request.planned, &mut state);
            state
        }
        Err(failure) => {
            diagnostics.push(failure.diagnostic);
            if !failure.wrote {
                return unchanged(request.prior, diagnostics);
            }
            work.what_is_there().await
        }
    };
    ApplyResponse {
        state,
        private: Default::default(),
        diagnostics,
    }
}

fn unchanged(prior: Value, diagnostics: Diagnostics) -> ApplyResponse {
    ApplyResponse {
        state: prior,
        private: Default::default(),
        diagnostics,
    }
}

impl Work<'_> {
    async fn create(&mut self) -> Result<Value, Failure> {
        let azure = self.azure;
        let (existing, tenant) = within(self.deadline, async {
            let existing = azure.key_vault(self.id).await?;
            Ok((existing, azure.caller().await?.tenant))
        })
        .await
        .map_err(|halt| Failure::before_writing(told(&halt, "look for the vault", &Changed::nothing())))?;
        if existing.is_some() {
            return Err(Failure::before_writing(explain::vault_exists(self.id)));
        }
        let wanted = settings(self.planned, &tenant);
        let location = self.planned.get("location").as_str().unwrap_or_default();
        match within(self.deadline, azure.create_key_vault(self.id, location, &wanted)).await {
            Ok(()) => {}
            Err(Halt::Azure(error @ Error::Conflict { .. })) => self.recover(&wanted, error).await?,
            Err(halt) => return Err(self.after_write(&halt, "create the vault")),
        }
        self.finish(&wanted).await
    }

    /// The name is taken: by a deleted vault of ours, which comes back, or by somebody.
    async fn recover(&mut self, wanted: &KeyVaultSettings, taken: Error) -> Result<(), Failure> {
        let deleted = within(self.deadline, self.azure.deleted_key_vault(self.id)).await;
        let deleted = deleted.map_err(|halt| {
            Failure::before_writing(told(
                &halt,
                "look for a deleted vault of the name",
                &Changed::nothing(),
            ))
        })?;
        let Some(deleted) = deleted else {
            return Err(Failure::before_writing(explain::vault_name_taken(
                self.id, &taken,
            )));
        };
        if let Some(why) = self.not_recoverable(&deleted, wanted) {
            return Err(Failure::before_writing(explain::deleted_vault(&deleted, &why)));
        }
        match within(self.deadline, self.azure.recover_key_vault(&deleted, wanted)).await {
            Ok(()) => {
                self.warnings.push(explain::vault_recovered(self.id));
                Ok(())
            }
            Err(halt) => Err(self.after_write(&halt, "recover the vault")),
        }
    }

    /// Why a deleted vault must not come back in place of the planned one.
    fn not_recoverable(&self, deleted: &DeletedKeyVault, wanted: &KeyVaultSettings) -> Option<String> {
        if self.planned.get("recover_soft_deleted").as_bool() == Some(false) {
            return Some("recover_soft_deleted is false".to_owned());
        }
        if deleted.id != *self.id {
            return Some("it is of another resource group than this one".to_owned());
        }
        if deleted.purge_protection && !wanted.purge_protection {
            return Some("it has purge protection, and purge_protection_enabled is false".to_owned());
        }
        let days = deleted
            .retention_days
            .filter(|days| *days != wanted.retention_days);
        days.map(|days| format!("its soft_delete_retention_days are {days} and cannot be changed"))
    }

    async fn update(&mut self) -> Result<Value, Failure> {
        let tenant = within(self.deadline, self.azure.caller())
            .await
            .map_err(|halt| {
                Failure::before_writing(told(&halt, "find out who is calling", &Changed::nothing()))
            })?
            .tenant;
        let wanted = settings(self.planned, &tenant);
        self.finish(&wanted).await
    }

    /// From a vault that exists to one that is as planned.
    async fn finish(&mut self, wanted: &KeyVaultSettings) -> Result<Value, Failure> {
        let (azure, id) = (self.azure, self.id);
        let ready = within(self.deadline, azure.key_vault_ready(id)).await;
        let mut vault = ready.map_err(|halt| self.after_write(&halt, "wait until the vault is ready"))?;
        let wished = KeyVaultSettings {
            tags: wished_tags(&vault.settings.tags, self.prior, self.planned),
            ..wanted.clone()
        };
        if differ(&vault.settings, &wished) {
            let changing = async {
                azure.change_key_vault(id, &wished).await?;
                azure.key_vault_ready(id).await
            };
            vault = within(self.deadline, changing)
                .await
                .map_err(|halt| self.after_write(&halt, "change the vault"))?;
        }
        self.grant().await?;
        Ok(observed(self.planned, id.as_str(), &vault))
    }

    /// The caller's role, as wished.
    async fn grant(&mut self) -> Result<(), Failure> {
        let wished = self.planned.get("grant_caller").as_bool() == Some(true);
        if wished && self.grant.is_null() {
            let description = "kvtls: whoever runs Terraform makes certificates here";
            let role = Role::KeyVaultCertificatesOfficer;
            let granting = self
                .azure
                .assign_role_to_caller(self.id.as_str(), role, description);
            let granted = within(self.deadline, granting).await;
            let (assignment, made) = granted.map_err(|halt| Failure {
                diagnostic: told(&halt, "give the caller its role", &self.changed())
                    .at(crate::framework::AttributePath::of("grant_caller")),
                wrote: true,
            })?;
            self.grant = state::grant(&assignment, made);
        }
        if !wished && !self.grant.is_null() {
            self.revoke().await;
        }
        Ok(())
    }

    async fn revoke(&mut self) {
        let id = self.grant.get("id").as_str().unwrap_or_default().to_owned();
        if self.grant.get("managed").as_bool() == Some(true)
            && let Err(halt) = within(self.deadline, self.azure.remove_role_assignment(&id)).await
        {
            self.warnings.push(explain::caller_grant_kept(&id, &why(&halt)));
        }
        self.grant = Value::Null;
    }

    fn changed(&self) -> Changed {
        if self.prior.is_null() {
            Changed::done(format!("vault \"{}\" exists", self.id.name()))
        } else {
            Changed::nothing()
        }
    }

    fn after_write(&self, halt: &Halt, what: &str) -> Failure {
        // A refusal is certain, silence is not.
        let refused = matches!(
            halt,
            Halt::Azure(Error::Forbidden { .. } | Error::Rejected { .. } | Error::Throttled { .. })
        );
        let creating = what == "create the vault" || what == "recover the vault";
        if refused && creating {
            return Failure::before_writing(told(halt, what, &Changed::nothing()));
        }
        Failure {
            diagnostic: told(halt, what, &self.changed()),
            wrote: true,
        }
    }

    /// The state after a failure: read back, or what is certain. Without an address it counts as unfinished.
    async fn what_is_there(&self) -> Value {
        let Some(seen) = last_look(self.azure.key_vault(self.id)).await else {
            return self.uncertain();
        };
        let Some(vault) = seen else {
            return self.prior.clone();
        };
        let mut state = observed(self.planned, self.id.as_str(), &vault);
        state.set("caller_grant", self.grant.clone());
        if self.prior.is_null() || is_unfinished(self.prior) {
            state.set("vault_uri", Value::Null);
        }
        state
    }

    fn uncertain(&self) -> Value {
        if !self.prior.is_null() {
            return self.prior.clone();
        }
        let mut state = self.planned.clone();
        state.set("id", self.id.as_str());
        state.set("caller_grant", self.grant.clone());
        state
    }
}

fn told(halt: &Halt, what: &str, changed: &Changed) -> Diagnostic {
    explain::halted(halt, what, changed)
}

fn why(halt: &Halt) -> String {
    match halt {
        Halt::Azure(error) => error.service_said(),
        Halt::Stopped => "Terraform was asked to stop".to_owned(),
        Halt::TooLate => "the operation's time was over".to_owned(),
    }
}

/// Deletes, and purges if wished.
pub(super) async fn delete(resource: &KeyVaultResource, request: ApplyRequest) -> ApplyResponse {
    let gone = |diagnostics| ApplyResponse {
        state: Value::Null,
        private: Default::default(),
        diagnostics,
    };
    if resumes(&request.private) {
        // The creation that follows completes what is there.
        return gone(Diagnostics::new());
    }
    let ready = resource.configured.need().and_then(|world| {
        let id = request.prior.get("id").as_str().unwrap_or_default();
        let id = VaultId::parse(id).map_err(|error| Diagnostic::bug(error.to_string()))?;
        Ok((world, id))
    });
    let (world, id) = match ready {
        Ok(ready) => ready,
        Err(diagnostic) => return unchanged(request.prior, Diagnostics::from(diagnostic)),
    };
    let azure = world.azure();
    let mut diagnostics = Diagnostics::new();
    let grant = request.prior.get("caller_grant");
    if let (Some(id), Some(true)) = (grant.get("id").as_str(), grant.get("managed").as_bool())
        && let Err(halt) = within(&request.deadline, azure.remove_role_assignment(id)).await
    {
        diagnostics.push(explain::caller_grant_kept(id, &why(&halt)));
    }
    if let Err(halt) = within(&request.deadline, azure.delete_key_vault(&id)).await {
        diagnostics.push(told(&halt, "delete the vault", &Changed::nothing()));
        let is_gone = matches!(last_look(azure.key_vault(&id)).await, Some(None));
        let state = if is_gone { Value::Null } else { request.prior };
        return ApplyResponse {
            state,
            private: Default::default(),
            diagnostics,
        };
    }
    if request.prior.get("purge_on_destroy").as_bool() == Some(true) {
        let purging = async {
            match azure.deleted_key_vault(&id).await? {
                Some(deleted) => azure.purge_key_vault(&deleted).await,
                None => Ok(()),
            }
        };
        if let Err(halt) = within(&request.deadline, purging).await {
            diagnostics.push(explain::vault_not_purged(&id, &why(&halt)));
        }
    }
    gone(diagnostics)
}
