//! The same requests to the embedded API and to a real kube-apiserver: the same answers.
//!
//! Scripts are data, one file per group in `scripts/`: a list of requests, each with what is asked of both. Answers are
//! compared by status, chosen headers and body. What cannot be the same (uids, versions, times) is replaced by where it
//! first appeared, so that "unchanged" and "changed" still differ.
//!
//! `cargo control-plane` runs it; without the programs it fails, and says how to get them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows tests but not their helpers; a panic there is the test's failure"
)]

mod kubectl;
mod script;

use kvtls::sandbox::{ControlPlaneKind, Options, Sandbox};
use serde_json::json;

/// A world with an empty cluster: nobody but the script writes there, and the controllers of every cluster.
pub(crate) async fn world(kind: ControlPlaneKind) -> Sandbox {
    let cluster = json!({"objects": [], "edges": []});
    let world = json!({"version": 1, "extends": "default", "clusters": {"myAKSCluster": cluster}});
    let started = Sandbox::start(Options {
        world,
        control_plane: kind,
        ..Options::default()
    });
    started
        .await
        .unwrap_or_else(|error| panic!("the {kind:?} world does not start: {error}"))
}
