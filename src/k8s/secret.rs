//! The public half of a TLS Secret.
//!
//! Reading a Secret brings its key into this process's memory: Kubernetes cannot answer with a part. So the parser passes
//! the key's text over, one bit is told of it (whether it fits the certificate, see [`super::key`]), and every buffer it
//! was in is overwritten afterwards.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::client::{Ask, wipe};
use super::key::fits;
use super::{Error, Kubernetes, SECRET};
use crate::tls::Leaf;

/// Asks for the metadata of one object, or of each that a watch tells. Servers that cannot do so answer with all of
/// it, and the parser drops the data.
pub(super) const BARE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// The same of a list. A server takes the first form that exists and refuses it (406) where it does not fit, so one
/// request cannot offer both.
pub(super) const BARE_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// The driver's mark on what it made.
const MANAGED_LABEL: &str = "secrets-store.csi.k8s.io/managed";

/// What is known of a TLS Secret without its key.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretCertificate {
    /// The first certificate of `tls.crt`; `None` where there is none, it cannot be read, or was not asked for.
    pub leaf: Option<Leaf>,
    /// What follows it in `tls.crt`.
    pub chain: Vec<Leaf>,
    /// The Secret's type, `kubernetes.io/tls` if all is well; empty if only metadata was asked for.
    pub secret_type: String,
    /// The CSI driver made it and keeps it.
    pub managed: bool,
    /// `tls.key` is there and not empty.
    pub has_key: bool,
    /// Whether that key is the leaf's; `None` where it cannot be told or was not asked for.
    pub key_fits: Option<bool>,
}

impl SecretCertificate {
    /// Whether more than its metadata was asked for.
    pub fn was_read(&self) -> bool {
        !self.secret_type.is_empty()
    }
}

impl Kubernetes {
    /// Reads the certificate of a TLS Secret; `None` if there is no such Secret.
    ///
    /// # Errors
    /// Any [`Error`] of reading.
    pub async fn secret_certificate(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<SecretCertificate>, Error> {
        let object = SECRET.named(namespace, name);
        let ask = Ask::about("get", Method::GET, &object);
        let answer = self.send(&ask).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        if answer.status != 200 {
            return Err(ask.refusal(&answer));
        }
        let parsed = serde_json::from_slice::<TlsSecret<'_>>(&answer.body).map(|secret| secret.certificate());
        wipe(answer.body);
        match parsed {
            Ok(secret) => Ok(Some(secret)),
            // Without the parser's words, which may quote.
            Err(_) => Err(ask.unexpected("the answer is no Secret")),
        }
    }
}

impl Kubernetes {
    /// What a Secret's metadata alone tells: that it is there, and who made it. Its data is not asked for.
    ///
    /// # Errors
    /// Any [`Error`] of reading.
    pub async fn secret_marks(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<SecretCertificate>, Error> {
        let found = self.get(&SECRET.named(namespace, name)).await?;
        Ok(found.map(|found| SecretCertificate {
            leaf: None,
            chain: Vec::new(),
            secret_type: String::new(),
            managed: found["metadata"]["labels"][MANAGED_LABEL] == "true",
            has_key: false,
            key_fits: None,
        }))
    }
}

/// A Secret as far as it is parsed.
#[derive(Deserialize)]
struct TlsSecret<'a> {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, rename = "type")]
    secret_type: Option<String>,
    #[serde(default, borrow)]
    data: Option<Data<'a>>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(default, rename = "tls.crt")]
    certificate: Option<String>,
    /// Borrowed from the buffer: neither unescaped nor copied.
    #[serde(default, borrow, rename = "tls.key")]
    key: Option<&'a RawValue>,
}

impl TlsSecret<'_> {
    fn certificate(&self) -> SecretCertificate {
        let data = self.data.as_ref();
        let pem = data
            .and_then(|data| data.certificate.as_deref())
            .and_then(|text| STANDARD.decode(text).ok());
        let key = data.and_then(|data| data.key).and_then(quoted);
        let chain = pem.as_deref().and_then(|pem| Leaf::chain_of_pem(pem).ok());
        let mut chain = chain.unwrap_or_default().into_iter();
        let labels = self.metadata.labels.as_ref();
        SecretCertificate {
            leaf: chain.next(),
            chain: chain.collect(),
            secret_type: self.secret_type.clone().unwrap_or_else(|| "Opaque".to_owned()),
            managed: labels
                .and_then(|labels| labels.get(MANAGED_LABEL))
                .is_some_and(|value| value == "true"),
            has_key: key.is_some(),
            key_fits: key.zip(pem.as_deref()).and_then(|(key, pem)| fits(key, pem)),
        }
    }
}

/// What stands between the quotes of a JSON text that is not empty. Base64 has nothing to escape; what is escaped
/// nevertheless cannot be decoded.
fn quoted(raw: &RawValue) -> Option<&str> {
    let text = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    (!text.is_empty()).then_some(text)
}

/// Parses JSON without the members `data` and `stringData`, at any depth, and without the copy of them that
/// `kubectl apply` leaves in an annotation.
pub(super) fn without_data(json: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Bare>(json).map(|bare| bare.0)
}

/// A value without Secret data. Deserialized by hand, since what is to be skipped must not be parsed first.
struct Bare(Value);

const SKIPPED: [&str; 3] = [
    "data",
    "stringData",
    "kubectl.kubernetes.io/last-applied-configuration",
];

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BareVisitor).map(Self)
    }
}

struct BareVisitor;

impl<'de> Visitor<'de> for BareVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if SKIPPED.contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else {
                members.insert(key, map.next_value::<Bare>()?.0);
            }
        }
        Ok(Value::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element::<Bare>()? {
            elements.push(element.0);
        }
        Ok(Value::Array(elements))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;

    use super::*;

    const MARKER: &str = "TUFSS0VSIG9mIGEgcHJpdmF0ZSBrZXk=";

    fn secret(certificate: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "tls", "labels": {"secrets-store.csi.k8s.io/managed": "true"},
                "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"data\":{{\"tls.key\":\"{MARKER}\"}}}}")}},
            "data": {"tls.crt": STANDARD.encode(certificate), "tls.key": MARKER},
        })
        .to_string()
    }

    #[test]
    fn the_certificate_is_read_and_the_key_only_noticed() {
        let pair = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["shop.example.com".to_owned()])
            .unwrap()
            .self_signed(&pair)
            .unwrap();
        let text = secret(&format!("{0}{0}", made.pem()));
        let read = serde_json::from_str::<TlsSecret<'_>>(&text)
            .unwrap()
            .certificate();
        assert_eq!(read.leaf.unwrap().hosts, ["shop.example.com"]);
        assert_eq!(
            (
                read.chain.len(),
                read.secret_type.as_str(),
                read.managed,
                read.has_key,
                read.key_fits
            ),
            (1, "kubernetes.io/tls", true, true, None)
        );
    }

    #[test]
    fn incomplete_secrets_are_read_too() {
        let rows = [
            (json!({}), false),
            (json!({"data": null, "metadata": {"labels": null}}), false),
            (json!({"data": {"tls.key": ""}}), false),
            (json!({"data": {"tls.key": null, "tls.crt": "!"}}), false),
            (json!({"data": {"tls.key": "eA==", "tls.crt": "eA=="}}), true),
        ];
        for (body, has_key) in rows {
            let read = serde_json::from_str::<TlsSecret<'_>>(&body.to_string())
                .unwrap()
                .certificate();
            assert_eq!((read.leaf, read.has_key), (None, has_key), "{body}");
        }
    }

    #[test]
    fn the_key_never_lands() {
        let one = secret("x");
        let list = format!("{{\"items\":[{one}],\"metadata\":{{\"resourceVersion\":\"1\"}}}}");
        for text in [&one, &list] {
            assert!(text.contains(MARKER));
            let bare = without_data(text.as_bytes()).unwrap().to_string();
            assert!(!bare.contains(MARKER) && !bare.contains("\"data\""), "{bare}");
            assert!(bare.contains("secrets-store.csi.k8s.io/managed"));
        }
    }

    #[test]
    fn every_kind_of_value_survives() {
        let value = json!({"a": [1, -2, 2.5, true, null, "x", {"b": {}}]});
        assert_eq!(without_data(value.to_string().as_bytes()).unwrap(), value);
    }
}
