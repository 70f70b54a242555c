//! The provider's executable: starts the log, serves the provider; nothing else.

use std::process::ExitCode;

use kvtls::go_plugin::{self, Plugin, logging};
use kvtls::provider::Kvtls;
use kvtls::tfplugin6;

/// Names of fields whose text may be logged: names of things, never values of attributes or contents.
const LOGGED: &[&str] = &[
    "step",
    "object",
    "operation",
    "target",
    "error",
    "status",
    "method",
    "host",
    "path",
    "subject",
    "cluster",
    "cause",
    "state",
    "verb",
];

fn main() -> ExitCode {
    logging::start("kvtls", LOGGED);
    go_plugin::serve(Plugin {
        name: "kvtls",
        address: "registry.terraform.io/kvtls/kvtls",
        version: env!("CARGO_PKG_VERSION"),
        service: tfplugin6::service(Kvtls::new()),
    })
}
