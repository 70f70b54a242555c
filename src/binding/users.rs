//! Who uses what bindings of one cluster share, while this process runs.
//!
//! A binding that is being made looks first and writes its SecretProviderClass later. In between nobody can see in the
//! cluster that it is going to need the grant it found. So it says so here, and one that goes at the same time leaves
//! the grant alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use crate::azure::ids::{ClusterId, VaultId};

/// The users of each vault from each cluster.
#[derive(Default)]
pub(super) struct Users(Mutex<HashMap<(ClusterId, VaultId), Entry>>);

#[derive(Clone, Default)]
struct Entry {
    /// Shared by those who use it.
    using: Arc<tokio::sync::RwLock<()>>,
    /// Held by the one who takes it back: they take turns, so that the last one sees that it is the last.
    leaving: Arc<tokio::sync::Mutex<()>>,
}

/// Says, while it lives, that somebody uses it.
pub(super) struct Using(#[expect(dead_code, reason = "held, not read")] OwnedRwLockReadGuard<()>);

/// Says, while it lives, that it is being taken back and nobody uses it.
pub(super) struct Leaving {
    #[expect(dead_code, reason = "held, not read")]
    turn: OwnedMutexGuard<()>,
    #[expect(dead_code, reason = "held, not read")]
    alone: OwnedRwLockWriteGuard<()>,
}

impl Users {
    fn entry(&self, cluster: &ClusterId, vault: &VaultId) -> Entry {
        // A panic elsewhere does not make a map of locks wrong.
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .entry((cluster.clone(), vault.clone()))
            .or_default()
            .clone()
    }

    /// Announces a user; waits while it is being taken back.
    pub(super) async fn using(&self, cluster: &ClusterId, vault: &VaultId) -> Using {
        Using(self.entry(cluster, vault).using.read_owned().await)
    }

    /// A turn at taking it back; none if somebody uses it now.
    pub(super) async fn leaving(&self, cluster: &ClusterId, vault: &VaultId) -> Option<Leaving> {
        let entry = self.entry(cluster, vault);
        let turn = entry.leaving.lock_owned().await;
        let alone = entry.using.try_write_owned().ok()?;
        Some(Leaving { turn, alone })
    }
}
