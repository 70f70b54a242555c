//! What is read of an AKS cluster.

use super::{ClientId, ClusterId, PrincipalId};

/// A cluster as Azure described it at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its ID, as the caller wrote it.
    pub id: ClusterId,
    /// The region.
    pub location: String,
    /// An open set of words; `Succeeded`, `Failed` and `Canceled` are final.
    pub provisioning_state: String,
    /// `Running` or `Stopped`; a stopped cluster's provisioning state stays `Succeeded`.
    pub power: Option<String>,
    /// The API server's host name, the private one where there is no public one.
    pub server: Option<String>,
    /// The API server is reachable from its network only.
    pub private: bool,
    /// Entra ID integration, hence Entra tokens.
    pub entra: bool,
    /// Azure roles decide what a caller may do in the cluster.
    pub azure_rbac: bool,
    /// Credentials without Entra are switched off.
    pub local_accounts_disabled: bool,
    /// The Kubernetes version that runs.
    pub kubernetes_version: Option<String>,
    /// The tenant of its Entra integration or identity.
    pub tenant_id: Option<String>,
    /// Who issues its service accounts' tokens, where it has an issuer; with the slash at the end.
    pub oidc_issuer: Option<String>,
    /// The tag that a write must match.
    pub etag: Option<String>,
    /// The Key Vault add-on.
    pub addon: Addon,
}

/// The add-on `azureKeyvaultSecretsProvider`. The default is an add-on that was never switched on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addon {
    /// It runs.
    pub enabled: bool,
    /// It fetches new versions by itself.
    pub rotation_enabled: bool,
    /// How often, as a Go duration; `None` where Azure does not say (2m is the default then).
    pub rotation_poll_interval: Option<String>,
    /// Whose rights it uses. Absent until the operation that switches it on has ended.
    pub identity: Option<AddonIdentity>,
}

/// The managed identity AKS made for the add-on; a new one each time it is switched on.
#[derive(Clone, Debug, PartialEq)]
pub struct AddonIdentity {
    /// What the SecretProviderClass names.
    pub client_id: ClientId,
    /// What roles are given to.
    pub object_id: PrincipalId,
    /// Its ARM ID.
    pub resource_id: String,
}

/// How the add-on should be. That it should be on goes without saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddonWish {
    /// Whether it should fetch new versions by itself.
    pub rotation_enabled: bool,
    /// How often, as a Go duration; `None` leaves what is there.
    pub rotation_poll_interval: Option<String>,
}

/// What [`Azure::ensure_addon`](super::Azure::ensure_addon) did.
#[derive(Clone, Debug, PartialEq)]
pub struct AddonOutcome {
    /// Whether the cluster was written to by this call.
    pub written: bool,
    /// The cluster afterwards.
    pub cluster: Cluster,
}

impl Cluster {
    /// Whether its machines are off: then its API answers nobody.
    pub fn is_stopped(&self) -> bool {
        self.power
            .as_deref()
            .is_some_and(|power| power.eq_ignore_ascii_case("Stopped"))
    }
}
