//! Reading what is sent as an object of its kind.

use serde_json::Value;

use super::Write;
use crate::sandbox::kubernetes::refusal::{Cause, Outcome, Refusal};
use crate::sandbox::kubernetes::shaping::{drop_empties, drop_nulls, fill_in, normalise, prune};
use crate::sandbox::kubernetes::store::{meta, set_meta, unset_meta};
use crate::sandbox::kubernetes::{defaults, validation};

/// How strictly unknown fields are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Ignore,
    Warn,
    Strict,
}

impl Write<'_> {
    /// Checks apiVersion and kind, and fills them in if they may be left out.
    pub(super) fn check_identity(&self, object: &mut Value, required: bool) -> Outcome<()> {
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
            let why = if said_kind.is_empty() {
                format!("Object 'Kind' is missing in '{}'", Value::Object(members.clone()))
            } else {
                format!("invalid object type: /, Kind={said_kind}")
            };
            return Err(Refusal::bad_request(why));
        }
        if !said.is_empty() && said != api_version {
            return Err(Refusal::bad_request(format!(
                "the API version in the data ({said}) does not match the expected API version ({api_version})"
            )));
        }
        if !said_kind.is_empty() && said_kind != kind {
            return Err(Refusal::bad_request(format!(
                "{said_kind} in version {:?} cannot be handled as a {kind}: converting ({version}.{said_kind}) to ({to}): unknown conversion",
                self.version.name,
                version = self.version.name,
                to = self.kind.go_type("").trim_start_matches('*'),
            )));
        }
        members.insert("apiVersion".to_owned(), Value::from(api_version));
        members.insert("kind".to_owned(), Value::from(kind.as_str()));
        Ok(())
    }

    /// Reads an object as its kind: identity, strictness, types, defaults.
    pub(super) fn decode(&mut self, mut object: Value, patched: bool) -> Outcome<Value> {
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
                let cause = Cause {
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
        if !self.kind.custom {
            drop_empties(&self.version.of, &mut object);
        }
        normalise(&self.version.of, &mut object);
        fill_in(&self.version.of, &mut object);
        defaults::after_schema(self.kind, &mut object);
        Ok(object)
    }

    /// Settles the namespace of an object that is sent.
    pub(super) fn place(&self, object: &mut Value) -> Outcome<()> {
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
}
