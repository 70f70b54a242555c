//! Values in MessagePack, as Terraform writes them.
//!
//! The type drives the reading: a string may be a number, an array a list, a set or a tuple. Reading is bounded by the
//! bytes there are and by [`MAX_DEPTH`]; hostile input is an error, never a panic or a large allocation.
//!
//! Numbers: Terraform writes an integer as an integer if it fits 64 bits, a fraction as a double only if the double
//! is exactly that number, and everything else as decimal text. So does this, and a number that is passed through
//! leaves as the number that came.
//!
//! Every extension type means unknown. What a refined one (type 12) says of itself, for example that it is not null, is
//! kept aside by its place ([`Refinements`]), so that what is passed through unknown leaves as it came.

use std::collections::BTreeMap;
use std::fmt;

use rmp::Marker;
use rmp::encode::{
    write_array_len, write_bin, write_bool, write_ext_meta, write_f64, write_map_len, write_nil, write_sint,
    write_str,
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
    decode_refined(ty, bytes).map(|(value, _)| value)
}

/// As [`decode`], with what the unknown parts say of themselves.
///
/// # Errors
/// If the bytes are not a value of that type.
pub fn decode_refined(ty: &Type, bytes: &[u8]) -> Result<(Value, Refinements), DecodeError> {
    if bytes.is_empty() {
        return Ok((Value::Null, Refinements::default()));
    }
    let mut input = Input {
        rest: bytes,
        in_set: 0,
        refined: Vec::new(),
    };
    let value = value(ty, &mut input, MAX_DEPTH)?;
    let placed = input.refined.into_iter().map(|(mut steps, content)| {
        steps.reverse();
        (steps, content)
    });
    Ok((value, Refinements(placed.collect())))
}

/// What unknown values say of themselves, by their place. Elements of sets have no place; theirs is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refinements(BTreeMap<Vec<Step>, Vec<u8>>);

/// The extension type of refined unknown values.
const REFINED: i8 = 12;

/// The longest refinement that Terraform reads.
const LONGEST_REFINEMENT: usize = 1024;

/// More than any configuration has; what comes after is plainly unknown.
const MOST_REFINEMENTS: usize = 1000;

impl Refinements {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn value(ty: &Type, input: &mut Input<'_>, depth: usize) -> Result<Value, DecodeError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(DecodeError::new("less nesting"));
    };
    let token = input.token()?;
    match (ty, token) {
        (_, Token::Nil) => Ok(Value::Null),
        (_, Token::Extension(kind, content)) => {
            input.remember(kind, content);
            Ok(Value::Unknown)
        }
        (Type::Bool, Token::Bool(value)) => Ok(Value::Bool(value)),
        (Type::Number, token) => number(&token)
            .map(Value::Number)
            .ok_or(DecodeError::new("a number")),
        (Type::String, Token::Text(bytes)) => text(bytes).map(Value::String),
        (Type::List(element), Token::Array(length)) => {
            elements(element, length, input, depth).map(Value::List)
        }
        (Type::Set(element), Token::Array(length)) => {
            input.in_set += 1;
            let items = elements(element, length, input, depth)?;
            input.in_set -= 1;
            Ok(Value::Set(sorted(items)))
        }
        (Type::Tuple(types), Token::Array(length)) if types.len() == length => types
            .iter()
            .enumerate()
            .map(|(index, ty)| input.within(|| at(index), |input| value(ty, input, depth)))
            .collect::<Result<_, _>>()
            .map(Value::List),
        (Type::Map(element), Token::Map(length)) => members(length, input, |key, input| {
            input.within(|| Step::Key(key.to_owned()), |input| value(element, input, depth))
        }),
        (Type::Object(attributes), Token::Map(length)) if attributes.len() == length => {
            let object = members(length, input, |name, input| {
                let ty = attributes
                    .get(name)
                    .ok_or(DecodeError::new("known attributes only"))?;
                input.within(
                    || Step::Attribute(name.to_owned()),
                    |input| value(ty, input, depth),
                )
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
        .map(|index| input.within(|| at(index), |input| value(element, input, depth)))
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
    if value.is_infinite() {
        return Some(Number::infinite(value.is_sign_negative()));
    }
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
    Extension(i8, &'a [u8]),
}

/// The bytes not yet read.
struct Input<'a> {
    rest: &'a [u8],
    /// How many sets the reading is in.
    in_set: usize,
    /// What was said of unknown values so far, with their places from the innermost outwards.
    refined: Vec<(Vec<Step>, Vec<u8>)>,
}

impl<'a> Input<'a> {
    /// Reads one step further down. The step is made only if something is to be told of it.
    fn within(
        &mut self,
        step: impl Fn() -> Step,
        read: impl FnOnce(&mut Self) -> Result<Value, DecodeError>,
    ) -> Result<Value, DecodeError> {
        let before = self.refined.len();
        let read = read(self).map_err(|error| error.within(step()))?;
        for (steps, _) in self.refined.iter_mut().skip(before) {
            steps.push(step());
        }
        Ok(read)
    }

    fn remember(&mut self, kind: i8, content: &[u8]) {
        let fits = (1..=LONGEST_REFINEMENT).contains(&content.len()) && self.refined.len() < MOST_REFINEMENTS;
        if kind == REFINED && self.in_set == 0 && fits {
            self.refined.push((Vec::new(), content.to_vec()));
        }
    }

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
        let [kind] = self.array()?;
        Ok(Token::Extension(i8::from_be_bytes([kind]), self.take(length)?))
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
        if elements > self.rest.len() {
            return Err(DecodeError::new("more bytes"));
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::new("more bytes"))?;
        self.rest = tail;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::new("more bytes"))?;
        self.rest = tail;
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
    encode_refined(ty, value, &Refinements::default())
}

/// As [`encode`]; an unknown value says of itself what `refinements` say of its place.
///
/// # Errors
/// If the value is not of that type.
pub fn encode_refined(ty: &Type, value: &Value, refinements: &Refinements) -> Result<Vec<u8>, EncodeError> {
    let mut output = Output {
        bytes: Vec::new(),
        place: Vec::new(),
        refinements,
    };
    output.write(ty, value)?;
    Ok(output.bytes)
}

struct Output<'a> {
    bytes: Vec<u8>,
    place: Vec<Step>,
    refinements: &'a Refinements,
}

impl Output<'_> {
    fn write(&mut self, ty: &Type, value: &Value) -> Result<(), EncodeError> {
        let out = &mut self.bytes;
        match (ty, value) {
            (_, Value::Null) => write_nil(out)?,
            (_, Value::Unknown) => match self.refinements.0.get(&self.place) {
                Some(content) => {
                    write_ext_meta(out, u32::try_from(content.len())?, REFINED)?;
                    out.extend(content);
                }
                None => out.extend(UNKNOWN),
            },
            (Type::Bool, Value::Bool(value)) => write_bool(out, *value)?,
            (Type::Number, Value::Number(number)) => write_number(number, out)?,
            (Type::String, Value::String(text)) => write_str(out, text)?,
            (Type::List(element), Value::List(items)) => {
                let all = items.iter().map(|item| (element.as_ref(), item));
                self.write_all(items.len(), all)?;
            }
            (Type::Set(element), Value::Set(items)) => {
                let items = sorted(items.clone());
                write_array_len(out, u32::try_from(items.len())?)?;
                let nothing = Refinements::default();
                let mut plain = Output {
                    bytes: std::mem::take(&mut self.bytes),
                    place: Vec::new(),
                    refinements: &nothing,
                };
                let written = items.iter().try_for_each(|item| plain.write(element, item));
                self.bytes = plain.bytes;
                written?;
            }
            (Type::Tuple(types), Value::List(items)) if types.len() == items.len() => {
                self.write_all(items.len(), types.iter().zip(items))?;
            }
            (Type::Map(element), Value::Map(members)) => {
                write_map_len(out, u32::try_from(members.len())?)?;
                for (key, value) in members {
                    write_str(&mut self.bytes, key)?;
                    self.within(|| Step::Key(key.clone()), element, value)?;
                }
            }
            (Type::Object(attributes), Value::Map(_)) => {
                write_map_len(out, u32::try_from(attributes.len())?)?;
                for (name, ty) in attributes {
                    write_str(&mut self.bytes, name)?;
                    self.within(|| Step::Attribute(name.clone()), ty, value.get(name))?;
                }
            }
            (Type::Dynamic, Value::Dynamic(ty, value)) => {
                write_array_len(out, 2)?;
                write_bin(out, ty.to_json().as_bytes())?;
                self.write(ty, value)?;
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

    fn write_all<'v>(
        &mut self,
        length: usize,
        items: impl Iterator<Item = (&'v Type, &'v Value)>,
    ) -> Result<(), EncodeError> {
        write_array_len(&mut self.bytes, u32::try_from(length)?)?;
        for (index, (ty, item)) in items.enumerate() {
            self.within(|| at(index), ty, item)?;
        }
        Ok(())
    }

    fn within(&mut self, step: impl Fn() -> Step, ty: &Type, value: &Value) -> Result<(), EncodeError> {
        if self.refinements.is_empty() {
            return self.write(ty, value); // nobody asks for the place
        }
        self.place.push(step());
        let written = self.write(ty, value);
        self.place.pop();
        written
    }
}

fn write_number(number: &Number, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Some(whole) = number.as_i64() {
        write_sint(out, whole)?;
        return Ok(());
    }
    if number.is_infinite() {
        let sign = if number.is_negative() { -1.0 } else { 1.0 };
        write_f64(out, f64::INFINITY * sign)?;
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
