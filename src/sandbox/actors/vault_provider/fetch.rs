//! Tokens from the node's identity endpoint or from Entra, and objects from the vault.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request as HttpRequest, StatusCode, header};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::parameters::{Identity, Object, Request, Workload};
use crate::sandbox::actors::Resolve;
use crate::sandbox::actors::objects::{flag, int, list, text};
use crate::sandbox::actors::transport::{Peer, Reply, Transport};
use crate::sandbox::clock::Clock;

/// Token and its end, by audience and the identity asked for.
type Tokens = HashMap<(String, Option<String>), (String, OffsetDateTime)>;

/// What a vault says of the tokens it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Challenge {
    audience: String,
    tenant: String,
}

/// Of the vault's data plane, as the provider's SDK asks for it.
const API: &str = "api-version=7.4";
/// How long before its end a token is replaced.
const MARGIN: Duration = Duration::minutes(5);
const RULE: &str = "--------------------------------------------------------------------------------";

/// What a vault gave.
pub(super) struct Fetched {
    pub(super) body: Value,
    pub(super) version: String,
}

/// A client of Key Vault, with identities of nodes and of service accounts.
pub(in crate::sandbox::actors) struct Vaults {
    transport: Transport,
    clock: Clock,
    /// `http://127.0.0.1:P/clusters/NAME`.
    identity_endpoint: String,
    /// `.vault.azure.net`.
    suffix: String,
    resolve: Resolve,
    /// What each vault has told of the tokens it takes.
    challenges: Mutex<HashMap<String, Challenge>>,
    tokens: Mutex<Tokens>,
}

impl Vaults {
    pub(in crate::sandbox::actors) fn new(
        transport: Transport,
        clock: Clock,
        identity_endpoint: String,
        suffix: String,
        resolve: Resolve,
    ) -> Self {
        Self {
            transport,
            clock,
            identity_endpoint,
            suffix,
            resolve,
            challenges: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// One version of an object; the current one if `version` is empty.
    pub(super) async fn fetch(
        &self,
        request: &Request,
        identity: &Identity,
        object: &Object,
        version: &str,
    ) -> Result<Fetched, String> {
        let version = if version == "latest" { "" } else { version };
        let path = format!("/{}/{}/{version}", collection(object), object.name);
        let body = self.get(request, identity, &path, API).await?;
        let id = match text(&body, "/id") {
            "" => text(&body, "/key/kid"),
            id => id,
        };
        let version = id.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Fetched { body, version })
    }

    /// The enabled versions of an object, newest first.
    pub(super) async fn versions(
        &self,
        request: &Request,
        identity: &Identity,
        object: &Object,
    ) -> Result<Vec<String>, String> {
        let path = format!("/{}/{}/versions", collection(object), object.name);
        let mut found = Vec::new();
        let mut query = API.to_owned();
        loop {
            let page = self.get(request, identity, &path, &query).await?;
            for item in list(&page, "/value") {
                if flag(item, "/attributes/enabled") {
                    let id = match text(item, "/id") {
                        "" => text(item, "/kid"),
                        id => id,
                    };
                    let created = int(item, "/attributes/created").unwrap_or(0);
                    found.push((created, id.rsplit('/').next().unwrap_or_default().to_owned()));
                }
            }
            let Some((_, next)) = text(&page, "/nextLink").split_once('?') else {
                break;
            };
            query = next.to_owned();
        }
        found.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
        Ok(found.into_iter().map(|(_, version)| version).collect())
    }

    async fn get(
        &self,
        request: &Request,
        identity: &Identity,
        path: &str,
        query: &str,
    ) -> Result<Value, String> {
        let host = format!("{}{}", request.vault, self.suffix);
        let url = format!("https://{host}{path}");
        let address = (self.resolve)(&host.to_lowercase())
            .ok_or_else(|| format!("Get \"{url}?{query}\": dial tcp: lookup {host}: no such host"))?;
        let peer = Peer {
            address,
            tls_name: Some(host.to_lowercase()),
        };
        let mut challenge = lock(&self.challenges).get(&host).cloned();
        loop {
            let token = match &challenge {
                Some(challenge) => Some(self.token(identity, challenge).await?),
                // The first request asks the vault, without a body or a token, where tokens for it come from.
                None => None,
            };
            let reply = self
                .send(&peer, &format!("{url}?{query}"), token.as_deref())
                .await;
            let reply = reply.map_err(|error| format!("Get \"{url}?{query}\": {error}"))?;
            if reply.status.is_success() {
                return serde_json::from_slice(&reply.body)
                    .map_err(|error| format!("unmarshalling type *azsecrets.GetSecretResponse: {error}"));
            }
            if reply.status == StatusCode::UNAUTHORIZED && token.is_none() {
                let found = Challenge::read(&reply.headers, &host)?;
                lock(&self.challenges).insert(host.clone(), found.clone());
                challenge = Some(found);
                continue;
            }
            return Err(block(&url, &reply));
        }
    }

    async fn send(&self, peer: &Peer, url: &str, token: Option<&str>) -> Result<Reply, String> {
        let mut request = HttpRequest::get(url).header(header::ACCEPT, "application/json");
        if let Some(token) = token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
        self.transport
            .send(peer, request)
            .await
            .map_err(|error| error.to_string())
    }

    async fn token(&self, identity: &Identity, challenge: &Challenge) -> Result<String, String> {
        match identity {
            Identity::Node(client) => self.node_token(client.as_ref(), &challenge.audience).await,
            Identity::Workload(workload) => self.workload_token(workload, challenge).await,
        }
    }

    /// A token for a service account. Each mount asks anew, as the provider does.
    async fn workload_token(&self, workload: &Workload, challenge: &Challenge) -> Result<String, String> {
        if !challenge.tenant.eq_ignore_ascii_case(&workload.tenant) {
            return Err(format!(
                "ClientAssertionCredential isn't configured to acquire tokens for tenant \"{}\". To enable acquiring \
                 tokens for this tenant add it to the AdditionallyAllowedTenants on the credential options, or add \"*\" \
                 to AdditionallyAllowedTenants to allow acquiring tokens for any tenant",
                challenge.tenant
            ));
        }
        let host = workload.authority;
        let url = format!("https://{host}/{}/oauth2/v2.0/token", workload.tenant);
        let failed = |error: String| format!("ClientAssertionCredential authentication failed. {error}");
        let address = (self.resolve)(host)
            .ok_or_else(|| failed(format!("Post \"{url}\": dial tcp: lookup {host}: no such host")))?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("client_assertion", &workload.assertion)
            .append_pair(
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            )
            .append_pair("client_id", &workload.client)
            .append_pair("grant_type", "client_credentials")
            .append_pair("scope", &format!("{}/.default", challenge.audience))
            .finish();
        let request = HttpRequest::post(&url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .map_err(|error| failed(error.to_string()))?;
        let peer = Peer {
            address,
            tls_name: Some(host.to_owned()),
        };
        let reply = self.transport.send(&peer, request).await;
        let reply = reply.map_err(|error| failed(format!("Post \"{url}\": {error}")))?;
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        match text(&body, "/access_token") {
            "" => Err(failed(format!(
                "\nPOST {url}\n{RULE}\nRESPONSE {}: {}\n{RULE}\n{}\n{RULE}\nTo troubleshoot, visit \
                 https://aka.ms/azsdk/go/identity/troubleshoot#client-assert",
                reply.status.as_u16(),
                reply.status,
                pretty(&reply, &body)
            ))),
            token => Ok(token.to_owned()),
        }
    }

    /// A token of the node, kept until shortly before it ends.
    async fn node_token(&self, client: Option<&String>, audience: &str) -> Result<String, String> {
        let key = (audience.to_owned(), client.cloned());
        let now = self.clock.now();
        if let Some((token, until)) = lock(&self.tokens).get(&key)
            && *until - MARGIN > now
        {
            return Ok(token.clone());
        }
        let query = token_query(audience, client.map(String::as_str));
        let url = format!(
            "{}/metadata/identity/oauth2/token?{query}",
            self.identity_endpoint
        );
        let reply = self.ask_identity(&url).await?;
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let token = text(&body, "/access_token").to_owned();
        if !reply.status.is_success() || token.is_empty() {
            return Err(refused_identity(&reply, &body));
        }
        let seconds = |member: &str| match &body[member] {
            Value::String(text) => text.parse().ok(),
            other => other.as_i64(),
        };
        let until = seconds("expires_on").and_then(|moment| OffsetDateTime::from_unix_timestamp(moment).ok());
        lock(&self.tokens).insert(key, (token.clone(), until.unwrap_or(now)));
        Ok(token)
    }

    async fn ask_identity(&self, url: &str) -> Result<Reply, String> {
        let failed = |error: String| format!("ManagedIdentityCredential authentication failed. {error}");
        let parsed = url::Url::parse(url).map_err(|error| failed(error.to_string()))?;
        let address = parsed
            .socket_addrs(|| Some(80))
            .map_err(|error| failed(error.to_string()))?;
        let peer = Peer {
            address: address
                .first()
                .copied()
                .ok_or_else(|| failed("no address".into()))?,
            tls_name: None,
        };
        let request = HttpRequest::get(url)
            .header("metadata", "true")
            .body(Bytes::new())
            .map_err(|error| failed(error.to_string()))?;
        self.transport
            .send(&peer, request)
            .await
            .map_err(|error| failed(error.to_string()))
    }
}

fn token_query(audience: &str, client: Option<&str>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("api-version", "2018-02-01")
        .append_pair("resource", audience);
    if let Some(client) = client {
        query.append_pair("client_id", client);
    }
    query.finish()
}

fn collection(object: &Object) -> &'static str {
    match object.kind.as_str() {
        "key" => "keys",
        "cert" => "certificates",
        _ => "secrets",
    }
}

impl Challenge {
    /// The audience and tenant that a vault names. The audience must be the vault's own domain, or a token would go to
    /// a stranger.
    fn read(headers: &HeaderMap, host: &str) -> Result<Self, String> {
        let words = headers
            .get(header::WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let member = |name: &str| {
            let (_, rest) = words.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let audience = member("resource")
            .or_else(|| member("scope").map(|scope| scope.trim_end_matches("/.default").to_owned()));
        let audience =
            audience.ok_or("response has no WWW-Authenticate header for challenge authentication")?;
        let authority = member("authorization").unwrap_or_default();
        let tenant = authority
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let domain = url::Url::parse(&audience)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        if host.to_lowercase().ends_with(&format!(".{domain}")) {
            let tenant = tenant.to_owned();
            Ok(Self { audience, tenant })
        } else {
            Err(format!(
                "challenge resource \"{audience}\" doesn't match the requested domain. See \
                 https://aka.ms/azsdk/blog/vault-uri"
            ))
        }
    }
}

/// A refusal as the Azure SDK for Go prints it.
fn block(url: &str, reply: &Reply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let code = match text(&body, "/error/code") {
        "" => "ERROR CODE UNAVAILABLE".to_owned(),
        code => format!("ERROR CODE: {code}"),
    };
    format!(
        "GET {url}\n{RULE}\nRESPONSE {}: {}\n{code}\n{RULE}\n{}\n{RULE}\n",
        reply.status.as_u16(),
        reply.status,
        pretty(reply, &body)
    )
}

fn refused_identity(reply: &Reply, body: &Value) -> String {
    let assigned = reply.status == StatusCode::BAD_REQUEST
        && text(body, "/error_description").contains("Identity not found");
    let words = if assigned {
        "the requested identity isn't assigned to this resource"
    } else {
        ""
    };
    format!(
        "ManagedIdentityCredential authentication failed. {words}\nGET \
         http://169.254.169.254/metadata/identity/oauth2/token\n{RULE}\nRESPONSE {}: {}\n{RULE}\n{}\n{RULE}\nTo \
         troubleshoot, visit https://aka.ms/azsdk/go/identity/troubleshoot#managed-id",
        reply.status.as_u16(),
        reply.status,
        pretty(reply, body)
    )
}

fn pretty(reply: &Reply, body: &Value) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    if body.is_null() {
        return text.into_owned();
    }
    indented(&text)
}

/// JSON with line breaks and two spaces per level, its members in the order in which they came over the wire.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0, false, false);
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    let mut letters = json.chars().filter(|letter| !letter.is_control()).peekable();
    while let Some(letter) = letters.next() {
        if quoted {
            out.push(letter);
            quoted = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            ' ' => {}
            '{' | '[' => {
                out.push(letter);
                while letters.next_if_eq(&' ').is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => {
                quoted = other == '"';
                out.push(other);
            }
        }
    }
    out
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_indented_without_changing_its_order() {
        let text = r#"{"z": {"b":"{,:\"}","a":[1, 2],"e":{}}}"#;
        let lines = [
            "{",
            r#"  "z": {"#,
            r#"    "b": "{,:\"}","#,
            r#"    "a": ["#,
            "      1,",
            "      2",
            "    ],",
            r#"    "e": {}"#,
            "  }",
            "}",
        ];
        assert_eq!(indented(text), lines.join("\n"));
    }

    #[test]
    fn only_a_challenge_of_the_vaults_own_domain_is_followed() {
        let headers = |words: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(words));
            headers
        };
        let good = headers(
            r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net""#,
        );
        let expected = Challenge {
            audience: "https://vault.azure.net".into(),
            tenant: "t".into(),
        };
        assert_eq!(Challenge::read(&good, "v.vault.azure.net"), Ok(expected));
        let bad = headers(r#"Bearer authorization="https://x/t", resource="https://vault.evil.net""#);
        assert!(Challenge::read(&bad, "v.vault.azure.net").is_err());
    }
}
