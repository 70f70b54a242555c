//! An application that signs a statement with the key of a certificate it has registered.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::entra::{Entra, Proof, token_url};
use super::{CLIENT_ID, Credential, CredentialSettings, TENANT_ID, Token, Wanted, missing};
use crate::azure::settings::ClientCertificate as Source;
use crate::azure::{Cloud, Secret};

/// How long a statement of ours is good; Entra ID takes up to a day.
const LIFE: time::Duration = time::Duration::minutes(10);

struct ClientCertificate {
    entra: Entra,
    tenant_id: String,
    client_id: String,
    source: Source,
    password: Secret,
}

pub(super) fn set_up(settings: &CredentialSettings, entra: &Entra) -> Result<Box<dyn Credential>, String> {
    let inputs = (
        &settings.client_certificate,
        &settings.client_id,
        &settings.tenant_id,
    );
    let (Some(source), Some(client_id), Some(tenant_id)) = inputs else {
        let inputs = [
            (
                settings.client_certificate.is_some(),
                "client_certificate or client_certificate_path (ARM_CLIENT_CERTIFICATE, ARM_CLIENT_CERTIFICATE_PATH)",
            ),
            (settings.client_id.is_some(), CLIENT_ID),
            (settings.tenant_id.is_some(), TENANT_ID),
        ];
        return Err(missing(&inputs).unwrap_or_default());
    };
    let password = settings.client_certificate_password.clone();
    Ok(Box::new(ClientCertificate {
        entra: entra.clone(),
        tenant_id: tenant_id.clone(),
        client_id: client_id.clone(),
        source: source.clone(),
        password: password.unwrap_or_else(|| Secret::new("")),
    }))
}

#[async_trait::async_trait]
impl Credential for ClientCertificate {
    async fn token(&self, wanted: &Wanted<'_>) -> Result<Token, String> {
        let tenant = wanted.tenant.unwrap_or(&self.tenant_id);
        // Read for each token: a renewed certificate is taken without a new start.
        let signer = Signer::open(&self.source, &self.password).await?;
        let assertion = signer.assertion(wanted.cloud, tenant, &self.client_id)?;
        let proof = Proof::Assertion(assertion);
        self.entra.token(wanted, tenant, &self.client_id, &proof).await
    }
}

/// A key, and the certificate by which Entra ID knows it.
struct Signer {
    key: RsaKeyPair,
    certificate: Vec<u8>,
}

impl Signer {
    async fn open(source: &Source, password: &Secret) -> Result<Self, String> {
        let (name, pfx) = match source {
            Source::Base64(text) => {
                let compact: String = text.expose().split_whitespace().collect();
                let pfx = STANDARD.decode(compact).map_err(|error| {
                    format!("client_certificate (ARM_CLIENT_CERTIFICATE) is no base64 ({error}); it takes a PFX in base64")
                })?;
                ("client_certificate (ARM_CLIENT_CERTIFICATE)".to_owned(), pfx)
            }
            Source::File(path) => {
                let name = format!("the file {} of client_certificate_path", path.display());
                let pfx = tokio::fs::read(path)
                    .await
                    .map_err(|error| format!("{name} cannot be read ({error})"))?;
                (name, pfx)
            }
        };
        Self::from_pfx(&pfx, password.expose()).map_err(|why| format!("{name} {why}"))
    }

    fn from_pfx(pfx: &[u8], password: &str) -> Result<Self, String> {
        if pfx.starts_with(b"-----BEGIN") {
            return Err(
                "is PEM; make a PFX of it:  openssl pkcs12 -export -in cert.pem -out cert.pfx".to_owned(),
            );
        }
        let store =
            KeyStore::from_pkcs12(pfx, password, Pkcs12ImportPolicy::Relaxed).map_err(
                |error| {
                    match error {
                p12_keystore::error::Error::MacError(_) => {
                    "does not open; is client_certificate_password (ARM_CLIENT_CERTIFICATE_PASSWORD) right?"
                        .to_owned()
                }
                other => format!("is no PFX that can be opened ({other}); is the password right?"),
            }
                },
            )?;
        let (_, chain) = store.private_key_chain().ok_or("holds no private key")?;
        let certificate = chain
            .certs()
            .first()
            .ok_or("holds no certificate that belongs to the key")?;
        let key = RsaKeyPair::from_pkcs8(chain.key().as_der())
            .map_err(|_rejected| "has no RSA key; Entra ID takes no other".to_owned())?;
        Ok(Self {
            key,
            certificate: certificate.as_der().to_vec(),
        })
    }

    /// The signed statement that we are this application.
    fn assertion(&self, cloud: &Cloud, tenant: &str, client_id: &str) -> Result<Secret, String> {
        let now = OffsetDateTime::now_utc();
        // Azure's own clouds are told apart from others, where older software may stand: that knows only the old pair.
        let is_modern = cloud.provider_cloud_name.is_some();
        let mut head = json!({"typ": "JWT", "alg": if is_modern { "PS256" } else { "RS256" }});
        head["x5t"] = json!(URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.certificate)));
        head["x5t#S256"] = json!(URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.certificate)));
        let claims = json!({
            "aud": token_url(cloud, tenant)?.as_str(),
            "iss": client_id,
            "sub": client_id,
            "jti": Uuid::new_v4().to_string(),
            "iat": now.unix_timestamp(),
            "nbf": now.unix_timestamp(),
            "exp": (now + LIFE).unix_timestamp(),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let padding: &'static dyn RsaEncoding = if is_modern {
            &RSA_PSS_SHA256
        } else {
            &RSA_PKCS1_SHA256
        };
        self.key
            .sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_unspecified| "the key cannot sign".to_owned())?;
        Ok(Secret::new(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        )))
    }
}

#[cfg(test)]
mod tests {
    use p12_keystore::{Certificate, KeyStoreEntry, PrivateKey, PrivateKeyChain};
    use rcgen::{CertificateParams, KeyPair, RsaKeySize};

    use super::*;

    fn pfx(key: &KeyPair, password: &str) -> Vec<u8> {
        let certificate = CertificateParams::default().self_signed(key).unwrap();
        let key = PrivateKey::from_der(&key.serialize_der()).unwrap();
        let certificate = Certificate::from_der(certificate.der()).unwrap();
        let mut store = KeyStore::new();
        let chain = PrivateKeyChain::new("1", key, [certificate]);
        store.add_entry("1", KeyStoreEntry::PrivateKeyChain(chain));
        let writer = store
            .writer(password)
            .encryption_iterations(1000)
            .mac_iterations(1000);
        writer.write().unwrap()
    }

    fn cloud(provider_cloud_name: Option<&str>) -> Cloud {
        Cloud {
            authority_host: "https://login.local".into(),
            resource_manager: "https://arm.local".into(),
            resource_manager_audience: "https://arm.local".into(),
            key_vault_suffix: "vault.local".into(),
            provider_cloud_name: provider_cloud_name.map(str::to_owned),
        }
    }

    #[test]
    fn a_statement_names_the_certificate_in_the_words_its_reader_knows() {
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let signer =
            Signer::from_pfx(&pfx(&key, "password"), "password").unwrap_or_else(|why| panic!("{why}"));
        for (name, algorithm) in [(Some("AzurePublicCloud"), "PS256"), (None, "RS256")] {
            let assertion = signer.assertion(&cloud(name), "tenant", "app").unwrap();
            let part = |index: usize| {
                let part = assertion.expose().split('.').nth(index).unwrap();
                serde_json::from_slice::<serde_json::Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
            };
            let (head, claims) = (part(0), part(1));
            assert_eq!(head["alg"], algorithm);
            assert_eq!(head["x5t"].as_str().map(str::len), Some(27), "SHA-1");
            assert_eq!(head["x5t#S256"].as_str().map(str::len), Some(43), "SHA-256");
            assert_eq!(claims["aud"], "https://login.local/tenant/oauth2/v2.0/token");
            assert_eq!((&claims["iss"], &claims["sub"]), (&json!("app"), &json!("app")));
        }
    }

    #[test]
    fn what_cannot_sign_says_why() {
        let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let rows = [
            (pfx(&rsa, "right"), "ARM_CLIENT_CERTIFICATE_PASSWORD"),
            (b"-----BEGIN CERTIFICATE-----".to_vec(), "openssl pkcs12 -export"),
            (b"nonsense".to_vec(), "is no PFX"),
            (pfx(&KeyPair::generate().unwrap(), "wrong"), "has no RSA key"),
        ];
        for (pfx, words) in rows {
            let why = Signer::from_pfx(&pfx, "wrong").err().unwrap_or_default();
            assert!(why.contains(words), "{why}");
        }
    }
}
