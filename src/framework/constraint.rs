//! Which attributes of one object go together: declared in the schema, judged with the configuration, said in the docs.
//!
//! What is unknown is undecided: a constraint is broken only where no value of it could keep it.

use std::fmt;

use super::diagnostic::Diagnostic;
use super::path::AttributePath;
use super::schema::Attribute;
use super::value::Value;

/// What must be true of which attributes of one object are set. For [`Schema::constrained`] and
/// [`Attribute::constrained`].
///
/// [`Schema::constrained`]: super::Schema::constrained
#[derive(Clone, Debug)]
pub struct Constraint {
    /// What must be true.
    pub rule: Rule,
    /// The attributes, all of the same object.
    pub names: &'static [&'static str],
    reason: &'static str,
    fix: &'static str,
    code: &'static str,
}

/// How the attributes of a [`Constraint`] go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One of them is set, and no other.
    ExactlyOne,
    /// One of them or none.
    AtMostOne,
    /// One of them or more.
    AtLeastOne,
    /// All of them or none.
    AllOrNone,
    /// Where the first is set, all the others are.
    FirstNeedsRest,
}

impl Constraint {
    /// One of these is set, and no other.
    pub const fn exactly_one_of(names: &'static [&'static str]) -> Self {
        Self::new(Rule::ExactlyOne, names)
    }

    /// One of these is set, or none: they conflict with each other.
    pub const fn at_most_one_of(names: &'static [&'static str]) -> Self {
        Self::new(Rule::AtMostOne, names)
    }

    /// One of these is set, or more.
    pub const fn at_least_one_of(names: &'static [&'static str]) -> Self {
        Self::new(Rule::AtLeastOne, names)
    }

    /// All of these are set, or none.
    pub const fn all_or_none_of(names: &'static [&'static str]) -> Self {
        Self::new(Rule::AllOrNone, names)
    }

    /// Where the first of these is set, all the others are, too.
    pub const fn first_needs_rest(names: &'static [&'static str]) -> Self {
        Self::new(Rule::FirstNeedsRest, names)
    }

    const fn new(rule: Rule, names: &'static [&'static str]) -> Self {
        Self {
            rule,
            names,
            reason: "",
            fix: "",
            code: "",
        }
    }

    /// The same, and why: a sentence.
    #[must_use]
    pub const fn because(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }

    /// The same, with what to do in place of what the rule itself suggests.
    #[must_use]
    pub const fn fix(mut self, fix: &'static str) -> Self {
        self.fix = fix;
        self
    }

    /// The same, with a code of its own; without, it has its schema's: see [`Schema::faults_as`](super::Schema::faults_as).
    #[must_use]
    pub const fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// A sentence for a page of the docs: "Exactly one of `a` and `b` must be set."
    pub fn markdown(&self) -> String {
        format!("{}.", capitalised(&self.said(|name| format!("`{name}`"))))
    }

    fn said(&self, name: impl Fn(&str) -> String) -> String {
        let names: Vec<String> = self.names.iter().map(|it| name(it)).collect();
        let all = listed(&names, "and");
        match (self.rule, names.split_first()) {
            (Rule::ExactlyOne, _) => format!("exactly one of {all} must be set"),
            (Rule::AtMostOne, _) => format!("at most one of {all} may be set"),
            (Rule::AtLeastOne, _) => format!("at least one of {all} must be set"),
            (Rule::AllOrNone, _) => format!("{all} are set together or not at all"),
            (Rule::FirstNeedsRest, Some((first, rest))) => format!("{first} needs {}", listed(rest, "and")),
            (Rule::FirstNeedsRest, None) => String::new(),
        }
    }

    /// What is wrong with an object, which is known and not null and stands at `path`.
    pub(super) fn judge<'a>(
        &self,
        attribute: impl Fn(&str) -> Option<&'a Attribute>,
        path: &AttributePath,
        object: &Value,
    ) -> Option<Diagnostic> {
        let (mut set, mut unset) = (Vec::new(), Vec::new());
        for name in self.names {
            let value = object.get(name);
            let is_unset = attribute(name).is_some_and(|it| *value == it.unset()) || value.is_null();
            match value {
                _ if is_unset => unset.push(*name),
                value if value.is_unknown() => {}
                _ => set.push(*name),
            }
        }
        let decided = set.len() + unset.len() == self.names.len();
        let first_is_set = set.first() == self.names.first();
        let too_many = set.len() > 1;
        let broken = match self.rule {
            Rule::ExactlyOne => too_many || (decided && set.is_empty()),
            Rule::AtMostOne => too_many,
            Rule::AtLeastOne => decided && set.is_empty(),
            Rule::AllOrNone => !set.is_empty() && !unset.is_empty(),
            Rule::FirstNeedsRest => first_is_set && !unset.is_empty(),
        };
        if !broken {
            return None;
        }
        let (summary, suggested) = match self.rule {
            Rule::ExactlyOne | Rule::AtMostOne if too_many => (
                "Attributes exclude each other",
                format!("Keep one of {}.", listed(&set, "and")),
            ),
            Rule::AllOrNone | Rule::FirstNeedsRest => (
                "Attributes belong together",
                format!("Set {}, too.", listed(&unset, "and")),
            ),
            _ => (
                "Attribute is missing",
                format!("Set {}.", listed(self.names, "or")),
            ),
        };
        let found = match set.as_slice() {
            [] => "none is set".to_owned(),
            set => format!(
                "{} {} set",
                listed(set, "and"),
                if set.len() == 1 { "is" } else { "are" }
            ),
        };
        let promise = self.to_string();
        let promise = match path.is_root() {
            true if matches!(self.rule, Rule::FirstNeedsRest | Rule::AllOrNone) => promise,
            true => capitalised(&promise),
            false => format!("In {path}, {promise}"),
        };
        let reason = if self.reason.is_empty() {
            String::new()
        } else {
            format!(" {}", self.reason)
        };
        let fix = if self.fix.is_empty() {
            suggested
        } else {
            self.fix.to_owned()
        };
        let at = set
            .last()
            .map_or_else(|| path.clone(), |name| path.attribute(name));
        Some(
            Diagnostic::error(summary, format!("{promise}; {found}.{reason}"), fix)
                .at(at)
                .code(self.code),
        )
    }

    /// What is wrong with the constraint itself, one sentence each.
    pub(super) fn check<'a>(&self, attribute: impl Fn(&str) -> Option<&'a Attribute>) -> Vec<String> {
        let mut faults = Vec::new();
        if self.names.len() < 2 {
            faults.push(format!(
                "a constraint is about two attributes or more: {:?}",
                self.names
            ));
        }
        for (position, name) in self.names.iter().enumerate() {
            if self.names[..position].contains(name) {
                faults.push(format!("a constraint names {name} twice"));
            }
            match attribute(name) {
                None => faults.push(format!("a constraint names {name}, which is not there")),
                Some(it) if it.presence == super::Presence::Computed => {
                    faults.push(format!("a constraint names {name}, which only the provider sets"));
                }
                Some(it) if it.presence == super::Presence::Required => {
                    faults.push(format!("a constraint names {name}, which is always set"));
                }
                Some(_) => {}
            }
        }
        faults
    }
}

/// A clause: "exactly one of a and b must be set".
impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said(|name| name.to_owned()))
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[impl AsRef<str>], last: &str) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [before @ .., name] => format!("{} {last} {name}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests;
