//! The sandbox, judged from outside: over its sockets, its command line and its control API.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests but not their helpers; a panic there is the test's failure"
)]

mod arm;
mod client;
mod control;
mod entra;
mod faults;
mod front;
mod identities;
mod kubectl;
mod kubernetes;
mod mounts;
mod process;
mod signing_in;
mod vault;
