//! The way to the real API server: requests that passed the sandbox's port go on from here.
//!
//! TLS ended at the port, so a client certificate cannot go on. The identity it names does, as an authenticating
//! proxy's headers; bearer tokens go on as they are, and the API server asks the sandbox about those it did not issue.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyDataStream, BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming as Arriving};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use super::super::http::{Answer, Incoming, text, whole};
use super::super::kubernetes::Identity;

/// Headers that end at each connection.
const HOP_BY_HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::UPGRADE,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
    // A journal is for reading.
    header::ACCEPT_ENCODING,
];

/// The common name of the authenticating proxy.
pub(super) const PROXY: &str = "kvtls-sandbox:front";

/// How the headers start that only an authenticating proxy may send.
const REMOTE: &str = "x-remote-";

type Sender = SendRequest<Full<Bytes>>;

/// Connections to one API server.
pub(super) struct Chain {
    address: SocketAddr,
    tls: TlsConnector,
    idle: Mutex<Vec<Sender>>,
    /// Requests that are being answered, without those that stream.
    pub(super) asked: TaskTracker,
}

/// No answer came.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Connect(#[from] std::io::Error),
    #[error("{0}")]
    Exchange(#[from] hyper::Error),
}

impl Chain {
    /// To `address`; `tls` shows the certificate of an authenticating proxy.
    pub(super) fn new(address: SocketAddr, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            address,
            tls: TlsConnector::from(tls),
            idle: Mutex::default(),
            asked: TaskTracker::new(),
        }
    }

    /// Asks the API server; `peer` is whom a client certificate named at the port.
    pub(super) async fn answer(&self, mut request: Incoming, peer: Option<&Identity>) -> Answer {
        let upgrade = request.headers().get(header::UPGRADE).cloned();
        let upgraded = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let streams = is_streamed(request.uri().query().unwrap_or_default());
        let (head, body) = request.into_parts();
        let mut onward = Request::new(Full::new(body));
        *onward.method_mut() = head.method;
        *onward.uri_mut() = path_alone(&head.uri);
        *onward.headers_mut() = passed_on(&head.headers, |name| name.as_str().starts_with(REMOTE));
        introduce(onward.headers_mut(), peer);
        if let Ok(host) = HeaderValue::from_str(&self.address.to_string()) {
            onward.headers_mut().insert(header::HOST, host);
        }
        if let Some(protocol) = upgrade {
            onward
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            onward.headers_mut().insert(header::UPGRADE, protocol);
        }
        let answered = match (upgraded, streams) {
            (Some(client), _) => self.upgrade(onward, client).await,
            (None, true) => self.stream(onward).await,
            (None, false) => self.exchange(onward).await,
        };
        answered.unwrap_or_else(|broken| {
            let message = format!("sandbox: the real API server does not answer: {broken}");
            text(StatusCode::BAD_GATEWAY, message)
        })
    }

    /// Asks as `system:masters`, past the journal.
    pub(super) async fn ask(&self, method: Method, path: &str) -> (StatusCode, Value) {
        self.send(method, path, "application/json", &Value::Null).await
    }

    /// The same with a body.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(body.into());
        let Ok(request) = request else {
            return (StatusCode::BAD_REQUEST, Value::Null);
        };
        let peer = Identity {
            name: PROXY.to_owned(),
            uid: String::new(),
            groups: vec!["system:masters".to_owned()],
        };
        let (head, body) = self.answer(request, Some(&peer)).await.into_parts();
        let bytes = match body.collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(never) => match never {},
        };
        (head.status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Sends on a pooled connection and reads the whole answer.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Broken> {
        let _asked = self.asked.token();
        loop {
            let pooled = self.take();
            let was_pooled = pooled.is_some();
            let mut sender = match pooled {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            match sender.send_request(request.clone()).await {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    let body = body.collect().await?.to_bytes();
                    self.give_back(sender);
                    return Ok(returned(&head, whole(body)));
                }
                // The server had closed it; it has seen nothing.
                Err(error) if was_pooled && error.is_canceled() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends on a connection of its own and hands the answer over as it comes.
    async fn stream(&self, request: Request<Full<Bytes>>) -> Result<Answer, Broken> {
        let mut sender = self.connect().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(returned(&head, streamed(body)))
    }

    /// Sends an upgrade; afterwards both sides are one connection.
    async fn upgrade(
        &self,
        request: Request<Full<Bytes>>,
        client: hyper::upgrade::OnUpgrade,
    ) -> Result<Answer, Broken> {
        let mut sender = self.connect().await?;
        let mut answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (head, body) = answer.into_parts();
            return Ok(returned(&head, whole(body.collect().await?.to_bytes())));
        }
        let server = hyper::upgrade::on(&mut answer);
        let (head, _) = answer.into_parts();
        tokio::spawn(async move {
            let (client, server) = tokio::join!(client, server);
            if let (Ok(client), Ok(server)) = (client, server) {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                // Whoever ends first ends both.
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            }
        });
        let mut back = returned(&head, whole(""));
        for name in [header::CONNECTION, header::UPGRADE] {
            if let Some(value) = head.headers.get(&name) {
                back.headers_mut().insert(name, value.clone());
            }
        }
        Ok(back)
    }

    async fn connect(&self) -> Result<Sender, Broken> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its errors also reach whoever waits for an answer.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(&self, sender: Sender) {
        if !sender.is_closed() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sender);
        }
    }
}

/// Whether the answer to this query comes bit by bit.
fn is_streamed(query: &str) -> bool {
    url::form_urlencoded::parse(query.as_bytes())
        .any(|(name, value)| matches!(&*name, "watch" | "follow") && !matches!(&*value, "false" | "0"))
}

fn path_alone(uri: &http::Uri) -> http::Uri {
    let path = uri.path_and_query().cloned();
    path.map_or_else(http::Uri::default, http::Uri::from)
}

fn passed_on(headers: &HeaderMap, withheld: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let passed = headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(name) && !withheld(name));
    passed
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Says who asks, as an authenticating proxy does.
fn introduce(headers: &mut HeaderMap, peer: Option<&Identity>) {
    let Some(peer) = peer else { return };
    if let Ok(name) = HeaderValue::from_str(&peer.name) {
        headers.insert("x-remote-user", name);
    }
    for group in &peer.groups {
        if let Ok(group) = HeaderValue::from_str(group) {
            headers.append("x-remote-group", group);
        }
    }
}

fn returned(head: &http::response::Parts, body: super::super::http::Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = head.status;
    *answer.headers_mut() = passed_on(&head.headers, |_| false);
    answer
}

/// A body that ends when the other side ends it, however that was.
fn streamed(body: Arriving) -> super::super::http::Body {
    let bytes = BodyDataStream::new(body);
    let frames = bytes.take_while(|bytes| std::future::ready(bytes.is_ok()));
    let frames = frames.filter_map(|bytes| std::future::ready(bytes.ok()));
    let frames = frames.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    http_body_util::BodyExt::boxed(StreamBody::new(frames))
}
