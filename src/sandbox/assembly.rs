//! Puts the world together, and takes it apart: the only place that knows all planes.
//!
//! Start: world file, clock, directory, ports, ARM and vaults, then clusters with their actors, then the files that
//! strangers read. Stop: actors, connections, files.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::actors::{ActorSettings, Actors, Edges};
use super::azure::Azure;
use super::certificates::{Authority, CertificateError, ClientCertificate, Issuers};
use super::clock::{Clock, Due};
use super::container_logs::ContainerLogs;
use super::control_plane::{ControlPlane, ControlPlaneKind, ControlPlaneSettings};
use super::core::{
    Cluster, ClusterError, ClusterSettings, Clusters, Core, KubeCredential, PatchError, Plane, WorldError,
};
use super::entra::{AKS_AUDIENCE, Directory, Principal};
use super::environment::{self, Mode};
use super::faults::Faults;
use super::files::{self, Dir, DirError};
use super::front::names::{EDGES, Names, PortPlan, PortTaken, local_port};
use super::front::tls::{self, TlsError};
use super::front::{Port, listener};
use super::journal::{Filter, Journal};
use super::kubernetes::{ApiServer, ApiSettings, AzureRbac, Forwarder, Identity};
use super::lag::{Lags, Pace};
use super::markers::Markers;
use super::{seed, world};

/// How a sandbox is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The world file, as JSON. The default extends the built-in world `default` by nothing.
    pub world: Value,
    /// The run's directory; without one, a temporary one that vanishes with the run.
    pub dir: Option<PathBuf>,
    /// Which ports to use.
    pub ports: PortPlan,
    /// How fast the world reacts.
    pub pace: Pace,
    /// How many times as fast as real time the clock runs.
    pub rate: f64,
    /// What vault names end with.
    pub vault_suffix: String,
    /// Which Kubernetes API the first cluster has.
    pub control_plane: ControlPlaneKind,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            world: json!({"version": 1, "extends": "default"}),
            dir: None,
            ports: PortPlan::Auto,
            pace: Pace::Fast,
            rate: 1.0,
            vault_suffix: "vault.azure.net".to_owned(),
            control_plane: ControlPlaneKind::Embedded,
        }
    }
}

/// The sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The world file has mistakes.
    #[error("the world file is not a world")]
    World(Vec<WorldError>),
    /// Another sandbox has the directory, or it cannot be written.
    #[error("{0}")]
    Directory(String),
    /// Somebody else has this port.
    #[error("port {0} on 127.0.0.1 is taken")]
    Port(u16),
    /// A cluster's API did not start.
    #[error("the cluster {name} did not start: {why}")]
    Cluster {
        /// Its name in the world file.
        name: String,
        /// Why.
        why: String,
    },
    /// Certificates or TLS could not be set up.
    #[error("{0}")]
    Certificates(String),
}

impl From<DirError> for StartError {
    fn from(error: DirError) -> Self {
        Self::Directory(error.to_string())
    }
}

impl From<PortTaken> for StartError {
    fn from(taken: PortTaken) -> Self {
        Self::Port(taken.port)
    }
}

impl From<CertificateError> for StartError {
    fn from(error: CertificateError) -> Self {
        Self::Certificates(error.to_string())
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Certificates(error.to_string())
    }
}

/// A world that runs.
pub(crate) struct Running {
    pub(crate) core: Arc<Core>,
    pub(crate) azure: Arc<Azure>,
    /// TLS of the front and of the vaults.
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// Ends every port and connection.
    pub(crate) ends: CancellationToken,
    /// Somebody asked it to stop.
    pub(crate) stop_requested: CancellationToken,
    /// Accept loops and connections.
    pub(crate) tasks: TaskTracker,
    pub(crate) dir: Dir,
    pub(crate) started: OffsetDateTime,
    settings: Options,
    /// The merged world file, with the patches since.
    world: RwLock<Value>,
    actors: Mutex<BTreeMap<String, Arc<Actors>>>,
    /// The edges of all clusters.
    pub(crate) edges: Edges,
    /// How many edges have a port.
    edge_count: AtomicU16,
    ready: OnceLock<Value>,
}

/// How long [`Running::settle`] waits, really, where nobody says how long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl Running {
    async fn start(options: Options) -> Result<Arc<Self>, StartError> {
        let world = world::resolve(&options.world).map_err(StartError::World)?;
        let dir = Dir::lock(options.dir.as_deref())?;
        let clock = Clock::start(options.rate);
        let now = clock.now();
        let markers = Markers::default();
        let directory = Directory::new(&world, clock.clone(), markers.clone()).map_err(StartError::World)?;
        let front = Names::listen(options.ports.at(0))?;
        let proxy = Names::listen(options.ports.at(1))?;
        let (names, opened) = Names::new(
            options.ports,
            &options.vault_suffix,
            local_port(&front)?,
            local_port(&proxy)?,
        );
        let authority = Arc::new(Authority::new("kvtls sandbox CA (worthless)", now)?);
        let core = Arc::new(Core {
            lags: Lags::of(options.pace),
            pace: options.pace,
            journal: Journal::new(Some(dir.journal()?)),
            faults: Faults::default(),
            issuers: Issuers::new(now)?,
            clusters: Clusters::default(),
            authority: Arc::clone(&authority),
            names: names.clone(),
            clock,
            directory,
            markers,
        });
        let running = Arc::new(Self {
            azure: Azure::new(&world, Arc::clone(&core)).map_err(StartError::World)?,
            tls: tls::front(authority, names)?,
            ends: CancellationToken::new(),
            stop_requested: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started: now,
            world: RwLock::new(world),
            actors: Mutex::default(),
            edges: Edges::new(),
            edge_count: AtomicU16::new(0),
            ready: OnceLock::new(),
            settings: options,
            core,
            dir,
        });
        running.set_opener();
        listener::serve(
            &running,
            front,
            Port::Tls(super::front::names::Service::Loopback),
            running.ends.child_token(),
        );
        listener::serve(&running, proxy, Port::Plain, running.ends.child_token());
        running
            .tasks
            .spawn(listener::serve_opened(Arc::clone(&running), opened));
        let filled = running.fill().await;
        if let Err(error) = filled {
            running.stop().await;
            return Err(error);
        }
        Ok(running)
    }

    /// Opens the vaults and clusters of the world, in name order, and writes the files.
    async fn fill(self: &Arc<Self>) -> Result<(), StartError> {
        let world = self.world();
        for (name, _) in world::members(&world, "vaults") {
            self.core.names.open_vault(name).await?;
        }
        for (name, source) in world::members(&world, "clusters") {
            let failed = |error: ClusterError| match error {
                ClusterError::World(errors) => StartError::World(errors),
                ClusterError::Plane(why) => StartError::Cluster {
                    name: name.clone(),
                    why,
                },
            };
            let settings = self.cluster_settings(name, source, &world);
            self.core.clusters.open(settings).await.map_err(failed)?;
        }
        self.write_files()
    }

    fn cluster_settings(&self, name: &str, source: &Value, world: &Value) -> ClusterSettings {
        let text = |member: &str| source.get(member).and_then(Value::as_str);
        let group = text("resource_group").and_then(|group| world.get("resource_groups")?.get(group));
        let location = text("location").or_else(|| group?.get("location")?.as_str());
        let is = |member: &str, default: bool| source.get(member).and_then(Value::as_bool).unwrap_or(default);
        let tenant = self
            .core
            .directory
            .tenants()
            .first()
            .map(|tenant| tenant.id.clone());
        ClusterSettings {
            name: name.to_owned(),
            location: location.unwrap_or("eastus").to_owned(),
            version: text("kubernetes").unwrap_or("1.34.2").to_owned(),
            entra_tenant: tenant.filter(|_| is("entra", false)),
            local_accounts: is("local_accounts", true),
            issuer: self.azure.issuer_of(name),
            world: source.clone(),
            addon: self.azure.addon_state(name),
        }
    }

    fn set_opener(self: &Arc<Self>) {
        let running: Weak<Self> = Arc::downgrade(self);
        self.core.clusters.opened_by(Box::new(move |settings| {
            let running = running.clone();
            async move {
                match running.upgrade() {
                    Some(running) => running.open_cluster(settings).await,
                    None => Err(ClusterError::from("the sandbox ends")),
                }
            }
            .boxed()
        }));
    }

    /// Starts a cluster plane: API server, its content, its actors.
    async fn open_cluster(self: Arc<Self>, settings: ClusterSettings) -> Result<Arc<Cluster>, ClusterError> {
        let (cluster, server, actor) = self.open_api(settings).await.map_err(ClusterError::Plane)?;
        let world = self.world();
        let granted = seed::grants(&cluster, &world, &self.core.directory).await;
        granted.map_err(ClusterError::World)?;
        seed::objects(&cluster).await.map_err(ClusterError::World)?;
        // Policies come to a cluster that holds something already.
        let rules = admission_rules(&cluster.settings.world);
        let admission = cluster.api.set_admission(rules).await;
        admission.map_err(ClusterError::Plane)?;
        self.start_actors(&cluster, server, actor)
            .map_err(ClusterError::Plane)?;
        Ok(cluster)
    }

    /// Authority, port and API server of a cluster, and a certificate for its actors.
    async fn open_api(
        &self,
        settings: ClusterSettings,
    ) -> Result<(Arc<Cluster>, SocketAddr, ClientCertificate), String> {
        let core = &self.core;
        let name = settings.name.clone();
        let text = |error: &dyn std::error::Error| error.to_string();
        // One that ARM makes is new.
        let made = match settings.world.is_object() {
            true => world::made_at(&settings.world, self.started, 40),
            false => self.started,
        };
        let authority =
            Authority::since(&format!("{name}-ca"), made, self.started).map_err(|error| text(&error))?;
        let authority = Arc::new(authority);
        let account = || {
            let certificate = authority.client_certificate("masterclient", &["system:masters"]);
            let certificate = certificate.map_err(|error| text(&error))?;
            let token = format!("{}{}", world::random_uuid(), world::random_uuid()).replace('-', "");
            core.markers.secret(&token);
            core.markers.pem(&certificate.key_pem);
            Ok::<_, String>(KubeCredential { certificate, token })
        };
        let (user, admin) = (account()?, account()?);
        let actor = authority.client_certificate("kvtls-sandbox:actors", &["system:masters"]);
        let actor = actor.map_err(|error| text(&error))?;
        let port = core.names.open_cluster(&name, &settings.location).await;
        let port = port.map_err(|error| text(&error))?;
        let fqdn = core.names.cluster_fqdn(&name);
        let tls = tls::cluster(&authority, &fqdn).map_err(|error| text(&error))?;
        let entra = entra_identities(core, settings.entra_tenant.clone());
        let azure = self.azure_rbac(&settings);
        let forwarder: Forwarder = {
            let (edges, name) = (self.edges.clone(), name.clone());
            Arc::new(move |pod, _port| edges.by_pod(&name, pod))
        };
        let logs = ContainerLogs::default();
        let api = if self.is_real(&name) {
            let plane = ControlPlane::start(ControlPlaneSettings {
                folder: self.dir.path().join(files::CONTROL_PLANE),
                ports: self.settings.ports,
                issuer: settings.issuer.clone(),
                entra,
                azure,
                forwarder,
                logs: logs.clone(),
                clock: core.clock.clone(),
                shared: self.settings.control_plane == ControlPlaneKind::Shared,
                now: self.started,
            });
            Plane::Real(Box::pin(plane).await?)
        } else {
            Plane::Embedded(ApiServer::new(ApiSettings {
                name: name.clone(),
                version: settings.version.clone(),
                clock: core.clock.clone(),
                entra,
                static_tokens: BTreeMap::new(),
                forwarder,
                logs: logs.clone(),
                azure,
            }))
        };
        let cluster = Arc::new(Cluster {
            ca_pem: authority.pem().to_owned(),
            addon: tokio::sync::watch::Sender::new(settings.addon.clone()),
            local_accounts: AtomicBool::new(false),
            ends: CancellationToken::new(),
            logs,
            tls,
            user,
            admin,
            api,
            settings,
        });
        cluster.set_local_accounts(cluster.settings.local_accounts);
        cluster.set_issuer(&core.directory, cluster.settings.issuer.clone());
        core.clusters.insert(Arc::clone(&cluster));
        Ok((cluster, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), actor))
    }

    /// Azure's word on requests, if this cluster asks for it.
    fn azure_rbac(&self, settings: &ClusterSettings) -> Option<AzureRbac> {
        let asks = settings.entra_tenant.is_some() && settings.world.get("azure_rbac") == Some(&json!(true));
        let (azure, name) = (Arc::downgrade(&self.azure), settings.name.clone());
        asks.then(|| -> AzureRbac {
            Arc::new(move |who, deed| {
                azure
                    .upgrade()
                    .is_some_and(|azure| azure.allows_in_cluster(&name, who, deed))
            })
        })
    }

    /// Whether this cluster has a real API server: only the first can.
    fn is_real(&self, name: &str) -> bool {
        let world = self.world();
        let first = world::members(&world, "clusters").next();
        self.settings.control_plane != ControlPlaneKind::Embedded
            && first.is_some_and(|(first, _)| first == name)
    }

    fn start_actors(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        server: SocketAddr,
        certificate: ClientCertificate,
    ) -> Result<(), String> {
        let core = &self.core;
        let name = cluster.settings.name.clone();
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(core.authority.der().clone())
            .map_err(|error| error.to_string())?;
        let source = &cluster.settings.world;
        for edge in world::list(source, "edges") {
            let mut edge = edge.clone();
            edge["port"] = json!(self.next_edge_port());
            self.edges.add(&edge, &name);
        }
        let driver = source.get("driver").and_then(Value::as_str);
        let nodes = source.get("nodes").and_then(Value::as_u64);
        let objects = world::list(source, "objects").filter_map(|manifest| manifest.get("object"));
        let names = core.names.clone();
        let actors = Actors::start(ActorSettings {
            cluster: name.clone(),
            server,
            server_name: core.names.cluster_fqdn(&name),
            nodes: nodes.and_then(|nodes| usize::try_from(nodes).ok()).unwrap_or(1),
            kubelet: cluster.api.kubelet(),
            managed: self.is_real(&name) && self.settings.control_plane == ControlPlaneKind::Real,
            logs: cluster.logs.clone(),
            objects: objects.cloned().collect(),
            staged: source.get("staged").cloned().unwrap_or_default(),
            ca_pem: cluster.ca_pem.clone(),
            client_certificate_pem: certificate.certificate_pem,
            client_key_pem: certificate.key_pem,
            clock: core.clock.clone(),
            lags: core.lags.clone(),
            driver: driver.unwrap_or("1.5.6").to_owned(),
            identity_endpoint: format!("{}/clusters/{name}", core.names.proxy_base()),
            address_of: Arc::new(move |host| names.address_of(host)),
            front_roots: Arc::new(roots),
            edges: self.edges.clone(),
            addon: cluster.addon.subscribe(),
            vault_suffix: format!(".{}", core.names.vault_suffix()),
        });
        lock(&self.actors).insert(name.clone(), Arc::new(actors));
        let running = Arc::downgrade(self);
        let ends = cluster.ends.clone();
        tokio::spawn(async move {
            ends.cancelled().await;
            if let Some(running) = running.upgrade() {
                running.close_cluster(&name).await;
            }
        });
        Ok(())
    }

    async fn close_cluster(&self, name: &str) {
        self.core.names.close_cluster(name);
        let actors = lock(&self.actors).remove(name);
        if let Some(actors) = actors.and_then(Arc::into_inner) {
            actors.stop().await;
        }
        if let Some(cluster) = self.core.clusters.get(name) {
            cluster.api.end();
        }
    }

    fn write_files(&self) -> Result<(), StartError> {
        let core = &self.core;
        self.dir.write("ca.pem", core.authority.pem())?;
        self.dir.write("ca-bundle.pem", files::ca_bundle(core))?;
        self.dir.write("kubeconfig", files::kubeconfig(core))?;
        for principal in core.directory.principals() {
            if let Some(certificate) = &principal.certificate {
                self.dir.write(&files::pfx_name(&principal), certificate.pfx())?;
            }
            self.write_pod_token(&principal)?;
        }
        self.dir
            .write("terraform.rc", files::terraform_rc(&files::provider_dir()))?;
        for (name, mode) in [("env", Mode::Names), ("env.ports", Mode::Ports)] {
            let environment = self.environment("deployer", mode).unwrap_or_default();
            self.dir.write(name, environment::shell(&environment))?;
        }
        let ready = self.ready.get_or_init(|| self.describe_ready());
        self.dir.write("sandbox.json", format!("{ready}\n"))?;
        Ok(())
    }

    /// Puts a fresh token where a pod of this principal has it, if it is one that runs in pods.
    fn write_pod_token(&self, principal: &Principal) -> Result<(), DirError> {
        match self.core.directory.pod_token(principal) {
            Some(token) => self.dir.write(&files::federated_token_name(principal), token),
            None => Ok(()),
        }
    }

    fn describe_ready(&self) -> Value {
        let names = &self.core.names;
        let clusters = names.clusters().into_iter().map(|(name, address)| {
            let plane = self
                .core
                .clusters
                .get(&name)
                .map_or("embedded", |cluster| cluster.api.name());
            let server = json!({"server": format!("https://{address}"), "plane": plane});
            (name, server)
        });
        let principals = self.core.directory.principals();
        json!({
            "event": "ready",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "dir": self.dir.path(),
            "pace": if self.settings.pace == Pace::Real { "real" } else { "fast" },
            "control": format!("{}/sandbox", names.front_base()),
            "front": names.front_base(),
            "proxy": names.proxy_base(),
            "vaults": names.vaults().into_iter().collect::<BTreeMap<_, _>>(),
            "clusters": clusters.collect::<BTreeMap<_, _>>(),
            "edges": self.edges.describe(),
            "principals": principals.iter().map(|principal| &principal.name).collect::<Vec<_>>(),
        })
    }

    /// The ready line.
    pub(crate) fn ready(&self) -> Value {
        self.ready.get_or_init(|| self.describe_ready()).clone()
    }

    /// The merged world file, with the patches since.
    pub(crate) fn world(&self) -> Value {
        self.world.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Merges a patch into the live members of the world.
    pub(crate) fn patch(&self, merge: &Value) -> Result<(), PatchError> {
        let changed = world::patched(&self.world(), merge)?;
        self.azure.patch(merge)?;
        let changes = world::members(merge, "clusters");
        for (name, _) in changes.filter(|(_, change)| change.get("admission").is_some()) {
            if let Some(cluster) = self.core.clusters.get(name) {
                let set = cluster
                    .api
                    .set_admission(admission_rules(&changed["clusters"][name]));
                self.tasks.spawn(async move {
                    if let Err(words) = set.await {
                        tracing::error!(words, "the world's admission did not come");
                    }
                });
            }
        }
        let changes = world::members(merge, "clusters");
        for (name, _) in changes.filter(|(_, change)| change.get("staged").is_some()) {
            if let Some(actors) = lock(&self.actors).get(name) {
                actors.stage(&changed["clusters"][name]["staged"]);
            }
        }
        *self.world.write().unwrap_or_else(PoisonError::into_inner) = changed;
        Ok(())
    }

    /// What is true now: every plane's part, and the live members of the world file.
    pub(crate) fn describe(&self) -> Value {
        let mut shown = world::live_members(&self.world());
        json_patch::merge(&mut shown, &self.azure.describe());
        shown["now"] = json!(world::rfc3339(self.core.clock.now()));
        shown["rss_bytes"] = json!(resident_bytes());
        for (name, actors) in lock(&self.actors).iter() {
            shown["clusters"][name]["mounts"] = actors.mounts();
        }
        shown
    }

    /// Waits, really, until nothing that is due is left to do; or says who is still busy.
    pub(crate) async fn settle(&self, patience: Duration) -> Result<(), Vec<String>> {
        let quiet = tokio::time::timeout(patience, self.core.clock.quiet()).await;
        if quiet.is_err() {
            return Err(vec!["work that was due in sandbox time".to_owned()]);
        }
        let actors: Vec<_> = lock(&self.actors)
            .iter()
            .map(|(name, actors)| (name.clone(), actors.clone()))
            .collect();
        let settling = actors.into_iter().map(|(name, actors)| async move {
            // A cluster that ends meanwhile has nothing left to do.
            let cluster = self.core.clusters.get(&name);
            let Some(ends) = cluster.map(|cluster| cluster.ends.clone()) else {
                return Ok(());
            };
            tokio::select! {
                settled = actors.settle(patience) => settled,
                () = ends.cancelled() => Ok(()),
            }
        });
        let busy: Vec<_> = join_all(settling)
            .await
            .into_iter()
            .filter_map(Result::err)
            .flatten()
            .collect();
        if busy.is_empty() { Ok(()) } else { Err(busy) }
    }

    /// Moves the clock there, stopping at everything due on the way; after each stop the world settles, so that what
    /// happens at two minutes past sees what happened at one.
    pub(crate) async fn advance(&self, until: OffsetDateTime, settle: bool) -> Result<Vec<Due>, Vec<String>> {
        let mut fired = Vec::new();
        if settle {
            // What was asked for before the clock moves happens before it moves.
            self.settle(PATIENCE).await?;
        }
        loop {
            let due = self.core.clock.advance_towards(until);
            let arrived = due.is_empty();
            fired.extend(due);
            if settle {
                self.settle(PATIENCE).await?;
            } else {
                self.core.clock.quiet().await;
            }
            if arrived {
                return Ok(fired);
            }
        }
    }

    fn next_edge_port(&self) -> u16 {
        let count = self.edge_count.fetch_add(1, Ordering::Relaxed);
        self.settings.ports.at(EDGES + count)
    }

    /// Where a host leads: to what the world's `dns` says, or to the first edge that claims it. `Some(None)` is a name
    /// that resolves nowhere, `None` one that is not of this world.
    pub(crate) fn edge_of_host(&self, host: &str) -> Option<Option<SocketAddr>> {
        let world = self.world();
        match world.get("dns").and_then(|dns| dns.get(host)) {
            Some(Value::String(edge)) => Some(self.edge_named(edge)),
            Some(_) => Some(None),
            None => self.edges.by_host(host).map(Some),
        }
    }

    fn edge_named(&self, name: &str) -> Option<SocketAddr> {
        let edges = self.edges.describe();
        let of = |edge: &Value| edge.get("socket")?.as_str()?.parse().ok();
        let (_, edge) = edges
            .as_object()?
            .iter()
            .find(|(full, _)| *full == name || full.rsplit('/').next() == Some(name))?;
        of(edge)
    }

    /// The environment of a principal; `None` if there is none of this name.
    pub(crate) fn environment(&self, principal: &str, mode: Mode) -> Option<BTreeMap<String, String>> {
        let principal = self.core.directory.principal_by_name(principal)?;
        // As a node does long before the old one ends; an old one that stays is found out by whoever uses it.
        let _written = self.write_pod_token(&principal).is_ok();
        let world = self.world();
        Some(environment::of(
            &self.core,
            &world,
            self.dir.path(),
            &principal,
            mode,
        ))
    }

    /// Ends actors, then ports and connections.
    pub(crate) async fn stop(&self) {
        for cluster in self.core.clusters.all() {
            self.close_cluster(&cluster.settings.name).await;
            cluster.ends.cancel();
        }
        self.ends.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // Not left to the last handle: a task that still ends must not keep credentials on disk.
        self.dir.clear();
    }
}

/// The admission rules of a cluster's part of the world file.
fn admission_rules(source: &Value) -> Vec<Value> {
    world::list(source, "admission").cloned().collect()
}

/// Who holds a token.
type IdentityOf = Arc<dyn Fn(&str) -> Option<Identity> + Send + Sync>;

/// Entra tokens a cluster takes: of its tenant, made for AKS. The name is the object ID, as AKS has it for everybody
/// but users.
fn entra_identities(core: &Core, tenant: Option<String>) -> IdentityOf {
    let (directory, clock) = (core.directory.clone(), core.clock.clone());
    Arc::new(move |token| {
        let tenant = tenant.as_deref()?;
        let audience_ok = |audience: &str| audience.trim_end_matches('/').ends_with(AKS_AUDIENCE);
        let caller = directory.judge(token, audience_ok, clock.now()).ok()?;
        (caller.tenant == tenant).then_some(Identity {
            name: caller.oid.clone(),
            uid: caller.oid,
            groups: caller.groups,
        })
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process's resident memory; zero where the system does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// A world on loopback, in this process. Dropped, it stops.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use kvtls::sandbox::{Mode, Options, Sandbox};
/// let world = Sandbox::start(Options::default()).await?;
/// let environment = world.environment("deployer", Mode::Names);
/// # Ok(()) }
/// ```
pub struct Sandbox {
    running: Arc<Running>,
}

impl Sandbox {
    /// Starts a world on the current Tokio runtime, which must be a multi-threaded one. It is ready when this returns.
    ///
    /// # Errors
    ///
    /// When the world file has mistakes, the directory is in use, a port is taken, or certificates cannot be made.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let running = Box::pin(Running::start(options)).await?;
        Ok(Self { running })
    }

    /// What `serve` prints: addresses of everything.
    pub fn ready(&self) -> Value {
        self.running.ready()
    }

    /// The control API's address.
    pub fn control(&self) -> String {
        format!("{}/sandbox", self.running.core.names.front_base())
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        self.running.dir.path()
    }

    /// The run's authority, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.running.core.authority.pem()
    }

    /// The variables that make a client this principal; empty if there is none of this name.
    pub fn environment(&self, principal: &str, mode: Mode) -> BTreeMap<String, String> {
        self.running.environment(principal, mode).unwrap_or_default()
    }

    /// What is true now, as `GET /sandbox/world` shows it.
    pub fn world(&self) -> Value {
        self.running.describe()
    }

    /// Merges a patch into the live members of the world.
    ///
    /// # Errors
    ///
    /// When a member is not live or the result would not be a world; each mistake has its pointer.
    pub fn patch(&self, merge: &Value) -> Result<(), Vec<WorldError>> {
        self.running.patch(merge).map_err(|error| match error {
            PatchError::NotLive(pointer) => {
                vec![WorldError::new(pointer, "cannot change while the world runs")]
            }
            PatchError::Invalid(errors) => errors,
        })
    }

    /// The journal's entries that match.
    pub fn journal(&self, filter: &Filter) -> Vec<Value> {
        let (entries, _) = self.running.core.journal.entries(filter);
        entries.iter().map(|entry| Value::clone(entry)).collect()
    }

    /// Stages a fault, as `POST /sandbox/faults` does, and names it.
    ///
    /// # Errors
    ///
    /// When it is not a fault; the pointer says where.
    pub fn fault(&self, fault: &Value) -> Result<String, WorldError> {
        self.running.core.faults.add(fault)
    }

    /// Waits until this fault was hit.
    pub async fn fault_hit(&self, id: &str) -> Option<Value> {
        self.running.core.faults.hit(id).await
    }

    /// Deletes a fault and releases what it holds; false if there is none of this name.
    pub fn release(&self, id: &str) -> bool {
        self.running.core.faults.delete(Some(id))
    }

    /// An assertion that Entra takes for a principal which is federated with this issuer and subject; five minutes.
    pub fn assertion(&self, issuer: &str, subject: &str, audience: &str) -> String {
        self.running.core.directory.assertion(issuer, subject, audience)
    }

    /// The world's clock.
    pub fn clock(&self) -> Clock {
        self.running.core.clock.clone()
    }

    /// Moves the clock forward, settling after everything that was due on the way, and says what that was.
    ///
    /// # Errors
    ///
    /// Who is still busy, when the world does not settle.
    pub async fn advance(&self, by: Duration) -> Result<Vec<Due>, Vec<String>> {
        let until = self.running.core.clock.now() + by;
        self.running.advance(until, true).await
    }

    /// Waits, really, until nothing that is due is left to do.
    ///
    /// # Errors
    ///
    /// Who is still busy when the time is over.
    pub async fn settle(&self, patience: Duration) -> Result<(), Vec<String>> {
        self.running.settle(patience).await
    }

    /// Strings that must appear nowhere.
    pub fn markers(&self) -> Vec<String> {
        self.running.core.markers.all()
    }

    /// Waits until somebody asks it to stop through the control API.
    pub async fn stop_requested(&self) {
        self.running.stop_requested.cancelled().await;
    }

    /// Stops it: actors, ports, connections, credentials.
    pub async fn stop(self) {
        self.running.stop().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.running.ends.cancel();
        for cluster in self.running.core.clusters.all() {
            cluster.ends.cancel();
            cluster.api.end();
        }
        self.running.dir.clear();
    }
}
