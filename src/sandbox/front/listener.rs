//! Accepts connections, speaks TLS on them, and serves HTTP/1.1: kubectl and every SDK are content with it, upgrades
//! stay simple and so does the journal.

use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::super::assembly::Running;
use super::super::kubernetes::Identity;
use super::names::{Opened, Service};
use super::socket::{Fate, Socket};
use super::{Port, gate, proxy, tls};

/// Serves every port that is opened, until the world ends.
pub(crate) async fn serve_opened(
    running: Arc<Running>,
    mut opened: tokio::sync::mpsc::UnboundedReceiver<Opened>,
) {
    loop {
        let next = tokio::select! {
            next = opened.recv() => next,
            () = running.ends.cancelled() => None,
        };
        let Some(next) = next else {
            return;
        };
        serve(&running, next.listener, Port::Tls(next.service), next.ends);
    }
}

/// Serves one port until the world, or the thing behind the port, ends.
pub(crate) fn serve(
    running: &Arc<Running>,
    listener: std::net::TcpListener,
    port: Port,
    ends: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a port cannot be served");
            return;
        }
    };
    let running = Arc::clone(running);
    let tasks = running.tasks.clone();
    tasks.spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ends.cancelled() => return,
                () = running.ends.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = connection(Arc::clone(&running), stream, port.clone(), ends.clone());
                    running.tasks.spawn(connection);
                }
                // Too many open files; the next connection may find some free again.
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    });
}

async fn connection(running: Arc<Running>, stream: TcpStream, port: Port, ends: CancellationToken) {
    let _quick = stream.set_nodelay(true).is_ok();
    let (socket, fate) = Socket::new(stream);
    let serving = async {
        match port {
            Port::Plain => http(running, socket, Port::Plain, None, fate).await,
            Port::Tls(service) => serve_tls(running, socket, service, fate).await,
        }
    };
    tokio::select! {
        () = serving => {}
        () = ends.cancelled() => {}
    }
}

/// Speaks TLS as the server of this service and serves what follows. Also called for streams that came through the
/// proxy, which are not sockets of their own.
pub(super) async fn serve_tls<S>(running: Arc<Running>, stream: S, service: Service, fate: Fate)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(config) = config(&running, &service) else {
        return;
    };
    // A failed handshake is the client's business: it says why on its side.
    let accepted = tokio::select! {
        accepted = TlsAcceptor::from(config).accept(stream) => accepted,
        () = running.ends.cancelled() => return,
    };
    let Ok(stream) = accepted else {
        return;
    };
    let peer = tls::identity(stream.get_ref().1);
    http(running, stream, Port::Tls(service), peer, fate).await;
}

fn config(running: &Running, service: &Service) -> Option<Arc<ServerConfig>> {
    match service {
        Service::Cluster(name) => Some(Arc::clone(&running.core.clusters.get(name)?.tls)),
        _ => Some(Arc::clone(&running.tls)),
    }
}

async fn http<S>(running: Arc<Running>, stream: S, port: Port, peer: Option<Identity>, fate: Fate)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ends = running.ends.clone();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (running, port, peer, fate) = (Arc::clone(&running), port.clone(), peer.clone(), fate.clone());
        Box::pin(async move {
            if port == Port::Plain && request.method() == http::Method::CONNECT {
                return Ok(gate::served(proxy::connect(running, fate, request)));
            }
            gate::answer(running, port, peer, fate, request).await
        })
    });
    let serving = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    // An error is a client that went away or a fault that cut the connection; the journal has both.
    tokio::select! {
        ended = serving.as_mut() => drop(ended),
        () = ends.cancelled() => {
            serving.as_mut().graceful_shutdown();
            drop(tokio::time::timeout(LAST_WORDS, serving).await);
        }
    }
}

/// How long an answer in progress may take when the world ends; watches and held requests would take for ever.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(100);
