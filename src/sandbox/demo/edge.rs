//! One fresh connection to a host, by its name and through the proxy: a handshake, a request, and what came back.
//!
//! Done by hand because the HTTP client does not tell the certificate of a connection that went through a proxy.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::visitor::Served;
use crate::tls::Leaf;

/// Asks `https://host/` through the CONNECT proxy at `proxy`, trusting the certificates in `roots` (PEM). The
/// certificate must be valid for the host, as for any browser.
pub(super) async fn ask(host: &str, proxy: &str, roots: &[u8]) -> Result<Served, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(roots).filter_map(Result::ok);
    store.add_parsable_certificates(certificates);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .with_root_certificates(store)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| text(&error))?;
    let tunnel = tunnel(host, proxy).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tunnel).await;
    let stream = stream.map_err(|error| text(&error))?;
    let presented = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let presented = presented.ok_or("no certificate in the handshake")?;
    let leaf = Leaf::from_der(presented).map_err(|error| text(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", host)
        .header("user-agent", "kvtls-demo/1");
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
    let status = answer.status();
    let body = answer
        .into_body()
        .collect()
        .await
        .map_err(|error| text(&error))?
        .to_bytes();
    Ok(Served {
        leaf,
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

async fn tunnel(host: &str, proxy: &str) -> Result<TcpStream, String> {
    /// More than any proxy's answer to CONNECT.
    const LONGEST: usize = 4096;
    let address = proxy.trim_start_matches("http://").trim_end_matches('/');
    let lost = |error: std::io::Error| format!("the proxy {address}: {error}");
    let mut stream = TcpStream::connect(address).await.map_err(lost)?;
    let request = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut answer = Vec::new();
    // Byte by byte, so that nothing of the handshake is taken; the answer is short.
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.map_err(lost)?);
        if answer.len() > LONGEST {
            return Err(format!("the proxy {address} answered without end"));
        }
    }
    let first = String::from_utf8_lossy(&answer);
    let first = first.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) == Some("200") {
        Ok(stream)
    } else {
        Err(format!("the proxy {address} said {first}"))
    }
}
