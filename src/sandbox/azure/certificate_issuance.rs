//! How certificates come into a vault: created by an issuer, imported, renewed.

use http::StatusCode;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::call::Reply;
use super::certificate_calls::{leaf_of, months, not_found};
use super::certificates::{Certificate, Pending, Source, Version, policy_of, shape_of};
use super::key_vault::{DataCall, bad_parameter};
use super::refusal::Refusal;
use super::tree;
use super::vault_content::{Upload, csr};
use super::{Azure, State};
use crate::sandbox::core::Effect;

impl Azure {
    pub(super) fn create_certificate(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let given = &call.body["policy"];
        let name = call.segment(1).to_owned();
        valid_name(&name)?;
        let mut state = self.lock();
        let key = name.to_ascii_lowercase();
        let vault = state.vault_named(&call.vault).ok_or_else(|| not_found(&name))?;
        if vault.objects.deleted.contains_key(&key) {
            return Err(deleted(&name));
        }
        let old = vault.objects.certificates.get(&key).cloned();
        if let Some(pending) = old.as_ref().and_then(|old| old.pending.as_ref())
            && !pending.completed
        {
            return Err(Refusal::vault(
                StatusCode::CONFLICT,
                "Conflict",
                format!("There is already a pending certificate request for '{name}'."),
            )
            .inner("CertificateRequestPending"));
        }
        let asked = if given.is_object() {
            given.clone()
        } else {
            Value::Null
        };
        let (shape, policy, months) = match (&old, asked.is_object()) {
            (Some(old), false) => {
                let months = old.policy["x509_props"]["validity_months"].as_i64().unwrap_or(12);
                (old.shape.clone(), old.policy.clone(), months)
            }
            (_, true) => {
                let shape = shape_of(&asked).map_err(|error| bad_parameter(&error))?;
                let months = asked["x509_props"]["validity_months"].as_i64().unwrap_or(12);
                let exportable = asked["key_props"]["exportable"] != false;
                let content = match tree::text(&asked, "secret_props.contentType") {
                    "" => "application/x-pkcs12",
                    content => content,
                };
                let mut policy = policy_of(&shape, exportable, content, months);
                let mut given = asked.clone();
                for name in ["id", "attributes"] {
                    drop(tree::take(&mut given, name));
                }
                tree::merge(&mut policy, &given);
                (shape, policy, months)
            }
            (None, false) => {
                return Err(bad_parameter(
                    "Property policy is required to create a certificate.",
                ));
            }
        };
        let lag = self.core.lags.get("certificate_issue");
        let pending = Pending {
            request_id: uuid::Uuid::new_v4().simple().to_string(),
            csr: csr(&shape).unwrap_or_default(),
            cancelled: false,
            due: (shape.issuer != "Unknown").then(|| call.now + lag),
            issuer: shape.issuer.clone(),
            completed: false,
            enabled: call.body["attributes"]["enabled"] != false,
            validity_months: months,
            began: call.now,
        };
        let (due, request) = (pending.due, pending.request_id.clone());
        let tags = call.body["tags"].is_object().then(|| call.body["tags"].clone());
        let certificate = Certificate {
            versions: old.as_ref().map(|old| old.versions.clone()).unwrap_or_default(),
            policy_created: old.as_ref().map_or(call.now, |old| old.policy_created),
            tags: tags.or_else(|| old.and_then(|old| old.tags)),
            name: name.clone(),
            policy,
            policy_updated: call.now,
            pending: Some(pending),
            imported: false,
            shape,
            modern_pfx: false,
        };
        let body = certificate.pending_body(&call.base).unwrap_or_default();
        vault.objects.certificates.insert(key, certificate);
        drop(state);
        if let Some(due) = due {
            self.wake_at(due, format!("certificate {name} from its issuer"));
        }
        let location = format!(
            "{}/certificates/{name}/pending?api-version={}&request_id={request}",
            call.base, call.version
        );
        Ok(Reply::new(StatusCode::ACCEPTED, body)
            .header("location", location)
            .effect(Effect::Created))
    }

    pub(super) async fn import_certificate(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let name = call.segment(1).to_owned();
        valid_name(&name)?;
        let upload = Upload::read(&call.body).map_err(|error| bad_parameter(&error))?;
        self.core.markers.private_key(&upload.material.key_pkcs8);
        let certificate = {
            let mut state = self.lock();
            let key = name.to_ascii_lowercase();
            let vault = state.vault_named(&call.vault).ok_or_else(|| not_found(&name))?;
            if vault.objects.deleted.contains_key(&key) {
                return Err(deleted(&name));
            }
            let old = vault.objects.certificates.get(&key);
            let mut version = Version::new(
                Source::Imported(upload.material.clone()),
                upload.not_before,
                upload.expires,
                call.now,
            );
            version.enabled = call.body["attributes"]["enabled"] != false;
            let tags = call.body["tags"].is_object().then(|| call.body["tags"].clone());
            version.tags.clone_from(&tags);
            let mut versions = old.map(|old| old.versions.clone()).unwrap_or_default();
            versions.push(version);
            let certificate = Certificate {
                name: name.clone(),
                versions,
                policy: upload.policy.clone(),
                policy_created: old.map_or(call.now, |old| old.policy_created),
                policy_updated: call.now,
                pending: None,
                imported: true,
                tags,
                shape: upload.shape.clone(),
                modern_pfx: upload.modern_pfx,
            };
            vault.objects.certificates.insert(key, certificate.clone());
            certificate
        };
        let recovery = self.lock().recovery(&call.vault);
        let version = certificate.newest().ok_or_else(|| not_found(&name))?;
        let leaf = leaf_of(version).await?;
        Ok(Reply::ok(certificate.bundle(version, &leaf, call, &recovery, true)).effect(Effect::Created))
    }

    /// Completes every certificate operation that is due.
    pub(super) fn complete_pending(&self, state: &mut State, now: OffsetDateTime) {
        let vaults = state.vaults.iter_mut();
        for certificate in vaults.flat_map(|vault| vault.objects.certificates.values_mut()) {
            let Some(pending) = certificate.pending.clone() else {
                continue;
            };
            let Some(due) = pending.due.filter(|due| !pending.completed && *due <= now) else {
                continue;
            };
            let until = due + months(pending.validity_months);
            self.add_version(certificate, due, until, pending.enabled);
            if let Some(pending) = &mut certificate.pending {
                pending.completed = true;
            }
        }
    }

    /// A new version from the certificate's issuer, which makes it valid from ten minutes before.
    pub(super) fn add_version(
        &self,
        certificate: &mut Certificate,
        now: OffsetDateTime,
        until: OffsetDateTime,
        enabled: bool,
    ) -> String {
        let from = now - Duration::minutes(10);
        let issued = self
            .core
            .issuers
            .issue_vault_certificate(certificate.spec(from, until, None));
        let mut version = Version::new(Source::Issued(issued), from, until, now);
        version.enabled = enabled;
        let id = version.id.clone();
        certificate.versions.push(version);
        certificate.imported = false;
        id
    }
}

fn deleted(name: &str) -> Refusal {
    Refusal::vault(
        StatusCode::CONFLICT,
        "Conflict",
        format!(
            "Certificate {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this \
             state, the certificate can only be recovered or purged."
        ),
    )
    .inner("ObjectIsDeletedButRecoverable")
}

fn valid_name(name: &str) -> Result<(), Refusal> {
    let good = !name.is_empty() && name.len() <= 127;
    if good
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Ok(());
    }
    Err(bad_parameter("The request URI contains an invalid name."))
}
