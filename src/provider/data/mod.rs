//! The data sources.

pub mod certificate;
pub mod cluster;
