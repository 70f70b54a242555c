//! The provider's executable: starts the log, serves the provider; nothing else.

use std::process::ExitCode;

use kvtls::go_plugin::{self, Plugin, logging};
use kvtls::tfplugin6::generated::provider_server::{Provider, ProviderServer};
use kvtls::tfplugin6::generated::stop_provider;
use tonic::{Request, Response, Status};

/// Stands in until the provider exists: every other method answers UNIMPLEMENTED.
struct Nothing;

#[tonic::async_trait]
impl Provider for Nothing {
    async fn stop_provider(
        &self,
        _: Request<stop_provider::Request>,
    ) -> Result<Response<stop_provider::Response>, Status> {
        Ok(Response::new(stop_provider::Response::default()))
    }
}

fn main() -> ExitCode {
    logging::start("kvtls", &[]);
    go_plugin::serve(Plugin {
        name: "kvtls",
        address: "registry.terraform.io/kvtls/kvtls",
        version: env!("CARGO_PKG_VERSION"),
        service: ProviderServer::new(Nothing),
    })
}
