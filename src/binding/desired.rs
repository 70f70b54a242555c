//! What a practitioner wants, wholly known and valid. Nothing here can be null or unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use super::gateway::Gateway;
use crate::azure::ids::{ClusterId, IdentityId, VaultId};

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
    pub access: Access,
    /// The Ingress, if there is to be one.
    pub ingress: Option<Ingress>,
    /// The Gateway API part, if there is to be one.
    pub gateway: Option<Gateway>,
    /// What must be proven.
    pub verify: Verify,
    /// When an end that comes near is told.
    pub expiry: Expiry,
    /// Whether a missing namespace is made. It is never deleted.
    pub create_namespace: bool,
    /// The pods that keep the mount alive.
    pub sync: Sync,
    /// Labels of every object beside its own.
    pub default_labels: BTreeMap<String, String>,
    /// Whether objects are applied; if not they are only rendered, and the cluster's API is never asked.
    pub apply_manifests: bool,
    /// Whether fields of our objects are taken from other reconcilers, too, and objects of this very binding from a
    /// creation that is not known.
    pub force_conflicts: bool,
    /// How the cluster's API is reached.
    pub connection: Connection,
}

/// The pods that keep the mount alive: without a mount the driver never writes a Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Sync {
    /// The image; it needs a shell for its probes.
    pub image: String,
    /// How many.
    pub replicas: u8,
    /// What each may use.
    pub resources: Resources,
    /// Labels of the nodes it may run on.
    pub node_selector: BTreeMap<String, String>,
    /// Taints it bears.
    pub tolerations: Vec<Toleration>,
    /// Its priority class.
    pub priority_class_name: Option<String>,
    /// Secrets for the image's registry.
    pub image_pull_secrets: Vec<String>,
    /// Labels of Deployment and pods.
    pub labels: BTreeMap<String, String>,
    /// Annotations of Deployment and pods.
    pub annotations: BTreeMap<String, String>,
}

/// What a container may use, as Kubernetes quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// `requests.cpu`.
    pub cpu_request: String,
    /// `requests.memory`.
    pub memory_request: String,
    /// `limits.cpu`.
    pub cpu_limit: String,
    /// `limits.memory`.
    pub memory_limit: String,
}

/// A taint that pods bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; none for every key.
    pub key: Option<String>,
    /// `Exists` or `Equal`.
    pub operator: String,
    /// The taint's value.
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`; none for every effect.
    pub effect: Option<String>,
    /// How long a `NoExecute` taint is borne.
    pub toleration_seconds: Option<i64>,
}

/// How a cluster's API is reached, beyond what Azure says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Which credential.
    pub credential: Credential,
    /// An HTTP proxy; wins over the environment.
    pub proxy_url: Option<String>,
    /// An address to dial instead of the one that Azure gives out.
    pub server: Option<String>,
    /// The name that the server's certificate must hold.
    pub tls_server_name: Option<String>,
}

/// Which credential a cluster's API is asked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Credential {
    /// An Entra token where the cluster has Entra, else the user's.
    #[default]
    Auto,
    /// An Entra token.
    Entra,
    /// What `listClusterUserCredential` gives out.
    User,
    /// What `listClusterAdminCredential` gives out.
    Admin,
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
    /// The only version to be served; `None` follows the newest.
    pub version: Option<String>,
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
    /// Whether the last binding that goes switches off what kvtls switched on.
    pub disable_if_unused: bool,
}

/// How the vault is read, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// How far we go.
    pub mode: Mode,
    /// The permission model the vault has to have; `None` takes it as it is.
    pub rbac: Option<bool>,
    /// What is granted.
    pub scope: GrantScope,
    /// How long a new grant may take to have an effect.
    pub propagation: Duration,
    /// Whose rights are used.
    pub identity: Identity,
}

/// What a grant covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantScope {
    /// Everything in the vault.
    Vault,
    /// The bound certificates alone.
    Certificate,
}

/// Whose rights read the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The add-on's own identity, which the cluster has.
    Addon,
    /// A user-assigned identity that trusts the cluster's service account.
    Workload(Workload),
}

/// Workload identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The identity.
    pub id: IdentityId,
    /// The service account of the sync pods.
    pub service_account: String,
    /// Who makes the identity trust it.
    pub federated: Mode,
}

/// When the coming end of a certificate is told, before it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// A warning.
    pub warn: Duration,
    /// An error of whatever would be changed.
    pub fail: Option<Duration>,
}

impl Access {
    /// The workload identity, if one reads.
    pub fn workload(&self) -> Option<&Workload> {
        match &self.identity {
            Identity::Addon => None,
            Identity::Workload(workload) => Some(workload),
        }
    }
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
    /// When a Secret is read, which brings its key through this process's memory.
    pub read_secret: ReadSecret,
}

/// When a Secret is read to compare its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSecret {
    /// When something is applied; a refresh looks at its metadata and at what the driver says it mounted.
    Apply,
    /// Always.
    Always,
    /// Never.
    Never,
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
