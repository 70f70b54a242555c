//! The HTTP clients: trust store, proxy, time-outs.
//!
//! The proxy comes from the environment (`HTTPS_PROXY`, `NO_PROXY`) and the trust store from `SSL_CERT_FILE` or the
//! system, as with every other tool on a company's machine. Redirects are not followed: none of our planes sends one,
//! and a token must not travel with it.

use std::sync::Arc;
use std::time::Duration;

use azure_core::error::{Error as CoreError, ErrorKind, ResultExt as _};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::request::Body;
use azure_core::http::{AsyncRawResponse, HttpClient, Request, Transport};
use futures_util::TryStreamExt as _;

use super::Error;

/// As `azure_core`'s own client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two pieces of an answer. ARM's own limit for a synchronous answer is 60 s.
const READ_TIMEOUT: Duration = Duration::from_secs(70);

/// Of one request as a whole, so that an answer that only drips ends, too.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(180);
/// To an endpoint on or beside this machine.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that no log may show.
const SENSITIVE: [&str; 3] = [
    "authorization",
    "x-ms-authorization-auxiliary",
    "x-identity-header",
];

/// Builds the transport to the identity endpoint of this machine: plain http, and never through a proxy, which could not
/// reach it.
///
/// # Errors
/// [`Error::Settings`] if the client cannot be built.
pub(super) fn local_transport() -> Result<Transport, Error> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(LOCAL_TIMEOUT)
        .timeout(LOCAL_TIMEOUT * 3)
        .build()
        .map_err(|error| Error::Settings {
            reason: super::Cause::of(&error).chain(),
        })?;
    Ok(Transport::new(Arc::new(Wire(client))))
}

/// Builds the transport that every plane shares.
///
/// # Errors
/// [`Error::Settings`] if no trust store can be read.
pub(super) fn transport() -> Result<Transport, Error> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let causes = found
            .errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        let reason = format!(
            "no trusted certificate authorities were found ({causes}); \
             install the system's CA certificates or point SSL_CERT_FILE at a bundle"
        );
        return Err(Error::Settings { reason });
    }
    // Files of the wild hold authorities that a parser rejects; one of them is no reason to stop.
    let roots = found
        .certs
        .iter()
        .filter_map(|der| reqwest::Certificate::from_der(der).ok());
    let client = reqwest::Client::builder()
        .tls_certs_only(roots)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(|error| Error::Settings {
            reason: super::Cause::of(&error).chain(),
        })?;
    Ok(Transport::new(Arc::new(Wire(client))))
}

/// reqwest behind `azure_core`'s trait. `azure_core` has such an implementation; this one marks tokens as sensitive, so
/// that no logging layer below can show them, and keeps reqwest's own causes.
#[derive(Debug)]
struct Wire(reqwest::Client);

#[async_trait::async_trait]
impl HttpClient for Wire {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let request = to_reqwest(&self.0, request)?;
        let response = self.0.execute(request).await.map_err(|error| {
            let kind = if error.is_connect() {
                ErrorKind::Connection
            } else {
                ErrorKind::Io
            };
            CoreError::with_error(kind, error.without_url(), "no answer")
        })?;
        let status = response.status().as_u16().into();
        let headers = headers(response.headers());
        let body = response.bytes_stream().map_err(|error| {
            CoreError::with_error(ErrorKind::Io, error.without_url(), "the answer broke off")
        });
        Ok(AsyncRawResponse::new(status, headers, Box::pin(body)))
    }
}

fn to_reqwest(client: &reqwest::Client, request: &Request) -> azure_core::Result<reqwest::Request> {
    let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes())
        .with_context(ErrorKind::Other, "the method cannot be sent")?;
    let mut builder = client.request(method, request.url().clone());
    for (name, value) in request.headers().iter() {
        let mut value = reqwest::header::HeaderValue::from_str(value.as_str())
            .with_context(ErrorKind::Other, "a header cannot be sent")?;
        value.set_sensitive(SENSITIVE.contains(&name.as_str().to_ascii_lowercase().as_str()));
        builder = builder.header(name.as_str(), value);
    }
    if let Body::Bytes(bytes) = request.body() {
        builder = builder.body(bytes.clone());
    }
    builder
        .build()
        .with_context(ErrorKind::Other, "the request cannot be sent")
}

fn headers(map: &reqwest::header::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        if let Ok(value) = value.to_str() {
            headers.insert(
                HeaderName::from(name.as_str().to_owned()),
                HeaderValue::from(value.to_owned()),
            );
        }
    }
    headers
}
