//! Resource identity: the few values by which one object is told from all others, for ever.
//!
//! An identity is made of the state ([`Identity::of`]), so it cannot say anything else than the state does. Terraform
//! stores it beside the state, lets practitioners import by it, and wants it of everything a list resource finds.
//! A host that knows no identities sends none and ignores ours.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::contract;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::function::is_identifier;
use super::lifecycle;
use super::path::AttributePath;
use super::resource::{Deadline, ImportResponse, Resource};
use super::ty::Type;
use super::value::Value;

/// The identity of a managed resource; see [`Resource::identity`].
#[async_trait]
pub trait Identity: Send + Sync + 'static {
    /// What an identity is made of; the same at every call.
    fn schema(&self) -> &IdentitySchema;

    /// The identity of the object with this planned or stored state: the attributes of the same names, if nothing else
    /// is said. Only the plan of a create or replacement may leave parts unknown, and an identity never changes.
    fn of(&self, state: &Value) -> Value {
        let names = self.schema().attributes.keys();
        Value::object(names.map(|name| (name.as_str(), state.get(name).clone())))
    }

    /// Finds the object of an identity, in which optional attributes may be null; read follows.
    async fn import(&self, identity: &Value, deadline: Deadline) -> ImportResponse;

    /// Turns a stored identity of an older version, as JSON, into one of today's.
    ///
    /// # Errors
    /// If there is no upgrade from `version`, or the JSON is not what that version wrote.
    fn upgrade(&self, version: i64, json: &str) -> Result<Value, Diagnostics> {
        let _ = json;
        Err(Diagnostic::error(
            "Identity is of an unknown version",
            format!("The stored identity was written with version {version}."),
            "Use the provider version that wrote it, or a newer one.",
        )
        .into())
    }
}

/// What an identity is made of.
#[derive(Clone, Debug, Default)]
pub struct IdentitySchema {
    /// Raised whenever stored identities need an upgrade. Independent of the version of the resource's schema.
    pub version: i64,
    /// By name.
    pub attributes: BTreeMap<String, IdentityAttribute>,
}

/// One part of an identity.
#[derive(Clone, Debug)]
pub struct IdentityAttribute {
    /// A primitive, or a list of primitives.
    pub ty: Type,
    /// Whether an import by identity must give it; otherwise it may.
    pub required_for_import: bool,
    /// One sentence.
    pub description: String,
}

impl IdentityAttribute {
    /// Text that an import must give.
    pub fn required(description: impl Into<String>) -> Self {
        Self {
            ty: Type::String,
            required_for_import: true,
            description: description.into(),
        }
    }

    /// Text that an import may give.
    pub fn optional(description: impl Into<String>) -> Self {
        Self {
            required_for_import: false,
            ..Self::required(description)
        }
    }
}

impl IdentitySchema {
    /// An identity of these attributes, version 0.
    pub fn new<const N: usize>(attributes: [(&str, IdentityAttribute); N]) -> Self {
        Self {
            version: 0,
            attributes: attributes
                .into_iter()
                .map(|(name, attribute)| (name.to_owned(), attribute))
                .collect(),
        }
    }

    /// The object type of an identity.
    pub fn ty(&self) -> Type {
        Type::Object(
            self.attributes
                .iter()
                .map(|(name, attribute)| (name.clone(), attribute.ty.clone()))
                .collect(),
        )
    }

    /// What is wrong with this schema, one sentence each; for a test of the provider.
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.version < 0 {
            faults.push("the version is negative".to_owned());
        }
        if self.attributes.is_empty() {
            faults.push("an identity without attributes".to_owned());
        }
        for (name, attribute) in &self.attributes {
            if !is_identifier(name) {
                faults.push(format!("{name:?}: the name of a part is an identifier"));
            }
            let primitive = |ty: &Type| matches!(ty, Type::Bool | Type::Number | Type::String);
            let allowed = match &attribute.ty {
                Type::List(element) => primitive(element),
                ty => primitive(ty),
            };
            if !allowed {
                faults.push(format!("{name}: an identity holds primitives and lists of them"));
            }
        }
        faults
    }
}

/// What an identity may be at some step of the life of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maturity {
    /// The object does not exist yet: parts may be unknown. Such an identity is not sent, since OpenTofu 1.12 fails to store
    /// one, and a plan needs none.
    Planned,
    /// The object exists: wholly known.
    Known,
}

/// The identity of `state` if the resource has one, held against the one that is stored: null for none.
///
/// # Errors
/// What is wrong with it, as bugs of the provider.
pub fn of(
    resource: &dyn Resource,
    state: &Value,
    stored: &Value,
    maturity: Maturity,
) -> Result<Option<Value>, Diagnostics> {
    let Some(identity) = resource.identity() else {
        return Ok(None);
    };
    if state.is_null() {
        return Ok((!stored.is_null()).then(|| stored.clone()));
    }
    let value = identity.of(state);
    let faults = contract::check_identity(identity.schema(), stored, &value, maturity);
    if faults.has_errors() {
        return Err(faults);
    }
    Ok(value.is_wholly_known().then_some(value))
}

/// Finds the object of `identity`.
pub async fn import(resource: &dyn Resource, identity: &Value, deadline: Deadline) -> ImportResponse {
    let refuse = |diagnostic: Diagnostic| ImportResponse {
        state: Value::Null,
        private: Default::default(),
        diagnostics: diagnostic.into(),
    };
    let Some(offered) = resource.identity() else {
        return refuse(Diagnostic::error(
            "Import by identity is not possible",
            format!("{} has no identity.", resource.type_name()),
            "Set `id` instead of `identity` in the `import` block.",
        ));
    };
    for (name, attribute) in &offered.schema().attributes {
        if attribute.required_for_import && identity.get(name).is_null() {
            return refuse(
                Diagnostic::error(
                    "Import needs a whole identity",
                    format!(
                        "{name} is missing in the identity of the {}.",
                        resource.type_name()
                    ),
                    format!("Set {name} in `identity` of the `import` block."),
                )
                .at(AttributePath::of(name)),
            );
        }
    }
    lifecycle::imported(resource, &deadline.clone(), offered.import(identity, deadline)).await
}

/// Turns a stored identity into one of today's schema.
///
/// # Errors
/// If the resource has no identity, it cannot be read, or there is no upgrade for it.
pub fn upgrade(resource: &dyn Resource, version: i64, json: &str) -> Result<Value, Diagnostics> {
    let Some(identity) = resource.identity() else {
        return Err(Diagnostic::error(
            "Identity is not known",
            format!(
                "This version of the provider keeps no identity of a {}.",
                resource.type_name()
            ),
            "Use the version of the provider that wrote the state, or a newer one.",
        )
        .into());
    };
    let schema = identity.schema();
    if version > schema.version {
        return Err(lifecycle::newer(resource, "identity", version, schema.version));
    }
    let upgraded = if version == schema.version {
        Value::from_json(&schema.ty(), json).map_err(|error| {
            Diagnostic::error(
                "Stored identity is not readable",
                format!(
                    "The stored identity of a {} does not fit its schema: {error}.",
                    resource.type_name()
                ),
                "Restore the state from a backup, or remove the resource from it and import it again.",
            )
        })?
    } else {
        identity.upgrade(version, json)?
    };
    let faults = contract::check_identity(schema, &Value::Null, &upgraded, Maturity::Known);
    if faults.has_errors() {
        return Err(faults);
    }
    Ok(upgraded)
}
