//! Reads an object attribute by attribute, and always knows where it is.
//!
//! A [`Reader`] is a value together with its path. There are three ways to ask for an attribute, and the choice
//! says what the caller can live with:
//!
//! - `string("name")`: it must be there. Null and unknown are errors on the attribute.
//! - `opt_string("name")`: it may be absent. Unknown is an error on the attribute.
//! - `known_string("name")`: anything goes; the answer is a [`Known`] of three states. This is the one for
//!   validation and planning, where unknown is normal.
//!
//! A value of another kind than asked for is a bug of the provider, because the schema decides the kind.

use std::collections::BTreeMap;

use super::diagnostic::Diagnostic;
use super::path::AttributePath;
use super::value::Value;

/// One of Terraform's three states of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// Not set.
    Null,
    /// Known only after apply.
    Unknown,
    /// Set and known.
    Known(T),
}

impl<T> Known<T> {
    /// The value, if it is set and known.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Null | Self::Unknown => None,
        }
    }

    /// Whether it is known only after apply.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Whether it is not set.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The same state with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Known(value) => Known::Known(change(value)),
            Self::Null => Known::Null,
            Self::Unknown => Known::Unknown,
        }
    }

    /// The same, with `value` in place of null.
    #[must_use]
    pub fn or(self, value: T) -> Self {
        match self {
            Self::Null => Self::Known(value),
            other => other,
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    value: &'a Value,
    path: AttributePath,
}

impl<'a> Reader<'a> {
    /// `value`, which stands at `path`.
    pub fn new(value: &'a Value, path: AttributePath) -> Self {
        Self { value, path }
    }

    /// `value` as the whole resource.
    pub fn root(value: &'a Value) -> Self {
        Self::new(value, AttributePath::root())
    }

    /// The value here.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Where it stands.
    pub fn path(&self) -> &AttributePath {
        &self.path
    }

    /// Whether it is not set.
    pub fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// Whether it is known only after apply.
    pub fn is_unknown(&self) -> bool {
        self.value.is_unknown()
    }

    /// The attribute `name` of the object here; null if the object is null, unknown if it is unknown.
    #[must_use]
    pub fn at(&self, name: &str) -> Self {
        Self::new(self.value.get(name), self.path.attribute(name))
    }

    /// A string that must be there.
    ///
    /// # Errors
    /// If it is null, unknown or not a string.
    pub fn string(&self, name: &str) -> Result<&'a str, Diagnostic> {
        self.at(name).must(&text())
    }

    /// A string that may be null.
    ///
    /// # Errors
    /// If it is unknown or not a string.
    pub fn opt_string(&self, name: &str) -> Result<Option<&'a str>, Diagnostic> {
        self.at(name).may(&text())
    }

    /// A string in any state.
    pub fn known_string(&self, name: &str) -> Known<&'a str> {
        self.at(name).state(&text())
    }

    /// A bool that must be there.
    ///
    /// # Errors
    /// If it is null, unknown or not a bool.
    pub fn bool(&self, name: &str) -> Result<bool, Diagnostic> {
        self.at(name).must(&truth())
    }

    /// A bool that may be null.
    ///
    /// # Errors
    /// If it is unknown or not a bool.
    pub fn opt_bool(&self, name: &str) -> Result<Option<bool>, Diagnostic> {
        self.at(name).may(&truth())
    }

    /// A bool in any state.
    pub fn known_bool(&self, name: &str) -> Known<bool> {
        self.at(name).state(&truth())
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// If it is null, unknown, not a number, not whole, or does not fit.
    pub fn whole(&self, name: &str) -> Result<i64, Diagnostic> {
        self.at(name).must(&whole())
    }

    /// A whole number that may be null.
    ///
    /// # Errors
    /// If it is unknown, not a number, not whole, or does not fit.
    pub fn opt_whole(&self, name: &str) -> Result<Option<i64>, Diagnostic> {
        self.at(name).may(&whole())
    }

    /// A whole number in any state.
    pub fn known_whole(&self, name: &str) -> Known<i64> {
        self.at(name).state(&whole())
    }

    /// An object that must be there.
    ///
    /// # Errors
    /// If it is null, unknown or not an object.
    pub fn object(&self, name: &str) -> Result<Reader<'a>, Diagnostic> {
        let here = self.at(name);
        here.must(&members()).map(|_| here)
    }

    /// An object that may be null.
    ///
    /// # Errors
    /// If it is unknown or not an object.
    pub fn opt_object(&self, name: &str) -> Result<Option<Reader<'a>>, Diagnostic> {
        let here = self.at(name);
        Ok(here.may(&members())?.map(|_| here))
    }

    /// An object in any state.
    pub fn known_object(&self, name: &str) -> Known<Reader<'a>> {
        let here = self.at(name);
        here.state(&members()).map(|_| here)
    }

    /// The elements of a map, by key; null is an empty map. Elements themselves may be in any state.
    ///
    /// # Errors
    /// If the map is unknown or not a map.
    pub fn map(&self, name: &str) -> Result<Vec<(&'a str, Reader<'a>)>, Diagnostic> {
        let here = self.at(name);
        Ok(here.may(&members())?.map(|_| here.entries()).unwrap_or_default())
    }

    /// The elements of a map in any state.
    pub fn known_map(&self, name: &str) -> Known<Vec<(&'a str, Reader<'a>)>> {
        let here = self.at(name);
        here.state(&members()).map(|_| here.entries())
    }

    /// The elements of a list or set, in order; null is an empty list. Elements themselves may be in any state.
    ///
    /// # Errors
    /// If the list is unknown or not a list.
    pub fn list(&self, name: &str) -> Result<Vec<Reader<'a>>, Diagnostic> {
        let here = self.at(name);
        Ok(here.may(&elements())?.map(|_| here.items()).unwrap_or_default())
    }

    /// The elements of a list or set in any state.
    pub fn known_list(&self, name: &str) -> Known<Vec<Reader<'a>>> {
        let here = self.at(name);
        here.state(&elements()).map(|_| here.items())
    }

    /// The strings of a list or set; null is an empty list.
    ///
    /// # Errors
    /// If the list or an element is unknown, an element is null, or something is of another kind.
    pub fn strings(&self, name: &str) -> Result<Vec<String>, Diagnostic> {
        self.list(name)?
            .iter()
            .map(|item| item.must(&text()).map(str::to_owned))
            .collect()
    }

    /// The strings of a map; null is an empty map.
    ///
    /// # Errors
    /// If the map or an element is unknown, an element is null, or something is of another kind.
    pub fn string_map(&self, name: &str) -> Result<BTreeMap<String, String>, Diagnostic> {
        self.map(name)?
            .iter()
            .map(|(key, item)| Ok(((*key).to_owned(), item.must(&text())?.to_owned())))
            .collect()
    }

    /// The string here itself, for elements of lists and maps.
    ///
    /// # Errors
    /// If it is null, unknown or not a string.
    pub fn as_string(&self) -> Result<&'a str, Diagnostic> {
        self.must(&text())
    }

    /// The string here itself, in any state.
    pub fn as_known_string(&self) -> Known<&'a str> {
        self.state(&text())
    }

    /// The members of the map here, each with its path; nothing if this is not a known map.
    pub fn entries(&self) -> Vec<(&'a str, Reader<'a>)> {
        self.value
            .as_map()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), Reader::new(value, self.path.key(key))))
            .collect()
    }

    /// The elements of the list or set here, each with its path; nothing if this is not a known list or set.
    pub fn items(&self) -> Vec<Reader<'a>> {
        let addressable = matches!(self.value, Value::List(_));
        self.value
            .as_list()
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(index, value)| {
                let path = if addressable {
                    self.path.index(index)
                } else {
                    self.path.clone()
                };
                Reader::new(value, path)
            })
            .collect()
    }

    fn must<T>(&self, kind: &Kind<'a, T>) -> Result<T, Diagnostic> {
        self.may(kind)?.ok_or_else(|| {
            Diagnostic::error(
                "Value is missing",
                format!("{} must be set; it is null.", self.path),
                format!("Set {}.", self.path),
            )
            .at(self.path.clone())
        })
    }

    fn may<T>(&self, kind: &Kind<'a, T>) -> Result<Option<T>, Diagnostic> {
        match self.value {
            Value::Null => Ok(None),
            Value::Unknown => Err(Diagnostic::error(
                "Value is not known yet",
                format!("{} is known only after apply, and is needed now.", self.path),
                "Apply what it depends on first, or write it as a literal.",
            )
            .at(self.path.clone())),
            value => (kind.read)(value).map(Some).ok_or_else(|| {
                Diagnostic::bug(format!(
                    "{} was read as {}, and is {}.",
                    self.path,
                    kind.name,
                    value.kind()
                ))
                .at(self.path.clone())
            }),
        }
    }

    /// A value of another kind reads as null here: whoever asks for any state cannot act on an error.
    fn state<T>(&self, kind: &Kind<'a, T>) -> Known<T> {
        match self.value {
            Value::Unknown => Known::Unknown,
            value => (kind.read)(value).map_or(Known::Null, Known::Known),
        }
    }
}

struct Kind<'a, T> {
    name: &'static str,
    read: fn(&'a Value) -> Option<T>,
}

fn text<'a>() -> Kind<'a, &'a str> {
    Kind {
        name: "a string",
        read: Value::as_str,
    }
}

fn truth<'a>() -> Kind<'a, bool> {
    Kind {
        name: "a bool",
        read: Value::as_bool,
    }
}

fn whole<'a>() -> Kind<'a, i64> {
    Kind {
        name: "a whole number",
        read: Value::as_i64,
    }
}

fn members<'a>() -> Kind<'a, &'a BTreeMap<String, Value>> {
    Kind {
        name: "an object or map",
        read: Value::as_map,
    }
}

fn elements<'a>() -> Kind<'a, &'a [Value]> {
    Kind {
        name: "a list or set",
        read: Value::as_list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Value {
        Value::object([
            ("name", Value::from("shop")),
            ("size", Value::from(3)),
            ("later", Value::Unknown),
            ("absent", Value::Null),
            (
                "certificates",
                Value::object([(
                    "tls",
                    Value::object([("hosts", Value::from(vec!["a.example", "b.example"]))]),
                )]),
            ),
            ("tags", Value::Set(vec![Value::from("x")])),
        ])
    }

    #[test]
    fn null_unknown_and_known_are_told_apart() {
        let value = sample();
        let reader = Reader::root(&value);
        assert_eq!(reader.string("name"), Ok("shop"));
        assert_eq!(reader.opt_string("absent"), Ok(None));
        assert_eq!(reader.known_string("later"), Known::Unknown);
        assert_eq!(reader.known_string("absent").or("else"), Known::Known("else"));
        assert_eq!(reader.whole("size"), Ok(3));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_on_its_attribute() {
        let value = sample();
        let reader = Reader::root(&value);
        for (name, summary) in [
            ("absent", "Value is missing"),
            ("later", "Value is not known yet"),
            ("size", "Bug in the provider"),
        ] {
            let error = reader.string(name).expect_err(name);
            assert_eq!(
                (error.summary.as_str(), error.attribute),
                (summary, AttributePath::of(name))
            );
        }
    }

    #[test]
    fn elements_carry_their_paths_and_set_elements_the_path_of_the_set() {
        let value = sample();
        let reader = Reader::root(&value);
        let certificates = reader.map("certificates").expect("a map");
        let (key, certificate) = &certificates[0];
        let hosts = certificate.list("hosts").expect("a list");
        assert_eq!(*key, "tls");
        assert_eq!(hosts[1].path().to_string(), "certificates[\"tls\"].hosts[1]");
        assert_eq!(hosts[1].as_string(), Ok("b.example"));
        assert_eq!(
            reader.list("tags").expect("a set")[0].path(),
            &AttributePath::of("tags")
        );
        assert_eq!(
            certificate.strings("hosts").expect("strings"),
            ["a.example", "b.example"]
        );
    }

    #[test]
    fn below_null_is_null_and_below_unknown_is_unknown() {
        let value = sample();
        let reader = Reader::root(&value);
        assert!(reader.at("absent").at("deeper").is_null());
        assert!(reader.at("later").at("deeper").is_unknown());
        assert_eq!(reader.map("absent").expect("null is empty").len(), 0);
    }
}
