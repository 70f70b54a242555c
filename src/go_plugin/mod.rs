//! A plugin's process life.

pub mod generated;
