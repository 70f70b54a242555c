//! What we touch in a cluster, under which field manager.
//!
//! Objects are untyped JSON: what the API server answers is what plan and state show, and no field is lost because a
//! model did not know it. Writing is server-side apply only, always as [`FIELD_MANAGER`]. Of Secrets only metadata is
//! read, and [`Kubernetes::secret_certificate`] reads the public half of one, and whether its key fits.
//!
//! Next: [`Kubernetes`] for the verbs, [`ownership`] for whose a field is, [`edge`] for what is really served.

mod access;
mod client;
mod connect;
pub mod edge;
mod error;
mod key;
mod objects;
pub mod ownership;
mod proxy;
mod secret;
mod status;
mod tunnel;
mod verbs;
mod watch;

pub use access::Right;
pub use client::Kubernetes;
pub use connect::{ApiServer, ConnectSettings, TokenSource};
pub use error::Error;
pub use objects::{
    AUTOSCALER, CRD, CSI_DRIVER, DAEMON_SET, DEPLOYMENT, EVENT, GATEWAY, GATEWAY_CLASS, HTTP_ROUTE, INGRESS,
    INGRESS_CLASS, Kind, LISTENER_SET, NAMESPACE, ObjectRef, POD, REFERENCE_GRANT, REPLICA_SET, SECRET,
    SECRET_PROVIDER_CLASS, SERVICE, SERVICE_ACCOUNT, SPC_POD_STATUS,
};
pub use proxy::ProxySettings;
pub use secret::SecretCertificate;
pub use status::conflicts;

/// The field manager of everything we apply.
pub const FIELD_MANAGER: &str = "kvtls";
