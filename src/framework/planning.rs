//! Turns Terraform's proposed new state into a planned state, before the resource has its say.
//!
//! The order is the point:
//!
//! 1. Defaults fill what the configuration leaves null, inside nested objects too.
//! 2. Write-only values become null.
//! 3. A value that means the same as the prior one keeps the prior spelling.
//! 4. Only if something still differs from the prior state, or there is none: what the provider computes becomes
//!    unknown. In a plan without a difference this must not happen, or no plan would ever be empty.
//!
//! Everything here is a function of its arguments: Terraform plans again during apply and compares.
//!
//! Next: [`super::contract`] checks what comes out after the resource had its say.

use std::collections::BTreeMap;

use super::path::AttributePath;
use super::schema::{Attribute, AttributeKind, Nesting, Schema};
use super::value::Value;

type Attributes = BTreeMap<String, Attribute>;

/// The planned state so far; null if `proposed` is, which means destroy.
pub fn propose(schema: &Schema, config: &Value, prior: &Value, proposed: &Value) -> Value {
    if proposed.is_null() {
        return Value::Null;
    }
    let mut planned = filled_object(&schema.attributes, config, proposed);
    null_write_only(schema, &mut planned);
    keep_spelling(schema, prior, &mut planned);
    if planned != *prior {
        forget_object(&schema.attributes, config, prior, &mut planned);
    }
    planned
}

/// The attributes of which the schema says that their change replaces the resource, and which certainly change:
/// prior and planned are both known, neither is null, and they differ wherever they are known. What is unknown proves
/// nothing.
pub fn replacements(schema: &Schema, prior: &Value, planned: &Value) -> Vec<AttributePath> {
    let mut paths = Vec::new();
    replacements_in(
        &schema.attributes,
        &AttributePath::root(),
        prior,
        planned,
        &mut paths,
    );
    paths
}

/// Where a known value means the same as the known value of `reference` there, takes the spelling of `reference`.
pub fn keep_spelling(schema: &Schema, reference: &Value, value: &mut Value) {
    keep_spelling_in(&schema.attributes, reference, value);
}

/// Makes every write-only attribute null.
pub fn null_write_only(schema: &Schema, value: &mut Value) {
    null_write_only_in(&schema.attributes, value);
}

fn filled_object(attributes: &Attributes, config: &Value, proposed: &Value) -> Value {
    Value::object(attributes.iter().map(|(name, attribute)| {
        let value = filled(attribute, config.get(name), proposed.get(name));
        (name.as_str(), value)
    }))
}

/// What the configuration says, else the default, else what Terraform proposes for the provider to keep.
fn filled(attribute: &Attribute, config: &Value, proposed: &Value) -> Value {
    if let (true, Some(default)) = (config.is_null(), &attribute.default) {
        return filled_children(attribute, default, default);
    }
    if !config.is_null() {
        return filled_children(attribute, config, proposed);
    }
    match &attribute.kind {
        AttributeKind::Nested(_, children) if attribute.fills_when_omitted() => {
            filled_object(children, config, proposed)
        }
        _ if attribute.is_computed() => proposed.clone(),
        _ => Value::Null,
    }
}

fn filled_children(attribute: &Attribute, config: &Value, proposed: &Value) -> Value {
    let AttributeKind::Nested(nesting, children) = &attribute.kind else {
        return config.clone();
    };
    let element = |config: &Value, proposed: &Value| match config {
        Value::Map(_) => filled_object(children, config, proposed),
        other => other.clone(),
    };
    match (nesting, config) {
        (Nesting::Single, Value::Map(_)) => filled_object(children, config, proposed),
        (Nesting::Map, Value::Map(members)) => Value::object(
            members
                .iter()
                .map(|(key, value)| (key.as_str(), element(value, proposed.get(key)))),
        ),
        (Nesting::List, Value::List(items)) => Value::List(
            items
                .iter()
                .enumerate()
                .map(|(index, value)| element(value, item(proposed, index)))
                .collect(),
        ),
        (Nesting::Set, Value::Set(items)) => {
            let mut candidates: Vec<&Value> = proposed.as_list().unwrap_or_default().iter().collect();
            let paired = items.iter().map(|value| {
                let partner = candidates.iter().position(|candidate| agrees(value, candidate));
                let partner = partner.map(|position| candidates.swap_remove(position));
                element(value, partner.unwrap_or(&Value::Null))
            });
            Value::Set(paired.collect())
        }
        _ => config.clone(),
    }
}

/// Whether a proposed set element holds all that the configured one says.
fn agrees(config: &Value, proposed: &Value) -> bool {
    match (config, proposed) {
        (Value::Map(members), Value::Map(_)) => members
            .iter()
            .all(|(name, value)| value.is_null() || agrees(value, proposed.get(name))),
        _ => config == proposed,
    }
}

fn forget_object(attributes: &Attributes, config: &Value, prior: &Value, planned: &mut Value) {
    let Some(members) = planned.as_map_mut() else {
        return;
    };
    for (name, attribute) in attributes {
        if let Some(value) = members.get_mut(name) {
            forget(attribute, config.get(name), prior.get(name), value);
        }
    }
}

/// Makes unknown what only the provider can tell, unless the attribute keeps its prior value.
fn forget(attribute: &Attribute, config: &Value, prior: &Value, planned: &mut Value) {
    let config = match &attribute.default {
        Some(default) if config.is_null() => default,
        _ => config,
    };
    if config.is_null() && !attribute.fills_when_omitted() {
        if !attribute.is_computed() {
            return;
        }
        *planned = if attribute.keeps_prior && !prior.is_null() && prior.is_wholly_known() {
            prior.clone()
        } else {
            Value::Unknown
        };
        return;
    }
    let AttributeKind::Nested(nesting, children) = &attribute.kind else {
        return;
    };
    match (nesting, planned) {
        (Nesting::Single, planned) => forget_object(children, config, prior, planned),
        (Nesting::Map, Value::Map(members)) => {
            for (key, value) in members {
                forget_object(children, config.get(key), prior.get(key), value);
            }
        }
        (Nesting::List, Value::List(items)) => {
            for (index, value) in items.iter_mut().enumerate() {
                forget_object(children, item(config, index), item(prior, index), value);
            }
        }
        // In the order of the configuration, as filled_children made them; set elements have no prior of their own.
        (Nesting::Set, Value::Set(items)) => {
            for (index, value) in items.iter_mut().enumerate() {
                forget_object(children, item(config, index), &Value::Null, value);
            }
        }
        _ => {}
    }
}

fn keep_spelling_in(attributes: &Attributes, reference: &Value, value: &mut Value) {
    let Some(members) = value.as_map_mut() else { return };
    for (name, attribute) in attributes {
        let before = reference.get(name);
        let Some(now) = members.get_mut(name) else {
            continue;
        };
        if before.is_null() || now.is_null() || before.is_unknown() || now.is_unknown() {
            continue;
        }
        if let Some(same) = attribute.equality
            && before.is_wholly_known()
            && now.is_wholly_known()
            && same(before, now)
        {
            now.clone_from(before);
            continue;
        }
        let AttributeKind::Nested(nesting, children) = &attribute.kind else {
            continue;
        };
        match (nesting, now) {
            (Nesting::Single, now) => keep_spelling_in(children, before, now),
            (Nesting::Map, Value::Map(elements)) => {
                for (key, element) in elements {
                    keep_spelling_in(children, before.get(key), element);
                }
            }
            (Nesting::List, Value::List(elements)) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    keep_spelling_in(children, item(before, index), element);
                }
            }
            _ => {}
        }
    }
}

fn null_write_only_in(attributes: &Attributes, value: &mut Value) {
    let Some(members) = value.as_map_mut() else { return };
    for (name, attribute) in attributes {
        let Some(now) = members.get_mut(name) else {
            continue;
        };
        if attribute.write_only {
            *now = Value::Null;
            continue;
        }
        let AttributeKind::Nested(nesting, children) = &attribute.kind else {
            continue;
        };
        match (nesting, now) {
            (Nesting::Single, now) => null_write_only_in(children, now),
            (Nesting::Map, Value::Map(elements)) => {
                elements
                    .values_mut()
                    .for_each(|element| null_write_only_in(children, element));
            }
            (Nesting::List, Value::List(elements)) => {
                elements
                    .iter_mut()
                    .for_each(|element| null_write_only_in(children, element));
            }
            _ => {}
        }
    }
}

fn replacements_in(
    attributes: &Attributes,
    path: &AttributePath,
    prior: &Value,
    planned: &Value,
    found: &mut Vec<AttributePath>,
) {
    for (name, attribute) in attributes {
        let (before, after, path) = (prior.get(name), planned.get(name), path.attribute(name));
        if before.is_null() || after.is_null() || !certainly_differ(before, after) {
            continue;
        }
        if attribute.requires_replace {
            found.push(path);
            continue;
        }
        let AttributeKind::Nested(nesting, children) = &attribute.kind else {
            continue;
        };
        match (nesting, before, after) {
            (Nesting::Single, before, after) => replacements_in(children, &path, before, after, found),
            (Nesting::Map, Value::Map(_), Value::Map(elements)) => {
                for (key, element) in elements {
                    replacements_in(children, &path.key(key), before.get(key), element, found);
                }
            }
            (Nesting::List, Value::List(_), Value::List(elements)) => {
                for (index, element) in elements.iter().enumerate() {
                    replacements_in(children, &path.index(index), item(before, index), element, found);
                }
            }
            _ => {}
        }
    }
}

/// Whether the two differ whatever their unknown parts turn out to be.
fn certainly_differ(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Unknown, _) | (_, Value::Unknown) => false,
        (Value::Map(left), Value::Map(right)) => {
            !left.keys().eq(right.keys())
                || left
                    .values()
                    .zip(right.values())
                    .any(|(left, right)| certainly_differ(left, right))
        }
        (Value::List(left), Value::List(right)) => {
            left.len() != right.len()
                || left
                    .iter()
                    .zip(right)
                    .any(|(left, right)| certainly_differ(left, right))
        }
        (Value::Set(_), Value::Set(_)) => left.is_wholly_known() && right.is_wholly_known() && left != right,
        (Value::Dynamic(_, left), Value::Dynamic(_, right)) => certainly_differ(left, right),
        _ => left != right,
    }
}

/// The element of a list or set at `index`; null if there is none.
fn item(value: &Value, index: usize) -> &Value {
    value
        .as_list()
        .and_then(|items| items.get(index))
        .unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests;
