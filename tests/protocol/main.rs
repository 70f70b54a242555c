//! The built executable against a minimal plugin host; no Terraform, no Azure.
//!
//! - `handshake`: who is answered, and with which line
//! - `lifecycle`: how a process lives and ends
//! - `hostile`: what strangers on the socket cannot do
//! - `log`: what the host's log gets to read
//! - `wire`: numbers and names of the protocol
//!
//! And the service within this process, with a provider of its own ([`example`]) that misbehaves on request:
//!
//! - `rpcs`: every RPC
//! - `contract`: what breaks a rule of Terraform never leaves
//! - `values`: numbers, unknowns and hostile bytes
//! - `families`: functions, ephemeral resources, lists, actions, moves and deferrals, with [`garden`]
//! - `identities`: what tells one of its objects from all others
//! - `ends`: its calls that end in a panic, or not at all
//! - `cli`: the same provider under the real CLI, attached to this process
//! - `process`: the provider of `examples/framework`, in a process of its own, under the real CLI
//! - `rules`: Terraform's rules, one row each
//! - `properties`: what holds for all values, and for all bytes

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../support/core.rs"]
mod core;
#[path = "../support/host.rs"]
mod host;

mod cli;
mod contract;
mod ends;
mod example;
mod families;
mod garden;
mod handshake;
mod hostile;
mod identities;
mod lifecycle;
mod log;
mod process;
mod properties;
mod rpcs;
mod rules;
mod values;
mod wire;
