//! The identity of the machine we run on, from an endpoint that only the machine reaches.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::entra::number;
use super::{Credential, CredentialSettings, Token, Wanted};
use crate::azure::Secret;
use crate::azure::pipeline::{Auth, Call, Repeat};
use crate::azure::sender::Sender;

/// The metadata service of virtual machines and scale sets, the same everywhere.
const METADATA_SERVICE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const METADATA_API_VERSION: &str = "2018-02-01";
/// App Service, Functions, Container Apps.
const APP_SERVICE_API_VERSION: &str = "2019-08-01";

struct ManagedIdentity {
    sender: Arc<Sender>,
    endpoint: Url,
    api_version: String,
    /// App Service's proof that the caller runs there.
    header: Option<Secret>,
    /// A user-assigned identity; the machine's own without.
    client_id: Option<String>,
    /// Tokens of other tenants are asked for, which no such endpoint gives.
    has_auxiliary: bool,
}

pub(super) fn set_up(
    settings: &CredentialSettings,
    local: &Arc<Sender>,
) -> Result<Box<dyn Credential>, String> {
    if !settings.use_msi {
        return Err("switched off; to use it, set use_msi = true (ARM_USE_MSI)".to_owned());
    }
    let app_service = settings
        .identity_endpoint
        .as_ref()
        .zip(settings.identity_header.as_ref());
    let endpoint = match (&settings.msi_endpoint, app_service) {
        (Some(given), _) => given.as_str(),
        (None, Some((endpoint, _))) => endpoint,
        (None, None) => METADATA_SERVICE,
    };
    let header = app_service
        .filter(|(own, _)| *own == endpoint)
        .map(|(_, header)| header.clone());
    let default_version = if header.is_some() {
        APP_SERVICE_API_VERSION
    } else {
        METADATA_API_VERSION
    };
    let url = Url::parse(endpoint)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    Ok(Box::new(ManagedIdentity {
        sender: Arc::clone(local),
        endpoint: url
            .ok_or_else(|| format!("not usable: msi_endpoint (ARM_MSI_ENDPOINT) \"{endpoint}\" is no URL"))?,
        api_version: settings
            .msi_api_version
            .clone()
            .unwrap_or_else(|| default_version.to_owned()),
        header,
        client_id: settings.client_id.clone(),
        has_auxiliary: !settings.auxiliary_tenant_ids.is_empty(),
    }))
}

#[async_trait::async_trait]
impl Credential for ManagedIdentity {
    async fn token(&self, wanted: &Wanted<'_>) -> Result<Token, String> {
        if wanted.tenant.is_some() && self.has_auxiliary {
            return Err(
                "a managed identity has no tokens of other tenants; remove auxiliary_tenant_ids \
                        (ARM_AUXILIARY_TENANT_IDS)"
                    .to_owned(),
            );
        }
        let mut url = self.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("api-version", &self.api_version)
            .append_pair("resource", wanted.resource());
        if let Some(client_id) = &self.client_id {
            url.query_pairs_mut().append_pair("client_id", client_id);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let call = Call {
            repeat: Repeat::WhileStarting,
            ..Call::get("get a token of the managed identity", host, url, Auth::Anonymous)
        };
        let mut headers = vec![("metadata", "true".to_owned())];
        if let Some(header) = &self.header {
            headers.push(("x-identity-header", header.expose().to_owned()));
        }
        let answer = self.sender.send(&call, &headers).await;
        let answer = answer.map_err(|error| {
            format!(
                "{error}: {}; does this run in Azure, on something that has an identity?",
                error.service_said()
            )
        })?;
        let body = serde_json::from_slice::<Value>(answer.bytes()).unwrap_or_default();
        if !answer.is_success() {
            let said = body.get("error_description").and_then(Value::as_str);
            let said = said.map_or_else(|| answer.refusal().service_said(), str::to_owned);
            return Err(match &self.client_id {
                Some(id) => {
                    format!("{said}; client_id (ARM_CLIENT_ID) asks for the user-assigned identity {id}")
                }
                None => format!("{said}; client_id (ARM_CLIENT_ID) chooses a user-assigned identity"),
            });
        }
        token(&body).ok_or_else(|| format!("{} answered without a token", call.target))
    }
}

/// Numbers are text here, and App Service gives only the moment.
fn token(body: &Value) -> Option<Token> {
    let secret = body.get("access_token")?.as_str()?;
    if let Some(life) = number(body.get("expires_in")).and_then(|life| u64::try_from(life).ok()) {
        return Some(Token::of_life(secret, Duration::from_secs(life)));
    }
    Some(Token::until(secret, number(body.get("expires_on"))?))
}
