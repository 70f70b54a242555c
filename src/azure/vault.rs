//! What is read of a key vault and of the certificates in it.

use time::OffsetDateTime;

use super::{PrincipalId, VaultId};
use crate::tls::Leaf;

/// A vault as Azure described it at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    /// Its ID, as the caller wrote it.
    pub id: VaultId,
    /// Its data plane, as `https://kv-prod.vault.azure.net/`.
    pub uri: String,
    /// The tenant its callers come from.
    pub tenant_id: String,
    /// Roles decide; otherwise access policies do. What Azure leaves out means access policies.
    pub rbac: bool,
    /// `RegisteringDns`, then `Succeeded`.
    pub provisioning_state: String,
    /// The access policies; stored but without effect where roles decide.
    pub policies: Vec<AccessPolicy>,
}

/// What one principal may do in a vault without role assignments. Permissions are lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPolicy {
    /// The principal's tenant.
    pub tenant_id: String,
    /// The principal.
    pub object_id: PrincipalId,
    /// Rights on secrets.
    pub secrets: Vec<String>,
    /// Rights on certificates.
    pub certificates: Vec<String>,
}

/// A role that a principal has at a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAssignment {
    /// The assignment's own ARM ID.
    pub id: String,
    /// Where it holds, and below.
    pub scope: String,
    /// The GUID of the role's definition, lower-case.
    pub role_guid: String,
    /// Whether the role lets its holder read what secrets hold.
    pub reads_secrets: bool,
    /// Who has it: the principal asked for, or a group it is in.
    pub principal: PrincipalId,
    /// The note its maker left.
    pub description: Option<String>,
}

/// One version of a certificate in a vault. Its key stays there.
#[derive(Clone, Debug, PartialEq)]
pub struct VaultCertificate {
    /// Its name in the vault.
    pub name: String,
    /// The version that was read, 32 hex digits.
    pub version: String,
    /// The certificate itself.
    pub leaf: Leaf,
    /// A disabled version cannot be read by the add-on.
    pub enabled: bool,
    /// Whether the secret holds the key, which TLS needs. `None` where the answer does not say (a named version).
    pub exportable: Option<bool>,
    /// `application/x-pkcs12` or `application/x-pem-file`. `None` where the answer does not say (a named version).
    pub content_type: Option<String>,
    /// The vault's own clock when it answered.
    pub seen_at: OffsetDateTime,
    /// When this version was made, by the vault.
    pub created_at: Option<OffsetDateTime>,
}
