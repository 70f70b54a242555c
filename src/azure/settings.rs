//! What a caller sets, before anything is asked of the network.

use std::path::PathBuf;

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
    /// Sends no correlation ID, for services that choke on it.
    pub disable_correlation_id: bool,
    /// The GUID of a Microsoft partner, to whom the use of Azure is attributed through the User-Agent.
    pub partner_id: Option<String>,
    /// Appended to the User-Agent.
    pub user_agent_suffix: Option<String>,
}

/// The inputs of the credentials. The first kind whose inputs are complete is used, in this order: client certificate,
/// client secret, OIDC token, Azure Pipelines, GitHub Actions, managed identity, Azure CLI.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CredentialSettings {
    /// The tenant to ask.
    pub tenant_id: Option<String>,
    /// Tenants whose tokens go along with requests to Azure Resource Manager, for resources of one tenant that refer to
    /// another's. Azure takes three.
    pub auxiliary_tenant_ids: Vec<String>,
    /// The subscription whose tenant the Azure CLI is asked for where no tenant is given.
    pub subscription_id: Option<String>,
    /// The application, or a user-assigned managed identity.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<Secret>,
    /// Its certificate and key.
    pub client_certificate: Option<ClientCertificate>,
    /// What opens the certificate's file; none is the empty password.
    pub client_certificate_password: Option<Secret>,
    /// Whether an assertion of another issuer may stand for the application.
    pub use_oidc: bool,
    /// Such an assertion.
    pub oidc_token: Option<Secret>,
    /// A file that holds one. Read anew for each token, because whoever wrote it writes it anew.
    pub oidc_token_file: Option<PathBuf>,
    /// Where GitHub Actions or Azure Pipelines give out assertions.
    pub oidc_request_url: Option<String>,
    /// What must be shown there.
    pub oidc_request_token: Option<Secret>,
    /// The service connection that an Azure Pipelines assertion is for. With it the request URL is one of Azure
    /// Pipelines, without it one of GitHub Actions.
    pub ado_pipeline_service_connection_id: Option<String>,
    /// Whether the identity of this machine may be used.
    pub use_msi: bool,
    /// Where the machine's identity gives tokens; else App Service's endpoint, else the metadata service's.
    pub msi_endpoint: Option<String>,
    /// The version that is spoken there.
    pub msi_api_version: Option<String>,
    /// App Service, Container Apps: their endpoint.
    pub identity_endpoint: Option<String>,
    /// What must be shown there.
    pub identity_header: Option<Secret>,
    /// Whether the Azure CLI's login may be used.
    pub use_cli: bool,
}

/// A certificate with its key, in a PFX (PKCS#12).
#[derive(Clone, Debug, PartialEq)]
pub enum ClientCertificate {
    /// In base64.
    Base64(Secret),
    /// In a file.
    File(PathBuf),
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
