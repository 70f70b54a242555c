//! Certificates in a vault: versions, policies, and how they come into being.
//!
//! A certificate's name is also that of a key and of a secret, and all three share their versions. What a version
//! says of itself is read from its leaf, so issued and imported ones look alike.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::key_vault::DataCall;
use super::tree;
use crate::sandbox::certificates::{CertificateSpec, ChainShape, Issued, KeyKind, Material};

/// A certificate.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) name: String,
    /// In the order in which they came.
    pub(super) versions: Vec<Version>,
    /// As stored: without id and times.
    pub(super) policy: Value,
    pub(super) policy_created: OffsetDateTime,
    pub(super) policy_updated: OffsetDateTime,
    pub(super) pending: Option<Pending>,
    /// Whether its newest version came by import, which leaves no trace of an operation.
    pub(super) imported: bool,
    pub(super) tags: Option<Value>,
    /// What the next version is made from.
    pub(super) shape: Shape,
    /// A PFX in today's encryption, as uploaded ones may be; the vault writes the old one.
    pub(super) modern_pfx: bool,
}

/// A certificate that was deleted and can be recovered.
#[derive(Clone)]
pub(super) struct DeletedCertificate {
    pub(super) certificate: Certificate,
    pub(super) at: OffsetDateTime,
}

/// What the issuer makes.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) common_name: Option<String>,
    pub(super) hosts: Vec<String>,
    pub(super) key: KeyKind,
    pub(super) chain: ChainShape,
    pub(super) issuer: String,
}

/// One version.
#[derive(Clone)]
pub(super) struct Version {
    /// 32 hex digits.
    pub(super) id: String,
    pub(super) source: Source,
    pub(super) enabled: bool,
    pub(super) not_before: OffsetDateTime,
    pub(super) expires: OffsetDateTime,
    pub(super) created: OffsetDateTime,
    pub(super) updated: OffsetDateTime,
    pub(super) tags: Option<Value>,
    /// Its secret, once somebody asked: the same text each time.
    pub(super) secret: Arc<OnceLock<String>>,
}

/// Where a version's certificate comes from.
#[derive(Clone)]
pub(super) enum Source {
    /// Made by an issuer of this world, perhaps not quite yet.
    Issued(Issued),
    /// Brought from outside.
    Imported(Arc<Material>),
}

impl Source {
    /// The certificate, when it is ready.
    pub(super) async fn material(&self) -> Result<Arc<Material>, String> {
        match self {
            Self::Issued(issued) => issued.get().await,
            Self::Imported(material) => Ok(Arc::clone(material)),
        }
    }
}

/// A certificate operation.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) request_id: String,
    pub(super) issuer: String,
    pub(super) csr: String,
    pub(super) cancelled: bool,
    /// When it completes by itself; never for an unknown issuer, whose certificate has to be merged.
    pub(super) due: Option<OffsetDateTime>,
    pub(super) completed: bool,
    pub(super) enabled: bool,
    pub(super) validity_months: i64,
    pub(super) began: OffsetDateTime,
}

impl Certificate {
    /// The newest version.
    pub(super) fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// This version, or the newest for an empty one.
    pub(super) fn version(&self, id: &str) -> Option<&Version> {
        match id {
            "" => self.newest(),
            id => self
                .versions
                .iter()
                .find(|version| version.id.eq_ignore_ascii_case(id)),
        }
    }

    pub(super) fn is_exportable(&self) -> bool {
        self.policy["key_props"]["exportable"] != false
    }

    pub(super) fn content_type(&self) -> &str {
        match tree::text(&self.policy, "secret_props.contentType") {
            "" => "application/x-pkcs12",
            other => other,
        }
    }

    /// The policy as a bundle shows it.
    pub(super) fn policy_body(&self, base: &str) -> Value {
        let mut policy = self.policy.clone();
        tree::set(
            &mut policy,
            "id",
            json!(format!("{base}/certificates/{}/policy", self.name)),
        );
        let attributes = json!({
            "enabled": true,
            "created": self.policy_created.unix_timestamp(),
            "updated": self.policy_updated.unix_timestamp(),
        });
        tree::set(&mut policy, "attributes", attributes);
        policy
    }

    /// A bundle: of one version, or with policy and operation of the whole certificate.
    pub(super) fn bundle(
        &self,
        version: &Version,
        leaf: &[u8],
        call: &DataCall,
        recovery: &Recovery,
        whole: bool,
    ) -> Value {
        let base = &call.base;
        let tail = format!("{}/{}", self.name, version.id);
        let mut body = json!({
            "id": format!("{base}/certificates/{tail}"),
            "kid": format!("{base}/keys/{tail}"),
            "sid": format!("{base}/secrets/{tail}"),
            "x5t": x5t(leaf),
            "cer": STANDARD.encode(leaf),
            "attributes": version.attributes(Some(recovery), &call.version),
        });
        if whole {
            tree::set(&mut body, "policy", self.policy_body(base));
            if !self.imported {
                let id = format!("{base}/certificates/{}/pending", self.name);
                tree::set(&mut body, "pending", json!({"id": id}));
            }
        }
        if let Some(tags) = version.tags.as_ref().or(self.tags.as_ref()) {
            tree::set(&mut body, "tags", tags.clone());
        }
        body
    }

    /// An item of a list: no certificate, no recovery level.
    pub(super) fn item(&self, version: &Version, leaf: &[u8], call: &DataCall, versioned: bool) -> Value {
        let tail = if versioned {
            format!("{}/{}", self.name, version.id)
        } else {
            self.name.clone()
        };
        let mut body = json!({
            "id": format!("{}/certificates/{tail}", call.base),
            "x5t": x5t(leaf),
            "attributes": version.attributes(None, &call.version),
            "subject": "",
        });
        if let Some(tags) = version.tags.as_ref().or(self.tags.as_ref()) {
            tree::set(&mut body, "tags", tags.clone());
        }
        body
    }

    /// The operation as the data plane shows it.
    pub(super) fn pending_body(&self, base: &str) -> Option<Value> {
        let pending = self.pending.as_ref()?;
        let mut body = json!({
            "id": format!("{base}/certificates/{}/pending", self.name),
            "issuer": {"name": pending.issuer},
            "csr": pending.csr,
            "cancellation_requested": pending.cancelled,
            "status": if pending.completed { "completed" } else { "inProgress" },
            "request_id": pending.request_id,
        });
        if pending.completed {
            let target = format!("{base}/certificates/{}", self.name);
            tree::set(&mut body, "target", json!(target));
        } else {
            let details = if pending.issuer == "Unknown" {
                "Pending certificate created. Please Perform Merge to complete the request."
            } else {
                "Pending certificate created. Certificate request is in progress. This may take some time based on the \
                 issuer provider. Please check again later."
            };
            tree::set(&mut body, "status_details", json!(details));
        }
        Some(body)
    }

    /// What an issuer needs to make the next version.
    pub(super) fn spec(
        &self,
        from: OffsetDateTime,
        until: OffsetDateTime,
        reuse: Option<Vec<u8>>,
    ) -> CertificateSpec {
        CertificateSpec {
            common_name: self.shape.common_name.clone(),
            hosts: self.shape.hosts.clone(),
            key: self.shape.key,
            chain: self.shape.chain,
            issuer: self.shape.issuer.clone(),
            from,
            until,
            reuse,
        }
    }
}

/// What a vault says about recovery of its objects.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    pub(super) level: &'static str,
    pub(super) days: i64,
}

impl Version {
    /// A version that begins its life now.
    pub(super) fn new(
        source: Source,
        not_before: OffsetDateTime,
        expires: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            source,
            enabled: true,
            not_before,
            expires,
            created: now,
            updated: now,
            tags: None,
            secret: Arc::default(),
        }
    }

    /// Its attributes; recovery only in bundles, days only since 7.1.
    pub(super) fn attributes(&self, recovery: Option<&Recovery>, version: &str) -> Value {
        let mut attributes = json!({
            "enabled": self.enabled,
            "nbf": self.not_before.unix_timestamp(),
            "exp": self.expires.unix_timestamp(),
            "created": self.created.unix_timestamp(),
            "updated": self.updated.unix_timestamp(),
        });
        if let Some(recovery) = recovery {
            tree::set(&mut attributes, "recoveryLevel", json!(recovery.level));
            if version != "7.0" {
                tree::set(&mut attributes, "recoverableDays", json!(recovery.days));
            }
        }
        attributes
    }
}

/// SHA-1 of a certificate as vaults write it.
pub(super) fn x5t(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, der))
}

/// The same in the hexadecimal digits of a portal.
pub(super) fn thumbprint(der: &[u8]) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, der);
    hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The policy of a certificate of this shape.
pub(super) fn policy_of(shape: &Shape, exportable: bool, content: &str, months: i64) -> Value {
    let subject = shape
        .common_name
        .clone()
        .or_else(|| shape.hosts.first().cloned())
        .unwrap_or_default();
    let mut key = json!({"exportable": exportable, "kty": "RSA", "reuse_key": false});
    let (size, curve) = match shape.key {
        KeyKind::Rsa2048 => (2048, None),
        KeyKind::Rsa3072 => (3072, None),
        KeyKind::Rsa4096 => (4096, None),
        KeyKind::P256 => (256, Some("P-256")),
        KeyKind::P384 => (384, Some("P-384")),
        KeyKind::P521 => (521, Some("P-521")),
    };
    tree::set(&mut key, "key_size", json!(size));
    if let Some(curve) = curve {
        tree::set(&mut key, "kty", json!("EC"));
        tree::set(&mut key, "crv", json!(curve));
    }
    let mut x509 = json!({
        "subject": format!("CN={subject}"),
        "ekus": ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
        "key_usage": ["digitalSignature", "keyEncipherment"],
        "validity_months": months,
        "basic_constraints": {"ca": false},
    });
    if !shape.hosts.is_empty() {
        tree::set(&mut x509, "sans", json!({"dns_names": shape.hosts}));
    }
    let issuer = if shape.issuer.is_empty() {
        "Unknown"
    } else {
        shape.issuer.as_str()
    };
    json!({
        "key_props": key,
        "secret_props": {"contentType": content},
        "x509_props": x509,
        "lifetime_actions": [{
            "trigger": {"lifetime_percentage": 80},
            "action": {"action_type": if issuer == "Unknown" { "EmailContacts" } else { "AutoRenew" }},
        }],
        "issuer": {"name": issuer},
    })
}

/// The shape a policy asks for.
pub(super) fn shape_of(policy: &Value) -> Result<Shape, String> {
    let key = &policy["key_props"];
    let size = key["key_size"].as_u64();
    let kind = match (tree::text(key, "kty"), tree::text(key, "crv"), size) {
        ("" | "RSA" | "RSA-HSM", _, None | Some(2048)) => KeyKind::Rsa2048,
        ("RSA" | "RSA-HSM", _, Some(3072)) => KeyKind::Rsa3072,
        ("RSA" | "RSA-HSM", _, Some(4096)) => KeyKind::Rsa4096,
        ("EC" | "EC-HSM", "P-256", _) => KeyKind::P256,
        ("EC" | "EC-HSM", "P-384", _) => KeyKind::P384,
        ("EC" | "EC-HSM", "P-521", _) => KeyKind::P521,
        _ => return Err("Property key_props has an unsupported key type or size.".to_owned()),
    };
    let subject = tree::text(policy, "x509_props.subject");
    let common_name = subject
        .split(',')
        .find_map(|part| part.trim().strip_prefix("CN="))
        .map(str::to_owned);
    let names = policy["x509_props"]["sans"]["dns_names"].as_array();
    let hosts: Vec<_> = names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if common_name.is_none() && hosts.is_empty() {
        return Err("Property x509_props must have a subject or subject alternative names.".to_owned());
    }
    let issuer = match tree::text(policy, "issuer.name") {
        "" => "Unknown".to_owned(),
        name => name.to_owned(),
    };
    let chain = if issuer == "Self" {
        ChainShape::SelfSigned
    } else {
        ChainShape::Full
    };
    Ok(Shape {
        common_name,
        hosts,
        key: kind,
        chain,
        issuer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_and_its_shape_agree() {
        let shape = Shape {
            common_name: None,
            hosts: vec!["myapp.example.com".to_owned()],
            key: KeyKind::P384,
            chain: ChainShape::Full,
            issuer: "DigiCert".to_owned(),
        };
        let policy = policy_of(&shape, true, "application/x-pkcs12", 12);
        let back = shape_of(&policy).unwrap();
        assert_eq!(
            (back.hosts, back.key, back.chain, back.issuer),
            (shape.hosts, shape.key, shape.chain, shape.issuer)
        );
    }

    #[test]
    fn x5t_is_the_unpadded_sha1() {
        assert_eq!(x5t(b""), "2jmj7l5rSw0yVb_vlWAYkK_YBwk");
        assert_eq!(thumbprint(b""), "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709");
    }
}
