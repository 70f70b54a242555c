//! What practitioners read about what an edge serves.

use crate::binding::step::Step;
use crate::framework::{AttributePath, Diagnostic};
use crate::k8s::GATEWAY;

/// The edge served another certificate until the deadline. `own` is whether it is one that the controller made up.
pub(super) fn wrong_certificate(step: &Step, shown: &str, own: bool, changed: &str) -> Diagnostic {
    let (edge, controller) = step.edge().unzip();
    let kind = edge.map_or("ingress", |edge| {
        if edge.kind == GATEWAY {
            "gateway"
        } else {
            "ingress"
        }
    });
    let by = controller.flatten();
    let by = by.map_or_else(|| "its controller".to_owned(), |name| format!("\"{name}\""));
    let edge = edge.map_or_else(|| "It".to_owned(), ToString::to_string);
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
