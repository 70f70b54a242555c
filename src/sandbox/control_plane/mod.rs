//! A real control plane: etcd, kube-apiserver and kube-controller-manager, built from Go modules, in the place of the
//! embedded API and of the actors that play its controllers.
//!
//! What a client sees stays one chain: the kubeconfig leads to the sandbox's port, where faults and the journal are,
//! and from there to kube-apiserver ([`chain`]). It asks back about Entra tokens, Azure's roles, admission and pods ([`hooks`]). The world's own
//! actors are clients of the same port, as they are with the embedded API. The programs end with the sandbox, even
//! when it is killed ([`child`]); between them worlds of one process may share them ([`programs`]).

pub(crate) mod build;
mod chain;
mod child;
mod command;
mod hooks;
mod programs;
mod store;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use http::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::chain::Chain;
pub(crate) use self::command::{Performed, Task, perform};
use self::hooks::Hooks;
use self::programs::{Programs, Start};
use super::clock::Clock;
use super::container_logs::ContainerLogs;
use super::front::names::PortPlan;
use super::http::{Answer, Incoming};
use super::kubernetes::{AccountKey, AzureRbac, Forwarder, ISSUER, Identity, Judge, WEBHOOK};
use super::world::random_uuid;

/// Which Kubernetes API the first cluster of a world has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ControlPlaneKind {
    /// The one in this process.
    #[default]
    Embedded,
    /// kube-apiserver, kube-controller-manager and etcd.
    Real,
    /// kube-apiserver and etcd with the sandbox's own controllers, of a world of this process that has ended if there is
    /// one: for tests, which have many worlds. A real controller manager would remember the worlds before.
    #[value(skip)]
    Shared,
}

/// What a real control plane is made from.
pub(crate) struct ControlPlaneSettings {
    /// Where its files go; removed at the end.
    pub(crate) folder: PathBuf,
    /// The first of its three ports.
    pub(crate) ports: PortPlan,
    /// The cluster's own issuer of service account tokens, if it has one.
    pub(crate) issuer: Option<String>,
    /// Judges bearer tokens that are not its own.
    pub(crate) entra: Judge,
    /// Asked about what RBAC does not allow.
    pub(crate) azure: Option<AzureRbac>,
    /// Where port-forwards go.
    pub(crate) forwarder: Forwarder,
    /// What containers have said.
    pub(crate) logs: ContainerLogs,
    /// Where the kubelet takes the time from.
    pub(crate) clock: Clock,
    /// Whether worlds of this process have the programs one after another.
    pub(crate) shared: bool,
    /// Real time: certificates are judged by the programs' own clock.
    pub(crate) now: OffsetDateTime,
}

/// How many sets of programs wait for another world: each takes 400 MB.
const WAITING: usize = 2;
/// How long a world that has ended may still be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Programs whose world has ended, with the requests of it that are still answered. They end with this process.
static IDLE: Mutex<Vec<(Programs, TaskTracker)>> = Mutex::new(Vec::new());

/// The running programs, of one world.
pub(crate) struct ControlPlane {
    chain: Chain,
    hooks: Arc<Hooks>,
    /// Where its nodes' kubelet answers.
    kubelet: SocketAddr,
    issuer: String,
    /// Signs service account tokens.
    accounts: Arc<AccountKey>,
    authority_pem: String,
    ends: CancellationToken,
    /// Whether another world may have the programs.
    shared: bool,
    programs: Mutex<Option<Programs>>,
}

impl ControlPlane {
    /// Starts the programs, or takes those of a world that has ended; ready when this returns.
    ///
    /// # Errors
    /// Words to show: what is missing, or the last lines of a program that ended.
    pub(crate) async fn start(settings: ControlPlaneSettings) -> Result<Arc<Self>, String> {
        let issuer = settings.issuer.as_deref().unwrap_or(ISSUER);
        let kept = if settings.shared { kept(issuer).await } else { None };
        let programs = match kept {
            Some(programs) => programs,
            None => {
                let apart = std::env::temp_dir().join(format!("kvtls-control-plane-{}", random_uuid()));
                let folder = if settings.shared { &apart } else { &settings.folder };
                let (ports, now) = (settings.ports, settings.now);
                Programs::start(&Start {
                    folder,
                    ports,
                    issuer,
                    now,
                    controllers: !settings.shared,
                })
                .await?
            }
        };
        let listener = programs.hooks.try_clone().map_err(|error| error.to_string())?;
        let ends = CancellationToken::new();
        let plane = Arc::new_cyclic(|me: &Weak<Self>| {
            let me = Weak::clone(me);
            let pod = move |namespace: String, name: String| {
                let me = me.clone();
                async move { me.upgrade()?.pod(&namespace, &name).await }.boxed()
            };
            let hooks = Hooks {
                entra: settings.entra,
                azure: settings.azure,
                static_tokens: RwLock::default(),
                admission: RwLock::default(),
                reviews: AtomicU64::new(0),
                forwarder: settings.forwarder,
                logs: settings.logs,
                clock: settings.clock,
                pod: Arc::new(pod),
            };
            Self {
                chain: programs.chain(),
                hooks: Arc::new(hooks),
                kubelet: SocketAddr::from((Ipv4Addr::LOCALHOST, programs.kubelet)),
                issuer: programs.issuer.clone(),
                accounts: Arc::clone(&programs.accounts),
                authority_pem: programs.authority_pem.clone(),
                ends: ends.clone(),
                shared: settings.shared,
                programs: Mutex::new(None),
            }
        });
        let tls = Arc::clone(&programs.hooks_tls);
        *lock(&plane.programs) = Some(programs);
        hooks::serve(Arc::clone(&plane.hooks), listener, tls, ends).map_err(|error| error.to_string())?;
        Ok(plane)
    }

    /// Answers a request; `peer` is whom a client certificate names.
    pub(crate) async fn answer(&self, request: Incoming, peer: Option<Identity>) -> Answer {
        self.chain.answer(request, peer.as_ref()).await
    }

    /// Replaces the tokens that are simply known.
    pub(crate) fn set_static_tokens(&self, tokens: BTreeMap<String, Identity>) {
        *self
            .hooks
            .static_tokens
            .write()
            .unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Replaces the world's admission rules, each `{kinds?, namespaces?, patch | deny}`. Webhooks ask for them: they are
    /// there when the first rule has come and this returns.
    ///
    /// # Errors
    /// The API server's words.
    pub(crate) async fn set_admission(&self, rules: Vec<Value>) -> Result<(), String> {
        let some = !rules.is_empty();
        *self
            .hooks
            .admission
            .write()
            .unwrap_or_else(PoisonError::into_inner) = rules;
        if !some {
            return Ok(());
        }
        for (resource, hook) in [
            ("mutatingwebhookconfigurations", "mutate"),
            ("validatingwebhookconfigurations", "validate"),
        ] {
            let path = format!(
                "/apis/admissionregistration.k8s.io/v1/{resource}/aks-policy?fieldManager=azure-policy&force=true"
            );
            let body = self.webhook(hook);
            let applied = self
                .chain
                .send(Method::PATCH, &path, "application/apply-patch+yaml", &body);
            let (status, answer) = applied.await;
            if !status.is_success() {
                return Err(format!("{path}: {status} {}", answer["message"]));
            }
        }
        self.asked_by_webhooks().await
    }

    /// The configuration of a webhook that is asked about everything that is written.
    fn webhook(&self, hook: &str) -> Value {
        let kind = if hook == "mutate" {
            "Mutating"
        } else {
            "Validating"
        };
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": "aks-policy"},
            "webhooks": [{
                "name": if hook == "mutate" { "mutation.gatekeeper.sh" } else { WEBHOOK },
                "clientConfig": {
                    "url": format!("https://{}/admit/{hook}", self.kubelet),
                    "caBundle": STANDARD.encode(&self.authority_pem),
                },
                "rules": [{
                    "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["CREATE", "UPDATE"],
                }],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 10,
            }],
        })
    }

    /// Waits until the API server asks both webhooks.
    async fn asked_by_webhooks(&self) -> Result<(), String> {
        const PROBE: &str = "/api/v1/namespaces/default/configmaps?dryRun=All";
        let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "probe-"}});
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            let before = self.hooks.reviews.load(Ordering::Acquire);
            // A rule may well refuse it: that it is asked about counts.
            let _asked = self
                .chain
                .send(Method::POST, PROBE, "application/json", &probe)
                .await;
            if self.hooks.reviews.load(Ordering::Acquire) >= before + 2 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("the API server does not ask its webhooks".to_owned())
    }

    /// Who issues service account tokens.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Says whether its API server signed a token.
    pub(crate) fn signed(&self) -> impl Fn(&str) -> bool + Send + Sync + 'static {
        let accounts = Arc::clone(&self.accounts);
        move |token| accounts.verified(token).is_some()
    }

    /// The keys that verify its service account tokens.
    pub(crate) fn issuer_keys(&self) -> Value {
        self.accounts.jwks()
    }

    /// Where the nodes' kubelet answers the API server.
    pub(crate) fn kubelet(&self) -> SocketAddr {
        self.kubelet
    }

    /// Ends the programs, or leaves them to the next world; some milliseconds.
    pub(crate) fn end(&self) {
        self.ends.cancel();
        let Some(programs) = lock(&self.programs).take() else {
            return;
        };
        let mut idle = lock(&IDLE);
        if self.shared && idle.len() < WAITING {
            idle.push((programs, self.chain.asked.clone()));
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let (status, pod) = self.chain.ask(Method::GET, &path).await;
        status.is_success().then_some(pod)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end();
    }
}

/// Programs with this issuer of a world that has ended, as if there had been no world.
async fn kept(issuer: &str) -> Option<Programs> {
    let (programs, asked) = {
        let mut idle = lock(&IDLE);
        let found = idle.iter().position(|(programs, _)| programs.issuer == issuer)?;
        idle.swap_remove(found)
    };
    asked.close();
    let quiet = tokio::time::timeout(LAST_ANSWERS, asked.wait()).await.is_ok();
    (quiet && programs.clean().await).then_some(programs)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
