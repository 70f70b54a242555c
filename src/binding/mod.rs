//! The domain: certificates of a vault, bound to hosts of a cluster. It has never heard of Terraform.
//!
//! ```text
//! configuration ─parse─▶ Desired ─────┐
//!                                     ├─ plan() ─▶ steps ─ execute() ─▶ receipts, failure?
//! the world ─── observe() ─▶ Observation┘  pure             the only writes      │
//!      ▲                                                                         │
//!      └──────────────────────────── observe() again, always ◀──────────────────┘
//! ```
//!
//! Destroy is the same flow with what the binding still owns in place of what it wants. A plan that cannot decide
//! everything yet (an identity that exists only once the add-on is on) is planned again after its steps: see
//! [`converge`].
//!
//! Pure: [`desired`], [`manifests`], [`text`], [`observation`], [`grant`], [`findings`], [`plan`], [`order`],
//! [`guard`], [`verify`], [`revoke`], [`workload`], [`accounts`], [`diagnose`], [`edit`]. With the world: [`world`], [`observe`],
//! [`execute`], [`preflight`], [`rehearse`], [`converge`].

pub mod accounts;
pub mod backends;
pub mod controllers;
pub mod converge;
pub mod desired;
pub mod diagnose;
pub mod edit;
pub mod error;
pub mod execute;
pub mod findings;
pub mod gateway;
pub mod grant;
pub mod guard;
pub mod manifests;
pub mod observation;
pub mod observe;
pub mod order;
pub mod plan;
pub mod preflight;
mod prove;
pub mod rehearse;
pub mod revoke;
pub mod step;
pub mod text;
mod users;
pub mod verify;
pub mod workload;
pub mod world;

#[cfg(test)]
mod fixtures;
