//! The edges of the world: sockets at which controllers serve, and the addresses and hosts that lead there.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::certificates::{Certificates, fake};
use super::plan::Plan;
use crate::sandbox::actors::objects::{at, text};

/// All edges of the world; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Edges(Arc<Mutex<Vec<Arc<Edge>>>>);

/// One edge: a controller's load balancer.
pub(in crate::sandbox::actors) struct Edge {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) class: String,
    pub(super) controller: String,
    pub(super) is_default: bool,
    pub(super) address: String,
    /// Where it really listens; nowhere if nobody plays its kind.
    pub(super) socket: Option<SocketAddr>,
    /// Bound at once, so that the port is known; whoever serves takes it.
    pub(super) listener: Mutex<Option<TcpListener>>,
    pub(super) settings: watch::Sender<EdgeSettings>,
    pub(super) fake: Option<Arc<CertifiedKey>>,
    served: Mutex<Arc<Served>>,
}

/// What can be changed while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EdgeSettings {
    pub(super) reachable: bool,
    pub(super) publish_address: bool,
    pub(super) accepts_listener_sets: bool,
    /// Instead of the world's lag.
    pub(super) reload_lag: Option<Duration>,
}

/// What is served now.
#[derive(Default)]
pub(super) struct Served {
    pub(super) plan: Plan,
    pub(super) certificates: Certificates,
}

impl Edges {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an edge of a cluster as the world file describes it.
    pub(crate) fn add(&self, spec: &Value, cluster: &str) {
        let kind = match text(spec, "/kind") {
            "" => "ingress",
            kind => kind,
        };
        let port = spec
            .get("port")
            .and_then(Value::as_u64)
            .and_then(|port| u16::try_from(port).ok());
        let played = kind == "ingress";
        let listener = played
            .then(|| TcpListener::bind(("127.0.0.1", port.unwrap_or(0))))
            .transpose();
        let listener = listener.unwrap_or_else(|error| {
            tracing::error!(%error, edge = text(spec, "/name"), "an edge has no socket");
            None
        });
        let truth =
            |member: &str, otherwise: bool| spec.get(member).and_then(Value::as_bool).unwrap_or(otherwise);
        let edge = Edge {
            cluster: cluster.to_owned(),
            name: text(spec, "/name").to_owned(),
            kind: kind.to_owned(),
            class: text(spec, "/class").to_owned(),
            controller: match text(spec, "/controller") {
                "" => "k8s.io/ingress-nginx".to_owned(),
                controller => controller.to_owned(),
            },
            is_default: truth("default", false),
            address: text(spec, "/address").to_owned(),
            socket: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            listener: Mutex::new(listener),
            settings: watch::Sender::new(EdgeSettings {
                reachable: truth("reachable", true),
                publish_address: truth("publish_address", true),
                accepts_listener_sets: truth("accepts_listener_sets", false),
                reload_lag: None,
            }),
            fake: if played { fake().ok() } else { None },
            served: Mutex::default(),
        };
        self.lock().push(Arc::new(edge));
    }

    /// Where a host of some rule is served: by the first edge that claims it.
    pub(crate) fn by_host(&self, host: &str) -> Option<SocketAddr> {
        let host = host.to_lowercase();
        let edges = self.lock();
        let claims = edges.iter().filter(|edge| edge.served().plan.claims(&host));
        claims.filter_map(|edge| edge.socket).next()
    }

    /// Where an edge's published address is served.
    pub(crate) fn by_address(&self, ip: IpAddr) -> Option<SocketAddr> {
        let edges = self.lock();
        let edge = edges
            .iter()
            .find(|edge| edge.address.parse::<IpAddr>().ok() == Some(ip))?;
        edge.socket
    }

    /// Where a controller's pod serves. Its pods are known as Helm charts label them: by the last part of the
    /// controller's name.
    pub(crate) fn by_pod(&self, cluster: &str, pod: &Value) -> Option<SocketAddr> {
        let product = at(pod, "/metadata/labels")["app.kubernetes.io/name"].as_str()?;
        let edges = self.lock();
        let mut here = edges.iter().filter(|edge| edge.cluster == cluster);
        let edge = here.find(|edge| edge.controller.rsplit('/').next() == Some(product))?;
        edge.socket
    }

    /// All edges as the control API shows them, by `cluster/name`.
    pub(crate) fn describe(&self) -> Value {
        let mut all = json!({});
        for edge in self.lock().iter() {
            all[format!("{}/{}", edge.cluster, edge.name)] = edge.describe();
        }
        all
    }

    /// Merges into an edge's settings. `name` may leave out the cluster.
    pub(crate) fn patch(&self, name: &str, merge: &Value) -> Result<(), String> {
        let edges = self.lock();
        let full = |edge: &Arc<Edge>| format!("{}/{}", edge.cluster, edge.name) == name;
        let found = edges
            .iter()
            .find(|edge| full(edge))
            .or_else(|| edges.iter().find(|edge| edge.name == name));
        let edge = found.ok_or_else(|| format!("there is no edge {name}"))?;
        let mut settings = edge.settings.borrow().clone();
        for (member, value) in merge.as_object().ok_or("an edge's settings are an object")? {
            let truth = || {
                value
                    .as_bool()
                    .ok_or_else(|| format!("{member} is true or false"))
            };
            match member.as_str() {
                "reachable" => settings.reachable = truth()?,
                "publish_address" => settings.publish_address = truth()?,
                "accepts_listener_sets" => settings.accepts_listener_sets = truth()?,
                "reload_lag" => settings.reload_lag = lag(value)?,
                _ => return Err(format!("{member} cannot be changed")),
            }
        }
        edge.settings.send_replace(settings);
        Ok(())
    }

    /// The edges of a cluster.
    pub(in crate::sandbox::actors) fn of(&self, cluster: &str) -> Vec<Arc<Edge>> {
        self.lock()
            .iter()
            .filter(|edge| edge.cluster == cluster)
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Edge>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Edge {
    pub(in crate::sandbox::actors) fn is_played(&self) -> bool {
        self.socket.is_some()
    }

    pub(super) fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn serve(&self, plan: Plan) {
        let certificates = Certificates::of(&plan, &self.served().certificates);
        let served = Arc::new(Served { plan, certificates });
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = served;
    }

    fn describe(&self) -> Value {
        let settings = self.settings.borrow().clone();
        let served = self.served();
        let mut hosts: Vec<_> = served
            .plan
            .routes
            .iter()
            .map(|route| route.host.clone())
            .collect();
        hosts.sort();
        hosts.dedup();
        let hosts: Vec<_> = hosts
            .iter()
            .filter(|host| !host.is_empty())
            .map(|host| {
                let shown = served.certificates.find(host);
                json!({"host": host, "secret": shown.map(|shown| &shown.pair.secret),
                    "thumbprint": shown.map(|shown| &shown.thumbprint)})
            })
            .collect();
        json!({
            "kind": self.kind, "class": self.class, "controller": self.controller, "address": self.address,
            "socket": self.socket.map(|socket| socket.to_string()), "hosts": hosts,
            "reachable": settings.reachable, "publish_address": settings.publish_address,
            "accepts_listener_sets": settings.accepts_listener_sets,
            "reload_lag": settings.reload_lag.map(|lag| format!("{}ms", lag.as_millis())),
        })
    }
}

/// `500ms`, `2s`, `1m`, or null for the world's lag.
fn lag(value: &Value) -> Result<Option<Duration>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let words = || "reload_lag is a duration such as 500ms or 2s".to_owned();
    let text = value.as_str().ok_or_else(words)?;
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_not| words())?;
    match &text[digits.len()..] {
        "ms" => Ok(Some(Duration::from_millis(number))),
        "s" => Ok(Some(Duration::from_secs(number))),
        "m" => Ok(Some(Duration::from_secs(number * 60))),
        _ => Err(words()),
    }
}
