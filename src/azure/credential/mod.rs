//! Which credential is used, and how we say so.
//!
//! The order is azurerm's, and so is its rule: the first kind whose inputs are complete is used, even if it then turns
//! out to be wrong. Falling back from a wrong secret to whoever is logged in with the CLI would change the world as
//! somebody else.
//!
//! Tokens are kept here for all planes and renewed before they end, so a kind only knows how to get one.
//!
//! Next: [`kinds`] is the order; each kind has a file; [`entra`] is what five of them share.

mod cli;
mod client_certificate;
mod client_secret;
mod entra;
mod managed_identity;
mod oidc;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use time::OffsetDateTime;

use super::cloud::Cloud;
use super::sender::Sender;
use super::settings::CredentialSettings;
use super::{Caller, Error, Secret, Tried};
use entra::Entra;

/// Tokens are renewed this long before they end, so that one never ends under way.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// A token that could not be renewed is used until this long before its end.
const LAST_USE_BEFORE: Duration = Duration::from_secs(30);
/// How long getting one token may take with everything in it: assertions, retries, a slow CLI.
const PATIENCE: Duration = Duration::from_secs(120);

/// Gives tokens for any audience, from one identity.
#[derive(Debug)]
pub(super) struct Credentials {
    kinds: Vec<Kind>,
    auxiliary_tenants: Vec<String>,
    tokens: Mutex<HashMap<(String, String), Slot>>,
}

/// One kind of credential: set up, or what is missing.
struct Kind {
    name: &'static str,
    setup: Result<Box<dyn Credential>, String>,
}

/// Gets tokens. Errors are sentences that say what to do.
#[async_trait::async_trait]
trait Credential: Send + Sync {
    async fn token(&self, wanted: &Wanted<'_>) -> Result<Token, String>;
}

/// Which token is wanted.
struct Wanted<'a> {
    cloud: &'a Cloud,
    scope: &'a str,
    /// Another tenant than the configured one.
    tenant: Option<&'a str>,
}

/// A token and its life.
#[derive(Clone, Debug)]
struct Token {
    secret: Secret,
    renew_at: OffsetDateTime,
    ends_at: OffsetDateTime,
}

/// One token. The lock is held while it is fetched, so ten waiting requests make one request to Entra.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

impl Token {
    /// A token that ends so long from now.
    fn of_life(secret: impl Into<String>, life: Duration) -> Self {
        let now = OffsetDateTime::now_utc();
        // A token that lives only minutes is used for half of them.
        let early = RENEW_BEFORE.min(life / 2);
        Self {
            secret: Secret::new(secret),
            renew_at: now + life - early,
            ends_at: now + life,
        }
    }

    /// A token that ends at a moment, in seconds since 1970.
    fn until(secret: impl Into<String>, ends_at: i64) -> Self {
        let rest = ends_at.saturating_sub(OffsetDateTime::now_utc().unix_timestamp());
        Self::of_life(
            secret,
            Duration::from_secs(u64::try_from(rest).unwrap_or_default()),
        )
    }
}

impl Wanted<'_> {
    /// The scope as the older endpoints write it.
    fn resource(&self) -> &str {
        self.scope.strip_suffix("/.default").unwrap_or(self.scope)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setup = self.setup.as_ref().map(|_| "set up");
        f.debug_struct("Kind")
            .field("name", &self.name)
            .field("setup", &setup)
            .finish()
    }
}

/// All kinds in their order.
fn kinds(settings: &CredentialSettings, sender: &Arc<Sender>, local: &Arc<Sender>) -> Vec<Kind> {
    let entra = Entra::new(Arc::clone(sender));
    vec![
        Kind {
            name: "client certificate",
            setup: client_certificate::set_up(settings, &entra),
        },
        Kind {
            name: "client secret",
            setup: client_secret::set_up(settings, &entra),
        },
        Kind {
            name: "OIDC token",
            setup: oidc::set_up_given(settings, &entra),
        },
        Kind {
            name: "Azure Pipelines OIDC",
            setup: oidc::set_up_pipelines(settings, &entra),
        },
        Kind {
            name: "GitHub Actions OIDC",
            setup: oidc::set_up_github(settings, &entra),
        },
        Kind {
            name: "managed identity",
            setup: managed_identity::set_up(settings, local),
        },
        Kind {
            name: "Azure CLI",
            setup: cli::set_up(settings),
        },
    ]
}

/// What is still to be set, in one sentence; `None` if all is there.
fn missing(inputs: &[(bool, &str)]) -> Option<String> {
    let missing: Vec<&str> = inputs
        .iter()
        .filter(|(there, _)| !there)
        .map(|(_, name)| *name)
        .collect();
    (!missing.is_empty()).then(|| format!("not set up; to use it, set {}", missing.join(", ")))
}

const TENANT_ID: &str = "tenant_id (ARM_TENANT_ID)";
const CLIENT_ID: &str = "client_id (ARM_CLIENT_ID)";

impl Credentials {
    pub(super) fn new(settings: &CredentialSettings, sender: &Arc<Sender>, local: &Arc<Sender>) -> Self {
        Self {
            kinds: kinds(settings, sender, local),
            auxiliary_tenants: settings.auxiliary_tenant_ids.clone(),
            tokens: Mutex::default(),
        }
    }

    /// Tenants whose tokens go along with requests to Azure Resource Manager.
    pub(super) fn auxiliary_tenants(&self) -> &[String] {
        &self.auxiliary_tenants
    }

    /// A token for a scope, of the tenant given or else of the configured one.
    pub(super) async fn token(
        &self,
        cloud: &Cloud,
        scope: &str,
        tenant: Option<&str>,
    ) -> Result<Secret, Error> {
        let slot = self.slot(scope, tenant);
        let mut kept = slot.lock().await;
        let now = OffsetDateTime::now_utc();
        if let Some(token) = kept.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.secret.clone());
        }
        let wanted = Wanted { cloud, scope, tenant };
        match Box::pin(self.fetch(&wanted)).await {
            Ok(token) => {
                let secret = token.secret.clone();
                *kept = Some(token);
                Ok(secret)
            }
            Err(error) => {
                // What still holds is better than nothing: the next call tries again.
                let still = kept
                    .as_ref()
                    .filter(|token| now + LAST_USE_BEFORE < token.ends_at);
                let Some(token) = still else { return Err(error) };
                tracing::warn!(
                    scope,
                    why = error.service_said(),
                    "the token could not be renewed yet"
                );
                Ok(token.secret.clone())
            }
        }
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

    async fn fetch(&self, wanted: &Wanted<'_>) -> Result<Token, Error> {
        let mut tried = Vec::new();
        let mut used = None;
        for kind in &self.kinds {
            let outcome = match (&kind.setup, used) {
                (_, Some(used)) => format!("not tried, because {used} is set up and comes first"),
                (Err(missing), None) => missing.clone(),
                (Ok(credential), None) => {
                    used = Some(kind.name);
                    let got = tokio::time::timeout(PATIENCE, credential.token(wanted)).await;
                    match got {
                        Ok(Ok(token)) => return Ok(token),
                        Ok(Err(why)) => why,
                        Err(_elapsed) => format!("gave no token within {} s", PATIENCE.as_secs()),
                    }
                }
            };
            tried.push(Tried {
                name: kind.name.to_owned(),
                outcome,
            });
        }
        Err(Error::Credential { tried })
    }
}

/// Who a token is of, by its own claims.
pub(super) fn caller_of(token: &str) -> Option<Caller> {
    let claims = claims_of(token)?;
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

/// The claims of a token, unverified: whoever takes it verifies it.
fn claims_of(token: &str) -> Option<Value> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests;
