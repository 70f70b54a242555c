//! Protobuf bodies as the JSON they mean: what typed clients send, `kubectl create namespace` among them.
//!
//! One generic decoder and one table. `protobuf.json` says of every message its fields, `NUMBER NAME TYPE` each, as the
//! tags in `k8s.io/api` and `k8s.io/apimachinery` v0.34.2 give them: `string int bool bytes time quantity intstr raw
//! fields json items`, a message by name, `[T]` a list, `{T}` a map with texts for keys. `^` for a name is a message
//! whose members stand in the one around it. Go writes scalars that are not there as zero; `?` is one that is only
//! written when it is there, and so counts though it is zero.
//!
//! Answers are never protobuf.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What every such body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// How deep messages may be inside each other: deeper than any kind is.
const DEEPEST: usize = 64;

static MESSAGES: LazyLock<HashMap<String, Message>> = LazyLock::new(|| {
    // The file is part of the program; a test parses it.
    let all: BTreeMap<String, String> =
        serde_json::from_str(include_str!("protobuf.json")).unwrap_or_default();
    let message = |text: &str| text.split(", ").filter_map(field).collect();
    all.iter()
        .map(|(name, text)| (name.clone(), message(text)))
        .collect()
});

type Message = HashMap<u64, Field>;

#[derive(Debug, PartialEq, Eq)]
struct Field {
    name: String,
    of: Form,
    /// Written only if it is there.
    optional: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Form {
    Text,
    Integer,
    Truth,
    Bytes,
    Time,
    /// A quantity: a message with one text.
    Quantity,
    IntOrText,
    /// A message with JSON in it.
    Json,
    /// A message that stands for a list of texts.
    Items,
    Message(String),
    List(Box<Form>),
    Map(Box<Form>),
}

fn field(text: &str) -> Option<(u64, Field)> {
    let mut words = text.split(' ');
    let (number, name, of) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let field = Field {
        name: name.to_owned(),
        optional: of.ends_with('?'),
        of: Form::parse(of.trim_end_matches('?')),
    };
    Some((number, field))
}

impl Form {
    fn parse(text: &str) -> Self {
        let inside = |open, close| text.strip_prefix(open)?.strip_suffix(close);
        if let Some(of) = inside('[', ']') {
            return Self::List(Box::new(Self::parse(of)));
        }
        if let Some(of) = inside('{', '}') {
            return Self::Map(Box::new(Self::parse(of)));
        }
        match text {
            "string" => Self::Text,
            "int" => Self::Integer,
            "bool" => Self::Truth,
            "bytes" => Self::Bytes,
            "time" => Self::Time,
            "quantity" => Self::Quantity,
            "intstr" => Self::IntOrText,
            "raw" | "fields" | "json" => Self::Json,
            "items" => Self::Items,
            message => Self::Message(message.to_owned()),
        }
    }
}

/// One field as it stands in the bytes.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The object in a body, with `apiVersion` and `kind`; `None` if nothing is known of this kind, as of all custom ones.
///
/// # Errors
/// What is wrong with the bytes.
pub(super) fn decode(body: &[u8]) -> Result<Option<Value>, String> {
    let envelope = body
        .strip_prefix(MAGIC)
        .ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in fields(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in fields(meta) {
                    match field? {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind);
    if !MESSAGES.contains_key(&name) {
        return Ok(None);
    }
    let mut members = Map::new();
    members.insert("apiVersion".to_owned(), Value::from(api_version));
    members.insert("kind".to_owned(), Value::from(kind));
    read(&name, raw, &mut members, 0)?;
    Ok(Some(Value::Object(members)))
}

/// `apps.Deployment` of `apps/v1` and `Deployment`. Options are the same in every group.
fn message_name(api_version: &str, kind: &str) -> String {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let package = match group.split('.').next().unwrap_or_default() {
        _ if kind == "DeleteOptions" => "meta",
        "" => "core",
        first => first,
    };
    format!("{package}.{kind}")
}

/// Adds what a message says to the members of an object.
fn read(name: &str, bytes: &[u8], members: &mut Map<String, Value>, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("proto: {name}: nested too deeply"));
    }
    let known = MESSAGES
        .get(name)
        .ok_or_else(|| format!("proto: no message {name}"))?;
    for part in fields(bytes) {
        let (number, wire) = part?;
        // What a later version has more is passed over, as the original does.
        let Some(field) = known.get(&number) else { continue };
        match (&field.of, &wire) {
            (Form::Message(of), Wire::Bytes(bytes)) if field.name == "^" => {
                read(of, bytes, members, depth + 1)?
            }
            (Form::List(of), _) => {
                let item = value(of, &wire, depth)?;
                let list = members
                    .entry(field.name.clone())
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Some(list) = list.as_array_mut() {
                    list.push(item);
                }
            }
            (Form::Map(of), Wire::Bytes(bytes)) => {
                let (key, value) = entry(of, bytes, depth)?;
                let map = members
                    .entry(field.name.clone())
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, value);
                }
            }
            (of, _) => {
                let value = value(of, &wire, depth)?;
                let empty = matches!(&value, Value::Null | Value::Bool(false))
                    || value == ""
                    || value.as_i64() == Some(0);
                if field.optional || !empty || matches!(of, Form::Message(_)) {
                    members.insert(field.name.clone(), value);
                }
            }
        }
    }
    Ok(())
}

/// A key and a value; what is left out is empty.
fn entry(of: &Form, bytes: &[u8], depth: usize) -> Result<(String, Value), String> {
    let (mut key, mut found) = (String::new(), None);
    for part in fields(bytes) {
        match part? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => found = Some(value(of, &wire, depth)?),
            _ => {}
        }
    }
    let value = match found {
        Some(value) => value,
        None => value(of, &Wire::Bytes(&[]), depth)?,
    };
    Ok((key, value))
}

fn value(of: &Form, wire: &Wire<'_>, depth: usize) -> Result<Value, String> {
    match (of, wire) {
        (Form::Integer, Wire::Number(number)) => Ok(Value::from(signed(*number))),
        (Form::Truth, Wire::Number(number)) => Ok(Value::from(*number != 0)),
        (Form::Text, Wire::Bytes(bytes)) => text(bytes).map(Value::from),
        (Form::Bytes, Wire::Bytes(bytes)) => Ok(Value::from(STANDARD.encode(bytes))),
        (Form::Time, Wire::Bytes(bytes)) => moment(bytes),
        (Form::Quantity, Wire::Bytes(bytes)) => {
            let texts = texts(bytes)?;
            Ok(texts.into_iter().next().unwrap_or_else(|| Value::from("0")))
        }
        (Form::Items, Wire::Bytes(bytes)) => texts(bytes).map(Value::Array),
        (Form::IntOrText, Wire::Bytes(bytes)) => int_or_text(bytes),
        (Form::Json, Wire::Bytes(bytes)) => {
            for part in fields(bytes) {
                if let (1, Wire::Bytes(json)) = part? {
                    return serde_json::from_slice(json).map_err(|error| format!("proto: {error}"));
                }
            }
            Ok(Value::Null)
        }
        (Form::Message(name), Wire::Bytes(bytes)) => {
            let mut members = Map::new();
            read(name, bytes, &mut members, depth + 1)?;
            Ok(Value::Object(members))
        }
        _ => Err("proto: wrong wireType".to_owned()),
    }
}

fn signed(number: u64) -> i64 {
    i64::from_le_bytes(number.to_le_bytes())
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| format!("proto: {error}"))
}

/// Every text that is the first field of a message.
fn texts(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for part in fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = part? {
            all.push(Value::from(text(bytes)?));
        }
    }
    Ok(all)
}

/// Seconds and nanoseconds; nothing at all is no time.
fn moment(bytes: &[u8]) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (None, 0);
    for part in fields(bytes) {
        match part? {
            (1, Wire::Number(number)) => seconds = Some(signed(number)),
            (2, Wire::Number(number)) => nanos = signed(number),
            _ => {}
        }
    }
    let Some(seconds) = seconds else {
        return Ok(Value::Null);
    };
    let moment = OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| format!("proto: {error}"))?;
    let moment = moment + time::Duration::nanoseconds(nanos);
    moment
        .format(&Rfc3339)
        .map(Value::from)
        .map_err(|error| format!("proto: {error}"))
}

/// Which of the two it is, the number, the text.
fn int_or_text(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut words) = (false, 0, String::new());
    for part in fields(bytes) {
        match part? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = signed(value),
            (3, Wire::Bytes(bytes)) => words = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text {
        Value::from(words)
    } else {
        Value::from(number)
    })
}

/// The fields of a message, in the order of the bytes.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Wire<'_>), String>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field.ok_or_else(|| "proto: unexpected EOF".to_owned()))
    })
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = varint(rest)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(rest)?),
        1 => Wire::Number(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => Wire::Number(u64::from(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))),
        _ => return None,
    };
    Some((tag >> 3, wire))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let (first, left) = rest.split_first()?;
        *rest = left;
        number |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or_default();
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A field of bytes.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[number << 3 | 2, length], content].concat()
    }

    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw), bytes(3, b"")].concat()
    }

    #[test]
    fn every_message_of_the_table_is_made_of_known_ones() {
        fn check(of: &Form, at: &str) {
            match of {
                Form::Message(name) => assert!(MESSAGES.contains_key(name), "{at}: no message {name}"),
                Form::List(of) | Form::Map(of) => check(of, at),
                _ => {}
            }
        }
        assert!(MESSAGES.len() > 200);
        for (name, message) in MESSAGES.iter() {
            for field in message.values() {
                check(&field.of, &format!("{name}.{}", field.name));
            }
        }
    }

    #[test]
    fn a_secret_is_read() {
        let metadata = [bytes(1, b"s"), bytes(2, b""), bytes(8, b"")].concat();
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let raw = [
            bytes(1, &metadata),
            bytes(2, &entry),
            bytes(3, b"Opaque"),
            number(5, 0),
        ]
        .concat();
        let read = decode(&body("v1", "Secret", &raw)).unwrap().unwrap();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "dg=="},
            "type": "Opaque", "immutable": false});
        assert_eq!(read, secret);
    }

    #[test]
    fn inline_messages_lists_and_both_kinds_of_zero_are_read() {
        // replicas is a pointer and so counts at zero, minReadySeconds is not.
        let volume = [bytes(1, b"v"), bytes(2, &bytes(6, &bytes(1, b"s")))].concat();
        let surge = [number(1, 1), number(2, 0), bytes(3, b"25%")].concat();
        let strategy = bytes(2, &[bytes(1, &number(2, 1)), bytes(2, &surge)].concat());
        let template = bytes(2, &[bytes(1, &volume), bytes(1, &volume)].concat());
        let spec = [
            number(1, 0),
            bytes(3, &template),
            bytes(4, &strategy),
            number(5, 0),
        ]
        .concat();
        let read = decode(&body("apps/v1", "Deployment", &bytes(2, &spec)))
            .unwrap()
            .unwrap();
        let volume = json!({"name": "v", "secret": {"secretName": "s"}});
        let wanted = json!({"replicas": 0, "template": {"spec": {"volumes": [volume, volume]}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": "25%"}}});
        assert_eq!(read["spec"], wanted);
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        assert!(decode(b"{}").unwrap_err().contains("expected prefix"));
        assert!(
            decode(&body("v1", "Secret", &[0x0a, 0x7f]))
                .unwrap_err()
                .contains("EOF")
        );
        assert!(
            decode(&body("v1", "Secret", &[0x0b]))
                .unwrap_err()
                .contains("EOF")
        );
        assert!(
            decode(&body("v1", "Secret", &number(1, 1)))
                .unwrap_err()
                .contains("wireType")
        );
        assert_eq!(decode(&body("x/v1", "Thing", b"")), Ok(None));
    }
}
