//! The process environment as a value, read once.

use std::collections::BTreeMap;

/// Environment variables.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. One that is no text is none of ours, and as good as not set.
    pub fn of_process() -> Self {
        let readable = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self(readable.collect())
    }

    /// The first of `names` that is set to something.
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .filter_map(|name| self.0.get(*name))
            .map(String::as_str)
            .find(|text| !text.is_empty())
    }

    /// A variable in either spelling, as proxies are configured.
    pub fn either_case(&self, name: &str) -> Option<&str> {
        self.first(&[name, &name.to_ascii_lowercase()])
    }
}

/// Variables can hold secrets, so none is shown.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}
