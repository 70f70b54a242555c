//! The data sources.

pub mod certificate;
