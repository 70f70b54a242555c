//! A CONNECT proxy that knows only this world's names.
//!
//! A client that uses it keeps the configuration real Azure gets, and whatever it forgot to redirect is refused here
//! instead of reaching the real thing. Names of the front, of vaults and of clusters are answered in process; edges
//! have sockets of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::assembly::Running;
use super::super::http::{Answer, text, whole};
use super::gate;
use super::listener::serve_tls;
use super::names::Service;
use super::socket::Fate;

/// Where a name leads.
enum Way {
    /// Into this process.
    Inside(Service),
    /// To an edge's socket.
    Edge(SocketAddr),
    /// The name is ours, but nothing answers there.
    Dead(String),
    /// The name is not of this world.
    Foreign,
}

/// Answers CONNECT, and carries what follows.
pub(super) fn connect(running: Arc<Running>, fate: Fate, request: Request<hyper::body::Incoming>) -> Answer {
    let target = request
        .uri()
        .authority()
        .map(ToString::to_string)
        .unwrap_or_default();
    let (host, port) = split(&target);
    match way(&running, &host, port) {
        Way::Foreign => {
            let why = format!("sandbox: {host} is not part of this world");
            gate::refused(&running, &target, &why);
            text(StatusCode::FORBIDDEN, why)
        }
        Way::Dead(why) => {
            gate::refused(&running, &target, &why);
            text(StatusCode::BAD_GATEWAY, why)
        }
        Way::Inside(service) => {
            tokio::spawn(async move {
                if let Ok(stream) = hyper::upgrade::on(request).await {
                    let ends = running.ends.clone();
                    tokio::select! {
                        () = serve_tls(running, TokioIo::new(stream), service, fate) => {}
                        () = ends.cancelled() => {}
                    }
                }
            });
            Answer::new(whole(Vec::new()))
        }
        Way::Edge(address) => {
            tokio::spawn(async move {
                let (stream, edge) = tokio::join!(hyper::upgrade::on(request), TcpStream::connect(address));
                if let (Ok(stream), Ok(mut edge)) = (stream, edge) {
                    let mut stream = TokioIo::new(stream);
                    tokio::select! {
                        copied = tokio::io::copy_bidirectional(&mut stream, &mut edge) => drop(copied),
                        () = running.ends.cancelled() => {}
                    }
                }
            });
            Answer::new(whole(Vec::new()))
        }
    }
}

fn way(running: &Running, host: &str, port: u16) -> Way {
    if let Some(service) = running
        .core
        .names
        .service(host)
        .filter(|service| *service != Service::Loopback)
    {
        if port != 443 {
            return Way::Foreign;
        }
        if let Service::Cluster(name) = &service {
            let cluster = running.core.clusters.get(name);
            let hidden = cluster.is_none_or(|cluster| {
                ["private", "unreachable"]
                    .iter()
                    .any(|how| cluster.settings.world.get(how) == Some(&true.into()))
            });
            if hidden {
                return Way::Dead(format!("sandbox: {host} cannot be reached from here"));
            }
        }
        return Way::Inside(service);
    }
    if !matches!(port, 80 | 443) {
        return Way::Foreign;
    }
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        let edge = running.edges.by_address(address);
        return edge.map_or(Way::Foreign, Way::Edge);
    }
    running
        .edge_of_host(host)
        .map_or(Way::Foreign, |found| match found {
            Some(address) => Way::Edge(address),
            None => Way::Dead(format!("sandbox: {host} does not resolve")),
        })
}

/// Host and port of a CONNECT target.
fn split(target: &str) -> (String, u16) {
    match target.rsplit_once(':') {
        Some((host, port)) => (host.to_ascii_lowercase(), port.parse().unwrap_or(443)),
        None => (target.to_ascii_lowercase(), 443),
    }
}
