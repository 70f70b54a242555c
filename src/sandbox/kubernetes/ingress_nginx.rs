//! The admission webhook of ingress-nginx, as far as it looks beyond the one Ingress: no host and path twice.
//!
//! The original asks its own copy of the cluster, so two Ingresses that are made at the same moment may both pass; here
//! the second never does. Only Ingresses of its own classes are looked at.

use serde_json::Value;

use super::kinds::Kind;
use super::store::{Store, at, meta, text_at};

/// The webhook, as its chart names it.
pub(super) const WEBHOOK: &str = "validate.nginx.ingress.kubernetes.io";

/// What an IngressClass of this controller says.
const CONTROLLER: &str = "k8s.io/ingress-nginx";

/// Why an Ingress is refused, in the webhook's words.
pub(super) fn denial(store: &Store, kind: &Kind, ingress: &Value) -> Option<String> {
    if !kind.is("networking.k8s.io", "ingresses") || !is_own(store, ingress) {
        return None;
    }
    let place = (meta(ingress, "namespace"), meta(ingress, "name"));
    let all = store
        .all("networking.k8s.io", "ingresses")
        .map(|(_, other)| other);
    let others: Vec<_> = all
        .filter(|other| (meta(other, "namespace"), meta(other, "name")) != place && is_own(store, other))
        .collect();
    routes(ingress).into_iter().find_map(|(host, path)| {
        let holder = others
            .iter()
            .find(|other| routes(other).contains(&(host, path)))?;
        let (namespace, name) = (meta(holder, "namespace"), meta(holder, "name"));
        Some(format!(
            "host {host:?} and path {path:?} is already defined in ingress {namespace}/{name}"
        ))
    })
}

fn is_own(store: &Store, ingress: &Value) -> bool {
    let class = text_at(ingress, &["spec", "ingressClassName"]);
    let mut classes = store.all("networking.k8s.io", "ingressclasses");
    classes.any(|(_, it)| meta(it, "name") == class && text_at(it, &["spec", "controller"]) == CONTROLLER)
}

/// Host and path of every rule.
fn routes(ingress: &Value) -> Vec<(&str, &str)> {
    let rules = at(ingress, &["spec", "rules"]).and_then(Value::as_array);
    let rules = rules.into_iter().flatten();
    let of_rule = |rule| {
        let paths = at(rule, &["http", "paths"]).and_then(Value::as_array);
        let paths = paths.into_iter().flatten();
        paths.map(move |path| (text_at(rule, &["host"]), text_at(path, &["path"])))
    };
    rules.flat_map(of_rule).collect()
}
