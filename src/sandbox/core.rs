//! What every plane of the world shares, and the words they exchange.
//!
//! A plane gets [`Core`] once and keeps it. The front judges who asks where a plane wants that, writes the journal,
//! plays faults and sets `Date`; a plane answers requests and, where it knows more than method and status tell, adds
//! an [`Effect`] to its answer's extensions.
//!
//! Extensions a plane finds on a request: [`StagedOutcome`] when a fault decided how the long-running operation which
//! this request starts has to end, and hyper's own for upgrades. The `Host` header is the address the caller used;
//! [`Names`] turns it into the addresses to answer with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::watch;

use super::certificates::{Authority, ClientCertificate, Issuers};
use super::clock::Clock;
use super::container_logs::ContainerLogs;
use super::control_plane::ControlPlane;
use super::entra::Directory;
use super::faults::Faults;
use super::front::names::Names;
use super::http::{Answer, Incoming};
use super::journal::Journal;
use super::kubernetes::{ApiServer, Identity};
use super::lag::{Lags, Pace};

pub(crate) use super::markers::Markers;

/// What every plane shares.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) lags: Lags,
    pub(crate) pace: Pace,
    pub(crate) journal: Journal,
    pub(crate) faults: Faults,
    /// The run's certification authority: it issues the leaves of ARM, Entra and the vaults.
    pub(crate) authority: Arc<Authority>,
    /// The authorities behind vault certificates.
    pub(crate) issuers: Issuers,
    /// Tenants, principals, tokens.
    pub(crate) directory: Directory,
    /// Addresses, in both modes.
    pub(crate) names: Names,
    /// The running cluster planes.
    pub(crate) clusters: Clusters,
    /// Strings that must appear nowhere.
    pub(crate) markers: Markers,
}

/// Who asks, after the token was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The principal's name in the world file.
    pub(crate) name: String,
    pub(crate) oid: String,
    /// The client ID, absent for users.
    pub(crate) app_id: Option<String>,
    /// The tenant's ID.
    pub(crate) tenant: String,
    /// Object IDs of the groups it is in.
    pub(crate) groups: Vec<String>,
}

/// Why a token is not good here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// There was none.
    Missing,
    /// It is not a token of any kind we know.
    Malformed,
    /// Nobody in this world signed it.
    Signature,
    /// It expired then, as Unix time.
    Expired(i64),
    /// It was made for somebody else.
    Audience(String),
    /// Its principal is gone.
    Unknown,
}

/// One mistake in a world file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldError {
    /// A JSON pointer to it.
    pub pointer: String,
    /// What is wrong with it.
    pub message: String,
}

impl WorldError {
    /// This mistake, there.
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
        }
    }
}

/// Why the world cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PatchError {
    /// The member at this pointer is not live.
    NotLive(String),
    /// The result would not be a world.
    Invalid(Vec<WorldError>),
}

/// What an answer did to the world; without it the front concludes from method and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Created,
    Updated,
    Deleted,
}

/// How the long-running operation that this request starts has to end: an extension of the request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StagedOutcome {
    /// The operation's final status: `Failed`, `Canceled`; or the code `NotLatestOperation` beside `Succeeded`.
    pub(crate) status: String,
    /// The operation's `error` member.
    pub(crate) error: Option<Value>,
}

/// A request with this header comes from the actor it names; the front takes it off before anybody else sees it.
/// Requests with a client certificate whose common name starts with `kvtls-sandbox:` are an actor's as well.
pub(crate) const ACTOR_HEADER: &str = "x-kvtls-sandbox-actor";

/// A managed identity as the directory knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManagedIdentity {
    pub(crate) client_id: String,
    pub(crate) object_id: String,
}

/// The secrets store add-on of one cluster, as ARM's last finished operation left it. ARM sends, the actors receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddonState {
    pub(crate) enabled: bool,
    /// The add-on's identity, on every node while the add-on is enabled.
    pub(crate) identity: Option<ManagedIdentity>,
    /// `enableSecretRotation`.
    pub(crate) rotation: bool,
    /// `rotationPollInterval`.
    pub(crate) poll_interval: Option<Duration>,
}

/// What a cluster plane is made from.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSettings {
    /// The ARM name.
    pub(crate) name: String,
    /// Where it is, `eastus`.
    pub(crate) location: String,
    /// The Kubernetes version, `1.34.2`.
    pub(crate) version: String,
    /// Entra tokens of this tenant are good; `None` without Entra integration.
    pub(crate) entra_tenant: Option<String>,
    /// The kubeconfig's certificate and token are good at first.
    pub(crate) local_accounts: bool,
    /// Who issues its service account tokens, if everybody can read that issuer's documents.
    pub(crate) issuer: Option<String>,
    /// The cluster's part of the world file; `Null` for one that was created through ARM.
    pub(crate) world: Value,
    /// How its add-on is at first.
    pub(crate) addon: AddonState,
}

/// A running cluster plane: an API server, its certification authority, its actors.
pub(crate) struct Cluster {
    pub(crate) settings: ClusterSettings,
    /// The authority of the API server's leaf, as in a kubeconfig.
    pub(crate) ca_pem: String,
    /// What `listClusterUserCredential` gives out without Entra.
    pub(crate) user: KubeCredential,
    /// What `listClusterAdminCredential` gives out.
    pub(crate) admin: KubeCredential,
    /// ARM writes the add-on's state here.
    pub(crate) addon: watch::Sender<AddonState>,
    /// Changed by [`Cluster::set_local_accounts`].
    pub(crate) local_accounts: AtomicBool,
    /// Ends the cluster's port and actors.
    pub(crate) ends: tokio_util::sync::CancellationToken,
    pub(crate) api: Plane,
    /// What its containers say.
    pub(crate) logs: ContainerLogs,
    /// TLS of its port.
    pub(crate) tls: Arc<rustls::ServerConfig>,
}

/// The API server of a cluster.
pub(crate) enum Plane {
    /// In this process.
    Embedded(Arc<ApiServer>),
    /// A kube-apiserver behind the same port.
    Real(Arc<ControlPlane>),
}

impl Plane {
    /// `embedded` or `real`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::Real(_) => "real",
        }
    }

    /// Answers a request; `peer` is whom a client certificate names.
    pub(crate) async fn answer(&self, request: Incoming, peer: Option<Identity>) -> Answer {
        match self {
            Self::Embedded(api) => api.answer(request, peer).await,
            Self::Real(plane) => plane.answer(request, peer).await,
        }
    }

    /// Replaces the admission rules: at once, or where webhooks have to learn of them, when the future is ready.
    pub(crate) fn set_admission(&self, rules: Vec<Value>) -> BoxFuture<'static, Result<(), String>> {
        match self {
            Self::Embedded(api) => {
                api.set_admission(rules);
                Box::pin(std::future::ready(Ok(())))
            }
            Self::Real(plane) => {
                let plane = Arc::clone(plane);
                Box::pin(async move { plane.set_admission(rules).await })
            }
        }
    }

    /// Replaces the tokens that are simply known.
    fn set_static_tokens(&self, tokens: BTreeMap<String, Identity>) {
        match self {
            Self::Embedded(api) => api.set_static_tokens(tokens),
            Self::Real(plane) => plane.set_static_tokens(tokens),
        }
    }

    /// Who issues service account tokens from now on. A real server has the issuer that it started with.
    fn set_issuer(&self, issuer: Option<String>) {
        if let Self::Embedded(api) = self {
            api.set_issuer(issuer);
        }
    }

    /// Who issues service account tokens.
    pub(crate) fn issuer(&self) -> String {
        match self {
            Self::Embedded(api) => api.issuer(),
            Self::Real(plane) => plane.issuer().to_owned(),
        }
    }

    /// Says whether this server signed a token.
    fn signed(&self) -> Box<dyn Fn(&str) -> bool + Send + Sync> {
        match self {
            Self::Embedded(api) => Box::new(api.signed()),
            Self::Real(plane) => Box::new(plane.signed()),
        }
    }

    /// The keys that verify its service account tokens.
    pub(crate) fn issuer_keys(&self) -> Value {
        match self {
            Self::Embedded(api) => api.issuer_keys(),
            Self::Real(plane) => plane.issuer_keys(),
        }
    }

    /// Where it asks the nodes' kubelet.
    pub(crate) fn kubelet(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Embedded(_) => None,
            Self::Real(plane) => Some(plane.kubelet()),
        }
    }

    /// Ends what runs beside this process, at once.
    pub(crate) fn end(&self) {
        if let Self::Real(plane) = self {
            plane.end();
        }
    }
}

/// A static credential of a cluster.
#[derive(Clone)]
pub(crate) struct KubeCredential {
    pub(crate) certificate: ClientCertificate,
    pub(crate) token: String,
}

impl Cluster {
    /// Whether the kubeconfig's certificate and token are good, now.
    pub(crate) fn has_local_accounts(&self) -> bool {
        self.local_accounts.load(Ordering::Acquire)
    }

    /// Makes the kubeconfig's certificate and token good, or no longer.
    pub(crate) fn set_local_accounts(&self, good: bool) {
        let accounts = [&self.user, &self.admin].into_iter().filter(|_| good);
        let tokens = accounts.map(|account| (account.token.clone(), masters()));
        self.api.set_static_tokens(tokens.collect());
        self.local_accounts.store(good, Ordering::Release);
    }

    /// Names the issuer of its service account tokens, and lets Entra trust it.
    pub(crate) fn set_issuer(&self, directory: &Directory, issuer: Option<String>) {
        if let Some(issuer) = &issuer {
            directory.trust(issuer, self.api.signed());
        }
        self.api.set_issuer(issuer);
    }

    /// Asks the cluster's API as `system:masters`, in process. `body` is JSON.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.ask_with(method, path, "application/json", body).await
    }

    /// As [`Cluster::ask`], with a content type of its own, which a patch needs.
    pub(crate) async fn ask_with(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let content = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::USER_AGENT, "kvtls-sandbox")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::from(content));
        let Ok(request) = request else {
            return (StatusCode::BAD_REQUEST, Value::Null);
        };
        let peer = Identity {
            name: "kvtls-sandbox:arm".to_owned(),
            uid: String::new(),
            groups: vec!["system:masters".to_owned()],
        };
        let (head, body) = self.api.answer(request, Some(peer)).await.into_parts();
        let bytes = match body.collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(never) => match never {},
        };
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (head.status, value)
    }
}

/// Who the static accounts of a kubeconfig are.
fn masters() -> Identity {
    Identity {
        name: "masterclient".to_owned(),
        uid: String::new(),
        groups: vec!["system:masters".to_owned()],
    }
}

/// Starts a cluster plane; set once by the assembly.
pub(crate) type ClusterOpener =
    Box<dyn Fn(ClusterSettings) -> BoxFuture<'static, Result<Arc<Cluster>, ClusterError>> + Send + Sync>;

/// A cluster plane did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The API refuses what the world file wants to have in it.
    #[error("the API refuses {}", .0.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>().join(", "))]
    World(Vec<WorldError>),
    /// Certificates, TLS, a port.
    #[error("{0}")]
    Plane(String),
}

impl From<&str> for ClusterError {
    fn from(why: &str) -> Self {
        Self::Plane(why.to_owned())
    }
}

/// The running cluster planes by ARM name.
#[derive(Default)]
pub(crate) struct Clusters {
    running: Mutex<BTreeMap<String, Arc<Cluster>>>,
    opener: OnceLock<ClusterOpener>,
}

impl Clusters {
    /// The assembly says how to start one.
    pub(crate) fn opened_by(&self, opener: ClusterOpener) {
        // A second opener would be the assembly's bug; the first stays.
        drop(self.opener.set(opener));
    }

    /// The cluster plane of this name, whatever its case.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Cluster>> {
        self.lock().get(&name.to_ascii_lowercase()).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Cluster>> {
        self.lock().values().cloned().collect()
    }

    /// Starts a cluster plane; the existing one if there is one of this name.
    pub(crate) async fn open(&self, settings: ClusterSettings) -> Result<Arc<Cluster>, ClusterError> {
        if let Some(running) = self.get(&settings.name) {
            return Ok(running);
        }
        let opener = self.opener.get().ok_or("no cluster can be started yet")?;
        opener(settings).await
    }

    /// Makes a cluster known; whoever opens it does so before its actors ask its API.
    pub(crate) fn insert(&self, cluster: Arc<Cluster>) {
        let key = cluster.settings.name.to_ascii_lowercase();
        self.lock().insert(key, cluster);
    }

    /// Ends a cluster plane.
    pub(crate) fn close(&self, name: &str) {
        let gone = self.lock().remove(&name.to_ascii_lowercase());
        if let Some(cluster) = gone {
            cluster.ends.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Cluster>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
