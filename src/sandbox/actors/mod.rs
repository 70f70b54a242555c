//! Placeholder of the world's controllers: the room `actors` owns this file.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::clock::Clock;
use super::core::AddonState;
use super::lag::Lags;

/// What a cluster's actors are made from.
pub(crate) struct ActorSettings {
    pub(crate) cluster: String,
    pub(crate) server: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) client_certificate_pem: String,
    pub(crate) client_key_pem: String,
    pub(crate) clock: Clock,
    pub(crate) lags: Lags,
    pub(crate) driver: String,
    pub(crate) identity_endpoint: String,
    pub(crate) vault_address: Arc<dyn Fn(&str) -> Option<SocketAddr> + Send + Sync>,
    pub(crate) front_roots: Arc<rustls::RootCertStore>,
    pub(crate) edges: Edges,
    pub(crate) addon: tokio::sync::watch::Receiver<AddonState>,
    pub(crate) vault_suffix: String,
}

/// A cluster's edges.
#[derive(Clone, Default)]
pub(crate) struct Edges;

impl Edges {
    pub(crate) fn by_host(&self, _host: &str) -> Option<SocketAddr> {
        None
    }

    pub(crate) fn by_address(&self, _address: IpAddr) -> Option<SocketAddr> {
        None
    }

    pub(crate) fn describe(&self) -> Value {
        json!({})
    }

    pub(crate) fn patch(&self, name: &str, _merge: &Value) -> Result<(), String> {
        Err(format!("there is no edge {name}"))
    }
}

/// A cluster's actors.
pub(crate) struct Actors(#[expect(dead_code, reason = "a placeholder")] ActorSettings);

impl Actors {
    pub(crate) fn start(settings: ActorSettings) -> Self {
        Self(settings)
    }

    pub(crate) async fn settle(&self, _timeout: Duration) -> Result<(), Vec<String>> {
        Ok(())
    }

    pub(crate) async fn stop(self) {}

    pub(crate) fn mounts(&self) -> Value {
        json!([])
    }
}
