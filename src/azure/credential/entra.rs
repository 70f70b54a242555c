//! Entra ID's token endpoint: an application shows something and gets a token.

use std::sync::Arc;
use std::time::Duration;

use azure_core::http::Method;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{Token, Wanted};
use crate::azure::pipeline::{Auth, Call};
use crate::azure::sender::Sender;
use crate::azure::{Cloud, Secret};

/// What an assertion is, to Entra.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Entra ID. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Entra(Arc<Sender>);

/// What an application shows.
pub(super) enum Proof {
    Secret(Secret),
    /// A signed statement: its own, or one of an issuer that it is federated with.
    Assertion(Secret),
}

impl Entra {
    pub(super) fn new(sender: Arc<Sender>) -> Self {
        Self(sender)
    }

    /// Sends other requests for a credential: to whoever gives out assertions.
    pub(super) fn sender(&self) -> &Sender {
        &self.0
    }

    /// A token for an application.
    pub(super) async fn token(
        &self,
        wanted: &Wanted<'_>,
        tenant: &str,
        client_id: &str,
        proof: &Proof,
    ) -> Result<Token, String> {
        let url = token_url(wanted.cloud, tenant)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let call = Call::write("get a token", host, Method::Post, url, Auth::Anonymous)
            .form(form(wanted.scope, client_id, proof))
            .repeatable();
        let answer = self.0.send(&call, &[]).await;
        let answer = answer.map_err(|error| format!("{error}: {}", error.service_said()))?;
        let body = serde_json::from_slice::<Value>(answer.bytes()).unwrap_or_default();
        if answer.is_success() {
            let token = body.get("access_token").and_then(Value::as_str);
            let life = number(body.get("expires_in")).and_then(|life| u64::try_from(life).ok());
            let (Some(token), Some(life)) = (token, life) else {
                return Err("Entra ID answered without a token".to_owned());
            };
            return Ok(Token::of_life(token, Duration::from_secs(life)));
        }
        match body.get("error_description").and_then(Value::as_str) {
            Some(description) => Err(explained(&one_line(description))),
            None => Err(answer.refusal().service_said()),
        }
    }
}

fn form(scope: &str, client_id: &str, proof: &Proof) -> Secret {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client_id)
        .append_pair("scope", scope);
    match proof {
        Proof::Secret(secret) => form.append_pair("client_secret", secret.expose()),
        Proof::Assertion(assertion) => form
            .append_pair("client_assertion_type", ASSERTION_TYPE)
            .append_pair("client_assertion", assertion.expose()),
    };
    Secret::new(form.finish())
}

/// Where a tenant's tokens come from.
pub(super) fn token_url(cloud: &Cloud, tenant: &str) -> Result<Url, String> {
    let sane = tenant
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    if tenant.is_empty() || !sane {
        return Err(format!(
            "\"{tenant}\" is no tenant; it is a GUID or a domain name"
        ));
    }
    let text = format!("{}/{tenant}/oauth2/v2.0/token", cloud.authority_host);
    Url::parse(&text).map_err(|error| format!("\"{text}\" is no URL ({error})"))
}

/// A number that some endpoints write as text.
pub(super) fn number(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Adds what to check to Entra's best known codes.
fn explained(why: &str) -> String {
    const HINTS: [(&str, &str); 13] = [
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
            "AADSTS700027",
            "the client certificate is not registered with this application; upload it there",
        ),
        (
            "AADSTS700024",
            "the assertion is not valid now; it has expired, or this machine's clock is wrong",
        ),
        ("AADSTS700211", FEDERATION),
        ("AADSTS700212", FEDERATION),
        ("AADSTS700213", FEDERATION),
        ("AADSTS70021", FEDERATION),
        (
            "AADSTS7000218",
            "the application wants a secret or an assertion, and got none",
        ),
        (
            "AADSTS90002",
            "tenant_id (ARM_TENANT_ID) is no tenant of this cloud",
        ),
        (
            "AADSTS900023",
            "tenant_id (ARM_TENANT_ID) is no tenant of this cloud",
        ),
        (
            "AADSTS500011",
            "the tenant does not know this cloud's service; is environment (ARM_ENVIRONMENT) right?",
        ),
    ];
    // Some codes begin like others.
    let code: String = why.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
    match HINTS.iter().find(|(known, _)| *known == code) {
        Some((_, hint)) => format!("{hint}. Entra ID said: {why}"),
        None => why.to_owned(),
    }
}

const FEDERATION: &str = "the application is not federated with whoever signed this assertion; compare issuer, subject and \
                          audience of its federated credential";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_explained() {
        let rows = [
            (
                "AADSTS7000215: Invalid client secret provided.",
                "client_secret (ARM_CLIENT_SECRET) is wrong",
            ),
            (
                "AADSTS70021: No matching federated",
                "the application is not federated",
            ),
            (
                "AADSTS700213: No matching federated",
                "the application is not federated",
            ),
            ("AADSTS700024: Client assertion", "the assertion is not valid now"),
        ];
        for (said, hint) in rows {
            let text = explained(said);
            assert!(text.starts_with(hint) && text.ends_with(said), "{text}");
        }
        assert_eq!(explained("other"), "other");
    }
}
