//! Whether a Secret's key is that of its certificate.
//!
//! The key is decoded into buffers that are overwritten when they are dropped, its public half is derived and compared,
//! and one bit leaves this file. Nothing here keeps, returns or prints a key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{
    PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, SubjectPublicKeyInfoDer,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};

/// Whether the key in `encoded` (base64 of PEM, as a Secret has it) belongs to the first certificate of `chain` (PEM).
/// `None` if that cannot be told: a key of a kind that is not known here, no certificate.
pub(super) fn fits(encoded: &str, chain: &[u8]) -> Option<bool> {
    let pem = decode(encoded.bytes())?;
    let of_key = public_key(&pem.0)?;
    let (_, of_key) = SubjectPublicKeyInfo::from_der(&of_key).ok()?;
    let block = Pem::iter_from_buffer(chain)
        .filter_map(Result::ok)
        .find(|block| block.label == "CERTIFICATE")?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    // The bits alone: the algorithm beside them can be named in more than one way.
    Some(certificate.public_key().subject_public_key.data == of_key.subject_public_key.data)
}

/// The public half of the first key in a PEM text.
fn public_key(pem: &[u8]) -> Option<SubjectPublicKeyInfoDer<'static>> {
    const KINDS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
    let text = std::str::from_utf8(pem).ok()?;
    let (kind, der) = KINDS.iter().find_map(|kind| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {kind}-----"))?;
        let (body, _) = rest.split_once("-----END")?;
        Some((*kind, decode(body.bytes())?))
    })?;
    // Borrowed, so that there is no further copy.
    let key: PrivateKeyDer<'_> = match kind {
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der.0.as_slice()).into(),
        "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der.0.as_slice()).into(),
        _ => PrivatePkcs8KeyDer::from(der.0.as_slice()).into(),
    };
    let key = any_supported_type(&key).ok()?;
    Some(key.public_key()?.into_owned())
}

/// Base64 with white space in it.
fn decode(text: impl Iterator<Item = u8> + Clone) -> Option<Wiped> {
    let dense = text.filter(|byte| !byte.is_ascii_whitespace());
    // One allocation each: a buffer that grows leaves what it held behind.
    let mut packed = Wiped(Vec::with_capacity(dense.clone().count()));
    packed.0.extend(dense);
    let mut decoded = Wiped(vec![0; packed.0.len() / 4 * 3 + 3]);
    let length = STANDARD.decode_slice(&packed.0, &mut decoded.0).ok()?;
    decoded.0.truncate(length);
    Some(decoded)
}

/// Bytes that are overwritten when nobody needs them any more.
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    fn chain_of(pair: &KeyPair) -> String {
        let params = CertificateParams::new(vec!["shop.example.com".to_owned()]).unwrap();
        params.self_signed(pair).unwrap().pem()
    }

    #[test]
    fn a_key_fits_its_own_certificate_and_no_other() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let (ours, other) = (
                KeyPair::generate_for(algorithm).unwrap(),
                KeyPair::generate_for(algorithm).unwrap(),
            );
            let chain = chain_of(&ours);
            let encoded = |pair: &KeyPair| STANDARD.encode(pair.serialize_pem());
            assert_eq!(fits(&encoded(&ours), chain.as_bytes()), Some(true));
            assert_eq!(fits(&encoded(&other), chain.as_bytes()), Some(false));
            // What follows the leaf is not looked at.
            let longer = format!("{chain}{}", chain_of(&other));
            assert_eq!(fits(&encoded(&ours), longer.as_bytes()), Some(true));
        }
    }

    #[test]
    fn what_cannot_be_judged_is_not_called_wrong() {
        let pair = KeyPair::generate().unwrap();
        let chain = chain_of(&pair);
        let key = pair.serialize_pem();
        let rows = [
            (String::new(), chain.as_str()),
            ("!".to_owned(), chain.as_str()),
            (STANDARD.encode("no key"), chain.as_str()),
            (
                STANDARD.encode("-----BEGIN PRIVATE KEY-----\n-----END"),
                chain.as_str(),
            ),
            (STANDARD.encode(&key), "no certificate"),
        ];
        for (encoded, chain) in rows {
            assert_eq!(fits(&encoded, chain.as_bytes()), None, "{encoded}");
        }
    }
}
