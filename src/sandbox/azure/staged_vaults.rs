//! The vaults of the world file and what they hold.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::certificates::{Certificate, DeletedCertificate, Pending, Shape, Source, Version, policy_of};
use super::key_vault::Objects;
use super::staging::{items, members, text, texts};
use super::tree;
use super::vault_content::csr;
use super::vaults::{Deleted, Touch, Vault};
use super::{Azure, State};
use crate::sandbox::certificates::{ChainShape, KeyKind};
use crate::sandbox::core::WorldError;
use crate::sandbox::world::{id_of, moment};

impl Azure {
    pub(super) fn staged_vault(
        &self,
        state: &State,
        name: &str,
        source: &Value,
    ) -> Result<Vault, WorldError> {
        let (subscription, group, location) = self.home(state, source);
        let start = self.core.clock.now();
        let tenant = text(source, "tenant").and_then(|tenant| self.core.directory.tenant(tenant));
        let tenant = tenant.map_or_else(|| self.tenant_of(&subscription), |tenant| tenant.id.clone());
        let mut properties = json!({
            "sku": {"family": "A", "name": "standard"},
            "tenantId": tenant,
            "accessPolicies": [],
            "enabledForDeployment": false,
            "enableSoftDelete": true,
            "softDeleteRetentionInDays": 90,
            "enableRbacAuthorization": source.get("rbac").cloned().unwrap_or(json!(true)),
            "publicNetworkAccess": "Enabled",
        });
        if source.get("purge_protection") == Some(&json!(true)) {
            tree::set(&mut properties, "enablePurgeProtection", json!(true));
        }
        let policies: Vec<_> = items(source, "policies")
            .map(|policy| {
                let named =
                    text(policy, "principal").and_then(|name| self.core.directory.principal_by_name(name));
                let object = text(policy, "object_id").map(str::to_owned);
                let object = object
                    .or(named.map(|principal| principal.object_id))
                    .unwrap_or_default();
                let mut permissions = json!({});
                for kind in ["keys", "secrets", "certificates"] {
                    tree::set(&mut permissions, kind, json!(texts(policy, kind)));
                }
                json!({"tenantId": tenant, "objectId": object, "permissions": permissions})
            })
            .collect();
        tree::set(&mut properties, "accessPolicies", json!(policies));
        let long_ago = start - Duration::days(40);
        let touch = Touch {
            by: id_of("/staged"),
            kind: "Application",
            at: long_ago,
        };
        let soft_deleted = text(source, "state") == Some("soft_deleted");
        let mut vault = Vault {
            name: name.to_owned(),
            subscription,
            group,
            location,
            tags: source.get("tags").cloned().unwrap_or(json!({})),
            properties,
            created: touch.clone(),
            modified: touch,
            dns_at: long_ago,
            revision: 1,
            deleted: soft_deleted.then_some(Deleted {
                at: start - Duration::days(1),
                purge: None,
            }),
            objects: Objects::default(),
        };
        live_vault(&mut vault, source);
        for (name, source) in members(source, "certificates") {
            let pointer = format!("/vaults/{}/certificates/{name}", vault.name);
            let certificate = self.staged_certificate(name, source, start, &pointer)?;
            let key = name.to_ascii_lowercase();
            if source.get("deleted") == Some(&json!(true)) {
                let gone = DeletedCertificate {
                    certificate,
                    at: start - Duration::hours(1),
                };
                vault.objects.deleted.insert(key, gone);
            } else {
                vault.objects.certificates.insert(key, certificate);
            }
        }
        Ok(vault)
    }

    fn staged_certificate(
        &self,
        name: &str,
        source: &Value,
        start: OffsetDateTime,
        pointer: &str,
    ) -> Result<Certificate, WorldError> {
        let wrong = |member: &str, what: &str| WorldError::new(format!("{pointer}/{member}"), what);
        let key = KeyKind::parse(text(source, "key").unwrap_or("RSA-2048"));
        let chain = ChainShape::parse(text(source, "chain").unwrap_or("full"));
        let chain = chain.ok_or_else(|| wrong("chain", "is no chain shape"))?;
        let shape = Shape {
            common_name: text(source, "common_name").map(str::to_owned),
            hosts: texts(source, "hosts"),
            key: key.ok_or_else(|| wrong("key", "is no key kind"))?,
            issuer: text(source, "issuer")
                .unwrap_or(if chain == ChainShape::SelfSigned {
                    "Self"
                } else {
                    "Unknown"
                })
                .to_owned(),
            chain,
        };
        let content = match text(source, "content").unwrap_or("pfx") {
            "pem" => "application/x-pem-file",
            _ => "application/x-pkcs12",
        };
        let exportable = source.get("exportable") != Some(&json!(false));
        let pending = source
            .get("pending")
            .filter(|pending| !matches!(pending, Value::Null | Value::Bool(false)));
        let mut certificate = Certificate {
            name: name.to_owned(),
            versions: Vec::new(),
            policy: policy_of(&shape, exportable, content, 12),
            policy_created: start,
            policy_updated: start,
            pending: Some(Pending {
                request_id: Uuid::new_v4().simple().to_string(),
                issuer: shape.issuer.clone(),
                csr: csr(&shape).unwrap_or_default(),
                cancelled: false,
                due: None,
                completed: pending.is_none(),
                enabled: true,
                validity_months: 12,
                began: start,
            }),
            imported: false,
            tags: source.get("tags").cloned(),
            shape,
            modern_pfx: text(source, "content") == Some("pfx-modern"),
        };
        let default = json!([{}]);
        let versions = match source.get("versions") {
            Some(versions) => versions,
            None if pending.is_some() => &Value::Null,
            None => &default,
        };
        for version in versions.as_array().into_iter().flatten() {
            let at = |member: &str, default: Duration| {
                text(version, member)
                    .and_then(|text| moment(text, start))
                    .unwrap_or(start + default)
            };
            let from = at("from", -Duration::days(22));
            let until = at("until", Duration::days(68));
            let issued = self
                .core
                .issuers
                .issue_vault_certificate(certificate.spec(from, until, None));
            let mut made = Version::new(Source::Issued(issued), from, until, from + Duration::minutes(10));
            made.enabled = version.get("enabled") != Some(&json!(false));
            certificate.policy_created = certificate.policy_created.min(made.created);
            certificate.policy_updated = made.created;
            certificate.versions.push(made);
        }
        Ok(certificate)
    }
}

/// The live members of a vault. `firewall` says who is kept out.
pub(super) fn live_vault(vault: &mut Vault, source: &Value) {
    if let Some(firewall) = source.get("firewall") {
        vault.objects.blocks_caller = firewall.get("caller") == Some(&json!(true));
        vault.objects.blocks_cluster = firewall.get("cluster") == Some(&json!(true));
    }
    if let Some(public) = source.get("public_network") {
        vault.objects.private_only = public == &json!(false);
    }
    if let Some(throttle) = source.get("throttle") {
        vault.objects.throttled = !matches!(throttle, Value::Null | Value::Bool(false));
    }
}
