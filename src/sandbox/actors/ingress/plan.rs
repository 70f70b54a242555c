//! What an edge should serve, as the Ingress objects say. Pure.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::sandbox::actors::cache::Cache;
use crate::sandbox::actors::edge::Profile;
use crate::sandbox::actors::edge::plan::{Pair, Plan, Route, backend};
use crate::sandbox::actors::objects::{at, key, list, namespace, text};

/// The plan of a controller of this profile for its Ingresses, oldest first.
pub(super) fn of(cache: &Cache, profile: Profile, ingresses: &[Arc<Value>]) -> Plan {
    let mut plan = Plan::default();
    for ingress in ingresses {
        for rule in list(ingress, "/spec/rules") {
            let host = text(rule, "/host").to_lowercase();
            for path in list(rule, "/http/paths") {
                add_route(&mut plan, cache, ingress, &host, path);
            }
            add_tls(&mut plan, cache, profile, ingress, &host);
        }
        let fallback = at(ingress, "/spec/defaultBackend");
        if fallback.is_object() {
            let path = json!({"path": "/", "pathType": "Prefix", "backend": fallback});
            add_route(&mut plan, cache, ingress, "", &path);
        }
    }
    plan
}

fn add_route(plan: &mut Plan, cache: &Cache, ingress: &Value, host: &str, path: &Value) {
    let (words, exact) = (text(path, "/path"), text(path, "/pathType") == "Exact");
    let service = text(path, "/backend/service/name");
    let port = at(path, "/backend/service/port");
    plan.add(Route {
        host: host.to_owned(),
        path: if words.is_empty() { "/" } else { words }.to_owned(),
        exact,
        secure: None,
        source: key(ingress),
        to: backend(cache, namespace(ingress), service, port),
    });
}

fn add_tls(plan: &mut Plan, cache: &Cache, profile: Profile, ingress: &Value, host: &str) {
    let entries = list(ingress, "/spec/tls").iter();
    let entry = entries
        .filter(|entry| {
            let hosts = list(entry, "/hosts");
            hosts.is_empty()
                || hosts.iter().any(|listed| {
                    listed
                        .as_str()
                        .is_some_and(|listed| listed.eq_ignore_ascii_case(host))
                })
        })
        .max_by_key(|entry| !list(entry, "/hosts").is_empty());
    if redirects(profile, ingress, entry.is_some()) {
        plan.redirects.insert(host.to_owned());
    }
    let secret = entry.map_or("", |entry| text(entry, "/secretName"));
    if !secret.is_empty() {
        plan.pairs
            .entry(host.to_owned())
            .or_insert_with(|| Pair::of(cache, namespace(ingress), secret));
    }
}

/// Whether plain requests are sent to HTTPS: each controller has its own annotation and its own default.
fn redirects(profile: Profile, ingress: &Value, has_tls: bool) -> bool {
    let says = |name: &str, value: &str| at(ingress, "/metadata/annotations")[name].as_str() == Some(value);
    match profile {
        Profile::Nginx => {
            says("nginx.ingress.kubernetes.io/force-ssl-redirect", "true")
                || (has_tls && !says("nginx.ingress.kubernetes.io/ssl-redirect", "false"))
        }
        Profile::Agic => has_tls && says("appgw.ingress.kubernetes.io/ssl-redirect", "true"),
        // Traefik redirects by entry point or middleware, not by an annotation of the Ingress.
        Profile::Traefik | Profile::Envoy => false,
    }
}
