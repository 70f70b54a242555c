//! Calls on certificates: get, lists, policy, update, delete, recover, purge.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::Duration;

use super::call::Reply;
use super::certificates::{Certificate, DeletedCertificate, Recovery, Version, shape_of};
use super::key_vault::{DataCall, bad_parameter, page};
use super::refusal::Refusal;
use super::tree;
use super::{Azure, State};
use crate::sandbox::core::Effect;

impl Azure {
    /// Calls below `/certificates`.
    pub(super) async fn certificate_call(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let third = call.segment(2).to_ascii_lowercase();
        match (call.method.as_str(), call.path.len(), third.as_str()) {
            ("GET", 1, _) => self.list_certificates(call).await,
            ("GET", 3, "versions") => self.list_versions(call).await,
            ("GET", 3, "pending") => self.get_pending(call),
            ("DELETE", 3, "pending") => self.delete_pending(call),
            ("GET", 3, "policy") => self.get_policy(call),
            ("PATCH", 3, "policy") => self.patch_policy(call),
            ("GET", 2 | 3, _) => self.get_certificate(call).await,
            ("POST", 3, "create") => self.create_certificate(call),
            ("POST", 3, "import") => self.import_certificate(call).await,
            ("POST", 4, "pending") => Err(bad_parameter(
                "The public key of the end-entity certificate in the specified X.509 certificate content does not match \
                 the public part of the specified private key. Please check if certificate is valid.",
            )),
            ("PATCH", 2 | 3, _) => self.update_certificate(call).await,
            ("DELETE", 2, _) => self.delete_certificate(call).await,
            _ => Err(Refusal::vault(
                StatusCode::NOT_IMPLEMENTED,
                "SandboxNotImplemented",
                format!(
                    "sandbox: {} /{} of a vault is not part of this world",
                    call.method,
                    call.path.join("/")
                ),
            )),
        }
    }

    /// The certificate of the path, and what its vault says about recovery.
    pub(super) fn certificate(&self, call: &DataCall) -> Result<(Certificate, Recovery), Refusal> {
        let mut state = self.lock();
        let recovery = state.recovery(&call.vault);
        let found = state.certificate_mut(call)?;
        Ok((found.clone(), recovery))
    }

    async fn get_certificate(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let (certificate, recovery) = self.certificate(call)?;
        let wanted = call.segment(2);
        let version = certificate
            .version(wanted)
            .ok_or_else(|| not_found(call.segment(1)))?;
        let leaf = leaf_of(version).await?;
        Ok(Reply::ok(certificate.bundle(
            version,
            &leaf,
            call,
            &recovery,
            wanted.is_empty(),
        )))
    }

    async fn list_certificates(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let pending_too = call
            .query("includePending")
            .is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let certificates: Vec<_> = {
            let mut state = self.lock();
            let vault = state.vault_named(&call.vault);
            vault
                .map(|vault| vault.objects.certificates.values().cloned().collect())
                .unwrap_or_default()
        };
        let mut items = Vec::new();
        for certificate in certificates {
            let item = match (certificate.newest(), &certificate.pending) {
                (Some(version), _) => certificate.item(version, &leaf_of(version).await?, call, false),
                (None, Some(pending)) if pending_too => json!({
                    "id": format!("{}/certificates/{}", call.base, certificate.name),
                    "attributes": {
                        "enabled": false,
                        "nbf": (pending.began - Duration::minutes(10)).unix_timestamp(),
                        "exp": (pending.began + months(pending.validity_months)).unix_timestamp(),
                        "created": pending.began.unix_timestamp(),
                        "updated": pending.began.unix_timestamp(),
                    },
                    "subject": "",
                }),
                (None, _) => continue,
            };
            items.push((certificate.name, item));
        }
        Ok(Reply::ok(page(call, items)))
    }

    async fn list_versions(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let certificate = match self.certificate(call) {
            Ok((certificate, _)) => certificate,
            // The service lists nothing for a name it does not know.
            Err(_) => return Ok(Reply::ok(json!({"value": [], "nextLink": null}))),
        };
        let mut items = Vec::new();
        for version in &certificate.versions {
            let item = certificate.item(version, &leaf_of(version).await?, call, true);
            items.push((version.id.clone(), item));
        }
        Ok(Reply::ok(page(call, items)))
    }

    fn get_pending(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let body = self
            .certificate(call)
            .ok()
            .and_then(|(certificate, _)| certificate.pending_body(&call.base));
        body.map(Reply::ok).ok_or_else(|| no_operation(call.segment(1)))
    }

    fn delete_pending(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let body = self
            .certificate(call)
            .ok()
            .and_then(|(certificate, _)| certificate.pending_body(&call.base));
        let body = body.ok_or_else(|| no_operation(call.segment(1)))?;
        let mut state = self.lock();
        let certificate = state.certificate_mut(call)?;
        certificate.pending = None;
        let empty = certificate.versions.is_empty();
        if let (true, Some(vault)) = (empty, state.vault_named(&call.vault)) {
            vault
                .objects
                .certificates
                .remove(&call.segment(1).to_ascii_lowercase());
        }
        Ok(Reply::ok(body))
    }

    fn get_policy(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let (certificate, _) = self.certificate(call)?;
        Ok(Reply::ok(certificate.policy_body(&call.base)))
    }

    fn patch_policy(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let mut state = self.lock();
        let certificate = state.certificate_mut(call)?;
        let mut policy = certificate.policy.clone();
        let mut given = call.body.clone();
        for name in ["id", "attributes"] {
            drop(tree::take(&mut given, name));
        }
        tree::merge(&mut policy, &given);
        certificate.shape = shape_of(&policy).map_err(|error| bad_parameter(&error))?;
        certificate.policy = policy;
        certificate.policy_updated = call.now;
        Ok(Reply::ok(certificate.policy_body(&call.base)).effect(Effect::Updated))
    }

    async fn update_certificate(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let id = {
            let mut state = self.lock();
            let certificate = state.certificate_mut(call)?;
            let id = match call.segment(2) {
                "" => certificate
                    .newest()
                    .map(|version| version.id.clone())
                    .unwrap_or_default(),
                id => id.to_owned(),
            };
            let found = certificate
                .versions
                .iter_mut()
                .find(|version| version.id.eq_ignore_ascii_case(&id));
            let version = found.ok_or_else(|| not_found(call.segment(1)))?;
            if let Some(enabled) = call.body["attributes"]["enabled"].as_bool() {
                version.enabled = enabled;
            }
            if call.body["tags"].is_object() {
                version.tags = Some(call.body["tags"].clone());
            }
            version.updated = call.now;
            id
        };
        let (certificate, recovery) = self.certificate(call)?;
        let version = certificate
            .version(&id)
            .ok_or_else(|| not_found(call.segment(1)))?;
        let leaf = leaf_of(version).await?;
        Ok(Reply::ok(certificate.bundle(version, &leaf, call, &recovery, false)).effect(Effect::Updated))
    }

    async fn delete_certificate(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let (gone, recovery) = {
            let mut state = self.lock();
            let recovery = state.recovery(&call.vault);
            state.certificate_mut(call)?;
            let vault = state
                .vault_named(&call.vault)
                .ok_or_else(|| not_found(call.segment(1)))?;
            let key = call.segment(1).to_ascii_lowercase();
            let certificate = vault
                .objects
                .certificates
                .remove(&key)
                .ok_or_else(|| not_found(call.segment(1)))?;
            let gone = DeletedCertificate {
                certificate,
                at: call.now,
            };
            vault.objects.deleted.insert(key, gone.clone());
            (gone, recovery)
        };
        let body = deleted_bundle(&gone, call, &recovery, true).await?;
        Ok(Reply::ok(body).effect(Effect::Deleted))
    }

    /// Calls below `/deletedcertificates`.
    pub(super) async fn deleted_certificate_call(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let recovery = self.lock().recovery(&call.vault);
        if call.path.len() == 1 {
            let listed_after = self.core.lags.get("deleted_list");
            let deleted: Vec<_> = {
                let mut state = self.lock();
                let vault = state.vault_named(&call.vault);
                let all = vault.into_iter().flat_map(|vault| vault.objects.deleted.values());
                all.filter(|gone| gone.at + listed_after <= call.now)
                    .cloned()
                    .collect()
            };
            let mut items = Vec::new();
            for gone in deleted {
                items.push((
                    gone.certificate.name.clone(),
                    deleted_bundle(&gone, call, &recovery, false).await?,
                ));
            }
            return Ok(Reply::ok(page(call, items)));
        }
        let name = call.segment(1).to_owned();
        let key = name.to_ascii_lowercase();
        let gone = {
            let mut state = self.lock();
            let vault = state.vault_named(&call.vault);
            vault.and_then(|vault| vault.objects.deleted.get(&key).cloned())
        };
        let gone = gone.ok_or_else(|| {
            Refusal::vault(
                StatusCode::NOT_FOUND,
                "CertificateNotFound",
                format!("Deleted Certificate not found: {name}"),
            )
        })?;
        if call.method == Method::GET {
            return Ok(Reply::ok(deleted_bundle(&gone, call, &recovery, true).await?));
        }
        if call.method == Method::DELETE {
            let mut state = self.lock();
            if let Some(vault) = state.vault_named(&call.vault) {
                if vault.properties["enablePurgeProtection"] == true {
                    return Err(Refusal::vault(
                        StatusCode::FORBIDDEN,
                        "Forbidden",
                        "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key \
                         Vault service will automatically purge it after the retention period has passed.",
                    )
                    .inner("ForbiddenByPolicy"));
                }
                vault.objects.deleted.remove(&key);
            }
            return Ok(Reply::empty(StatusCode::NO_CONTENT).effect(Effect::Deleted));
        }
        {
            let mut state = self.lock();
            if let Some(vault) = state.vault_named(&call.vault) {
                vault.objects.deleted.remove(&key);
                vault.objects.certificates.insert(key, gone.certificate.clone());
            }
        }
        let version = gone.certificate.newest().ok_or_else(|| not_found(&name))?;
        let leaf = leaf_of(version).await?;
        let body = gone.certificate.bundle(version, &leaf, call, &recovery, true);
        Ok(Reply::ok(body).effect(Effect::Created))
    }
}

impl State {
    /// The certificate of a path.
    pub(super) fn certificate_mut(&mut self, call: &DataCall) -> Result<&mut Certificate, Refusal> {
        let name = call.segment(1);
        let vault = self.vault_named(&call.vault).ok_or_else(|| not_found(name))?;
        let found = vault.objects.certificates.get_mut(&name.to_ascii_lowercase());
        found.ok_or_else(|| not_found(name))
    }

    /// What a vault says about recovery.
    pub(super) fn recovery(&mut self, vault: &str) -> Recovery {
        let vault = self.vault_named(vault);
        vault.map_or(
            Recovery {
                level: "Recoverable+Purgeable",
                days: 90,
            },
            |vault| Recovery {
                level: vault.recovery_level(),
                days: vault.retention(),
            },
        )
    }
}

/// A span of calendar months, near enough.
pub(super) fn months(count: i64) -> Duration {
    Duration::seconds(count * 2_629_746)
}

/// A version's leaf, once it is ready.
pub(super) async fn leaf_of(version: &Version) -> Result<Vec<u8>, Refusal> {
    let material = version.source.material().await;
    material
        .map(|material| material.leaf_der.clone())
        .map_err(|error| {
            Refusal::vault(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                format!("sandbox: {error}"),
            )
        })
}

async fn deleted_bundle(
    gone: &DeletedCertificate,
    call: &DataCall,
    recovery: &Recovery,
    whole: bool,
) -> Result<Value, Refusal> {
    let certificate = &gone.certificate;
    let mut body = match certificate.newest() {
        Some(version) if whole => certificate.bundle(version, &leaf_of(version).await?, call, recovery, true),
        Some(version) => {
            let mut item = certificate.item(version, &leaf_of(version).await?, call, false);
            tree::set(
                &mut item,
                "attributes",
                version.attributes(Some(recovery), &call.version),
            );
            drop(tree::take(&mut item, "subject"));
            item
        }
        None => json!({"id": format!("{}/certificates/{}", call.base, certificate.name)}),
    };
    let recovery_id = format!("{}/deletedcertificates/{}", call.base, certificate.name);
    tree::set(&mut body, "recoveryId", json!(recovery_id));
    tree::set(&mut body, "deletedDate", json!(gone.at.unix_timestamp()));
    let purge = gone.at + Duration::days(recovery.days);
    tree::set(&mut body, "scheduledPurgeDate", json!(purge.unix_timestamp()));
    Ok(body)
}

/// 404 as certificates word it.
pub(super) fn not_found(name: &str) -> Refusal {
    Refusal::vault(
        StatusCode::NOT_FOUND,
        "CertificateNotFound",
        format!(
            "A certificate with (name/id) {name} was not found in this key vault. If you recently deleted this \
             certificate you may be able to recover it using the correct recovery command. For help resolving this \
             issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"
        ),
    )
}

fn no_operation(name: &str) -> Refusal {
    Refusal::vault(
        StatusCode::NOT_FOUND,
        "PendingCertificateNotFound",
        format!("Pending certificate not found: {name}"),
    )
}
