//! A sandbox in a process of its own, and what clients of others need to talk to it: transports and credentials.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running sandbox; it ends with this.
pub struct World {
    /// The ready line.
    pub ready: Value,
    dir: PathBuf,
    binary: PathBuf,
    _child: Child,
}

impl World {
    /// The default world, at `fast`.
    pub async fn start(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let binary = match option_env!("KVTLS_SANDBOX_BINARY") {
            Some(binary) => PathBuf::from(binary),
            None => root.join("target/debug/kvtls-sandbox"),
        };
        let dir = std::env::temp_dir().join(format!("judges-{}-{name}", std::process::id()));
        let mut child = Command::new(&binary)
            .args(["serve", "--until-stdin-closes", "--rate", "60", "--dir"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `cargo build` first", binary.display()));
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        tokio::time::timeout(Duration::from_secs(60), output.read_line(&mut line))
            .await
            .expect("the sandbox is ready within a minute")
            .unwrap();
        Self {
            ready: serde_json::from_str(&line).unwrap(),
            dir,
            binary,
            _child: child,
        }
    }

    /// The variables of a principal.
    pub async fn environment(&self, principal: &str, mode: &str) -> BTreeMap<String, String> {
        let output = Command::new(&self.binary)
            .args([
                "env", "--format", "json", "--as", principal, "--mode", mode, "--dir",
            ])
            .arg(&self.dir)
            .output()
            .await
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A client that knows the run's authority; through the proxy for names, straight for ports.
    pub async fn http(&self, mode: &str) -> reqwest::Client {
        let authority = std::fs::read(self.dir.join("ca.pem")).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let client = match mode {
            "names" => client.proxy(reqwest::Proxy::https(self.ready["proxy"].as_str().unwrap()).unwrap()),
            _ => client,
        };
        client.build().unwrap()
    }

    /// The front, without a slash.
    pub fn front(&self) -> &str {
        self.ready["front"].as_str().unwrap()
    }

    /// A token of this principal.
    pub async fn token(&self, principal: &str, scope: &str) -> String {
        let environment = self.environment(principal, "ports").await;
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope={scope}",
            environment["ARM_CLIENT_ID"],
            environment["ARM_CLIENT_SECRET"].replace('~', "%7E")
        );
        let url = format!(
            "{}/{}/oauth2/v2.0/token",
            self.front(),
            environment["ARM_TENANT_ID"]
        );
        let client = self.http("ports").await;
        let answer = client
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        body["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("{body}"))
            .to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// The transport of the old generation of clients, over the HTTP crate of the new one.
#[derive(Debug)]
pub struct OldTransport(pub reqwest::Client);

#[async_trait::async_trait]
impl azure_core_021::HttpClient for OldTransport {
    async fn execute_request(
        &self,
        request: &azure_core_021::Request,
    ) -> azure_core_021::Result<azure_core_021::Response> {
        use azure_core_021::error::{ErrorKind, ResultExt as _};
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .context(ErrorKind::DataConversion, "method")?;
        let mut sent = self.0.request(method, request.url().as_str());
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        if let azure_core_021::Body::Bytes(body) = request.body() {
            sent = sent.body(body.clone());
        }
        let answer = sent.send().await.context(ErrorKind::Io, "request")?;
        let status = azure_core_021::StatusCode::try_from(answer.status().as_u16())
            .map_err(|_| azure_core_021::Error::message(ErrorKind::DataConversion, "status"))?;
        let headers: HashMap<_, _> = answer
            .headers()
            .iter()
            .map(|(name, value)| {
                let value = value.to_str().unwrap_or_default().to_owned();
                (
                    azure_core_021::headers::HeaderName::from(name.as_str().to_owned()),
                    azure_core_021::headers::HeaderValue::from(value),
                )
            })
            .collect();
        let body = answer.bytes().await.context(ErrorKind::Io, "body")?;
        let stream = Box::pin(futures::stream::once(async move { Ok(body) }));
        Ok(azure_core_021::Response::new(status, headers.into(), stream))
    }
}

/// A credential of the old generation that holds one token.
#[derive(Debug)]
pub struct OldToken(pub String);

#[async_trait::async_trait]
impl azure_core_021::auth::TokenCredential for OldToken {
    async fn get_token(&self, _scopes: &[&str]) -> azure_core_021::Result<azure_core_021::auth::AccessToken> {
        let later = time::OffsetDateTime::now_utc() + Duration::from_secs(3000);
        Ok(azure_core_021::auth::AccessToken::new(self.0.clone(), later))
    }

    async fn clear_cache(&self) -> azure_core_021::Result<()> {
        Ok(())
    }
}

/// Status and code of an error of the old generation.
pub fn refusal(error: &azure_core_021::Error) -> (u16, String) {
    match error.kind() {
        azure_core_021::error::ErrorKind::HttpResponse { status, error_code } => {
            (u16::from(*status), error_code.clone().unwrap_or_default())
        }
        other => panic!("{other:?}: {error}"),
    }
}

/// A credential of the new generation: a client secret, at the sandbox's authority.
pub async fn secret_credential(
    world: &World,
    principal: &str,
    mode: &str,
) -> Arc<azure_identity::ClientSecretCredential> {
    let environment = world.environment(principal, mode).await;
    let options = azure_identity::ClientSecretCredentialOptions {
        client_options: client_options(world, mode).await,
    };
    azure_identity::ClientSecretCredential::new(
        &environment["AZURE_TENANT_ID"],
        environment["AZURE_CLIENT_ID"].clone(),
        environment["AZURE_CLIENT_SECRET"].clone().into(),
        Some(options),
    )
    .unwrap()
}

/// Options of the new generation whose transport reaches the sandbox.
pub async fn client_options(world: &World, mode: &str) -> azure_core::http::ClientOptions {
    azure_core::http::ClientOptions {
        transport: Some(azure_core::http::Transport::new(Arc::new(world.http(mode).await))),
        ..Default::default()
    }
}
