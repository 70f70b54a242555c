//! How a vault makes a certificate. Pure.
//!
//! A policy has members that are nobody's business here: when the vault renews by itself, whom it writes to, what
//! else an issuer wants. They are kept as they are; only what [`CertificatePolicy`] names is set.

use serde_json::{Value, json};

/// What a policy is asked to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePolicy {
    /// The subject's distinguished name, as `CN=myapp.example.com`.
    pub subject: String,
    /// The hosts it covers.
    pub hosts: Vec<String>,
    /// `Self`, or the name of an issuer that the vault knows.
    pub issuer: String,
    /// `RSA` or `EC`.
    pub key_type: String,
    /// Bits, for RSA.
    pub key_size: Option<i64>,
    /// For EC: `P-256`, `P-384`, `P-521`.
    pub curve: Option<String>,
    /// Whether the next version keeps the key.
    pub reuse_key: bool,
    /// How long a version is valid.
    pub validity_months: i64,
    /// In which form the secret holds it: `application/x-pem-file` or `application/x-pkcs12`.
    pub content_type: String,
}

impl CertificatePolicy {
    /// Reads a policy as a vault shows it; nothing if it is none.
    pub fn of_json(policy: &Value) -> Option<Self> {
        let text = |pointer: &str| policy.pointer(pointer).and_then(Value::as_str);
        let key = policy.get("key_props")?;
        // Keys in hardware cannot leave, but are of the same kind.
        let key_type = text("/key_props/kty").unwrap_or("RSA").trim_end_matches("-HSM");
        let is_rsa = key_type == "RSA";
        let names = policy
            .pointer("/x509_props/sans/dns_names")
            .and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            subject: text("/x509_props/subject").unwrap_or_default().to_owned(),
            hosts: names.map(str::to_owned).collect(),
            issuer: text("/issuer/name").unwrap_or("Unknown").to_owned(),
            key_type: key_type.to_owned(),
            key_size: key.get("key_size").and_then(Value::as_i64).filter(|_| is_rsa),
            curve: text("/key_props/crv").filter(|_| !is_rsa).map(str::to_owned),
            reuse_key: key.get("reuse_key").and_then(Value::as_bool).unwrap_or(false),
            validity_months: policy
                .pointer("/x509_props/validity_months")
                .and_then(Value::as_i64)
                .unwrap_or(12),
            content_type: text("/secret_props/contentType")
                .unwrap_or("application/x-pkcs12")
                .to_owned(),
        })
    }

    /// The policy to send: `live` with what is named here set. Without a live one the vault is asked to renew by itself
    /// when four fifths of a version's life are over.
    pub fn onto(&self, live: Option<&Value>) -> Value {
        let mut policy = live.cloned().unwrap_or_else(|| {
            json!({"lifetime_actions": [
                {"trigger": {"lifetime_percentage": 80}, "action": {"action_type": "AutoRenew"}}
            ]})
        });
        for name in ["id", "attributes"] {
            if let Some(members) = policy.as_object_mut() {
                members.remove(name);
            }
        }
        let mut key = json!({"exportable": true, "kty": self.key_type, "reuse_key": self.reuse_key});
        if let Some(size) = self.key_size {
            key["key_size"] = json!(size);
        }
        if let Some(curve) = &self.curve {
            key["crv"] = json!(curve);
        }
        policy["key_props"] = key;
        policy["secret_props"] = json!({"contentType": self.content_type});
        // Encipherment is for RSA keys only.
        let usage = if self.key_type == "RSA" {
            json!(["digitalSignature", "keyEncipherment"])
        } else {
            json!(["digitalSignature"])
        };
        let same_kind = policy.pointer("/x509_props/key_usage").is_some()
            && live
                .and_then(Self::of_json)
                .is_some_and(|it| it.key_type == self.key_type);
        let x509 = &mut policy["x509_props"];
        x509["subject"] = json!(self.subject);
        x509["sans"]["dns_names"] = json!(self.hosts);
        x509["validity_months"] = json!(self.validity_months);
        if x509.get("ekus").is_none() {
            // What servers need.
            x509["ekus"] = json!(["1.3.6.1.5.5.7.3.1"]);
        }
        if !same_kind {
            x509["key_usage"] = usage;
        }
        policy["issuer"]["name"] = json!(self.issuer);
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> CertificatePolicy {
        CertificatePolicy {
            subject: "CN=a.example.com".into(),
            hosts: vec!["a.example.com".into()],
            issuer: "Self".into(),
            key_type: "RSA".into(),
            key_size: Some(2048),
            curve: None,
            reuse_key: false,
            validity_months: 12,
            content_type: "application/x-pem-file".into(),
        }
    }

    #[test]
    fn a_policy_reads_back_as_it_was_sent() {
        let rsa = wanted();
        let ec = CertificatePolicy {
            key_type: "EC".into(),
            key_size: None,
            curve: Some("P-384".into()),
            ..wanted()
        };
        for policy in [rsa, ec] {
            assert_eq!(CertificatePolicy::of_json(&policy.onto(None)), Some(policy));
        }
    }

    #[test]
    fn what_others_set_stays() {
        let live = json!({
            "id": "https://kv/certificates/a/policy", "attributes": {"enabled": true},
            "key_props": {"exportable": true, "kty": "EC", "crv": "P-256"},
            "x509_props": {"subject": "CN=old", "sans": {"dns_names": ["old"], "emails": ["a@b.c"]},
                "ekus": ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"], "key_usage": ["digitalSignature"]},
            "lifetime_actions": [{"trigger": {"days_before_expiry": 5}, "action": {"action_type": "EmailContacts"}}],
            "issuer": {"name": "Self", "cert_transparency": false},
        });
        let sent = wanted().onto(Some(&live));
        assert_eq!(sent["lifetime_actions"], live["lifetime_actions"]);
        assert_eq!(sent["x509_props"]["sans"]["emails"], json!(["a@b.c"]));
        assert_eq!(sent["x509_props"]["ekus"], live["x509_props"]["ekus"]);
        assert_eq!(sent["issuer"]["cert_transparency"], false);
        // An RSA key is used for more than an EC one.
        assert_eq!(
            sent["x509_props"]["key_usage"],
            json!(["digitalSignature", "keyEncipherment"])
        );
        assert_eq!((sent.get("id"), sent["key_props"].get("crv")), (None, None));
    }
}
