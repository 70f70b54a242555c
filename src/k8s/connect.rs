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
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

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
    /// A URL to dial instead of the kubeconfig's.
    pub server: Option<String>,
    /// The name that the server's certificate must hold; the dialled one unless set.
    pub tls_server_name: Option<String>,
    /// The User-Agent.
    pub user_agent: String,
}

/// An API server as a kubeconfig names it, without any credential: all that is needed beside a token. May be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiServer {
    /// Its URL.
    pub url: String,
    /// Its certificate authorities, PEM in base64; none for those that the system trusts.
    pub ca: Option<String>,
    /// The name its certificate holds, where that is not the URL's.
    pub tls_server_name: Option<String>,
    /// A proxy that leads there.
    pub proxy_url: Option<String>,
}

impl ApiServer {
    /// The API server of a kubeconfig's current context.
    ///
    /// # Errors
    /// [`Error::Settings`] if it is no kubeconfig or names none. What is in it is never part of the message.
    pub fn of_kubeconfig(kubeconfig: &str) -> Result<Self, Error> {
        server(&current(parse(kubeconfig)?)?.0)
    }

    /// When the cluster was made, as far as its certificate authority tells: AKS makes one with the cluster. Where it was
    /// rotated since, it is when that was.
    pub fn made_at(&self) -> Option<OffsetDateTime> {
        let authorities = authorities(self.ca.as_deref()?).ok()?;
        let not_before = |der: &Vec<u8>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some(certificate.validity().not_before.to_datetime())
        };
        authorities.iter().filter_map(not_before).min()
    }
}

impl Kubernetes {
    /// Gets ready to talk to the API server of a kubeconfig's current context as the user it names. Nothing is asked
    /// of it yet.
    ///
    /// # Errors
    /// [`Error::Settings`] if it is no kubeconfig, cannot be used, or its user has to log in with another program. What
    /// is in it is never part of the message.
    pub fn connect(kubeconfig: &str, settings: &ConnectSettings) -> Result<Self, Error> {
        let (cluster, user) = current(parse(kubeconfig)?)?;
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err(unusable("its user has to log in with another program"));
        }
        let mut config = config(&server(&cluster)?, settings, &ProxySettings::from_environment())?;
        config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
        config.auth_info = user;
        Self::of_config(config, None)
    }

    /// Gets ready to talk to an API server with tokens. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`Error::Settings`] if the server or the settings cannot be used.
    pub fn connect_with_token(
        server: &ApiServer,
        token: Arc<dyn TokenSource>,
        settings: &ConnectSettings,
    ) -> Result<Self, Error> {
        let config = config(server, settings, &ProxySettings::from_environment())?;
        Self::of_config(config, Some(token))
    }

    fn of_config(config: kube::Config, token: Option<Arc<dyn TokenSource>>) -> Result<Self, Error> {
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = kube::Client::try_from(config).map_err(|error| unusable(&error.to_string()))?;
        Ok(Self::new(client, server, token))
    }
}

/// The parser's message would quote the line, and the line may hold a key.
fn parse(kubeconfig: &str) -> Result<Kubeconfig, Error> {
    Kubeconfig::from_yaml(kubeconfig)
        .ok()
        .ok_or_else(|| unusable("it is no kubeconfig"))
}

fn server(cluster: &Cluster) -> Result<ApiServer, Error> {
    let url = cluster.server.clone();
    let ca = match (
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    ) {
        (Some(data), _) => Some(data.clone()),
        (None, Some(path)) => {
            let read = std::fs::read(path);
            let pem =
                read.map_err(|error| unusable(&format!("its CA file {path} cannot be read ({error})")))?;
            Some(STANDARD.encode(pem))
        }
        (None, None) => None,
    };
    Ok(ApiServer {
        url: url.ok_or_else(|| unusable("its cluster has no server"))?,
        ca,
        tls_server_name: cluster.tls_server_name.clone(),
        proxy_url: cluster.proxy_url.clone(),
    })
}

fn config(
    server: &ApiServer,
    settings: &ConnectSettings,
    environment: &ProxySettings,
) -> Result<kube::Config, Error> {
    let text = settings.server.as_deref().unwrap_or(&server.url);
    let url: Uri = text
        .parse()
        .map_err(|error| unusable(&format!("its server \"{text}\" is no URL ({error})")))?;
    let host = url.host().unwrap_or_default().to_owned();
    let port = url.port_u16().unwrap_or(443);
    let mut config = kube::Config::new(url);
    config.root_cert = server.ca.as_deref().map(authorities).transpose()?;
    let own_name = settings.tls_server_name.as_ref();
    config.tls_server_name = own_name.or(server.tls_server_name.as_ref()).cloned();
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    let proxy = settings
        .proxy_url
        .as_deref()
        .or_else(|| environment.for_host(&host, port))
        .or(server.proxy_url.as_deref());
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
fn authorities(data: &str) -> Result<Vec<Vec<u8>>, Error> {
    let pem = STANDARD
        .decode(data)
        .map_err(|error| unusable(&format!("its CA data is no base64 ({error})")))?;
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(&pem).collect();
    let blocks = blocks.map_err(|error| unusable(&format!("its CA is no PEM ({error})")))?;
    Ok(blocks.into_iter().map(|block| block.contents).collect())
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

    fn read(text: &str) -> Result<kube::Config, Error> {
        config(
            &ApiServer::of_kubeconfig(text)?,
            &ConnectSettings::default(),
            &ProxySettings::default(),
        )
    }

    #[test]
    fn of_a_server_only_its_address_is_kept() {
        let server = ApiServer::of_kubeconfig(KUBECONFIG).unwrap();
        assert!(!format!("{server:?}").contains("t0ken"));
        let other = ConnectSettings {
            server: Some("https://10.0.0.1:6443".to_owned()),
            tls_server_name: Some("aks".to_owned()),
            ..ConnectSettings::default()
        };
        let config = config(&server, &other, &ProxySettings::default()).unwrap();
        assert_eq!(config.cluster_url.to_string(), "https://10.0.0.1:6443/");
        assert_eq!(config.tls_server_name.as_deref(), Some("aks"));
    }

    #[test]
    fn the_proxy_is_the_settings_then_the_environment_s() {
        let environment = ProxySettings {
            https_proxy: Some("http://env:1".into()),
            no_proxy: Some("a,".into()),
        };
        let found = |settings: &ConnectSettings, environment: &ProxySettings| {
            config(
                &ApiServer::of_kubeconfig(KUBECONFIG).unwrap(),
                settings,
                environment,
            )
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
        let error = read(&broken).unwrap_err().to_string();
        assert!(!error.contains("t0ken"), "{error}");
        let other = KUBECONFIG.replace("current-context: aks", "current-context: other");
        let error = read(&other).unwrap_err().to_string();
        assert!(error.contains("no context \"other\""), "{error}");
    }
}
