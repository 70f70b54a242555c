//! One handshake with a host behind the proxy, and one request on it: what `curl -v https://HOST/` does.
//!
//! By hand and not with a client crate, because what counts here is the certificate that this very handshake showed.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::visitor::{Served, VisitError};
use crate::tls::Leaf;

/// A clock that stands still.
#[derive(Debug)]
struct Standing(UnixTime);

impl TimeProvider for Standing {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// The longest answer to CONNECT that is read.
const LONGEST_HEAD: usize = 4096;

/// The roots of a bundle. One that cannot be used is passed over, as every client does.
pub(super) fn roots(bundle: &str) -> Result<RootCertStore, VisitError> {
    let pem = std::fs::read(bundle).map_err(|error| VisitError::File {
        path: bundle.to_owned(),
        reason: error.to_string(),
    })?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    Ok(roots)
}

/// `GET https://HOST/` through the proxy.
///
/// `now` is the world's time: certificates of a vault are made and judged in it.
pub(super) async fn get(
    proxy: &str,
    host: &str,
    roots: RootCertStore,
    now: UnixTime,
) -> Result<Served, String> {
    let served = tunnelled(proxy, host, roots, now).await;
    served.map_err(|error| error.to_string())
}

async fn tunnelled(
    proxy: &str,
    host: &str,
    roots: RootCertStore,
    now: UnixTime,
) -> Result<Served, Box<dyn Error + Send + Sync>> {
    let mut tcp = TcpStream::connect(proxy.trim_start_matches("http://").trim_end_matches('/')).await?;
    let connect = format!("CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n\r\n");
    tcp.write_all(connect.as_bytes()).await?;
    let answer = head(&mut tcp).await?;
    if answer.split_whitespace().nth(1) != Some("200") {
        return Err(format!("the proxy answered {answer}").into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(Standing(now)))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let leaf = Leaf::from_der(shown.ok_or("no certificate in the handshake")?)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", host)
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(Served {
        leaf,
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// The head of the proxy's answer. Nothing follows it before we speak.
async fn head(tcp: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        head.push(tcp.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
