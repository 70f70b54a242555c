//! What is really served: a TLS handshake with an edge.
//!
//! The certificate is looked at, not trusted: a self-signed or expired one is what a caller wants to know about. That
//! the peer holds the key is still checked, so the answer is not somebody's copy of a certificate.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

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
    /// The host is no name TLS can ask for: a wildcard, an empty text.
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
        /// The proxy's host.
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
    host: &str,
    proxy: &ProxySettings,
    timeout: Duration,
) -> Result<Served, EdgeError> {
    let name = server_name(host)?;
    let address = authority(endpoint);
    let all = async {
        let stream = connect(endpoint, proxy).await?;
        shake_hands(&address, host, name, stream).await
    };
    within(timeout, &address, all).await
}

/// The same over a connection that is there already; `address` names it in errors.
///
/// # Errors
/// [`EdgeError`] says how far it came.
pub async fn handshake_over<S>(
    address: &str,
    host: &str,
    stream: S,
    timeout: Duration,
) -> Result<Served, EdgeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = server_name(host)?;
    within(timeout, address, shake_hands(address, host, name, stream)).await
}

async fn within(
    timeout: Duration,
    address: &str,
    all: impl Future<Output = Result<Served, EdgeError>>,
) -> Result<Served, EdgeError> {
    tokio::time::timeout(timeout, Box::pin(all))
        .await
        .unwrap_or_else(|_elapsed| {
            Err(EdgeError::Timeout {
                address: address.to_owned(),
                seconds: timeout.as_secs(),
            })
        })
}

fn server_name(host: &str) -> Result<ServerName<'static>, EdgeError> {
    ServerName::try_from(host.to_owned())
        .ok()
        .ok_or_else(|| EdgeError::Host {
            host: host.to_owned(),
        })
}

/// `host:port`, with brackets around an IPv6 address.
fn authority(endpoint: &Endpoint) -> String {
    let address = endpoint.address.trim_matches(['[', ']']);
    if address.contains(':') {
        format!("[{address}]:{}", endpoint.port)
    } else {
        format!("{address}:{}", endpoint.port)
    }
}

async fn connect(endpoint: &Endpoint, proxy: &ProxySettings) -> Result<TcpStream, EdgeError> {
    let address = authority(endpoint);
    match proxy.for_host(&endpoint.address, endpoint.port) {
        Some(proxy) => tunnel(proxy, &address).await,
        None => TcpStream::connect(&address)
            .await
            .map_err(|error| EdgeError::Connect {
                address,
                reason: error.to_string(),
            }),
    }
}

/// A connection through an HTTP proxy.
async fn tunnel(proxy: &str, address: &str) -> Result<TcpStream, EdgeError> {
    let parsed = parse_proxy(proxy);
    let shown = parsed.as_ref().map_or_else(
        || "of the environment".to_owned(),
        |url| url.authority().rsplit('@').next().unwrap_or_default().to_owned(),
    );
    let refused = |reason: String| EdgeError::Proxy {
        proxy: shown.clone(),
        address: address.to_owned(),
        reason,
    };
    let Some(url) = parsed.filter(|url| url.scheme() == "http") else {
        return Err(refused("only http:// proxies can be used".to_owned()));
    };
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let mut stream = TcpStream::connect(format!("{host}:{port}"))
        .await
        .map_err(|error| refused(error.to_string()))?;
    let request = format!(
        "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{}\r\n",
        authorization(&url)
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| refused(error.to_string()))?;
    let head = read_head(&mut stream)
        .await
        .map_err(|error| refused(error.to_string()))?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(stream),
        _ => Err(refused(format!("it answered \"{status}\""))),
    }
}

/// `proxy:3128` without a scheme is common, too.
fn parse_proxy(text: &str) -> Option<Url> {
    if text.contains("://") {
        Url::parse(text).ok()
    } else {
        Url::parse(&format!("http://{text}")).ok()
    }
}

fn authorization(proxy: &Url) -> String {
    if proxy.username().is_empty() {
        return String::new();
    }
    let decoded = |text: &str| {
        // form_urlencoded turns "+" into a space, which userinfo does not mean.
        let escaped = format!("x={}", text.replace('+', "%2B"));
        url::form_urlencoded::parse(escaped.as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    let pair = format!(
        "{}:{}",
        decoded(proxy.username()),
        decoded(proxy.password().unwrap_or_default())
    );
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

/// Reads up to the empty line, byte by byte: what follows it belongs to TLS.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 * 1024 {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn shake_hands<S>(
    address: &str,
    host: &str,
    name: ServerName<'static>,
    stream: S,
) -> Result<Served, EdgeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |reason: String| EdgeError::Handshake {
        address: address.to_owned(),
        host: host.to_owned(),
        reason,
    };
    let config = config().map_err(|error| failed(error.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    let first = chain
        .first()
        .ok_or_else(|| failed("it sent no certificate".to_owned()))?;
    let leaf = Leaf::from_der(first).map_err(|error| EdgeError::Certificate {
        address: address.to_owned(),
        host: host.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Served {
        leaf,
        chain_length: chain.len(),
    })
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looking(provider)))
        .with_no_client_auth();
    // Each look is a full handshake: a resumed one shows no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Accepts every certificate and checks that its key signed the handshake.
#[derive(Debug)]
struct Looking(Arc<CryptoProvider>);

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            leaf,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            leaf,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "edge_tests.rs"]
mod tests;
