//! Terraform's provider protocol, version 6: translation only.
//!
//! [`service`] turns a [`Provider`] into the gRPC service. What this layer promises:
//!
//! - Numbers go through unharmed, whatever their size; unknown stays unknown, null stays null ([`dynamic_value`]).
//! - Every failure is a diagnostic, never a gRPC status: a status would lose state. A panic of a handler is a
//!   diagnostic, too, and the state stays what it was, or becomes what an apply had saved ([`server`]).
//! - Private data comes back as given, every time.
//! - No value is logged.
//!
//! What a value or an answer must be like is not decided here but in [`crate::framework`].

pub mod decode;
pub mod dynamic_value;
pub mod encode;
pub mod generated;
pub mod server;

use crate::framework::{Provider, check};
use generated::provider_server::ProviderServer;
use server::Server;

/// The largest message either way; what Terraform's own provider servers allow.
const MAX_MESSAGE: usize = 256 << 20;

/// The gRPC service of `provider`. A debug build says in the log what [`check`] finds.
pub fn service(provider: impl Provider) -> ProviderServer<Server> {
    if cfg!(debug_assertions) {
        for fault in check(&provider) {
            tracing::error!("the provider is not sound: {fault}");
        }
    }
    ProviderServer::new(Server::new(provider))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}
