//! Requests over pooled HTTP/1.1 connections, the way an actor's own client library would make them.
//!
//! One [`Transport`] per actor, because the user agent tells the journal and the field managers who speaks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::sandbox::core::ACTOR_HEADER;

/// Why no answer came.
#[derive(Debug, Error)]
pub(super) enum TransportError {
    /// Nobody listens there.
    #[error("dial tcp {address}: {cause}")]
    Connect {
        address: SocketAddr,
        cause: std::io::Error,
    },
    /// The TLS handshake failed.
    #[error("tls: {0}")]
    Handshake(std::io::Error),
    /// The connection ended in the middle.
    #[error("{0}")]
    Cut(#[from] hyper::Error),
    /// The request could not be put into words.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// A certificate, key or name of the settings is no such thing.
    #[error("{0}")]
    Settings(String),
}

/// Where to connect, and whom to expect there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// The socket.
    pub(super) address: SocketAddr,
    /// The name in the certificate; `None` speaks plain HTTP.
    pub(super) tls_name: Option<String>,
}

/// An answer, wholly read.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A client with its own user agent and connections.
pub(super) struct Transport {
    tls: TlsConnector,
    agent: HeaderValue,
    actor: HeaderValue,
    idle: Mutex<HashMap<Peer, Vec<SendRequest<Full<Bytes>>>>>,
}

/// TLS settings of a client that trusts `roots` and perhaps shows a certificate (PEM, certificate and key).
pub(super) fn tls_settings(
    roots: Arc<RootCertStore>,
    pair: Option<(&str, &str)>,
) -> Result<Arc<ClientConfig>, TransportError> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| TransportError::Settings(format!("{what}: {error}"));
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("protocol versions", &error))?
            .with_root_certificates(roots);
    let Some((certificate, key)) = pair else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong("client certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| wrong("client key", &error))?;
    let settings = builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong("client certificate", &error))?;
    Ok(Arc::new(settings))
}

/// The root store that holds these PEM certificates.
pub(super) fn roots_of(pem: &str) -> Result<Arc<RootCertStore>, TransportError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| TransportError::Settings(format!("CA: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| TransportError::Settings(format!("CA: {error}")))?;
    }
    Ok(Arc::new(roots))
}

impl Transport {
    /// `actor` is whose requests these are, for the journal and for faults.
    pub(super) fn new(tls: Arc<ClientConfig>, agent: &str, actor: &'static str) -> Self {
        Self {
            tls: TlsConnector::from(tls),
            agent: HeaderValue::from_str(agent).unwrap_or(HeaderValue::from_static("kvtls-sandbox")),
            actor: HeaderValue::from_static(actor),
            idle: Mutex::default(),
        }
    }

    /// Sends, and reads the whole answer.
    pub(super) async fn send(&self, peer: &Peer, request: Request<Bytes>) -> Result<Reply, TransportError> {
        let (parts, body) = request.into_parts();
        // A pooled connection may have been closed by the server meanwhile; only a request that changes nothing is
        // repeated then.
        let repeatable = parts.method == http::Method::GET;
        let mut pooled = true;
        loop {
            let request = Request::from_parts(parts.clone(), body.clone());
            let sender = if pooled { self.take(peer) } else { None };
            pooled = sender.is_some();
            let mut sender = match sender {
                Some(sender) => sender,
                None => self.connect(peer).await?,
            };
            match exchange(&mut sender, self.dress(request)?).await {
                Ok(reply) => {
                    self.give_back(peer, sender);
                    return Ok(reply);
                }
                Err(error) if pooled && (repeatable || error.is_canceled()) => pooled = false,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends on a connection of its own and hands over the answer while it still arrives.
    pub(super) async fn open(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, TransportError> {
        let mut sender = self.connect(peer).await?;
        Ok(sender.send_request(self.dress(request)?).await?)
    }

    fn dress(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, TransportError> {
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(header::USER_AGENT, self.agent.clone());
        parts.headers.insert(ACTOR_HEADER, self.actor.clone());
        if let Some(authority) = parts.uri.authority() {
            let host = HeaderValue::from_str(authority.as_str()).map_err(http::Error::from)?;
            parts.headers.insert(header::HOST, host);
        }
        // Servers expect the path alone.
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse().map_err(http::Error::from)?;
        Ok(Request::from_parts(parts, Full::new(body)))
    }

    async fn connect(&self, peer: &Peer) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        let address = peer.address;
        let stream = TcpStream::connect(address)
            .await
            .map_err(|cause| TransportError::Connect { address, cause })?;
        // Small requests one after the other: waiting to fill a packet only costs time.
        stream
            .set_nodelay(true)
            .map_err(|cause| TransportError::Connect { address, cause })?;
        match &peer.tls_name {
            None => start(stream).await,
            Some(name) => {
                let name = ServerName::try_from(name.clone())
                    .map_err(|error| TransportError::Settings(format!("server name: {error}")))?;
                let stream = self
                    .tls
                    .connect(name, stream)
                    .await
                    .map_err(TransportError::Handshake)?;
                start(stream).await
            }
        }
    }

    fn take(&self, peer: &Peer) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = idle.get_mut(peer)?;
        while let Some(sender) = pool.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(&self, peer: &Peer, sender: SendRequest<Full<Bytes>>) {
        if !sender.is_closed() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.entry(peer.clone()).or_default().push(sender);
        }
    }
}

async fn start<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, TransportError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its errors also reach whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Reply, hyper::Error> {
    sender.ready().await?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Reply {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}
