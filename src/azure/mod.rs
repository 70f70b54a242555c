//! Azure as far as this provider needs it: Entra ID for tokens, Azure Resource Manager for the cluster, the vault and
//! the roles, and Key Vault's own data plane for certificates (never for secrets, so no private key comes this way).
//!
//! Management calls are untyped JSON. A typed model would drop what it does not know when a cluster is written back.
//!
//! Next: [`Azure`] has one method for each thing that is read or changed; [`Error`] is grouped by what can be done
//! about it; [`ids`] are pure and used everywhere.

mod addon;
mod answer;
mod api_versions;
mod certificate_changes;
mod certificate_policy;
mod certificates;
mod cloud;
mod cluster;
mod credential;
mod envelope;
mod error;
mod identities;
pub mod ids;
mod key_vaults;
mod locks;
mod long_running;
mod managed_clusters;
mod permissions;
mod pipeline;
mod role_assignments;
mod secret;
mod sender;
mod settings;
mod throttle;
mod transport;
mod vault;
mod vaults;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;
use uuid::Uuid;

pub use certificate_changes::{CertificateBundle, CertificateOperation, CertificateUpload, OperationState};
pub use certificate_policy::CertificatePolicy;
pub use cloud::Cloud;
pub use cluster::{Addon, AddonIdentity, AddonOutcome, AddonWish, Cluster};
pub use error::{Cause, Error, Tried};
pub use identities::{FederatedCredential, MOST_CREDENTIALS, ManagedIdentity};
pub use ids::{ClientId, ClusterId, IdError, IdentityId, PrincipalId, Role, VaultId};
pub use key_vaults::{DeletedKeyVault, KeyVault, KeyVaultSettings};
pub use permissions::Permissions;
pub use secret::Secret;
pub use settings::{ClientCertificate, CredentialSettings, CustomEndpoints, Settings};
pub use vault::{AccessPolicy, RoleAssignment, Vault, VaultCertificate};

use answer::Answer;
use cloud::Choice;
use credential::Credentials;
use pipeline::{Auth, Call, Pipeline};
use sender::{Sender, Signature};

/// A client of Azure for one identity in one cloud. Cheap to clone; clones share connections, tokens and the cloud's
/// description.
#[derive(Clone)]
pub struct Azure(Arc<Shared>);

struct Shared {
    settings: Settings,
    choice: Choice,
    cloud: tokio::sync::OnceCell<Cloud>,
    pipeline: Pipeline,
    /// What each vault host asked for. The inner lock is held while one is asked.
    challenges: Mutex<HashMap<String, ChallengeSlot>>,
    /// Hosts that Azure Resource Manager named as vaults'.
    vault_hosts: Mutex<HashSet<String>>,
}

type ChallengeSlot = Arc<tokio::sync::Mutex<Option<certificates::Challenge>>>;

/// Who the caller is, from its token's own claims; for messages, not for decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The principal's object ID.
    pub object_id: String,
    /// A person's user name, or the application's ID.
    pub name: String,
    /// The tenant the token is of.
    pub tenant: String,
    /// Whether it is a person.
    pub is_user: bool,
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure")
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

impl Azure {
    /// Gets ready. Nothing is asked of the network, so a wrong secret is found out at the first call.
    ///
    /// # Errors
    /// [`Error::Settings`] for an unknown cloud, an endpoint that is no https URL, or a trust store that cannot be read.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let choice = cloud::choose(&settings)?;
        let transport = transport::transport()?;
        let given = settings.correlation_id.clone().filter(|id| !id.is_empty());
        let signature = Signature {
            user_agent: user_agent(&settings),
            correlation_id: (!settings.disable_correlation_id)
                .then(|| given.unwrap_or_else(|| Uuid::new_v4().to_string())),
        };
        let local = Arc::new(Sender::new(transport::local_transport()?, signature.clone()));
        let sender = Arc::new(Sender::new(transport, signature));
        let credentials = Credentials::new(&settings.credential, &sender, &local);
        let pipeline = Pipeline::new(sender, credentials);
        Ok(Self(Arc::new(Shared {
            settings,
            choice,
            cloud: tokio::sync::OnceCell::new(),
            pipeline,
            challenges: Mutex::default(),
            vault_hosts: Mutex::default(),
        })))
    }

    /// The cloud's endpoints. Fetches the metadata document the first time, if one is configured.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Unexpected`] if there is no such document.
    pub async fn cloud(&self) -> Result<&Cloud, Error> {
        self.0.cloud.get_or_try_init(|| Box::pin(self.find_cloud())).await
    }

    async fn find_cloud(&self) -> Result<Cloud, Error> {
        let url = match &self.0.choice {
            Choice::Whole(cloud) => return Ok(cloud.clone()),
            Choice::Metadata(url) => url,
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        let call = Call::get("read the cloud's metadata", host, url.clone(), Auth::Anonymous);
        let answer = self.0.pipeline.send(&Cloud::unknown(), &call).await?;
        if !answer.is_success() {
            return Err(answer.refusal());
        }
        cloud::from_metadata(answer.bytes(), &self.0.settings).map_err(|reason| answer.unexpected(&reason))
    }

    /// Who the caller is, as its token for Azure Resource Manager says.
    ///
    /// # Errors
    /// [`Error::Credential`]; [`Error::Unexpected`] if the token says nothing; those of [`Azure::cloud`].
    pub async fn caller(&self) -> Result<Caller, Error> {
        let scope = self.arm_scope().await?;
        let token = self.token(&scope).await?;
        credential::caller_of(token.expose()).ok_or_else(|| Error::Unexpected {
            operation: "read who the caller is".to_owned(),
            target: "the token".to_owned(),
            reason: "it has no claims".to_owned(),
            request_id: None,
            correlation_id: None,
        })
    }

    async fn token(&self, scope: &str) -> Result<Secret, Error> {
        let cloud = self.cloud().await?;
        self.0.pipeline.credentials().token(cloud, scope, None).await
    }

    async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let cloud = self.cloud().await?;
        // Boxed, so that a caller's future does not carry a whole HTTP request for each place one may be under way.
        Box::pin(self.0.pipeline.send(cloud, call)).await
    }

    async fn arm_scope(&self) -> Result<String, Error> {
        Ok(self.cloud().await?.resource_manager_scope())
    }

    async fn arm_auth(&self) -> Result<Auth, Error> {
        Ok(Auth::Token {
            scope: self.arm_scope().await?,
            tenant: None,
        })
    }

    /// A URL of Azure Resource Manager.
    async fn arm_url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url, Error> {
        let text = format!("{}{path}", self.cloud().await?.resource_manager);
        let mut url = Url::parse(&text).map_err(|error| Error::Settings {
            reason: format!("\"{text}\" is no URL ({error})"),
        })?;
        url.query_pairs_mut().extend_pairs(query);
        Ok(url)
    }

    fn challenges(&self) -> MutexGuard<'_, HashMap<String, ChallengeSlot>> {
        // A panic elsewhere does not make a map of challenges wrong.
        self.0.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Azure {
    fn is_custom_cloud(&self) -> bool {
        matches!(self.0.choice, Choice::Metadata(_))
            || self.0.settings.environment.eq_ignore_ascii_case("custom")
    }

    fn named_vault_hosts(&self) -> MutexGuard<'_, HashSet<String>> {
        // A panic elsewhere does not make a set of names wrong.
        self.0.vault_hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cloud {
    /// Stands in while the cloud is being found out; no token is asked for then.
    fn unknown() -> Self {
        Self {
            authority_host: String::new(),
            resource_manager: String::new(),
            resource_manager_audience: String::new(),
            key_vault_suffix: String::new(),
            provider_cloud_name: None,
        }
    }
}

/// Our product, then whose: a partner, and what the environment adds.
fn user_agent(settings: &Settings) -> String {
    let own = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    let partner = settings.partner_id.as_ref().map(|id| format!("pid-{id}"));
    // Only what a header can carry; a stray control character in a variable is no reason to fail.
    let suffix = settings.user_agent_suffix.as_ref().map(|suffix| {
        let printable = suffix.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
        printable.collect::<String>().trim().to_owned()
    });
    let parts = [Some(own.to_owned()), suffix, partner];
    let parts: Vec<String> = parts
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_carries_suffix_and_partner() {
        let bare = user_agent(&Settings::default());
        assert!(
            bare.starts_with("terraform-provider-kvtls/") && !bare.contains(' '),
            "{bare}"
        );
        let both = user_agent(&Settings {
            user_agent_suffix: Some("ci\r\n/1".to_owned()),
            partner_id: Some("11111111-1111-1111-1111-111111111111".to_owned()),
            ..Settings::default()
        });
        assert!(
            both.ends_with(" ci/1 pid-11111111-1111-1111-1111-111111111111"),
            "{both}"
        );
    }

    #[tokio::test]
    async fn nothing_secret_is_shown_by_debug() {
        let credential = CredentialSettings {
            client_secret: Some(Secret::new("hunter2")),
            ..CredentialSettings::default()
        };
        let azure = Azure::new(Settings {
            credential,
            ..Settings::default()
        })
        .unwrap();
        assert!(!format!("{azure:?}").contains("hunter2"));
        assert_eq!(
            azure.cloud().await.unwrap().resource_manager,
            "https://management.azure.com"
        );
    }
}
