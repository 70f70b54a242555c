//! Create, update, patch and delete: the stations every write passes.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::kinds::{Kind, Version};
use super::managed::{Writer, owners, record_update, set_owners};
use super::refusal::{Outcome, Refusal};
use super::request::{Call, stamp};
use super::schema::{drop_nulls, fill_in, prune};
use super::store::{Object, Store, at, meta, metadata_mut, set_meta, text_at, unset_meta};
use super::{admission, apply, crd, defaults, patch, validation, watch};

/// What a write answers.
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) object: Value,
    pub(super) warnings: Vec<String>,
}

/// A write on its way.
pub(super) struct Write<'a> {
    pub(super) store: &'a mut Store,
    pub(super) call: &'a Call,
    pub(super) kind: &'a Arc<Kind>,
    pub(super) version: &'a Version,
    pub(super) warnings: Vec<String>,
}

/// How strictly unknown fields are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Ignore,
    Warn,
    Strict,
}

impl<'a> Write<'a> {
    /// A write of one request.
    pub(super) fn new(
        store: &'a mut Store,
        call: &'a Call,
        kind: &'a Arc<Kind>,
        version: &'a Version,
    ) -> Self {
        Self {
            store,
            call,
            kind,
            version,
            warnings: Vec::new(),
        }
    }

    /// POST of a collection.
    pub(super) fn create(mut self) -> Outcome<Reply> {
        let object = self.call.json()?;
        let object = self.decode(object, false)?;
        let object = self.create_object(object, false)?;
        Ok(self.reply(201, &object))
    }

    /// PUT of an object or of a subresource.
    pub(super) fn update(mut self) -> Outcome<Reply> {
        let object = self.call.json()?;
        let name = self.call.target.name.clone();
        let object = self.decode(object, false)?;
        if !meta(&object, "name").is_empty() && meta(&object, "name") != name {
            return Err(self.misnamed(&object));
        }
        let old = match self.find() {
            Ok(old) => old,
            Err(refusal) => {
                let creates = self.kind.is("", "events") || self.kind.is("coordination.k8s.io", "leases");
                if !creates || !self.call.target.subresource.is_empty() {
                    return Err(refusal);
                }
                let object = self.create_object(object, false)?;
                return Ok(self.reply(201, &object));
            }
        };
        let unconditional = meta(&object, "resourceVersion").is_empty();
        if unconditional && (self.kind.custom || self.kind.group == "apiextensions.k8s.io") {
            let cause = super::refusal::Cause {
                reason: "FieldValueInvalid",
                field: "metadata.resourceVersion".to_owned(),
                message: "Invalid value: 0x0: must be specified for an update".to_owned(),
            };
            return Err(Refusal::invalid(&self.kind.dotted_kind(), &name, &[cause]));
        }
        let object = self.modify(&old, object, false)?;
        Ok(self.reply(200, &object))
    }

    /// PATCH of an object or of a subresource.
    pub(super) fn patch(mut self) -> Outcome<Reply> {
        let media = self
            .call
            .content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        if media == "application/apply-patch+yaml" {
            return self.apply();
        }
        if self.call.query.flag("force") {
            let cause = super::refusal::Cause::forbidden("force", "may not be specified for non-apply patch");
            return Err(Refusal::invalid("PatchOptions.meta.k8s.io", "", &[cause]));
        }
        let old = self.find()?;
        let live = watch::shown(self.kind, self.version, &old, false);
        let patched = patch::patched(self.call, self.kind, self.version, &live)?;
        if meta(&patched, "name") != meta(&old, "name") {
            return Err(self.misnamed(&patched));
        }
        let object = self.decode(patched, true)?;
        let object = self.modify(&old, object, false)?;
        Ok(self.reply(200, &object))
    }

    /// Server-side apply.
    fn apply(mut self) -> Outcome<Reply> {
        let call = self.call;
        if call.query.get("fieldManager").is_empty() {
            let cause = super::refusal::Cause::required("fieldManager", "is required for apply patch");
            return Err(Refusal::invalid("PatchOptions.meta.k8s.io", "", &[cause]));
        }
        let mut wanted = call.yaml()?;
        let (kind, api_version) = (self.kind.kind.clone(), self.kind.api_version(&self.version.name));
        self.check_identity(&mut wanted, true)?;
        if at(&wanted, &["metadata", "managedFields"]).is_some_and(|entries| !entries.is_null()) {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        let name = call.target.name.clone();
        let said = meta(&wanted, "name");
        if said.is_empty() {
            set_meta(&mut wanted, "name", name.as_str());
        } else if said != name {
            return Err(self.misnamed(&wanted));
        }
        self.place(&mut wanted)?;
        let errors = apply::mistyped(&self.version.of, &wanted);
        if !errors.is_empty() {
            let of = match (self.kind.group.as_str(), self.version.name.as_str()) {
                ("", version) => format!("/{version}, Kind={kind}"),
                _ => format!("{api_version}, Kind={kind}"),
            };
            let place = match meta(&wanted, "namespace") {
                "" => format!("/{name}"),
                namespace => format!("{namespace}/{name}"),
            };
            let said = match errors.as_slice() {
                [one] => one.clone(),
                many => format!(
                    "errors:\n{}",
                    many.iter()
                        .map(|one| format!("  {one}"))
                        .collect::<Vec<_>>()
                        .join("\n")
                ),
            };
            return Err(Refusal::internal(format!(
                "failed to create typed patch object ({place}; {of}): {said}"
            )));
        }
        let found = self.find();
        let now = call.stamp();
        let api_version = self.kind.api_version(&self.version.name);
        let writer = self.writer(&now, &api_version);
        let force = call.query.flag("force");
        let old = match found {
            Ok(old) => old,
            Err(refusal) => {
                if !call.target.subresource.is_empty() {
                    return Err(refusal);
                }
                if !meta(&wanted, "resourceVersion").is_empty() || !meta(&wanted, "uid").is_empty() {
                    let why = "StorageError: invalid object, Code: 4, Key: , ResourceVersion: 0, AdditionalErrorMsg: ";
                    return Err(Refusal::conflict(&self.kind.resource(), &name, why));
                }
                let blank = json!({"apiVersion": api_version, "kind": kind, "metadata": {}});
                let object = apply::apply(&self.version.of, &blank, &wanted, &writer, force)?;
                let object = self.decode(object, true)?;
                let object = self.create_object(object, true)?;
                return Ok(self.reply(201, &object));
            }
        };
        let live = watch::shown(self.kind, self.version, &old, false);
        let said = meta(&wanted, "resourceVersion");
        if !said.is_empty() && said != meta(&live, "resourceVersion") {
            return Err(self.stale(&name));
        }
        unset_meta(&mut wanted, "resourceVersion");
        let object = apply::apply(&self.version.of, &live, &wanted, &writer, force)?;
        let object = self.decode(object, true)?;
        let object = self.modify(&old, object, true)?;
        Ok(self.reply(200, &object))
    }

    /// DELETE of one object.
    pub(super) fn delete(mut self) -> Outcome<Reply> {
        let old = self.find()?;
        let options = self.delete_options()?;
        let object = self.delete_object(&old, &options)?;
        let code = 200;
        Ok(match object {
            Some(object) => self.reply(code, &object),
            None => {
                let details = json!({
                    "name": meta(&old, "name"), "group": self.kind.group, "kind": self.kind.plural, "uid": meta(&old, "uid"),
                });
                let mut details = details;
                if self.kind.group.is_empty()
                    && let Some(details) = details.as_object_mut()
                {
                    details.remove("group");
                }
                let object = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
                Reply {
                    code,
                    object,
                    warnings: self.warnings,
                }
            }
        })
    }

    /// DELETE of a collection.
    pub(super) fn delete_collection(mut self) -> Outcome<Reply> {
        let options = self.delete_options()?;
        let revision = self.store.revision().to_string();
        let mut items = Vec::new();
        for old in watch::selected(self.store, self.call, self.kind)? {
            let object = self.delete_object(&old, &options)?;
            items.push(watch::shown(
                self.kind,
                self.version,
                &object.unwrap_or(old),
                false,
            ));
        }
        let object = json!({
            "kind": self.kind.list_kind, "apiVersion": self.kind.api_version(&self.version.name),
            "metadata": {"resourceVersion": revision}, "items": items,
        });
        Ok(Reply {
            code: 200,
            object,
            warnings: self.warnings,
        })
    }

    fn delete_options(&self) -> Outcome<Value> {
        let mut options = if self.call.body.is_empty() {
            Value::Object(Map::new())
        } else {
            self.call.json()?
        };
        let Some(members) = options.as_object_mut() else {
            return Err(Refusal::bad_request("the body of a deletion is not an object"));
        };
        for name in ["propagationPolicy", "gracePeriodSeconds", "orphanDependents"] {
            let value = self.call.query.get(name);
            if !value.is_empty() {
                members.insert(
                    name.to_owned(),
                    serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)),
                );
            }
        }
        let policy = members
            .get("propagationPolicy")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !matches!(policy, "" | "Background" | "Foreground" | "Orphan") {
            let known = ["Foreground", "Background", "Orphan", "nil"].map(str::to_owned);
            let cause = super::refusal::Cause::unsupported("propagationPolicy", &Value::from(policy), &known);
            return Err(Refusal::invalid("DeleteOptions.meta.k8s.io", "", &[cause]));
        }
        Ok(options)
    }

    /// Deletes or marks an object; what is answered if it is more than a success.
    fn delete_object(&mut self, old: &Object, options: &Value) -> Outcome<Option<Object>> {
        let (namespace, name) = (meta(old, "namespace").to_owned(), meta(old, "name").to_owned());
        let resource = self.kind.resource();
        for (member, words) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let wanted = text_at(options, &["preconditions", member]);
            if !wanted.is_empty() && wanted != meta(old, member) {
                let why = format!(
                    "Precondition failed: {words} in precondition: {wanted}, {words} in object meta: {}",
                    meta(old, member)
                );
                return Err(Refusal::conflict(&resource, &name, &why));
            }
        }
        if self.kind.is("", "namespaces")
            && matches!(name.as_str(), "default" | "kube-system" | "kube-public")
        {
            return Err(Refusal::forbidden(
                &resource,
                &name,
                "this namespace may not be deleted",
            ));
        }
        let mut new = (**old).clone();
        set_finalizers(&mut new, options);
        let grace = defaults::grace(self.kind, old, options);
        let marked = !meta(old, "deletionTimestamp").is_empty();
        let stays = grace.is_some_and(|seconds| seconds > 0) || is_held(self.kind, &new);
        if self.call.dry_run() {
            return Ok(stays.then(|| Arc::new(new)));
        }
        if !stays {
            let removed = self.store.remove(self.kind, &namespace, &name);
            crd::removed(self.store, self.kind, old, self.call.now);
            let shown = self.kind.is("", "pods") || self.kind.is("", "services");
            return Ok(removed.filter(|_| shown || grace == Some(0) && marked));
        }
        let seconds = grace.unwrap_or_default();
        let current = at(old, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
        if !marked || current.is_some_and(|current| seconds < current) {
            let due = self.call.now + time::Duration::seconds(seconds);
            set_meta(&mut new, "deletionTimestamp", stamp(due));
            set_meta(&mut new, "deletionGracePeriodSeconds", seconds);
            if let Some(generation) = at(old, &["metadata", "generation"])
                .and_then(Value::as_i64)
                .filter(|_| !marked)
            {
                set_meta(&mut new, "generation", generation + 1);
            }
        }
        if self.kind.is("", "namespaces") {
            new["status"]["phase"] = Value::from("Terminating");
        }
        if new == **old {
            return Ok(Some(Arc::clone(old)));
        }
        Ok(Some(self.store.put(self.kind, new)))
    }

    /// The object this write is about.
    fn find(&self) -> Outcome<Object> {
        let target = &self.call.target;
        let found = self.store.get(self.kind, target.place(), &target.name);
        found.ok_or_else(|| Refusal::not_found(&self.kind.resource(), &target.name))
    }

    fn misnamed(&self, object: &Value) -> Refusal {
        Refusal::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            meta(object, "name"),
            self.call.target.name
        ))
    }

    fn stale(&self, name: &str) -> Refusal {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Refusal::conflict(&self.kind.resource(), name, why)
    }

    fn writer<'w>(&'w self, now: &'w str, api_version: &'w str) -> Writer<'w> {
        Writer {
            manager: &self.call.manager,
            api_version,
            subresource: &self.call.target.subresource,
            now,
            status_apart: self.version.status,
        }
    }

    /// Checks apiVersion and kind, and fills them in if they may be left out.
    fn check_identity(&self, object: &mut Value, required: bool) -> Outcome<()> {
        let (kind, api_version) = (&self.kind.kind, self.kind.api_version(&self.version.name));
        let Some(members) = object.as_object_mut() else {
            return Err(Refusal::bad_request(
                "couldn't get version/kind; json parse error: the body is not an object",
            ));
        };
        let said = members
            .get("apiVersion")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let said_kind = members.get("kind").and_then(Value::as_str).unwrap_or_default();
        if required && (said.is_empty() || said_kind.is_empty()) {
            let missing = if said_kind.is_empty() {
                "Kind"
            } else {
                "apiVersion"
            };
            return Err(Refusal::bad_request(format!(
                "Object '{missing}' is missing in '{}'",
                Value::Object(members.clone())
            )));
        }
        if !said.is_empty() && said != api_version {
            return Err(Refusal::bad_request(format!(
                "the API version in the data ({said}) does not match the expected API version ({api_version})"
            )));
        }
        if !said_kind.is_empty() && said_kind != kind {
            return Err(Refusal::bad_request(format!(
                "{said_kind} in version {:?} cannot be handled as a {kind}: converting ({said_kind}) to ({kind}): unknown conversion",
                self.version.name
            )));
        }
        members.insert("apiVersion".to_owned(), Value::from(api_version));
        members.insert("kind".to_owned(), Value::from(kind.as_str()));
        Ok(())
    }

    /// Reads an object as its kind: identity, strictness, types, defaults.
    fn decode(&mut self, mut object: Value, patched: bool) -> Outcome<Value> {
        self.check_identity(&mut object, false)?;
        let strictness = match self.call.query.get("fieldValidation") {
            "Strict" => Strictness::Strict,
            "Ignore" => Strictness::Ignore,
            _ => Strictness::Warn,
        };
        let unknown = prune(&self.version.of, &mut object);
        if !unknown.is_empty() && strictness != Strictness::Ignore {
            let words: Vec<_> = unknown
                .iter()
                .map(|path| format!("unknown field {path:?}"))
                .collect();
            if strictness == Strictness::Warn {
                self.warnings.extend(words);
            } else if patched {
                let cause = super::refusal::Cause {
                    reason: "FieldValueInvalid",
                    field: "patch".to_owned(),
                    message: format!(
                        "Invalid value: {:?}: strict decoding error: {}",
                        String::from_utf8_lossy(&self.call.body),
                        words.join(", ")
                    ),
                };
                return Err(Refusal::invalid("", "", &[cause]));
            } else {
                return Err(Refusal::bad_request(format!(
                    "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {words}",
                    kind = self.kind.kind,
                    version = self.version.name,
                    words = words.join(", ")
                )));
            }
        }
        validation::types(self.kind, self.version, &object)?;
        drop_nulls(&self.version.of, &mut object);
        defaults::before_schema(self.kind, &mut object);
        fill_in(&self.version.of, &mut object);
        defaults::after_schema(self.kind, &mut object);
        Ok(object)
    }

    /// Settles the namespace of an object that is sent.
    fn place(&self, object: &mut Value) -> Outcome<()> {
        let wanted = self.call.target.place();
        if !self.kind.namespaced {
            unset_meta(object, "namespace");
            return Ok(());
        }
        let said = meta(object, "namespace");
        if !said.is_empty() && said != wanted {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        set_meta(object, "namespace", wanted);
        Ok(())
    }

    /// Stores a new object, decoded already.
    fn create_object(&mut self, mut object: Value, applied: bool) -> Outcome<Object> {
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
        admission::mutate(self.store, self.kind, &mut object, None)?;
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

    fn as_stored(&self, mut object: Value) -> Value {
        object["apiVersion"] = Value::from(self.kind.api_version(&self.kind.storage));
        object
    }

    fn check_namespace(&self, object: &Value) -> Outcome<()> {
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
    fn modify(&mut self, old: &Object, mut new: Value, applied: bool) -> Outcome<Object> {
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
        if call.target.subresource.is_empty() {
            admission::mutate(self.store, self.kind, &mut new, Some(&live))?;
        }
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
        self.count_generation(&live, &mut new);
        validation::check(self.store, self.kind, self.version, &new, Some(&live))?;
        admission::judge(self.store, self.kind, &new)?;
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
            let removed = self.store.remove(self.kind, meta(old, "namespace"), &name);
            crd::removed(self.store, self.kind, old, call.now);
            return Ok(removed.unwrap_or_else(|| Arc::new(new)));
        }
        crd::before_storing(self.store, self.kind, &mut new, call.now);
        let stored = self.store.put(self.kind, self.as_stored(new));
        crd::stored(self.store, self.kind, &stored);
        Ok(stored)
    }

    /// Keeps what the addressed part of the object cannot change.
    fn separate(&self, live: &Value, new: &mut Value) {
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
    fn count_generation(&self, live: &Value, new: &mut Value) {
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

    fn reply(self, code: u16, object: &Value) -> Reply {
        let object = watch::shown(self.kind, self.version, object, self.call.partial());
        Reply {
            code,
            object,
            warnings: self.warnings,
        }
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

/// Whether finalizers keep an object that is to be deleted.
fn is_held(kind: &Kind, object: &Value) -> bool {
    let some = |path: &[&str]| {
        at(object, path)
            .and_then(Value::as_array)
            .is_some_and(|all| !all.is_empty())
    };
    some(&["metadata", "finalizers"]) || (kind.is("", "namespaces") && some(&["spec", "finalizers"]))
}

/// The finalizers of the garbage collector, as the propagation policy wants them.
fn set_finalizers(object: &mut Value, options: &Value) {
    let policy = text_at(options, &["propagationPolicy"]);
    let orphan = options.get("orphanDependents").and_then(Value::as_bool);
    let wanted = match (policy, orphan) {
        ("Foreground", _) => Some("foregroundDeletion"),
        ("Orphan", _) | ("", Some(true)) => Some("orphan"),
        ("Background", _) | ("", Some(false)) => None,
        _ => return,
    };
    let finalizers = at(object, &["metadata", "finalizers"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut finalizers: Vec<_> = finalizers
        .into_iter()
        .filter(|one| one != "foregroundDeletion" && one != "orphan")
        .collect();
    finalizers.extend(wanted.map(Value::from));
    if let Some(metadata) = metadata_mut(object) {
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".to_owned(), Value::Array(finalizers));
        }
    }
}

/// Five letters that make a generated name unique, of those the original uses.
pub(super) fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes = uuid::Uuid::new_v4().into_bytes();
    bytes
        .iter()
        .take(5)
        .filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()))
        .map(|letter| char::from(*letter))
        .collect()
}
