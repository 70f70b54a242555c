//! What a certificate's secret and key hold, and what an upload brings: PEM, PFX, and nothing if not exportable.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use p12_keystore::{
    Certificate as StoreCertificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm,
    Pkcs12ImportPolicy, PrivateKey, PrivateKeyChain,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::Azure;
use super::call::Reply;
use super::certificates::{Certificate, Shape, Version, policy_of};
use super::key_vault::{DataCall, page};
use super::refusal::Refusal;
use super::tree;
use crate::sandbox::certificates::{ChainShape, KeyKind, Material};

const PEM: &str = "application/x-pem-file";

/// The iterations of a vault's PFX.
const ITERATIONS: u32 = 2000;

impl Azure {
    /// Calls below `/secrets`.
    pub(super) async fn secret_call(&self, call: &DataCall) -> Result<Reply, Refusal> {
        if call.path.len() == 1 || call.segment(2).eq_ignore_ascii_case("versions") {
            return Ok(self.list_parts(call, "secrets"));
        }
        let name = call.segment(1);
        let missing = || {
            Refusal::vault(
                StatusCode::NOT_FOUND,
                "SecretNotFound",
                format!(
                    "A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret \
                     you may be able to recover it using the correct recovery command. For help resolving this issue, \
                     please see https://go.microsoft.com/fwlink/?linkid=2125182"
                ),
            )
        };
        let (certificate, recovery) = self.certificate(call).ok().ok_or_else(missing)?;
        let version = certificate.version(call.segment(2)).ok_or_else(missing)?;
        if !version.enabled {
            return Err(Refusal::vault(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "Operation get is not allowed on a disabled secret.",
            )
            .inner("SecretDisabled"));
        }
        let value = self.secret_value(&certificate, version).await?;
        let tail = format!("{}/{}", certificate.name, version.id);
        Ok(Reply::ok(json!({
            "value": value,
            "contentType": certificate.content_type(),
            "id": format!("{}/secrets/{tail}", call.base),
            "managed": true,
            "attributes": version.attributes(Some(&recovery), &call.version),
            "kid": format!("{}/keys/{tail}", call.base),
        })))
    }

    /// The secret of a version; the same text each time.
    async fn secret_value(&self, certificate: &Certificate, version: &Version) -> Result<String, Refusal> {
        if let Some(known) = version.secret.get() {
            return Ok(known.clone());
        }
        let failed = |error: String| {
            Refusal::vault(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                format!("sandbox: {error}"),
            )
        };
        let material = version.source.material().await.map_err(failed)?;
        let key = certificate
            .is_exportable()
            .then_some(material.key_pkcs8.as_slice());
        let value = if certificate.content_type() == PEM {
            pem(key, &material.chain_ders)
        } else {
            STANDARD.encode(pfx(key, &material, certificate.modern_pfx).map_err(failed)?)
        };
        self.core.markers.private_key(&material.key_pkcs8);
        for piece in key.map(pem_pieces).unwrap_or_default() {
            self.core.markers.secret(&piece);
        }
        // A PFX is all cipher text but for its head: any piece from its middle gives it away.
        if key.is_some() && certificate.content_type() != PEM {
            let middle = value.len() / 2;
            self.core
                .markers
                .secret(value.get(middle..middle + 48).unwrap_or_default());
        }
        Ok(version.secret.get_or_init(|| value).clone())
    }

    /// Calls below `/keys`: the public part.
    pub(super) async fn key_call(&self, call: &DataCall) -> Result<Reply, Refusal> {
        if call.path.len() == 1 {
            return Ok(self.list_parts(call, "keys"));
        }
        let name = call.segment(1);
        let missing = || {
            Refusal::vault(
                StatusCode::NOT_FOUND,
                "KeyNotFound",
                format!(
                    "A key with (name/id) {name} was not found in this key vault. If you recently deleted this key you \
                     may be able to recover it using the correct recovery command. For help resolving this issue, \
                     please see https://go.microsoft.com/fwlink/?linkid=2125182"
                ),
            )
        };
        let (certificate, recovery) = self.certificate(call).ok().ok_or_else(missing)?;
        let version = certificate.version(call.segment(2)).ok_or_else(missing)?;
        let leaf = super::certificate_calls::leaf_of(version).await?;
        let mut key = web_key(&leaf).unwrap_or_default();
        let id = format!("{}/keys/{}/{}", call.base, certificate.name, version.id);
        tree::set(&mut key, "kid", json!(id));
        let operations = json!(["sign", "verify", "wrapKey", "unwrapKey", "encrypt", "decrypt"]);
        tree::set(&mut key, "key_ops", operations);
        let attributes = version.attributes(Some(&recovery), &call.version);
        Ok(Reply::ok(
            json!({"key": key, "attributes": attributes, "managed": true}),
        ))
    }

    /// The lists of secrets and keys, or of a secret's versions.
    fn list_parts(&self, call: &DataCall, part: &str) -> Reply {
        let mut state = self.lock();
        let recovery = state.recovery(&call.vault);
        let vault = state.vault_named(&call.vault);
        let all = vault
            .into_iter()
            .flat_map(|vault| vault.objects.certificates.values());
        let wanted = call.segment(1);
        let mut items = Vec::new();
        for certificate in all.filter(|each| wanted.is_empty() || each.name.eq_ignore_ascii_case(wanted)) {
            let newest = certificate.versions.len().saturating_sub(1);
            for version in certificate
                .versions
                .iter()
                .skip(if wanted.is_empty() { newest } else { 0 })
            {
                let tail = match wanted.is_empty() {
                    true => certificate.name.clone(),
                    false => format!("{}/{}", certificate.name, version.id),
                };
                let attributes = version.attributes(Some(&recovery), &call.version);
                let id = format!("{}/{part}/{tail}", call.base);
                let item = match part {
                    "keys" => json!({"kid": id, "attributes": attributes, "managed": true}),
                    _ => json!({
                        "contentType": certificate.content_type(),
                        "id": id,
                        "managed": true,
                        "attributes": attributes,
                    }),
                };
                items.push((version.id.clone(), item));
            }
        }
        Reply::ok(page(call, items))
    }
}

/// Key first, then certificates, in lines of 64.
fn pem(key: Option<&[u8]>, chain: &[Vec<u8>]) -> String {
    let mut text = String::new();
    let blocks = key.map(|key| ("PRIVATE KEY", key)).into_iter();
    for (label, der) in blocks.chain(chain.iter().map(|der| ("CERTIFICATE", der.as_slice()))) {
        text.push_str(&format!("-----BEGIN {label}-----\n"));
        let encoded = STANDARD.encode(der);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str(&format!("-----END {label}-----\n"));
    }
    text
}

/// Pieces of a key's PEM that are secret and lie in one line each.
fn pem_pieces(key: &[u8]) -> Vec<String> {
    let encoded = STANDARD.encode(key);
    let lines = encoded.as_bytes().chunks_exact(64);
    let count = lines.len();
    // RSA: the second half is all secret. EC: the scalar runs on into the second line.
    let secret = if key.len() > 500 {
        lines.skip(count / 2).take(count)
    } else {
        lines.skip(1).take(1)
    };
    secret
        .filter_map(|line| {
            line.get(..24)
                .map(|piece| String::from_utf8_lossy(piece).into_owned())
        })
        .collect()
}

/// A PFX without password, as vaults write it: SHA-1 and three-key triple DES.
fn pfx(key: Option<&[u8]>, material: &Material, modern: bool) -> Result<Vec<u8>, String> {
    let certificates = material
        .chain_ders
        .iter()
        .map(|der| StoreCertificate::from_der(der));
    let certificates: Vec<_> = certificates
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let mut store = KeyStore::new();
    match key {
        Some(key) => {
            let key = PrivateKey::from_der(key).map_err(|error| error.to_string())?;
            let chain = PrivateKeyChain::new("1", key, certificates);
            store.add_entry("1", KeyStoreEntry::PrivateKeyChain(chain));
        }
        None => {
            for (index, certificate) in certificates.into_iter().enumerate() {
                store.add_entry(&format!("{}", index + 1), KeyStoreEntry::Certificate(certificate));
            }
        }
    }
    let (cipher, mac) = if modern {
        (
            EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
            MacAlgorithm::HmacSha256,
        )
    } else {
        (
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
            MacAlgorithm::HmacSha1,
        )
    };
    let writer = store.writer("").encryption_algorithm(cipher).mac_algorithm(mac);
    let writer = writer
        .encryption_iterations(ITERATIONS)
        .mac_iterations(ITERATIONS);
    writer.write().map_err(|error| error.to_string())
}

/// A leaf's public key as a JSON web key.
fn web_key(leaf: &[u8]) -> Option<Value> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let encode = |bytes: &[u8]| {
        let bytes = bytes
            .iter()
            .position(|byte| *byte != 0)
            .and_then(|from| bytes.get(from..));
        URL_SAFE_NO_PAD.encode(bytes.unwrap_or_default())
    };
    match certificate.public_key().parsed().ok()? {
        PublicKey::RSA(key) => {
            Some(json!({"kty": "RSA", "n": encode(key.modulus), "e": encode(key.exponent)}))
        }
        PublicKey::EC(point) => {
            let coordinates = point.data().get(1..)?;
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            let curve = match x.len() {
                32 => "P-256",
                48 => "P-384",
                _ => "P-521",
            };
            let whole = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            Some(json!({"kty": "EC", "crv": curve, "x": whole(x), "y": whole(y)}))
        }
        _ => None,
    }
}

/// A request an issuer could sign. Its key is thrown away: no certificate in this world needs it.
pub(super) fn csr(shape: &Shape) -> Option<String> {
    let key = rcgen::KeyPair::generate().ok()?;
    let params = rcgen::CertificateParams::new(shape.hosts.clone()).ok()?;
    let request = params.serialize_request(&key).ok()?;
    Some(STANDARD.encode(request.der()))
}

/// An uploaded certificate, and what the vault concludes from it.
pub(super) struct Upload {
    pub(super) material: Arc<Material>,
    pub(super) policy: Value,
    pub(super) shape: Shape,
    pub(super) not_before: OffsetDateTime,
    pub(super) expires: OffsetDateTime,
    pub(super) modern_pfx: bool,
}

impl Upload {
    /// Reads the body of an import: PEM text, or base64 of a PFX.
    pub(super) fn read(body: &Value) -> Result<Self, String> {
        let value = body["value"].as_str().ok_or("Property value is required.")?;
        let is_pem = value.contains("-----BEGIN");
        let asked = tree::text(body, "policy.secret_props.contentType");
        if is_pem && asked != PEM {
            return Err(format!(
                "The specified PEM X.509 certificate content needs the content type {PEM}."
            ));
        }
        let (key_pkcs8, chain_ders) = if is_pem {
            from_pem(value)?
        } else {
            from_pfx(value, body["pwd"].as_str().unwrap_or_default())?
        };
        let leaf = chain_ders
            .first()
            .ok_or("The specified content holds no certificate.")?
            .clone();
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|error| error.to_string())?;
        let key = kind_of(&parsed).ok_or("The certificate's key is of a kind that vaults do not take.")?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let hosts = names.into_iter().flat_map(|names| &names.value.general_names);
        let hosts: Vec<_> = hosts
            .filter_map(|name| match name {
                x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        let common = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok());
        let validity = parsed.validity();
        let months =
            (validity.not_after.timestamp() - validity.not_before.timestamp() + 2_629_745) / 2_629_746;
        let shape = Shape {
            common_name: common.map(str::to_owned),
            hosts,
            key,
            chain: if chain_ders.len() > 1 {
                ChainShape::Full
            } else {
                ChainShape::SelfSigned
            },
            issuer: match tree::text(body, "policy.issuer.name") {
                "" => "Unknown".to_owned(),
                name => name.to_owned(),
            },
        };
        let exportable = body["policy"]["key_props"]["exportable"] != false;
        let content = if is_pem { PEM } else { "application/x-pkcs12" };
        let mut policy = policy_of(&shape, exportable, content, months);
        // The subject is read back from the certificate, most specific part first.
        tree::set(
            &mut policy,
            "x509_props.subject",
            json!(parsed.subject().to_string()),
        );
        Ok(Self {
            policy,
            shape,
            not_before: validity.not_before.to_datetime(),
            expires: validity.not_after.to_datetime(),
            modern_pfx: false,
            material: Arc::new(Material {
                leaf_der: leaf,
                chain_ders,
                key_pkcs8,
            }),
        })
    }
}

fn kind_of(certificate: &X509Certificate<'_>) -> Option<KeyKind> {
    match certificate.public_key().parsed().ok()? {
        PublicKey::RSA(key) => match key.key_size() {
            2048 => Some(KeyKind::Rsa2048),
            3072 => Some(KeyKind::Rsa3072),
            4096 => Some(KeyKind::Rsa4096),
            _ => None,
        },
        PublicKey::EC(point) => match point.data().len() {
            65 => Some(KeyKind::P256),
            97 => Some(KeyKind::P384),
            133 => Some(KeyKind::P521),
            _ => None,
        },
        _ => None,
    }
}

type KeyAndChain = (Vec<u8>, Vec<Vec<u8>>);

fn from_pem(text: &str) -> Result<KeyAndChain, String> {
    let mut key = None;
    let mut chain = Vec::new();
    for block in x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()) {
        let block = block.map_err(|error| error.to_string())?;
        match block.label.as_str() {
            "PRIVATE KEY" => key = Some(block.contents),
            "CERTIFICATE" => chain.push(block.contents),
            other => {
                return Err(format!(
                    "The specified PEM content holds a block '{other}' that vaults do not take."
                ));
            }
        }
    }
    Ok((
        key.ok_or("The specified PEM content holds no private key.")?,
        chain,
    ))
}

fn from_pfx(text: &str, password: &str) -> Result<KeyAndChain, String> {
    let bad = || {
        "The specified PKCS#12 X.509 certificate content can not be read. Please check if certificate is in \
                  valid PKCS#12 format."
            .to_owned()
    };
    let der = STANDARD.decode(text.trim()).ok().ok_or_else(bad)?;
    let store = KeyStore::from_pkcs12(&der, password, Pkcs12ImportPolicy::Relaxed)
        .ok()
        .ok_or_else(bad)?;
    let (_, chain) = store.private_key_chain().ok_or_else(bad)?;
    let certificates = chain
        .certs()
        .iter()
        .map(|certificate| certificate.as_der().to_vec());
    Ok((chain.key().as_der().to_vec(), certificates.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn material() -> Material {
        let pair = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
        let leaf = certificate.self_signed(&pair).unwrap().der().to_vec();
        Material {
            chain_ders: vec![leaf.clone()],
            leaf_der: leaf,
            key_pkcs8: pair.serialize_der(),
        }
    }

    #[test]
    fn a_pfx_comes_back_as_it_went_in() {
        let material = material();
        let encoded = STANDARD.encode(pfx(Some(&material.key_pkcs8), &material, false).unwrap());
        let (key, chain) = from_pfx(&encoded, "").unwrap();
        assert_eq!(
            (key, chain),
            (material.key_pkcs8.clone(), material.chain_ders.clone())
        );
        // pbeWithSHAAnd3-KeyTripleDES-CBC
        let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01, 0x03];
        let der = STANDARD.decode(encoded).unwrap();
        assert!(der.windows(oid.len()).any(|window| window == oid));
    }

    #[test]
    fn a_pem_upload_tells_its_policy() {
        let material = material();
        let text = pem(Some(&material.key_pkcs8), &material.chain_ders);
        let body = json!({"value": text, "policy": {"secret_props": {"contentType": PEM}}});
        let upload = Upload::read(&body).unwrap();
        assert_eq!(upload.shape.hosts, ["a.example.com"]);
        assert_eq!(upload.policy["key_props"]["crv"], "P-256");
        assert_eq!(upload.material.leaf_der, material.leaf_der);
    }

    #[test]
    fn without_a_key_a_secret_holds_certificates_only() {
        let material = material();
        assert!(!pem(None, &material.chain_ders).contains("PRIVATE"));
        let encoded = STANDARD.encode(pfx(None, &material, false).unwrap());
        assert!(from_pfx(&encoded, "").is_err());
    }
}
