//! From a kubeconfig to a connection.
//!
//! kube brings the connection itself: TLS, client certificates, exec plugins, the proxy's tunnel. Its own reading of
//! the environment is left aside (one stray comma in `NO_PROXY` is an error there), and so is its retry, which repeats
//! 15 times.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use kube::config::{Cluster, Kubeconfig};
use x509_parser::pem::Pem;

use super::{Error, Kubernetes, ProxySettings};

/// A private cluster's address is often routed nowhere, so waiting longer only delays the message.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where tokens come from. Asked before each request, so it keeps them itself.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token that is valid now.
    ///
    /// # Errors
    /// Why there is none, in words a practitioner can act on.
    async fn token(&self) -> Result<String, String>;
}

/// How to reach the API server, beyond what the kubeconfig says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectSettings {
    /// An HTTP proxy; wins over the environment and over the kubeconfig.
    pub proxy_url: Option<String>,
    /// The User-Agent.
    pub user_agent: String,
}

impl Kubernetes {
    /// Gets ready to talk to the API server of a kubeconfig's current context. Nothing is asked of it yet.
    ///
    /// With a token source only the server and its CA are taken from the kubeconfig: an Entra cluster's names a login
    /// program that cannot run here. Without one its user is taken as it is.
    ///
    /// # Errors
    /// [`Error::Settings`] if it is no kubeconfig or cannot be used. What is in it is never part of the message.
    pub async fn connect(
        kubeconfig: &str,
        token: Option<Arc<dyn TokenSource>>,
        settings: &ConnectSettings,
    ) -> Result<Self, Error> {
        let config = config(
            kubeconfig,
            token.is_some(),
            settings,
            &ProxySettings::from_environment(),
        )?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = kube::Client::try_from(config).map_err(|error| unusable(&error.to_string()))?;
        Ok(Self::new(client, server, token))
    }
}

fn config(
    kubeconfig: &str,
    own_token: bool,
    settings: &ConnectSettings,
    environment: &ProxySettings,
) -> Result<kube::Config, Error> {
    // The parser's message would quote the line, and the line may hold a key.
    let Ok(parsed) = Kubeconfig::from_yaml(kubeconfig) else {
        return Err(unusable("it is no kubeconfig"));
    };
    let (cluster, user) = current(parsed)?;
    let server = cluster
        .server
        .as_deref()
        .ok_or_else(|| unusable("its cluster has no server"))?;
    let url: Uri = server
        .parse()
        .map_err(|error| unusable(&format!("its server \"{server}\" is no URL ({error})")))?;
    let host = url.host().unwrap_or_default().to_owned();
    let port = url.port_u16().unwrap_or(443);
    let mut config = kube::Config::new(url);
    config.root_cert = authorities(&cluster)?;
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    if !own_token {
        config.auth_info = user;
    }
    let proxy = settings
        .proxy_url
        .as_deref()
        .or_else(|| environment.for_host(&host, port))
        .or(cluster.proxy_url.as_deref());
    config.proxy_url = proxy.filter(|text| !text.is_empty()).map(proxy_url).transpose()?;
    if let Ok(value) = HeaderValue::from_str(&settings.user_agent) {
        config.headers.push((http::header::USER_AGENT, value));
    }
    Ok(config)
}

fn current(kubeconfig: Kubeconfig) -> Result<(Cluster, kube::config::AuthInfo), Error> {
    let name = kubeconfig.current_context.unwrap_or_default();
    let context = kubeconfig
        .contexts
        .into_iter()
        .find(|context| context.name == name);
    let context = context
        .and_then(|context| context.context)
        .ok_or_else(|| unusable(&format!("it has no context \"{name}\", its current one")))?;
    let cluster = kubeconfig
        .clusters
        .into_iter()
        .find(|cluster| cluster.name == context.cluster);
    let cluster = cluster
        .and_then(|cluster| cluster.cluster)
        .ok_or_else(|| unusable(&format!("it has no cluster \"{}\"", context.cluster)))?;
    let user = kubeconfig
        .auth_infos
        .into_iter()
        .find(|user| Some(&user.name) == context.user.as_ref());
    Ok((cluster, user.and_then(|user| user.auth_info).unwrap_or_default()))
}

/// The CA certificates, in DER.
fn authorities(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, Error> {
    let pem = match (
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    ) {
        (Some(data), _) => STANDARD
            .decode(data)
            .map_err(|error| unusable(&format!("its CA data is no base64 ({error})")))?,
        (None, Some(path)) => std::fs::read(path)
            .map_err(|error| unusable(&format!("its CA file {path} cannot be read ({error})")))?,
        (None, None) => return Ok(None),
    };
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(&pem).collect();
    let blocks = blocks.map_err(|error| unusable(&format!("its CA is no PEM ({error})")))?;
    Ok(Some(blocks.into_iter().map(|block| block.contents).collect()))
}

fn proxy_url(text: &str) -> Result<Uri, Error> {
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    // Without the text: a proxy's URL may hold a password.
    text.parse()
        .map_err(|error| unusable(&format!("the proxy's URL is no URL ({error})")))
}

fn unusable(reason: &str) -> Error {
    Error::Settings {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: aks
contexts: [{name: aks, context: {cluster: aks, user: me}}]
clusters: [{name: aks, cluster: {server: 'https://aks.hcp.eastus.azmk8s.io:443'}}]
users: [{name: me, user: {token: t0ken}}]
";

    fn read(text: &str, own_token: bool, proxy: &ProxySettings) -> Result<kube::Config, Error> {
        config(text, own_token, &ConnectSettings::default(), proxy)
    }

    #[test]
    fn with_tokens_of_our_own_the_kubeconfig_s_user_is_left_aside() {
        let none = ProxySettings::default();
        assert!(read(KUBECONFIG, false, &none).unwrap().auth_info.token.is_some());
        assert!(read(KUBECONFIG, true, &none).unwrap().auth_info.token.is_none());
    }

    #[test]
    fn the_proxy_is_the_settings_then_the_environment_s() {
        let environment = ProxySettings {
            https_proxy: Some("http://env:1".into()),
            no_proxy: Some("a,".into()),
        };
        let found = |settings: &ConnectSettings, environment: &ProxySettings| {
            config(KUBECONFIG, true, settings, environment)
                .unwrap()
                .proxy_url
                .map(|url| url.to_string())
        };
        let own = ConnectSettings {
            proxy_url: Some("own:2".into()),
            ..ConnectSettings::default()
        };
        assert_eq!(found(&own, &environment).as_deref(), Some("http://own:2/"));
        assert_eq!(
            found(&ConnectSettings::default(), &environment).as_deref(),
            Some("http://env:1/")
        );
        let excepted = ProxySettings {
            no_proxy: Some(".azmk8s.io".into()),
            ..environment
        };
        assert_eq!(found(&ConnectSettings::default(), &excepted), None);
    }

    #[test]
    fn a_broken_kubeconfig_is_not_quoted() {
        let broken = KUBECONFIG.replace("{token: t0ken}", "{token: [t0ken}");
        let error = read(&broken, false, &ProxySettings::default())
            .unwrap_err()
            .to_string();
        assert!(!error.contains("t0ken"), "{error}");
        let other = KUBECONFIG.replace("current-context: aks", "current-context: other");
        let error = read(&other, false, &ProxySettings::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("no context \"other\""), "{error}");
    }
}
