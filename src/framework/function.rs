//! Provider-defined functions: values to a value, and nothing else.
//!
//! Terraform calls them while it validates, plans and applies, of a provider that was never configured, and holds
//! a later result against an earlier one. So a function is pure: no clock, no randomness, no world. [`Results`] finds one
//! that is not, as far as one process can see.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use super::contract;
use super::ty::Type;
use super::value::Value;

/// A function that a configuration calls as `provider::name::function(…)`.
pub trait Function: Send + Sync + 'static {
    /// Its name, an identifier.
    fn name(&self) -> &'static str;

    /// What it takes and returns; the same at every call.
    fn signature(&self) -> &Signature;

    /// The result for these arguments: one for each parameter, then those of the variadic one. An argument is null or
    /// holds anything unknown only where its parameter allows that.
    ///
    /// # Errors
    /// In words for whoever wrote the call, about one argument where that is to blame.
    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError>;
}

/// What a function takes and returns.
#[derive(Clone, Debug)]
pub struct Signature {
    /// One line.
    pub summary: String,
    /// Markdown for the docs.
    pub description: String,
    /// What to call instead; empty while the function is recommended.
    pub deprecation: String,
    /// By position.
    pub parameters: Vec<Parameter>,
    /// Takes all arguments after those.
    pub variadic: Option<Parameter>,
    /// The type of the result.
    pub returns: Type,
}

/// One parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// An identifier, no other parameter's.
    pub name: String,
    /// What it takes.
    pub ty: Type,
    /// Markdown for the docs.
    pub description: String,
    /// Whether it may be null; otherwise Terraform refuses the call.
    pub allow_null: bool,
    /// Whether it may be, or hold, something unknown; otherwise the result of such a call is unknown.
    pub allow_unknown: bool,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// One or two sentences.
    pub text: String,
    /// The argument that is to blame, from zero.
    pub argument: Option<usize>,
}

impl FunctionError {
    /// An error of the call as a whole.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            argument: None,
        }
    }

    /// An error about the argument at `position`, from zero.
    pub fn of_argument(position: usize, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            argument: Some(position),
        }
    }
}

impl Parameter {
    /// A parameter that takes known, non-null values.
    pub fn new(name: &str, ty: Type, description: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            ty,
            description: description.into(),
            allow_null: false,
            allow_unknown: false,
        }
    }
}

impl Signature {
    /// A function of these parameters.
    pub fn new(summary: impl Into<String>, parameters: Vec<Parameter>, returns: Type) -> Self {
        Self {
            summary: summary.into(),
            description: String::new(),
            deprecation: String::new(),
            parameters,
            variadic: None,
            returns,
        }
    }

    /// The parameter that takes the argument at `position`.
    pub fn parameter(&self, position: usize) -> Option<&Parameter> {
        self.parameters.get(position).or(self.variadic.as_ref())
    }

    /// What is wrong with this signature, one sentence each; for a test of the provider.
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.summary.trim().is_empty() {
            faults.push("no summary".to_owned());
        }
        let mut names = Vec::new();
        for parameter in self.parameters.iter().chain(&self.variadic) {
            let name = parameter.name.as_str();
            if !is_identifier(name) {
                faults.push(format!("{name:?}: the name of a parameter is an identifier"));
            }
            if names.contains(&name) {
                faults.push(format!("{name:?}: two parameters of one name"));
            }
            if parameter.description.trim().is_empty() {
                faults.push(format!("{name:?}: no description"));
            }
            names.push(name);
        }
        faults
    }
}

/// Whether a configuration can call something by this name.
pub fn is_identifier(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Calls `function`, and lets no answer out that Terraform would refuse.
///
/// # Errors
/// The function's own, one about an argument that its parameter does not allow, or one that names the bug if the
/// result is not of the promised type.
pub fn call(function: &dyn Function, arguments: &[Value]) -> Result<Value, FunctionError> {
    let signature = function.signature();
    let wanted = signature.parameters.len();
    if arguments.len() < wanted || (arguments.len() > wanted && signature.variadic.is_none()) {
        return Err(FunctionError::new(format!(
            "{} takes {wanted} arguments, not {}.",
            function.name(),
            arguments.len()
        )));
    }
    for (position, argument) in arguments.iter().enumerate() {
        let Some(parameter) = signature.parameter(position) else {
            continue;
        };
        if argument.is_null() && !parameter.allow_null {
            return Err(FunctionError::of_argument(position, "It must not be null."));
        }
        if !argument.is_wholly_known() && !parameter.allow_unknown {
            return Ok(Value::Unknown);
        }
    }
    let result = function.call(arguments)?;
    if !contract::has_shape(&signature.returns, &result) {
        return Err(FunctionError::new(format!(
            "{} returned {} where another type was promised. This is a bug in the provider; please report it.",
            function.name(),
            result.kind()
        )));
    }
    if !result.is_wholly_known() && arguments.iter().all(Value::is_wholly_known) {
        return Err(FunctionError::new(format!(
            "{} returned something unknown for arguments that are all known. This is a bug in the provider; please report \
             it.",
            function.name()
        )));
    }
    Ok(result)
}

/// What the functions of a provider returned in this process, so that one that is not pure is told from the others.
///
/// Terraform compares results, too, from the plan to the apply, and says that the provider "returned an inconsistent
/// result"; here it is found at the second call.
#[derive(Debug, Default)]
pub struct Results(Mutex<HashMap<u64, u64>>);

impl Results {
    /// Remembered are so many calls of different arguments, by a hash of 64 bits: 16 bytes each.
    const MOST: usize = 100_000;

    /// Compares the result of a call with that of an earlier one, and remembers it. Arguments and results in any form in
    /// which equal bytes are equal values.
    ///
    /// # Errors
    /// One that names the bug, if the function has returned something else for the same arguments.
    pub fn compare<'a>(
        &self,
        function: &str,
        arguments: impl Iterator<Item = &'a [u8]>,
        result: &[u8],
    ) -> Result<(), FunctionError> {
        let call = hash((function, arguments.collect::<Vec<_>>()));
        let result = hash(result);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = known.len() >= Self::MOST;
        match known.entry(call) {
            Entry::Occupied(earlier) if *earlier.get() != result => Err(FunctionError::new(format!(
                "{function} returned another result than before for the same arguments. This is a bug in the provider; \
                 please report it."
            ))),
            Entry::Vacant(_) if is_full => Ok(()),
            entry => {
                entry.or_insert(result);
                Ok(())
            }
        }
    }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_result_for_the_same_arguments_is_found() {
        let results = Results::default();
        let compare = |name: &str, arguments: &[&str], result: &str| {
            let arguments = arguments.iter().map(|it| it.as_bytes());
            results.compare(name, arguments, result.as_bytes())
        };
        for (name, arguments, result, is_pure) in [
            ("now", ["a", "b"].as_slice(), "1", true),
            ("now", &["a", "b"], "1", true),
            ("now", &["ab", ""], "2", true),
            ("now", &["a"], "3", true),
            ("then", &["a", "b"], "4", true),
            ("now", &["a", "b"], "5", false),
            ("now", &["a", "b"], "1", true),
        ] {
            let compared = compare(name, arguments, result);
            assert_eq!(compared.is_ok(), is_pure, "{name} {arguments:?}: {compared:?}");
        }
    }

    struct Join {
        signature: Signature,
        result: fn(&[Value]) -> Value,
    }

    impl Function for Join {
        fn name(&self) -> &'static str {
            "join"
        }

        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
            Ok((self.result)(arguments))
        }
    }

    fn join(result: fn(&[Value]) -> Value) -> Join {
        let mut signature = Signature::new(
            "x",
            vec![Parameter::new("between", Type::String, "x")],
            Type::String,
        );
        signature.variadic = Some(Parameter {
            allow_null: true,
            allow_unknown: true,
            ..Parameter::new("parts", Type::String, "x")
        });
        Join { signature, result }
    }

    #[test]
    fn a_call_keeps_to_the_signature_both_ways() {
        let text = |_: &[Value]| Value::from("a-b");
        for (title, arguments, result, expected) in [
            (
                "all is well",
                vec!["-".into(), "a".into(), Value::Null],
                text as fn(&[Value]) -> Value,
                Ok("a-b".into()),
            ),
            ("too few", vec![], text, Err((None, "takes 1 arguments"))),
            (
                "null",
                vec![Value::Null],
                text,
                Err((Some(0), "must not be null")),
            ),
            ("unknown", vec![Value::Unknown], text, Ok(Value::Unknown)),
            (
                "unknown, and allowed",
                vec!["-".into(), Value::Unknown],
                text,
                Ok("a-b".into()),
            ),
            (
                "another type",
                vec!["-".into()],
                |_| true.into(),
                Err((None, "a bool where another type")),
            ),
            (
                "unknown for no reason",
                vec!["-".into()],
                |_| Value::Unknown,
                Err((None, "something unknown")),
            ),
            (
                "unknown for a reason",
                vec!["-".into(), Value::Unknown],
                |_| Value::Unknown,
                Ok(Value::Unknown),
            ),
        ] {
            match (call(&join(result), &arguments), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{title}"),
                (Err(error), Err((argument, words))) => {
                    assert_eq!(error.argument, argument, "{title}");
                    assert!(error.text.contains(words), "{title}: {}", error.text);
                }
                (got, expected) => panic!("{title}: {got:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn a_signature_that_terraform_would_refuse_is_found() {
        let twice = Parameter::new("one", Type::String, "x");
        let mut signature = Signature::new(
            "",
            vec![twice.clone(), Parameter::new("1st", Type::String, "")],
            Type::Bool,
        );
        signature.variadic = Some(twice);
        let faults = signature.check().join("\n");
        for words in [
            "no summary",
            "\"1st\": the name",
            "\"1st\": no description",
            "\"one\": two parameters",
        ] {
            assert!(faults.contains(words), "{words}: {faults}");
        }
        assert_eq!(join(|_| Value::Null).signature.check(), Vec::<String>::new());
    }
}
