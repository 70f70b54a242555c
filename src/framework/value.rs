//! Values as Terraform knows them: null, unknown, or known.
//!
//! A value carries no type of its own; whoever needs the type holds it beside the value. An unknown may stand
//! anywhere in the tree: a known map can hold an unknown element.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use super::set::same_elements;
use super::ty::Type;

/// A value tree. Two sets are equal whatever the order of their elements, two numbers however they are written.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Not set.
    #[default]
    Null,
    /// Known only after apply.
    Unknown,
    /// True or false.
    Bool(bool),
    /// A number, exactly as written.
    Number(Number),
    /// Text.
    String(String),
    /// The elements of a list or tuple, in order.
    List(Vec<Value>),
    /// The elements of a set; their order carries no meaning.
    Set(Vec<Value>),
    /// The elements of a map, or the attributes of an object.
    Map(BTreeMap<String, Value>),
    /// A value of a dynamic attribute together with its own type.
    Dynamic(Box<Type>, Box<Value>),
}

impl Value {
    /// An object or map of these members.
    pub fn object<K: Into<String>>(members: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(
            members
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }

    /// Whether this is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether this value itself is unknown; its elements may still be when it is not.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Whether nothing in the tree is unknown.
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::List(items) | Self::Set(items) => items.iter().all(Self::is_wholly_known),
            Self::Map(members) => members.values().all(Self::is_wholly_known),
            Self::Dynamic(_, value) => value.is_wholly_known(),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => true,
        }
    }

    /// The member of an object or map; null if this is not one or has no such member, unknown if this is unknown.
    pub fn get(&self, name: &str) -> &Value {
        match self {
            Self::Map(members) => members.get(name).unwrap_or(&Self::Null),
            Self::Unknown => &Self::Unknown,
            _ => &Self::Null,
        }
    }

    /// Puts a member into an object or map; anything else first becomes an object.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(BTreeMap::new());
        }
        if let Self::Map(members) = self {
            members.insert(name.into(), value.into());
        }
    }

    /// What kind of value this is, in words that do not show it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Unknown => "unknown",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Set(_) => "a set",
            Self::Map(_) => "an object",
            Self::Dynamic(..) => "a dynamic value",
        }
    }

    /// The text of a known string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a known bool.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a known whole number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// The elements of a known list or set.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) | Self::Set(items) => Some(items),
            _ => None,
        }
    }

    /// The members of a known object or map.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Map(members) => Some(members),
            _ => None,
        }
    }

    /// The same, to change it.
    pub fn as_map_mut(&mut self) -> Option<&mut BTreeMap<String, Value>> {
        match self {
            Self::Map(members) => Some(members),
            _ => None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) | (Self::Unknown, Self::Unknown) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Number(left), Self::Number(right)) => left == right,
            (Self::String(left), Self::String(right)) => left == right,
            (Self::List(left), Self::List(right)) => left == right,
            (Self::Set(left), Self::Set(right)) => same_elements(left, right),
            (Self::Map(left), Self::Map(right)) => left == right,
            (Self::Dynamic(left_type, left), Self::Dynamic(right_type, right)) => {
                left_type == right_type && left == right
            }
            _ => false,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(Number::from(value))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<BTreeMap<String, T>> for Value {
    fn from(members: BTreeMap<String, T>) -> Self {
        Self::object(members.into_iter().map(|(key, value)| (key, value.into())))
    }
}

/// A decimal number of any size, kept as the text it came as so that echoing it changes nothing.
///
/// Two numbers are equal if they are the same number, however written: `1.50` equals `1.5`, `1e3` equals `1000`.
#[derive(Clone)]
pub struct Number(String);

impl Number {
    /// Reads decimal text, with optional sign, fraction and exponent. Returns `None` for anything else, and for
    /// exponents beyond ±10,000, which no configuration means and which would cost memory to compare.
    pub fn parse(text: &str) -> Option<Self> {
        Normal::of(text).map(|_| Self(text.to_owned()))
    }

    /// A finite double, with its shortest decimal text; `None` for infinities and NaN.
    pub fn from_f64(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self(format!("{value}")))
    }

    /// Infinity, which Terraform can compute and no configuration can write.
    pub fn infinite(negative: bool) -> Self {
        Self(if negative { "-inf" } else { "inf" }.to_owned())
    }

    /// Whether it is larger, or smaller, than any number.
    pub fn is_infinite(&self) -> bool {
        self.0.ends_with("inf")
    }

    /// Whether it is written with a minus.
    pub fn is_negative(&self) -> bool {
        self.0.starts_with('-')
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number as decimal text without an exponent. Text that has none is returned as it is.
    pub fn to_plain(&self) -> String {
        if !self.0.contains(['e', 'E', '+']) {
            return self.0.clone();
        }
        let Some(normal) = Normal::of(&self.0) else {
            return self.0.clone();
        };
        let sign = if normal.negative { "-" } else { "" };
        let shift = usize::try_from(normal.exponent.unsigned_abs()).unwrap_or(0);
        if normal.digits.is_empty() {
            return "0".to_owned();
        }
        if normal.exponent >= 0 {
            return format!("{sign}{}{}", normal.digits, "0".repeat(shift));
        }
        let padded = format!("{:0>width$}", normal.digits, width = shift + 1);
        let (whole, fraction) = padded.split_at(padded.len() - shift);
        format!("{sign}{whole}.{fraction}")
    }

    /// One text for each number, however it is written. Not for reading.
    pub fn to_canonical(&self) -> String {
        Normal::of(&self.0).map_or_else(
            || self.0.clone(),
            |normal| {
                let sign = if normal.negative { "-" } else { "" };
                format!("{sign}{}e{}", normal.digits, normal.exponent)
            },
        )
    }

    /// The number as an integer, if it is one and fits.
    pub fn as_i64(&self) -> Option<i64> {
        let normal = Normal::of(&self.0)?;
        if normal.digits.is_empty() {
            return Some(0);
        }
        let zeros = usize::try_from(normal.exponent)
            .ok()
            .filter(|zeros| *zeros < 20)?;
        let sign = if normal.negative { "-" } else { "" };
        format!("{sign}{}{}", normal.digits, "0".repeat(zeros))
            .parse()
            .ok()
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(value.to_string())
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self(value.to_string())
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self.is_infinite(), other.is_infinite()) {
            (false, false) => Normal::of(&self.0) == Normal::of(&other.0),
            _ => self.0 == other.0,
        }
    }
}

impl Eq for Number {}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digits without leading or trailing zeros, times ten to the exponent; zero has no digits.
#[derive(PartialEq, Eq)]
struct Normal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Normal {
    fn of(text: &str) -> Option<Self> {
        const MAX_EXPONENT: i64 = 10_000;
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (rest, 0),
        };
        if exponent.abs().cmp(&MAX_EXPONENT) == Ordering::Greater {
            return None;
        }
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let significant = all.trim_start_matches('0');
        let digits = significant.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        let dropped = i64::try_from(significant.len() - digits.len()).ok()?;
        let exponent = exponent - i64::try_from(fraction.len()).ok()? + dropped;
        Some(Self {
            negative,
            digits: digits.to_owned(),
            exponent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_written_differently_is_equal() {
        for (left, right) in [
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("-0", "0"),
            ("0.1", "1E-1"),
            ("+7", "7"),
        ] {
            assert_eq!(Number::parse(left), Number::parse(right), "{left} {right}");
        }
        assert_ne!(
            Number::parse("123456789012345678901"),
            Number::parse("123456789012345678902")
        );
    }

    #[test]
    fn a_set_is_the_same_set_in_any_order() {
        let set = |items: &[&str]| Value::Set(items.iter().map(|item| Value::from(*item)).collect());
        assert_eq!(set(&["a", "b", "a"]), set(&["a", "a", "b"]));
        assert_ne!(set(&["a", "b", "b"]), set(&["a", "a", "b"]));
        assert_ne!(set(&["a"]), set(&["a", "b"]));
    }

    #[test]
    fn plain_text_of_a_number_has_no_exponent_and_is_the_same_number() {
        for (written, plain) in [
            ("1e3", "1000"),
            ("-1.5e-3", "-0.0015"),
            ("1.25E1", "12.5"),
            ("0e9", "0"),
            ("+7", "7"),
            ("1.50", "1.50"),
        ] {
            let number = Number::parse(written).expect(written);
            assert_eq!(number.to_plain(), plain);
            assert_eq!(Number::parse(plain), Some(number), "{written}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", "-", ".", "1.2.3", "0x10", "NaN", "inf", "1e99999"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_whole_numbers_that_fit_are_integers() {
        assert_eq!(Number::parse("1.0").and_then(|n| n.as_i64()), Some(1));
        assert_eq!(
            Number::parse("-9223372036854775808").and_then(|n| n.as_i64()),
            Some(i64::MIN)
        );
        assert_eq!(
            Number::parse("9223372036854775808").and_then(|n| n.as_i64()),
            None
        );
        assert_eq!(Number::parse("1.5").and_then(|n| n.as_i64()), None);
    }
}
