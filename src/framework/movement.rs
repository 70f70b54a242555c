//! State that moves here from a resource of another type, or of another provider.
//!
//! What comes is what the other provider stored, as it is: JSON of a schema of its own, not upgraded. The provider is
//! not configured meanwhile.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::resource::{Private, Resource};
use super::value::Value;
use super::{contract, lifecycle, planning};

/// Takes over state of resources it knows; see [`Resource::mover`].
pub trait Mover: Send + Sync + 'static {
    /// The state that the object has here. Look at provider, type *and* version: a version belongs to its type only.
    ///
    /// # Errors
    /// If this is not a resource whose state can become one of this type.
    fn take_over(&self, source: &Source<'_>) -> Result<Moved, Diagnostics>;
}

/// State of another resource. Shows no value.
pub struct Source<'a> {
    /// For example `registry.terraform.io/acme/orchard`.
    pub provider: &'a str,
    /// The resource type there.
    pub type_name: &'a str,
    /// The version of the schema that wrote the state.
    pub version: i64,
    /// What is stored, as JSON.
    pub state: &'a str,
    /// What the other provider kept beside it.
    pub private: &'a [u8],
    /// Its identity, as JSON, with the version of the schema that wrote it; if it has one.
    pub identity: Option<(&'a str, i64)>,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("provider", &self.provider)
            .field("type_name", &self.type_name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// See [`Mover::take_over`].
#[derive(Debug)]
pub struct Moved {
    /// The state here, wholly known.
    pub state: Value,
    /// Stored beside it.
    pub private: Private,
}

/// Takes over `source`.
///
/// The same type at the other of the two public registries is the same resource: OpenTofu asks for a move where only
/// the address of the provider changed.
///
/// # Errors
/// If the resource takes over nothing of that kind, or what it made of it breaks a rule.
pub fn take_over(resource: &dyn Resource, source: &Source<'_>) -> Result<Moved, Diagnostics> {
    let schema = resource.schema();
    let mut moved = match resource.mover() {
        Some(mover) => mover.take_over(source)?,
        None if is_other_address(source) && source.type_name == resource.type_name() => Moved {
            state: lifecycle::upgrade(resource, source.version, source.state)?,
            private: Private::new(),
        },
        None => return Err(not_possible(resource, source)),
    };
    planning::null_write_only(schema, &mut moved.state);
    let faults = contract::check_upgrade(schema, &moved.state);
    if faults.has_errors() {
        return Err(faults);
    }
    resource.remember(&moved.state);
    Ok(moved)
}

fn is_other_address(source: &Source<'_>) -> bool {
    const REGISTRIES: [&str; 2] = ["registry.terraform.io", "registry.opentofu.org"];
    let host = source.provider.split('/').next();
    host.is_some_and(|host| REGISTRIES.contains(&host))
}

/// The answer that state of `source` cannot become state of `resource`; for movers, too.
pub fn not_possible(resource: &dyn Resource, source: &Source<'_>) -> Diagnostics {
    Diagnostic::error(
        "Move between resource types is not possible",
        format!(
            "State of a {} from {} cannot become state of a {}.",
            source.type_name,
            source.provider,
            resource.type_name()
        ),
        "Instead of `moved`, write a `removed` block with `destroy = false` for the old resource and an `import` block \
         for the new one.",
    )
    .into()
}
