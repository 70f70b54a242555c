//! Locks by key for the whole process, so that bindings of one run do not write the same thing at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// One lock for each key, made when it is first asked for, and what its holders leave for the next one.
pub(super) struct Locks<K, V = ()>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<V>>>>);

impl<K, V> Default for Locks<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Default> Locks<K, V> {
    /// Waits until nobody else holds the key's lock.
    pub(super) async fn hold(&self, key: K) -> OwnedMutexGuard<V> {
        let lock = {
            // A panic elsewhere does not make a map of locks wrong.
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(key).or_default())
        };
        lock.lock_owned().await
    }
}
