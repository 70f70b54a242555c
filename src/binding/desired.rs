//! What a practitioner wants, wholly known and valid. Nothing here can be null or unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use super::gateway::Gateway;
use crate::azure::ids::{ClusterId, VaultId};

/// One binding: certificates of one vault, served by one Ingress of one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Names the objects in the cluster.
    pub name: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// The vault.
    pub vault: VaultId,
    /// Where the objects live.
    pub namespace: String,
    /// By logical name.
    pub certificates: BTreeMap<String, Certificate>,
    /// The cluster's Key Vault add-on.
    pub addon: AddonPolicy,
    /// Who may read the vault.
    pub access: Mode,
    /// The Ingress, if there is to be one.
    pub ingress: Option<Ingress>,
    /// The Gateway API part, if there is to be one.
    pub gateway: Option<Gateway>,
    /// What must be proven.
    pub verify: Verify,
}

/// A certificate of the vault and the Secret it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its name in the vault.
    pub certificate: String,
    /// The hosts it is to serve.
    pub hosts: Vec<String>,
    /// The Secret's name.
    pub secret_name: String,
}

/// How far we go for something that others may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Make it so.
    Ensure,
    /// It must be so already.
    Require,
    /// Do not look.
    Ignore,
}

/// The wished add-on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddonPolicy {
    /// How far we go.
    pub mode: Mode,
    /// Whether renewed certificates reach the cluster.
    pub rotation_enabled: bool,
    /// How often the vault is asked, as written; `None` keeps what is there.
    pub rotation_poll_interval: Option<String>,
}

/// The wished Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// The object's name.
    pub name: String,
    /// Its class; `None` leaves the choice to the cluster's default.
    pub class_name: Option<String>,
    /// Hosts and where their requests go, in order.
    pub rules: Vec<Rule>,
    /// Secrets that somebody else keeps, for hosts that no certificate of this binding has.
    pub extra_tls: Vec<ExtraTls>,
    /// Whether plain HTTP is redirected; `None` leaves it to the controller.
    pub ssl_redirect: Option<bool>,
    /// As written.
    pub annotations: BTreeMap<String, String>,
    /// As written.
    pub labels: BTreeMap<String, String>,
}

/// A Secret of somebody else, and the hosts it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraTls {
    /// The hosts.
    pub hosts: Vec<String>,
    /// The Secret.
    pub secret_name: String,
}

/// A host and its paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The host.
    pub host: String,
    /// In order.
    pub paths: Vec<PathRule>,
}

/// Where requests to a path go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The path.
    pub path: String,
    /// `Prefix`, `Exact` or `ImplementationSpecific`.
    pub path_type: String,
    /// The Service.
    pub service: String,
    /// Its port.
    pub port: Port,
}

/// A Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

/// What must be proven before an apply succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// How much.
    pub level: VerifyLevel,
    /// By which way.
    pub via: Via,
    /// Where to dial instead.
    pub endpoint: Option<(String, u16)>,
    /// Whether a refresh dials, too.
    pub on_refresh: bool,
    /// How long each proof may take.
    pub timeout: Duration,
}

/// By which way the edge is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// At its address; where that cannot be reached, the controller's pod explains, but does not prove.
    Auto,
    /// At its address.
    Address,
    /// At each host's own address.
    Dns,
    /// At the controller's pod, through the API server.
    Tunnel,
}

/// How much is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyLevel {
    /// A wrong certificate is an error; an edge that cannot be reached is a warning.
    Auto,
    /// The vault's certificate must be seen in a handshake.
    Served,
    /// The Secret must hold it.
    Synced,
    /// Nothing.
    None,
}

impl Desired {
    /// `{cluster_id}/namespaces/{ns}/bindings/{name}`.
    pub fn id(&self) -> String {
        binding_id(&self.cluster.to_string(), &self.namespace, &self.name)
    }

    /// Whether anything is to be served.
    pub fn has_edge(&self) -> bool {
        self.ingress.is_some() || self.gateway.is_some()
    }

    /// Whether a refresh looks at the edge. It never tunnels.
    pub fn dials_on_refresh(&self) -> bool {
        let verify = &self.verify;
        let proves = matches!(verify.level, VerifyLevel::Auto | VerifyLevel::Served);
        proves
            && verify.on_refresh
            && self.has_edge()
            && (verify.via != Via::Tunnel || verify.endpoint.is_some())
    }

    /// Every host with the certificate that serves it, in order of the certificates' logical names.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.certificates.iter().flat_map(|(key, certificate)| {
            certificate
                .hosts
                .iter()
                .map(move |host| (host.as_str(), key.as_str()))
        })
    }
}

/// The identity of a binding; cluster IDs that differ only in case name the same one.
pub fn binding_id(cluster: &str, namespace: &str, name: &str) -> String {
    format!("{cluster}/namespaces/{namespace}/bindings/{name}")
}
