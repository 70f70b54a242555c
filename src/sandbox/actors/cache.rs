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
    /// UIDs of what was deleted. They never return, and neither a late event nor the late answer to a write that came
    /// before the deletion may bring them back.
    gone: HashSet<String>,
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
        if store.gone.contains(uid(&object)) {
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

    /// The object is gone: a watch says so, or a question after its deletion.
    pub(super) fn forget(&self, kind: Kind, object: &Value) {
        let mut store = self.lock(kind);
        store.gone.insert(uid(object).to_owned());
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

    /// A whole list: what is not in it is gone.
    pub(super) fn replace(&self, kind: Kind, items: Vec<Value>) {
        let mut store = self.lock(kind);
        store.objects = items
            .into_iter()
            .filter(|item| !store.gone.contains(uid(item)))
            .map(|item| (key(&item), Arc::new(item)))
            .collect();
        store.listed = true;
        drop(store);
        self.bell.ring(Topic::Objects(kind));
    }

    /// How the cache differs from exactly these objects at these versions: the first object that does.
    pub(super) fn difference(&self, kind: Kind, items: &[Value]) -> Option<String> {
        let store = self.lock(kind);
        let plural = kind.place().plural;
        let mut surplus: BTreeMap<_, _> = store.objects.iter().collect();
        for item in items {
            let key = key(item);
            let at = version(item);
            match surplus.remove(&key) {
                None => return Some(format!("{plural} {key}: unknown here, version {at} in the API")),
                Some(known) if uid(known) != uid(item) => {
                    return Some(format!("{plural} {key}: an earlier one of that name is known"));
                }
                Some(known) if version(known) != at => {
                    let known = version(known);
                    return Some(format!(
                        "{plural} {key}: version {known} is known, {at} in the API"
                    ));
                }
                Some(_) => {}
            }
        }
        let (key, _) = surplus.first_key_value()?;
        Some(format!("{plural} {key}: known here, gone from the API"))
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
        assert_eq!(cache.difference(Kind::Pod, &[pod("1", 5)]), None);
        assert_eq!(cache.within(Kind::Pod, "a").len(), 1);
        assert_eq!(cache.within(Kind::Pod, "b").len(), 0);
    }

    #[test]
    fn what_is_gone_does_not_come_back() {
        let cache = Cache::new(Arc::new(Bell::new()));
        cache.observe(Kind::Pod, pod("1", 5));
        cache.forget(Kind::Pod, &pod("1", 7));
        // The answer to a write that came before the deletion, read after it; then a list as old as that.
        cache.observe(Kind::Pod, pod("1", 6));
        assert_eq!(cache.difference(Kind::Pod, &[]), None);
        cache.replace(Kind::Pod, vec![pod("1", 6)]);
        assert_eq!(cache.difference(Kind::Pod, &[]), None);
        cache.observe(Kind::Pod, pod("2", 8));
        assert_eq!(cache.difference(Kind::Pod, &[pod("2", 8)]), None);
    }

    #[test]
    fn a_difference_names_the_object_and_both_versions() {
        let cache = Cache::new(Arc::new(Bell::new()));
        let behind = |items: &[Value]| cache.difference(Kind::Pod, items).unwrap_or_default();
        assert_eq!(
            behind(&[pod("1", 5)]),
            "pods a/p: unknown here, version 5 in the API"
        );
        cache.observe(Kind::Pod, pod("1", 5));
        assert_eq!(
            behind(&[pod("1", 6)]),
            "pods a/p: version 5 is known, 6 in the API"
        );
        assert_eq!(
            behind(&[pod("2", 6)]),
            "pods a/p: an earlier one of that name is known"
        );
        assert_eq!(behind(&[]), "pods a/p: known here, gone from the API");
    }
}
