//! Asks the world as a stranger's script would: over HTTPS, with nothing but the environment it was given.
//!
//! A visitor is one principal. Everything it needs is in the variables that `kvtls-sandbox env` prints, so it works
//! against a world in this process and in another one alike.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Identity, Method, NoProxy, Proxy, StatusCode};
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::handshake;
use crate::tls::Leaf;

/// The environment of a principal, by variable.
pub type Environment = BTreeMap<String, String>;

/// How long one request may take; a `wait` of the control API is shorter.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at that nothing announces.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The API versions asked for: what the provider itself speaks is none of this file's business.
const CLUSTERS_VERSION: &str = "2025-07-01";
const ASSIGNMENTS_VERSION: &str = "2022-04-01";

/// One principal in the world.
#[derive(Clone)]
pub struct Visitor {
    environment: Environment,
    http: Client,
}

/// Why the world could not be asked, or what it said instead.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// The environment lacks a variable.
    #[error("the environment of the sandbox has no {0}")]
    Variable(&'static str),
    /// A file that the environment names cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The request did not come through.
    #[error("{method} {url}: {}", causes(.source))]
    Transport {
        /// The method.
        method: Method,
        /// Where to.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The answer is not a success.
    #[error("{method} {url}: {status} {body}")]
    Refused {
        /// The method.
        method: Method,
        /// Where to.
        url: String,
        /// The status.
        status: StatusCode,
        /// The answer's body.
        body: String,
    },
    /// The edge showed no certificate, or none that can be read.
    #[error("{host}: {reason}")]
    Handshake {
        /// The host asked for.
        host: String,
        /// What is wrong.
        reason: String,
    },
}

/// An answer whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The body as JSON; a string if it is something else.
    pub body: Value,
}

/// What a host answered at the edge, and with which certificate.
#[derive(Clone, Debug)]
pub struct Served {
    /// The leaf of the handshake.
    pub leaf: Leaf,
    /// The status of `GET /`.
    pub status: StatusCode,
    /// The answer's text.
    pub body: String,
}

impl Visitor {
    /// The principal of this environment.
    ///
    /// # Errors
    /// If a variable is missing or a file that it names cannot be used.
    pub fn new(environment: Environment) -> Result<Self, VisitError> {
        let http = client(&environment)?;
        Ok(Self { environment, http })
    }

    /// A variable of its environment.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn variable(&self, name: &'static str) -> Result<&str, VisitError> {
        self.environment
            .get(name)
            .map(String::as_str)
            .ok_or(VisitError::Variable(name))
    }

    /// All variables.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Calls the control API and wants success.
    ///
    /// # Errors
    /// If the call fails or is refused.
    pub async fn control(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, VisitError> {
        let url = format!("{}{path}", self.variable("KVTLS_SANDBOX")?.trim_end_matches('/'));
        self.send(
            &self.http,
            method,
            &url,
            None,
            body.map(|body| ("application/json", body)),
        )
        .await?
        .success()
    }

    /// Calls ARM as this principal. The path carries its `api-version`.
    ///
    /// # Errors
    /// If no token can be had or the call does not come through.
    pub async fn arm(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, VisitError> {
        let token = self.token("https://management.azure.com/.default").await?;
        let url = format!("https://management.azure.com{path}");
        let body = body.map(|body| ("application/json", body));
        Ok(self
            .send(&self.http, method, &url, Some(&token), body)
            .await?
            .reply)
    }

    /// The path of a managed cluster with the API version.
    ///
    /// # Errors
    /// If the environment has no subscription.
    pub fn cluster_path(&self, group: &str, cluster: &str) -> Result<String, VisitError> {
        let subscription = self.variable("ARM_SUBSCRIPTION_ID")?;
        Ok(format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerService/managedClusters/{cluster}?api-version={CLUSTERS_VERSION}"
        ))
    }

    /// The role assignments at a vault itself.
    ///
    /// # Errors
    /// As [`Visitor::arm`], and if the answer is a refusal.
    pub async fn assignments_at(&self, vault_id: &str) -> Result<Vec<Value>, VisitError> {
        let path = format!(
            "{vault_id}/providers/Microsoft.Authorization/roleAssignments?api-version={ASSIGNMENTS_VERSION}&$filter=atScope()"
        );
        let list = self.arm(Method::GET, &path, None).await?;
        let all = list.body["value"].as_array().cloned().unwrap_or_default();
        let here = |entry: &Value| {
            let scope = entry["properties"]["scope"].as_str().unwrap_or_default();
            scope.eq_ignore_ascii_case(vault_id)
        };
        Ok(all.into_iter().filter(here).collect())
    }

    /// Calls the Kubernetes API of the cluster as its kubeconfig's administrator. `body` comes with its content type.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used or the call does not come through.
    pub async fn kubernetes(
        &self,
        cluster: &str,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Reply, VisitError> {
        let context = Kubeconfig::read(self.variable("KUBECONFIG")?)?.context(cluster)?;
        let url = format!("{}{path}", context.server);
        let reply = self.send(&context.http, method, &url, context.token.as_deref(), body);
        Ok(reply.await?.reply)
    }

    /// Makes one fresh handshake with the host, by its name and through the proxy, and one request.
    ///
    /// # Errors
    /// If the handshake or the request fails.
    pub async fn edge(&self, host: &str) -> Result<Served, VisitError> {
        let unreachable = |reason: String| VisitError::Handshake {
            host: host.to_owned(),
            reason,
        };
        let proxy = self.variable("HTTPS_PROXY")?;
        let roots = handshake::roots(self.variable("SSL_CERT_FILE")?)?;
        let clock = self.control(Method::GET, "/clock", None).await?;
        let now = clock["now"]
            .as_str()
            .and_then(|now| OffsetDateTime::parse(now, &Rfc3339).ok());
        let since = now.and_then(|now| u64::try_from(now.unix_timestamp()).ok());
        let since = since.ok_or_else(|| unreachable("the world has no time".to_owned()))?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(since));
        handshake::get(proxy, host, roots, now).await.map_err(unreachable)
    }

    /// The thumbprint of a certificate's newest version in the vault, as the control API tells it.
    ///
    /// # Errors
    /// If the world cannot be asked, or has no such certificate.
    pub async fn vault_thumbprint(&self, vault: &str, certificate: &str) -> Result<String, VisitError> {
        let pointer = format!("/sandbox-answer/vaults/{vault}/certificates/{certificate}");
        let world = self.control(Method::GET, "/world", None).await?;
        let versions = &world["vaults"][vault]["certificates"][certificate];
        let newest = versions.as_array().and_then(|versions| versions.last());
        let thumbprint = newest.and_then(|version| version["thumbprint"].as_str());
        thumbprint.map(str::to_owned).ok_or_else(|| VisitError::File {
            path: pointer,
            reason: format!("no version with a thumbprint in {versions}"),
        })
    }

    /// Calls a vault's data plane as this principal. The path has no `api-version`.
    ///
    /// # Errors
    /// If no token can be had or the call does not come through.
    pub async fn vault(
        &self,
        vault: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, VisitError> {
        let token = self.token("https://vault.azure.net/.default").await?;
        let host = vault.to_ascii_lowercase();
        let url = format!("https://{host}.vault.azure.net{path}?api-version=7.4");
        let body = body.map(|body| ("application/json", body));
        Ok(self
            .send(&self.http, method, &url, Some(&token), body)
            .await?
            .reply)
    }

    /// The newest journal entries, one line each: what was asked, by whom, and what was answered.
    pub async fn journal_tail(&self, lines: usize) -> String {
        let journal = match self.control(Method::GET, "/journal", None).await {
            Ok(journal) => journal,
            Err(error) => return format!("(the journal cannot be read: {error})\n"),
        };
        let entries = journal["entries"].as_array().cloned().unwrap_or_default();
        let skip = entries.len().saturating_sub(lines);
        entries
            .iter()
            .skip(skip)
            .map(|entry| journal_line(entry) + "\n")
            .collect()
    }

    async fn token(&self, scope: &str) -> Result<String, VisitError> {
        let url = format!(
            "https://login.microsoftonline.com/{}/oauth2/v2.0/token",
            self.variable("ARM_TENANT_ID")?
        );
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", self.variable("ARM_CLIENT_ID")?)
            .append_pair("client_secret", self.variable("ARM_CLIENT_SECRET")?)
            .append_pair("scope", scope)
            .finish();
        let request = self
            .http
            .post(&url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let answer = receive(request, Method::POST, &url).await?.success()?;
        Ok(answer["access_token"].as_str().unwrap_or_default().to_owned())
    }

    async fn send(
        &self,
        http: &Client,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<(&str, &Value)>,
    ) -> Result<Received, VisitError> {
        let mut request = http
            .request(method.clone(), url)
            .header("accept", "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some((content_type, body)) = body {
            request = request
                .header("content-type", content_type)
                .body(body.to_string());
        }
        receive(request, method, url).await
    }
}

/// Looks until it sees something, or the time is over.
pub async fn until<T, F, Look>(patience: Duration, mut look: F) -> Option<T>
where
    F: FnMut() -> Look,
    Look: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return Some(seen);
        }
        if start.elapsed() > patience {
            return None;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

struct Received {
    method: Method,
    url: String,
    reply: Reply,
}

impl Received {
    fn success(self) -> Result<Value, VisitError> {
        if self.reply.status.is_success() {
            return Ok(self.reply.body);
        }
        Err(VisitError::Refused {
            method: self.method,
            url: self.url,
            status: self.reply.status,
            body: self.reply.body.to_string(),
        })
    }
}

async fn receive(
    request: reqwest::RequestBuilder,
    method: Method,
    url: &str,
) -> Result<Received, VisitError> {
    let transport = |source| VisitError::Transport {
        method: method.clone(),
        url: url.to_owned(),
        source,
    };
    let answer = request.send().await.map_err(transport)?;
    let status = answer.status();
    let text = answer.text().await.map_err(transport)?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Received {
        reply: Reply { status, body },
        url: url.to_owned(),
        method,
    })
}

/// A client as any user of this environment would have it: its proxy, its roots.
fn client(environment: &Environment) -> Result<Client, VisitError> {
    let bundle = environment
        .get("SSL_CERT_FILE")
        .ok_or(VisitError::Variable("SSL_CERT_FILE"))?;
    let unusable = |reason: String| VisitError::File {
        path: bundle.clone(),
        reason,
    };
    let pem = std::fs::read(bundle).map_err(|error| unusable(error.to_string()))?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
    let mut builder = Client::builder()
        .no_proxy()
        .tls_certs_only(roots)
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("kvtls-demo/1")
        .timeout(PATIENCE);
    if let Some(address) = environment.get("HTTPS_PROXY") {
        let exempt = environment
            .get("NO_PROXY")
            .and_then(|list| NoProxy::from_string(list));
        let proxy = Proxy::all(address).map_err(|error| unusable(error.to_string()))?;
        builder = builder.proxy(proxy.no_proxy(exempt));
    }
    builder.build().map_err(|error| unusable(error.to_string()))
}

/// The parts of a kubeconfig that a plain HTTPS client needs.
struct Kubeconfig {
    path: String,
    content: Value,
}

struct Context {
    server: String,
    http: Client,
    token: Option<String>,
}

impl Kubeconfig {
    fn read(path: &str) -> Result<Self, VisitError> {
        let unusable = |reason: String| VisitError::File {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let content = serde_saphyr::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    /// The administrator's context if there is one, else the cluster's own.
    fn context(&self, cluster: &str) -> Result<Context, VisitError> {
        let admin = self.named("contexts", &format!("{cluster}-admin"));
        let context = admin.or_else(|| self.named("contexts", cluster));
        let context = &context.ok_or_else(|| self.unusable("no context for this cluster"))?["context"];
        let part = |list: &str, of: &str| {
            let name = context[of].as_str().unwrap_or_default();
            self.named(list, name).map(|entry| entry[of].clone())
        };
        let target = part("clusters", "cluster").ok_or_else(|| self.unusable("no cluster"))?;
        let user = part("users", "user").ok_or_else(|| self.unusable("no user"))?;
        let authority = self.data(&target, "certificate-authority-data")?;
        let roots = Certificate::from_pem_bundle(&authority).map_err(|error| self.unusable(error))?;
        let mut builder = Client::builder()
            .no_proxy()
            .tls_certs_only(roots)
            .user_agent("kubectl/1")
            .timeout(PATIENCE);
        if user["client-certificate-data"].is_string() {
            let mut pem = self.data(&user, "client-certificate-data")?;
            pem.extend(self.data(&user, "client-key-data")?);
            builder = builder.identity(Identity::from_pem(&pem).map_err(|error| self.unusable(error))?);
        }
        Ok(Context {
            server: target["server"]
                .as_str()
                .unwrap_or_default()
                .trim_end_matches('/')
                .to_owned(),
            http: builder.build().map_err(|error| self.unusable(error))?,
            token: user["token"].as_str().map(str::to_owned),
        })
    }

    fn named(&self, list: &str, name: &str) -> Option<Value> {
        let entries = self.content[list].as_array()?;
        entries.iter().find(|entry| entry["name"] == name).cloned()
    }

    fn data(&self, of: &Value, member: &str) -> Result<Vec<u8>, VisitError> {
        use base64::Engine as _;
        let text = of[member].as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| self.unusable(format!("{member}: {error}")))
    }

    fn unusable(&self, reason: impl std::fmt::Display) -> VisitError {
        VisitError::File {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }
}

fn journal_line(entry: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut line = format!(
        "{:>5} {} {} {} as {} → {}",
        entry["n"],
        text(&entry["plane"]),
        text(&entry["method"]),
        text(&entry["url"]),
        text(&entry["as"]["name"]),
        entry["response"]["status"],
    );
    if entry["fault"].is_string() {
        line.push_str(&format!(" (fault {})", text(&entry["fault"])));
    }
    if entry["response"]["status"]
        .as_u64()
        .is_some_and(|status| status >= 400)
    {
        line.push_str(&format!(" {}", json!(entry["response"]["body"])));
    }
    line
}

/// An error with all its causes: what reqwest itself shows stops before the interesting part.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
