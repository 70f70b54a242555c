//! The whole story with the real CLI: what somebody sees who never saw it before.
//!
//! The demo is a stranger to the world it starts: it knows the environment that `kvtls-sandbox serve` would write,
//! and nothing else. So whatever it shows can be repeated by hand, and `--keep` leaves the world up for that.
//!
//! Nothing is claimed that was not observed: every step looks at the plan, the edge, the vault or the cluster and
//! ends the demo with its evidence if what it sees is not what the heading says.
//!
//! Next: `steps` is the story, [`visitor`] how the world is asked, [`cli`] how the CLI is run.

pub mod changes;
pub mod cli;
mod handshake;
pub mod inventory;
mod provider_binary;
mod steps;
mod story;
pub mod visitor;
mod voice;
mod world;

pub use story::{Options, demo};

/// What `serve` and `demo` say first.
pub const WHAT_THIS_IS: &str = "\
This is a sandbox on 127.0.0.1. No subscription, vault or cluster of yours is read or changed, and nothing here can
reach one. It plays the API behaviour listed in docs/development/sandbox.md. Timing, limits, networking and anything
not listed there prove nothing about Azure: before production, run once against a real cluster.";

/// The configuration that the demo applies, as it stands in `examples/quickstart`.
pub const QUICKSTART: &str = include_str!("../../../examples/quickstart/main.tf");
