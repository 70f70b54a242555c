//! The files the CSI driver has mounted into pods: memory, as a tmpfs is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::objects::{key_of, stamp};

/// A file's path in the volume, and its content.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// `secret/NAME` and the version that is mounted.
pub(super) type Versions = Vec<(String, String)>;

/// What a pod sees in one volume.
#[derive(Clone)]
pub(super) struct Mount {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) class: String,
    pub(super) files: Files,
    pub(super) versions: Versions,
    /// When the files were last written.
    pub(super) at: OffsetDateTime,
}

/// All mounts, by pod UID and volume.
#[derive(Default)]
pub(super) struct Mounts(Mutex<BTreeMap<(String, String), Mount>>);

impl Mounts {
    pub(super) fn put(&self, pod: &str, volume: &str, mount: Mount) {
        self.lock().insert((pod.to_owned(), volume.to_owned()), mount);
    }

    pub(super) fn remove(&self, pod: &str) {
        self.lock().retain(|(of, _), _| of != pod);
    }

    /// Replaces the files of an existing mount.
    pub(super) fn rewrite(
        &self,
        pod: &str,
        class: &str,
        files: &Files,
        versions: &Versions,
        at: OffsetDateTime,
    ) {
        for ((of, _), mount) in self.lock().iter_mut() {
            if of == pod && mount.class == class {
                mount.files.clone_from(files);
                mount.versions.clone_from(versions);
                mount.at = at;
            }
        }
    }

    /// The mount of a class in a pod.
    pub(super) fn of(&self, pod: &str, class: &str) -> Option<Mount> {
        let mounts = self.lock();
        let mut found = mounts
            .iter()
            .filter(|((of, _), mount)| of == pod && mount.class == class);
        found.next().map(|(_, mount)| mount.clone())
    }

    /// How large a file is: `None` if the volume is not mounted by the driver, `Some(None)` if it has no such file.
    pub(super) fn file_size(&self, pod: &str, volume: &str, file: &str) -> Option<Option<usize>> {
        let mounts = self.lock();
        let mount = mounts.get(&(pod.to_owned(), volume.to_owned()))?;
        Some(mount.files.get(file).map(Vec::len))
    }

    /// The files of a volume, and how large they are; none if the driver did not mount it.
    pub(super) fn sizes(&self, pod: &str, volume: &str) -> Vec<(String, usize)> {
        let mounts = self.lock();
        let mount = mounts.get(&(pod.to_owned(), volume.to_owned()));
        let files = mount.into_iter().flat_map(|mount| &mount.files);
        files
            .map(|(file, content)| (file.clone(), content.len()))
            .collect()
    }

    /// All mounts as the control API shows them. `secrets` names the Secrets of a class.
    pub(super) fn describe(&self, secrets: impl Fn(&str, &str) -> Value) -> Value {
        let mounts = self.lock();
        let all = mounts.values().map(|mount| {
            let objects: Vec<_> = mount
                .versions
                .iter()
                .map(|(id, version)| json!({"id": id, "version": version}))
                .collect();
            json!({"pod": key_of(&mount.namespace, &mount.pod), "class": mount.class, "secret": secrets(&mount.namespace, &mount.class),
                "objects": objects, "at": stamp(mount.at)})
        });
        all.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Mount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
