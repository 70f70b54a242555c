//! From the framework's words to messages.

use std::collections::BTreeMap;

use crate::framework::resource::Private;
use crate::framework::{
    Attribute, AttributeKind, AttributePath, Diagnostic, Diagnostics, Nesting, Presence, Schema, Severity,
    Step, Value,
};

use super::dynamic_value;
use super::generated as wire;

/// A value of `schema`; null is a message, too.
///
/// # Errors
/// If it is not a value of that schema, which [`crate::framework::contract`] has ruled out.
pub fn value(schema: &Schema, value: &Value) -> Result<Option<wire::DynamicValue>, Diagnostics> {
    match dynamic_value::encode(&schema.ty(), value) {
        Ok(msgpack) => Ok(Some(wire::DynamicValue {
            msgpack,
            json: Default::default(),
        })),
        Err(error) => {
            Err(Diagnostic::bug(format!("A value could not be sent to Terraform: {error}.")).into())
        }
    }
}

/// Private data; none is no bytes.
pub fn private(private: &Private) -> Vec<u8> {
    if private.is_empty() {
        return Vec::new();
    }
    // A map of JSON values with string keys is always JSON.
    serde_json::to_vec(private).unwrap_or_default()
}

/// All diagnostics, in order.
pub fn diagnostics(diagnostics: Diagnostics) -> Vec<wire::Diagnostic> {
    diagnostics.into_iter().map(|one| diagnostic(&one)).collect()
}

fn diagnostic(diagnostic: &Diagnostic) -> wire::Diagnostic {
    let severity = match diagnostic.severity {
        Severity::Error => wire::diagnostic::Severity::Error,
        Severity::Warning => wire::diagnostic::Severity::Warning,
    };
    wire::Diagnostic {
        severity: severity.into(),
        summary: diagnostic.summary.clone(),
        detail: diagnostic.text(),
        attribute: (!diagnostic.attribute.is_root()).then(|| path(&diagnostic.attribute)),
    }
}

/// An attribute path.
pub fn path(path: &AttributePath) -> wire::AttributePath {
    use wire::attribute_path::step::Selector;
    let step = |step: &Step| match step {
        Step::Attribute(name) => Selector::AttributeName(name.clone()),
        Step::Key(key) => Selector::ElementKeyString(key.clone()),
        Step::Index(index) => Selector::ElementKeyInt(*index),
    };
    wire::AttributePath {
        steps: path
            .steps()
            .iter()
            .map(|one| wire::attribute_path::Step {
                selector: Some(step(one)),
            })
            .collect(),
    }
}

/// A schema. It always carries a block: without one Terraform crashes.
pub fn schema(schema: &Schema) -> wire::Schema {
    wire::Schema {
        version: schema.version,
        block: Some(wire::schema::Block {
            version: schema.version,
            attributes: attributes(&schema.attributes),
            description: schema.description.clone(),
            description_kind: wire::StringKind::Markdown.into(),
            ..Default::default()
        }),
    }
}

fn attributes(attributes: &BTreeMap<String, Attribute>) -> Vec<wire::schema::Attribute> {
    attributes
        .iter()
        .map(|(name, one)| attribute(name, one))
        .collect()
}

fn attribute(name: &str, attribute: &Attribute) -> wire::schema::Attribute {
    let (ty, nested) = match &attribute.kind {
        AttributeKind::Value(ty) => (ty.to_json().into_bytes(), None),
        AttributeKind::Nested(nesting, children) => (Vec::new(), Some(nested_type(*nesting, children))),
    };
    wire::schema::Attribute {
        name: name.to_owned(),
        r#type: ty,
        nested_type: nested,
        description: attribute.description.clone(),
        description_kind: wire::StringKind::Markdown.into(),
        required: attribute.presence == Presence::Required,
        optional: matches!(
            attribute.presence,
            Presence::Optional | Presence::OptionalComputed
        ),
        computed: attribute.is_computed(),
        sensitive: attribute.sensitive,
        write_only: attribute.write_only,
        ..Default::default()
    }
}

fn nested_type(nesting: Nesting, children: &BTreeMap<String, Attribute>) -> wire::schema::Object {
    use wire::schema::object::NestingMode;
    let mode = match nesting {
        Nesting::Single => NestingMode::Single,
        Nesting::List => NestingMode::List,
        Nesting::Set => NestingMode::Set,
        Nesting::Map => NestingMode::Map,
    };
    wire::schema::Object {
        attributes: attributes(children),
        nesting: mode.into(),
        ..Default::default()
    }
}
