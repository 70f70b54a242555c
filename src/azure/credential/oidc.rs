//! An application that another issuer vouches for: an assertion that is given, or one that a CI system gives out.
//!
//! Assertions live for minutes, tokens for an hour: each token is asked for with a fresh assertion.

use std::path::PathBuf;

use azure_core::http::Method;
use serde_json::Value;
use url::Url;

use super::entra::{Entra, Proof};
use super::{CLIENT_ID, Credential, CredentialSettings, TENANT_ID, Token, Wanted, missing};
use crate::azure::Secret;
use crate::azure::pipeline::{Auth, Call};

/// What Entra ID wants assertions to be for, in every cloud's default.
const AUDIENCE: &str = "api://AzureADTokenExchange";
/// What Azure Pipelines' endpoint speaks.
const PIPELINES_API_VERSION: &str = "7.1";

const SWITCHED_OFF: &str =
    "switched off; to use it, set use_oidc = true (ARM_USE_OIDC) or use_aks_workload_identity = true";

struct Federated {
    entra: Entra,
    tenant_id: String,
    client_id: String,
    source: Source,
}

/// Where assertions come from.
enum Source {
    Given(Secret),
    File(PathBuf),
    GitHub {
        url: Url,
        token: Secret,
    },
    Pipelines {
        url: Url,
        token: Secret,
        connection: String,
    },
}

/// A token or a file.
pub(super) fn set_up_given(
    settings: &CredentialSettings,
    entra: &Entra,
) -> Result<Box<dyn Credential>, String> {
    let source = match (&settings.oidc_token, &settings.oidc_token_file) {
        (Some(token), _) => Some(Source::Given(token.clone())),
        (None, Some(path)) => Some(Source::File(path.clone())),
        (None, None) => None,
    };
    let name = "oidc_token or oidc_token_file_path (ARM_OIDC_TOKEN, ARM_OIDC_TOKEN_FILE_PATH; AZURE_FEDERATED_TOKEN_FILE \
                with use_aks_workload_identity)";
    federated(settings, entra, source, &[(has_given(settings), name)])
}

/// Azure Pipelines, by the service connection.
pub(super) fn set_up_pipelines(
    settings: &CredentialSettings,
    entra: &Entra,
) -> Result<Box<dyn Credential>, String> {
    let connection = settings.ado_pipeline_service_connection_id.as_ref();
    let source = match (request(settings)?, connection) {
        (Some((url, token)), Some(connection)) => Some(Source::Pipelines {
            url,
            token,
            connection: connection.clone(),
        }),
        _ => None,
    };
    let inputs = [
        (
            connection.is_some(),
            "ado_pipeline_service_connection_id (ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID)",
        ),
        (
            settings.oidc_request_url.is_some(),
            "oidc_request_url (ARM_OIDC_REQUEST_URL, SYSTEM_OIDCREQUESTURI)",
        ),
        (
            settings.oidc_request_token.is_some(),
            "oidc_request_token (ARM_OIDC_REQUEST_TOKEN, SYSTEM_ACCESSTOKEN)",
        ),
    ];
    federated(settings, entra, source, &inputs)
}

/// GitHub Actions.
pub(super) fn set_up_github(
    settings: &CredentialSettings,
    entra: &Entra,
) -> Result<Box<dyn Credential>, String> {
    let source = request(settings)?.map(|(url, token)| Source::GitHub { url, token });
    let inputs = [
        (
            settings.oidc_request_url.is_some(),
            "oidc_request_url (ARM_OIDC_REQUEST_URL, ACTIONS_ID_TOKEN_REQUEST_URL; a GitHub job has it with  permissions: \
             id-token: write)",
        ),
        (
            settings.oidc_request_token.is_some(),
            "oidc_request_token (ARM_OIDC_REQUEST_TOKEN, ACTIONS_ID_TOKEN_REQUEST_TOKEN)",
        ),
    ];
    federated(settings, entra, source, &inputs)
}

fn has_given(settings: &CredentialSettings) -> bool {
    settings.oidc_token.is_some() || settings.oidc_token_file.is_some()
}

/// Where assertions are given out, and what must be shown there.
fn request(settings: &CredentialSettings) -> Result<Option<(Url, Secret)>, String> {
    let (Some(text), Some(token)) = (&settings.oidc_request_url, &settings.oidc_request_token) else {
        return Ok(None);
    };
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" => Ok(Some((url, token.clone()))),
        _ => Err("not usable: oidc_request_url (ARM_OIDC_REQUEST_URL) is no https URL".to_owned()),
    }
}

fn federated(
    settings: &CredentialSettings,
    entra: &Entra,
    source: Option<Source>,
    inputs: &[(bool, &str)],
) -> Result<Box<dyn Credential>, String> {
    if !settings.use_oidc {
        return Err(SWITCHED_OFF.to_owned());
    }
    let (Some(source), Some(client_id), Some(tenant_id)) = (source, &settings.client_id, &settings.tenant_id)
    else {
        let mut inputs = inputs.to_vec();
        inputs.push((settings.client_id.is_some(), CLIENT_ID));
        inputs.push((settings.tenant_id.is_some(), TENANT_ID));
        return Err(missing(&inputs).unwrap_or_default());
    };
    Ok(Box::new(Federated {
        entra: entra.clone(),
        tenant_id: tenant_id.clone(),
        client_id: client_id.clone(),
        source,
    }))
}

#[async_trait::async_trait]
impl Credential for Federated {
    async fn token(&self, wanted: &Wanted<'_>) -> Result<Token, String> {
        let tenant = wanted.tenant.unwrap_or(&self.tenant_id);
        let proof = Proof::Assertion(self.assertion().await?);
        self.entra.token(wanted, tenant, &self.client_id, &proof).await
    }
}

impl Federated {
    async fn assertion(&self) -> Result<Secret, String> {
        match &self.source {
            Source::Given(token) => Ok(token.clone()),
            Source::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|error| {
                    format!(
                        "the file {} of oidc_token_file_path cannot be read ({error})",
                        path.display()
                    )
                })?;
                let text = text.trim();
                if text.is_empty() {
                    return Err(format!(
                        "the file {} of oidc_token_file_path is empty",
                        path.display()
                    ));
                }
                Ok(Secret::new(text))
            }
            Source::GitHub { url, token } => {
                let mut url = url.clone();
                url.query_pairs_mut().append_pair("audience", AUDIENCE);
                let call = Call::get(
                    "get an assertion of GitHub Actions",
                    host(&url),
                    url,
                    Auth::Anonymous,
                );
                self.given_out(&call, token, "value").await
            }
            Source::Pipelines {
                url,
                token,
                connection,
            } => {
                let mut url = url.clone();
                url.query_pairs_mut()
                    .append_pair("api-version", PIPELINES_API_VERSION)
                    .append_pair("serviceConnectionId", connection)
                    .append_pair("audience", AUDIENCE);
                let what = "get an assertion of Azure Pipelines";
                let call = Call::write(what, host(&url), Method::Post, url, Auth::Anonymous).repeatable();
                self.given_out(&call, token, "oidcToken").await
            }
        }
    }

    /// An assertion out of this member of the answer.
    async fn given_out(&self, call: &Call, token: &Secret, member: &str) -> Result<Secret, String> {
        let headers = [
            ("authorization", format!("Bearer {}", token.expose())),
            // Azure Pipelines would redirect to a page for people.
            ("x-tfs-fedauthredirect", "Suppress".to_owned()),
        ];
        let answer = self.entra.sender().send(call, &headers).await;
        let answer = answer.map_err(|error| format!("{error}: {}", error.service_said()))?;
        if !answer.is_success() {
            let said = answer.refusal().service_said();
            return Err(format!(
                "{} at {} was refused: {said}",
                call.operation, call.target
            ));
        }
        let body = serde_json::from_slice::<Value>(answer.bytes()).unwrap_or_default();
        let assertion = body.get(member).and_then(Value::as_str);
        let assertion = assertion.ok_or_else(|| format!("{} answered without an assertion", call.target))?;
        Ok(Secret::new(assertion))
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
