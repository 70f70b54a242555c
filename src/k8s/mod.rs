//! What we touch in a cluster, under which field manager.
//!
//! Objects are untyped JSON: what the API server answers is what plan and state show, and no field is lost because a
//! model did not know it. Writing is server-side apply only, always as [`FIELD_MANAGER`].
//!
//! Next: [`Kubernetes`] for the verbs, [`ownership`] for whose a field is, [`edge`] for what is really served.

mod connect;
pub mod edge;
mod error;
mod objects;
pub mod ownership;
mod proxy;
mod secret;

use std::sync::Arc;

use serde_json::Value;

pub use connect::{ConnectSettings, TokenSource};
pub use error::Error;
pub use objects::{
    CRD, CSI_DRIVER, DAEMON_SET, DEPLOYMENT, EVENT, INGRESS, INGRESS_CLASS, Kind, NAMESPACE, ObjectRef, POD,
    REPLICA_SET, SECRET, SECRET_PROVIDER_CLASS, SERVICE, SERVICE_ACCOUNT, SPC_POD_STATUS,
};
pub use proxy::ProxySettings;
pub use secret::SecretCertificate;

/// The field manager of everything we apply.
pub const FIELD_MANAGER: &str = "kvtls";

/// A connection to one API server. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Kubernetes;

fn unfinished<T>() -> Result<T, Error> {
    Err(Error::Settings {
        reason: "not written yet".to_owned(),
    })
}

#[expect(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::unused_async,
    reason = "signatures only, bodies follow"
)]
impl Kubernetes {
    pub async fn connect(
        _kubeconfig: &str,
        _token: Option<Arc<dyn TokenSource>>,
        _settings: &ConnectSettings,
    ) -> Result<Self, Error> {
        unfinished()
    }
    pub fn server(&self) -> &str {
        ""
    }
    pub async fn get(&self, _object: &ObjectRef) -> Result<Option<Value>, Error> {
        unfinished()
    }
    pub async fn list(
        &self,
        _kind: Kind,
        _namespace: Option<&str>,
        _labels: &str,
    ) -> Result<Vec<Value>, Error> {
        unfinished()
    }
    pub async fn apply(
        &self,
        _object: &ObjectRef,
        _manifest: &Value,
        _force: bool,
        _dry_run: bool,
    ) -> Result<Value, Error> {
        unfinished()
    }
    pub async fn delete(&self, _object: &ObjectRef, _uid: Option<&str>) -> Result<bool, Error> {
        unfinished()
    }
    pub async fn wait<T>(
        &self,
        _object: &ObjectRef,
        _judge: impl FnMut(Option<&Value>) -> Option<T> + Send,
    ) -> Result<T, Error> {
        unfinished()
    }
    pub async fn wait_metadata<T>(
        &self,
        _object: &ObjectRef,
        _judge: impl FnMut(Option<&Value>) -> Option<T> + Send,
    ) -> Result<T, Error> {
        unfinished()
    }
    pub async fn secret_certificate(
        &self,
        _namespace: &str,
        _name: &str,
    ) -> Result<Option<SecretCertificate>, Error> {
        unfinished()
    }
}
