//! The world of the demo, in this process.

use std::path::Path;

use super::visitor::Environment;

pub(super) struct World;

impl World {
    pub(super) async fn start(_dir: &Path) -> Result<Self, String> {
        Err("not integrated".to_owned())
    }

    pub(super) fn environment(&self, _principal: &str) -> Environment {
        Environment::new()
    }

    pub(super) async fn stop(self) {}
}
