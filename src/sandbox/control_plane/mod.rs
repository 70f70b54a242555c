//! A real control plane: etcd and kube-apiserver, built from Go modules, in the place of the embedded API.
//!
//! What a client sees stays one chain: the kubeconfig leads to the sandbox's port, where faults and the journal are,
//! and from there to kube-apiserver ([`chain`]). It asks back about Entra tokens and pods ([`hooks`]). The world's own
//! actors are clients of the same port, as they are with the embedded API. The programs end with the sandbox, even
//! when it is killed ([`child`]).

pub(crate) mod build;
mod chain;
mod child;
mod command;
mod hooks;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use self::chain::Chain;
use self::child::Child;
pub(crate) use self::command::{Performed, Task, perform};
use self::hooks::Hooks;
use super::certificates::{Authority, ClientCertificate};
use super::front::names::{Names, PortPlan, local_port};
use super::http::{Answer, Incoming};
use super::kubernetes::{AccountKey, Forwarder, ISSUER, Identity, Judge};

/// Which Kubernetes API the first cluster of a world has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ControlPlaneKind {
    /// The one in this process.
    #[default]
    Embedded,
    /// kube-apiserver and etcd.
    Real,
}

/// What a real control plane is made from.
pub(crate) struct ControlPlaneSettings {
    /// Where its files go; removed at the end.
    pub(crate) folder: PathBuf,
    /// The first of its three ports.
    pub(crate) ports: PortPlan,
    /// The cluster's own authority: of the serving certificate, and of client certificates.
    pub(crate) authority: Arc<Authority>,
    /// TLS of what it asks back.
    pub(crate) hooks_tls: Arc<rustls::ServerConfig>,
    /// The cluster's own issuer of service account tokens, if it has one.
    pub(crate) issuer: Option<String>,
    /// Judges bearer tokens that are not its own.
    pub(crate) entra: Judge,
    /// Where port-forwards go.
    pub(crate) forwarder: Forwarder,
    /// Real time: certificates are judged by the programs' own clock.
    pub(crate) now: OffsetDateTime,
}

/// The first port of a block that a real control plane uses.
const PORTS: u16 = 80;
/// How long kube-apiserver may take until it is ready; two to four seconds are usual.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often its readiness is asked.
const BREATH: Duration = Duration::from_millis(50);
/// How often it is started when a port that was free is taken meanwhile.
const ATTEMPTS: usize = 3;
/// Lines of its output that are shown when it does not start.
const LAST_WORDS: usize = 20;
/// The common name of the authenticating proxy.
const PROXY: &str = "kvtls-sandbox:front";

/// A running etcd and kube-apiserver.
pub(crate) struct ControlPlane {
    chain: Chain,
    hooks: Arc<Hooks>,
    /// Where its nodes' kubelet answers.
    kubelet: SocketAddr,
    issuer: String,
    /// Signs service account tokens.
    accounts: Arc<AccountKey>,
    ends: CancellationToken,
    folder: PathBuf,
    /// In the order in which they end.
    programs: Vec<Child>,
}

impl ControlPlane {
    /// Starts etcd and kube-apiserver; ready when this returns.
    ///
    /// # Errors
    /// Words to show: what is missing, or the last lines of a program that ended.
    pub(crate) async fn start(settings: ControlPlaneSettings) -> Result<Arc<Self>, String> {
        let programs = build::built().map_err(|error| error.to_string())?;
        let settings = Arc::new(settings);
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match Self::attempt(&programs, &settings).await {
                Ok(plane) => return Ok(plane),
                Err(words) => why = words,
            }
            if !why.contains("address already in use") {
                break;
            }
        }
        Err(why)
    }

    async fn attempt(programs: &Path, settings: &Arc<ControlPlaneSettings>) -> Result<Arc<Self>, String> {
        let folder = &settings.folder;
        let text = |error: &dyn std::error::Error| error.to_string();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        let listener = Names::listen(settings.ports.at(PORTS)).map_err(|error| text(&error))?;
        let kubelet = local_port(&listener).map_err(|error| text(&error))?;
        let accounts = AccountKey::generate();
        let [api, etcd, peers] = free_ports(settings.ports)?;
        let proxy = files(settings, &accounts, kubelet).map_err(|error| error.to_string())?;

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, api));
        let ends = CancellationToken::new();
        let start = |program: &str, arguments: Vec<String>| {
            let log = folder.join(format!("{program}.log"));
            Child::start(&programs.join(program), &arguments, log)
                .map_err(|error| format!("{program}: {error}"))
        };
        let store = start("etcd", etcd_arguments(folder, etcd, peers))?;
        let server = start("kube-apiserver", apiserver_arguments(settings, api, etcd))?;
        let accounts = Arc::new(accounts);
        let plane = Arc::new_cyclic(|me: &Weak<Self>| {
            let me = Weak::clone(me);
            let pod = move |namespace: String, name: String| {
                let me = me.clone();
                async move { me.upgrade()?.pod(&namespace, &name).await }.boxed()
            };
            let hooks = Hooks {
                entra: Arc::clone(&settings.entra),
                static_tokens: RwLock::default(),
                forwarder: Arc::clone(&settings.forwarder),
                pod: Arc::new(pod),
            };
            Self {
                chain: Chain::new(address, proxy),
                hooks: Arc::new(hooks),
                kubelet: SocketAddr::from((Ipv4Addr::LOCALHOST, kubelet)),
                issuer: issuer_of(settings).to_owned(),
                accounts,
                ends: ends.clone(),
                folder: folder.clone(),
                programs: vec![server, store],
            }
        });
        let tls = Arc::clone(&settings.hooks_tls);
        hooks::serve(Arc::clone(&plane.hooks), listener, tls, ends).map_err(|error| text(&error))?;
        plane.ready().await?;
        plane.aggregate_roles().await;
        Ok(plane)
    }

    /// Waits until the API server is ready and has its first namespaces, which it makes by itself.
    async fn ready(&self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let ready = self.ask(Method::GET, "/readyz").await.0.is_success()
                && self
                    .ask(Method::GET, "/api/v1/namespaces/default")
                    .await
                    .0
                    .is_success();
            if ready {
                return Ok(());
            }
            let ended = self.programs.iter().find(|program| program.has_ended());
            if let Some(program) = ended {
                return Err(format!(
                    "a program of the control plane ended:\n{}",
                    program.last_words(LAST_WORDS)
                ));
            }
            if began.elapsed() > PATIENCE {
                let words: Vec<_> = self
                    .programs
                    .iter()
                    .map(|program| program.last_words(LAST_WORDS))
                    .collect();
                return Err(format!(
                    "kube-apiserver is not ready after {PATIENCE:?}:\n{}",
                    words.join("\n")
                ));
            }
            tokio::time::sleep(BREATH).await;
        }
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

    /// Kills the programs and removes their files; some milliseconds.
    pub(crate) fn end(&self) {
        self.ends.cancel();
        for program in &self.programs {
            program.end();
        }
        // Worthless without the programs.
        let _removed = fs::remove_dir_all(&self.folder).is_ok();
    }

    /// Fills the roles that are made of others, as a controller of every cluster does: without it `view`, `edit` and
    /// `admin` allow nothing. Roles that come later are not followed.
    async fn aggregate_roles(&self) {
        const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
        let (_, list) = self.ask(Method::GET, ROLES).await;
        let roles = list["items"].as_array().cloned().unwrap_or_default();
        let mut gathered = BTreeMap::<&str, Vec<Value>>::new();
        // The selectors of these three name one label each, and `admin` selects what `edit` is made of.
        for target in ["view", "edit", "admin"] {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{target}");
            let chosen = roles
                .iter()
                .filter(|role| role["metadata"]["labels"][&label] == "true");
            let mut rules = Vec::new();
            for role in chosen {
                let name = role["metadata"]["name"].as_str().unwrap_or_default();
                match gathered.get(name) {
                    Some(earlier) => rules.extend(earlier.iter().cloned()),
                    None => rules.extend(role["rules"].as_array().cloned().unwrap_or_default()),
                }
            }
            let patch = json!({"rules": rules});
            let path = format!("{ROLES}/{target}?fieldManager=kube-controller-manager");
            let (status, _) = self.send(Method::PATCH, &path, Some(&patch)).await;
            if !status.is_success() {
                tracing::error!(target, %status, "a role could not be put together");
            }
            gathered.insert(target, rules);
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let (status, pod) = self
            .ask(
                Method::GET,
                &format!("/api/v1/namespaces/{namespace}/pods/{name}"),
            )
            .await;
        status.is_success().then_some(pod)
    }

    /// Asks as `system:masters`, past the journal.
    async fn ask(&self, method: Method, path: &str) -> (StatusCode, Value) {
        self.send(method, path, None).await
    }

    async fn send(&self, method: Method, path: &str, patch: Option<&Value>) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if patch.is_some() {
            request = request.header("content-type", "application/merge-patch+json");
        }
        let request = request.body(patch.map(Value::to_string).unwrap_or_default().into());
        let Ok(request) = request else {
            return (StatusCode::BAD_REQUEST, Value::Null);
        };
        let peer = Identity {
            name: PROXY.to_owned(),
            uid: String::new(),
            groups: vec!["system:masters".to_owned()],
        };
        let (head, body) = self.chain.answer(request, Some(&peer)).await.into_parts();
        let bytes = match body.collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(never) => match never {},
        };
        (head.status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ports for API server, etcd and etcd's peers. Where the system chooses, they are free now and may be taken when the
/// programs bind them.
fn free_ports(plan: PortPlan) -> Result<[u16; 3], String> {
    let listen = |offset| Names::listen(plan.at(PORTS + offset)).map_err(|error| error.to_string());
    let held = [listen(1)?, listen(2)?, listen(3)?];
    let port = |index: usize| local_port(&held[index]).map_err(|error| error.to_string());
    Ok([port(0)?, port(1)?, port(2)?])
}

/// Writes certificates, keys and webhook files; returns TLS of an authenticating proxy.
fn files(
    settings: &ControlPlaneSettings,
    accounts: &AccountKey,
    kubelet: u16,
) -> Result<Arc<rustls::ClientConfig>, Box<dyn std::error::Error>> {
    let write = |name: &str, content: &str| fs::write(settings.folder.join(name), content);
    let authority = &settings.authority;
    write("ca.pem", authority.pem())?;
    let names = [
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "10.0.0.1",
    ];
    let serving = authority.server_certificate(&names.map(str::to_owned))?;
    write("serving.pem", &serving.certificate_pem)?;
    write("serving.key", &serving.key_pem)?;
    let proxy_authority = Authority::new("kvtls-sandbox-front-proxy-ca", settings.now)?;
    write("front-proxy-ca.pem", proxy_authority.pem())?;
    let (private, public) = accounts.pem().ok_or("no randomness for a key")?;
    write("service-accounts.key", &private)?;
    write("service-accounts.pub", &public)?;
    for hook in ["authenticate", "authorize"] {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {
                "server": format!("https://127.0.0.1:{kubelet}/{hook}"), "certificate-authority": settings.folder.join("ca.pem"),
            }}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "kube-apiserver"}}],
            "users": [{"name": "kube-apiserver", "user": {}}],
        });
        write(&format!("{hook}.json"), &config.to_string())?;
    }
    let pair = proxy_authority.client_certificate(PROXY, &[])?;
    proxy_tls(authority, &pair)
}

fn proxy_tls(
    authority: &Authority,
    pair: &ClientCertificate,
) -> Result<Arc<rustls::ClientConfig>, Box<dyn std::error::Error>> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let chain =
        CertificateDer::pem_slice_iter(pair.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config))
}

fn issuer_of(settings: &ControlPlaneSettings) -> &str {
    settings.issuer.as_deref().unwrap_or(ISSUER)
}

fn etcd_arguments(folder: &Path, clients: u16, peers: u16) -> Vec<String> {
    let clients = format!("http://127.0.0.1:{clients}");
    let peers = format!("http://127.0.0.1:{peers}");
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // Nothing of this world outlives its process.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn apiserver_arguments(settings: &ControlPlaneSettings, port: u16, etcd: u16) -> Vec<String> {
    let file = |name: &str| settings.folder.join(name).display().to_string();
    vec![
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // Nobody reads the endpoints of the Service `kubernetes`, and loopback may not stand in them.
        "--advertise-address=10.224.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
        format!("--tls-cert-file={}", file("serving.pem")),
        format!("--tls-private-key-file={}", file("serving.key")),
        format!("--client-ca-file={}", file("ca.pem")),
        "--anonymous-auth=false".to_owned(),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.pem")),
        format!("--requestheader-allowed-names={PROXY}"),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        format!("--service-account-issuer={}", issuer_of(settings)),
        format!("--api-audiences={},{ISSUER}", issuer_of(settings)),
        format!(
            "--service-account-signing-key-file={}",
            file("service-accounts.key")
        ),
        format!("--service-account-key-file={}", file("service-accounts.pub")),
        format!(
            "--authentication-token-webhook-config-file={}",
            file("authenticate.json")
        ),
        "--authentication-token-webhook-version=v1".to_owned(),
        "--authentication-token-webhook-cache-ttl=0s".to_owned(),
        "--authorization-mode=RBAC,Webhook".to_owned(),
        format!("--authorization-webhook-config-file={}", file("authorize.json")),
        "--authorization-webhook-version=v1".to_owned(),
        "--authorization-webhook-cache-authorized-ttl=0s".to_owned(),
        "--authorization-webhook-cache-unauthorized-ttl=0s".to_owned(),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
        "--enable-priority-and-fairness=false".to_owned(),
        // Ours to judge: only the request itself is limited, as in the embedded API.
        "--max-requests-inflight=0".to_owned(),
        "--max-mutating-requests-inflight=0".to_owned(),
    ]
}
