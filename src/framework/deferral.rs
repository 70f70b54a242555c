//! Putting off what cannot be decided yet.
//!
//! A host that allows it takes "later" for an answer: it plans the rest, and asks again in the next run. Most hosts do
//! not allow it; nobody is asked for a deferral then, and the operation runs as usual.
//!
//! **During apply a deferral is an error, and Terraform says all the same that it allows one.** It plans every resource
//! once more there, and no request tells that plan from the first. What does tell is that everything is known by then:
//! so a plan is put off only while something in its configuration is unknown, whatever the reason. A data source is
//! always read with all known; one that is put off during apply fails, as it would without its prerequisite.

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
