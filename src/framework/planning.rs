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

use super::path::{AttributePath, Step};
use super::schema::{Attribute, AttributeKind, Nesting, Presence, Schema};
use super::value::Value;

type Attributes = BTreeMap<String, Attribute>;

/// The planned state so far; null if `proposed` is, which means destroy.
pub fn propose(schema: &Schema, config: &Value, prior: &Value, proposed: &Value) -> Value {
    if proposed.is_null() {
        return Value::Null;
    }
    let mut proposed = proposed.clone();
    propose_computed_blocks(&schema.attributes, prior, &mut proposed);
    let mut planned = filled_object(&schema.attributes, config, &proposed);
    null_write_only(schema, &mut planned);
    keep_spelling(schema, prior, &mut planned);
    if planned != *prior {
        forget_object(&schema.attributes, config, prior, &mut planned);
    }
    planned
}

/// For a host that knows no computed blocks, to which there can only be none.
pub fn drop_computed_blocks(schema: &Schema, value: &mut Value) {
    each_computed_block(&schema.attributes, &Value::Null, value, &|attribute, _, now| {
        *now = attribute.unset();
    });
}

/// As with any other computed attribute, what was there before is what is proposed.
fn propose_computed_blocks(attributes: &Attributes, prior: &Value, proposed: &mut Value) {
    each_computed_block(attributes, prior, proposed, &|_, before, now| {
        if !before.is_null() {
            now.clone_from(before);
        }
    });
}

/// Does something to every computed block, with what it was before. Elements of a set have no before.
fn each_computed_block(
    attributes: &Attributes,
    prior: &Value,
    value: &mut Value,
    change: &impl Fn(&Attribute, &Value, &mut Value),
) {
    let Some(members) = value.as_map_mut() else { return };
    for (name, attribute) in attributes {
        let (AttributeKind::Nested(nesting, children), Some(_)) = (&attribute.kind, attribute.block) else {
            continue;
        };
        let before = prior.get(name);
        let Some(now) = members.get_mut(name) else {
            continue;
        };
        if attribute.is_computed_block() {
            change(attribute, before, now);
            continue;
        }
        match (nesting, now) {
            (Nesting::Single, now) => each_computed_block(children, before, now, change),
            (Nesting::Map, Value::Map(elements)) => {
                for (key, element) in elements {
                    each_computed_block(children, before.get(key), element, change);
                }
            }
            (Nesting::List, Value::List(elements)) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    each_computed_block(children, item(before, index), element, change);
                }
            }
            (Nesting::Set, Value::Set(elements)) => {
                for element in elements {
                    each_computed_block(children, &Value::Null, element, change);
                }
            }
            _ => {}
        }
    }
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

/// What the framework does to every state: write-only values become null, and blocks that are null empty.
pub fn settle(schema: &Schema, value: &mut Value) {
    null_write_only(schema, value);
    settle_blocks(&schema.attributes, value);
}

/// The configuration that an object with this state would have been made with: what can be configured, less what is
/// only the default.
pub fn configuration_of(schema: &Schema, state: &Value) -> Value {
    configuration_in(&schema.attributes, state)
}

/// Why the attributes at `paths` replace the resource, where the schema says so.
pub fn reasons(schema: &Schema, paths: &[AttributePath]) -> Vec<(AttributePath, &'static str)> {
    paths
        .iter()
        .filter_map(|path| {
            let reason = attribute_at(&schema.attributes, path.steps())?.replace_reason;
            (!reason.is_empty()).then(|| (path.clone(), reason))
        })
        .collect()
}

fn attribute_at<'a>(attributes: &'a Attributes, steps: &[Step]) -> Option<&'a Attribute> {
    let (first, rest) = steps.split_first()?;
    let Step::Attribute(name) = first else {
        return attribute_at(attributes, rest); // an element: its attributes follow
    };
    let attribute = attributes.get(name)?;
    match &attribute.kind {
        AttributeKind::Nested(_, children) if rest.iter().any(|step| matches!(step, Step::Attribute(_))) => {
            attribute_at(children, rest)
        }
        _ => Some(attribute),
    }
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
    if attribute.is_computed_block() {
        return proposed.clone();
    }
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
    let (dependent, others): (Vec<_>, Vec<_>) = attributes
        .iter()
        .partition(|(_, attribute)| !attribute.computed_from.is_empty());
    for (name, attribute) in others {
        if let Some(value) = members.get_mut(name) {
            forget(attribute, config.get(name), prior.get(name), value);
        }
    }
    // What is computed from something computed follows it, so until nothing more changes.
    let mut rest = dependent;
    loop {
        let changes = |from: &&str| members.get(*from).unwrap_or(&Value::Null) != prior.get(from);
        let (affected, untouched): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(name, attribute)| {
            prior.get(name).is_null() || attribute.computed_from.iter().any(changes)
        });
        if affected.is_empty() {
            return;
        }
        for (name, attribute) in affected {
            if let Some(value) = members.get_mut(name) {
                forget(attribute, config.get(name), prior.get(name), value);
            }
        }
        rest = untouched;
    }
}

/// Makes unknown what only the provider can tell, unless the attribute keeps its prior value.
fn forget(attribute: &Attribute, config: &Value, prior: &Value, planned: &mut Value) {
    let config = match &attribute.default {
        Some(default) if config.is_null() => default,
        _ => config,
    };
    let is_unset = config.is_null() || attribute.is_computed_block();
    if is_unset && !attribute.fills_when_omitted() {
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
        // In the order of the configuration, as filled_children made them.
        (Nesting::Set, Value::Set(items)) => {
            let mut before: Vec<&Value> = prior.as_list().unwrap_or_default().iter().collect();
            for (index, value) in items.iter_mut().enumerate() {
                let config = item(config, index);
                let same = before
                    .iter()
                    .position(|prior| is_configured_alike(children, config, prior, value));
                let prior = same.map(|position| before.swap_remove(position));
                if let Some(prior) = prior {
                    take_computed(children, config, prior, value);
                }
                forget_object(children, config, prior.unwrap_or(&Value::Null), value);
            }
        }
        _ => {}
    }
}

/// Whether an element of a set, which has no place, was there before: in all that is configured or a default.
fn is_configured_alike(attributes: &Attributes, config: &Value, prior: &Value, planned: &Value) -> bool {
    attributes.iter().all(|(name, attribute)| {
        is_the_providers(attribute, config.get(name)) || prior.get(name) == planned.get(name)
    })
}

/// Terraform pairs elements of sets less well than that, and then proposes null.
fn take_computed(attributes: &Attributes, config: &Value, prior: &Value, planned: &mut Value) {
    for (name, attribute) in attributes {
        if is_the_providers(attribute, config.get(name)) {
            planned.set(name.as_str(), prior.get(name).clone());
        }
    }
}

fn is_the_providers(attribute: &Attribute, config: &Value) -> bool {
    config.is_null()
        && attribute.is_computed()
        && attribute.default.is_none()
        && !attribute.fills_when_omitted()
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
            (Nesting::Set, Value::Set(elements)) => keep_elements(children, before, elements),
            _ => {}
        }
    }
}

/// Elements of a set have no place: one that means in all its parts what an element of `before` means becomes that.
fn keep_elements(children: &Attributes, before: &Value, elements: &mut [Value]) {
    if !spells(children) {
        return;
    }
    for element in elements {
        let same = before.as_list().unwrap_or_default().iter().find(|before| {
            let mut respelt = element.clone();
            keep_spelling_in(children, before, &mut respelt);
            respelt == **before
        });
        if let Some(same) = same {
            element.clone_from(same);
        }
    }
}

/// Whether anything in there has more than one spelling.
fn spells(attributes: &Attributes) -> bool {
    attributes.values().any(|attribute| {
        attribute.equality.is_some()
            || matches!(&attribute.kind, AttributeKind::Nested(_, children) if spells(children))
    })
}

fn settle_blocks(attributes: &Attributes, value: &mut Value) {
    let Some(members) = value.as_map_mut() else { return };
    for (name, attribute) in attributes {
        let (Some(_), AttributeKind::Nested(_, children)) = (attribute.block, &attribute.kind) else {
            continue;
        };
        let Some(now) = members.get_mut(name) else {
            continue;
        };
        match now {
            Value::Null => *now = attribute.unset(),
            Value::List(elements) | Value::Set(elements) => {
                elements
                    .iter_mut()
                    .for_each(|element| settle_blocks(children, element));
            }
            Value::Map(elements) if matches!(attribute.kind, AttributeKind::Nested(Nesting::Map, _)) => {
                elements
                    .values_mut()
                    .for_each(|element| settle_blocks(children, element));
            }
            now => settle_blocks(children, now),
        }
    }
}

fn configuration_in(attributes: &Attributes, state: &Value) -> Value {
    Value::object(
        attributes
            .iter()
            .map(|(name, attribute)| (name.as_str(), configuration_at(attribute, state.get(name)))),
    )
}

fn configuration_at(attribute: &Attribute, state: &Value) -> Value {
    if attribute.presence == Presence::Computed || attribute.write_only {
        return attribute.unset();
    }
    if attribute.default.as_ref() == Some(state) {
        return Value::Null;
    }
    let AttributeKind::Nested(nesting, children) = &attribute.kind else {
        return state.clone();
    };
    let element = |state: &Value| configuration_in(children, state);
    match (nesting, state) {
        (Nesting::Single, Value::Map(_)) => {
            let config = element(state);
            let says_nothing = config.as_map().is_some_and(|it| it.values().all(Value::is_null));
            match attribute.fills_when_omitted() && says_nothing {
                true => Value::Null,
                false => config,
            }
        }
        (Nesting::Map, Value::Map(members)) => {
            Value::object(members.iter().map(|(key, value)| (key.as_str(), element(value))))
        }
        (Nesting::List, Value::List(items)) => Value::List(items.iter().map(element).collect()),
        (Nesting::Set, Value::Set(items)) => Value::Set(items.iter().map(element).collect()),
        _ => attribute.unset(),
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
        (Value::Set(one), Value::Set(other)) => {
            if left.is_wholly_known() && right.is_wholly_known() {
                return left != right;
            }
            // A known element that none on the other side can turn out to be.
            let stranger = |element: &Value, others: &[Value]| {
                others
                    .iter()
                    .all(|candidate| certainly_differ(element, candidate))
            };
            one.iter().any(|element| stranger(element, other))
                || other.iter().any(|element| stranger(element, one))
        }
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
