//! Port-forwards.

use super::refusal::{Outcome, Refusal};
use super::request::Call;
use super::server::Forwarder;
use crate::sandbox::http::{Answer, Incoming};

/// Answers a port-forward.
pub(super) fn port_forward(request: Incoming, call: &Call, forwarder: Option<Forwarder>) -> Outcome<Answer> {
    drop((request, forwarder));
    Err(Refusal::not_played(&format!(
        "port-forward to {} is not played yet",
        call.target.name
    )))
}
