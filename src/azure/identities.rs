//! User-assigned managed identities, and whom they trust.

use std::sync::LazyLock;
use std::time::Duration;

use azure_core::http::Method;
use serde_json::{Value, json};

use super::locks::Locks;
use super::long_running::next_page;
use super::pipeline::{Call, jitter, pause};
use super::{Azure, ClientId, Error, IdentityId, PrincipalId};

const API_VERSION: &str = "2024-11-30";

/// What a token of a service account has to be made for.
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// How many credentials an identity can have.
pub const MOST_CREDENTIALS: usize = 20;

/// Tries while others change the same identity, which takes one change at a time.
const TRIES: u32 = 10;

/// One lock an identity for the whole process: the service refuses parallel writes.
static LOCKS: LazyLock<Locks<IdentityId>> = LazyLock::new(Locks::default);

/// A user-assigned managed identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// What asks for tokens.
    pub client_id: ClientId,
    /// What roles are given to.
    pub principal_id: PrincipalId,
    /// The tenant it lives in.
    pub tenant_id: String,
}

/// Whom an identity trusts instead of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedCredential {
    /// Its ARM ID.
    pub id: String,
    /// Who issues the tokens; compared as text by Entra, a slash at the end included.
    pub issuer: String,
    /// Whom they are about, `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// What they are made for.
    pub audiences: Vec<String>,
}

impl FederatedCredential {
    /// Whether it lets a service account of an issuer in.
    pub fn trusts(&self, issuer: &str, subject: &str) -> bool {
        self.issuer == issuer && self.subject == subject && self.audiences.iter().any(|it| it == AUDIENCE)
    }
}

impl Azure {
    /// An identity; `None` if it or its resource group does not exist.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn identity(&self, id: &IdentityId) -> Result<Option<ManagedIdentity>, Error> {
        let url = self.arm_url(id.as_str(), &[("api-version", API_VERSION)]).await?;
        let call = Call::get("read managed identity", id.name(), url, self.arm_auth().await?);
        let answer = self.send(&call).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(None);
        };
        let text = |member: &str| {
            let value = body.pointer(&format!("/properties/{member}"));
            let text = value.and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| answer.unexpected(&format!("it has no \"{member}\"")))
        };
        Ok(Some(ManagedIdentity {
            client_id: ClientId(text("clientId")?),
            principal_id: PrincipalId(text("principalId")?),
            tenant_id: text("tenantId")?,
        }))
    }

    /// Whom an identity trusts.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn federated_credentials(&self, id: &IdentityId) -> Result<Vec<FederatedCredential>, Error> {
        let path = format!("{id}/federatedIdentityCredentials");
        let url = self.arm_url(&path, &[("api-version", API_VERSION)]).await?;
        let operation = "list federated credentials";
        let mut call = Some(Call::get(operation, id.name(), url, self.arm_auth().await?));
        let mut found = Vec::new();
        while let Some(page) = call {
            let answer = self.send(&page).await?;
            let Some(body) = answer.json_if_found()? else {
                break;
            };
            let items = body.get("value").and_then(Value::as_array);
            found.extend(items.into_iter().flatten().filter_map(parse));
            call = next_page(&body, &page, &answer)?;
        }
        Ok(found)
    }

    /// Lets a service account of an issuer in, under a name.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `…/federatedIdentityCredentials/write`; [`Error::Conflict`] if others kept changing
    /// the identity; those of writing.
    pub async fn trust(&self, id: &IdentityId, name: &str, issuer: &str, subject: &str) -> Result<(), Error> {
        let url = self
            .credential_url(&format!("{id}/federatedIdentityCredentials/{name}"))
            .await?;
        let properties = json!({"issuer": issuer, "subject": subject, "audiences": [AUDIENCE]});
        let operation = "add a federated credential";
        let call = Call::write(operation, id.name(), Method::Put, url, self.arm_auth().await?)
            .body(json!({"properties": properties}))
            .repeatable();
        self.change_identity(id, &call).await
    }

    /// Takes a credential away, by its ID. What is not there is no error.
    ///
    /// # Errors
    /// As [`Azure::trust`].
    pub async fn distrust(&self, id: &IdentityId, credential: &str) -> Result<(), Error> {
        let url = self.credential_url(credential).await?;
        let operation = "remove a federated credential";
        let auth = self.arm_auth().await?;
        let call = Call::write(operation, id.name(), Method::Delete, url, auth).repeatable();
        match self.change_identity(id, &call).await {
            Err(Error::Rejected { status: 404, .. }) => Ok(()),
            outcome => outcome,
        }
    }

    async fn credential_url(&self, path: &str) -> Result<url::Url, Error> {
        self.arm_url(path, &[("api-version", API_VERSION)]).await
    }

    /// One change of an identity's credentials at a time, tried again while somebody else makes one.
    async fn change_identity(&self, id: &IdentityId, call: &Call) -> Result<(), Error> {
        let _alone = LOCKS.hold(id.clone()).await;
        let mut tries = 0;
        loop {
            let answer = self.send(call).await?;
            if answer.is_success() {
                return Ok(());
            }
            match answer.refusal() {
                // Any other conflict is about the content and does not pass.
                Error::Conflict { code, .. } if tries < TRIES && code.starts_with("Concurrent") => tries += 1,
                error => return Err(error),
            }
            let short = jitter(Duration::from_millis(500 * u64::from(tries)));
            pause(answer.retry_after().or(Some(short))).await;
        }
    }
}

fn parse(item: &Value) -> Option<FederatedCredential> {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let audiences = item.pointer("/properties/audiences").and_then(Value::as_array);
    let audiences = audiences.into_iter().flatten().filter_map(Value::as_str);
    Some(FederatedCredential {
        id: text("/id")?,
        issuer: text("/properties/issuer")?,
        subject: text("/properties/subject")?,
        audiences: audiences.map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_trusts_one_account_of_one_issuer() {
        let credential = parse(&json!({"id": "/c", "properties": {
            "issuer": "https://oidc.example/1/", "subject": "system:serviceaccount:shop:shop",
            "audiences": [AUDIENCE]}}))
        .unwrap();
        assert!(credential.trusts("https://oidc.example/1/", "system:serviceaccount:shop:shop"));
        // Entra compares texts: without the slash it is another issuer.
        assert!(!credential.trusts("https://oidc.example/1", "system:serviceaccount:shop:shop"));
        assert!(!credential.trusts("https://oidc.example/1/", "system:serviceaccount:shop:web"));
    }
}
