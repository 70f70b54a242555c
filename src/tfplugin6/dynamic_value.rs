//! Values in MessagePack, as Terraform writes them.
//!
//! The type drives the reading: a string may be a number, an array a list, a set or a tuple. Reading is bounded by the
//! bytes there are and by [`MAX_DEPTH`]; hostile input is an error, never a panic or a large allocation.
//!
//! Numbers: Terraform writes an integer as an integer if it fits 64 bits, a fraction as a double only if the double
//! is exactly that number, and everything else as decimal text. So does this, and a number that is passed through
//! leaves as the number that came.
//!
//! Every extension type means unknown. Refinements (type 12) are dropped: Terraform compares without them.

use std::fmt;

use rmp::Marker;
use rmp::encode::{
    write_array_len, write_bin, write_bool, write_f64, write_map_len, write_nil, write_sint, write_str,
};

use crate::framework::json::MAX_DEPTH;
use crate::framework::set::sorted;
use crate::framework::{AttributePath, Number, Step, Type, Value};

/// How Terraform writes an unknown value: extension type 0, one byte, zero.
const UNKNOWN: [u8; 3] = [0xd4, 0x00, 0x00];

/// Bytes that are not a value of the expected type. Shows no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}expected {expected}", Prefix(.steps))]
pub struct DecodeError {
    /// From the innermost outwards.
    steps: Vec<Step>,
    expected: &'static str,
}

impl DecodeError {
    fn new(expected: &'static str) -> Self {
        Self {
            steps: Vec::new(),
            expected,
        }
    }

    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Where in the value.
    pub fn path(&self) -> AttributePath {
        path_of(&self.steps)
    }
}

struct Prefix<'a>(&'a [Step]);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "{}: ", path_of(self.0))
    }
}

fn path_of(steps: &[Step]) -> AttributePath {
    steps
        .iter()
        .rev()
        .fold(AttributePath::root(), |path, step| match step {
            Step::Attribute(name) => path.attribute(name),
            Step::Key(key) => path.key(key),
            Step::Index(index) => path.index(usize::try_from(*index).unwrap_or(usize::MAX)),
        })
}

/// Reads a value of type `ty`. No bytes at all are null; bytes after the value are ignored.
///
/// # Errors
/// If the bytes are not a value of that type.
pub fn decode(ty: &Type, bytes: &[u8]) -> Result<Value, DecodeError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    value(ty, &mut Input(bytes), MAX_DEPTH)
}

fn value(ty: &Type, input: &mut Input<'_>, depth: usize) -> Result<Value, DecodeError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(DecodeError::new("less nesting"));
    };
    let token = input.token()?;
    match (ty, token) {
        (_, Token::Nil) => Ok(Value::Null),
        (_, Token::Extension) => Ok(Value::Unknown),
        (Type::Bool, Token::Bool(value)) => Ok(Value::Bool(value)),
        (Type::Number, token) => number(&token)
            .map(Value::Number)
            .ok_or(DecodeError::new("a number")),
        (Type::String, Token::Text(bytes)) => text(bytes).map(Value::String),
        (Type::List(element), Token::Array(length)) => {
            elements(element, length, input, depth).map(Value::List)
        }
        (Type::Set(element), Token::Array(length)) => {
            elements(element, length, input, depth).map(|items| Value::Set(sorted(items)))
        }
        (Type::Tuple(types), Token::Array(length)) if types.len() == length => types
            .iter()
            .enumerate()
            .map(|(index, ty)| value(ty, input, depth).map_err(|error| error.within(at(index))))
            .collect::<Result<_, _>>()
            .map(Value::List),
        (Type::Map(element), Token::Map(length)) => members(length, input, |key, input| {
            value(element, input, depth).map_err(|error| error.within(Step::Key(key.to_owned())))
        }),
        (Type::Object(attributes), Token::Map(length)) if attributes.len() == length => {
            let object = members(length, input, |name, input| {
                let ty = attributes
                    .get(name)
                    .ok_or(DecodeError::new("known attributes only"))?;
                value(ty, input, depth).map_err(|error| error.within(Step::Attribute(name.to_owned())))
            })?;
            match object.as_map() {
                Some(members) if members.len() == length => Ok(object),
                _ => Err(DecodeError::new("each attribute once")),
            }
        }
        (Type::Dynamic, Token::Array(2)) => {
            let Token::Text(json) = input.token()? else {
                return Err(DecodeError::new("a type"));
            };
            let ty = Type::from_json(&text(json)?)
                .ok()
                .ok_or(DecodeError::new("a type"))?;
            let inner = value(&ty, input, depth)?;
            Ok(Value::Dynamic(Box::new(ty), Box::new(inner)))
        }
        (ty, _) => Err(DecodeError::new(words(ty))),
    }
}

fn words(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "a bool",
        Type::Number => "a number",
        Type::String => "a string",
        Type::List(_) => "a list",
        Type::Set(_) => "a set",
        Type::Map(_) => "a map",
        Type::Object(_) => "an object with exactly the attributes of the schema",
        Type::Tuple(_) => "a tuple of the type's length",
        Type::Dynamic => "a type and a value",
    }
}

fn elements(
    element: &Type,
    length: usize,
    input: &mut Input<'_>,
    depth: usize,
) -> Result<Vec<Value>, DecodeError> {
    input.holds(length)?;
    (0..length)
        .map(|index| value(element, input, depth).map_err(|error| error.within(at(index))))
        .collect()
}

fn members(
    length: usize,
    input: &mut Input<'_>,
    mut read: impl FnMut(&str, &mut Input<'_>) -> Result<Value, DecodeError>,
) -> Result<Value, DecodeError> {
    input.holds(length)?;
    (0..length)
        .map(|_| {
            let Token::Text(key) = input.token()? else {
                return Err(DecodeError::new("a string as key"));
            };
            let key = text(key)?;
            let value = read(&key, input)?;
            Ok((key, value))
        })
        .collect::<Result<_, _>>()
        .map(Value::Map)
}

fn at(index: usize) -> Step {
    Step::Index(i64::try_from(index).unwrap_or(i64::MAX))
}

fn text(bytes: &[u8]) -> Result<String, DecodeError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(DecodeError::new("UTF-8")),
    }
}

fn number(token: &Token<'_>) -> Option<Number> {
    match *token {
        Token::Int(value) => Some(Number::from(value)),
        Token::UInt(value) => Some(Number::from(value)),
        Token::Float(value) => exactly(value),
        Token::Text(bytes) => std::str::from_utf8(bytes).ok().and_then(Number::parse),
        _ => None,
    }
}

/// The number that a finite double is, to its last binary digit.
fn exactly(value: f64) -> Option<Number> {
    // The smallest double has 1074 digits after the point, no double has more.
    let digits = value.is_finite().then(|| format!("{value:.1074}"))?;
    Number::parse(digits.trim_end_matches('0').trim_end_matches('.'))
}

enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(&'a [u8]),
    Array(usize),
    Map(usize),
    Extension,
}

/// The bytes not yet read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        let [first] = self.array()?;
        Ok(match Marker::from_u8(first) {
            Marker::Null => Token::Nil,
            Marker::True => Token::Bool(true),
            Marker::False => Token::Bool(false),
            Marker::FixPos(value) => Token::UInt(u64::from(value)),
            Marker::FixNeg(value) => Token::Int(i64::from(value)),
            Marker::U8 => Token::UInt(u64::from(u8::from_be_bytes(self.array()?))),
            Marker::U16 => Token::UInt(u64::from(u16::from_be_bytes(self.array()?))),
            Marker::U32 => Token::UInt(u64::from(u32::from_be_bytes(self.array()?))),
            Marker::U64 => Token::UInt(u64::from_be_bytes(self.array()?)),
            Marker::I8 => Token::Int(i64::from(i8::from_be_bytes(self.array()?))),
            Marker::I16 => Token::Int(i64::from(i16::from_be_bytes(self.array()?))),
            Marker::I32 => Token::Int(i64::from(i32::from_be_bytes(self.array()?))),
            Marker::I64 => Token::Int(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Token::Float(f64::from(f32::from_be_bytes(self.array()?))),
            Marker::F64 => Token::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(length) => Token::Text(self.take(usize::from(length))?),
            Marker::Str8 | Marker::Bin8 => {
                let length = self.length8()?;
                Token::Text(self.take(length)?)
            }
            Marker::Str16 | Marker::Bin16 => {
                let length = self.length16()?;
                Token::Text(self.take(length)?)
            }
            Marker::Str32 | Marker::Bin32 => {
                let length = self.length32()?;
                Token::Text(self.take(length)?)
            }
            Marker::FixArray(length) => Token::Array(usize::from(length)),
            Marker::Array16 => Token::Array(self.length16()?),
            Marker::Array32 => Token::Array(self.length32()?),
            Marker::FixMap(length) => Token::Map(usize::from(length)),
            Marker::Map16 => Token::Map(self.length16()?),
            Marker::Map32 => Token::Map(self.length32()?),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => {
                let length = self.length8()?;
                self.extension(length)?
            }
            Marker::Ext16 => {
                let length = self.length16()?;
                self.extension(length)?
            }
            Marker::Ext32 => {
                let length = self.length32()?;
                self.extension(length)?
            }
            Marker::Reserved => return Err(DecodeError::new("MessagePack")),
        })
    }

    /// One byte of type, and the content.
    fn extension(&mut self, length: usize) -> Result<Token<'a>, DecodeError> {
        self.take(1)?;
        self.take(length)?;
        Ok(Token::Extension)
    }

    fn length8(&mut self) -> Result<usize, DecodeError> {
        Ok(usize::from(u8::from_be_bytes(self.array()?)))
    }

    fn length16(&mut self) -> Result<usize, DecodeError> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    fn length32(&mut self) -> Result<usize, DecodeError> {
        Ok(usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    /// Refuses a count of elements that cannot follow: each takes at least one byte.
    fn holds(&self, elements: usize) -> Result<(), DecodeError> {
        if elements > self.0.len() {
            return Err(DecodeError::new("more bytes"));
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(DecodeError::new("more bytes"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError::new("more bytes"))?;
        self.0 = tail;
        Ok(head)
    }
}

/// A value that is not of the type it is to be written as.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The value is of another kind. Shows no value.
    #[error("{kind} cannot be written as {expected}")]
    Kind {
        /// What it is.
        kind: &'static str,
        /// What was to be written.
        expected: &'static str,
    },
    /// More elements than a count of 32 bits.
    #[error("too many elements")]
    TooLong(#[from] std::num::TryFromIntError),
    /// Memory did not take the bytes.
    #[error("the bytes could not be written")]
    Write(#[from] rmp::encode::ValueWriteError),
    /// Memory did not take the bytes.
    #[error("the bytes could not be written")]
    Plain(#[from] std::io::Error),
}

/// Writes a value of type `ty`. Sets are sorted; an attribute that is missing is written as null, one that the type
/// does not have is left out.
///
/// # Errors
/// If the value is not of that type.
pub fn encode(ty: &Type, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    write(ty, value, &mut bytes)?;
    Ok(bytes)
}

fn write(ty: &Type, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match (ty, value) {
        (_, Value::Null) => write_nil(out)?,
        (_, Value::Unknown) => out.extend(UNKNOWN),
        (Type::Bool, Value::Bool(value)) => write_bool(out, *value)?,
        (Type::Number, Value::Number(number)) => write_number(number, out)?,
        (Type::String, Value::String(text)) => write_str(out, text)?,
        (Type::List(element), Value::List(items)) => write_all(element, items, out)?,
        (Type::Set(element), Value::Set(items)) => write_all(element, &sorted(items.clone()), out)?,
        (Type::Tuple(types), Value::List(items)) if types.len() == items.len() => {
            write_array_len(out, u32::try_from(items.len())?)?;
            for (ty, item) in types.iter().zip(items) {
                write(ty, item, out)?;
            }
        }
        (Type::Map(element), Value::Map(members)) => {
            write_map_len(out, u32::try_from(members.len())?)?;
            for (key, value) in members {
                write_str(out, key)?;
                write(element, value, out)?;
            }
        }
        (Type::Object(attributes), Value::Map(_)) => {
            write_map_len(out, u32::try_from(attributes.len())?)?;
            for (name, ty) in attributes {
                write_str(out, name)?;
                write(ty, value.get(name), out)?;
            }
        }
        (Type::Dynamic, Value::Dynamic(ty, value)) => {
            write_array_len(out, 2)?;
            write_bin(out, ty.to_json().as_bytes())?;
            write(ty, value, out)?;
        }
        (ty, value) => {
            return Err(EncodeError::Kind {
                kind: value.kind(),
                expected: words(ty),
            });
        }
    }
    Ok(())
}

fn write_all(element: &Type, items: &[Value], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    write_array_len(out, u32::try_from(items.len())?)?;
    for item in items {
        write(element, item, out)?;
    }
    Ok(())
}

fn write_number(number: &Number, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Some(whole) = number.as_i64() {
        write_sint(out, whole)?;
        return Ok(());
    }
    let plain = number.to_plain();
    let double = plain.parse::<f64>().ok().filter(|double| double.fract() != 0.0);
    match double {
        Some(double) if exactly(double).as_ref() == Some(number) => write_f64(out, double)?,
        _ => write_str(out, &plain)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
