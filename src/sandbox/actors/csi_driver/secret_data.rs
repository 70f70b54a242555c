//! What a Secret holds, made of the files in a mount. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::sandbox::actors::mounts::Files;
use crate::sandbox::actors::objects::{at, entries, list, text};
use crate::sandbox::actors::pem::{Block, parse, traditional_key, write};
use crate::sandbox::actors::vault_provider::certificates_and_key;

const TLS: &str = "kubernetes.io/tls";

/// What is wrong with an entry of `secretObjects`. The driver only logs it.
pub(super) fn flaw(entry: &Value) -> Option<&'static str> {
    if text(entry, "/secretName").trim().is_empty() {
        return Some("secret name is empty");
    }
    if text(entry, "/type").trim().is_empty() {
        return Some("secret type is empty");
    }
    if list(entry, "/data").is_empty() {
        return Some("data is empty");
    }
    None
}

/// The `data` member, encoded; an error is told on the pod.
pub(super) fn data(entry: &Value, files: &Files) -> Result<BTreeMap<String, String>, String> {
    let kind = text(entry, "/type").trim();
    let mut data = BTreeMap::new();
    for item in list(entry, "/data") {
        let (object, key) = (text(item, "/objectName").trim(), text(item, "/key").trim());
        if object.is_empty() {
            return Err("object name in secretObjects.data is empty".into());
        }
        if key.is_empty() {
            return Err("key in secretObjects.data is empty".into());
        }
        let content = files
            .get(object)
            .ok_or_else(|| format!("file matching objectName {object} not found in the pod"))?;
        let value = match (kind, key) {
            (TLS, "tls.crt") => certificates(content)?,
            (TLS, "tls.key") => private_key(content)?,
            (TLS, other) => {
                return Err(format!(
                    "failed to get data for key {other}: unsupported key for secret type {TLS}. Only 'tls.key' and \
                     'tls.crt' are supported"
                ));
            }
            _ => content.clone(),
        };
        data.insert(key.to_owned(), STANDARD.encode(value));
    }
    Ok(data)
}

/// The Secret to create.
pub(super) fn secret(entry: &Value, namespace: &str, data: &BTreeMap<String, String>) -> Value {
    let mut labels = json!({});
    for (key, value) in entries(entry, "/labels") {
        labels[key.as_str()] = value.clone();
    }
    labels[super::MANAGED_LABEL] = "true".into();
    let mut metadata =
        json!({"name": text(entry, "/secretName").trim(), "namespace": namespace, "labels": labels});
    if at(entry, "/annotations").is_object() {
        metadata["annotations"] = entry["annotations"].clone();
    }
    json!({"metadata": metadata, "type": text(entry, "/type").trim(), "data": data})
}

/// All certificates of a file, in its order.
fn certificates(content: &[u8]) -> Result<Vec<u8>, String> {
    let blocks = parse(&String::from_utf8_lossy(content));
    let found: Vec<_> = blocks
        .iter()
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| block.der.clone())
        .collect();
    let found = if found.is_empty() {
        certificates_and_key(content)?.1
    } else {
        found
    };
    Ok(found
        .iter()
        .map(|der| write("CERTIFICATE", der))
        .collect::<String>()
        .into_bytes())
}

/// The last block that is no certificate, in its traditional form. One that cannot be read ends as nothing, silently.
fn private_key(content: &[u8]) -> Result<Vec<u8>, String> {
    let blocks = parse(&String::from_utf8_lossy(content));
    let found = blocks.into_iter().rfind(|block| block.label != "CERTIFICATE");
    let block = match found {
        Some(block) => block,
        None => Block {
            label: "PRIVATE KEY".into(),
            der: certificates_and_key(content)?.0.unwrap_or_default(),
        },
    };
    Ok(traditional_key(&block).unwrap_or_default().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn file() -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["a.example".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        format!("{}{}", key.serialize_pem(), certificate.pem())
    }

    fn entry(kind: &str, key: &str, object: &str) -> Value {
        json!({"secretName": "s", "type": kind, "data": [{"key": key, "objectName": object}]})
    }

    #[test]
    fn a_tls_secret_is_split_and_its_key_takes_the_traditional_form() {
        let files = Files::from([("my-tls-cert".into(), file().into_bytes())]);
        let read = |key: &str| {
            let data = data(&entry(TLS, key, "my-tls-cert"), &files).unwrap();
            let bytes = STANDARD.decode(&data[key]).unwrap();
            parse(&String::from_utf8(bytes).unwrap())[0].label.clone()
        };
        assert_eq!(read("tls.crt"), "CERTIFICATE");
        assert_eq!(read("tls.key"), "EC PRIVATE KEY");
    }

    #[test]
    fn mistakes_have_the_drivers_words() {
        let public = write("CERTIFICATE", b"x").into_bytes();
        let files = Files::from([("alias".into(), file().into_bytes()), ("cert".into(), public)]);
        let rows = [
            (
                entry(TLS, "tls.crt", "my-tls-cert"),
                "file matching objectName my-tls-cert not found in the pod",
            ),
            (
                entry(TLS, "ca.crt", "alias"),
                "Only 'tls.key' and 'tls.crt' are supported",
            ),
            (
                entry(TLS, "tls.key", "cert"),
                "pkcs12: error reading P12 data: asn1",
            ),
        ];
        for (entry, words) in rows {
            let error = data(&entry, &files).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(
            flaw(&json!({"secretName": "s", "type": "", "data": []})),
            Some("secret type is empty")
        );
    }
}
