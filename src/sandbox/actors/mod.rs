//! The controllers of a cluster: what runs beside an API server and makes its objects come true.
//!
//! All of them are HTTP clients of *a* Kubernetes API, embedded or real, each with its own user agent; none touches
//! the store. Every controller is level-triggered: a pass compares a cache of the API with what should be, and does
//! what is missing. Passes are started by changes in the cache and by the sandbox clock, never by sleeping.
//!
//! Next: [`pulse`] runs them and knows who is busy, [`cache`] and [`reflector`] keep the picture, [`client`] writes.

mod addon;
mod cache;
mod client;
mod csi_driver;
mod edge;
mod events;
mod gateway;
mod ingress;
mod kinds;
mod kubelet;
mod mounts;
mod objects;
mod pem;
mod pulse;
mod reflector;
mod staged;
#[cfg(test)]
mod tests;
mod transport;
mod vault_provider;
mod workloads;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::addon::{Addon, Noticed};
use self::cache::{Bell, Cache, Topic};
use self::client::Client;
use self::csi_driver::{CsiDriver, Generation, Rotation, SecretSync};
pub(crate) use self::edge::Edges;
use self::gateway::Gateways;
pub(crate) use self::gateway::definitions as gateway_definitions;
use self::ingress::Ingresses;
use self::kinds::Kind;
use self::kubelet::Kubelet;
use self::kubelet::schedule::Scheduler;
use self::mounts::Mounts;
use self::pulse::{Actor, Pulse};
pub(crate) use self::staged::MOUNT_ERRORS;
use self::staged::Stage;
use self::transport::{Peer, Transport, TransportError, roots_of, tls_settings};
use self::vault_provider::{VaultProvider, Vaults};
use self::workloads::awaited::awaited;
use self::workloads::daemon_sets::DaemonSets;
use self::workloads::deployments::Deployments;
use self::workloads::endpoints::Endpoints;
use self::workloads::garbage::Garbage;
use self::workloads::namespaces::Namespaces;
use self::workloads::replica_sets::ReplicaSets;
use super::clock::Clock;
use super::container_logs::ContainerLogs;
use super::core::AddonState;
use super::lag::Lags;

/// Where a host listens, if it is part of the world.
pub(crate) type Resolve = Arc<dyn Fn(&str) -> Option<SocketAddr> + Send + Sync>;

/// What a cluster's controllers are made from.
pub(crate) struct ActorSettings {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// Where its API listens.
    pub(crate) server: SocketAddr,
    /// The name in the API's certificate.
    pub(crate) server_name: String,
    /// The cluster's certification authority.
    pub(crate) ca_pem: String,
    /// A pair of `O=system:masters`.
    pub(crate) client_certificate_pem: String,
    pub(crate) client_key_pem: String,
    pub(crate) clock: Clock,
    pub(crate) lags: Lags,
    /// Version of the CSI driver, `1.5.6`.
    pub(crate) driver: String,
    /// How many nodes there are.
    pub(crate) nodes: usize,
    /// Where their kubelet answers, if the API asks it.
    pub(crate) kubelet: Option<SocketAddr>,
    /// Whether a real controller manager runs.
    pub(crate) managed: bool,
    /// What their containers say.
    pub(crate) logs: ContainerLogs,
    /// The nodes' IMDS, `http://127.0.0.1:P/clusters/NAME`.
    pub(crate) identity_endpoint: String,
    /// `.vault.azure.net`
    pub(crate) vault_suffix: String,
    /// Where vaults and the authority listen.
    pub(crate) address_of: Resolve,
    /// Who signed the vaults' certificates.
    pub(crate) front_roots: Arc<rustls::RootCertStore>,
    /// The world's edges, those of this cluster among them.
    pub(crate) edges: Edges,
    /// What ARM says of the add-on.
    pub(crate) addon: watch::Receiver<AddonState>,
    /// The world's objects, which are in the API already.
    pub(crate) objects: Vec<Value>,
    /// What goes wrong by luck, as the world file has it.
    pub(crate) staged: Value,
}

/// What the controllers of one cluster share.
struct Cluster {
    name: String,
    ca_pem: String,
    nodes: usize,
    kubelet: Option<SocketAddr>,
    managed: bool,
    logs: ContainerLogs,
    clock: Clock,
    lags: Lags,
    cache: Arc<Cache>,
    bell: Arc<Bell>,
    pulse: Arc<Pulse>,
    mounts: Mounts,
    generation: Generation,
    stage: Stage,
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Cluster {
    /// Has a container of `kube-system` on a node say something, as klog writes it: `level` is `I`, `W` or `E`.
    fn say(&self, node: &str, container: &str, level: char, text: &str) {
        let pods = self.cache.within(Kind::Pod, "kube-system");
        let pod = pods.iter().find(|pod| kubelet::runs_in(pod, node, container));
        if let Some(pod) = pod {
            let now = self.clock.now();
            let line = log_line(level, now, text);
            self.logs.say(objects::uid(pod), container, now, &line);
        }
    }

    /// Runs `work` until it ends or the controllers are stopped.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(work);
        }
    }
}

/// A line as klog writes it, without the place in the code.
fn log_line(level: char, now: time::OffsetDateTime, text: &str) -> String {
    let (month, day, micros) = (u8::from(now.month()), now.day(), now.microsecond());
    let (hour, minute, second) = now.time().as_hms();
    format!("{level}{month:02}{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}       1 {text}")
}

/// The running controllers of a cluster; dropping it stops them.
pub(crate) struct Actors {
    cluster: Arc<Cluster>,
    /// Reads for [`Actors::settle`].
    observer: Result<Arc<Client>, String>,
    addon: watch::Receiver<AddonState>,
    noticed: Arc<Noticed>,
    /// Version of the store at which the cache was last found equal to it.
    verified: tokio::sync::Mutex<Option<String>>,
}

impl Actors {
    /// Starts all controllers. Their first passes wait until every kind has been listed once.
    pub(crate) fn start(settings: ActorSettings) -> Self {
        let bell = Arc::new(Bell::new());
        let cluster = Arc::new(Cluster {
            name: settings.cluster.clone(),
            ca_pem: settings.ca_pem.clone(),
            nodes: settings.nodes,
            kubelet: settings.kubelet,
            managed: settings.managed,
            logs: settings.logs.clone(),
            clock: settings.clock.clone(),
            lags: settings.lags.clone(),
            cache: Arc::new(Cache::new(Arc::clone(&bell))),
            pulse: Arc::new(Pulse::new(settings.clock.clone(), Arc::clone(&bell))),
            bell,
            mounts: Mounts::default(),
            generation: Generation::of(&settings.driver),
            stage: Stage::of(&settings.staged),
            tasks: Mutex::new(Some(JoinSet::new())),
        });
        let noticed = Arc::new(Noticed::default());
        let addon = settings.addon.clone();
        let observer = launch(&cluster, settings, &noticed).map_err(|error| error.to_string());
        if let Err(error) = &observer {
            tracing::error!(error, "the controllers cannot start");
        }
        Self {
            cluster,
            observer,
            addon,
            noticed,
            verified: tokio::sync::Mutex::default(),
        }
    }

    /// Waits, really, until no controller has work that is due.
    ///
    /// That is: each one's last pass ended well, nothing it reacts to has changed since that pass began, and what it
    /// waits for lies in the future of the sandbox clock; no mount is under way; the add-on's wishes have been
    /// noticed; and a fresh list of every kind equals the cache, so that nobody has missed anything. Work that is due
    /// later (a lag, a back-off, a poll) does not count. The error says who is still busy.
    pub(crate) async fn settle(&self, timeout: Duration) -> Result<(), Vec<String>> {
        let observer = self.observer.as_ref().map_err(|error| vec![error.clone()])?;
        let mut behind = None;
        let quiet = self.until_quiet(observer, &mut behind);
        match tokio::time::timeout(timeout, Box::pin(quiet)).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => {
                let busy = self.busy();
                Err(if busy.is_empty() {
                    let name = &self.cluster.name;
                    vec![match behind {
                        Some(behind) => format!("reflectors of {name}: {behind}"),
                        None => format!("reflectors of {name}"),
                    }]
                } else {
                    busy
                })
            }
        }
    }

    /// Stops all controllers. What they have done stays.
    pub(crate) async fn stop(self) {
        let tasks = self
            .cluster
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
    }

    /// Stages other trouble than before.
    pub(crate) fn stage(&self, source: &Value) {
        self.cluster.stage.set(source);
        self.cluster.bell.ring(Topic::Staged);
    }

    /// What is mounted where.
    pub(crate) fn mounts(&self) -> Value {
        self.cluster.mounts.describe(|space, class| {
            let class = self.cluster.cache.get(Kind::SecretProviderClass, space, class);
            class.map_or(Value::Null, |class| {
                let first = objects::list(&class, "/spec/secretObjects").first();
                first.map_or(Value::Null, |entry| entry["secretName"].clone())
            })
        })
    }

    /// Tells on the way what of the cache was last seen behind the API.
    async fn until_quiet(&self, observer: &Client, behind: &mut Option<String>) {
        let mut states = self.cluster.pulse.listen();
        let mut changes = self.cluster.bell.listen();
        loop {
            states.mark_unchanged();
            changes.mark_unchanged();
            if self.busy().is_empty() {
                let mut verified = self.verified.lock().await;
                let found = reflector::behind(observer, &self.cluster.cache, &mut verified).await;
                if matches!(found, Ok(None)) && self.busy().is_empty() {
                    return;
                }
                *behind = found.unwrap_or_else(|error| Some(error.to_string()));
            }
            // An API that does not answer changes nothing; look again before long.
            let again = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                _ = states.changed() => {}
                _ = changes.changed() => {}
                () = again => {}
            }
        }
    }

    fn busy(&self) -> Vec<String> {
        let mut busy = self.cluster.pulse.busy();
        if !self.noticed.is(&self.addon.borrow()) && busy.is_empty() {
            busy.push("addon".to_owned());
        }
        if self.cluster.managed && busy.is_empty() {
            busy.extend(awaited(&self.cluster.cache));
        }
        busy
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        // The tasks share the cluster, so its own end would never come.
        drop(
            self.cluster
                .tasks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

/// Starts reflectors and controllers; the client returned is for reading beside them.
fn launch(
    cluster: &Arc<Cluster>,
    settings: ActorSettings,
    noticed: &Arc<Noticed>,
) -> Result<Arc<Client>, TransportError> {
    let pair = (
        settings.client_certificate_pem.as_str(),
        settings.client_key_pem.as_str(),
    );
    let tls = tls_settings(roots_of(&settings.ca_pem)?, Some(pair))?;
    let peer = Peer {
        address: settings.server,
        tls_name: Some(settings.server_name.clone()),
    };
    let client = |agent: &str, actor: &'static str| {
        let transport = Transport::new(Arc::clone(&tls), agent, actor);
        Arc::new(Client::new(transport, peer.clone(), Arc::clone(&cluster.cache)))
    };
    let kubernetes = "v1.34.2 (linux/amd64) kubernetes/sandbox";
    let observer = client("kvtls-sandbox/observer", "observer");
    for kind in Kind::ALL {
        let (cache, bell) = (Arc::clone(&cluster.cache), Arc::clone(&cluster.bell));
        cluster.spawn(reflector::reflect(kind, Arc::clone(&observer), cache, bell));
    }

    let mut starts = Starts::new(cluster);
    if !settings.managed {
        let manager = client(&format!("kube-controller-manager/{kubernetes}"), "workloads");
        let shared = || (Arc::clone(cluster), Arc::clone(&manager));
        starts.add(shared(), Namespaces::new);
        starts.add(shared(), Deployments::new);
        starts.add(shared(), ReplicaSets::new);
        starts.add(shared(), DaemonSets::new);
        starts.add(shared(), Endpoints::new);
        starts.add(shared(), Garbage::new);
    }
    let scheduler = client(&format!("kube-scheduler/{kubernetes}"), "kubelet");
    starts.add((Arc::clone(cluster), scheduler), Scheduler::new);

    let vault_tls = tls_settings(settings.front_roots, None)?;
    let vaults = Vaults::new(
        Transport::new(
            vault_tls,
            "csi-secrets-store/v1.7.2 (linux/amd64) sandbox",
            "vault_provider",
        ),
        settings.clock.clone(),
        settings.identity_endpoint,
        settings.vault_suffix,
        settings.address_of,
    );
    let provider = Arc::new(VaultProvider::new(vaults));
    let version = &settings.driver;
    let node_client = client(
        &format!("csi-secrets-store/v{version} (linux/amd64)"),
        "csi_driver",
    );
    let driver = Arc::new(CsiDriver::new(
        Arc::clone(cluster),
        node_client,
        Arc::clone(&provider),
    ));
    let kubelet = client(&format!("kubelet/{kubernetes}"), "kubelet");
    starts.add((Arc::clone(cluster), kubelet), |cluster, client| {
        Kubelet::new(cluster, client, driver)
    });
    let sync = client(
        &format!("csi-secrets-store/controller/v{version} (linux/amd64)"),
        "csi_driver",
    );
    starts.add((Arc::clone(cluster), Arc::clone(&sync)), SecretSync::new);
    starts.add((Arc::clone(cluster), sync), |cluster, client| {
        Rotation::new(cluster, client, provider)
    });

    let addon_client = client("aks-addon-manager/v1 (linux/amd64)", "addon");
    cluster.spawn(addon::relay(settings.addon.clone(), Arc::clone(&cluster.bell)));
    starts.add((Arc::clone(cluster), addon_client), |cluster, client| {
        Addon::new(
            cluster,
            client,
            settings.addon,
            settings.driver.clone(),
            Arc::clone(noticed),
        )
    });

    let controller = client(
        "nginx-ingress-controller/v1.13.1 (linux/amd64) ingress-nginx/sandbox",
        "ingress",
    );
    let gateways = client("pilot-discovery/1.27 (linux/amd64) istio/sandbox", "gateway");
    for edge in settings.edges.of(&settings.cluster) {
        cluster.spawn(edge::serve(Arc::clone(&edge), Arc::clone(&cluster.bell)));
        let shared = |client: &Arc<Client>| (Arc::clone(cluster), Arc::clone(client));
        if edge.is_gateway() {
            starts.add(shared(&gateways), |cluster, client| {
                Gateways::new(cluster, client, edge, &settings.objects)
            });
        } else {
            starts.add(shared(&controller), |cluster, client| {
                Ingresses::new(cluster, client, edge, &settings.objects)
            });
        }
    }
    Ok(observer)
}

/// Starts controllers, each once the cache is complete; until then all count as busy.
struct Starts<'a> {
    cluster: &'a Arc<Cluster>,
}

impl<'a> Starts<'a> {
    fn new(cluster: &'a Arc<Cluster>) -> Self {
        Self { cluster }
    }

    fn add<A: Actor + 'static>(
        &mut self,
        (cluster, client): (Arc<Cluster>, Arc<Client>),
        make: impl FnOnce(Arc<Cluster>, Arc<Client>) -> A,
    ) {
        let actor = make(cluster, client);
        let task = self.cluster.pulse.task(A::NAME);
        let (pulse, cache) = (Arc::clone(&self.cluster.pulse), Arc::clone(&self.cluster.cache));
        let mut rung = self.cluster.bell.listen();
        self.cluster.spawn(async move {
            while !cache.is_listed() {
                if rung.changed().await.is_err() {
                    return;
                }
            }
            pulse.run(task, actor).await;
        });
    }
}
