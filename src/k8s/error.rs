//! What can go wrong with a Kubernetes API server, grouped by what a caller can do about it.
//!
//! Every variant names the operation and the object and keeps what the server said.

use std::error::Error as StdError;
use std::sync::Arc;

/// A failed call. `Display` is one clause without the cause.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig or the connection settings cannot be used.
    #[error("the Kubernetes connection cannot be set up: {reason}")]
    Settings {
        /// What is wrong.
        reason: String,
    },
    /// The server does not know the kind: its CRD is missing, or its version is another.
    #[error("{operation} {object}: the server does not serve the kind")]
    NotServed {
        /// The verb, as "apply".
        operation: String,
        /// On what.
        object: String,
        /// The server's words.
        message: String,
    },
    /// The caller lacks a right, or an admission policy refused.
    #[error("{verb} {object} is not allowed")]
    Forbidden {
        /// The verb.
        verb: String,
        /// On what.
        object: String,
        /// The server's words.
        message: String,
    },
    /// The server does not accept the caller's credential at all.
    #[error("{operation} {object}: the server does not accept the credential")]
    Unauthorized {
        /// The verb.
        operation: String,
        /// On what.
        object: String,
        /// The server's words, or why no token could be had.
        message: String,
    },
    /// Fields belong to other field managers, or the object changed in between.
    #[error("{operation} {object} conflicts with other managers")]
    Conflict {
        /// The verb.
        operation: String,
        /// On what.
        object: String,
        /// Each other manager and the field it owns; empty where the conflict is one of versions or identity.
        managers: Vec<(String, String)>,
        /// The server's words.
        message: String,
    },
    /// The server, or a webhook it asked, finds the object wrong.
    #[error("{operation} {object}: the server finds it invalid")]
    Invalid {
        /// The verb.
        operation: String,
        /// On what.
        object: String,
        /// Each field and what is wrong with it; empty where the server named none.
        causes: Vec<(String, String)>,
        /// The server's words.
        message: String,
    },
    /// No answer: name resolution, connection, TLS, proxy, or none in time. A write may have arrived.
    #[error("{operation} {object}: no answer from {server}")]
    Unreachable {
        /// The verb.
        operation: String,
        /// On what.
        object: String,
        /// The API server's URL.
        server: String,
        /// Why.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The object's namespace does not exist.
    #[error("{operation} {object}: namespace \"{namespace}\" does not exist")]
    NamespaceMissing {
        /// The verb.
        operation: String,
        /// On what.
        object: String,
        /// The namespace.
        namespace: String,
    },
    /// The object's namespace is being deleted and takes nothing new.
    #[error("{operation} {object}: the namespace is being deleted")]
    Terminating {
        /// The verb.
        operation: String,
        /// On what.
        object: String,
        /// The server's words.
        message: String,
    },
    /// Anything else: overload that did not pass, an answer that is none.
    #[error("{operation} {object} failed with status {status}")]
    Unexpected {
        /// The verb.
        operation: String,
        /// On what.
        object: String,
        /// The HTTP status; 0 where it is not about one.
        status: u16,
        /// The server's words.
        message: String,
    },
}
