//! Who the provider is: the settings that azurerm and azapi have, under their names, with their variables.
//!
//! What is written in the block wins over variables. A value and its file are one setting: where either is written, the
//! variables of both are left alone; where both are given, they must agree.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::settings::truth;
use crate::azure::{ClientCertificate, CredentialSettings, Secret};
use crate::framework::{Attribute, AttributePath, Diagnostic, Diagnostics, Presence, Type, Value};

/// What Azure takes in `x-ms-authorization-auxiliary`.
const AUXILIARY_TENANTS: usize = 3;

/// Attributes of the provider block.
pub(super) fn attributes() -> Vec<(&'static str, Attribute)> {
    let text = |text: &str| Attribute::string(Presence::Optional, text);
    let bool = |text: &str| Attribute::bool(Presence::Optional, text);
    vec![
        (
            "subscription_id",
            text(
                "Which login of the Azure CLI is used where `tenant_id` is not set. Resources carry their subscription in \
                 their IDs. Also `ARM_SUBSCRIPTION_ID`.",
            ),
        ),
        (
            "tenant_id",
            text(
                "The Entra tenant. Also `ARM_TENANT_ID`, and `AZURE_TENANT_ID` with `use_aks_workload_identity`.",
            ),
        ),
        (
            "auxiliary_tenant_ids",
            Attribute::value(
                Type::list(Type::String),
                Presence::Optional,
                "Up to three more tenants, whose tokens go along with requests to Azure Resource Manager: for resources \
                 that refer to another tenant's. Also `ARM_AUXILIARY_TENANT_IDS`, separated by `;`.",
            ),
        ),
        (
            "client_id",
            text(
                "The application's client ID, or that of a user-assigned managed identity. Also `ARM_CLIENT_ID`, and \
                 `AZURE_CLIENT_ID` with `use_aks_workload_identity`.",
            ),
        ),
        (
            "client_id_file_path",
            text("A file that holds the client ID. Also `ARM_CLIENT_ID_FILE_PATH`."),
        ),
        (
            "client_secret",
            text("The application's secret. Also `ARM_CLIENT_SECRET`.").sensitive(),
        ),
        (
            "client_secret_file_path",
            text("A file that holds the secret. Also `ARM_CLIENT_SECRET_FILE_PATH`."),
        ),
        (
            "client_certificate",
            text(
                "The application's certificate and RSA key: a PFX in base64. Also `ARM_CLIENT_CERTIFICATE`.",
            )
            .sensitive(),
        ),
        (
            "client_certificate_path",
            text("The PFX file, in place of `client_certificate`. Also `ARM_CLIENT_CERTIFICATE_PATH`."),
        ),
        (
            "client_certificate_password",
            text("What opens the PFX; empty unless set. Also `ARM_CLIENT_CERTIFICATE_PASSWORD`.").sensitive(),
        ),
        (
            "use_oidc",
            bool(
                "Whether an assertion of another issuer may stand for the application; false unless set. Also \
                 `ARM_USE_OIDC`.",
            ),
        ),
        (
            "oidc_token",
            text("Such an assertion. Also `ARM_OIDC_TOKEN`.").sensitive(),
        ),
        (
            "oidc_token_file_path",
            text(
                "A file that holds one, read for each token. Also `ARM_OIDC_TOKEN_FILE_PATH`, and \
                 `AZURE_FEDERATED_TOKEN_FILE` with `use_aks_workload_identity`.",
            ),
        ),
        (
            "oidc_request_url",
            text(
                "Where GitHub Actions or Azure Pipelines give out assertions. Also `ARM_OIDC_REQUEST_URL`, \
                 `ACTIONS_ID_TOKEN_REQUEST_URL`, `SYSTEM_OIDCREQUESTURI`.",
            ),
        ),
        (
            "oidc_request_token",
            text(
                "What must be shown there. Also `ARM_OIDC_REQUEST_TOKEN`, `ACTIONS_ID_TOKEN_REQUEST_TOKEN`, \
                 `SYSTEM_ACCESSTOKEN`.",
            )
            .sensitive(),
        ),
        (
            "ado_pipeline_service_connection_id",
            text(
                "The service connection of Azure Pipelines. Also `ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID`, \
                 `ARM_OIDC_AZURE_SERVICE_CONNECTION_ID`, `AZURESUBSCRIPTION_SERVICE_CONNECTION_ID`.",
            ),
        ),
        (
            "use_msi",
            bool(
                "Whether the managed identity of this machine may be used; false unless set. Also `ARM_USE_MSI`.",
            ),
        ),
        (
            "msi_endpoint",
            text(
                "Where the managed identity gives tokens: App Service's `IDENTITY_ENDPOINT` or else the metadata service \
                 unless set. Also `ARM_MSI_ENDPOINT`.",
            ),
        ),
        (
            "msi_api_version",
            text(
                "The version that is spoken there: `2019-08-01` to App Service, `2018-02-01` elsewhere unless set. Also \
                 `ARM_MSI_API_VERSION`.",
            ),
        ),
        (
            "use_aks_workload_identity",
            bool(
                "Takes client, tenant and token file of the variables that AKS workload identity sets; false unless set. \
                 Also `ARM_USE_AKS_WORKLOAD_IDENTITY`.",
            ),
        ),
        (
            "use_cli",
            bool("Whether the Azure CLI's login may be used; true unless set. Also `ARM_USE_CLI`."),
        ),
    ]
}

/// The identity that block and variables describe.
///
/// # Errors
/// If settings contradict each other or a file cannot be read; each on its attribute.
pub(super) fn read(config: &Value, environment: &Environment) -> Result<CredentialSettings, Diagnostics> {
    let inputs = Inputs { config, environment };
    let use_aks = inputs.truth(
        "use_aks_workload_identity",
        "ARM_USE_AKS_WORKLOAD_IDENTITY",
        false,
    )?;
    let of_pod = |variable: &'static str| environment.first(&[variable]).filter(|_| use_aks);
    let tenant_id = inputs.text("tenant_id", &["ARM_TENANT_ID"]);
    let client_id = inputs.text_or_file(
        ("client_id", "ARM_CLIENT_ID"),
        ("client_id_file_path", "ARM_CLIENT_ID_FILE_PATH"),
    )?;
    let client_secret = inputs.text_or_file(
        ("client_secret", "ARM_CLIENT_SECRET"),
        ("client_secret_file_path", "ARM_CLIENT_SECRET_FILE_PATH"),
    )?;
    let (oidc_token, oidc_token_file) = inputs.pair(
        ("oidc_token", "ARM_OIDC_TOKEN"),
        ("oidc_token_file_path", "ARM_OIDC_TOKEN_FILE_PATH"),
    );
    if let (Some(token), Some(path)) = (&oidc_token, &oidc_token_file) {
        inputs.agree(("oidc_token", token), "oidc_token_file_path", path)?;
    }
    let secret = |name, variables: &[&str]| inputs.text(name, variables).map(Secret::new);
    let settings = CredentialSettings {
        tenant_id: same_as_pod(
            "tenant_id",
            tenant_id,
            "AZURE_TENANT_ID",
            of_pod("AZURE_TENANT_ID"),
        )?,
        auxiliary_tenant_ids: inputs.auxiliary_tenants()?,
        subscription_id: inputs.text("subscription_id", &["ARM_SUBSCRIPTION_ID"]),
        client_id: same_as_pod(
            "client_id",
            client_id,
            "AZURE_CLIENT_ID",
            of_pod("AZURE_CLIENT_ID"),
        )?,
        client_secret: client_secret.map(Secret::new),
        client_certificate: inputs.certificate()?,
        client_certificate_password: secret(
            "client_certificate_password",
            &["ARM_CLIENT_CERTIFICATE_PASSWORD"],
        ),
        use_oidc: inputs.truth("use_oidc", "ARM_USE_OIDC", false)? || use_aks,
        oidc_token: oidc_token.map(Secret::new),
        oidc_token_file: oidc_token_file
            .or_else(|| of_pod("AZURE_FEDERATED_TOKEN_FILE").map(str::to_owned))
            .map(PathBuf::from),
        oidc_request_url: inputs.text(
            "oidc_request_url",
            &[
                "ARM_OIDC_REQUEST_URL",
                "ACTIONS_ID_TOKEN_REQUEST_URL",
                "SYSTEM_OIDCREQUESTURI",
            ],
        ),
        oidc_request_token: secret(
            "oidc_request_token",
            &[
                "ARM_OIDC_REQUEST_TOKEN",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
                "SYSTEM_ACCESSTOKEN",
            ],
        ),
        ado_pipeline_service_connection_id: inputs.text(
            "ado_pipeline_service_connection_id",
            &[
                "ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID",
                "ARM_OIDC_AZURE_SERVICE_CONNECTION_ID",
                "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID",
            ],
        ),
        use_msi: inputs.truth("use_msi", "ARM_USE_MSI", false)?,
        msi_endpoint: inputs.text("msi_endpoint", &["ARM_MSI_ENDPOINT"]),
        msi_api_version: inputs.text("msi_api_version", &["ARM_MSI_API_VERSION"]),
        identity_endpoint: environment.first(&["IDENTITY_ENDPOINT"]).map(str::to_owned),
        identity_header: environment.first(&["IDENTITY_HEADER"]).map(Secret::new),
        use_cli: inputs.truth("use_cli", "ARM_USE_CLI", true)?,
    };
    without_source(&settings, use_aks).map_or(Ok(settings), Err)
}

/// The block and the variables.
struct Inputs<'a> {
    config: &'a Value,
    environment: &'a Environment,
}

/// An attribute and its variable.
type Named = (&'static str, &'static str);

impl Inputs<'_> {
    fn written(&self, name: &str) -> Option<String> {
        let text = self.config.get(name).as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned)
    }

    fn variable(&self, names: &[&str]) -> Option<String> {
        self.environment.first(names).map(str::to_owned)
    }

    fn text(&self, name: &str, variables: &[&str]) -> Option<String> {
        self.written(name).or_else(|| self.variable(variables))
    }

    fn truth(&self, name: &str, variable: &str, default: bool) -> Result<bool, Diagnostics> {
        Ok(truth(self.config, self.environment, name, variable)?.unwrap_or(default))
    }

    /// Two ways to give one setting: both of the block, or else both of the variables.
    fn pair(&self, one: Named, other: Named) -> (Option<String>, Option<String>) {
        match (self.written(one.0), self.written(other.0)) {
            (None, None) => (self.variable(&[one.1]), self.variable(&[other.1])),
            written => written,
        }
    }

    /// A value that may stand in a file, read now.
    fn text_or_file(&self, text: Named, file: Named) -> Result<Option<String>, Diagnostics> {
        match self.pair(text, file) {
            (given, None) => Ok(given),
            (None, Some(path)) => content(file.0, &path).map(Some),
            (Some(given), Some(path)) => {
                self.agree((text.0, &given), file.0, &path)?;
                Ok(Some(given))
            }
        }
    }

    fn agree(&self, (name, given): (&str, &str), file: &str, path: &str) -> Result<(), Diagnostics> {
        if content(file, path)? == given {
            return Ok(());
        }
        Err(contradiction(
            file,
            format!("{name} is set, and {file} names a file that holds something else."),
            format!("Keep one of {name} and {file}."),
        ))
    }

    fn certificate(&self) -> Result<Option<ClientCertificate>, Diagnostics> {
        let both = self.pair(
            ("client_certificate", "ARM_CLIENT_CERTIFICATE"),
            ("client_certificate_path", "ARM_CLIENT_CERTIFICATE_PATH"),
        );
        match both {
            (None, None) => Ok(None),
            (Some(base64), None) => Ok(Some(ClientCertificate::Base64(Secret::new(base64)))),
            (None, Some(path)) => Ok(Some(ClientCertificate::File(PathBuf::from(path)))),
            (Some(_), Some(_)) => Err(contradiction(
                "client_certificate_path",
                "client_certificate and client_certificate_path (ARM_CLIENT_CERTIFICATE, ARM_CLIENT_CERTIFICATE_PATH) \
                 are both set.",
                "Keep one of them.",
            )),
        }
    }

    fn auxiliary_tenants(&self) -> Result<Vec<String>, Diagnostics> {
        let tenants: Vec<String> = match self.config.get("auxiliary_tenant_ids").as_list() {
            Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => {
                let variable = self
                    .environment
                    .first(&["ARM_AUXILIARY_TENANT_IDS"])
                    .unwrap_or_default();
                let parts = variable.split(';').map(str::trim).filter(|part| !part.is_empty());
                parts.map(str::to_owned).collect()
            }
        };
        if tenants.len() > AUXILIARY_TENANTS {
            return Err(contradiction(
                "auxiliary_tenant_ids",
                format!(
                    "auxiliary_tenant_ids (ARM_AUXILIARY_TENANT_IDS) has {} tenants; Azure takes three.",
                    tenants.len()
                ),
                "Keep those whose resources this configuration refers to.",
            ));
        }
        Ok(tenants)
    }
}

fn content(attribute: &str, path: &str) -> Result<String, Diagnostics> {
    let unusable = |why: String| {
        contradiction(
            attribute,
            format!("The file {path} of {attribute} {why}."),
            "Check the path, and that the file is there before Terraform starts.",
        )
    };
    let text = std::fs::read_to_string(Path::new(path));
    let text = text.map_err(|error| unusable(format!("cannot be read ({error})")))?;
    match text.trim() {
        "" => Err(unusable("is empty".to_owned())),
        text => Ok(text.to_owned()),
    }
}

/// What is set must be what the pod has, or tokens would be of somebody else than it looks like.
fn same_as_pod(
    name: &str,
    own: Option<String>,
    variable: &str,
    pod: Option<&str>,
) -> Result<Option<String>, Diagnostics> {
    match (own, pod) {
        (Some(own), Some(pod)) if !own.eq_ignore_ascii_case(pod) => Err(contradiction(
            name,
            format!("{name} is {own}, but {variable} of AKS workload identity is {pod}."),
            format!("Remove {name}, make them the same, or set  use_aks_workload_identity = false."),
        )),
        (own, pod) => Ok(own.or_else(|| pod.map(str::to_owned))),
    }
}

/// A federation that is asked for, has nothing to show, and has nobody who could stand in.
fn without_source(settings: &CredentialSettings, use_aks: bool) -> Option<Diagnostics> {
    let has_request = settings.oidc_request_url.is_some() && settings.oidc_request_token.is_some();
    let has_source = settings.oidc_token.is_some() || settings.oidc_token_file.is_some() || has_request;
    let has_other = settings.client_secret.is_some()
        || settings.client_certificate.is_some()
        || settings.use_msi
        || settings.use_cli;
    if !settings.use_oidc || has_source || has_other {
        return None;
    }
    Some(if use_aks {
        contradiction(
            "use_aks_workload_identity",
            "use_aks_workload_identity is set, but AZURE_FEDERATED_TOKEN_FILE is not, and no other credential is set up.",
            "Give the pod the label  azure.workload.identity/use: \"true\"  and a service account that is annotated with the \
             client ID.",
        )
    } else {
        contradiction(
            "use_oidc",
            "use_oidc is set, but there is neither a token nor a place to ask for one, and no other credential is set up.",
            "Set oidc_token, oidc_token_file_path, or oidc_request_url with oidc_request_token. A GitHub job has the last two \
             with  permissions: id-token: write.",
        )
    })
}

fn contradiction(attribute: &str, detail: impl Into<String>, fix: impl Into<String>) -> Diagnostics {
    let diagnostic = Diagnostic::error("Azure settings cannot be used", detail, fix);
    Diagnostics::from(diagnostic.at(AttributePath::of(attribute)).code("KVTLS-E012"))
}

#[cfg(test)]
mod tests;
