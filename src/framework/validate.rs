//! Judges a configuration by its schema, before anything else does.
//!
//! Anything may be unknown at this time, so a validator sees known, non-null values only, and an unknown value passes.
//! What is judged inside a collection is reported on the element: `certificates["shop"].hosts[0]`.
//!
//! The functions at the end make validators for [`Attribute::valid`]. Each says what is expected with an example:
//! "Expected a DNS label, for example \"shop\"; got \"Shop!\"." Values of sensitive attributes are not shown.

use std::collections::BTreeMap;

use super::constraint::Constraint;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::path::AttributePath;
use super::schema::{Attribute, AttributeKind, Block, Nesting, Presence, Schema};
use super::value::Value;
use crate::duration;

/// What the schema finds wrong with a configuration.
pub fn config(schema: &Schema, config: &Value) -> Diagnostics {
    let mut found = Vec::new();
    let whole = Shape {
        attributes: &schema.attributes,
        constraints: &schema.constraints,
    };
    object(whole, &AttributePath::root(), config, false, &mut found);
    found.into_iter().collect()
}

/// What the schema and then the author (`own`) find wrong with a configuration, each with a code if the schema has one.
pub fn with_own(schema: &Schema, configuration: &Value, own: Diagnostics) -> Diagnostics {
    let all = config(schema, configuration).into_iter().chain(own);
    all.map(|fault| match fault.code {
        "" => fault.code(schema.fault_code),
        _ => fault,
    })
    .collect()
}

/// Errors for the write-only attributes that are set, for a Terraform that would store them.
pub fn write_only_unsupported(schema: &Schema, config: &Value) -> Diagnostics {
    let mut without = config.clone();
    super::planning::null_write_only(schema, &mut without);
    let mut paths = Vec::new();
    changed(&AttributePath::root(), config, &without, &mut paths);
    paths
        .into_iter()
        .map(|path| {
            Diagnostic::error(
                "Write-only attribute needs a newer Terraform",
                format!("{path} is write-only: it is used and stored nowhere. This version would store it."),
                "Use Terraform 1.11 or OpenTofu 1.11, or newer.",
            )
            .at(path)
        })
        .collect()
}

fn changed(path: &AttributePath, left: &Value, right: &Value, found: &mut Vec<AttributePath>) {
    match (left, right) {
        (Value::Map(left), Value::Map(right)) => {
            for (name, value) in left {
                let other = right.get(name).unwrap_or(&Value::Null);
                changed(&path.attribute(name), value, other, found);
            }
        }
        (Value::List(left), Value::List(right)) => {
            for (index, (value, other)) in left.iter().zip(right).enumerate() {
                changed(&path.index(index), value, other, found);
            }
        }
        (left, right) if left == right => {}
        _ => found.push(path.clone()),
    }
}

/// What there is to say about an object.
#[derive(Clone, Copy)]
struct Shape<'a> {
    attributes: &'a BTreeMap<String, Attribute>,
    constraints: &'a [Constraint],
}

/// Judges an object, which is known and not null.
fn object(
    shape: Shape<'_>,
    path: &AttributePath,
    value: &Value,
    sensitive: bool,
    found: &mut Vec<Diagnostic>,
) {
    let attribute = |name: &str| shape.attributes.get(name);
    let broken = shape.constraints.iter();
    found.extend(broken.filter_map(|constraint| constraint.judge(attribute, path, value)));
    for (name, attribute) in shape.attributes {
        let sensitive = sensitive || attribute.sensitive || attribute.write_only;
        judge(
            attribute,
            &path.attribute(name),
            value.get(name),
            sensitive,
            found,
        );
    }
}

fn judge(
    attribute: &Attribute,
    path: &AttributePath,
    value: &Value,
    sensitive: bool,
    found: &mut Vec<Diagnostic>,
) {
    match (attribute.presence, value) {
        (_, Value::Null) if attribute.block.is_some_and(|block| block.least > 0) => {
            if let Some(block) = attribute.block {
                count(block, path, value, found);
            }
            return;
        }
        (Presence::Required, Value::Null) => {
            found.push(
                Diagnostic::error(
                    "Required attribute is missing",
                    format!("{path} must be set."),
                    format!("Set {path}."),
                )
                .at(path.clone()),
            );
            return;
        }
        (_, Value::Null) => return,
        (Presence::Computed, value) if attribute.is_computed_block() && *value == attribute.unset() => return,
        (Presence::Computed, _) => {
            found.push(
                Diagnostic::error(
                    "Attribute is read-only",
                    format!("{path} is set by the provider only."),
                    format!("Remove {path} from the configuration."),
                )
                .at(path.clone()),
            );
            return;
        }
        (_, Value::Unknown) => return,
        _ => {}
    }
    if !attribute.deprecation.is_empty() && value != &attribute.unset() {
        found.push(
            Diagnostic::warning(
                "Attribute is deprecated",
                format!("{path} still works."),
                attribute.deprecation,
            )
            .at(path.clone()),
        );
    }
    if let Some(block) = attribute.block {
        count(block, path, value, found);
    }
    for validator in &attribute.validators {
        found.extend(validator(value, path).into_iter().map(|diagnostic| {
            if sensitive {
                without_value(diagnostic)
            } else {
                diagnostic
            }
        }));
    }
    let AttributeKind::Nested(nesting, children) = &attribute.kind else {
        return;
    };
    let shape = Shape {
        attributes: children,
        constraints: &attribute.constraints,
    };
    match (nesting, value) {
        (Nesting::Single, value) => object(shape, path, value, sensitive, found),
        (Nesting::Map, Value::Map(members)) => {
            for (key, value) in members {
                element(shape, &path.key(key), value, sensitive, found);
            }
        }
        (Nesting::List, Value::List(items)) => {
            for (index, value) in items.iter().enumerate() {
                element(shape, &path.index(index), value, sensitive, found);
            }
        }
        (Nesting::Set, Value::Set(items)) => {
            for value in items {
                element(shape, path, value, sensitive, found);
            }
        }
        _ => {}
    }
}

/// Blocks are counted once it is known how many there are.
fn count(block: Block, path: &AttributePath, value: &Value, found: &mut Vec<Diagnostic>) {
    let number = match value {
        Value::List(items) | Value::Set(items) => items.len(),
        Value::Null => 0,
        _ => return,
    };
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let many = |number: u32| format!("{number} block{}", if number == 1 { "" } else { "s" });
    let (wrong, fix) = if number < block.least {
        (
            format!("at least {}", many(block.least)),
            format!("Add a {path} block."),
        )
    } else if block.most != 0 && number > block.most {
        (
            format!("at most {}", many(block.most)),
            format!("Remove a {path} block."),
        )
    } else {
        return;
    };
    found.push(
        Diagnostic::error(
            "Number of blocks is not allowed",
            format!("{path} takes {wrong}{GOT}{number}."),
            fix,
        )
        .at(path.clone()),
    );
}

fn element(
    shape: Shape<'_>,
    path: &AttributePath,
    value: &Value,
    sensitive: bool,
    found: &mut Vec<Diagnostic>,
) {
    match value {
        Value::Null => found.push(
            Diagnostic::error(
                "Element is null",
                format!("{path} must be an object; it is null."),
                format!("Write {path} as an object, which may be empty if all its attributes are optional, or remove it."),
            )
            .at(path.clone()),
        ),
        Value::Unknown => {}
        value => object(shape, path, value, sensitive, found),
    }
}

const GOT: &str = "; got ";

fn without_value(mut diagnostic: Diagnostic) -> Diagnostic {
    if let Some(position) = diagnostic.detail.find(GOT) {
        diagnostic.detail.truncate(position);
        diagnostic.detail.push_str(GOT);
        diagnostic.detail.push_str("another, sensitive value.");
    }
    diagnostic
}

/// The error that a value is not what was expected, with an example of what would be. For validators of one's own.
pub fn unexpected(path: &AttributePath, expected: &str, example: &str, got: &Value) -> Diagnostic {
    Diagnostic::error(
        "Value is not valid",
        format!("Expected {expected}, for example {example}{GOT}{}.", shown(got)),
        format!("Correct {path}."),
    )
    .at(path.clone())
}

/// A value in a message: short, quoted as in a configuration.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    match value {
        Value::String(text) if text.chars().count() > LONGEST => {
            let start: String = text.chars().take(LONGEST).collect();
            format!("{start:?}… ({} characters)", text.chars().count())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::List(items) | Value::Set(items) => format!("{} elements", items.len()),
        Value::Map(members) => format!("{} elements", members.len()),
        Value::Dynamic(_, value) => shown(value),
        Value::Null | Value::Unknown => value.kind().to_owned(),
    }
}

/// Text that passes `test`. `expected` completes "Expected …", `example` is written as in a configuration.
pub fn text(
    expected: &'static str,
    example: &'static str,
    test: fn(&str) -> bool,
) -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static {
    move |value, path| match value.as_str() {
        Some(text) if !test(text) => vec![unexpected(path, expected, example, value)],
        _ => Vec::new(),
    }
}

/// A duration longer than nothing: `90s`, `1h30m`. `example` is one, without quotes.
pub fn duration(
    example: &'static str,
) -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static {
    move |value, path| match value.as_str() {
        Some(text) if duration::parse(text).is_none_or(|it| it.is_zero()) => {
            vec![unexpected(path, "a duration", &format!("{example:?}"), value)]
        }
        _ => Vec::new(),
    }
}

/// One of these texts.
pub fn one_of(
    allowed: &'static [&'static str],
) -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static {
    move |value, path| match value.as_str() {
        Some(text) if !allowed.contains(&text) => {
            let quoted: Vec<String> = allowed.iter().map(|word| format!("{word:?}")).collect();
            let example = quoted.first().cloned().unwrap_or_default();
            vec![unexpected(
                path,
                &format!("one of {}", quoted.join(", ")),
                &example,
                value,
            )]
        }
        _ => Vec::new(),
    }
}

/// Between `least` and `most` elements of a collection, or characters of a text.
pub fn length_between(
    least: usize,
    most: usize,
) -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static {
    move |value, path| {
        let (length, unit) = match value {
            Value::String(text) => (text.chars().count(), "characters"),
            Value::List(items) | Value::Set(items) => (items.len(), "elements"),
            Value::Map(members) => (members.len(), "elements"),
            _ => return Vec::new(),
        };
        if (least..=most).contains(&length) {
            return Vec::new();
        }
        let expected = format!("between {least} and {most} {unit}");
        let got = Value::from(i64::try_from(length).unwrap_or(i64::MAX));
        vec![unexpected(path, &expected, &least.to_string(), &got)]
    }
}

/// A whole number between `least` and `most`.
pub fn whole_number_between(
    least: i64,
    most: i64,
) -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static {
    move |value, path| match value {
        Value::Number(number) if !number.as_i64().is_some_and(|n| (least..=most).contains(&n)) => {
            let expected = format!("a whole number between {least} and {most}");
            vec![unexpected(path, &expected, &least.to_string(), value)]
        }
        _ => Vec::new(),
    }
}

/// A map whose every key passes `test`; reported on the element.
pub fn matches_each(
    expected: &'static str,
    example: &'static str,
    test: fn(&str) -> bool,
) -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static {
    move |value, path| {
        value
            .as_map()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !test(key))
            .map(|(key, _)| {
                let got = Value::from(key.as_str());
                unexpected(
                    &path.key(key),
                    &format!("each key to be {expected}"),
                    example,
                    &got,
                )
            })
            .collect()
    }
}

/// A collection whose every known, non-null element passes `validator`; reported on the element.
pub fn each(
    validator: impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static,
) -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static {
    move |value, path| {
        let elements: Vec<(AttributePath, &Value)> = match value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, value)| (path.index(index), value))
                .collect(),
            Value::Set(items) => items.iter().map(|value| (path.clone(), value)).collect(),
            Value::Map(members) => members
                .iter()
                .map(|(key, value)| (path.key(key), value))
                .collect(),
            _ => Vec::new(),
        };
        elements
            .into_iter()
            .filter(|(_, value)| !value.is_null() && !value.is_unknown())
            .flat_map(|(path, value)| validator(value, &path))
            .collect()
    }
}

#[cfg(test)]
mod tests;
