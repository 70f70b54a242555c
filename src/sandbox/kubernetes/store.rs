//! What the cluster holds: objects, the one revision counter, and the changes that watches replay.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::access::AzureRbac;
use super::kinds::{Kind, Kinds};

/// How many changes are remembered; a watch from before the window gets 410.
const WINDOW: usize = 10_000;

/// A collection: group and plural.
pub(super) type Collection = (String, String);

/// An object's place in its collection: namespace (empty for cluster scope) and name.
pub(super) type Place = (String, String);

/// An object as stored; never changed in place.
pub(super) type Object = Arc<Value>;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Added,
    Modified,
    Deleted,
}

/// One remembered change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) collection: Collection,
    pub(super) place: Place,
    pub(super) happened: Happened,
    /// The object after the change; for a deletion, its last state with the revision of the deletion.
    pub(super) object: Object,
    pub(super) before: Option<Object>,
}

/// Everything the API server knows.
pub(super) struct Store {
    revision: u64,
    /// The last revision whose change is forgotten.
    forgotten: u64,
    objects: HashMap<Collection, BTreeMap<Place, Object>>,
    changes: VecDeque<Change>,
    pub(super) kinds: Kinds,
    /// The world's admission rules.
    pub(super) admission: Vec<Value>,
    /// Asked about what RBAC does not allow.
    pub(super) azure: Option<AzureRbac>,
    pub(super) next_service_ip: u32,
    pub(super) next_node_port: u32,
}

impl Store {
    /// An empty cluster.
    pub(super) fn new() -> Self {
        Self {
            revision: 1,
            forgotten: 0,
            objects: HashMap::new(),
            changes: VecDeque::new(),
            kinds: Kinds::built_in(),
            admission: Vec::new(),
            azure: None,
            next_service_ip: 10,
            next_node_port: 30_080,
        }
    }

    /// The revision of the last change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The last revision that watches can no longer start from.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Forgets all changes, as compaction does.
    pub(super) fn forget(&mut self) {
        self.changes.clear();
        self.forgotten = self.revision;
    }

    /// One object.
    pub(super) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Object> {
        self.get_at(&kind.group, &kind.plural, namespace, name)
    }

    /// One object, by its collection.
    pub(super) fn get_at(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Object> {
        let objects = self.objects.get(&(group.to_owned(), plural.to_owned()))?;
        objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a collection, by namespace and name.
    pub(super) fn all(&self, group: &str, plural: &str) -> impl Iterator<Item = (&Place, &Object)> {
        self.objects
            .get(&(group.to_owned(), plural.to_owned()))
            .into_iter()
            .flatten()
    }

    /// A collection as it was at a revision that is still remembered.
    pub(super) fn as_of(&self, kind: &Kind, revision: u64) -> BTreeMap<Place, Object> {
        let collection = (kind.group.clone(), kind.plural.clone());
        let mut objects = self.objects.get(&collection).cloned().unwrap_or_default();
        for change in self
            .changes
            .iter()
            .rev()
            .take_while(|change| change.revision > revision)
        {
            if change.collection != collection {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.place.clone(), Arc::clone(before)),
                None => objects.remove(&change.place),
            };
        }
        objects
    }

    /// Stores an object under the next revision.
    pub(super) fn put(&mut self, kind: &Kind, mut object: Value) -> Object {
        self.revision += 1;
        stamp(&mut object, self.revision);
        let object = Arc::new(object);
        let (collection, place) = (self.collection(kind), place(&object));
        let objects = self.objects.entry(collection.clone()).or_default();
        let before = objects.insert(place.clone(), Arc::clone(&object));
        let happened = if before.is_some() {
            Happened::Modified
        } else {
            Happened::Added
        };
        self.remember(collection, place, happened, Arc::clone(&object), before);
        object
    }

    /// Takes an object out; returns its last state.
    pub(super) fn remove(&mut self, kind: &Kind, namespace: &str, name: &str) -> Option<Object> {
        let (collection, place) = (self.collection(kind), (namespace.to_owned(), name.to_owned()));
        let before = self.objects.get_mut(&collection)?.remove(&place)?;
        self.revision += 1;
        let mut object = (*before).clone();
        stamp(&mut object, self.revision);
        let object = Arc::new(object);
        self.remember(
            collection,
            place,
            Happened::Deleted,
            Arc::clone(&object),
            Some(before),
        );
        Some(object)
    }

    /// The changes after a revision, oldest first.
    pub(super) fn changes_after(&self, revision: u64) -> impl Iterator<Item = &Change> {
        let start = self.changes.partition_point(|change| change.revision <= revision);
        self.changes.range(start..)
    }

    fn collection(&self, kind: &Kind) -> Collection {
        (kind.group.clone(), kind.plural.clone())
    }

    fn remember(
        &mut self,
        collection: Collection,
        place: Place,
        happened: Happened,
        object: Object,
        before: Option<Object>,
    ) {
        if self.changes.len() >= WINDOW
            && let Some(oldest) = self.changes.pop_front()
        {
            self.forgotten = oldest.revision;
        }
        let revision = self.revision;
        self.changes.push_back(Change {
            revision,
            collection,
            place,
            happened,
            object,
            before,
        });
    }
}

fn stamp(object: &mut Value, revision: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), Value::from(revision.to_string()));
    }
}

/// Where an object is.
pub(super) fn place(object: &Value) -> Place {
    (
        meta(object, "namespace").to_owned(),
        meta(object, "name").to_owned(),
    )
}

/// A text of an object's metadata; empty if absent.
pub(super) fn meta<'a>(object: &'a Value, member: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(member))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A text at a path of member names; empty if absent.
pub(super) fn text_at<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// What is at a path of member names.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// The object's metadata, made if it is not there; `None` if the value is no object.
pub(super) fn metadata_mut(object: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    object
        .as_object_mut()?
        .entry("metadata")
        .or_insert_with(|| Value::Object(serde_json::Map::new()))
        .as_object_mut()
}

/// A member of the object's metadata, set.
pub(super) fn set_meta(object: &mut Value, member: &str, value: impl Into<Value>) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert(member.to_owned(), value.into());
    }
}

/// A member of the object's metadata, taken out.
pub(super) fn unset_meta(object: &mut Value, member: &str) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.remove(member);
    }
}
