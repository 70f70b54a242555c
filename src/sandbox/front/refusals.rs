//! Answers that faults call by name.

/// The names a fault may use.
pub(crate) const NAMES: &[&str] = &["EtagMismatch"];
