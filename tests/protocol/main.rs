//! The built executable against a minimal plugin host; no Terraform, no Azure.
//!
//! - `handshake`: who is answered, and with which line
//! - `lifecycle`: how a process lives and ends
//! - `hostile`: what strangers on the socket cannot do
//! - `log`: what the host's log gets to read
//! - `wire`: numbers and names of the protocol

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../support/host.rs"]
mod host;

mod handshake;
mod hostile;
mod lifecycle;
mod log;
mod wire;
