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
    /// The run, and what it plans by ID.
    planned: Mutex<(usize, BTreeMap<String, Planned>)>,
}

/// What one run plans under one ID.
#[derive(Default)]
struct Planned {
    is_created: bool,
    /// While it applies, Terraform plans the removal of what a new one has replaced already.
    is_made: bool,
    is_destroyed: bool,
}

/// What a resource is going to do.
#[derive(Clone, Copy)]
pub(super) enum Intent {
    Create,
    Destroy,
}

/// Two resources of one run are the same binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// Both are to come.
    Same,
    /// One is to come and one to go.
    Moved,
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

    /// Notes what a run plans under an ID; something, if another resource of the run is the same binding.
    pub(super) fn plans(&self, id: &str, run: usize, intent: Intent) -> Option<Clash> {
        // Where a creation that was to come first stopped half way, the state holds both under one ID.
        let has_two = self.of(id).instances.len() > 1;
        let mut all = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        if all.0 != run {
            *all = (run, BTreeMap::new());
        }
        let planned = all.1.entry(id.to_ascii_lowercase()).or_default();
        let was_created = planned.is_created;
        match intent {
            Intent::Create => planned.is_created = true,
            Intent::Destroy => planned.is_destroyed = true,
        }
        if was_created && matches!(intent, Intent::Create) {
            return Some(Clash::Same);
        }
        (planned.is_created && !planned.is_made && planned.is_destroyed && !has_two).then_some(Clash::Moved)
    }

    /// Notes that a creation is being applied.
    pub(super) fn makes(&self, id: &str) {
        let mut all = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        all.1.entry(id.to_ascii_lowercase()).or_default().is_made = true;
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
