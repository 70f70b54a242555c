//! How values are typed: which members exist, how lists and maps merge, what is filled in.
//!
//! Built-in kinds are described by `schema.json`, one line of text per member; custom kinds by the OpenAPI schema of
//! their definition. Both end as [`Type`], which everything else walks.
//!
//! The text of a member: `+` is present even in an empty object, `*` required, then `string int number bool intstr
//! quantity bytes any`, a type's name, `{T}` a map, `[T]` a list, `!` atomic, `:set` or `:key,key` a list that
//! merges, `(a|b)` the allowed words, `=x` the default.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use serde_json::Value;

/// The type of a value.
#[derive(Clone, Debug)]
pub(super) struct Type {
    pub(super) shape: Shape,
    pub(super) default: Option<Value>,
    /// The allowed words of a text; empty means any.
    pub(super) words: Vec<String>,
    pub(super) required: bool,
    /// Serialised even when empty, so that filling it in does not create it.
    pub(super) present: bool,
    pub(super) nullable: bool,
    pub(super) atomic: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    Text,
    Integer,
    Number,
    Boolean,
    IntOrText,
    Quantity,
    Bytes,
    /// Anything: maps merge by member, lists are atomic.
    Any,
    Struct(Arc<Struct>),
    Map(Arc<Type>),
    List(Arc<Type>, Listing),
    Named(String),
}

/// How a list merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    Atomic,
    Set,
    Keyed(Vec<String>),
}

/// An object with known members.
#[derive(Clone, Debug, Default)]
pub(super) struct Struct {
    pub(super) fields: BTreeMap<String, Type>,
    /// Unknown members are kept.
    pub(super) open: bool,
}

/// A type, seen through its name.
pub(super) enum View<'a> {
    Leaf,
    Any,
    Struct(&'a Struct),
    Map(&'a Type),
    List(&'a Type, &'a Listing),
}

/// The type of whatever nobody described.
pub(super) static ANY: LazyLock<Type> = LazyLock::new(|| Type::of(Shape::Any));

static BUILT_IN: LazyLock<HashMap<String, Arc<Struct>>> = LazyLock::new(|| {
    let text = include_str!("schema.json");
    // The file is part of the program; a test parses it.
    let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(text).unwrap_or_default();
    all.into_iter()
        .map(|(name, fields)| {
            let fields = fields
                .into_iter()
                .map(|(field, text)| (field, Type::parse(&text)))
                .collect();
            (name, Arc::new(Struct { fields, open: false }))
        })
        .collect()
});

/// The members of a type of `schema.json`.
pub(super) fn fields(name: &str) -> Option<&'static BTreeMap<String, Type>> {
    BUILT_IN.get(name).map(|inner| &inner.fields)
}

impl Type {
    /// A type of this shape, without any rule.
    pub(super) fn of(shape: Shape) -> Self {
        Self {
            shape,
            default: None,
            words: Vec::new(),
            required: false,
            present: false,
            nullable: false,
            atomic: false,
        }
    }

    /// A type of `schema.json`.
    pub(super) fn named(name: &str) -> Self {
        Self::of(Shape::Named(name.to_owned()))
    }

    /// Seen through names.
    pub(super) fn view(&self) -> View<'_> {
        match &self.shape {
            Shape::Any => View::Any,
            Shape::Struct(inner) => View::Struct(inner),
            Shape::Map(of) => View::Map(of),
            Shape::List(of, listing) => View::List(of, listing),
            Shape::Named(name) => BUILT_IN.get(name).map_or(View::Any, |inner| View::Struct(inner)),
            Shape::Text
            | Shape::Integer
            | Shape::Number
            | Shape::Boolean
            | Shape::IntOrText
            | Shape::Quantity
            | Shape::Bytes => View::Leaf,
        }
    }

    /// The type of a member; `None` if there is no such member.
    pub(super) fn member(&self, name: &str) -> Option<&Type> {
        match self.view() {
            View::Struct(inner) => inner.fields.get(name).or_else(|| inner.open.then_some(&*ANY)),
            View::Map(of) => Some(of),
            View::Any => Some(&ANY),
            View::Leaf | View::List(..) => None,
        }
    }

    /// Whether nothing is known about the value.
    pub(super) fn view_is_any(&self) -> bool {
        matches!(self.view(), View::Any)
    }

    /// Whether `name` is a member by name, as opposed to a key of a map.
    pub(super) fn declares(&self, name: &str) -> bool {
        matches!(self.view(), View::Struct(inner) if inner.fields.contains_key(name))
    }

    /// Parses the text of `schema.json`.
    fn parse(text: &str) -> Self {
        let (mut required, mut present) = (false, false);
        let mut rest = text;
        loop {
            if let Some(after) = rest.strip_prefix('+') {
                (present, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix('*') {
                (required, rest) = (true, after);
            } else {
                break;
            }
        }
        let (mut shape, mut rest) = match rest.chars().next() {
            Some('[') => {
                let (inner, rest) = enclosed(rest, '[', ']');
                (Shape::List(Arc::new(Self::parse(inner)), Listing::Atomic), rest)
            }
            Some('{') => {
                let (inner, rest) = enclosed(rest, '{', '}');
                (Shape::Map(Arc::new(Self::parse(inner))), rest)
            }
            _ => {
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric())
                    .unwrap_or(rest.len());
                let (word, rest) = rest.split_at(end);
                (named_shape(word), rest)
            }
        };
        let atomic = rest.starts_with('!');
        rest = rest.trim_start_matches('!');
        if let (Some(after), Shape::List(_, listing)) = (rest.strip_prefix(':'), &mut shape) {
            let end = after.find('=').unwrap_or(after.len());
            let (keys, left) = after.split_at(end);
            *listing = if keys == "set" {
                Listing::Set
            } else {
                Listing::Keyed(keys.split(',').map(str::to_owned).collect())
            };
            rest = left;
        }
        let mut words = Vec::new();
        if rest.starts_with('(') {
            let (inner, left) = enclosed(rest, '(', ')');
            words = inner.split('|').map(str::to_owned).collect();
            rest = left;
        }
        let default = rest.strip_prefix('=').map(|text| match shape {
            Shape::Text => Value::from(text),
            _ => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        });
        Self {
            shape,
            default,
            words,
            required,
            present,
            nullable: false,
            atomic,
        }
    }

    /// The type of a custom kind's OpenAPI schema.
    pub(super) fn from_open_api(schema: &Value) -> Self {
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
        let word = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
        let open = flag("x-kubernetes-preserve-unknown-fields");
        let shape = if flag("x-kubernetes-int-or-string") {
            Shape::IntOrText
        } else if flag("x-kubernetes-embedded-resource") {
            Shape::Any
        } else {
            match word("type") {
                "string" => Shape::Text,
                "integer" => Shape::Integer,
                "number" => Shape::Number,
                "boolean" => Shape::Boolean,
                "array" => {
                    let of = schema
                        .get("items")
                        .map_or_else(|| ANY.clone(), Self::from_open_api);
                    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                    let listing = match word("x-kubernetes-list-type") {
                        "set" => Listing::Set,
                        "map" => Listing::Keyed(
                            keys.into_iter()
                                .flatten()
                                .filter_map(Value::as_str)
                                .map(str::to_owned)
                                .collect(),
                        ),
                        _ => Listing::Atomic,
                    };
                    Shape::List(Arc::new(of), listing)
                }
                "object" => Self::object(schema, open),
                _ => Shape::Any,
            }
        };
        let words = schema.get("enum").and_then(Value::as_array);
        Self {
            shape,
            default: schema.get("default").cloned(),
            words: words
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            required: false,
            present: false,
            nullable: flag("nullable"),
            atomic: word("x-kubernetes-map-type") == "atomic",
        }
    }

    fn object(schema: &Value, open: bool) -> Shape {
        if let Some(of) = schema.get("additionalProperties").filter(|of| of.is_object()) {
            return Shape::Map(Arc::new(Self::from_open_api(of)));
        }
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return if open {
                Shape::Any
            } else {
                Shape::Struct(Arc::default())
            };
        };
        let required: Vec<_> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let fields = properties
            .iter()
            .map(|(name, schema)| {
                let mut of = Self::from_open_api(schema);
                of.required = required.contains(&name.as_str());
                (name.clone(), of)
            })
            .collect();
        Shape::Struct(Arc::new(Struct { fields, open }))
    }

    /// The type of a whole custom object: its schema, with `metadata` as every object has it.
    pub(super) fn custom(schema: &Value) -> Self {
        let mut root = match Self::from_open_api(schema).shape {
            Shape::Struct(inner) => (*inner).clone(),
            _ => Struct {
                fields: BTreeMap::new(),
                open: true,
            },
        };
        root.fields.insert("apiVersion".to_owned(), Self::of(Shape::Text));
        root.fields.insert("kind".to_owned(), Self::of(Shape::Text));
        root.fields.insert(
            "metadata".to_owned(),
            Self {
                present: true,
                ..Self::named("ObjectMeta")
            },
        );
        Self::of(Shape::Struct(Arc::new(root)))
    }
}

/// The text inside the first bracket, and what follows it.
fn enclosed(text: &str, open: char, close: char) -> (&str, &str) {
    let mut depth = 0usize;
    for (at, letter) in text.char_indices() {
        if letter == open {
            depth += 1;
        } else if letter == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return (text.get(1..at).unwrap_or(""), text.get(at + 1..).unwrap_or(""));
            }
        }
    }
    (text, "")
}

fn named_shape(word: &str) -> Shape {
    match word {
        "string" => Shape::Text,
        "int" => Shape::Integer,
        "number" => Shape::Number,
        "bool" => Shape::Boolean,
        "intstr" => Shape::IntOrText,
        "quantity" => Shape::Quantity,
        "bytes" => Shape::Bytes,
        "any" => Shape::Any,
        name => Shape::Named(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_schema_means_something() {
        let text = include_str!("schema.json");
        let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(text).unwrap();
        assert!(all.len() > 150);
        fn check(of: &Type, at: &str) {
            match &of.shape {
                Shape::Named(name) => assert!(BUILT_IN.contains_key(name), "{at}: no type {name}"),
                Shape::Map(of) | Shape::List(of, _) => check(of, at),
                _ => {}
            }
        }
        for (name, fields) in &all {
            for (field, text) in fields {
                check(&Type::parse(text), &format!("{name}.{field}"));
            }
        }
    }

    #[test]
    fn a_line_carries_all_its_rules() {
        let of = Type::parse("+*[ContainerPort]:containerPort,protocol");
        assert!(of.required && of.present);
        let View::List(_, listing) = of.view() else {
            panic!("a list")
        };
        assert_eq!(
            *listing,
            Listing::Keyed(vec!["containerPort".to_owned(), "protocol".to_owned()])
        );
        let of = Type::parse("string(TCP|UDP)=TCP");
        assert_eq!(of.words, ["TCP", "UDP"]);
        assert_eq!(of.default, Some(Value::from("TCP")));
        assert!(Type::parse("{string}!").atomic);
    }
}
