//! An edge's socket: TLS by server name, and plain HTTP on the same port, told apart by the first byte.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Edge;
use super::plan::Target;

/// What a TLS record of a handshake begins with.
const HANDSHAKE: u8 = 0x16;

/// Serves an edge's own socket until dropped. While it is not reachable nothing listens, so connections are refused.
pub(super) async fn public(edge: Arc<Edge>) {
    let Some(acceptor) = acceptor(&edge) else { return };
    let mut settings = edge.settings.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = taken(&edge.listener);
    loop {
        let reachable = settings.borrow_and_update().reachable;
        if !reachable {
            listener = None;
            connections.abort_all();
        } else if listener.is_none() {
            listener = edge
                .socket
                .and_then(|socket| StdListener::bind(socket).ok())
                .and_then(|bound| listen(bound).ok());
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = settings.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accepted => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(Arc::clone(&edge), acceptor.clone(), stream));
                }
            }
        }
    }
}

/// Serves what the edge's pods serve until dropped, also while its load balancer cannot be reached.
pub(super) async fn pods(edge: Arc<Edge>) {
    let (Some(acceptor), Some(listener)) = (acceptor(&edge), taken(&edge.inner_listener)) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(Arc::clone(&edge), acceptor.clone(), stream));
                }
            }
        }
    }
}

fn taken(bound: &Mutex<Option<StdListener>>) -> Option<TcpListener> {
    let bound = bound.lock().unwrap_or_else(PoisonError::into_inner).take();
    bound.and_then(|bound| listen(bound).ok())
}

fn listen(bound: StdListener) -> std::io::Result<TcpListener> {
    bound.set_nonblocking(true)?;
    TcpListener::from_std(bound)
}

fn acceptor(edge: &Arc<Edge>) -> Option<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?;
    let resolver = Arc::new(Resolver(Arc::clone(edge)));
    let mut settings = builder.with_no_client_auth().with_cert_resolver(resolver);
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(TlsAcceptor::from(Arc::new(settings)))
}

struct Resolver(Arc<Edge>);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Resolver({})", self.0.name)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().unwrap_or_default().to_lowercase();
        let served = self.0.served();
        let found = served
            .certificates
            .find(&host)
            .map(super::certificates::Shown::key);
        found.or_else(|| self.0.fake.clone())
    }
}

async fn connection(edge: Arc<Edge>, acceptor: TlsAcceptor, stream: TcpStream) {
    let mut first = [0];
    if !matches!(stream.peek(&mut first).await, Ok(1)) {
        return;
    }
    if first[0] == HANDSHAKE {
        if let Ok(stream) = acceptor.accept(stream).await {
            speak(edge, TokioIo::new(stream), true).await;
        }
    } else {
        speak(edge, TokioIo::new(stream), false).await;
    }
}

async fn speak<S>(edge: Arc<Edge>, stream: S, secure: bool)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&edge, &request, secure);
        async move { Ok::<_, Infallible>(answer) }
    });
    // How a client ends its connection is its own affair.
    drop(http1::Builder::new().serve_connection(stream, service).await);
}

fn answer(edge: &Edge, request: &Request<Incoming>, secure: bool) -> Response<Full<Bytes>> {
    let authority = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let host = host_of(authority);
    let path = request.uri().path();
    let served = edge.served();
    let server = edge.profile.server();
    let Some(route) = served.plan.route(&host, path, secure) else {
        return page(StatusCode::NOT_FOUND, server);
    };
    let elsewhere = match &route.to {
        Target::Redirect { scheme, status } => {
            let scheme = scheme.as_deref().unwrap_or(if secure { "https" } else { "http" });
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::FOUND);
            Some((scheme, status))
        }
        Target::Backend { .. } if !secure && served.plan.redirects(&host) => {
            Some(("https", StatusCode::PERMANENT_REDIRECT))
        }
        Target::Backend { .. } => None,
    };
    if let Some((scheme, status)) = elsewhere {
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let mut answer = page(status, server);
        if let Ok(location) = HeaderValue::from_str(&format!("{scheme}://{host}{target}")) {
            answer.headers_mut().insert(header::LOCATION, location);
        }
        return answer;
    }
    let (backend, endpoints) = match &route.to {
        Target::Backend { backend, endpoints } if *endpoints > 0 => (backend, endpoints),
        _ => return page(StatusCode::SERVICE_UNAVAILABLE, server),
    };
    let mut body = json!({"host": host, "path": path, "backend": backend,
        "edge": format!("{}/{}", edge.cluster, edge.name), "endpoints": endpoints});
    let from = if edge.is_gateway() { "route" } else { "ingress" };
    body[from] = route.source.as_str().into();
    let mut answer = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if secure {
        let lasting = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, lasting);
    }
    answer
}

/// The host of an authority, without its port.
fn host_of(authority: &str) -> String {
    if authority.parse::<SocketAddr>().is_ok() || !authority.starts_with('[') {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        return host.to_lowercase();
    }
    authority.to_lowercase()
}

/// A page of the controller's own.
fn page(status: StatusCode, server: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
         <hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
    );
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    answer
}
