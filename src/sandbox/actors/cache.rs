//! What the actors know of the cluster: the objects of each kind as last seen, and a bell that rings on changes.
//!
//! Written by the reflectors and, so that an actor never acts twice on the same picture, by the answers to the
//! actors' own writes. Whatever is older than what is known already is ignored.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use super::kinds::Kind;
use super::objects::{key, key_of, uid, version};

/// Something whose changes an actor reacts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Objects(Kind),
    /// Files in a volume, or the outcome of a mount.
    Mounts,
    /// What Azure wants of the add-on.
    Addon,
    /// The edges' own settings.
    Edges,
    /// What the world file stages.
    Staged,
}

const TOPICS: usize = Kind::ALL.len() + 4;

/// Counts changes by topic, and wakes whoever waits for one.
pub(super) struct Bell {
    counts: [AtomicU64; TOPICS],
    rung: watch::Sender<()>,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            rung: watch::Sender::new(()),
        }
    }

    pub(super) fn ring(&self, topic: Topic) {
        self.counts[Self::index(topic)].fetch_add(1, Ordering::SeqCst);
        self.rung.send_replace(());
    }

    /// How often these topics changed so far.
    pub(super) fn count(&self, topics: &[Topic]) -> u64 {
        let of = |topic: &Topic| self.counts[Self::index(*topic)].load(Ordering::SeqCst);
        topics.iter().map(of).sum()
    }

    pub(super) fn listen(&self) -> watch::Receiver<()> {
        self.rung.subscribe()
    }

    fn index(topic: Topic) -> usize {
        match topic {
            Topic::Objects(kind) => kind as usize,
            Topic::Mounts => TOPICS - 4,
            Topic::Addon => TOPICS - 3,
            Topic::Edges => TOPICS - 2,
            Topic::Staged => TOPICS - 1,
        }
    }
}

/// The objects of every watched kind.
pub(super) struct Cache {
    stores: [Mutex<Store>; Kind::ALL.len()],
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Arc<Value>>,
    /// UIDs an actor deleted, until the watch says so too: late events must not bring them back.
    buried: HashSet<String>,
    /// Whether a first list has arrived.
    listed: bool,
}

impl Cache {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self {
            stores: std::array::from_fn(|_| Mutex::default()),
            bell,
        }
    }

    pub(super) fn all(&self, kind: Kind) -> Vec<Arc<Value>> {
        self.lock(kind).objects.values().cloned().collect()
    }

    pub(super) fn within(&self, kind: Kind, namespace: &str) -> Vec<Arc<Value>> {
        let store = self.lock(kind);
        let prefix = format!("{namespace}/");
        let objects = store.objects.range(prefix.clone()..);
        objects
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    pub(super) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock(kind).objects.get(&key_of(namespace, name)).cloned()
    }

    pub(super) fn is_listed(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.lock(kind).listed)
    }

    /// An object as an event or an answer shows it.
    pub(super) fn observe(&self, kind: Kind, object: Value) -> Arc<Value> {
        let object = Arc::new(object);
        let mut store = self.lock(kind);
        if store.buried.contains(uid(&object)) {
            return object;
        }
        let key = key(&object);
        if let Some(known) = store.objects.get(&key)
            && uid(known) == uid(&object)
            && version(known) >= version(&object)
        {
            return object;
        }
        store.objects.insert(key, Arc::clone(&object));
        drop(store);
        self.bell.ring(Topic::Objects(kind));
        object
    }

    /// An actor deleted the object, and it is gone.
    pub(super) fn bury(&self, kind: Kind, object: &Value) {
        self.remove(kind, object, true);
    }

    /// The watch says that the object is gone.
    pub(super) fn forget(&self, kind: Kind, object: &Value) {
        self.remove(kind, object, false);
    }

    /// A whole list: what is not in it is gone.
    pub(super) fn replace(&self, kind: Kind, items: Vec<Value>) {
        let mut store = self.lock(kind);
        store.objects = items
            .into_iter()
            .map(|item| (key(&item), Arc::new(item)))
            .collect();
        store.buried.clear();
        store.listed = true;
        drop(store);
        self.bell.ring(Topic::Objects(kind));
    }

    /// Whether the cache holds exactly these objects at these versions.
    pub(super) fn matches(&self, kind: Kind, items: &[Value]) -> bool {
        let store = self.lock(kind);
        store.objects.len() == items.len()
            && items.iter().all(|item| {
                let known = store.objects.get(&key(item));
                known.is_some_and(|known| uid(known) == uid(item) && version(known) == version(item))
            })
    }

    fn remove(&self, kind: Kind, object: &Value, by_us: bool) {
        let mut store = self.lock(kind);
        if by_us {
            store.buried.insert(uid(object).to_owned());
        } else {
            store.buried.remove(uid(object));
        }
        let key = key(object);
        let known = store
            .objects
            .get(&key)
            .is_some_and(|known| uid(known) == uid(object));
        if known {
            store.objects.remove(&key);
            drop(store);
            self.bell.ring(Topic::Objects(kind));
        }
    }

    fn lock(&self, kind: Kind) -> MutexGuard<'_, Store> {
        self.stores[kind as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, version: u64) -> Value {
        json!({"metadata": {"namespace": "a", "name": "p", "uid": uid, "resourceVersion": version.to_string()}})
    }

    #[test]
    fn what_is_older_than_what_is_known_changes_nothing() {
        let bell = Arc::new(Bell::new());
        let cache = Cache::new(Arc::clone(&bell));
        let pods = [Topic::Objects(Kind::Pod)];
        cache.observe(Kind::Pod, pod("1", 5));
        cache.observe(Kind::Pod, pod("1", 4));
        cache.observe(Kind::Pod, pod("1", 5));
        assert_eq!(bell.count(&pods), 1);
        assert!(cache.matches(Kind::Pod, &[pod("1", 5)]));
        assert_eq!(cache.within(Kind::Pod, "a").len(), 1);
        assert_eq!(cache.within(Kind::Pod, "b").len(), 0);
    }

    #[test]
    fn a_late_event_does_not_bring_back_what_an_actor_deleted() {
        let cache = Cache::new(Arc::new(Bell::new()));
        cache.observe(Kind::Pod, pod("1", 5));
        cache.bury(Kind::Pod, &pod("1", 5));
        cache.observe(Kind::Pod, pod("1", 6));
        assert_eq!(cache.all(Kind::Pod).len(), 0);
        cache.forget(Kind::Pod, &pod("1", 6));
        cache.observe(Kind::Pod, pod("2", 7));
        assert_eq!(cache.all(Kind::Pod).len(), 1);
    }
}
