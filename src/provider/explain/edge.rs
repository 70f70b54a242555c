//! What practitioners read about what an edge serves.

use crate::binding::step::Step;
use crate::framework::{AttributePath, Diagnostic};
use crate::k8s::GATEWAY;

/// The edge served another certificate until the deadline. `own` is whether it is one that the controller made up.
pub(super) fn wrong_certificate(step: &Step, shown: &str, own: bool, changed: &str) -> Diagnostic {
    let (edge, controller) = match step {
        Step::AwaitServed { edge, controller, .. } => (edge.to_string(), controller.as_deref()),
        other => (other.describe(), None),
    };
    let by = controller.map_or_else(|| "its controller".to_owned(), |name| format!("\"{name}\""));
    let kind = match step {
        Step::AwaitServed { edge, .. } if edge.kind == GATEWAY => "gateway",
        _ => "ingress",
    };
    Diagnostic::error(
        "Edge serves another certificate",
        format!("{shown} {edge} is to be served by {by}. {changed}"),
        if own {
            format!(
                "This is the controller's own certificate: it has not taken the {kind} or its Secret. Look at the log of \
                 {by} and at  kubectl describe {kind}."
            )
        } else {
            format!(
                "If it is an earlier one, {by} has not taken the new one yet: look at its log. Else another {kind} may claim \
                 the host, or the address belongs to another edge: look with  kubectl get {kind} -A, or set  \
                 verify.endpoint."
            )
        },
    )
    .at(AttributePath::of(kind))
    .code("KVTLS-E602")
}
