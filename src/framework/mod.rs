//! A provider framework in Terraform's own words. It has never heard of gRPC, nor of what any provider manages.
//!
//! A resource's life, in the order Terraform asks for it:
//!
//! 1. **validate**: the configuration, of which anything may be unknown, is judged attribute by attribute
//!    ([`validate`]), object by object ([`constraint`]), and then by the resource itself ([`Resource::validate`]).
//! 2. **upgrade**: stored state becomes a value of today's schema; the resource may look at it
//!    ([`Resource::remember`]).
//! 3. **read**: the resource reports what is there now.
//! 4. **plan**: defaults are filled, computed values of a change become unknown ([`planning`]), then the resource
//!    has its say ([`Resource::plan`]).
//! 5. **apply**: create, update or delete. A failed apply still returns the state that is true.
//!
//! Beside managed resources a provider may offer data sources, [`function`]s, [`ephemeral`] resources, [`list`]
//! resources and [`action`]s; and a managed resource an [`identity`] and [`movement`] of state.
//!
//! [`lifecycle`] runs these steps. Whatever leaves it has passed [`contract`], which knows the rules Terraform
//! checks: a violation is a diagnostic of ours that names the attribute.
//!
//! Next: [`resource`] for the traits to implement, [`schema`] to describe attributes, [`value`] for what flows.

pub mod action;
mod check;
pub mod constraint;
pub mod contract;
pub mod deferral;
pub mod diagnostic;
pub mod ephemeral;
pub mod equality;
pub mod function;
pub mod identity;
pub mod json;
pub mod lifecycle;
pub mod list;
pub mod movement;
pub mod object;
pub mod path;
pub mod planning;
pub mod resource;
pub mod schema;
pub mod set;
pub mod timeouts;
pub mod ty;
pub mod validate;
pub mod value;

pub use crate::duration;
pub use action::{Action, Progress};
pub use check::check;
pub use constraint::Constraint;
pub use deferral::Deferral;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use ephemeral::{CloseRequest, Ephemeral, OpenRequest, OpenResponse, RenewRequest, RenewResponse};
pub use function::{Function, FunctionError, Parameter, Signature};
pub use identity::{Identity, IdentityAttribute, IdentitySchema};
pub use list::{Found, List, ListRequest, Listed};
pub use movement::{Moved, Mover, Source};
pub use object::{Known, Reader};
pub use path::{AttributePath, Step};
pub use resource::{
    ApplyRequest, ApplyResponse, Checkpoint, DataSource, Deadline, ImportResponse, PlanRequest, PlanResponse,
    Provider, ReadDataRequest, ReadDataResponse, ReadRequest, ReadResponse, Resource, StopSignal,
};
pub use schema::{Attribute, AttributeKind, Nesting, Presence, Schema};
pub use timeouts::Timeouts;
pub use ty::Type;
pub use value::{Number, Value};
