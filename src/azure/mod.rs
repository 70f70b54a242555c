//! Azure as far as this provider needs it: Entra ID for tokens, Azure Resource Manager for the cluster, the vault and
//! the roles, and Key Vault's own data plane for certificates (never for secrets, so no private key comes this way).
//!
//! Management calls are untyped JSON. A typed model would drop what it does not know when a cluster is written back.
//!
//! Next: [`Azure`] has one method for each thing that is read or changed; [`Error`] is grouped by what can be done
//! about it; [`ids`] are pure and used everywhere.

mod cluster;
mod error;
pub mod ids;
mod secret;
mod settings;
mod vault;

pub use cluster::{Addon, AddonIdentity, AddonOutcome, AddonWish, Cluster};
pub use error::{Cause, Error, Tried};
pub use ids::{ClientId, ClusterId, IdError, PrincipalId, Role, VaultId};
pub use secret::Secret;
pub use settings::{CredentialSettings, CustomEndpoints, Settings};
pub use vault::{AccessPolicy, RoleAssignment, Vault, VaultCertificate};

/// A client of Azure for one identity in one cloud. Cheap to clone; clones share connections, tokens and the cloud's
/// description.
#[derive(Clone, Debug)]
pub struct Azure;

/// Who the caller is, from its token's own claims; for messages, not for decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The principal's object ID.
    pub object_id: String,
    /// A person's user name, or the application's ID.
    pub name: String,
    /// The tenant the token is of.
    pub tenant: String,
}

fn unfinished<T>() -> Result<T, Error> {
    Err(Error::Settings {
        reason: "not written yet".to_owned(),
    })
}

#[expect(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::unused_async,
    reason = "signatures only, bodies follow"
)]
impl Azure {
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let _settings = settings;
        unfinished()
    }
    pub async fn caller(&self) -> Result<Caller, Error> {
        unfinished()
    }
    pub async fn cluster(&self, _id: &ClusterId) -> Result<Option<Cluster>, Error> {
        unfinished()
    }
    pub async fn ensure_addon(&self, _id: &ClusterId, _wish: &AddonWish) -> Result<AddonOutcome, Error> {
        unfinished()
    }
    pub async fn user_credential(&self, _id: &ClusterId) -> Result<Secret, Error> {
        unfinished()
    }
    pub async fn admin_credential(&self, _id: &ClusterId) -> Result<Secret, Error> {
        unfinished()
    }
    pub async fn kubernetes_token(&self) -> Result<Secret, Error> {
        unfinished()
    }
    pub async fn vault(&self, _id: &VaultId) -> Result<Option<Vault>, Error> {
        unfinished()
    }
    pub async fn role_assignments(
        &self,
        _scope: &str,
        _principal: &PrincipalId,
    ) -> Result<Vec<RoleAssignment>, Error> {
        unfinished()
    }
    pub async fn assign_role(
        &self,
        _scope: &str,
        _role: Role,
        _principal: &PrincipalId,
        _description: &str,
    ) -> Result<(RoleAssignment, bool), Error> {
        unfinished()
    }
    pub async fn remove_role_assignment(&self, _id: &str) -> Result<bool, Error> {
        unfinished()
    }
    pub async fn add_access_policy(
        &self,
        _vault: &VaultId,
        _tenant: &str,
        _principal: &PrincipalId,
        _secrets: &[&str],
    ) -> Result<(), Error> {
        unfinished()
    }
    pub async fn remove_access_policy(
        &self,
        _vault: &VaultId,
        _tenant: &str,
        _principal: &PrincipalId,
        _secrets: &[&str],
    ) -> Result<(), Error> {
        unfinished()
    }
    pub async fn certificate(
        &self,
        _vault_uri: &str,
        _name: &str,
        _version: Option<&str>,
    ) -> Result<Option<VaultCertificate>, Error> {
        unfinished()
    }
}

impl AddonWish {
    /// Whether the add-on is as wished. Intervals are compared as durations.
    pub fn is_met_by(&self, addon: &Addon) -> bool {
        addon.enabled && addon.rotation_enabled == self.rotation_enabled
    }
}
