//! Throwaway certification authorities, and what they issue.
//!
//! [`Authority`] is one CA whose key lives in memory only: the run's own, and one per cluster. [`Issuers`] plays the
//! authorities behind a vault's certificates. RSA keys take long to make, so vault certificates are made beside the
//! start and awaited where they are first needed ([`Issued`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, RsaKeySize, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// How long an authority, and all but vault certificates, are good: longer than any run.
const YEARS: Duration = Duration::days(3650);
/// How far before the start they are good, for hosts whose clock is a little off.
const BEFORE: Duration = Duration::hours(1);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The parameters do not make a certificate, or a key could not be made.
    #[error("the certificate could not be made")]
    Rcgen(#[from] rcgen::Error),
    /// The random source failed.
    #[error("no randomness for a serial number")]
    Random,
}

/// One certification authority with a P-256 key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    start: OffsetDateTime,
}

/// A server's chain and key, ready for rustls.
pub(crate) struct ServerLeaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    /// A self-signed authority of this common name. `now` is real time: TLS of the endpoints stays real.
    pub(crate) fn new(name: &str, now: OffsetDateTime) -> Result<Self, CertificateError> {
        Self::since(name, now - BEFORE, now)
    }

    /// As [`Authority::new`], made at `from`.
    pub(crate) fn since(
        name: &str,
        from: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let params = authority_params(name, from, now + YEARS)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            start: now,
        })
    }

    /// An authority below this one.
    fn below(&self, name: &str) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let params = authority_params(name, self.start - BEFORE, self.start + YEARS)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            start: self.start,
        })
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A server's leaf with these names or addresses, P-256.
    pub(crate) fn server_leaf(&self, names: &[String]) -> Result<ServerLeaf, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = leaf_params(names, self.start - BEFORE, self.start + YEARS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let common = names.first().cloned().unwrap_or_default();
        params.distinguished_name.push(DnType::CommonName, common);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ServerLeaf {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// As [`Authority::server_leaf`], in files' form.
    pub(crate) fn server_certificate(&self, names: &[String]) -> Result<ClientCertificate, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = leaf_params(names, self.start - BEFORE, self.start + YEARS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ClientCertificate {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// A client certificate: the common name is the user, organizations are groups.
    pub(crate) fn client_certificate(
        &self,
        user: &str,
        groups: &[&str],
    ) -> Result<ClientCertificate, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = leaf_params(&[], self.start - BEFORE, self.start + YEARS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.distinguished_name.push(DnType::CommonName, user);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ClientCertificate {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// The key of a vault's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Rsa2048,
    Rsa3072,
    Rsa4096,
    P256,
    P384,
    P521,
}

impl KeyKind {
    /// Parses `RSA-2048` … `RSA-4096`, `P-256` … `P-521`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "RSA-2048" => Self::Rsa2048,
            "RSA-3072" => Self::Rsa3072,
            "RSA-4096" => Self::Rsa4096,
            "P-256" => Self::P256,
            "P-384" => Self::P384,
            "P-521" => Self::P521,
            _ => return None,
        })
    }

    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
            Self::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        }
    }
}

/// What stands beside the leaf in a vault's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainShape {
    /// The leaf signed itself.
    SelfSigned,
    /// Leaf, intermediate, root.
    Full,
    /// The leaf alone, though an authority issued it.
    LeafOnly,
    /// Root, intermediate, leaf.
    Reversed,
}

impl ChainShape {
    /// Parses `self`, `full`, `leaf_only`, `reversed`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "self" => Self::SelfSigned,
            "full" => Self::Full,
            "leaf_only" => Self::LeafOnly,
            "reversed" => Self::Reversed,
            _ => return None,
        })
    }
}

/// A vault certificate to be made.
#[derive(Clone, Debug)]
pub(crate) struct CertificateSpec {
    /// The subject's common name; without one, the first host.
    pub(crate) common_name: Option<String>,
    /// DNS names, which may be none.
    pub(crate) hosts: Vec<String>,
    pub(crate) key: KeyKind,
    pub(crate) chain: ChainShape,
    /// The issuer's name in the vault, which names the authority; `Self` and `Unknown` get one of their own.
    pub(crate) issuer: String,
    pub(crate) from: OffsetDateTime,
    pub(crate) until: OffsetDateTime,
    /// The key of the version before, as PKCS#8, where the policy reuses it.
    pub(crate) reuse: Option<Vec<u8>>,
}

/// A vault certificate with its key.
pub(crate) struct Material {
    pub(crate) leaf_der: Vec<u8>,
    /// All certificates in the order in which the secret holds them, the leaf among them.
    pub(crate) chain_ders: Vec<Vec<u8>>,
    pub(crate) key_pkcs8: Vec<u8>,
}

/// A vault certificate that is ready, or will be soon. Clones are the same certificate.
#[derive(Clone)]
pub(crate) struct Issued(Shared<BoxFuture<'static, Result<Arc<Material>, String>>>);

impl Issued {
    /// The certificate, when it is ready.
    pub(crate) async fn get(&self) -> Result<Arc<Material>, String> {
        self.0.clone().await
    }
}

/// The authorities behind the vaults' certificates: one intermediate per issuer, made when first named, below one root,
/// so that a bundle written at the start trusts what is issued later.
pub(crate) struct Issuers {
    root: Authority,
    made: Mutex<BTreeMap<String, Arc<Authority>>>,
}

/// What stands above a leaf.
struct Above {
    intermediate: Arc<Authority>,
    root_der: CertificateDer<'static>,
}

impl Issuers {
    /// The root. `now` is the start of the run.
    pub(crate) fn new(now: OffsetDateTime) -> Result<Self, CertificateError> {
        Ok(Self {
            root: Authority::new("Staged Root CA (kvtls sandbox)", now)?,
            made: Mutex::default(),
        })
    }

    /// Starts to make a certificate. Needs a running Tokio runtime.
    pub(crate) fn issue_vault_certificate(&self, spec: CertificateSpec) -> Issued {
        let issuer = match spec.chain {
            ChainShape::SelfSigned => Ok(None),
            _ => self
                .named(&spec.issuer)
                .map(Some)
                .map_err(|error| error.to_string()),
        };
        let making = tokio::task::spawn_blocking(move || make(&spec, issuer?.as_ref()));
        let ready = async move {
            match making.await {
                Ok(made) => made.map(Arc::new),
                Err(stopped) => Err(stopped.to_string()),
            }
        };
        Issued(ready.boxed().shared())
    }

    /// The root of all staged chains.
    pub(crate) fn root_pem(&self) -> &str {
        self.root.pem()
    }

    /// The authority behind this issuer name.
    fn named(&self, name: &str) -> Result<Above, CertificateError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let intermediate = match made.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let shown = if matches!(name, "Self" | "Unknown" | "") {
                    "Staged"
                } else {
                    name
                };
                let below = self.root.below(&format!("{shown} Issuing CA (kvtls sandbox)"))?;
                let below = Arc::new(below);
                made.insert(name.to_owned(), Arc::clone(&below));
                below
            }
        };
        Ok(Above {
            intermediate,
            root_der: self.root.der.clone(),
        })
    }
}

fn make(spec: &CertificateSpec, above: Option<&Above>) -> Result<Material, String> {
    make_checked(spec, above).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    })
}

fn make_checked(spec: &CertificateSpec, above: Option<&Above>) -> Result<Material, CertificateError> {
    let key = match &spec.reuse {
        Some(pkcs8) => KeyPair::try_from(pkcs8.as_slice())?,
        None => spec.key.generate()?,
    };
    let mut params = leaf_params(&spec.hosts, spec.from, spec.until)?;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    let common = spec.common_name.clone().or_else(|| spec.hosts.first().cloned());
    params
        .distinguished_name
        .push(DnType::CommonName, common.unwrap_or_else(|| "unnamed".to_owned()));
    let leaf = match above {
        Some(above) => params.signed_by(&key, &above.intermediate.issuer)?,
        None => params.self_signed(&key)?,
    };
    let leaf_der = leaf.der().to_vec();
    let above = above.map(|above| [above.intermediate.der.to_vec(), above.root_der.to_vec()]);
    let mut chain_ders = vec![leaf_der.clone()];
    if matches!(spec.chain, ChainShape::Full | ChainShape::Reversed) {
        chain_ders.extend(above.into_iter().flatten());
    }
    if spec.chain == ChainShape::Reversed {
        chain_ders.reverse();
    }
    Ok(Material {
        leaf_der,
        chain_ders,
        key_pkcs8: key.serialize_der(),
    })
}

fn authority_params(
    name: &str,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<CertificateParams, CertificateError> {
    let mut params = bare_params(from, until)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn leaf_params(
    names: &[String],
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<CertificateParams, CertificateError> {
    let mut params = bare_params(from, until)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for name in names {
        let san = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        };
        params.subject_alt_names.push(san);
    }
    Ok(params)
}

/// Whole seconds, as X.509 has them, and a random serial number, so that no two certificates are the same.
fn bare_params(from: OffsetDateTime, until: OffsetDateTime) -> Result<CertificateParams, CertificateError> {
    let mut serial = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|aws_lc_rs::error::Unspecified| CertificateError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = from;
    params.not_after = until;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}
