//! Certificates in a vault, read through Key Vault's own data plane. Secrets and keys are never asked for.
//!
//! A vault under the cloud's own domain gets the cloud's vault token at once. Any other, and one that refuses it, says
//! by a challenge which token it wants. A token for another service must not be had that way,
//! so the resource it names must be the vault's own domain. One exception, in custom clouds only, where vaults may live
//! under any name: a host that Azure Resource Manager itself named as a vault's may ask for the cloud's vault token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::answer::Answer;
use super::pipeline::{Auth, Call};
use super::{Azure, Error, VaultCertificate};
use crate::tls::Leaf;

/// Served by every cloud's vaults; newer ones add nothing that is read here.
const API_VERSION: &str = "2025-07-01";

/// What a vault asks for: the scope of the token, and the tenant it must be of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    scope: String,
    tenant: Option<String>,
}

impl Azure {
    /// Reads a certificate: the newest version, or the one named. `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the right (`ForbiddenByRbac`, `AccessDenied`) or from a network the vault does not
    /// let in (`ForbiddenByFirewall`); [`Error::Unreachable`] while a new vault's name is not registered yet; those of
    /// reading.
    pub async fn certificate(
        &self,
        vault_uri: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Option<VaultCertificate>, Error> {
        let call = Call::get(
            "read certificate",
            target(vault_uri, name),
            certificate_url(vault_uri, name, version)?,
            Auth::Anonymous,
        );
        let answer = self.send_to_vault(call).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(None);
        };
        parse(name, &body, &answer).map(Some)
    }

    /// Sends a call with the token that its vault wants.
    pub(super) async fn send_to_vault(&self, mut call: Call) -> Result<Answer, Error> {
        let host = call.url.host_str().unwrap_or_default().to_owned();
        let host = host.as_str();
        let first = match self.challenge(host, &call, None).await? {
            Asked::Challenge(challenge) => challenge,
            Asked::Answer(answer) => return Ok(answer),
        };
        call.auth = first.auth();
        let answer = self.send(&call).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        // A vault that moved to another tenant asks for another token.
        match self.challenge(host, &call, Some(&first)).await? {
            Asked::Challenge(same) if same == first => Ok(answer),
            Asked::Challenge(other) => {
                call.auth = other.auth();
                self.send(&call).await
            }
            Asked::Answer(answer) => Ok(answer),
        }
    }

    /// The cloud's vault domain, if the cloud is a custom one and knows the host as a vault's.
    async fn custom_vault_domain(&self, host: &str) -> Result<Option<String>, Error> {
        let named = self.is_custom_cloud() && self.named_vault_hosts().contains(host);
        Ok(if named {
            Some(self.cloud().await?.key_vault_suffix.clone())
        } else {
            None
        })
    }

    /// What the vault asks for: as remembered, unless that is the stale one. Those that come at the same time ask once.
    async fn challenge(&self, host: &str, call: &Call, stale: Option<&Challenge>) -> Result<Asked, Error> {
        let slot = self.challenges().entry(host.to_owned()).or_default().clone();
        let mut kept = slot.lock().await;
        if let Some(known) = kept.as_ref().filter(|known| Some(*known) != stale) {
            return Ok(Asked::Challenge(known.clone()));
        }
        if let (None, Some(expected)) = (
            stale,
            Challenge::of_cloud(&self.cloud().await?.key_vault_suffix, host),
        ) {
            *kept = Some(expected.clone());
            return Ok(Asked::Challenge(expected));
        }
        // Without what it is about: that is for the vault's eyes only, once it is known to be one.
        let mut call = call.clone().without_body();
        call.auth = Auth::Anonymous;
        let answer = self.send(&call).await?;
        if answer.status != 401 {
            return Ok(Asked::Answer(answer));
        }
        let header = answer.header("www-authenticate").unwrap_or_default();
        let also = self.custom_vault_domain(host).await?;
        let challenge =
            parse_challenge(header, host, also.as_deref()).map_err(|reason| answer.unexpected(&reason))?;
        *kept = Some(challenge.clone());
        Ok(Asked::Challenge(challenge))
    }
}

/// What an anonymous request brought: the challenge, or already the vault's last word.
enum Asked {
    Challenge(Challenge),
    Answer(Answer),
}

impl Challenge {
    /// What a vault of this cloud asks for, as a rule: one request less. A vault that wants something else says so.
    fn of_cloud(suffix: &str, host: &str) -> Option<Self> {
        let suffix = suffix.trim_start_matches('.');
        let belongs = !suffix.is_empty()
            && host
                .strip_suffix(suffix)
                .is_some_and(|front| front.ends_with('.'));
        belongs.then(|| Self {
            scope: format!("https://{suffix}/.default"),
            tenant: None,
        })
    }

    fn auth(&self) -> Auth {
        Auth::Token {
            scope: self.scope.clone(),
            tenant: self.tenant.clone(),
        }
    }
}

/// What a call on a certificate is about, for messages.
pub(super) fn target(vault_uri: &str, name: &str) -> String {
    let host = vault_uri.trim_start_matches("https://").trim_end_matches('/');
    format!("{name} in {host}")
}

fn certificate_url(vault_uri: &str, name: &str, version: Option<&str>) -> Result<Url, Error> {
    let mut segments = vec!["certificates", name];
    segments.extend(version);
    vault_url(vault_uri, &segments)
}

/// A URL of a vault's data plane.
pub(super) fn vault_url(vault_uri: &str, path: &[&str]) -> Result<Url, Error> {
    let unusable = |reason: String| Error::Settings { reason };
    let mut url = Url::parse(vault_uri)
        .map_err(|error| unusable(format!("\"{vault_uri}\" is no vault URI ({error})")))?;
    if url.scheme() != "https" {
        return Err(unusable(format!("\"{vault_uri}\" is no https URL")));
    }
    match url.path_segments_mut() {
        Ok(mut segments) => {
            segments.clear().extend(path);
        }
        Err(()) => return Err(unusable(format!("\"{vault_uri}\" is no vault URI"))),
    }
    url.set_query(Some(&format!("api-version={API_VERSION}")));
    Ok(url)
}

/// Reads `Bearer authorization="https://login.windows.net/TENANT", resource="https://vault.azure.net"`, or with
/// `scope=` in place of `resource=`.
fn parse_challenge(header: &str, vault_host: &str, also: Option<&str>) -> Result<Challenge, String> {
    let parameter = |name: &str| {
        let rest = header.split_once(&format!("{name}=\""))?.1;
        Some(rest.split('"').next()?.to_owned())
    };
    let scope = match (parameter("resource"), parameter("scope")) {
        (Some(resource), _) => format!("{}/.default", resource.trim_end_matches('/')),
        (None, Some(scope)) => scope,
        (None, None) => return Err("the vault refused without saying which token it wants".to_owned()),
    };
    let resource = Url::parse(&scope).ok();
    let resource_host = resource.as_ref().and_then(Url::host_str).unwrap_or_default();
    let belongs = vault_host
        .strip_suffix(resource_host)
        .is_some_and(|front| !resource_host.is_empty() && (front.is_empty() || front.ends_with('.')));
    if !belongs && (resource_host.is_empty() || also != Some(resource_host)) {
        return Err(format!(
            "the vault {vault_host} asks for a token for another service, {resource_host}; none was sent"
        ));
    }
    // The host named there may be an old alias; the cloud's own is used, only the tenant is taken.
    let tenant = parameter("authorization")
        .and_then(|text| Url::parse(&text).ok())
        .and_then(|url| url.path_segments()?.next().map(str::to_owned))
        .filter(|tenant| !tenant.is_empty());
    Ok(Challenge { scope, tenant })
}

pub(super) fn parse(name: &str, body: &Value, answer: &Answer) -> Result<VaultCertificate, Error> {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let missing = |what: &str| answer.unexpected(&format!("it has no \"{what}\""));
    let version = text("/id")
        .and_then(|id| id.rsplit('/').next())
        .ok_or_else(|| missing("id"))?;
    let der = STANDARD
        .decode(text("/cer").ok_or_else(|| missing("cer"))?)
        .map_err(|error| answer.unexpected(&format!("\"cer\" is no base64 ({error})")))?;
    Ok(VaultCertificate {
        name: name.to_owned(),
        version: version.to_owned(),
        leaf: Leaf::from_der(&der).map_err(|error| answer.unexpected(&format!("\"cer\" is {error}")))?,
        enabled: body
            .pointer("/attributes/enabled")
            .and_then(Value::as_bool)
            .unwrap_or(true),
        exportable: body
            .pointer("/policy/key_props/exportable")
            .and_then(Value::as_bool),
        content_type: text("/policy/secret_props/contentType").map(str::to_owned),
        seen_at: answer.date().unwrap_or_else(OffsetDateTime::now_utc),
        created_at: body
            .pointer("/attributes/created")
            .and_then(Value::as_i64)
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle as a vault sent it on 2 June 2022 (recorded by the Azure CLI's tests, trimmed).
    #[test]
    fn a_recorded_certificate_is_read() {
        let body: Value = serde_json::from_str(include_str!("recorded/certificate-2022.json")).unwrap();
        let answer = Answer::recorded(200, &[("date", "Thu, 02 Jun 2022 08:14:16 GMT")], "{}");
        let certificate = parse("cert1", &body, &answer).unwrap();
        assert_eq!(certificate.version, "42f5a7e2bc1f4e5898b50b0ae5f497af");
        assert_eq!(
            certificate.leaf.thumbprint.as_str(),
            "2EE7661E3C1D401479E334A91827AE88137517FA"
        );
        assert_eq!(certificate.leaf.not_after.unix_timestamp(), 1_785_658_453);
        assert_eq!((certificate.enabled, certificate.exportable), (true, Some(true)));
        assert_eq!(certificate.content_type.as_deref(), Some("application/x-pkcs12"));
        assert_eq!(
            certificate.seen_at,
            time::macros::datetime!(2022-06-02 08:14:16 UTC)
        );
    }

    #[test]
    fn a_challenge_is_read_in_both_forms() {
        let tenant = Some("tenant-1".to_owned());
        let resource = r#"Bearer authorization="https://login.windows.net/tenant-1", resource="https://vault.azure.net""#;
        let scope = r#"Bearer authorization="https://login.windows.net/tenant-1", scope="https://vault.azure.net/.default""#;
        for header in [resource, scope] {
            let challenge = parse_challenge(header, "kv.vault.azure.net", None);
            assert_eq!(
                challenge,
                Ok(Challenge {
                    scope: "https://vault.azure.net/.default".into(),
                    tenant: tenant.clone()
                })
            );
        }
    }

    #[test]
    fn no_token_is_had_for_another_service() {
        let header = |host: &str| {
            format!("Bearer authorization=\"https://login.local/t\", resource=\"https://{host}\"")
        };
        let rows = [
            ("vault.azure.net", "kv.vault.azure.net", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("management.azure.com", "kv.vault.azure.net", false),
            ("ault.azure.net", "kv.vault.azure.net", false),
            ("", "kv.vault.azure.net", false),
        ];
        for (resource, vault, accepted) in rows {
            assert_eq!(
                parse_challenge(&header(resource), vault, None).is_ok(),
                accepted,
                "{resource}"
            );
        }
        assert!(parse_challenge("Bearer error=\"invalid_token\"", "kv.vault.azure.net", None).is_err());
        let custom = [
            ("vault.azure.net", true),
            ("management.azure.com", false),
            ("", false),
        ];
        for (resource, accepted) in custom {
            let challenge = parse_challenge(&header(resource), "127.0.0.1", Some("vault.azure.net"));
            assert_eq!(challenge.is_ok(), accepted, "{resource}");
        }
    }

    #[test]
    fn the_url_of_a_certificate_cannot_be_broken_out_of() {
        let url = certificate_url("https://kv.local/", "a/../secrets", Some("v1")).unwrap();
        assert_eq!(
            url.as_str(),
            "https://kv.local/certificates/a%2F..%2Fsecrets/v1?api-version=2025-07-01"
        );
        assert!(certificate_url("http://kv.local/", "a", None).is_err());
    }
}
