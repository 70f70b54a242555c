//! A world on loopback.

pub use self::core::WorldError;
pub use self::front::names::PortPlan;
pub use self::journal::Filter;

pub(crate) mod actors;
pub(crate) mod azure;
pub(crate) mod certificates;
pub mod clock;
pub(crate) mod core;
pub(crate) mod entra;
pub(crate) mod faults;
pub(crate) mod front;
pub(crate) mod http;
pub(crate) mod journal;
pub(crate) mod kubernetes;
pub mod lag;
pub(crate) mod markers;
pub(crate) mod world;
