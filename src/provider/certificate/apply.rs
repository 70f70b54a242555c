//! Makes a planned certificate true, or removes one. Whatever fails, the state that is returned was read back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::patience::Patience;
use super::plan::{Reason, is_due, reason};
use super::state::{self, observed};
use super::{CertificateResource, SEEN_AT, explain, id, pem};
use crate::azure::ids::VaultId;
use crate::azure::{
    Azure, CertificateBundle, CertificateOperation, CertificateUpload, Error, KeyVault, OperationState,
    Secret,
};
use crate::framework::resource::Private;
use crate::framework::{ApplyRequest, ApplyResponse, Deadline, Diagnostic, Diagnostics, Value};
use crate::provider::explain::{Changed, vaults};
use crate::provider::operation::{Halt, keep_promises, last_look, resumes, wished_tags, within};

/// An apply that did not do all: what to tell, and whether something may have been written.
struct Failure {
    diagnostic: Diagnostic,
    wrote: bool,
}

/// One apply under way.
struct Work<'a> {
    azure: &'a Azure,
    vault: &'a VaultId,
    name: &'a str,
    prior: &'a Value,
    planned: &'a Value,
    private: &'a Private,
    upload: Option<CertificateUpload>,
    deadline: &'a Deadline,
    warnings: Diagnostics,
    /// Whether a write was sent that may have had an effect.
    wrote: bool,
}

/// Creates or updates.
pub(super) async fn write(resource: &CertificateResource, mut request: ApplyRequest) -> ApplyResponse {
    let upload = upload(&mut request.config);
    let ready = resource.configured.need().and_then(|world| {
        let vault = request.planned.get("key_vault_id").as_str().unwrap_or_default();
        let vault = VaultId::parse(vault).map_err(|error| Diagnostic::bug(error.to_string()))?;
        Ok((world, vault))
    });
    let (world, vault_id) = match ready {
        Ok(ready) => ready,
        Err(diagnostic) => return unchanged(request, Diagnostics::from(diagnostic)),
    };
    let mut work = Work {
        azure: world.azure(),
        vault: &vault_id,
        name: request.planned.get("name").as_str().unwrap_or_default(),
        prior: &request.prior,
        planned: &request.planned,
        private: &request.private,
        upload,
        deadline: &request.deadline,
        warnings: Diagnostics::new(),
        wrote: false,
    };
    let id = id(&request.planned).unwrap_or_default();
    let done = work.run().await;
    let mut diagnostics = std::mem::take(&mut work.warnings);
    match done {
        Ok((vault, bundle)) => {
            let mut state = observed(&request.planned, &id, &vault.uri, work.name, &bundle);
            keep_promises(&request.planned, &mut state);
            ApplyResponse {
                state,
                private: seen_at(&bundle),
                diagnostics,
            }
        }
        Err(failure) => {
            diagnostics.push(failure.diagnostic);
            if !failure.wrote {
                return unchanged(request, diagnostics);
            }
            let (state, private) = work.what_is_there(&id).await;
            ApplyResponse {
                state,
                private,
                diagnostics,
            }
        }
    }
}

fn seen_at(bundle: &CertificateBundle) -> Private {
    let seen_at = bundle.certificate.seen_at.unix_timestamp();
    Private::from([(SEEN_AT.to_owned(), seen_at.into())])
}

fn unchanged(request: ApplyRequest, diagnostics: Diagnostics) -> ApplyResponse {
    ApplyResponse {
        state: request.prior,
        private: Private::new(),
        diagnostics,
    }
}

/// What the configuration brings, taken out of it so that no copy stays.
fn upload(config: &mut Value) -> Option<CertificateUpload> {
    let import = config.as_map_mut()?.get_mut("import")?;
    let mut take = |name: &str| match import.as_map_mut()?.get_mut(name)? {
        Value::String(text) => Some(Secret::from(std::mem::take(text))),
        _ => None,
    };
    let (pfx, pem_text, password) = (take("pfx_wo"), take("pem_wo"), take("password_wo"));
    match (pfx, pem_text) {
        (Some(value), _) => Some(CertificateUpload {
            value,
            password,
            content_type: state::content_type("pfx"),
        }),
        (None, Some(text)) => Some(CertificateUpload {
            value: pem::key_first(text.expose()),
            password: None,
            content_type: state::content_type("pem"),
        }),
        (None, None) => None,
    }
}

type Done = (KeyVault, CertificateBundle);

impl Work<'_> {
    async fn run(&mut self) -> Result<Done, Failure> {
        let vault = self.vault().await?;
        let patience = Patience::with(self.azure, self.vault, &vault);
        let (azure, uri, name) = (self.azure, vault.uri.as_str(), self.name);
        let looking = patience.wait(async || {
            let bundle = azure.certificate_bundle(uri, name, None).await?;
            // A failed attempt of the past is no hindrance.
            Ok((bundle, azure.certificate_operation(uri, name).await?))
        });
        let (bundle, operation) = within(self.deadline, looking)
            .await
            .map_err(|halt| self.failure(&halt, "read the certificate"))?;
        let under_way = operation.filter(|it| matches!(it.state, OperationState::InProgress(_)));
        let bundle = if !self.prior.is_null() {
            self.update(&vault, &patience, bundle, under_way).await?
        } else if resumes(self.private) {
            self.resume(&vault, &patience, bundle, under_way).await?
        } else if bundle.is_some() {
            return Err(self.refused(explain::certificate_exists(self.vault, self.name)));
        } else if let Some(other) = under_way {
            return Err(self.refused(explain::request_under_way(self.vault, self.name, &other.issuer)));
        } else {
            self.make(&vault, &patience, None).await?
        };
        let bundle = self.set(&vault, bundle).await?;
        Ok((vault, bundle))
    }

    /// The vault, ready to take calls.
    async fn vault(&self) -> Result<KeyVault, Failure> {
        let (azure, id) = (self.azure, self.vault);
        let reading = async {
            match azure.key_vault(id).await? {
                Some(vault) if vault.provisioning_state == "RegisteringDns" => {
                    azure.key_vault_ready(id).await.map(Some)
                }
                other => Ok(other),
            }
        };
        within(self.deadline, reading)
            .await
            .map_err(|halt| self.failure(&halt, "read the vault"))?
            .ok_or_else(|| self.refused(vaults::no_vault(id)))
    }

    async fn update(
        &mut self,
        vault: &KeyVault,
        patience: &Patience<'_>,
        bundle: Option<CertificateBundle>,
        under_way: Option<CertificateOperation>,
    ) -> Result<CertificateBundle, Failure> {
        let reason = reason(self.prior, self.planned, self.private);
        let unfinished = super::is_unfinished(self.prior);
        if unfinished {
            return self.resume(vault, patience, bundle, under_way).await;
        }
        let Some(mut bundle) = bundle else {
            return Err(self.refused(explain::certificate_gone(self.vault, self.name)));
        };
        let Some(reason) = reason else { return Ok(bundle) };
        if under_way.is_some() {
            // The vault renews by itself, or somebody has it renewed: that comes first.
            bundle = self.issued(vault, None).await?;
        }
        let certificate = &bundle.certificate;
        let due = is_due(self.planned, certificate.leaf.not_after, certificate.seen_at);
        if reason == Reason::Due && !due {
            return Ok(bundle);
        }
        let made = self.make(vault, patience, Some(&bundle)).await?;
        let certificate = &made.certificate;
        if is_due(self.planned, certificate.leaf.not_after, certificate.seen_at) {
            let before = self.planned.get("renew_before").as_str().unwrap_or_default();
            let warning = explain::renewal_never_ends(self.name, certificate.leaf.not_after, before);
            self.warnings.push(warning);
        }
        Ok(made)
    }

    /// Goes on where a creation stopped.
    async fn resume(
        &mut self,
        vault: &KeyVault,
        patience: &Patience<'_>,
        bundle: Option<CertificateBundle>,
        under_way: Option<CertificateOperation>,
    ) -> Result<CertificateBundle, Failure> {
        self.wrote = true;
        match (bundle, under_way) {
            (_, Some(operation)) => self.issued(vault, Some(operation)).await,
            (Some(bundle), None) => Ok(bundle),
            (None, None) => self.make(vault, patience, None).await,
        }
    }

    /// A new version.
    async fn make(
        &mut self,
        vault: &KeyVault,
        patience: &Patience<'_>,
        old: Option<&CertificateBundle>,
    ) -> Result<CertificateBundle, Failure> {
        let recover = self.planned.get("recover_soft_deleted").as_bool() != Some(false);
        let mut recovered: Option<CertificateBundle> = None;
        loop {
            let old = recovered.as_ref().or(old);
            let error = match self.ask(vault, patience, old).await {
                Ok(made) => return Ok(made),
                Err(Asked::Failed(failure)) => return Err(failure),
                Err(Asked::Refused(error)) => error,
            };
            match error.code() {
                Some("ObjectIsDeletedButRecoverable") if recover && recovered.is_none() => {
                    recovered = Some(self.recover(vault).await?);
                }
                Some("ObjectIsDeletedButRecoverable") => {
                    return Err(self.refused(explain::deleted_certificate(self.vault, self.name)));
                }
                Some("ObjectIsBeingDeleted" | "ObjectIsBeingRecovered") => {
                    let pause = async {
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        Ok(())
                    };
                    within(self.deadline, pause)
                        .await
                        .map_err(|halt| self.failure(&halt, "wait until the old certificate is deleted"))?;
                }
                Some("CertificateRequestPending") => {
                    return Err(self.refused(explain::request_under_way(self.vault, self.name, "unknown")));
                }
                _ if matches!(error, Error::Rejected { .. }) && self.upload.is_some() => {
                    return Err(self.refused(explain::not_imported(self.vault, self.name, &error)));
                }
                _ => return Err(self.failure(&Halt::Azure(error), "make a new version of the certificate")),
            }
        }
    }

    /// Asks for a new version, and waits for it.
    async fn ask(
        &mut self,
        vault: &KeyVault,
        patience: &Patience<'_>,
        old: Option<&CertificateBundle>,
    ) -> Result<CertificateBundle, Asked> {
        let none = BTreeMap::new();
        let tags = wished_tags(old.map_or(&none, |old| &old.tags), self.prior, self.planned);
        let enabled = self.planned.get("enabled").as_bool() != Some(false);
        let (azure, uri, name) = (self.azure, vault.uri.as_str(), self.name);
        if let Some(policy) = state::policy(self.planned) {
            let policy = policy.onto(old.and_then(|old| old.policy.as_ref()));
            let asking = patience.wait(|| azure.create_certificate(uri, name, &policy, enabled, &tags));
            let operation = self.asked(within(self.deadline, asking).await)?;
            self.wrote = true;
            return self.issued(vault, Some(operation)).await.map_err(Asked::Failed);
        }
        let Some(upload) = self.upload.clone() else {
            let missing = Diagnostic::bug("An import was planned and nothing was brought.");
            return Err(Asked::Failed(self.refused(missing)));
        };
        let asking = patience.wait(|| azure.import_certificate(uri, name, &upload, enabled, &tags));
        let bundle = self.asked(within(self.deadline, asking).await)?;
        self.wrote = true;
        Ok(bundle)
    }

    /// A refusal had no effect; where the answer is not known, the write may have had one.
    fn asked<T>(&mut self, done: Result<T, Halt>) -> Result<T, Asked> {
        done.map_err(|halt| match halt {
            Halt::Azure(
                error @ (Error::Conflict { .. } | Error::Rejected { .. } | Error::Forbidden { .. }),
            ) => Asked::Refused(error),
            halt => {
                self.wrote = true;
                Asked::Failed(self.failure(&halt, "make a new version of the certificate"))
            }
        })
    }

    /// Waits until an operation has ended, and reads what it made. Of another's operation any end will do.
    async fn issued(
        &mut self,
        vault: &KeyVault,
        ours: Option<CertificateOperation>,
    ) -> Result<CertificateBundle, Failure> {
        let (azure, uri, name) = (self.azure, vault.uri.as_str(), self.name);
        let waiting = async {
            let mut wait = Duration::from_secs(1);
            loop {
                let operation = azure.certificate_operation(uri, name).await?;
                match operation.map(|it| it.state) {
                    Some(OperationState::InProgress(words)) => {
                        tracing::debug!(name, words, "the certificate is being issued");
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(Duration::from_secs(15));
                    }
                    other => return Ok(other),
                }
            }
        };
        let what = "wait until the certificate is issued";
        let ended = within(self.deadline, waiting)
            .await
            .map_err(|halt| self.failure(&halt, what))?;
        let refusal = match ended {
            Some(OperationState::Failed(code, message)) => Some((code, message)),
            Some(OperationState::Cancelled) => {
                Some((String::new(), "somebody called the request off".to_owned()))
            }
            Some(OperationState::Completed | OperationState::InProgress(_)) | None => None,
        };
        if let (Some((code, message)), true) = (refusal, ours.is_some()) {
            return Err(self.not_issued(vault, &code, &message).await);
        }
        let reading = async {
            // The version can be a moment behind the end of its operation.
            for _ in 0..10 {
                if let Some(bundle) = azure.certificate_bundle(uri, name, None).await? {
                    return Ok(Some(bundle));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(None)
        };
        within(self.deadline, reading)
            .await
            .map_err(|halt| self.failure(&halt, "read the new version"))?
            .ok_or_else(|| Failure {
                diagnostic: explain::not_issued(self.vault, self.name, "", "no version appeared", false),
                wrote: true,
            })
    }

    /// Clears a request that failed, so that the next one is not in its way, and says so.
    async fn not_issued(&mut self, vault: &KeyVault, code: &str, message: &str) -> Failure {
        let clearing = self.azure.forget_certificate_operation(&vault.uri, self.name);
        let cleared = within(self.deadline, clearing).await.is_ok();
        Failure {
            diagnostic: explain::not_issued(self.vault, self.name, code, message, cleared),
            // Nothing of a creation is left then.
            wrote: !(cleared && self.prior.is_null()),
        }
    }

    async fn recover(&mut self, vault: &KeyVault) -> Result<CertificateBundle, Failure> {
        let (azure, uri, name) = (self.azure, vault.uri.as_str(), self.name);
        self.wrote = true;
        let recovering = async {
            azure.recover_certificate(uri, name).await?;
            azure.certificate_bundle(uri, name, None).await
        };
        let bundle = within(self.deadline, recovering)
            .await
            .map_err(|halt| self.failure(&halt, "recover the deleted certificate"))?;
        self.warnings
            .push(explain::certificate_recovered(self.vault, self.name));
        bundle.ok_or_else(|| self.refused(explain::certificate_gone(self.vault, self.name)))
    }

    /// Switch and tags of the newest version.
    async fn set(
        &mut self,
        vault: &KeyVault,
        bundle: CertificateBundle,
    ) -> Result<CertificateBundle, Failure> {
        let enabled = self.planned.get("enabled").as_bool() != Some(false);
        let tags = wished_tags(&bundle.tags, self.prior, self.planned);
        if bundle.certificate.enabled == enabled && bundle.tags == tags {
            return Ok(bundle);
        }
        let (azure, uri, name) = (self.azure, vault.uri.as_str(), self.name);
        let changing = async {
            azure
                .change_certificate(uri, name, &bundle.certificate.version, enabled, &tags)
                .await?;
            azure.certificate_bundle(uri, name, None).await
        };
        self.wrote |= !self.prior.is_null();
        let changed = within(self.deadline, changing)
            .await
            .map_err(|halt| self.failure(&halt, "change the certificate's attributes"))?;
        changed.ok_or_else(|| self.refused(explain::certificate_gone(self.vault, self.name)))
    }

    fn failure(&self, halt: &Halt, what: &str) -> Failure {
        let changed = if self.wrote && self.prior.is_null() {
            Changed::done(format!("certificate \"{}\" was asked for", self.name))
        } else {
            Changed::nothing()
        };
        Failure {
            diagnostic: vaults::data_plane(halt, self.vault, what, &changed),
            wrote: self.wrote,
        }
    }

    fn refused(&self, diagnostic: Diagnostic) -> Failure {
        Failure {
            diagnostic,
            wrote: self.wrote,
        }
    }

    /// The state after a failure: read back, or what is certain. A creation without its version counts as unfinished.
    async fn what_is_there(&self, id: &str) -> (Value, Private) {
        let (azure, name) = (self.azure, self.name);
        let looking = async {
            let Some(vault) = azure.key_vault(self.vault).await? else {
                return Ok(None);
            };
            let bundle = azure.certificate_bundle(&vault.uri, name, None).await?;
            Ok(Some((vault.uri, bundle)))
        };
        let creating = self.prior.is_null() || super::is_unfinished(self.prior);
        match last_look(looking).await {
            Some(Some((uri, _))) if creating => {
                let mut state = self.planned.clone();
                state.set("id", id);
                state.set("versionless_secret_id", state::secret_id(&uri, name));
                (state, Private::new())
            }
            Some(Some((uri, Some(bundle)))) => {
                // What was planned and did not happen stays as it was, so that the next plan shows it again.
                let mut state = observed(self.prior, id, &uri, name, &bundle);
                if bundle.certificate.version != self.prior.get("version").as_str().unwrap_or_default() {
                    state.set("import", self.planned.get("import").clone());
                    state.set("renew_trigger", self.planned.get("renew_trigger").clone());
                }
                (state, seen_at(&bundle))
            }
            _ if creating => {
                let mut state = self.planned.clone();
                state.set("id", id);
                (state, Private::new())
            }
            _ => (self.prior.clone(), Private::new()),
        }
    }
}

/// Why there is no new version.
enum Asked {
    /// The vault said no.
    Refused(Error),
    /// Something else.
    Failed(Failure),
}

/// Removes as the state says.
pub(super) async fn delete(resource: &CertificateResource, request: ApplyRequest) -> ApplyResponse {
    let gone = |diagnostics| ApplyResponse {
        state: Value::Null,
        private: Private::new(),
        diagnostics,
    };
    let prior = &request.prior;
    let on_destroy = prior.get("on_destroy").as_str().unwrap_or("delete").to_owned();
    if resumes(&request.private) || on_destroy == "leave" {
        // The creation that follows completes what is there, or nobody wishes it gone.
        return gone(Diagnostics::new());
    }
    let ready = resource.configured.need().and_then(|world| {
        let vault = prior.get("key_vault_id").as_str().unwrap_or_default();
        let vault = VaultId::parse(vault).map_err(|error| Diagnostic::bug(error.to_string()))?;
        Ok((world, vault))
    });
    let (world, vault_id) = match ready {
        Ok(ready) => ready,
        Err(diagnostic) => return unchanged(request, Diagnostics::from(diagnostic)),
    };
    let azure = world.azure();
    let name = prior.get("name").as_str().unwrap_or_default();
    let unfinished = super::is_unfinished(prior);
    let deleting = async {
        let Some(vault) = azure.key_vault(&vault_id).await? else {
            return Ok(None);
        };
        if unfinished {
            azure.forget_certificate_operation(&vault.uri, name).await?;
        }
        azure.delete_certificate(&vault.uri, name).await?;
        Ok(Some(vault.uri))
    };
    let uri = match within(&request.deadline, deleting).await {
        Ok(Some(uri)) => uri,
        Ok(None) => return gone(Diagnostics::new()),
        Err(halt) => {
            let what = "delete the certificate";
            let diagnostic = vaults::data_plane(&halt, &vault_id, what, &Changed::nothing());
            return unchanged(request, Diagnostics::from(diagnostic));
        }
    };
    let mut diagnostics = Diagnostics::new();
    if on_destroy == "purge"
        && let Err(halt) = within(&request.deadline, azure.purge_certificate(&uri, name)).await
    {
        let why = match halt {
            Halt::Azure(error) => error.service_said(),
            Halt::Stopped => "Terraform was asked to stop".to_owned(),
            Halt::TooLate => "the operation's time was over".to_owned(),
        };
        diagnostics.push(explain::certificate_not_purged(&vault_id, name, &why));
    }
    gone(diagnostics)
}
