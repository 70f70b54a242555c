//! A client that asks again and again while something changes, so that a gap would be seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::world::{HOST, World};

/// Shakes hands with the edge, over and over, until stopped.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Probe {
    pub(crate) fn start(world: &World, wanted: String) -> Self {
        let visitor = world.visitor("deployer");
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&looks));
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                match visitor.edge(HOST).await {
                    Ok(served) if served.leaf.thumbprint.to_string() == wanted => {}
                    Ok(served) => failures.push(format!("it served {}", served.leaf.subject)),
                    Err(error) => failures.push(error.to_string()),
                }
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            failures
        });
        Self { stop, looks, task }
    }

    /// What went wrong since the start; empty if every client was served what it should be.
    pub(crate) async fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let failures = self.task.await.expect("the probe ends");
        assert!(self.looks.load(Ordering::SeqCst) > 20, "the probe looked");
        failures
    }
}
