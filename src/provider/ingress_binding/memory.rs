//! What this process has learnt about bindings from their stored states.
//!
//! The plan of a creation gets no prior state, not even where it replaces one that is tainted because its creation
//! failed half way. But Terraform hands every stored state to the provider first, in the same process: so a creation
//! can see that it is to go on where another stopped, and that objects of its own binding may be taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::binding::observation::Observation;
use crate::framework::Value;

/// Remembered bindings, by ID without case.
#[derive(Default)]
pub(super) struct Memories {
    bindings: Mutex<BTreeMap<String, Memory>>,
    /// The run, and the IDs of creations planned in it.
    planned: Mutex<(usize, BTreeSet<String>)>,
}

/// One binding.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Stamps of its creations.
    pub(super) instances: BTreeSet<String>,
    /// The phase in which an unfinished creation stopped.
    pub(super) unfinished: Option<String>,
    /// Whether its objects could not be seen when it was read.
    pub(super) cluster_unseen: bool,
}

impl Memories {
    /// Remembers a stored state.
    pub(super) fn remember(&self, state: &Value) {
        let (Some(id), Some(instance)) = (state.get("id").as_str(), state.get("instance_id").as_str()) else {
            return;
        };
        let phase = state.get("status").get("phase").as_str().unwrap_or("pending");
        let mut memories = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memories.entry(id.to_ascii_lowercase()).or_default();
        memory.instances.insert(instance.to_owned());
        memory.unfinished = is_unfinished(phase, state).then(|| phase.to_owned());
    }

    /// Remembers what a read could see.
    pub(super) fn saw(&self, id: &str, seen: &Observation) {
        let mut memories = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memories.entry(id.to_ascii_lowercase()).or_default();
        memory.cluster_unseen = !seen.cluster_was_seen();
    }

    /// Counts the creations that this process plans under one ID, since it was configured. There can be one.
    pub(super) fn is_planned_twice(&self, id: &str, run: usize) -> bool {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        if planned.0 != run {
            *planned = (run, BTreeSet::new());
        }
        !planned.1.insert(id.to_ascii_lowercase())
    }

    /// What is known of a binding.
    pub(super) fn of(&self, id: &str) -> Memory {
        let memories = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        memories
            .get(&id.to_ascii_lowercase())
            .cloned()
            .unwrap_or_default()
    }
}

/// Whether a creation had not come to its end in this phase.
pub(super) fn is_unfinished(phase: &str, state: &Value) -> bool {
    let level = state.get("verify").get("level").as_str().unwrap_or("auto");
    let has_edge = !state.get("ingress").is_null() || !state.get("gateway").is_null();
    match (phase, level) {
        ("pending" | "azure", _) => true,
        ("objects", level) => level != "none",
        ("synced", "auto") => has_edge,
        ("synced" | "unverified", "served") => has_edge,
        _ => false,
    }
}
