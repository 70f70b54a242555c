//! Where requests arrive.

pub(crate) mod names;
pub(crate) mod refusals;
