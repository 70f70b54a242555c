//! The world of the demo, in this process.

use std::path::Path;

use super::super::{ControlPlaneKind, Mode, Options, Sandbox};
use super::visitor::Environment;

/// A running sandbox with its folder.
pub(super) struct World(Sandbox);

impl World {
    /// Starts the default world with its files in `dir`.
    pub(super) async fn start(dir: &Path, control_plane: ControlPlaneKind) -> Result<Self, String> {
        let options = Options {
            dir: Some(dir.to_owned()),
            control_plane,
            ..Options::default()
        };
        let started = Sandbox::start(options).await;
        started
            .map(Self)
            .map_err(|error| format!("the sandbox did not start: {error}"))
    }

    /// The variables of a principal.
    pub(super) fn environment(&self, principal: &str) -> Environment {
        self.0.environment(principal, Mode::Names)
    }

    /// Takes it down.
    pub(super) async fn stop(self) {
        self.0.stop().await;
    }
}
