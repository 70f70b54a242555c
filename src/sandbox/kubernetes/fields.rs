//! Sets of fields, and how a typed value yields them.
//!
//! An element is kept in the form of `fieldsV1`: `f:name`, `k:{"key":…}`, `v:value`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::schema::{Listing, Type, View};

/// A step of a path.
pub(super) type Element = String;

/// A set of paths, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    members: BTreeSet<Element>,
    children: BTreeMap<Element, Fields>,
}

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    pub(super) fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub(super) fn has(&self, element: &str) -> bool {
        self.members.contains(element)
    }

    pub(super) fn child(&self, element: &str) -> Option<&Fields> {
        self.children.get(element).filter(|child| !child.is_empty())
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let mine = all.children.entry(element.clone()).or_default();
            *mine = mine.union(child);
        }
        all
    }

    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && !theirs, true)
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && theirs, false)
    }

    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool, keep_unmatched: bool) -> Self {
        let members = self
            .members
            .iter()
            .filter(|element| keep(true, other.members.contains(*element)))
            .cloned();
        let mut result = Self {
            members: members.collect(),
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            let child = match other.children.get(element) {
                Some(theirs) => child.combine(theirs, keep, keep_unmatched),
                None if keep_unmatched => child.clone(),
                None => continue,
            };
            if !child.is_empty() {
                result.children.insert(element.clone(), child);
            }
        }
        result
    }

    /// Without these paths and everything below them.
    pub(super) fn without(&self, paths: &[&[&str]]) -> Self {
        let mut result = self.clone();
        for path in paths {
            result.cut(path);
        }
        result
    }

    fn cut(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.members.remove(&format!("f:{last}"));
                self.children.remove(&format!("f:{last}"));
            }
            [first, rest @ ..] => {
                let element = format!("f:{first}");
                if let Some(child) = self.children.get_mut(&element) {
                    child.cut(rest);
                    if child.is_empty() {
                        self.children.remove(&element);
                    }
                }
            }
        }
    }

    /// Only what is at or below a top-level member.
    pub(super) fn only(&self, members: &[&str]) -> Self {
        let mut result = Self::default();
        for member in members {
            let element = format!("f:{member}");
            if self.members.contains(&element) {
                result.members.insert(element.clone());
            }
            if let Some(child) = self.children.get(&element) {
                result.children.insert(element, child.clone());
            }
        }
        result
    }

    /// With every named member above an owned field owned too, so that removing all of a member's fields removes it.
    pub(super) fn with_named_parents(&self, of: &Type) -> Self {
        let mut result = Self {
            members: self.members.clone(),
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            if let Some(name) = element.strip_prefix("f:")
                && of.declares(name)
            {
                result.members.insert(element.clone());
            }
            let child = match below(of, element) {
                Some(of) => child.with_named_parents(of),
                None => child.clone(),
            };
            result.children.insert(element.clone(), child);
        }
        result
    }

    /// All paths.
    pub(super) fn paths(&self) -> Vec<Vec<Element>> {
        let mut all = Vec::new();
        self.collect(&mut Vec::new(), &mut all);
        all
    }

    fn collect(&self, prefix: &mut Vec<Element>, all: &mut Vec<Vec<Element>>) {
        for element in &self.members {
            let mut path = prefix.clone();
            path.push(element.clone());
            all.push(path);
        }
        for (element, child) in &self.children {
            prefix.push(element.clone());
            child.collect(prefix, all);
            prefix.pop();
        }
    }

    /// The `fieldsV1` form.
    pub(super) fn to_json(&self) -> Value {
        let mut object = Map::new();
        for element in &self.members {
            object.insert(element.clone(), Value::Object(Map::new()));
        }
        for (element, child) in self.children.iter().filter(|(_, child)| !child.is_empty()) {
            let mut json = child.to_json();
            if let Some(inner) = json.as_object_mut()
                && self.members.contains(element)
            {
                inner.insert(".".to_owned(), Value::Object(Map::new()));
            }
            object.insert(element.clone(), json);
        }
        Value::Object(object)
    }

    /// Reads the `fieldsV1` form.
    pub(super) fn from_json(json: &Value) -> Self {
        let mut fields = Self::default();
        for (element, inner) in json
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(element, _)| *element != ".")
        {
            let empty = inner.as_object().is_none_or(Map::is_empty);
            if empty || inner.get(".").is_some() {
                fields.members.insert(element.clone());
            }
            let child = Self::from_json(inner);
            if !child.is_empty() {
                fields.children.insert(element.clone(), child);
            }
        }
        fields
    }
}

/// The type below an element of a path.
pub(super) fn below<'a>(of: &'a Type, element: &str) -> Option<&'a Type> {
    match element.strip_prefix("f:") {
        Some(name) => of.member(name),
        None => match of.view() {
            View::List(item, _) => Some(item),
            _ => None,
        },
    }
}

/// A path as the original prints it: `.spec.containers[name="web"].image`.
pub(super) fn shown(path: &[Element]) -> String {
    let mut text = String::new();
    for element in path {
        if let Some(name) = element.strip_prefix("f:") {
            text.push('.');
            text.push_str(name);
        } else if let Some(keys) = element.strip_prefix("k:") {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            text.push_str(&format!("[{}]", keys.join(",")));
        } else if let Some(value) = element.strip_prefix("v:") {
            text.push_str(&format!("[={value}]"));
        }
    }
    text
}

/// The element of a list item; `None` if it lacks a key that has no default.
pub(super) fn element(of: &Type, listing: &Listing, item: &Value) -> Option<Element> {
    match listing {
        Listing::Atomic => None,
        Listing::Set => Some(format!("v:{item}")),
        Listing::Keyed(keys) => {
            let mut found = BTreeMap::new();
            for key in keys {
                let default = of.member(key).and_then(|of| of.default.as_ref());
                // A key that is absent counts as absent; an item without any key is no item.
                if let Some(value) = item.get(key).or(default) {
                    found.insert(key.clone(), value.clone());
                }
            }
            (!found.is_empty()).then(|| format!("k:{}", Value::from_iter(found)))
        }
    }
}

/// Whether a list merges item by item.
fn merging(of: &Type) -> Option<(&Type, &Listing)> {
    match of.view() {
        View::List(item, listing) if !of.atomic && *listing != Listing::Atomic => Some((item, listing)),
        _ => None,
    }
}

/// How a value of a type is walked.
pub(super) enum Walk<'a> {
    /// One piece.
    Leaf,
    /// Member by member.
    Members,
    /// Item by item.
    Items(&'a Type, &'a Listing),
}

/// How this value is walked.
pub(super) fn walk<'a>(of: &'a Type, value: Option<&Value>) -> Walk<'a> {
    if of.atomic {
        return Walk::Leaf;
    }
    if let Some((item, listing)) = merging(of) {
        return Walk::Items(item, listing);
    }
    match of.view() {
        View::Struct(_) | View::Map(_) => Walk::Members,
        View::Any if value.is_some_and(Value::is_object) => Walk::Members,
        View::Any | View::Leaf | View::List(..) => Walk::Leaf,
    }
}

/// The fields that a configuration speaks of.
pub(super) fn fields_of(of: &Type, value: &Value) -> Fields {
    let mut fields = Fields::default();
    collect(of, value, &mut Vec::new(), &mut fields);
    fields
}

fn collect(of: &Type, value: &Value, path: &mut Vec<Element>, into: &mut Fields) {
    match walk(of, Some(value)) {
        Walk::Leaf => into.insert(path),
        Walk::Members => {
            for (name, member) in value.as_object().into_iter().flatten() {
                path.push(format!("f:{name}"));
                if let Some(of) = of.member(name) {
                    collect(of, member, path, into);
                }
                let empty = member.is_null() || member.as_object().is_some_and(Map::is_empty);
                if empty || !of.declares(name) {
                    into.insert(path);
                }
                path.pop();
            }
        }
        Walk::Items(item_type, listing) => {
            for item in value.as_array().into_iter().flatten() {
                if let Some(element) = element(item_type, listing, item) {
                    path.push(element);
                    collect(item_type, item, path, into);
                    into.insert(path);
                    path.pop();
                }
            }
        }
    }
}

/// What differs between two values.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: Fields,
    pub(super) modified: Fields,
    pub(super) removed: Fields,
}

/// Compares two values of a type.
pub(super) fn compare(of: &Type, before: &Value, after: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    differ(of, Some(before), Some(after), &mut Vec::new(), &mut comparison);
    comparison
}

fn differ(
    of: &Type,
    before: Option<&Value>,
    after: Option<&Value>,
    path: &mut Vec<Element>,
    into: &mut Comparison,
) {
    let leaf = |path: &Vec<Element>, into: &mut Comparison| match (before, after) {
        (None, Some(_)) => into.added.insert(path),
        (Some(_), None) => into.removed.insert(path),
        (Some(before), Some(after)) if before != after => into.modified.insert(path),
        _ => {}
    };
    let vacant = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(members)) => members.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    let sample = before.filter(|value| !value.is_null()).or(after);
    let way = walk(of, sample);
    if matches!(way, Walk::Leaf) || (vacant(before) && vacant(after)) {
        leaf(path, into);
        return;
    }
    match way {
        Walk::Leaf => {}
        Walk::Members => {
            let (old, new) = (
                before.and_then(Value::as_object),
                after.and_then(Value::as_object),
            );
            if of.view_is_any() && (old.is_some() != new.is_some()) && !(vacant(before) || vacant(after)) {
                leaf(path, into);
            }
            let names: BTreeSet<&String> = old
                .into_iter()
                .flatten()
                .chain(new.into_iter().flatten())
                .map(|(name, _)| name)
                .collect();
            for name in names {
                let (mut old, mut new) = (
                    old.and_then(|old| old.get(name)),
                    new.and_then(|new| new.get(name)),
                );
                let Some(of) = of.member(name) else { continue };
                if of.present {
                    // Always serialised by the original, so it neither comes nor goes.
                    old = old.or(Some(&Value::Null));
                    new = new.or(Some(&Value::Null));
                }
                path.push(format!("f:{name}"));
                differ(of, old, new, path, into);
                path.pop();
            }
        }
        Walk::Items(item_type, listing) => {
            let (old, new) = (
                index(item_type, listing, before),
                index(item_type, listing, after),
            );
            let elements: BTreeSet<&Element> = old.keys().chain(new.keys()).collect();
            for element in elements {
                path.push(element.clone());
                differ(
                    item_type,
                    old.get(element).copied(),
                    new.get(element).copied(),
                    path,
                    into,
                );
                path.pop();
            }
        }
    }
    match (before, after) {
        (None, Some(_)) => into.added.insert(path),
        (Some(_), None) => into.removed.insert(path),
        _ => {}
    }
}

/// A list's items by element.
pub(super) fn index<'a>(
    of: &Type,
    listing: &Listing,
    list: Option<&'a Value>,
) -> BTreeMap<Element, &'a Value> {
    let items = list.and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(|item| Some((element(of, listing, item)?, item)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_survive_their_json_form() {
        let json = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"k:{\"name\":\"a\"}": {".": {}}}});
        let fields = Fields::from_json(&json);
        assert!(fields.child("f:metadata").unwrap().has("f:labels"));
        assert_eq!(Fields::from_json(&fields.to_json()), fields);
    }

    #[test]
    fn paths_read_as_in_the_original() {
        let path = [
            "f:spec",
            "f:containers",
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}",
            "f:image",
        ];
        let path: Vec<_> = path.iter().map(|element| (*element).to_owned()).collect();
        assert_eq!(
            shown(&path),
            ".spec.containers[containerPort=80,protocol=\"TCP\"].image"
        );
    }
}
