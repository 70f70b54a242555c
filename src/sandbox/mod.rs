//! A world on loopback.

pub use self::assembly::{Options, Sandbox, StartError};
pub use self::control_plane::ControlPlaneKind;
pub use self::core::WorldError;
pub use self::environment::Mode;
pub use self::front::names::PortPlan;
pub use self::journal::Filter;

pub(crate) mod actors;
pub(crate) mod assembly;
pub(crate) mod azure;
pub(crate) mod certificates;
pub mod clock;
pub(crate) mod container_logs;
pub(crate) mod control;
pub(crate) mod control_plane;
pub(crate) mod core;
pub mod demo;
pub(crate) mod entra;
pub(crate) mod environment;
pub(crate) mod faults;
pub(crate) mod files;
pub(crate) mod front;
pub(crate) mod http;
pub(crate) mod journal;
pub(crate) mod kubernetes;
pub mod lag;
pub(crate) mod log;
pub(crate) mod markers;
pub mod process;
pub(crate) mod seed;
pub(crate) mod world;
