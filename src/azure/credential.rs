//! Which credential is used, and how we say so.
//!
//! A client secret wins as soon as it is set, even if it turns out to be wrong: falling back to whoever is logged in
//! with the CLI would change the world as somebody else. The CLI is used where no secret is set at all.
//!
//! Tokens are kept here for all planes and renewed before they end: the CLI's own credential starts a process for
//! each request otherwise.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{AccessToken, Secret as CoreSecret, TokenCredential};
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use time::OffsetDateTime;

use super::cloud::Cloud;
use super::settings::CredentialSettings;
use super::{Caller, Cause, Error, Tried};

/// Tokens are renewed this long before they end, so that one never ends under way. As `azure_identity` does.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Gives tokens for any audience, from one identity.
#[derive(Debug)]
pub(super) struct Credentials {
    settings: CredentialSettings,
    transport: Transport,
    tokens: Mutex<HashMap<(String, String), Slot>>,
}

/// One token. The lock is held while it is fetched, so ten waiting requests make one request to Entra.
type Slot = Arc<tokio::sync::Mutex<Option<AccessToken>>>;

impl Credentials {
    pub(super) fn new(settings: CredentialSettings, transport: Transport) -> Self {
        Self {
            settings,
            transport,
            tokens: Mutex::default(),
        }
    }

    /// A token for a scope, of the tenant given or else of the configured one.
    pub(super) async fn token(
        &self,
        cloud: &Cloud,
        scope: &str,
        tenant: Option<&str>,
    ) -> Result<CoreSecret, Error> {
        let slot = self.slot(scope, tenant);
        let mut kept = slot.lock().await;
        if let Some(token) = kept
            .as_ref()
            .filter(|token| OffsetDateTime::now_utc() + RENEW_BEFORE < token.expires_on)
        {
            return Ok(token.token.clone());
        }
        let token = Box::pin(self.fetch(cloud, scope, tenant)).await?;
        let secret = token.token.clone();
        *kept = Some(token);
        Ok(secret)
    }

    /// Forgets a token that a service did not accept.
    pub(super) async fn forget(&self, scope: &str, tenant: Option<&str>) {
        *self.slot(scope, tenant).lock().await = None;
    }

    fn slot(&self, scope: &str, tenant: Option<&str>) -> Slot {
        let key = (scope.to_owned(), tenant.unwrap_or_default().to_ascii_lowercase());
        // A panic elsewhere does not make a map of tokens wrong.
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(key).or_default().clone()
    }

    async fn fetch(&self, cloud: &Cloud, scope: &str, tenant: Option<&str>) -> Result<AccessToken, Error> {
        let mut tried = Vec::new();
        match self.client_secret(cloud, tenant) {
            Ok(credential) => {
                return credential
                    .get_token(&[scope], None)
                    .await
                    .map_err(|error| Error::Credential {
                        tried: vec![
                            Tried {
                                name: "client secret".to_owned(),
                                outcome: explained(&why(&error)),
                            },
                            Tried {
                                name: "Azure CLI".to_owned(),
                                outcome: "not tried, because a client secret is set".to_owned(),
                            },
                        ],
                    });
            }
            Err(outcome) => tried.push(Tried {
                name: "client secret".to_owned(),
                outcome,
            }),
        }
        match self.cli(scope, tenant).await {
            Ok(token) => Ok(token),
            Err(outcome) => {
                tried.push(Tried {
                    name: "Azure CLI".to_owned(),
                    outcome,
                });
                Err(Error::Credential { tried })
            }
        }
    }

    fn client_secret(
        &self,
        cloud: &Cloud,
        tenant: Option<&str>,
    ) -> Result<Arc<ClientSecretCredential>, String> {
        let settings = &self.settings;
        let tenant = tenant.or(settings.tenant_id.as_deref());
        let inputs = [
            (settings.client_id.is_some(), "client_id (ARM_CLIENT_ID)"),
            (
                settings.client_secret.is_some(),
                "client_secret (ARM_CLIENT_SECRET)",
            ),
            (tenant.is_some(), "tenant_id (ARM_TENANT_ID)"),
        ];
        let (Some(client_id), Some(secret), Some(tenant)) =
            (&settings.client_id, &settings.client_secret, tenant)
        else {
            let missing: Vec<&str> = inputs
                .iter()
                .filter(|(set, _)| !set)
                .map(|(_, name)| *name)
                .collect();
            return Err(format!("not set up; to use it, set {}", missing.join(", ")));
        };
        let mut custom = CustomConfiguration::default();
        custom.authority_host.clone_from(&cloud.authority_host);
        let client_options = ClientOptions {
            transport: Some(self.transport.clone()),
            cloud: Some(Arc::new(custom.into())),
            retry: RetryOptions::exponential(ExponentialRetryOptions {
                max_retries: 4,
                ..Default::default()
            }),
            ..ClientOptions::default()
        };
        let secret = CoreSecret::new(secret.expose().to_owned());
        let options = Some(ClientSecretCredentialOptions { client_options });
        ClientSecretCredential::new(tenant, client_id.clone(), secret, options).map_err(|error| why(&error))
    }

    async fn cli(&self, scope: &str, tenant: Option<&str>) -> Result<AccessToken, String> {
        if !self.settings.use_cli {
            return Err(
                "switched off; to use it, set use_cli = true (ARM_USE_CLI) and run `az login`".to_owned(),
            );
        }
        let tenant_id = tenant
            .map(str::to_owned)
            .or_else(|| self.settings.tenant_id.clone());
        let options = AzureCliCredentialOptions {
            tenant_id,
            ..AzureCliCredentialOptions::default()
        };
        let credential = AzureCliCredential::new(Some(options)).map_err(|error| why(&error))?;
        credential.get_token(&[scope], None).await.map_err(|error| {
            let why = why(&error);
            if why.contains("not found on PATH") {
                format!("{why}; install it and run `az login`")
            } else if why.contains("az login") {
                why
            } else {
                format!("{why}; is `az login` done?")
            }
        })
    }
}

/// The innermost reason that `azure_identity` gives, without its link.
fn why(error: &azure_core::Error) -> String {
    let cause = match error.source() {
        Some(source) => Cause::of(source).chain(),
        None => Cause::of(error).chain(),
    };
    let line = cause
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("To troubleshoot"));
    line.collect::<Vec<_>>().join(" ")
}

/// Adds what to check to Entra's best known codes.
fn explained(why: &str) -> String {
    let hints = [
        (
            "AADSTS7000215",
            "client_secret (ARM_CLIENT_SECRET) is wrong; it takes the secret's value, not its ID",
        ),
        ("AADSTS7000222", "the client secret has expired; make a new one"),
        (
            "AADSTS700016",
            "client_id (ARM_CLIENT_ID) is no application of this tenant",
        ),
        (
            "AADSTS90002",
            "tenant_id (ARM_TENANT_ID) is no tenant of this cloud",
        ),
        (
            "AADSTS900023",
            "tenant_id (ARM_TENANT_ID) is no tenant of this cloud",
        ),
    ];
    match hints.iter().find(|(code, _)| why.contains(code)) {
        Some((_, hint)) => format!("{hint}. Entra ID said: {why}"),
        None => why.to_owned(),
    }
}

/// Who a token is of, by its own claims.
pub(super) fn caller_of(token: &str) -> Option<Caller> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let text = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| claims.get(name).and_then(Value::as_str))
            .map(str::to_owned)
    };
    Some(Caller {
        object_id: text(&["oid", "sub"])?,
        name: text(&["upn", "preferred_username", "unique_name", "appid", "azp"]).unwrap_or_default(),
        tenant: text(&["tid"]).unwrap_or_default(),
        // Only a person delegates, hence the scopes; an application has roles.
        is_user: text(&["upn", "unique_name", "scp"]).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(settings: CredentialSettings) -> Credentials {
        Credentials::new(settings, Transport::default())
    }

    fn cloud() -> Cloud {
        Cloud {
            authority_host: "https://login.local".into(),
            resource_manager: "https://arm.local".into(),
            resource_manager_audience: "https://arm.local".into(),
            key_vault_suffix: "vault.local".into(),
            provider_cloud_name: None,
        }
    }

    #[tokio::test]
    async fn a_failure_lists_what_was_tried_and_what_to_set() {
        let settings = CredentialSettings {
            client_id: Some("app".into()),
            ..CredentialSettings::default()
        };
        let error = credentials(settings)
            .token(&cloud(), "scope", None)
            .await
            .unwrap_err();
        let said = error.service_said();
        assert!(
            said.contains(
                "client secret: not set up; to use it, set client_secret (ARM_CLIENT_SECRET), tenant_id"
            ),
            "{said}"
        );
        assert!(said.contains("Azure CLI: switched off"), "{said}");
    }

    #[test]
    fn entra_s_codes_are_explained() {
        let text = explained("AADSTS7000215: Invalid client secret provided.");
        assert!(
            text.starts_with("client_secret (ARM_CLIENT_SECRET) is wrong"),
            "{text}"
        );
        assert_eq!(explained("other"), "other");
    }

    #[test]
    fn the_caller_is_read_from_the_token() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"oid":"o","appid":"a","tid":"t"}"#);
        let caller = caller_of(&format!("h.{claims}.s")).unwrap();
        assert_eq!(
            (
                caller.object_id.as_str(),
                caller.name.as_str(),
                caller.tenant.as_str()
            ),
            ("o", "a", "t")
        );
        assert_eq!(caller_of("opaque"), None);
    }
}
