//! What a practitioner is told: a short summary, the attribute it is about, what happened, and the fix.

use super::path::AttributePath;

/// The summary of every bug. Where bugs are reported is the provider's to say, and added on the way out: see
/// [`super::Provider::issues`].
pub const BUG: &str = "Bug in the provider";

/// How serious a diagnostic is. There is no third kind: Terraform takes an unset severity for success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The operation did not do what was asked.
    Error,
    /// It did, and there is something to know.
    Warning,
}

/// One message to the practitioner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// At most eight words; constant text where many instances may print it, so that Terraform groups them.
    pub summary: String,
    /// What was tried on what, what the service said, what is now changed and what is not.
    pub detail: String,
    /// What to do, imperative; empty if there is nothing to do.
    pub fix: String,
    /// A stable code that is an anchor in the troubleshooting guide; empty if there is none.
    pub code: &'static str,
    /// The attribute to change; the root for the whole resource.
    pub attribute: AttributePath,
}

impl Diagnostic {
    /// An error about the whole resource.
    pub fn error(summary: impl Into<String>, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Severity::Error, summary.into(), detail.into(), fix.into())
    }

    /// A warning about the whole resource.
    pub fn warning(summary: impl Into<String>, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Severity::Warning, summary.into(), detail.into(), fix.into())
    }

    /// The provider broke a promise it made to Terraform or to itself; nothing in the configuration is to blame.
    pub fn bug(detail: impl Into<String>) -> Self {
        Self::error(
            BUG,
            detail,
            "This is not caused by the configuration. Please report it with the text above.",
        )
    }

    fn new(severity: Severity, summary: String, detail: String, fix: String) -> Self {
        Self {
            severity,
            summary,
            detail,
            fix,
            code: "",
            attribute: AttributePath::root(),
        }
    }

    /// The same, about `attribute`.
    #[must_use]
    pub fn at(mut self, attribute: AttributePath) -> Self {
        self.attribute = attribute;
        self
    }

    /// The same, with its code.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Detail, fix and code as Terraform prints them, one below the other.
    pub fn text(&self) -> String {
        [self.detail.as_str(), self.fix.as_str(), self.code]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Diagnostics in the order they arose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Whether any is an error.
    pub fn has_errors(&self) -> bool {
        self.0
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        self.0.extend(diagnostics);
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(diagnostics: I) -> Self {
        Self(diagnostics.into_iter().collect())
    }
}
