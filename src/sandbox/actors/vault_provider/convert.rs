//! What Key Vault gives, turned into what the mount holds. Pure.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p12_keystore::Pkcs12Archive;
use serde_json::Value;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::fetch::Fetched;
use super::parameters::Object;
use crate::sandbox::actors::objects::text;
use crate::sandbox::actors::pem::{BIT_STRING, EC, INTEGER, OBJECT_IDENTIFIER, RSA, SEQUENCE, encode, write};

/// A private key (PKCS#8) if there is one, and certificates, all DER.
type KeyAndCertificates = (Option<Vec<u8>>, Vec<Vec<u8>>);

/// What was converted last of each object: a poll that finds nothing new opens no PFX.
#[derive(Default)]
pub(super) struct Converted(Mutex<HashMap<String, Known>>);

/// The digest of what was fetched, and what became of it.
type Known = (Vec<u8>, Vec<u8>);

impl Converted {
    /// The file's content for one object.
    pub(super) fn content(&self, object: &Object, fetched: &Fetched) -> Result<Vec<u8>, String> {
        let id = match text(&fetched.body, "/id") {
            "" => text(&fetched.body, "/key/kid"),
            id => id,
        };
        let key = format!("{id} {} {} {}", object.kind, object.pfx, object.encoding);
        let seen = digest(&SHA256, fetched.body.to_string().as_bytes())
            .as_ref()
            .to_vec();
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, content)) = lock().get(&key)
            && *known == seen
        {
            return Ok(content.clone());
        }
        let content = content(object, fetched)?;
        lock().insert(key, (seen, content.clone()));
        Ok(content)
    }
}

/// The file's content for one object.
fn content(object: &Object, fetched: &Fetched) -> Result<Vec<u8>, String> {
    match object.kind.as_str() {
        "key" => public_key(&fetched.body["key"]).map(String::into_bytes),
        "cert" => {
            let der = STANDARD
                .decode(text(&fetched.body, "/cer"))
                .map_err(|error| error.to_string())?;
            Ok(write("CERTIFICATE", &der).into_bytes())
        }
        _ => secret(object, &fetched.body),
    }
}

fn secret(object: &Object, body: &Value) -> Result<Vec<u8>, String> {
    let value = text(body, "/value");
    if text(body, "/kid").is_empty() {
        return decode(value, &object.encoding);
    }
    match text(body, "/contentType") {
        "application/x-pkcs12" if object.pfx => decode(value, &object.encoding),
        "application/x-pkcs12" => pfx_to_pem(value).map(String::into_bytes),
        "application/x-pem-file" => Ok(value.as_bytes().to_vec()),
        other => Err(format!(
            "failed to get certificate. unknown content type: {other}"
        )),
    }
}

fn decode(value: &str, encoding: &str) -> Result<Vec<u8>, String> {
    match encoding {
        "base64" => STANDARD
            .decode(value)
            .map_err(|error| format!("illegal base64 data: {error}")),
        "hex" => {
            let digits: Option<Vec<u8>> = value
                .chars()
                .map(|digit| digit.to_digit(16).and_then(|digit| digit.try_into().ok()))
                .collect();
            let digits = digits
                .filter(|digits| digits.len() % 2 == 0)
                .ok_or("encoding/hex: invalid byte")?;
            Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => Ok(value.as_bytes().to_vec()),
    }
}

fn pfx_to_pem(value: &str) -> Result<String, String> {
    let der = STANDARD
        .decode(value)
        .map_err(|error| format!("illegal base64 data: {error}"))?;
    let (key, certificates) = certificates_and_key(&der)?;
    let mut pem = key.map(|key| write("PRIVATE KEY", &key)).unwrap_or_default();
    for certificate in ordered(certificates) {
        pem.push_str(&write("CERTIFICATE", &certificate));
    }
    Ok(pem)
}

/// Private key (PKCS#8) and certificates of a PFX with an empty password, in stored order.
pub(in crate::sandbox::actors) fn certificates_and_key(der: &[u8]) -> Result<KeyAndCertificates, String> {
    /// `id-sha256`: the digest of modern files, unknown to the provider's parser.
    const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    // The MAC with its digest stands at the very end of a PFX.
    let tail = &der[der.len().saturating_sub(160)..];
    if tail.windows(SHA256.len()).any(|window| window == SHA256) {
        return Err("pkcs12: unknown digest algorithm: 2.16.840.1.101.3.4.2.1".into());
    }
    let archive = Pkcs12Archive::from_pkcs12(der, "")
        .map_err(|error| format!("pkcs12: error reading P12 data: asn1: structure error: {error}"))?;
    let key = archive.keys.first().map(|bag| bag.key.as_der().to_vec());
    let certificates = archive
        .certs
        .iter()
        .map(|bag| bag.cert.as_der().to_vec())
        .collect();
    Ok((key, certificates))
}

/// Leaf first, linked by key identifiers; in stored order if that does not take in every certificate.
fn ordered(certificates: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let links: Vec<_> = certificates.iter().map(|der| key_identifiers(der)).collect();
    let issues = |issuer: &Link, subject: &Link| issuer.own.is_some() && issuer.own == subject.issuer;
    let leaf = (0..links.len()).find(|candidate| {
        let others = links.iter().enumerate().filter(|(other, _)| other != candidate);
        others
            .map(|(_, other)| other)
            .all(|other| !issues(&links[*candidate], other))
    });
    let Some(leaf) = leaf else { return certificates };
    let mut order = vec![leaf];
    while let Some(last) = order.last().copied() {
        let next =
            (0..links.len()).find(|index| !order.contains(index) && issues(&links[*index], &links[last]));
        let Some(next) = next else { break };
        order.push(next);
    }
    if order.len() != certificates.len() {
        return certificates;
    }
    order
        .into_iter()
        .map(|index| certificates[index].clone())
        .collect()
}

#[derive(Default)]
struct Link {
    own: Option<Vec<u8>>,
    issuer: Option<Vec<u8>>,
}

fn key_identifiers(der: &[u8]) -> Link {
    let mut link = Link::default();
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return link;
    };
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => link.own = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                link.issuer = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    link
}

/// A JSON web key as PEM, public part only.
fn public_key(key: &Value) -> Result<String, String> {
    let member = |name: &str| {
        URL_SAFE_NO_PAD
            .decode(text(key, &format!("/{name}")))
            .map_err(|error| format!("key member {name}: {error}"))
    };
    let (algorithm, bits) = match text(key, "/kty") {
        "RSA" | "RSA-HSM" => {
            let mut numbers = unsigned(&member("n")?);
            numbers.extend(unsigned(&member("e")?));
            let mut algorithm = encode(OBJECT_IDENTIFIER, RSA);
            algorithm.extend([0x05, 0x00]);
            (algorithm, encode(SEQUENCE, &numbers))
        }
        "EC" | "EC-HSM" => {
            let curve: &[u8] = match text(key, "/crv") {
                "P-256" => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
                "P-384" => &[0x2b, 0x81, 0x04, 0x00, 0x22],
                "P-521" => &[0x2b, 0x81, 0x04, 0x00, 0x23],
                other => return Err(format!("failed to get key. curve {other} is not supported")),
            };
            let mut algorithm = encode(OBJECT_IDENTIFIER, EC);
            algorithm.extend(encode(OBJECT_IDENTIFIER, curve));
            let mut point = vec![0x04];
            point.extend(member("x")?);
            point.extend(member("y")?);
            (algorithm, point)
        }
        other => {
            return Err(format!(
                "failed to get key. key type {other} currently not supported"
            ));
        }
    };
    let mut spki = encode(SEQUENCE, &algorithm);
    let mut content = vec![0];
    content.extend(bits);
    spki.extend(encode(BIT_STRING, &content));
    Ok(write("PUBLIC KEY", &encode(SEQUENCE, &spki)))
}

fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if content.first().is_none_or(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    encode(INTEGER, &content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::actors::pem;
    use p12_keystore::{
        EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain,
    };
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    fn pfx(encryption: EncryptionAlgorithm, mac: MacAlgorithm) -> (String, Vec<Vec<u8>>) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Test CA");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["myapp.example.com".into()]).unwrap();
        leaf.use_authority_key_identifier_extension = true;
        leaf.is_ca = IsCa::ExplicitNoCa;
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        let chain = [leaf.der().to_vec(), authority.as_ref().der().to_vec()];
        let certificates = chain
            .iter()
            .map(|der| p12_keystore::Certificate::from_der(der).unwrap());
        let key = PrivateKey::from_der(&key.serialize_der()).unwrap();
        let mut store = KeyStore::new();
        store.add_entry(
            "a",
            KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(vec![1_u8], key, certificates)),
        );
        let der = store
            .writer("")
            .encryption_algorithm(encryption)
            .mac_algorithm(mac)
            .write()
            .unwrap();
        (STANDARD.encode(der), chain.to_vec())
    }

    #[test]
    fn a_classic_pfx_becomes_key_and_ordered_chain() {
        let (value, chain) = pfx(
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
            MacAlgorithm::HmacSha1,
        );
        let blocks = pem::parse(&pfx_to_pem(&value).unwrap());
        let labels: Vec<_> = blocks.iter().map(|block| block.label.as_str()).collect();
        assert_eq!(labels, ["PRIVATE KEY", "CERTIFICATE", "CERTIFICATE"]);
        assert_eq!(blocks[1].der, chain[0]);
        let reversed: Vec<_> = chain.iter().rev().cloned().collect();
        assert_eq!(ordered(reversed), chain);
    }

    #[test]
    fn a_modern_pfx_is_refused_in_the_parsers_words() {
        let (value, _) = pfx(
            EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
            MacAlgorithm::HmacSha256,
        );
        assert!(
            pfx_to_pem(&value)
                .unwrap_err()
                .contains("pkcs12: unknown digest algorithm: 2.16.840.1.101.3.4.2.1")
        );
    }

    #[test]
    fn surplus_certificates_keep_the_stored_order() {
        let (_, one) = pfx(
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
            MacAlgorithm::HmacSha1,
        );
        let (_, other) = pfx(
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
            MacAlgorithm::HmacSha1,
        );
        let mixed = vec![one[1].clone(), other[1].clone(), one[0].clone()];
        assert_eq!(ordered(mixed.clone()), mixed);
    }
}
