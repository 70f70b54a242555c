//! Server sides of TLS: the front's, whose leaves are issued per name when first asked for, and each cluster's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::rustls;

use super::super::certificates::{Authority, CertificateError, ServerLeaf};
use super::super::kubernetes::Identity;
use super::names::Names;

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A leaf could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// rustls does not take what we made.
    #[error("the TLS configuration is not consistent")]
    Rustls(#[from] rustls::Error),
    /// The verifier of client certificates does not take the cluster's authority.
    #[error("client certificates cannot be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Names a client may use that does not know the world's.
const LOOPBACK: &[&str] = &["127.0.0.1", "localhost", "::1"];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// TLS of the front and of the vaults.
pub(crate) fn front(authority: Arc<Authority>, names: Names) -> Result<Arc<ServerConfig>, TlsError> {
    let loopback: Vec<_> = LOOPBACK.iter().map(|name| (*name).to_owned()).collect();
    let leaves = Leaves {
        loopback: certified(authority.server_leaf(&loopback)?)?,
        authority,
        names,
        issued: Mutex::default(),
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(leaves));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS of an API server: a leaf of the cluster's authority, and client certificates of the same, if any are shown.
pub(crate) fn cluster(authority: &Authority, fqdn: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let mut names: Vec<_> = vec![fqdn.to_owned()];
    names.extend(LOOPBACK.iter().map(|name| (*name).to_owned()));
    names.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()?;
    let leaf = authority.server_leaf(&names)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(leaf.chain, leaf.key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Who a client certificate is: the common name is the user, organizations are groups.
pub(crate) fn identity(connection: &rustls::ServerConnection) -> Option<Identity> {
    let leaf = connection.peer_certificates()?.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization();
    let groups = groups.filter_map(|group| group.as_str().ok().map(str::to_owned));
    Some(Identity {
        name,
        uid: String::new(),
        groups: groups.collect(),
    })
}

/// The front's leaves.
struct Leaves {
    authority: Arc<Authority>,
    names: Names,
    loopback: Arc<CertifiedKey>,
    issued: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Leaves")
    }
}

impl ResolvesServerCert for Leaves {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else {
            return Some(Arc::clone(&self.loopback));
        };
        if name == "localhost" || self.names.service(name).is_none() {
            return Some(Arc::clone(&self.loopback));
        }
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = issued.get(name) {
            return Some(Arc::clone(leaf));
        }
        let leaf = self.authority.server_leaf(&[name.to_owned()]).ok()?;
        let leaf = certified(leaf).ok()?;
        issued.insert(name.to_owned(), Arc::clone(&leaf));
        Some(leaf)
    }
}

fn certified(leaf: ServerLeaf) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let key = CertifiedKey::from_der(leaf.chain, leaf.key, &aws_lc_rs::default_provider())?;
    Ok(Arc::new(key))
}
