//! The wire: translation only.

pub mod generated;
