//! From the framework's words to messages.

use std::collections::BTreeMap;

use crate::framework::diagnostic::BUG;
use crate::framework::resource::Private;
use crate::framework::{
    Attribute, AttributeKind, AttributePath, Constraint, Deferral, Diagnostic, Diagnostics, IdentitySchema,
    Nesting, Parameter, Presence, Schema, Severity, Signature, Step, Type, Value,
};

use super::dynamic_value::{self, Refinements};
use super::generated as wire;

/// A value of `schema`; null is a message, too.
///
/// # Errors
/// If it is not a value of that schema, which [`crate::framework::contract`] has ruled out.
pub fn value(schema: &Schema, value: &Value) -> Result<Option<wire::DynamicValue>, Diagnostics> {
    typed(&schema.ty(), value, &Refinements::default())
}

/// As [`value`]; what is unknown says about itself what `refinements` say of the same place.
///
/// # Errors
/// If it is not a value of that schema.
pub fn refined(
    schema: &Schema,
    value: &Value,
    refinements: &Refinements,
) -> Result<Option<wire::DynamicValue>, Diagnostics> {
    typed(&schema.ty(), value, refinements)
}

/// A value of a type.
///
/// # Errors
/// If it is not a value of that type.
pub fn typed(
    ty: &Type,
    value: &Value,
    refinements: &Refinements,
) -> Result<Option<wire::DynamicValue>, Diagnostics> {
    match dynamic_value::encode_refined(ty, value, refinements) {
        Ok(msgpack) => Ok(Some(wire::DynamicValue {
            msgpack,
            json: Default::default(),
        })),
        Err(error) => {
            Err(Diagnostic::bug(format!("A value could not be sent to Terraform: {error}.")).into())
        }
    }
}

/// An identity; none is no message.
///
/// # Errors
/// If it is not an identity of that schema.
pub fn identity(
    schema: &IdentitySchema,
    identity: Option<&Value>,
) -> Result<Option<wire::ResourceIdentityData>, Diagnostics> {
    let Some(identity) = identity else {
        return Ok(None);
    };
    Ok(Some(wire::ResourceIdentityData {
        identity_data: typed(&schema.ty(), identity, &Refinements::default())?,
    }))
}

/// Why something is put off.
pub fn deferred(deferral: Deferral) -> wire::Deferred {
    use wire::deferred::Reason;
    let reason = match deferral {
        Deferral::ResourceConfigUnknown => Reason::ResourceConfigUnknown,
        Deferral::ProviderConfigUnknown => Reason::ProviderConfigUnknown,
        Deferral::AbsentPrerequisite => Reason::AbsentPrereq,
    };
    wire::Deferred {
        reason: reason.into(),
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

/// Says in each bug where it is reported.
pub fn name_issues(diagnostics: &mut [wire::Diagnostic], issues: &str) {
    let bugs = diagnostics.iter_mut().filter(|it| it.summary == BUG);
    for bug in bugs.filter(|_| !issues.is_empty()) {
        bug.detail = format!("{}\n{issues}", bug.detail);
    }
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
            ..block(
                &schema.attributes,
                described(&schema.description, &schema.constraints),
            )
        }),
    }
}

fn block(members: &BTreeMap<String, Attribute>, description: String) -> wire::schema::Block {
    wire::schema::Block {
        attributes: attributes(members),
        block_types: members
            .iter()
            .filter_map(|(name, one)| nested_block(name, one))
            .collect(),
        description,
        description_kind: wire::StringKind::Markdown.into(),
        ..Default::default()
    }
}

/// A description, with what goes together in what it describes.
fn described(description: &str, constraints: &[Constraint]) -> String {
    let mut text = description.to_owned();
    for constraint in constraints {
        text.push(' ');
        text.push_str(&constraint.markdown());
    }
    text
}

fn nested_block(name: &str, attribute: &Attribute) -> Option<wire::schema::NestedBlock> {
    use wire::schema::nested_block::NestingMode;
    let (Some(limits), AttributeKind::Nested(nesting, children)) = (attribute.block, &attribute.kind) else {
        return None;
    };
    let mode = match nesting {
        Nesting::Single if limits.group => NestingMode::Group,
        Nesting::Single => NestingMode::Single,
        Nesting::List => NestingMode::List,
        Nesting::Set => NestingMode::Set,
        Nesting::Map => NestingMode::Map,
    };
    // A single block is there or not: Terraform wants both counts to say the same.
    let (least, most) = match mode {
        NestingMode::Single => (limits.least, limits.least),
        _ => (limits.least, limits.most),
    };
    let content = wire::schema::Block {
        computed: attribute.is_computed_block(),
        deprecated: !attribute.deprecation.is_empty(),
        deprecation_message: attribute.deprecation.to_owned(),
        ..block(
            children,
            described(&attribute.description, &attribute.constraints),
        )
    };
    Some(wire::schema::NestedBlock {
        type_name: name.to_owned(),
        block: Some(content),
        nesting: mode.into(),
        min_items: least.into(),
        max_items: most.into(),
    })
}

/// The schema of identities.
pub fn identity_schema(schema: &IdentitySchema) -> wire::ResourceIdentitySchema {
    wire::ResourceIdentitySchema {
        version: schema.version,
        identity_attributes: schema
            .attributes
            .iter()
            .map(
                |(name, attribute)| wire::resource_identity_schema::IdentityAttribute {
                    name: name.clone(),
                    r#type: attribute.ty.to_json().into_bytes(),
                    required_for_import: attribute.required_for_import,
                    optional_for_import: !attribute.required_for_import,
                    description: attribute.description.clone(),
                },
            )
            .collect(),
    }
}

/// What a function takes and returns. It always carries the type of the result: without it Terraform crashes.
pub fn function(signature: &Signature) -> wire::Function {
    let parameter = |parameter: &Parameter| wire::function::Parameter {
        name: parameter.name.clone(),
        r#type: parameter.ty.to_json().into_bytes(),
        allow_null_value: parameter.allow_null,
        allow_unknown_values: parameter.allow_unknown,
        description: parameter.description.clone(),
        description_kind: wire::StringKind::Markdown.into(),
    };
    wire::Function {
        parameters: signature.parameters.iter().map(parameter).collect(),
        variadic_parameter: signature.variadic.as_ref().map(parameter),
        r#return: Some(wire::function::Return {
            r#type: signature.returns.to_json().into_bytes(),
        }),
        summary: signature.summary.clone(),
        description: signature.description.clone(),
        description_kind: wire::StringKind::Markdown.into(),
        deprecation_message: signature.deprecation.clone(),
    }
}

fn attributes(attributes: &BTreeMap<String, Attribute>) -> Vec<wire::schema::Attribute> {
    attributes
        .iter()
        .filter(|(_, one)| one.block.is_none())
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
        description: described(&attribute.description, &attribute.constraints),
        description_kind: wire::StringKind::Markdown.into(),
        required: attribute.presence == Presence::Required,
        optional: matches!(
            attribute.presence,
            Presence::Optional | Presence::OptionalComputed
        ),
        computed: attribute.is_computed(),
        sensitive: attribute.sensitive,
        write_only: attribute.write_only,
        deprecated: !attribute.deprecation.is_empty(),
        deprecation_message: attribute.deprecation.to_owned(),
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
