//! Putting off what cannot be decided yet.
//!
//! A host that allows it takes "later" for an answer: it plans the rest, and asks again in the next run. Most hosts do
//! not allow it, and none does during apply; nobody is asked for a deferral then, and the operation runs as usual.

/// Why an operation is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// Something in the configuration of the resource is unknown that is needed to go on.
    ResourceConfigUnknown,
    /// Something in the provider block is unknown that is needed to go on.
    ProviderConfigUnknown,
    /// What the resource builds on does not exist yet.
    AbsentPrerequisite,
}
