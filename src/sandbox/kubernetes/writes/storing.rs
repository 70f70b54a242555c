//! The end of every write that leaves an object: admission, ownership, strategy, validation, storage.

use std::sync::Arc;

use serde_json::{Value, json};

use super::deletion::is_held;
use super::{Write, suffix};
use crate::sandbox::kubernetes::managed::{owners, record_update, set_owners};
use crate::sandbox::kubernetes::refusal::{Outcome, Refusal};
use crate::sandbox::kubernetes::store::{Object, at, meta, set_meta, unset_meta};
use crate::sandbox::kubernetes::{admission, crd, defaults, pod_security, validation, watch};

impl Write<'_> {
    /// Stores a new object, decoded already.
    pub(super) fn create_object(&mut self, mut object: Value, applied: bool) -> Outcome<Object> {
        self.place(&mut object)?;
        if !meta(&object, "resourceVersion").is_empty() {
            return Err(Refusal::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let prefix = meta(&object, "generateName").to_owned();
        if meta(&object, "name").is_empty() && !prefix.is_empty() {
            set_meta(&mut object, "name", format!("{prefix}{}", suffix()));
        }
        let name = meta(&object, "name").to_owned();
        let resource = self.kind.resource();
        self.check_namespace(&object)?;
        defaults::count_template(self.kind, None, &mut object);
        if !applied {
            let now = self.call.stamp();
            let api_version = self.kind.api_version(&self.version.name);
            let blank = json!({"apiVersion": api_version, "kind": self.kind.kind, "metadata": {}});
            record_update(
                &self.version.of,
                &blank,
                &mut object,
                &self.writer(&now, &api_version),
            );
        }
        // What admission adds is nobody's.
        admission::mutate(self.store, self.kind, &mut object, None)?;
        self.warnings.extend(admission::warnings(self.kind, &object));
        for member in [
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
        ] {
            unset_meta(&mut object, member);
        }
        set_meta(&mut object, "uid", uuid::Uuid::new_v4().to_string());
        set_meta(&mut object, "creationTimestamp", self.call.stamp());
        if self.kind.generations || self.kind.custom {
            set_meta(&mut object, "generation", 1);
        } else {
            unset_meta(&mut object, "generation");
        }
        defaults::on_create(
            self.store,
            self.kind,
            self.version,
            &mut object,
            self.call.dry_run(),
        );
        validation::check(self.store, self.kind, self.version, &object, None)?;
        admission::judge(self.store, self.kind, &object)?;
        let words = pod_security::judge(self.store, self.kind, &object, None)?;
        self.warnings.extend(words);
        if self
            .store
            .get(self.kind, meta(&object, "namespace"), &name)
            .is_some()
        {
            return Err(Refusal::exists(&resource, &name));
        }
        if self.call.dry_run() {
            return Ok(Arc::new(object));
        }
        crd::before_storing(self.store, self.kind, &mut object, self.call.now);
        let stored = self.store.put(self.kind, self.as_stored(object));
        crd::stored(self.store, self.kind, &stored);
        Ok(stored)
    }

    pub(super) fn as_stored(&self, mut object: Value) -> Value {
        object["apiVersion"] = Value::from(self.kind.api_version(&self.kind.storage));
        object
    }

    pub(super) fn check_namespace(&self, object: &Value) -> Outcome<()> {
        if !self.kind.namespaced {
            return Ok(());
        }
        let (namespace, name) = (meta(object, "namespace"), meta(object, "name"));
        let Some(found) = self.store.get_at("", "namespaces", "", namespace) else {
            return Err(Refusal::not_found("namespaces", namespace));
        };
        if !meta(&found, "deletionTimestamp").is_empty() {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let causes = json!([{
                "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace",
            }]);
            return Err(Refusal::forbidden(&self.kind.resource(), name, &why).with_detail("causes", causes));
        }
        Ok(())
    }

    /// Stores a changed object, decoded already; `applied` says that its owners are settled.
    pub(super) fn modify(&mut self, old: &Object, mut new: Value, applied: bool) -> Outcome<Object> {
        let call = self.call;
        let name = call.target.name.clone();
        let resource = self.kind.resource();
        let said = meta(&new, "uid").to_owned();
        if !said.is_empty() && said != meta(old, "uid") {
            let why = format!(
                "Precondition failed: UID in precondition: {said}, UID in object meta: {}",
                meta(old, "uid")
            );
            return Err(Refusal::conflict(&resource, &name, &why));
        }
        let said = meta(&new, "resourceVersion").to_owned();
        if !said.is_empty() && said != meta(old, "resourceVersion") {
            return Err(self.stale(&name));
        }
        let live = watch::shown(self.kind, self.version, old, false);
        set_meta(&mut new, "name", name.as_str());
        if self.kind.namespaced {
            self.place(&mut new)?;
        }
        let before_admission = new.clone();
        keep_system_fields(&live, &mut new);
        self.separate(&live, &mut new);
        defaults::on_update(self.kind, &live, &mut new);
        if applied {
            let all = owners(&before_admission);
            set_owners(&mut new, &all);
        } else {
            let now = call.stamp();
            let api_version = self.kind.api_version(&self.version.name);
            let sent = at(&before_admission, &["metadata", "managedFields"]).cloned();
            match sent {
                Some(sent) => set_meta(&mut new, "managedFields", sent),
                None => unset_meta(&mut new, "managedFields"),
            }
            record_update(
                &self.version.of,
                &live,
                &mut new,
                &self.writer(&now, &api_version),
            );
        }
        if call.target.subresource.is_empty() {
            admission::mutate(self.store, self.kind, &mut new, Some(&live))?;
        }
        self.count_generation(&live, &mut new);
        validation::check(self.store, self.kind, self.version, &new, Some(&live))?;
        admission::judge(self.store, self.kind, &new)?;
        if call.target.subresource.is_empty() {
            let words = pod_security::judge(self.store, self.kind, &new, Some(&live))?;
            self.warnings.extend(words);
        }
        if without_times(&new) == without_times(&live) {
            return Ok(Arc::clone(old));
        }
        if call.dry_run() {
            return Ok(Arc::new(new));
        }
        let gone = !meta(&new, "deletionTimestamp").is_empty()
            && !is_held(self.kind, &new)
            && at(&new, &["metadata", "deletionGracePeriodSeconds"])
                .and_then(Value::as_i64)
                .unwrap_or_default()
                == 0;
        if gone {
            self.store.remove(self.kind, meta(old, "namespace"), &name);
            crd::removed(self.store, self.kind, old, call.now);
            return Ok(Arc::new(new));
        }
        crd::before_storing(self.store, self.kind, &mut new, call.now);
        let stored = self.store.put(self.kind, self.as_stored(new));
        crd::stored(self.store, self.kind, &stored);
        Ok(stored)
    }

    /// Keeps what the addressed part of the object cannot change.
    pub(super) fn separate(&self, live: &Value, new: &mut Value) {
        let keep = |new: &mut Value, member: &str| {
            let Some(members) = new.as_object_mut() else {
                return;
            };
            match live.get(member) {
                Some(value) => members.insert(member.to_owned(), value.clone()),
                None => members.remove(member),
            };
        };
        match self.call.target.subresource.as_str() {
            "status" => {
                let status = new.get("status").cloned();
                let metadata = new.get("metadata").cloned();
                *new = live.clone();
                match status {
                    Some(status) => new["status"] = status,
                    None => keep(new, "nothing"),
                }
                if let Some(metadata) = metadata.filter(|_| !self.kind.custom) {
                    new["metadata"] = metadata;
                    for member in ["labels", "ownerReferences", "finalizers"] {
                        if member == "labels" && self.kind.group.is_empty() {
                            continue;
                        }
                        match at(live, &["metadata", member]) {
                            Some(value) => set_meta(new, member, value.clone()),
                            None => unset_meta(new, member),
                        }
                    }
                }
            }
            "finalize" => {
                let finalizers = at(new, &["spec", "finalizers"])
                    .cloned()
                    .unwrap_or_else(|| json!([]));
                *new = live.clone();
                new["spec"]["finalizers"] = finalizers;
            }
            _ if self.version.status => keep(new, "status"),
            _ => {}
        }
    }

    /// Counts the generation up if more than metadata and status changed.
    pub(super) fn count_generation(&self, live: &Value, new: &mut Value) {
        let Some(generation) = at(live, &["metadata", "generation"]).and_then(Value::as_i64) else {
            return;
        };
        let apart = self.version.status || !self.kind.custom;
        let body = |object: &Value| {
            let mut members = object.as_object().cloned().unwrap_or_default();
            members.remove("metadata");
            if apart {
                members.remove("status");
            }
            members
        };
        let annotated = self.kind.is("apps", "deployments")
            && self.call.target.subresource.is_empty()
            && at(live, &["metadata", "annotations"]) != at(new, &["metadata", "annotations"]);
        let changed = body(live) != body(new) || annotated;
        set_meta(
            new,
            "generation",
            if changed { generation + 1 } else { generation },
        );
    }
}

/// What only the server writes stays as it is.
fn keep_system_fields(live: &Value, new: &mut Value) {
    const KEPT: &[&str] = &[
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
        "resourceVersion",
        "generateName",
    ];
    for member in KEPT {
        match at(live, &["metadata", member]) {
            Some(value) => set_meta(new, member, value.clone()),
            None => unset_meta(new, member),
        }
    }
}

/// An object without the times of its owners, to tell whether anything changed.
fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(entries) = object
        .pointer_mut("/metadata/managedFields")
        .and_then(Value::as_array_mut)
    {
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        entries.sort_by_key(Value::to_string);
    }
    object
}
