//! etcd, kube-apiserver and kube-controller-manager as they run, without a world.
//!
//! Worlds of one process may have them one after another: what a world left in etcd is taken back before the next one
//! begins ([`Programs::clean`]), which takes a moment instead of the seconds of a start.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;
use time::OffsetDateTime;

use super::build;
use super::chain::{Chain, PROXY};
use super::child::Child;
use super::store::{Content, Store};
use crate::sandbox::certificates::{Authority, ClientCertificate};
use crate::sandbox::front::names::{Names, PortPlan, local_port};
use crate::sandbox::front::tls;
use crate::sandbox::kubernetes::{AccountKey, ISSUER};

/// The first port of a block that a real control plane uses.
const PORTS: u16 = 80;
/// How long a program may take until it is ready; two to four seconds are usual.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is asked.
const BREATH: Duration = Duration::from_millis(50);
/// How often it is started when a port that was free is taken meanwhile.
const ATTEMPTS: usize = 3;
/// Lines of its output that are shown when it does not start.
const LAST_WORDS: usize = 20;

/// What the programs are started with.
pub(super) struct Start<'a> {
    /// Where their files go; removed at the end.
    pub(super) folder: &'a Path,
    /// The first of the three ports.
    pub(super) ports: PortPlan,
    /// Who issues service account tokens.
    pub(super) issuer: &'a str,
    /// Real time: certificates are judged by the programs' own clock.
    pub(super) now: OffsetDateTime,
    /// Whether the controller manager stays. It comes in any case: what a cluster has from it at the beginning, such as
    /// roles that are made of others, is the same everywhere.
    pub(super) controllers: bool,
}

/// They run.
pub(super) struct Programs {
    /// Where the API server answers.
    pub(super) address: SocketAddr,
    /// Shows the API server an authenticating proxy.
    pub(super) proxy: Arc<rustls::ClientConfig>,
    /// Where it asks back, and where it looks for its nodes' kubelet.
    pub(super) hooks: TcpListener,
    pub(super) hooks_tls: Arc<rustls::ServerConfig>,
    /// The port of `hooks`.
    pub(super) kubelet: u16,
    /// The authority of `hooks_tls`.
    pub(super) authority_pem: String,
    pub(super) issuer: String,
    /// Signs service account tokens.
    pub(super) accounts: Arc<AccountKey>,
    store: Store,
    /// What was there before a world was.
    beginning: Beginning,
    folder: PathBuf,
    /// In the order in which they end.
    running: Vec<Child>,
}

#[derive(Default)]
struct Beginning {
    content: Content,
    groups: Vec<String>,
}

impl Programs {
    /// Starts them; ready when this returns.
    ///
    /// # Errors
    /// Words to show: what is missing, or the last lines of a program that ended.
    pub(super) async fn start(start: &Start<'_>) -> Result<Self, String> {
        let built = build::built().map_err(|error| error.to_string())?;
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match Self::attempt(&built, start).await {
                Ok(programs) => return Ok(programs),
                Err(words) => why = words,
            }
            if !why.contains("address already in use") {
                break;
            }
        }
        Err(why)
    }

    async fn attempt(built: &Path, start: &Start<'_>) -> Result<Self, String> {
        let folder = start.folder;
        let text = |error: &dyn std::error::Error| error.to_string();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        let hooks = Names::listen(start.ports.at(PORTS)).map_err(|error| text(&error))?;
        let kubelet = local_port(&hooks).map_err(|error| text(&error))?;
        let accounts = AccountKey::generate();
        let authority =
            Authority::new("kvtls-sandbox-control-plane", start.now).map_err(|error| text(&error))?;
        let hooks_tls = tls::cluster(&authority, "kubelet").map_err(|error| text(&error))?;
        let [api, etcd, peers] = free_ports(start.ports)?;
        let proxy = files(start, &authority, &accounts, [kubelet, api]).map_err(|error| error.to_string())?;
        let run = |program: &str, arguments: Vec<String>, folder: &Path| {
            Child::start(&built.join(program), &arguments, folder)
                .map_err(|error| format!("{program}: {error}"))
        };
        let etcd_runs = run("etcd", etcd_arguments(folder, etcd, peers), folder)?;
        let api_runs = run("kube-apiserver", apiserver_arguments(start, api, etcd), folder)?;
        let mut programs = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, api)),
            proxy,
            hooks,
            hooks_tls,
            kubelet,
            authority_pem: authority.pem().to_owned(),
            issuer: start.issuer.to_owned(),
            accounts: Arc::new(accounts),
            store: Store::at(etcd),
            beginning: Beginning::default(),
            folder: folder.to_path_buf(),
            running: vec![api_runs, etcd_runs],
        };
        let chain = programs.chain();
        programs.ready(&chain, Beginner::Api).await?;
        // It does not wait long for an API server that is not there.
        let apart = folder.join("controllers");
        fs::create_dir_all(&apart).map_err(|error| format!("{}: {error}", apart.display()))?;
        let manager = run("kube-controller-manager", manager_arguments(folder), &apart)?;
        programs.running.insert(0, manager);
        programs.ready(&chain, Beginner::Controllers).await?;
        if !start.controllers {
            programs.running.remove(0).end();
        }
        programs.beginning = Beginning {
            content: programs.store.content().await?,
            groups: groups(&chain).await,
        };
        Ok(programs)
    }

    /// A way to the API server, of the runtime that asks.
    pub(super) fn chain(&self) -> Chain {
        Chain::new(self.address, Arc::clone(&self.proxy))
    }

    /// Takes back what a world has changed. Says no if that does not succeed: nobody can have these programs then.
    pub(super) async fn clean(&self) -> bool {
        let cleaned = self.store.restore(&self.beginning.content).await;
        if let Err(words) = cleaned {
            tracing::warn!(words, "etcd could not be cleaned");
            return false;
        }
        let chain = self.chain();
        let began = Instant::now();
        // The API server forgets the definitions that are gone.
        while groups(&chain).await != self.beginning.groups {
            if began.elapsed() > PATIENCE || self.running.iter().any(Child::has_ended) {
                return false;
            }
            tokio::time::sleep(BREATH).await;
        }
        true
    }

    /// Waits until what this one makes by itself is there.
    async fn ready(&self, chain: &Chain, beginner: Beginner) -> Result<(), String> {
        let began = Instant::now();
        while !beginner.has_begun(chain).await {
            let ended = self.running.iter().find(|program| program.has_ended());
            if let Some(program) = ended {
                return Err(format!(
                    "a program of the control plane ended:\n{}",
                    program.last_words(LAST_WORDS)
                ));
            }
            if began.elapsed() > PATIENCE {
                let words: Vec<_> = self
                    .running
                    .iter()
                    .map(|program| program.last_words(LAST_WORDS))
                    .collect();
                return Err(format!(
                    "the {beginner:?} of the control plane is not ready after {PATIENCE:?}:\n{}",
                    words.join("\n")
                ));
            }
            tokio::time::sleep(BREATH).await;
        }
        Ok(())
    }
}

impl Drop for Programs {
    /// Some milliseconds.
    fn drop(&mut self) {
        for program in &self.running {
            program.end();
        }
        // Worthless without the programs.
        let _removed = fs::remove_dir_all(&self.folder).is_ok();
    }
}

/// What the API server makes by itself, in no particular order.
const FIRST: &[&str] = &[
    "/readyz",
    "/api/v1/namespaces/default",
    "/api/v1/namespaces/kube-system",
    "/api/v1/namespaces/kube-public",
    "/api/v1/namespaces/kube-node-lease",
    "/api/v1/namespaces/default/services/kubernetes",
];

/// The controllers that run, with the service account of each in `kube-system`, which it makes at its start. Those of
/// nodes are not among them: nodes here send no heartbeats, and have no cloud.
const CONTROLLERS: &[(&str, &str)] = &[
    (
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation-controller",
    ),
    ("cronjob-controller", "cronjob-controller"),
    ("daemonset-controller", "daemon-set-controller"),
    ("deployment-controller", "deployment-controller"),
    ("disruption-controller", "disruption-controller"),
    ("endpoints-controller", "endpoint-controller"),
    ("endpointslice-controller", "endpointslice-controller"),
    ("garbage-collector-controller", "generic-garbage-collector"),
    ("job-controller", "job-controller"),
    ("namespace-controller", "namespace-controller"),
    ("replicaset-controller", "replicaset-controller"),
    ("resourcequota-controller", "resourcequota-controller"),
    (
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
    ),
    ("serviceaccount-controller", "service-account-controller"),
    ("statefulset-controller", "statefulset-controller"),
];

/// Who makes what is there before a world is.
#[derive(Clone, Copy, Debug)]
enum Beginner {
    Api,
    Controllers,
}

impl Beginner {
    async fn has_begun(self, chain: &Chain) -> bool {
        match self {
            Self::Api => all(chain, FIRST.iter().copied().map(str::to_owned).collect()).await,
            Self::Controllers => all(chain, furniture()).await && has_whole_roles(chain).await,
        }
    }
}

/// Whether the API has all of this.
async fn all(chain: &Chain, paths: Vec<String>) -> bool {
    for path in paths {
        if !chain.ask(Method::GET, &path).await.0.is_success() {
            return false;
        }
    }
    true
}

/// What the controllers make before anybody makes anything, but for the roles.
fn furniture() -> Vec<String> {
    let space = |name: &str| format!("/api/v1/namespaces/{name}");
    let account = |name: &str, account: &str| format!("{}/serviceaccounts/{account}", space(name));
    let mut paths: Vec<_> = CONTROLLERS
        .iter()
        .map(|(_, own)| account("kube-system", own))
        .collect();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        paths.push(account(name, "default"));
        paths.push(format!("{}/configmaps/kube-root-ca.crt", space(name)));
    }
    paths
}

/// Whether the roles that are made of others are: what `view` allows `edit` does, too, and `admin` all of that.
async fn has_whole_roles(chain: &Chain) -> bool {
    let mut lower = Vec::new();
    for role in ["view", "edit", "admin"] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{role}");
        let (_, role) = chain.ask(Method::GET, &path).await;
        let rules = role["rules"].as_array().cloned().unwrap_or_default();
        if rules.is_empty() || !lower.iter().all(|rule| rules.contains(rule)) {
            return false;
        }
        lower = rules;
    }
    true
}

/// The API groups there are.
async fn groups(chain: &Chain) -> Vec<String> {
    let (_, list) = chain.ask(Method::GET, "/apis").await;
    let names = list["groups"].as_array().into_iter().flatten();
    let names = names.filter_map(|group| group["name"].as_str());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names
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
    start: &Start<'_>,
    authority: &Authority,
    accounts: &AccountKey,
    [kubelet, api]: [u16; 2],
) -> Result<Arc<rustls::ClientConfig>, Box<dyn std::error::Error>> {
    let write = |name: &str, content: &str| fs::write(start.folder.join(name), content);
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
    let proxy_authority = Authority::new("kvtls-sandbox-front-proxy-ca", start.now)?;
    write("front-proxy-ca.pem", proxy_authority.pem())?;
    let (private, public) = accounts.pem().ok_or("no randomness for a key")?;
    write("service-accounts.key", &private)?;
    write("service-accounts.pub", &public)?;
    let manager = authority.client_certificate("system:kube-controller-manager", &[])?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "sandbox",
        "clusters": [{"name": "sandbox", "cluster": {
            "server": format!("https://127.0.0.1:{api}"), "certificate-authority": start.folder.join("ca.pem"),
        }}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "kube-controller-manager"}}],
        "users": [{"name": "kube-controller-manager", "user": {
            "client-certificate-data": STANDARD.encode(&manager.certificate_pem),
            "client-key-data": STANDARD.encode(&manager.key_pem),
        }}],
    });
    write("kube-controller-manager.json", &config.to_string())?;
    for hook in ["authenticate", "authorize"] {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {
                "server": format!("https://127.0.0.1:{kubelet}/{hook}"), "certificate-authority": start.folder.join("ca.pem"),
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
        // What a world leaves behind is taken back in one transaction.
        "--max-txn-ops=100000".to_owned(),
    ]
}

fn apiserver_arguments(start: &Start<'_>, port: u16, etcd: u16) -> Vec<String> {
    let file = |name: &str| start.folder.join(name).display().to_string();
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
        format!("--service-account-issuer={}", start.issuer),
        format!("--api-audiences={},{ISSUER}", start.issuer),
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

fn manager_arguments(folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let controllers: Vec<_> = CONTROLLERS.iter().map(|(name, _)| *name).collect();
    vec![
        format!("--kubeconfig={}", file("kube-controller-manager.json")),
        format!("--controllers={}", controllers.join(",")),
        // Each controller under the role that Kubernetes has for it.
        "--use-service-account-credentials=true".to_owned(),
        format!("--root-ca-file={}", file("ca.pem")),
        // Nobody competes with it, and nobody asks it anything.
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        // The clock of a world runs faster than its own.
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ]
}
