//! The real CLI against the sandbox: the scenarios of the specification, under its numbers.
//!
//! Every case has a world of its own that runs sixty times as fast as real time, and ends, where that makes sense,
//! with a plan that has nothing to do. Without `terraform` or `tofu` the whole tier fails: it never passes unrun.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests are tests, too: they end one with words and show how far it came"
)]

use kvtls::sandbox::demo::QUICKSTART;

#[path = "../support/bindings.rs"]
mod bindings;
#[path = "../support/terraform.rs"]
mod terraform;
#[path = "../support/world.rs"]
mod world;

mod addon;
mod adopt;
mod azure_failures;
mod bad_input;
mod certificate;
mod changes;
mod cluster_addon;
mod connection;
mod contract;
mod create;
mod data_sources;
mod destroy;
mod drift;
mod failures;
mod faults;
mod gateway;
mod grants;
mod hygiene;
mod identity;
mod import;
mod ingress;
mod key_vault;
mod kubernetes_failures;
mod many;
mod objects;
mod preflight;
mod probe;
mod resume;
mod secrets;
mod services;
mod several;
mod teardown;
mod validity;
mod verify;
mod workload;

/// The quickstart with one more line in its binding.
fn with(line: &str) -> String {
    QUICKSTART.replacen("certificates = {", &format!("{line}\n  certificates = {{"), 1)
}
