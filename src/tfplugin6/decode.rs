//! From messages to the framework's words.

use crate::framework::resource::Private;
use crate::framework::{Diagnostic, Diagnostics, IdentitySchema, Schema, Type, Value};

use super::dynamic_value::{self, Refinements};
use super::generated::{DynamicValue, RawState, ResourceIdentityData};

/// A value of `schema`; an absent or empty message is null.
///
/// # Errors
/// If the bytes are not a value of that schema.
pub fn value(schema: &Schema, message: Option<&DynamicValue>) -> Result<Value, Diagnostics> {
    typed(&schema.ty(), message)
}

/// A value of a type; an absent or empty message is null.
///
/// # Errors
/// If the bytes are not a value of that type.
pub fn typed(ty: &Type, message: Option<&DynamicValue>) -> Result<Value, Diagnostics> {
    refined_as(ty, message).map(|(value, _)| value)
}

/// As [`value`], with what is said of the unknown parts.
///
/// # Errors
/// If the bytes are not a value of that schema.
pub fn refined(schema: &Schema, message: Option<&DynamicValue>) -> Result<(Value, Refinements), Diagnostics> {
    refined_as(&schema.ty(), message)
}

fn refined_as(ty: &Type, message: Option<&DynamicValue>) -> Result<(Value, Refinements), Diagnostics> {
    let nothing = Refinements::default();
    let Some(message) = message else {
        return Ok((Value::Null, nothing));
    };
    if message.msgpack.is_empty() && !message.json.is_empty() {
        let text = utf8(&message.json)?;
        let value = Value::from_json(ty, text).map_err(|error| not_understood(&error.to_string()))?;
        return Ok((value, nothing));
    }
    dynamic_value::decode_refined(ty, &message.msgpack).map_err(|error| not_understood(&error.to_string()))
}

/// An identity; an absent message is null.
///
/// # Errors
/// If the bytes are not an identity of that schema.
pub fn identity(
    schema: &IdentitySchema,
    message: Option<&ResourceIdentityData>,
) -> Result<Value, Diagnostics> {
    typed(
        &schema.ty(),
        message.and_then(|message| message.identity_data.as_ref()),
    )
}

/// A configuration: as [`value`], and what is absent is an object without anything set.
///
/// # Errors
/// If the bytes are not a value of that schema.
pub fn config(schema: &Schema, message: Option<&DynamicValue>) -> Result<Value, Diagnostics> {
    let value = value(schema, message)?;
    if !value.is_null() {
        return Ok(value);
    }
    Ok(schema.nothing())
}

/// Stored state as JSON text.
///
/// # Errors
/// If there is none, or only in the form of Terraform before 0.12.
pub fn stored_state(message: Option<&RawState>) -> Result<&str, Diagnostics> {
    let nothing = || {
        Diagnostics::from(Diagnostic::error(
            "Stored state is not readable",
            "Terraform sent no state, or one in the form of Terraform before 0.12, which no version of this provider wrote.",
            "Remove the resource from the state and import it again.",
        ))
    };
    match message {
        Some(state) if !state.json.is_empty() => utf8(&state.json),
        _ => Err(nothing()),
    }
}

/// Private data. Bytes that are not ours are as good as none: it costs one update that changes nothing.
pub fn private(bytes: &[u8]) -> Private {
    if bytes.is_empty() {
        return Private::new();
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_| {
        tracing::warn!("stored private data is not readable and is ignored");
        Private::new()
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, Diagnostics> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => Err(not_understood("expected UTF-8")),
    }
}

fn not_understood(why: &str) -> Diagnostics {
    Diagnostic::bug(format!("A value from Terraform was not understood: {why}.")).into()
}
