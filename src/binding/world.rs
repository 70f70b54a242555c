//! The clients a binding needs, and reads that bindings of one run share.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::desired::{Connection, Credential};
use super::error::kubernetes_said;
use super::users::Users;
use crate::azure::ids::{ClusterId, IdentityId, PrincipalId, VaultId};
use crate::azure::{
    self, Azure, Cluster, FederatedCredential, ManagedIdentity, Permissions, RoleAssignment, Vault,
    VaultCertificate,
};
use crate::k8s::edge::ProxySettings;
use crate::k8s::{self, ApiServer, ConnectSettings, Kubernetes, Right, SERVICE, SPC_POD_STATUS, TokenSource};

/// Everything through which a binding reaches the world. Clones share connections and reads.
#[derive(Clone)]
pub struct World {
    azure: Azure,
    user_agent: String,
    proxy: ProxySettings,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    clusters: Memo<ClusterId, Result<Option<Cluster>, azure::Error>>,
    vaults: Memo<VaultId, Result<Option<Vault>, azure::Error>>,
    assignments: Memo<(VaultId, PrincipalId), Result<Vec<RoleAssignment>, azure::Error>>,
    certificates: Memo<CertificateKey, Result<Option<VaultCertificate>, azure::Error>>,
    identities: Memo<IdentityId, Result<Option<ManagedIdentity>, azure::Error>>,
    federated: Memo<IdentityId, Result<Vec<FederatedCredential>, azure::Error>>,
    permissions: Memo<String, Result<Permissions, azure::Error>>,
    rights: Memo<(ClusterId, Right), Result<bool, k8s::Error>>,
    users: Users,
    /// Clusters whose add-on a binding of this run switched on.
    switched_on: Mutex<BTreeSet<ClusterId>>,
    connections: Memo<(ClusterId, Connection), Result<Connected, ConnectError>>,
    servers: Mutex<HashMap<ClusterId, ApiServer>>,
}

/// A connection to a cluster's API.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The client.
    pub kubernetes: Kubernetes,
    /// Where it is, if with that and a token the next run needs nothing of Azure.
    pub server: Option<ApiServer>,
    /// Whether that was remembered from an earlier run.
    pub is_remembered: bool,
    mount_records: Arc<Memo<String, Objects>>,
    services: Arc<Memo<(String, BTreeSet<String>), Objects>>,
}

type Objects = Result<Arc<Vec<Value>>, k8s::Error>;

impl Connected {
    /// The driver's records of who mounts what in a namespace; one list serves all bindings there.
    ///
    /// # Errors
    /// Those of reading; [`k8s::Error::NotServed`] where there is no driver.
    pub async fn mount_records(&self, namespace: &str, freshness: Freshness) -> Objects {
        let read = async || {
            let listed = self.kubernetes.list(SPC_POD_STATUS, Some(namespace), "").await;
            listed.map(Arc::new)
        };
        self.mount_records
            .get(namespace.to_owned(), freshness, read)
            .await
    }

    /// Of the Services of a namespace at least those of these names that are there, in one request; it serves all
    /// bindings that name the same ones.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn services(&self, namespace: &str, names: &BTreeSet<String>, freshness: Freshness) -> Objects {
        let read = async || -> Objects {
            let mut all = names.iter();
            let found = match (all.next(), all.next()) {
                (Some(name), None) => {
                    let one = self.kubernetes.get(&SERVICE.named(namespace, name)).await?;
                    one.into_iter().collect()
                }
                _ => self.kubernetes.list(SERVICE, Some(namespace), "").await?,
            };
            Ok(Arc::new(found))
        };
        let key = (namespace.to_owned(), names.clone());
        self.services.get(key, freshness, read).await
    }
}

/// Vault, name, and the version if not the newest.
type CertificateKey = (VaultId, String, Option<String>);

/// Why a cluster's API could not be reached.
#[derive(Clone, Debug)]
pub enum ConnectError {
    /// Azure did not hand out the credential.
    Azure(azure::Error),
    /// The credential could not be used.
    Kubernetes(k8s::Error),
    /// An Entra token was asked for, and the cluster has no Entra.
    NoEntra,
    /// The user's credential was asked for, and on a cluster with Entra that is a program to log in with.
    NeedsLogin,
    /// The administrator's credential was asked for, and the cluster has no local accounts.
    LocalAccountsOff(azure::Error),
}

impl From<k8s::Error> for ConnectError {
    fn from(error: k8s::Error) -> Self {
        Self::Kubernetes(error)
    }
}

impl ConnectError {
    /// Why, in the service's words where it said something.
    pub fn said(&self) -> String {
        match self {
            Self::Azure(error) | Self::LocalAccountsOff(error) => error.service_said(),
            Self::Kubernetes(error) => kubernetes_said(error),
            Self::NoEntra => "the cluster has no Entra ID, and connection.credential is \"entra\"".to_owned(),
            Self::NeedsLogin => {
                "connection.credential is \"user\", and on a cluster with Entra ID that is a program to log in with"
                    .to_owned()
            }
        }
    }
}

/// Whether an earlier answer of this run will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Bindings of one run share it: reading and planning.
    Shared,
    /// Asked anew: applying.
    Fresh,
}

impl World {
    /// A world reached through these clients.
    pub fn new(azure: Azure, user_agent: String, proxy: ProxySettings) -> Self {
        Self {
            azure,
            user_agent,
            proxy,
            shared: Arc::default(),
        }
    }

    /// Azure.
    pub fn azure(&self) -> &Azure {
        &self.azure
    }

    /// The environment's proxy.
    pub fn proxy(&self) -> &ProxySettings {
        &self.proxy
    }

    /// The cloud's name as the driver's Azure provider has to be told it; none where it knows by itself.
    ///
    /// # Errors
    /// If the cloud's metadata cannot be read.
    pub async fn cloud_name(&self) -> Result<Option<String>, azure::Error> {
        const DEFAULT: &str = "AzurePublicCloud";
        let cloud = self.azure.cloud().await?;
        Ok(cloud.provider_cloud_name.clone().filter(|name| name != DEFAULT))
    }

    /// The cluster in Azure.
    ///
    /// # Errors
    /// As [`Azure::cluster`].
    pub async fn cluster(
        &self,
        id: &ClusterId,
        freshness: Freshness,
    ) -> Result<Option<Cluster>, azure::Error> {
        let read = || self.azure.cluster(id);
        self.shared.clusters.get(id.clone(), freshness, read).await
    }

    /// The vault in Azure.
    ///
    /// # Errors
    /// As [`Azure::vault`].
    pub async fn vault(&self, id: &VaultId, freshness: Freshness) -> Result<Option<Vault>, azure::Error> {
        let read = || self.azure.vault(id);
        self.shared.vaults.get(id.clone(), freshness, read).await
    }

    /// An identity's role assignments at the vault and above.
    ///
    /// # Errors
    /// As [`Azure::role_assignments`].
    pub async fn assignments(
        &self,
        vault: &VaultId,
        principal: &PrincipalId,
        freshness: Freshness,
    ) -> Result<Vec<RoleAssignment>, azure::Error> {
        let key = (vault.clone(), principal.clone());
        let scope = vault.to_string();
        self.shared
            .assignments
            .get(key, freshness, || self.azure.role_assignments(&scope, principal))
            .await
    }

    /// A certificate of the vault, its newest version unless one is named.
    ///
    /// # Errors
    /// As [`Azure::certificate`].
    pub async fn certificate(
        &self,
        vault: &Vault,
        name: &str,
        version: Option<&str>,
        freshness: Freshness,
    ) -> Result<Option<VaultCertificate>, azure::Error> {
        let key = (vault.id.clone(), name.to_owned(), version.map(str::to_owned));
        let read = || self.azure.certificate(&vault.uri, name, version);
        self.shared.certificates.get(key, freshness, read).await
    }

    /// A user-assigned identity.
    ///
    /// # Errors
    /// As [`Azure::identity`].
    pub async fn identity(
        &self,
        id: &IdentityId,
        freshness: Freshness,
    ) -> Result<Option<ManagedIdentity>, azure::Error> {
        let read = || self.azure.identity(id);
        self.shared.identities.get(id.clone(), freshness, read).await
    }

    /// Whom a user-assigned identity trusts.
    ///
    /// # Errors
    /// As [`Azure::federated_credentials`].
    pub async fn federated_credentials(
        &self,
        id: &IdentityId,
        freshness: Freshness,
    ) -> Result<Vec<FederatedCredential>, azure::Error> {
        let read = || self.azure.federated_credentials(id);
        self.shared.federated.get(id.clone(), freshness, read).await
    }

    /// What the caller may do at a scope of Azure.
    ///
    /// # Errors
    /// As [`Azure::permissions`].
    pub async fn permissions(&self, scope: &str, freshness: Freshness) -> Result<Permissions, azure::Error> {
        let key = scope.to_ascii_lowercase();
        let read = || self.azure.permissions(scope);
        self.shared.permissions.get(key, freshness, read).await
    }

    /// Whether the caller has a right in the cluster. A yes of this run will do, a no is asked again if `freshness`
    /// says so.
    ///
    /// # Errors
    /// As [`Kubernetes::may`].
    pub async fn may(
        &self,
        cluster: &ClusterId,
        kubernetes: &Kubernetes,
        right: &Right,
        freshness: Freshness,
    ) -> Result<bool, k8s::Error> {
        let key = (cluster.clone(), right.clone());
        let read = || kubernetes.may(right);
        let known = self.shared.rights.get(key.clone(), Freshness::Shared, read).await;
        match (known, freshness) {
            (Ok(true), _) => Ok(true),
            (known, Freshness::Shared) => known,
            (_, Freshness::Fresh) => self.shared.rights.get(key, Freshness::Fresh, read).await,
        }
    }

    /// Whether a binding of this run switched the cluster's add-on on.
    pub fn switched_on(&self, cluster: &ClusterId) -> bool {
        let clusters = self
            .shared
            .switched_on
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clusters.contains(cluster)
    }

    /// Remembers that one did.
    pub(super) fn has_switched_on(&self, cluster: &ClusterId) {
        let mut clusters = self
            .shared
            .switched_on
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clusters.insert(cluster.clone());
    }

    /// Who uses, and who takes back, what bindings share.
    pub(super) fn users(&self) -> &Users {
        &self.shared.users
    }

    /// A connection to the cluster's API; one per cluster, way and run. Who needs no more than a token and remembers
    /// the server asks Azure nothing.
    ///
    /// # Errors
    /// If Azure does not hand out the credential, or it cannot be used.
    pub async fn kubernetes(&self, cluster: &Cluster, way: &Connection) -> Result<Connected, ConnectError> {
        let key = (cluster.id.clone(), way.clone());
        let connect = || self.connect(cluster, way, self.remembered(&cluster.id));
        self.shared.connections.get(key, Freshness::Shared, connect).await
    }

    /// As [`World::kubernetes`], without trusting what was remembered: certificates are rotated, clusters rebuilt.
    ///
    /// # Errors
    /// As [`World::kubernetes`].
    pub async fn kubernetes_anew(
        &self,
        cluster: &Cluster,
        way: &Connection,
    ) -> Result<Connected, ConnectError> {
        let key = (cluster.id.clone(), way.clone());
        let connect = || self.connect(cluster, way, None);
        self.shared.connections.get(key, Freshness::Fresh, connect).await
    }

    /// Remembers from an earlier run where a cluster's API is.
    pub fn remember_server(&self, cluster: &ClusterId, server: ApiServer) {
        let mut servers = self.shared.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.insert(cluster.clone(), server);
    }

    fn remembered(&self, cluster: &ClusterId) -> Option<ApiServer> {
        let servers = self.shared.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.get(cluster).cloned()
    }

    async fn connect(
        &self,
        cluster: &Cluster,
        way: &Connection,
        remembered: Option<ApiServer>,
    ) -> Result<Connected, ConnectError> {
        let settings = ConnectSettings {
            proxy_url: way.proxy_url.clone(),
            server: way.server.clone(),
            tls_server_name: way.tls_server_name.clone(),
            user_agent: self.user_agent.clone(),
        };
        let with_token = match (way.credential, cluster.entra) {
            (Credential::Entra, false) => return Err(ConnectError::NoEntra),
            (Credential::User, true) => return Err(ConnectError::NeedsLogin),
            (Credential::Entra | Credential::Auto, true) => true,
            (Credential::Auto | Credential::User, false) | (Credential::Admin, _) => false,
        };
        let is_remembered = with_token && remembered.is_some();
        let connected = |kubernetes, server| Connected {
            kubernetes,
            server: with_token.then_some(server),
            is_remembered,
            mount_records: Arc::default(),
            services: Arc::default(),
        };
        if let Some(server) = remembered.filter(|_| with_token) {
            let kubernetes = Kubernetes::connect_with_token(&server, self.token_source(), &settings)?;
            return Ok(connected(kubernetes, server));
        }
        let kubeconfig = match way.credential {
            Credential::Admin => self.azure.admin_credential(&cluster.id).await,
            Credential::Auto | Credential::Entra | Credential::User => {
                self.azure.user_credential(&cluster.id).await
            }
        };
        let kubeconfig = kubeconfig.map_err(|error| match error {
            azure::Error::Rejected { .. } if cluster.local_accounts_disabled => {
                ConnectError::LocalAccountsOff(error)
            }
            error => ConnectError::Azure(error),
        })?;
        let server = ApiServer::of_kubeconfig(kubeconfig.expose())?;
        let kubernetes = if with_token {
            Kubernetes::connect_with_token(&server, self.token_source(), &settings)?
        } else {
            Kubernetes::connect(kubeconfig.expose(), &settings)?
        };
        Ok(connected(kubernetes, server))
    }

    fn token_source(&self) -> Arc<dyn TokenSource> {
        Arc::new(EntraToken(self.azure.clone()))
    }
}

/// Kubernetes tokens from the same credential as everything else.
struct EntraToken(Azure);

#[async_trait]
impl TokenSource for EntraToken {
    async fn token(&self) -> Result<String, String> {
        let token = self
            .0
            .kubernetes_token()
            .await
            .map_err(|error| error.service_said())?;
        Ok(token.expose().to_owned())
    }
}

/// Answers by question, each asked once; those who ask at the same time wait for the one answer.
struct Memo<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K, V> fmt::Debug for Memo<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    async fn get<F: Future<Output = V>>(&self, key: K, freshness: Freshness, read: impl FnOnce() -> F) -> V {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = cells.entry(key).or_default();
            // Asking anew still shares an answer that is on its way.
            if freshness == Freshness::Fresh && cell.initialized() {
                *cell = Arc::default();
            }
            Arc::clone(cell)
        };
        cell.get_or_init(read).await.clone()
    }
}
