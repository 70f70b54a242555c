//! Which certificate an edge shows: the Secret's if it can be used for the host, the controller's own otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Profile;
use super::plan::{Pair, Plan, matches_host};

/// The usable certificates of a plan, by the rule's host.
#[derive(Default)]
pub(in crate::sandbox::actors) struct Certificates(BTreeMap<String, Shown>);

/// One certificate in use.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) pair: Pair,
    /// SHA-1, as Azure writes it.
    pub(super) thumbprint: String,
    key: Arc<CertifiedKey>,
}

impl Certificates {
    /// Those of the plan that can be used; why the others cannot is logged, as the controller does. What has not
    /// changed since `before` is not parsed again.
    pub(super) fn of(plan: &Plan, before: &Self, profile: Profile) -> Self {
        let mut shown = BTreeMap::new();
        for (host, pair) in &plan.pairs {
            if let Some(known) = before.0.get(host).filter(|known| known.pair == *pair) {
                shown.insert(host.clone(), known.clone());
                continue;
            }
            let covered = if profile.checks_names() { host } else { "" };
            match certified(covered, pair) {
                Ok(certificate) => drop(shown.insert(host.clone(), certificate)),
                Err(error) => {
                    tracing::debug!(
                        secret = pair.secret,
                        error,
                        "error getting SSL certificate, using default"
                    );
                }
            }
        }
        Self(shown)
    }

    /// The one for a server name: exact, then wildcard, then the one for all.
    pub(super) fn find(&self, host: &str) -> Option<&Shown> {
        let wild = || {
            self.0
                .iter()
                .find(|(rule, _)| matches_host(rule, host))
                .map(|(_, shown)| shown)
        };
        self.0.get(host).or_else(wild).or_else(|| self.0.get(""))
    }
}

impl Shown {
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

/// The pair of a Secret as rustls wants it, if it covers the host; an empty host is any.
fn certified(host: &str, pair: &Pair) -> Result<Shown, String> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let leaf = chain.first().ok_or("no certificate")?;
    if !host.is_empty() {
        covers(leaf, host)?;
    }
    let thumbprint = thumbprint(leaf);
    let key =
        PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|error| format!("no key: {error}"))?;
    let key = any_supported_type(&key).map_err(|error| error.to_string())?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| error.to_string())?;
    Ok(Shown {
        pair: pair.clone(),
        thumbprint,
        key: Arc::new(certified),
    })
}

/// Whether one of the certificate's DNS names takes in the host.
fn covers(leaf: &[u8], host: &str) -> Result<(), String> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names = names
        .map(|names| names.value.general_names.as_slice())
        .unwrap_or_default();
    let fits = names.iter().any(|name| match name {
        GeneralName::DNSName(name) => {
            let name = name.to_lowercase();
            name == host || matches_host(&name, host)
        }
        _ => false,
    });
    if fits {
        Ok(())
    } else {
        Err(format!("x509: certificate is not valid for {host}"))
    }
}

fn thumbprint(der: &[u8]) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, der);
    hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Why a Secret's pair cannot be served.
pub(in crate::sandbox::actors) fn mistake(pair: &Pair) -> Option<String> {
    certified("", pair).err()
}

/// A new fake certificate of this name.
pub(super) fn fake(name: &str) -> Result<Arc<CertifiedKey>, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params =
        CertificateParams::new(vec!["ingress.local".to_owned()]).map_err(|error| error.to_string())?;
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Acme Co");
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = any_supported_type(&der).map_err(|error| error.to_string())?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}
