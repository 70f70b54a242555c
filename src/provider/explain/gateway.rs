//! Gateway API and controllers in a practitioner's words.

use crate::binding::desired::Desired;
use crate::binding::gateway::Problem;
use crate::framework::{AttributePath, Diagnostic};
use crate::k8s::ObjectRef;

fn gateway() -> AttributePath {
    AttributePath::of("gateway")
}

/// The cluster has no Gateway API.
pub(super) fn api_missing(desired: &Desired) -> Diagnostic {
    let cluster = desired.cluster.name();
    Diagnostic::error(
        "Cluster does not know Gateway API",
        format!("Cluster \"{cluster}\" serves no gateway.networking.k8s.io."),
        "Install it:  az aks update --enable-gateway-api , or the standard channel of Gateway API. If this same apply \
         does so, let this resource depend on it.",
    )
    .at(gateway())
    .code("KVTLS-E431")
}

/// A class that is not there.
pub(super) fn class_missing(class: &str, desired: &Desired) -> Diagnostic {
    let cluster = desired.cluster.name();
    Diagnostic::error(
        "Gateway class does not exist",
        format!("Cluster \"{cluster}\" has no Gateway class \"{class}\"."),
        "Check the name:  kubectl get gatewayclass. Application routing's comes with  az aks approuting gateway, or \
         az aks update --enable-app-routing-istio. If this same apply installs it, let this resource depend on it.",
    )
    .at(gateway().attribute("class_name"))
    .code("KVTLS-E432")
}

/// Somebody else's Gateway that is not there.
pub(super) fn gateway_missing(object: &ObjectRef, desired: &Desired) -> Diagnostic {
    let cluster = desired.cluster.name();
    Diagnostic::error(
        "Gateway does not exist",
        format!("Cluster \"{cluster}\" has no {object}, and with parent it is somebody else's to make."),
        "Check namespace and name:  kubectl get gateway -A. If this same apply makes it, let this resource depend on \
         it.",
    )
    .at(gateway().attribute("parent"))
    .code("KVTLS-E433")
}

/// A Gateway that lets no ListenerSet of ours in.
pub(super) fn no_listeners(object: &ObjectRef, desired: &Desired) -> Diagnostic {
    Diagnostic::error(
        "Gateway lets no listeners in",
        format!(
            "{object} does not allow ListenerSets of namespace \"{}\", and kvtls never writes it.",
            desired.namespace
        ),
        "Its owner sets  spec.allowedListeners.namespaces.from: All  (or a selector). Or use  attach = \"reference\"  \
         and let the owner's listener reference the Secret.",
    )
    .at(gateway().attribute("parent").attribute("attach"))
    .code("KVTLS-E434")
}

/// A cluster in which there are no ListenerSets.
pub(super) fn no_listener_sets(object: &ObjectRef, desired: &Desired) -> Diagnostic {
    let cluster = desired.cluster.name();
    Diagnostic::error(
        "Cluster does not know ListenerSets",
        format!("Listeners cannot join {object}: ListenerSet came with Gateway API 1.5, and \"{cluster}\" has an \
                 older one (AKS 1.36 brings 1.5)."),
        "Use  attach = \"reference\"  and let the owner's listener reference the Secret, or a Gateway of your own.",
    )
    .at(gateway().attribute("parent").attribute("attach"))
    .code("KVTLS-E435")
}

/// Why a Gateway does not serve the binding, in its controller's words.
pub(super) fn refuses(edge: &ObjectRef, problems: &[Problem], changed: &str) -> Diagnostic {
    let said: Vec<String> = problems.iter().map(sentence).collect();
    let fixes: Vec<&str> = problems.iter().map(|problem| problem.fix.as_str()).collect();
    let mut distinct: Vec<&str> = Vec::new();
    for fix in fixes {
        if !distinct.contains(&fix) {
            distinct.push(fix);
        }
    }
    Diagnostic::error(
        "Gateway does not serve the binding",
        format!(
            "{edge} was asked to, and says no:\n{}\n{changed}",
            said.join("\n")
        ),
        format!("{}.", distinct.join(". ")),
    )
    .at(gateway())
    .code("KVTLS-E621")
}

/// A Gateway that serves the certificate, although its controller has something against a part of it.
pub(in crate::provider) fn complains(problems: &[Problem]) -> Option<Diagnostic> {
    let first = problems.first()?;
    let said: Vec<String> = problems.iter().map(sentence).collect();
    Some(
        Diagnostic::warning(
            "Gateway reports a problem",
            format!("The certificate is served. Still:\n{}", said.join("\n")),
            format!("{}.", first.fix),
        )
        .at(gateway())
        .code("KVTLS-W621"),
    )
}

fn sentence(problem: &Problem) -> String {
    let mut words = format!("- {}: {}", problem.subject, problem.why);
    if !problem.condition.is_empty() {
        words = format!("{words} ({}: {})", problem.condition, problem.message);
    }
    words
}

/// A controller whose future a new binding should not be built on.
pub(in crate::provider) fn has_no_future(what: &str, way_out: &str) -> Diagnostic {
    Diagnostic::warning(
        "Ingress controller has no future",
        format!("{what}."),
        way_out.to_owned(),
    )
    .at(AttributePath::of("ingress").attribute("class_name"))
    .code("KVTLS-W431")
}
