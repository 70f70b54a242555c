//! Placeholder of the embedded Kubernetes API: the room `kube` owns this file.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;

use super::clock::Clock;
use super::http::{Answer, Incoming, text};

/// Who asks a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

/// What an API server is made from.
pub(crate) struct ApiSettings {
    pub name: String,
    pub version: String,
    pub clock: Clock,
    pub entra: Arc<dyn Fn(&str) -> Option<Identity> + Send + Sync>,
    pub static_tokens: BTreeMap<String, Identity>,
}

/// An API server.
pub(crate) struct ApiServer(ApiSettings);

impl ApiServer {
    pub(crate) fn new(settings: ApiSettings) -> Arc<Self> {
        Arc::new(Self(settings))
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Incoming, peer: Option<Identity>) -> Answer {
        let asking = peer.map_or("nobody".to_owned(), |peer| peer.name);
        text(
            StatusCode::OK,
            format!("{} {asking} {}", self.0.name, request.uri()),
        )
    }
}
