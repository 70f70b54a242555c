//! Values and types as JSON: stored state, and the type language of schemas.
//!
//! A type decides how JSON is read, because JSON alone cannot tell a list from a set or a map from an object. Numbers
//! never pass through a float. Older state is read leniently, as Terraform's own providers do: an attribute that is
//! missing is null, one that the type does not have is ignored, `"true"` is a bool and `"1"` a number where one
//! belongs.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::path::AttributePath;
use super::set::sorted;
use super::ty::Type;
use super::value::{Number, Value};

/// How deep types and values may nest. No schema comes near it; hostile input must not exhaust the stack.
pub const MAX_DEPTH: usize = 100;

/// JSON that is not a value or type.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON, or not of the shape the type asks for.
    #[error("{}expected {expected}", prefix(.at))]
    Unexpected {
        /// Where.
        at: AttributePath,
        /// What the type asks for.
        expected: &'static str,
    },
    /// The text nests deeper than [`MAX_DEPTH`].
    #[error("{}nested too deeply", prefix(.at))]
    TooDeep {
        /// Where.
        at: AttributePath,
    },
}

fn prefix(at: &AttributePath) -> String {
    if at.is_root() {
        String::new()
    } else {
        format!("{at}: ")
    }
}

impl Value {
    /// Reads a value of type `ty`.
    ///
    /// # Errors
    /// If the text is not JSON of that type. The error shows no value.
    pub fn from_json(ty: &Type, text: &str) -> Result<Self, JsonError> {
        let at = AttributePath::root();
        let raw = part::<&RawValue>(text, &at, "JSON")?;
        value(ty, raw, &at, MAX_DEPTH)
    }
}

impl Type {
    /// Reads a type, for example `["list","string"]`.
    ///
    /// # Errors
    /// If the text is not a type.
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        let at = AttributePath::root();
        type_of(&part::<serde_json::Value>(text, &at, "a type")?, MAX_DEPTH)
    }

    /// The type as compact JSON, attributes sorted by name.
    pub fn to_json(&self) -> String {
        self.as_json().to_string()
    }

    fn as_json(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Self::Bool => json!("bool"),
            Self::Number => json!("number"),
            Self::String => json!("string"),
            Self::Dynamic => json!("dynamic"),
            Self::List(element) => json!(["list", element.as_json()]),
            Self::Set(element) => json!(["set", element.as_json()]),
            Self::Map(element) => json!(["map", element.as_json()]),
            Self::Tuple(elements) => {
                let elements: Vec<_> = elements.iter().map(Self::as_json).collect();
                json!(["tuple", elements])
            }
            Self::Object(attributes) => {
                let attributes: BTreeMap<_, _> =
                    attributes.iter().map(|(name, ty)| (name, ty.as_json())).collect();
                json!(["object", attributes])
            }
        }
    }
}

fn type_of(json: &serde_json::Value, depth: usize) -> Result<Type, JsonError> {
    use serde_json::Value as Json;
    let at = AttributePath::root();
    let Some(depth) = depth.checked_sub(1) else {
        return Err(JsonError::TooDeep { at });
    };
    let parsed = match json {
        Json::String(name) => match name.as_str() {
            "bool" => Some(Type::Bool),
            "number" => Some(Type::Number),
            "string" => Some(Type::String),
            "dynamic" => Some(Type::Dynamic),
            _ => None,
        },
        Json::Array(parts) => match (parts.first().and_then(Json::as_str), parts.get(1)) {
            (Some("list"), Some(element)) => Some(Type::list(type_of(element, depth)?)),
            (Some("set"), Some(element)) => Some(Type::set(type_of(element, depth)?)),
            (Some("map"), Some(element)) => Some(Type::map(type_of(element, depth)?)),
            (Some("tuple"), Some(Json::Array(elements))) => Some(Type::Tuple(
                elements
                    .iter()
                    .map(|element| type_of(element, depth))
                    .collect::<Result<_, _>>()?,
            )),
            // A third part may name optional attributes; a value has them all.
            (Some("object"), Some(Json::Object(attributes))) => Some(Type::Object(
                attributes
                    .iter()
                    .map(|(name, ty)| Ok((name.clone(), type_of(ty, depth)?)))
                    .collect::<Result<_, JsonError>>()?,
            )),
            _ => None,
        },
        _ => None,
    };
    parsed.ok_or(JsonError::Unexpected {
        at,
        expected: "a type",
    })
}

fn value(ty: &Type, raw: &RawValue, at: &AttributePath, depth: usize) -> Result<Value, JsonError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(JsonError::TooDeep { at: at.clone() });
    };
    let text = raw.get();
    if text == "null" {
        return Ok(Value::Null);
    }
    match ty {
        Type::Bool => boolean(text, at),
        Type::Number => number(text, at),
        Type::String => string(text, at),
        Type::List(element) => elements(element, text, (at, depth), "a list").map(Value::List),
        Type::Set(element) => {
            elements(element, text, (at, depth), "a set").map(|items| Value::Set(sorted(items)))
        }
        Type::Map(element) => part::<BTreeMap<String, &RawValue>>(text, at, "a map")?
            .into_iter()
            .map(|(key, raw)| {
                let inner = value(element, raw, &at.key(&key), depth)?;
                Ok((key, inner))
            })
            .collect::<Result<_, _>>()
            .map(Value::Map),
        Type::Object(attributes) => {
            let members = part::<BTreeMap<String, &RawValue>>(text, at, "an object")?;
            attributes
                .iter()
                .map(|(name, ty)| {
                    let inner = match members.get(name) {
                        Some(raw) => value(ty, raw, &at.attribute(name), depth)?,
                        None => Value::Null,
                    };
                    Ok((name.clone(), inner))
                })
                .collect::<Result<_, _>>()
                .map(Value::Map)
        }
        Type::Tuple(types) => {
            let items = part::<Vec<&RawValue>>(text, at, "a tuple")?;
            if items.len() != types.len() {
                return Err(unexpected(at, "a tuple of another length"));
            }
            types
                .iter()
                .zip(items)
                .enumerate()
                .map(|(index, (ty, raw))| value(ty, raw, &at.index(index), depth))
                .collect::<Result<_, _>>()
                .map(Value::List)
        }
        Type::Dynamic => {
            let words = "an object with type and value";
            let members = part::<BTreeMap<String, &RawValue>>(text, at, words)?;
            let (Some(ty), Some(inner)) = (members.get("type"), members.get("value")) else {
                return Err(unexpected(at, words));
            };
            let ty = Type::from_json(ty.get())?;
            let inner = value(&ty, inner, at, depth)?;
            Ok(Value::Dynamic(Box::new(ty), Box::new(inner)))
        }
    }
}

fn elements(
    element: &Type,
    text: &str,
    (at, depth): (&AttributePath, usize),
    expected: &'static str,
) -> Result<Vec<Value>, JsonError> {
    part::<Vec<&RawValue>>(text, at, expected)?
        .into_iter()
        .enumerate()
        .map(|(index, raw)| value(element, raw, &at.index(index), depth))
        .collect()
}

fn boolean(text: &str, at: &AttributePath) -> Result<Value, JsonError> {
    match text {
        "true" | "\"true\"" | "\"1\"" => Ok(Value::Bool(true)),
        "false" | "\"false\"" | "\"0\"" => Ok(Value::Bool(false)),
        _ => Err(unexpected(at, "a bool")),
    }
}

fn number(text: &str, at: &AttributePath) -> Result<Value, JsonError> {
    let written = if text.starts_with('"') {
        part::<String>(text, at, "a number")?
    } else {
        text.to_owned()
    };
    Number::parse(&written)
        .map(Value::Number)
        .ok_or_else(|| unexpected(at, "a number"))
}

fn string(text: &str, at: &AttributePath) -> Result<Value, JsonError> {
    match text.as_bytes().first() {
        Some(b'"') => part::<String>(text, at, "a string").map(Value::String),
        Some(b'0'..=b'9' | b'-' | b't' | b'f') => Ok(Value::from(text)),
        _ => Err(unexpected(at, "a string")),
    }
}

fn part<'a, T: serde::Deserialize<'a>>(
    text: &'a str,
    at: &AttributePath,
    expected: &'static str,
) -> Result<T, JsonError> {
    match serde_json::from_str(text) {
        Ok(parsed) => Ok(parsed),
        // serde's words may show the value, ours must not
        Err(_) => Err(unexpected(at, expected)),
    }
}

fn unexpected(at: &AttributePath, expected: &'static str) -> JsonError {
    JsonError::Unexpected {
        at: at.clone(),
        expected,
    }
}

#[cfg(test)]
mod tests;
