//! The rules Terraform checks on every answer, checked here first.
//!
//! A violation in Terraform's own words says that the provider "produced an unexpected new value"; here it says which
//! promise was broken on which attribute. No message shows a value: attributes may be sensitive.
//!
//! Two rules are stricter than Terraform's: a write-only value is never let through, even where it equals the
//! configuration, and an unknown configuration stays unknown in the plan.
//!
//! [`repair`] makes of any value one that can be stored, because an answer that cannot be stored loses the object.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::identity::{IdentitySchema, Maturity};
use super::path::{AttributePath, Step};
use super::schema::{Attribute, AttributeKind, Nesting, Presence, Schema};
use super::ty::Type;
use super::value::Value;

/// A plan: `prior` null means create, `config` null means destroy.
pub fn check_plan(schema: &Schema, config: &Value, prior: &Value, planned: &Value) -> Diagnostics {
    let root = AttributePath::root();
    if config.is_null() {
        return if planned.is_null() {
            Diagnostics::new()
        } else {
            broken(&root, "The plan of a destroy is not null.").into()
        };
    }
    if planned.is_null() {
        return broken(
            &root,
            "The plan is null although the configuration wants the resource.",
        )
        .into();
    }
    let mut found = shape_faults(&schema.ty(), planned);
    if found.is_empty() {
        plan_object(
            &schema.attributes,
            &root,
            &Three {
                config,
                prior,
                planned,
            },
            &mut found,
        );
    }
    found.into_iter().collect()
}

/// The paths that are to replace the resource: each must lead somewhere in the prior or the planned state.
pub fn check_replacements(prior: &Value, planned: &Value, paths: &[AttributePath]) -> Diagnostics {
    paths
        .iter()
        .filter(|path| !leads_somewhere(prior, path.steps()) && !leads_somewhere(planned, path.steps()))
        .map(|path| {
            broken(
                path,
                "The plan replaces the resource because of an attribute that does not exist.",
            )
        })
        .collect()
}

/// The plan Terraform asks for once more during apply, against the one it showed: known values stay, unknown ones
/// may become known.
pub fn check_final_plan(schema: &Schema, first: &Value, second: &Value) -> Diagnostics {
    let mut found = Vec::new();
    let words = "in the plan made again during apply";
    consistent(
        &schema.ty(),
        &AttributePath::root(),
        (first, second),
        words,
        &mut found,
    );
    found.into_iter().collect()
}

/// The state after a create or update, or after a delete, which has `planned` null.
pub fn check_apply(schema: &Schema, planned: &Value, new: &Value) -> Diagnostics {
    let root = AttributePath::root();
    if planned.is_null() {
        return if new.is_null() {
            Diagnostics::new()
        } else {
            broken(
                &root,
                "There is still a state after a delete that reported success.",
            )
            .into()
        };
    }
    if new.is_null() {
        return broken(&root, "There is no state after an apply that reported success.").into();
    }
    let mut found = state_faults(schema, new);
    if !found.iter().any(|diagnostic| diagnostic.attribute.is_root()) {
        consistent(&schema.ty(), &root, (planned, new), "after apply", &mut found);
    }
    found.into_iter().collect()
}

/// The state after a read; null means gone.
pub fn check_read(schema: &Schema, new: &Value) -> Diagnostics {
    if new.is_null() {
        return Diagnostics::new();
    }
    state_faults(schema, new).into_iter().collect()
}

/// The state after an upgrade from an older schema version.
pub fn check_upgrade(schema: &Schema, new: &Value) -> Diagnostics {
    present_state(schema, new, "The upgraded state is null.")
}

/// The state after an import.
pub fn check_import(schema: &Schema, new: &Value) -> Diagnostics {
    present_state(schema, new, "The import reported success and found nothing.")
}

/// What a data source read.
pub fn check_data(schema: &Schema, new: &Value) -> Diagnostics {
    present_state(
        schema,
        new,
        "The data source reported success and returned nothing.",
    )
}

/// What an ephemeral resource opened: a plan of a create that leaves nothing open.
pub fn check_open(schema: &Schema, config: &Value, result: &Value) -> Diagnostics {
    if result.is_null() {
        return broken(
            &AttributePath::root(),
            "The ephemeral resource reported success and opened nothing.",
        )
        .into();
    }
    let mut found = check_plan(schema, config, &Value::Null, result);
    let mut unknown = Vec::new();
    unknowns(&schema.ty(), &AttributePath::root(), result, &mut unknown);
    found.extend(unknown);
    found
}

/// An identity, against the one that is `stored`, null for none: of exactly the schema's shape, known as far as the
/// object exists, not null in every part, and the same for ever.
pub fn check_identity(
    schema: &IdentitySchema,
    stored: &Value,
    identity: &Value,
    maturity: Maturity,
) -> Diagnostics {
    let root = AttributePath::root();
    if identity.is_null() {
        return broken(&root, "There is no identity.").into();
    }
    let ty = schema.ty();
    let mut found = shape_faults(&ty, identity);
    if maturity == Maturity::Known {
        unknowns(&ty, &root, identity, &mut found);
    }
    let parts = || schema.attributes.keys().map(|name| (name, identity.get(name)));
    if parts().all(|(_, part)| part.is_null()) {
        found.push(broken(&root, "The identity is null in every part."));
    }
    for (name, part) in parts() {
        let before = stored.get(name);
        if !before.is_null() && !before.is_unknown() && !part.is_unknown() && part != before {
            found.push(broken(
                &AttributePath::of(name),
                "The identity of an object changed, which makes it another object.",
            ));
        }
    }
    found.into_iter().collect()
}

/// Whether `value` is a value of `ty`; null and unknown are values of every type.
pub fn has_shape(ty: &Type, value: &Value) -> bool {
    shape_faults(ty, value).is_empty()
}

/// A value that can be stored: of exactly the schema's shape, unknown and write-only values null, what is of another
/// kind null, what is missing null, what is too much gone.
pub fn repair(schema: &Schema, value: &Value) -> Value {
    if value.is_null() {
        return Value::Null;
    }
    let mut repaired = repair_value(&schema.ty(), value);
    super::planning::settle(schema, &mut repaired);
    repaired
}

fn broken(path: &AttributePath, sentence: impl Into<String>) -> Diagnostic {
    let sentence = sentence.into();
    let detail = if path.is_root() {
        sentence
    } else {
        format!("{path}: {sentence}")
    };
    Diagnostic::bug(detail).at(path.clone())
}

fn present_state(schema: &Schema, new: &Value, absent: &str) -> Diagnostics {
    if new.is_null() {
        return broken(&AttributePath::root(), absent).into();
    }
    state_faults(schema, new).into_iter().collect()
}

/// A state has the schema's shape, is wholly known and holds nothing write-only.
fn state_faults(schema: &Schema, new: &Value) -> Vec<Diagnostic> {
    let ty = schema.ty();
    let root = AttributePath::root();
    let mut found = shape_faults(&ty, new);
    unknowns(&ty, &root, new, &mut found);
    let mut without = new.clone();
    super::planning::null_write_only(schema, &mut without);
    if without != *new {
        write_only_faults(&schema.attributes, &root, new, &mut found);
    }
    found
}

fn write_only_faults(
    attributes: &BTreeMap<String, Attribute>,
    path: &AttributePath,
    value: &Value,
    found: &mut Vec<Diagnostic>,
) {
    for (name, attribute) in attributes {
        let (value, path) = (value.get(name), path.attribute(name));
        if attribute.write_only && !value.is_null() {
            found.push(broken(&path, "A write-only value was returned."));
        }
        let AttributeKind::Nested(nesting, children) = &attribute.kind else {
            continue;
        };
        match (nesting, value) {
            (Nesting::Single, value) => write_only_faults(children, &path, value, found),
            (Nesting::Map, Value::Map(members)) => {
                for (key, value) in members {
                    write_only_faults(children, &path.key(key), value, found);
                }
            }
            (Nesting::List, Value::List(items)) => {
                for (index, value) in items.iter().enumerate() {
                    write_only_faults(children, &path.index(index), value, found);
                }
            }
            _ => {}
        }
    }
}

fn shape_faults(ty: &Type, value: &Value) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    shape(ty, &AttributePath::root(), value, &mut found);
    found
}

fn shape(ty: &Type, path: &AttributePath, value: &Value, found: &mut Vec<Diagnostic>) {
    match (ty, value) {
        (_, Value::Null | Value::Unknown)
        | (Type::Bool, Value::Bool(_))
        | (Type::Number, Value::Number(_))
        | (Type::String, Value::String(_)) => {}
        (Type::List(element), Value::List(items)) => {
            for (index, value) in items.iter().enumerate() {
                shape(element, &path.index(index), value, found);
            }
        }
        (Type::Set(element), Value::Set(items)) => {
            for value in items {
                shape(element, path, value, found);
            }
        }
        (Type::Tuple(types), Value::List(items)) if types.len() == items.len() => {
            for (index, (ty, value)) in types.iter().zip(items).enumerate() {
                shape(ty, &path.index(index), value, found);
            }
        }
        (Type::Map(element), Value::Map(members)) => {
            for (key, value) in members {
                shape(element, &path.key(key), value, found);
            }
        }
        (Type::Object(attributes), Value::Map(members)) => {
            for (name, ty) in attributes {
                match members.get(name) {
                    Some(value) => shape(ty, &path.attribute(name), value, found),
                    None => found.push(broken(&path.attribute(name), "The attribute is missing.")),
                }
            }
            for name in members.keys().filter(|name| !attributes.contains_key(*name)) {
                found.push(broken(&path.attribute(name), "There is no such attribute."));
            }
        }
        (Type::Dynamic, Value::Dynamic(ty, value)) => shape(ty, path, value, found),
        (ty, value) => found.push(broken(
            path,
            format!("{} was returned where {} belongs.", value.kind(), type_words(ty)),
        )),
    }
}

fn type_words(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "a bool",
        Type::Number => "a number",
        Type::String => "a string",
        Type::List(_) => "a list",
        Type::Set(_) => "a set",
        Type::Map(_) => "a map",
        Type::Object(_) => "an object",
        Type::Tuple(_) => "a tuple of another length",
        Type::Dynamic => "a value with its type",
    }
}

fn unknowns(ty: &Type, path: &AttributePath, value: &Value, found: &mut Vec<Diagnostic>) {
    if value.is_unknown() {
        found.push(broken(path, "The value is still unknown."));
        return;
    }
    for (path, ty, value) in children(ty, path, value) {
        unknowns(ty, &path, value, found);
    }
}

/// The parts of a value with their types and paths.
fn children<'a>(
    ty: &'a Type,
    path: &AttributePath,
    value: &'a Value,
) -> Vec<(AttributePath, &'a Type, &'a Value)> {
    match (ty, value) {
        (Type::List(element), Value::List(items)) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (path.index(index), element.as_ref(), value))
            .collect(),
        (Type::Tuple(types), Value::List(items)) => items
            .iter()
            .zip(types)
            .enumerate()
            .map(|(index, (value, ty))| (path.index(index), ty, value))
            .collect(),
        (Type::Set(element), Value::Set(items)) => items
            .iter()
            .map(|value| (path.clone(), element.as_ref(), value))
            .collect(),
        (Type::Map(element), Value::Map(members)) => members
            .iter()
            .map(|(key, value)| (path.key(key), element.as_ref(), value))
            .collect(),
        (Type::Object(attributes), Value::Map(members)) => members
            .iter()
            .filter_map(|(name, value)| Some((path.attribute(name), attributes.get(name)?, value)))
            .collect(),
        (Type::Dynamic, Value::Dynamic(ty, value)) => vec![(path.clone(), ty.as_ref(), value.as_ref())],
        _ => Vec::new(),
    }
}

/// The three values a plan is judged by.
struct Three<'a> {
    config: &'a Value,
    prior: &'a Value,
    planned: &'a Value,
}

fn plan_object(
    attributes: &BTreeMap<String, Attribute>,
    path: &AttributePath,
    values: &Three<'_>,
    found: &mut Vec<Diagnostic>,
) {
    for (name, attribute) in attributes {
        let inner = Three {
            config: values.config.get(name),
            prior: values.prior.get(name),
            planned: values.planned.get(name),
        };
        plan_attribute(attribute, &path.attribute(name), &inner, found);
    }
}

fn plan_attribute(
    attribute: &Attribute,
    path: &AttributePath,
    values: &Three<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let Three {
        config,
        prior,
        planned,
    } = *values;
    if attribute.write_only {
        if !planned.is_null() {
            found.push(broken(path, "A write-only value was planned."));
        }
        return;
    }
    let as_configured = planned == config;
    // Blocks are held against the configuration one by one: their number is never the provider's to keep.
    let as_before = attribute.block.is_none()
        && planned == prior
        && !prior.is_null()
        && !config.is_null()
        && !config.is_unknown();
    if as_configured || as_before || attribute.presence == Presence::Computed {
        return;
    }
    if config.is_null() {
        if !attribute.is_computed() {
            found.push(broken(
                path,
                format!(
                    "{} was planned, but the configuration leaves it null and the provider may not set it.",
                    planned.kind()
                ),
            ));
        }
        return;
    }
    let AttributeKind::Nested(nesting, children) = &attribute.kind else {
        found.push(differs(path, values));
        return;
    };
    match (nesting, config, planned) {
        (Nesting::Single, Value::Map(_), Value::Map(_)) => plan_object(children, path, values, found),
        (Nesting::Map, Value::Map(wanted), Value::Map(got)) => {
            for key in wanted.keys().filter(|key| !got.contains_key(*key)) {
                found.push(broken(&path.key(key), "A configured element is not in the plan."));
            }
            for (key, planned) in got {
                let path = path.key(key);
                match wanted.get(key) {
                    Some(config) => {
                        let prior = prior.get(key);
                        plan_element(
                            children,
                            &path,
                            &Three {
                                config,
                                prior,
                                planned,
                            },
                            found,
                        );
                    }
                    None => found.push(broken(&path, "An element was planned that is not configured.")),
                }
            }
        }
        (Nesting::List, Value::List(wanted), Value::List(got)) if wanted.len() == got.len() => {
            for (index, (config, planned)) in wanted.iter().zip(got).enumerate() {
                let prior = prior
                    .as_list()
                    .and_then(|items| items.get(index))
                    .unwrap_or(&Value::Null);
                plan_element(
                    children,
                    &path.index(index),
                    &Three {
                        config,
                        prior,
                        planned,
                    },
                    found,
                );
            }
        }
        (Nesting::List, Value::List(_), Value::List(_)) => {
            found.push(broken(
                path,
                "The plan has another number of elements than the configuration.",
            ));
        }
        (Nesting::Set, Value::Set(wanted), Value::Set(got)) => {
            // An element has no place, so any prior element may be the one whose spelling it keeps.
            let priors = || std::iter::once(&Value::Null).chain(prior.as_list().unwrap_or_default());
            let fits = |config: &Value, planned: &Value| {
                priors().any(|prior| {
                    let mut faults = Vec::new();
                    let three = Three {
                        config,
                        prior,
                        planned,
                    };
                    plan_element(children, path, &three, &mut faults);
                    faults.is_empty()
                })
            };
            if !pair_up(wanted, got, fits) {
                found.push(broken(
                    path,
                    "The elements of the planned set are not those of the configuration.",
                ));
            }
        }
        _ => found.push(differs(path, values)),
    }
}

fn plan_element(
    attributes: &BTreeMap<String, Attribute>,
    path: &AttributePath,
    values: &Three<'_>,
    found: &mut Vec<Diagnostic>,
) {
    match (values.config, values.planned) {
        (Value::Map(_), Value::Map(_)) => plan_object(attributes, path, values, found),
        (config, planned) if config == planned => {}
        _ => found.push(differs(path, values)),
    }
}

fn differs(path: &AttributePath, values: &Three<'_>) -> Diagnostic {
    let sentence = match (values.config, values.planned) {
        (Value::Unknown, _) => "The configuration is unknown here, and the plan is not.",
        (_, Value::Unknown) => "The configuration is known here, and the plan is not.",
        (_, Value::Null) => "The configuration sets it, and the plan does not.",
        _ => "The planned value is neither the configured nor the prior one.",
    };
    broken(path, sentence)
}

/// Every known part of `before` must be in `after`; unknown parts may have become anything.
fn consistent(
    ty: &Type,
    path: &AttributePath,
    (before, after): (&Value, &Value),
    when: &str,
    found: &mut Vec<Diagnostic>,
) {
    let mut fault =
        |path: &AttributePath, sentence: &str| found.push(broken(path, format!("{sentence} {when}.")));
    match (before, after) {
        (Value::Unknown, _) | (Value::Null, Value::Null) => {}
        // Reported by whoever asks for a wholly known value; a plan may keep what was unknown, never make it so.
        (_, Value::Unknown) if when == "after apply" => {}
        (_, Value::Unknown) => fault(path, "A known value became unknown"),
        (Value::Null, _) => fault(path, "It was planned as null and is set"),
        (_, Value::Null) => fault(path, "It was planned with a value and is null"),
        (Value::List(left), Value::List(right)) if left.len() != right.len() => {
            fault(path, "The list has another number of elements");
        }
        (Value::Set(left), Value::Set(right)) => {
            let fits = |before: &Value, after: &Value| {
                let mut faults = Vec::new();
                let element = match ty {
                    Type::Set(element) => element.as_ref(),
                    other => other,
                };
                consistent(element, path, (before, after), when, &mut faults);
                faults.is_empty()
            };
            if !pair_up(left, right, fits) {
                fault(path, "The set has other elements");
            }
        }
        (Value::Map(left), Value::Map(right)) if !left.keys().eq(right.keys()) => {
            for key in left.keys().filter(|key| !right.contains_key(*key)) {
                fault(&member(ty, path, key), "The element is missing");
            }
            for key in right.keys().filter(|key| !left.contains_key(*key)) {
                fault(&member(ty, path, key), "There is a new element");
            }
        }
        (Value::Dynamic(left_type, left), Value::Dynamic(right_type, right)) => {
            if left_type != right_type && **left_type != Type::Dynamic {
                fault(path, "The type of the value changed");
            } else {
                consistent(right_type, path, (left, right), when, found);
            }
        }
        (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) => {
            let pairs = children(ty, path, before)
                .into_iter()
                .zip(children(ty, path, after));
            for ((path, ty, before), (_, _, after)) in pairs {
                consistent(ty, &path, (before, after), when, found);
            }
        }
        (before, after) if before == after => {}
        _ => fault(path, "The value is another one than planned"),
    }
}

fn member(ty: &Type, path: &AttributePath, name: &str) -> AttributePath {
    match ty {
        Type::Object(_) => path.attribute(name),
        _ => path.key(name),
    }
}

/// Whether each element on either side fits one on the other, and the right side is not longer.
fn pair_up(left: &[Value], right: &[Value], fits: impl Fn(&Value, &Value) -> bool) -> bool {
    right.len() <= left.len()
        && left
            .iter()
            .all(|before| right.iter().any(|after| fits(before, after)))
        && right
            .iter()
            .all(|after| left.iter().any(|before| fits(before, after)))
}

fn leads_somewhere(value: &Value, steps: &[Step]) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return true;
    };
    let inner = match (step, value) {
        (Step::Attribute(name) | Step::Key(name), Value::Map(members)) => members.get(name),
        (Step::Index(index), Value::List(items)) => {
            usize::try_from(*index).ok().and_then(|index| items.get(index))
        }
        (_, Value::Unknown) => return true,
        _ => None,
    };
    inner.is_some_and(|inner| leads_somewhere(inner, rest))
}

fn repair_value(ty: &Type, value: &Value) -> Value {
    let all =
        |element: &Type, items: &[Value]| items.iter().map(|item| repair_value(element, item)).collect();
    match (ty, value) {
        (Type::Bool, Value::Bool(_))
        | (Type::Number, Value::Number(_))
        | (Type::String, Value::String(_)) => value.clone(),
        (Type::List(element), Value::List(items)) => Value::List(all(element, items)),
        (Type::Set(element), Value::Set(items)) => Value::Set(all(element, items)),
        (Type::Tuple(types), Value::List(items)) if types.len() == items.len() => Value::List(
            types
                .iter()
                .zip(items)
                .map(|(ty, item)| repair_value(ty, item))
                .collect(),
        ),
        (Type::Map(element), Value::Map(members)) => Value::object(
            members
                .iter()
                .map(|(key, value)| (key.as_str(), repair_value(element, value))),
        ),
        (Type::Object(attributes), Value::Map(_)) => Value::object(
            attributes
                .iter()
                .map(|(name, ty)| (name.as_str(), repair_value(ty, value.get(name)))),
        ),
        (Type::Dynamic, Value::Dynamic(ty, inner)) => {
            Value::Dynamic(ty.clone(), Box::new(repair_value(ty, inner)))
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests;
