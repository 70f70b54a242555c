//! Certificates that applications have registered, and the statements they sign with them (`private_key_jwt`).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain,
};
use rcgen::{CertificateParams, DnType, KeyPair, RsaKeySize};
use serde_json::Value;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::certificates::CertificateError;

/// The iterations of the PFX; few, because what it protects is worthless.
const ITERATIONS: u32 = 2000;

/// A self-signed RSA certificate, with its key in a PFX for whoever plays the application.
#[derive(Clone)]
pub(crate) struct Registered {
    certificate_der: Vec<u8>,
    pfx: Vec<u8>,
    password: String,
    key_pkcs8: Vec<u8>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Registered(…)")
    }
}

/// What is wrong with a statement, with Entra's number for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// 700027: the certificate is not the registered one, or the signature is not of its key.
    Signature(&'static str),
    /// 50012: it is not for this endpoint or not of this application.
    Claims(&'static str),
    /// 700024: too early or too late.
    Time(i64),
}

impl Registered {
    /// A new certificate of this subject, valid around `start`.
    pub(super) fn make(name: &str, password: &str, start: OffsetDateTime) -> Result<Self, CertificateError> {
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = start - time::Duration::days(1);
        params.not_after = start + time::Duration::days(365);
        let certificate_der = params.self_signed(&key)?.der().to_vec();
        let key_pkcs8 = key.serialize_der();
        let pfx = pfx(&key_pkcs8, &certificate_der, password).ok_or(CertificateError::Random)?;
        Ok(Self {
            certificate_der,
            pfx,
            password: password.to_owned(),
            key_pkcs8,
        })
    }

    /// Certificate and key, PKCS#12.
    pub(crate) fn pfx(&self) -> &[u8] {
        &self.pfx
    }

    /// What opens it.
    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// The key itself, for markers.
    pub(super) fn key_pkcs8(&self) -> &[u8] {
        &self.key_pkcs8
    }

    /// Whether this statement is the application's, made for one of these endpoints, now.
    pub(super) fn judge(
        &self,
        assertion: &str,
        client_id: &str,
        endpoints: &[String],
        now: OffsetDateTime,
    ) -> Result<(), Flaw> {
        let head = part(assertion, 0).ok_or(Flaw::Signature("The assertion is malformed."))?;
        let claims = part(assertion, 1).ok_or(Flaw::Signature("The assertion is malformed."))?;
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let thumbprints = [
            ("x5t", digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.certificate_der)),
            ("x5t#S256", digest(&SHA256, &self.certificate_der)),
        ];
        let mut named = false;
        for (member, thumbprint) in thumbprints {
            match text(&head, member) {
                empty if empty.is_empty() => {}
                given if given == URL_SAFE_NO_PAD.encode(thumbprint) => named = true,
                _ => {
                    return Err(Flaw::Signature(
                        "The certificate with this identifier is not registered.",
                    ));
                }
            }
        }
        if !named {
            return Err(Flaw::Signature("The assertion names no certificate."));
        }
        let algorithm: &'static dyn VerificationAlgorithm = match text(&head, "alg").as_str() {
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            _ => return Err(Flaw::Signature("The algorithm is not supported.")),
        };
        if !self.signed(assertion, algorithm) {
            return Err(Flaw::Signature("The signature is invalid."));
        }
        if text(&claims, "iss") != client_id || text(&claims, "sub") != client_id {
            return Err(Flaw::Claims("Issuer and subject must be the client ID."));
        }
        if !endpoints.contains(&text(&claims, "aud")) {
            return Err(Flaw::Claims("The audience is not this endpoint."));
        }
        let moment = |name: &str| claims[name].as_i64();
        let (now, expires) = (now.unix_timestamp(), moment("exp").unwrap_or_default());
        // Clocks differ a little; Entra allows five minutes.
        let too_early = moment("nbf").is_some_and(|from| now + 300 < from);
        if now >= expires || too_early {
            return Err(Flaw::Time(expires));
        }
        Ok(())
    }

    fn signed(&self, assertion: &str, algorithm: &'static dyn VerificationAlgorithm) -> bool {
        let Some((signed, signature)) = assertion.rsplit_once('.') else {
            return false;
        };
        let (Ok(signature), Ok((_, certificate))) = (
            URL_SAFE_NO_PAD.decode(signature),
            X509Certificate::from_der(&self.certificate_der),
        ) else {
            return false;
        };
        let key = certificate.public_key().subject_public_key.data.to_vec();
        UnparsedPublicKey::new(algorithm, key)
            .verify(signed.as_bytes(), &signature)
            .is_ok()
    }
}

fn part(assertion: &str, index: usize) -> Option<Value> {
    let part = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(index)?).ok()?;
    serde_json::from_slice(&part).ok()
}

fn pfx(key: &[u8], certificate: &[u8], password: &str) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let chain = PrivateKeyChain::new("1", PrivateKey::from_der(key).ok()?, [certificate]);
    let mut store = KeyStore::new();
    store.add_entry("1", KeyStoreEntry::PrivateKeyChain(chain));
    let writer = store
        .writer(password)
        .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
        .mac_algorithm(MacAlgorithm::HmacSha256);
    writer
        .encryption_iterations(ITERATIONS)
        .mac_iterations(ITERATIONS)
        .write()
        .ok()
}
