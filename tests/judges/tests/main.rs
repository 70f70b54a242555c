//! Clients of Azure that others wrote, against the sandbox: what they send is understood, and what they read is there.
//!
//! They parse strictly, so a missing or wrongly typed member fails here before it misleads the provider's own tests.
//! `cargo build && cargo test --manifest-path tests/judges/Cargo.toml --target-dir target/judges`.

mod arm;
mod data;
