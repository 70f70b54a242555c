//! Deletion: preconditions, finalizers, grace.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Reply, Write};
use crate::sandbox::kubernetes::kinds::Kind;
use crate::sandbox::kubernetes::refusal::{Cause, Outcome, Refusal};
use crate::sandbox::kubernetes::request::stamp;
use crate::sandbox::kubernetes::store::{Object, at, meta, metadata_mut, set_meta, text_at};
use crate::sandbox::kubernetes::{crd, defaults, watch};

impl Write<'_> {
    /// DELETE of one object.
    pub(in crate::sandbox::kubernetes) fn delete(mut self) -> Outcome<Reply> {
        let options = self.delete_options()?;
        let old = self.find()?;
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
    pub(in crate::sandbox::kubernetes) fn delete_collection(mut self) -> Outcome<Reply> {
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
            let cause = Cause::unsupported("propagationPolicy", &Value::from(policy), &known);
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
                let refusal = Refusal::conflict(&resource, &name, &why);
                return Err(refusal.about(&self.kind.dotted_kind(), &name));
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
            const SHOWN: &[(&str, &str)] = &[
                ("", "pods"),
                ("", "services"),
                ("", "serviceaccounts"),
                ("", "resourcequotas"),
                ("storage.k8s.io", "csidrivers"),
                ("storage.k8s.io", "csinodes"),
                ("apiextensions.k8s.io", "customresourcedefinitions"),
            ];
            let shown = SHOWN.iter().any(|(group, plural)| self.kind.is(group, plural));
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
}

/// Whether finalizers keep an object that is to be deleted.
pub(super) fn is_held(kind: &Kind, object: &Value) -> bool {
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
