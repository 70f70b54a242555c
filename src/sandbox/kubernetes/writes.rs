//! Create, update, patch and delete: the stations every write passes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::{Kind, Version};
use super::managed::Writer;
use super::refusal::{Cause, Outcome, Refusal};
use super::request::Call;
use super::store::{Object, Store, at, meta, set_meta, unset_meta};
use super::{apply, patch, watch};

mod decoding;
mod deletion;
mod storing;

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
            let cause = Cause {
                reason: "FieldValueInvalid",
                field: "metadata.resourceVersion".to_owned(),
                message: "Invalid value: 0: must be specified for an update".to_owned(),
            };
            return Err(Refusal::invalid(&self.kind.resource(), &name, &[cause]));
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
            let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
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
            let cause = Cause::required("fieldManager", "is required for apply patch");
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
        // Messages name the namespace only if the patch does.
        let place = match meta(&wanted, "namespace") {
            "" => format!("/{name}"),
            namespace => format!("{namespace}/{name}"),
        };
        self.place(&mut wanted)?;
        let errors = apply::mistyped(&self.version.of, &wanted);
        if !errors.is_empty() {
            let of = match (self.kind.group.as_str(), self.version.name.as_str()) {
                ("", version) => format!("/{version}, Kind={kind}"),
                _ => format!("{api_version}, Kind={kind}"),
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
        let is_stale = !said.is_empty() && said != meta(&live, "resourceVersion");
        unset_meta(&mut wanted, "resourceVersion");
        let object = apply::apply(&self.version.of, &live, &wanted, &writer, force)?;
        // Conflicts are found before the version is compared.
        if is_stale {
            return Err(self.stale(&name));
        }
        let object = self.decode(object, true)?;
        let object = self.modify(&old, object, true)?;
        Ok(self.reply(200, &object))
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

    fn reply(self, code: u16, object: &Value) -> Reply {
        let object = watch::shown(self.kind, self.version, object, self.call.partial());
        Reply {
            code,
            object,
            warnings: self.warnings,
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
