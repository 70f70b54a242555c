//! What is fuzzed, each a function of bytes that must neither panic nor keep more memory than the bytes justify.
//!
//! `cargo test` runs them briefly on the same bytes every time (`tests/protocol/properties.rs`); `cargo fuzz run NAME`
//! searches for new ones.

use kvtls::framework::{Type, Value};
use kvtls::tfplugin6::dynamic_value;

/// What one byte may cost at most. The dearest is a double with a thousand decimal digits; then come elements of a list,
/// one byte each.
const COST_OF_A_BYTE: usize = 200;

/// A type with everything in it.
fn everything() -> Type {
    let object = |members: &[(&str, Type)]| {
        Type::Object(
            members
                .iter()
                .map(|(name, ty)| ((*name).to_owned(), ty.clone()))
                .collect(),
        )
    };
    object(&[
        ("any", Type::Dynamic),
        (
            "list",
            Type::list(object(&[("a", Type::Bool), ("b", Type::Number)])),
        ),
        ("map", Type::map(Type::set(Type::String))),
        ("tuple", Type::Tuple(vec![Type::Number, Type::Dynamic])),
    ])
}

/// The types as which bytes are read.
pub(crate) fn types_of_messagepack() -> [Type; 4] {
    [
        everything(),
        Type::Dynamic,
        Type::set(Type::Number),
        Type::list(Type::Dynamic),
    ]
}

/// The types as which a state is read.
pub(crate) fn types_of_state() -> [Type; 3] {
    [everything(), Type::Dynamic, Type::Number]
}

/// MessagePack of any type. What is read can be written, and is then read as the same.
pub(crate) fn messagepack(bytes: &[u8]) {
    for ty in types_of_messagepack() {
        let Ok((value, refinements)) = dynamic_value::decode_refined(&ty, bytes) else {
            continue;
        };
        assert!(
            cost(&value) <= COST_OF_A_BYTE * bytes.len() + 1000,
            "{} bytes",
            bytes.len()
        );
        let written = dynamic_value::encode_refined(&ty, &value, &refinements).expect("what was read");
        let again = dynamic_value::decode_refined(&ty, &written).expect("what was written");
        assert_eq!(again, (value, refinements));
    }
}

/// Stored state.
pub(crate) fn state(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for ty in types_of_state() {
        if let Ok(value) = Value::from_json(&ty, text) {
            assert!(value.is_wholly_known(), "a state has nothing unknown");
            let written = dynamic_value::encode(&ty, &value).expect("what was read");
            assert_eq!(
                dynamic_value::decode(&ty, &written).expect("what was written"),
                value
            );
        }
    }
}

/// The type language.
pub(crate) fn types(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(ty) = Type::from_json(text) {
        assert_eq!(Type::from_json(&ty.to_json()).expect("what was written"), ty);
    }
}

/// Roughly the memory that a value keeps.
fn cost(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Unknown | Value::Bool(_) => 0,
            Value::Number(number) => number.as_str().len(),
            Value::String(text) => text.len(),
            Value::List(items) | Value::Set(items) => items.iter().map(cost).sum(),
            Value::Map(members) => members
                .iter()
                .map(|(key, value)| key.len() + 24 + cost(value))
                .sum(),
            Value::Dynamic(ty, value) => ty.to_json().len() + cost(value),
        }
}
