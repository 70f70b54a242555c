//! Where requests arrive.
//!
//! [`listener`] accepts connections and speaks TLS, [`proxy`] lets names of this world through and no others. Here a
//! request finds its plane, by the port it came to and the host it asked for, and passes the gate that all planes
//! share ([`gate`]): faults, journal, `Date`.

pub(crate) mod action;
mod gate;
pub(crate) mod listener;
mod metadata;
mod named;
pub(crate) mod names;
mod proxy;
pub(crate) mod refusals;
mod socket;
pub(crate) mod tls;

use std::sync::Arc;

use http::{StatusCode, Uri, header};
use serde_json::json;

use super::assembly::Running;
use super::core::{Cluster, TokenFault};
use super::entra::{APP_SERVICE, ARM_AUDIENCES, Directory, METADATA_SERVICE};
use super::http::{Answer, Incoming, json as json_answer, text};
use super::kubernetes::Identity;
use names::{Service, is_loopback};

/// What a connection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// TLS: the front, a vault, or a cluster.
    Tls(Service),
    /// The plain port: the proxy, and identity endpoints.
    Plain,
}

/// Who answers a request.
#[derive(Clone)]
enum Destination {
    Control,
    Arm,
    Metadata,
    Login,
    Graph,
    Issuer,
    /// The identity endpoint of a cluster's nodes, and the path below it.
    Identity {
        cluster: String,
        path: String,
    },
    /// The identity endpoints of the machine that commands run on.
    Machine,
    Vault(String),
    Cluster(Arc<Cluster>),
    /// A cluster that is starting or gone.
    Nobody,
}

impl Destination {
    fn find(running: &Running, port: &Port, request: &Incoming) -> Self {
        let path = request.uri().path();
        match port {
            Port::Plain => match path
                .strip_prefix("/clusters/")
                .and_then(|rest| rest.split_once('/'))
            {
                Some((cluster, rest)) => Self::Identity {
                    cluster: cluster.to_owned(),
                    path: format!("/{rest}"),
                },
                None if matches!(path, METADATA_SERVICE | APP_SERVICE) => Self::Machine,
                None => Self::Nobody,
            },
            Port::Tls(Service::Vault(name)) => Self::Vault(name.clone()),
            Port::Tls(Service::Cluster(name)) => running
                .core
                .clusters
                .get(name)
                .map_or(Self::Nobody, Self::Cluster),
            Port::Tls(_) => Self::behind_front(running, host(request), path),
        }
    }

    /// By `Host`; whoever asks for a name we do not have means ARM.
    fn behind_front(running: &Running, host: &str, path: &str) -> Self {
        let is_metadata = path.eq_ignore_ascii_case("/metadata/endpoints");
        match running.core.names.service(host) {
            Some(Service::Login) => Self::Login,
            Some(Service::Graph) => Self::Graph,
            Some(Service::Issuer) => Self::Issuer,
            Some(Service::Vault(name)) => Self::Vault(name),
            Some(Service::Loopback) if path == "/sandbox" || path.starts_with("/sandbox/") => Self::Control,
            _ if is_metadata => Self::Metadata,
            Some(Service::Loopback) if path.starts_with("/oidc/") => Self::Issuer,
            Some(Service::Loopback) if is_login(path) => Self::Login,
            _ => Self::Arm,
        }
    }

    fn plane(&self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Arm | Self::Metadata | Self::Nobody => "arm",
            Self::Login | Self::Issuer => "login",
            Self::Graph => "graph",
            Self::Identity { .. } | Self::Machine => "imds",
            Self::Vault(_) => "vault",
            Self::Cluster(_) => "kubernetes",
        }
    }

    async fn answer(&self, running: &Running, mut request: Incoming, peer: Option<Identity>) -> Answer {
        let core = &running.core;
        match self {
            Self::Control => super::control::answer(running, request).await,
            Self::Arm => {
                let audience_ok = |audience: &str| {
                    ARM_AUDIENCES.contains(&audience) || is_loopback(audience.trim_start_matches("https://"))
                };
                let caller = core
                    .directory
                    .judge(bearer(&request), audience_ok, core.clock.now());
                running.azure.answer_arm(request, caller).await
            }
            Self::Metadata => {
                let query = request.uri().query().unwrap_or_default();
                metadata::endpoints(&core.names, host(&request), query)
            }
            Self::Login => core
                .directory
                .answer(&request, &core.names.login_base(host(&request))),
            Self::Graph => graph(&request),
            Self::Issuer => {
                let vouched = core.directory.vouch(&request);
                vouched.unwrap_or_else(|| metadata::issuer(core, host(&request), &request))
            }
            Self::Machine => {
                let answer = core.directory.answer_machine(&request);
                answer.unwrap_or_else(|| metadata::not_imitated(&request))
            }
            Self::Identity { cluster, path } => {
                let query = request.uri().query().map(|query| format!("?{query}"));
                let below = format!("{path}{}", query.unwrap_or_default()).parse::<Uri>();
                if let Ok(below) = below {
                    *request.uri_mut() = below;
                }
                running.azure.answer_identity(cluster, request).await
            }
            Self::Vault(name) => running.azure.answer_vault(name, request).await,
            Self::Cluster(cluster) => {
                let peer = peer.and_then(|peer| local_account(cluster, peer));
                cluster.api.answer(request, peer).await
            }
            Self::Nobody => text(StatusCode::NOT_FOUND, "sandbox: nothing is played here"),
        }
    }
}

/// On loopback, ARM and the authority share an address; the authority's paths start with a tenant.
fn is_login(path: &str) -> bool {
    let second = path.trim_start_matches('/').split('/').nth(1);
    matches!(second, Some("oauth2" | "v2.0" | ".well-known" | "discovery"))
}

/// With local accounts off, the client certificates of the kubeconfigs are no longer good; the world's own actors go
/// on.
fn local_account(cluster: &Cluster, peer: Identity) -> Option<Identity> {
    let good = cluster.has_local_accounts() || peer.name.starts_with(ACTOR_NAMES);
    good.then_some(peer)
}

/// How the common names of the actors' client certificates start.
const ACTOR_NAMES: &str = "kvtls-sandbox:";

/// Microsoft Graph is refused with words: nothing of kvtls needs it.
fn graph(request: &Incoming) -> Answer {
    let message = format!(
        "sandbox: Microsoft Graph is not part of this world ({} {}).",
        request.method(),
        request.uri().path()
    );
    let body = json!({"error": {"code": "Authorization_RequestDenied", "message": message}});
    json_answer(StatusCode::FORBIDDEN, &body)
}

/// The host the caller asked for, as it was written.
fn host(request: &Incoming) -> &str {
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    named.or_else(|| request.uri().host()).unwrap_or_default()
}

/// The bearer token; empty without one.
fn bearer(request: &Incoming) -> &str {
    let value = request.headers().get(header::AUTHORIZATION);
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

/// The principal that asks for a token, by the client ID in the form.
fn login_client(directory: &Directory, request: &Incoming) -> Option<String> {
    let mut form = url::form_urlencoded::parse(request.body());
    let (_, client) = form.find(|(name, _)| name == "client_id")?;
    Some(directory.principal_by_client_id(&client)?.name)
}

/// Why a token is not good, for the log.
impl std::fmt::Display for TokenFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => formatter.write_str("there is no token"),
            Self::Malformed => formatter.write_str("the token is malformed"),
            Self::Signature => formatter.write_str("the token's signature is not valid"),
            Self::Expired(at) => write!(formatter, "the token expired at {at}"),
            Self::Audience(audience) => write!(formatter, "the token's audience is {audience}"),
            Self::Unknown => formatter.write_str("the token's principal does not exist"),
        }
    }
}
