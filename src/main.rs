//! The provider's executable: starts the log, serves the provider; nothing else.

use std::process::ExitCode;

use kvtls::go_plugin::{self, Plugin, logging};
use kvtls::tfplugin6::generated::provider_server::{Provider, ProviderServer};

/// Stands in until the provider exists: every method answers UNIMPLEMENTED.
struct Nothing;

impl Provider for Nothing {}

fn main() -> ExitCode {
    logging::start("kvtls", &[]);
    go_plugin::serve(Plugin {
        name: "kvtls",
        address: "registry.terraform.io/kvtls/kvtls",
        version: env!("CARGO_PKG_VERSION"),
        service: ProviderServer::new(Nothing),
    })
}
