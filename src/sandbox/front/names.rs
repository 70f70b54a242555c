//! Addresses: two modes of one world, chosen by the address a caller used.
//!
//! Asked as `management.azure.com`, the world speaks of `https://myakskeyvault.vault.azure.net/`; asked as
//! `127.0.0.1:P` it speaks of loopback ports. Nothing is switched: the `Host` header decides, answer by answer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::mpsc;

/// Names that mean the front, and which part of it.
const FRONT: &[(&str, Service)] = &[
    ("management.azure.com", Service::Arm),
    ("management.core.windows.net", Service::Arm),
    ("login.microsoftonline.com", Service::Login),
    ("login.windows.net", Service::Login),
    ("login.microsoft.com", Service::Login),
    ("sts.windows.net", Service::Login),
    ("graph.microsoft.com", Service::Graph),
    ("graph.windows.net", Service::Graph),
];

/// What the hosts of the clusters' issuers end with.
const ISSUERS: &str = ".oic.prod-aks.azure.com";

/// What a host name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Everything that has no name of its own: ARM, login, metadata, issuers, control, by path.
    Loopback,
    Arm,
    Login,
    Graph,
    /// The issuers of the clusters' service account tokens.
    Issuer,
    /// A vault, by its name as the world writes it.
    Vault(String),
    /// A cluster's API server, likewise.
    Cluster(String),
}

/// A port that was opened and wants to be served.
pub(crate) struct Opened {
    pub(crate) service: Service,
    pub(crate) listener: std::net::TcpListener,
    /// Ends the accept loop.
    pub(crate) ends: tokio_util::sync::CancellationToken,
}

/// The address book; clones share it.
#[derive(Clone)]
pub(crate) struct Names(Arc<State>);

struct State {
    plan: PortPlan,
    vault_suffix: String,
    front: u16,
    proxy: u16,
    book: RwLock<Book>,
    next: Mutex<(u16, u16)>,
    opened: mpsc::UnboundedSender<Opened>,
}

#[derive(Default)]
struct Book {
    vaults: BTreeMap<String, Entry>,
    clusters: BTreeMap<String, Entry>,
}

struct Entry {
    /// As the world writes it.
    name: String,
    host: String,
    port: u16,
    ends: tokio_util::sync::CancellationToken,
}

/// Which ports to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortPlan {
    /// The operating system chooses.
    #[default]
    Auto,
    /// A block of ninety ports from this one on.
    From(u16),
}

impl PortPlan {
    /// The port at this offset of the block; zero, which lets the system choose, without a block.
    pub(crate) fn at(self, offset: u16) -> u16 {
        match self {
            Self::Auto => 0,
            Self::From(first) => first.saturating_add(offset),
        }
    }
}

/// The first vault's offset in a block of ports.
const VAULTS: u16 = 10;
/// The first cluster's.
const CLUSTERS: u16 = 40;
/// The first edge's.
pub(crate) const EDGES: u16 = 60;

impl Names {
    /// The address book of a world whose front and proxy listen there. Every port that is opened later is sent to the
    /// receiver, to be served.
    pub(crate) fn new(
        plan: PortPlan,
        vault_suffix: &str,
        front: u16,
        proxy: u16,
    ) -> (Self, mpsc::UnboundedReceiver<Opened>) {
        let (opened, receiver) = mpsc::unbounded_channel();
        let state = State {
            plan,
            vault_suffix: vault_suffix.trim_start_matches('.').to_owned(),
            front,
            proxy,
            book: RwLock::default(),
            next: Mutex::new((VAULTS, CLUSTERS)),
            opened,
        };
        (Self(Arc::new(state)), receiver)
    }

    /// Listens on loopback at this port.
    pub(crate) fn listen(port: u16) -> Result<std::net::TcpListener, PortTaken> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listen = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        listen().map_err(|source| PortTaken { port, source })
    }

    /// Gives a vault its port and name, at once. Doing so again changes nothing.
    #[expect(
        clippy::unused_async,
        reason = "the planes await it: a port may come from elsewhere one day"
    )]
    pub(crate) async fn open_vault(&self, name: &str) -> Result<u16, PortTaken> {
        let host = format!("{}.{}", name.to_ascii_lowercase(), self.0.vault_suffix);
        self.open(name, host, Service::Vault(name.to_owned()))
    }

    /// Takes a vault's port and name away.
    pub(crate) fn close_vault(&self, name: &str) {
        let gone = self.write().vaults.remove(&name.to_ascii_lowercase());
        if let Some(entry) = gone {
            entry.ends.cancel();
        }
    }

    /// Gives a cluster's API server its port and name, at once. Doing so again changes nothing.
    #[expect(
        clippy::unused_async,
        reason = "the planes await it: a port may come from elsewhere one day"
    )]
    pub(crate) async fn open_cluster(&self, name: &str, location: &str) -> Result<u16, PortTaken> {
        self.open(name, fqdn(name, location), Service::Cluster(name.to_owned()))
    }

    /// Takes a cluster's port and name away.
    pub(crate) fn close_cluster(&self, name: &str) {
        let gone = self.write().clusters.remove(&name.to_ascii_lowercase());
        if let Some(entry) = gone {
            entry.ends.cancel();
        }
    }

    fn open(&self, name: &str, host: String, service: Service) -> Result<u16, PortTaken> {
        let key = name.to_ascii_lowercase();
        let is_vault = matches!(service, Service::Vault(_));
        let mut book = self.write();
        let shelf = if is_vault {
            &mut book.vaults
        } else {
            &mut book.clusters
        };
        if let Some(entry) = shelf.get(&key) {
            return Ok(entry.port);
        }
        let listener = Self::listen(self.next_port(is_vault))?;
        let port = local_port(&listener)?;
        let ends = tokio_util::sync::CancellationToken::new();
        let entry = Entry {
            name: name.to_owned(),
            host,
            port,
            ends: ends.clone(),
        };
        shelf.insert(key, entry);
        let opened = Opened {
            service,
            listener,
            ends,
        };
        // Without a receiver the world is ending, and the port with it.
        drop(self.0.opened.send(opened));
        Ok(port)
    }

    fn next_port(&self, is_vault: bool) -> u16 {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = if is_vault { &mut next.0 } else { &mut next.1 };
        let port = self.0.plan.at(*offset);
        *offset += 1;
        port
    }

    /// `https://myakskeyvault.vault.azure.net/` or `https://127.0.0.1:18010/`: with the slash that ARM writes.
    pub(crate) fn vault_uri(&self, vault: &str, asked_as: &str) -> String {
        let book = self.read();
        match book.vaults.get(&vault.to_ascii_lowercase()) {
            Some(entry) if is_loopback(asked_as) => format!("https://127.0.0.1:{}/", entry.port),
            Some(entry) => format!("https://{}/", entry.host),
            None => format!("https://{}.{}/", vault.to_ascii_lowercase(), self.0.vault_suffix),
        }
    }

    /// What vault names end with, `vault.azure.net`.
    pub(crate) fn vault_suffix(&self) -> &str {
        &self.0.vault_suffix
    }

    /// The cluster's name in names mode; empty for a cluster that was never opened.
    pub(crate) fn cluster_fqdn(&self, cluster: &str) -> String {
        let book = self.read();
        let entry = book.clusters.get(&cluster.to_ascii_lowercase());
        entry.map(|entry| entry.host.clone()).unwrap_or_default()
    }

    /// A kubeconfig's `server`: `https://…hcp.eastus.azmk8s.io:443` or `https://127.0.0.1:18040`.
    pub(crate) fn cluster_server(&self, cluster: &str, asked_as: &str) -> String {
        let book = self.read();
        match book.clusters.get(&cluster.to_ascii_lowercase()) {
            Some(entry) if is_loopback(asked_as) => format!("https://127.0.0.1:{}", entry.port),
            Some(entry) => format!("https://{}:443", entry.host),
            None => String::new(),
        }
    }

    /// ARM's address, without a slash.
    pub(crate) fn arm_base(&self, asked_as: &str) -> String {
        if is_loopback(asked_as) {
            self.front_base()
        } else {
            "https://management.azure.com".to_owned()
        }
    }

    /// The authority's address, without a slash.
    pub(crate) fn login_base(&self, asked_as: &str) -> String {
        if is_loopback(asked_as) {
            self.front_base()
        } else {
            "https://login.microsoftonline.com".to_owned()
        }
    }

    /// The front on loopback, without a slash.
    pub(crate) fn front_base(&self) -> String {
        format!("https://127.0.0.1:{}", self.0.front)
    }

    /// The plain port, without a slash: the proxy, and the identity endpoints.
    pub(crate) fn proxy_base(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.proxy)
    }

    /// Where a vault host listens, for those who dial without the proxy.
    fn vault_address(&self, host: &str) -> Option<SocketAddr> {
        let host = host_of(host).to_ascii_lowercase();
        let book = self.read();
        let entry = book.vaults.values().find(|entry| entry.host == host)?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, entry.port)))
    }

    /// Where the actors find a host of Azure: a vault, or the authority.
    pub(crate) fn address_of(&self, host: &str) -> Option<SocketAddr> {
        match self.service(host)? {
            Service::Login => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, self.0.front))),
            _ => self.vault_address(host),
        }
    }

    /// What a host stands for; `None` for names of another world.
    pub(crate) fn service(&self, host: &str) -> Option<Service> {
        let host = host_of(host).to_ascii_lowercase();
        if is_loopback(&host) {
            return Some(Service::Loopback);
        }
        if let Some((_, service)) = FRONT.iter().find(|(name, _)| *name == host) {
            return Some(service.clone());
        }
        if host.ends_with(ISSUERS) {
            return Some(Service::Issuer);
        }
        let book = self.read();
        let vault = book.vaults.values().find(|entry| entry.host == host);
        if let Some(entry) = vault {
            return Some(Service::Vault(entry.name.clone()));
        }
        let cluster = book.clusters.values().find(|entry| entry.host == host)?;
        Some(Service::Cluster(cluster.name.clone()))
    }

    /// Vaults and their loopback addresses, in name order.
    pub(crate) fn vaults(&self) -> Vec<(String, String)> {
        let book = self.read();
        let addresses = book.vaults.values().map(|entry| (entry.name.clone(), entry.port));
        addresses
            .map(|(name, port)| (name, format!("https://127.0.0.1:{port}")))
            .collect()
    }

    /// Clusters and their loopback addresses, in name order.
    pub(crate) fn clusters(&self) -> Vec<(String, SocketAddr)> {
        let book = self.read();
        let entries = book.clusters.values();
        entries
            .map(|entry| {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, entry.port));
                (entry.name.clone(), address)
            })
            .collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Book> {
        self.0.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Book> {
        self.0.book.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port that somebody else has.
#[derive(Debug, thiserror::Error)]
#[error("port {port} on 127.0.0.1 cannot be used")]
pub(crate) struct PortTaken {
    pub(crate) port: u16,
    #[source]
    source: std::io::Error,
}

/// The port a listener got.
pub(crate) fn local_port(listener: &std::net::TcpListener) -> Result<u16, PortTaken> {
    let address = listener.local_addr();
    address
        .map(|address| address.port())
        .map_err(|source| PortTaken { port: 0, source })
}

/// Whether a `Host` names this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    matches!(host_of(host), "127.0.0.1" | "localhost" | "::1" | "[::1]")
}

/// A `Host` without its port.
pub(crate) fn host_of(host: &str) -> &str {
    if let Some(end) = host.find(']') {
        return host.get(..=end).unwrap_or(host);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// The name AKS gives an API server, with eight digits that are the same in every run.
fn fqdn(cluster: &str, location: &str) -> String {
    let cluster = cluster.to_ascii_lowercase();
    let id = super::super::world::id_of(&format!("/clusters/{cluster}/fqdn"));
    let digits = id.get(..8).unwrap_or_default();
    format!("{cluster}-dns-{digits}.hcp.{location}.azmk8s.io")
}
