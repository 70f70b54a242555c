//! The edges of the world: sockets at which controllers serve, and the addresses and hosts that lead there.

pub(super) mod certificates;
pub(super) mod plan;
mod serve;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::certificates::{Certificates, fake};
use self::plan::Plan;
use super::cache::{Bell, Topic};
use super::kinds::Kind;
use super::objects::{at, list, text, uid};
use super::{Cluster, log_line};

/// Label of the pods that serve a Gateway: its class.
pub(super) const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";

/// All edges of the world; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Edges(Arc<Mutex<Vec<Arc<Edge>>>>);

/// Whose behaviour an edge has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// ingress-nginx: its own certificate where it has no other, a page of its own for errors.
    Nginx,
    /// The same with other words.
    Traefik,
    /// Application Gateway's Ingress controller: slow, and no listener without a certificate.
    Agic,
    /// A Gateway as Envoy serves it: no listener without a certificate.
    Envoy,
}

/// One edge: a controller's load balancer.
pub(super) struct Edge {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) profile: Profile,
    pub(super) class: String,
    pub(super) controller: String,
    pub(super) is_default: bool,
    /// What it publishes: an IP address, or a host name as load balancers of other clouds do.
    pub(super) address: String,
    /// Where it really listens; nowhere if no port was free.
    pub(super) socket: Option<SocketAddr>,
    /// Bound at once, so that the port is known; whoever serves takes it.
    listener: Mutex<Option<TcpListener>>,
    /// Where its pods listen, load balancer or not: what a port-forward reaches.
    inner: Option<SocketAddr>,
    inner_listener: Mutex<Option<TcpListener>>,
    pub(super) settings: watch::Sender<EdgeSettings>,
    fake: Option<Arc<CertifiedKey>>,
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
        let profile = match (kind, text(spec, "/profile")) {
            ("gateway", _) => Profile::Envoy,
            (_, "traefik") => Profile::Traefik,
            (_, "agic") => Profile::Agic,
            _ => Profile::Nginx,
        };
        let bind = |port: u16| {
            TcpListener::bind(("127.0.0.1", port))
                .inspect_err(|error| {
                    tracing::error!(%error, edge = text(spec, "/name"), "an edge has no socket");
                })
                .ok()
        };
        let (listener, inner) = (bind(port.unwrap_or(0)), bind(0));
        let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|it| it.local_addr().ok());
        let truth =
            |member: &str, otherwise: bool| spec.get(member).and_then(Value::as_bool).unwrap_or(otherwise);
        let edge = Edge {
            cluster: cluster.to_owned(),
            name: text(spec, "/name").to_owned(),
            kind: kind.to_owned(),
            profile,
            class: text(spec, "/class").to_owned(),
            controller: match text(spec, "/controller") {
                "" => profile.controller().to_owned(),
                controller => controller.to_owned(),
            },
            is_default: truth("default", false),
            address: text(spec, "/address").to_owned(),
            socket: address(&listener),
            listener: Mutex::new(listener),
            inner: address(&inner),
            inner_listener: Mutex::new(inner),
            settings: watch::Sender::new(EdgeSettings {
                reachable: truth("reachable", true),
                publish_address: truth("publish_address", true),
                accepts_listener_sets: truth("accepts_listener_sets", false),
                reload_lag: spec
                    .get("reload_lag")
                    .and_then(|lag_text| lag(lag_text).ok())
                    .flatten(),
            }),
            fake: profile.fake_name().and_then(|name| fake(name).ok()),
            served: Mutex::default(),
        };
        self.lock().push(Arc::new(edge));
    }

    /// Where a host is served: by the first edge that claims it for some rule, or whose published address it is.
    pub(crate) fn by_host(&self, host: &str) -> Option<SocketAddr> {
        let host = host.to_lowercase();
        let edges = self.lock();
        let claims = edges
            .iter()
            .filter(|edge| edge.served().plan.claims(&host) || edge.address.eq_ignore_ascii_case(&host));
        claims.filter_map(|edge| edge.socket).next()
    }

    /// Where an edge's published IP address is served.
    pub(crate) fn by_address(&self, ip: IpAddr) -> Option<SocketAddr> {
        let edges = self.lock();
        let edge = edges
            .iter()
            .find(|edge| edge.address.parse::<IpAddr>().ok() == Some(ip))?;
        edge.socket
    }

    /// Where a controller's pod serves. Controllers' pods are known as their Helm charts label them, a Gateway's by the
    /// labels that Gateway API gives to what a Gateway brings along.
    pub(crate) fn by_pod(&self, cluster: &str, pod: &Value) -> Option<SocketAddr> {
        let edges = self.lock();
        let mut here = edges.iter().filter(|edge| edge.cluster == cluster);
        here.find(|edge| edge.runs_in(pod))?.inner
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
    pub(super) fn of(&self, cluster: &str) -> Vec<Arc<Edge>> {
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

/// Whether a published address is an IP address, and no host name.
pub(super) fn is_ip(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok()
}

impl Edge {
    pub(super) fn is_gateway(&self) -> bool {
        self.profile == Profile::Envoy
    }

    /// Whether this pod serves the edge, or controls it.
    fn runs_in(&self, pod: &Value) -> bool {
        let labels = at(pod, "/metadata/labels");
        let product = labels["app.kubernetes.io/name"].as_str();
        match self.profile {
            Profile::Envoy => labels[GATEWAY_CLASS].as_str() == Some(&self.class),
            Profile::Traefik => product == Some("traefik"),
            // Application Gateway stands outside the cluster.
            Profile::Agic => false,
            Profile::Nginx => product == self.controller.rsplit('/').next(),
        }
    }

    /// Has the edge's pods say something.
    pub(super) fn say(&self, cluster: &Cluster, words: &str) {
        let now = cluster.clock.now();
        let line = log_line('I', now, words);
        for pod in cluster
            .cache
            .all(Kind::Pod)
            .iter()
            .filter(|pod| self.runs_in(pod))
        {
            for container in list(pod, "/spec/containers") {
                cluster.logs.say(uid(pod), text(container, "/name"), now, &line);
            }
        }
    }

    /// Serves a plan from now on, and has the edge's pods say so.
    pub(super) fn reload(&self, cluster: &Cluster, plan: Plan) {
        self.serve(plan);
        let served = self.served();
        let secret = |host: &str| {
            let shown = served.certificates.find(host);
            shown.map_or_else(|| "no certificate".to_owned(), |shown| shown.pair.secret.clone())
        };
        let hosts: std::collections::BTreeSet<_> = served
            .plan
            .routes
            .iter()
            .map(|route| route.host.as_str())
            .collect();
        let hosts: Vec<_> = hosts
            .into_iter()
            .filter(|host| !host.is_empty())
            .map(|host| format!("{host}={}", secret(host)))
            .collect();
        self.say(
            cluster,
            &format!("\"Backend successfully reloaded\" hosts={:?}", hosts.join(" ")),
        );
    }

    pub(super) fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn serve(&self, plan: Plan) {
        let certificates = Certificates::of(&plan, &self.served().certificates, self.profile);
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

impl Profile {
    /// `IngressClass.spec.controller` or `GatewayClass.spec.controllerName`, if the world names none.
    fn controller(self) -> &'static str {
        match self {
            Self::Nginx => "k8s.io/ingress-nginx",
            Self::Traefik => "traefik.io/ingress-controller",
            Self::Agic => "azure/application-gateway",
            Self::Envoy => "istio.aks.azure.com/gateway-controller",
        }
    }

    /// Subject of the certificate shown when there is none; `None` shows none.
    fn fake_name(self) -> Option<&'static str> {
        match self {
            Self::Nginx => Some("Kubernetes Ingress Controller Fake Certificate"),
            Self::Traefik => Some("TRAEFIK DEFAULT CERT"),
            Self::Agic | Self::Envoy => None,
        }
    }

    /// Whether a certificate is only shown for hosts it names.
    pub(super) fn checks_names(self) -> bool {
        matches!(self, Self::Nginx | Self::Traefik)
    }

    /// What its own pages call themselves.
    pub(super) fn server(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
            Self::Agic => "Microsoft-Azure-Application-Gateway/v2",
            Self::Envoy => "istio-envoy",
        }
    }
}

/// Serves an edge's sockets, and rings the bell when its settings change.
pub(super) async fn serve(edge: Arc<Edge>, bell: Arc<Bell>) {
    let mut settings = edge.settings.subscribe();
    let changes = async {
        while settings.changed().await.is_ok() {
            bell.ring(Topic::Edges);
        }
    };
    tokio::join!(serve::public(Arc::clone(&edge)), serve::pods(edge), changes);
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
