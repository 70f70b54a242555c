//! A world on loopback.

pub(crate) mod actors;
pub(crate) mod azure;
pub mod clock;
pub mod demo;
pub(crate) mod front;
pub(crate) mod http;
pub(crate) mod kubernetes;
pub mod lag;
