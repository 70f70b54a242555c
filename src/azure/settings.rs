//! What a caller sets, before anything is asked of the network.

use super::Secret;

/// Everything an [`Azure`](super::Azure) needs to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Who we are.
    pub credential: CredentialSettings,
    /// `public` (also when empty), `usgovernment`, `china`, or `custom` (then `endpoints` or `metadata_host` tell the rest).
    pub environment: String,
    /// The host, without scheme, that serves the cloud's metadata document; asked once, when first needed.
    pub metadata_host: Option<String>,
    /// Endpoints that win over the cloud's own.
    pub endpoints: Option<CustomEndpoints>,
    /// The correlation ID of all requests; one is made where none is given.
    pub correlation_id: Option<String>,
    /// Appended to the User-Agent.
    pub user_agent_suffix: Option<String>,
}

/// The inputs of the credentials, tried in this order: client secret, Azure CLI.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CredentialSettings {
    /// The tenant to ask.
    pub tenant_id: Option<String>,
    /// The application.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<Secret>,
    /// Whether the Azure CLI's login may be used.
    pub use_cli: bool,
}

/// Endpoints of a custom cloud. All are https URLs but the suffix, a DNS name such as `vault.azure.net`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomEndpoints {
    /// Where tokens come from, as `https://login.microsoftonline.com`.
    pub authority_host: Option<String>,
    /// Where Azure Resource Manager is, as `https://management.azure.com`.
    pub resource_manager_endpoint: Option<String>,
    /// The audience of its tokens; the endpoint if absent.
    pub resource_manager_audience: Option<String>,
    /// What vault hosts end with.
    pub key_vault_dns_suffix: Option<String>,
}
