//! What an edge should serve, as the Ingress objects say. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::sandbox::actors::cache::Cache;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{at, key, list, name, namespace, text};

/// All an edge serves.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) routes: Vec<Route>,
    /// By host, as in the rules.
    pub(super) pairs: BTreeMap<String, Pair>,
    /// Hosts whose plain requests are sent to HTTPS.
    pub(super) redirects: BTreeSet<String>,
}

/// One path of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Empty for all hosts.
    pub(super) host: String,
    pub(super) path: String,
    pub(super) exact: bool,
    pub(super) ingress: String,
    /// `namespace/service:port`.
    pub(super) backend: String,
    /// Ready addresses behind it.
    pub(super) endpoints: usize,
}

/// A certificate with its key, as the Secret holds them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    /// `namespace/name`.
    pub(super) secret: String,
    /// Empty if the Secret or the member is not there.
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Plan {
    pub(super) fn of(cache: &Cache, ingresses: &[Arc<Value>]) -> Self {
        let mut plan = Self::default();
        for ingress in ingresses {
            let rules = list(ingress, "/spec/rules");
            for rule in rules {
                let host = text(rule, "/host").to_lowercase();
                for path in list(rule, "/http/paths") {
                    plan.add_route(cache, ingress, &host, path);
                }
                plan.add_tls(cache, ingress, &host);
            }
            let fallback = at(ingress, "/spec/defaultBackend");
            if fallback.is_object() {
                let path = serde_json::json!({"path": "/", "pathType": "Prefix", "backend": fallback});
                plan.add_route(cache, ingress, "", &path);
            }
        }
        plan
    }

    /// The first Ingress to claim a path keeps it.
    fn add_route(&mut self, cache: &Cache, ingress: &Value, host: &str, path: &Value) {
        let (words, exact) = (text(path, "/path"), text(path, "/pathType") == "Exact");
        let words = if words.is_empty() { "/" } else { words };
        let taken = self
            .routes
            .iter()
            .any(|route| route.host == host && route.path == words && route.exact == exact);
        if taken {
            return;
        }
        let service = text(path, "/backend/service/name");
        let port = at(path, "/backend/service/port");
        let port_words = match (port.get("number"), port.get("name")) {
            (Some(number), _) => number.to_string(),
            (None, name) => name.and_then(Value::as_str).unwrap_or_default().to_owned(),
        };
        self.routes.push(Route {
            host: host.to_owned(),
            path: words.to_owned(),
            exact,
            ingress: key(ingress),
            backend: format!("{}/{service}:{port_words}", namespace(ingress)),
            endpoints: endpoints(cache, namespace(ingress), service, port),
        });
    }

    fn add_tls(&mut self, cache: &Cache, ingress: &Value, host: &str) {
        let annotation = |name: &str| {
            let key = format!("nginx.ingress.kubernetes.io/{name}");
            at(ingress, "/metadata/annotations")[key.as_str()]
                .as_str()
                .map(str::to_owned)
        };
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
        let forced = annotation("force-ssl-redirect").as_deref() == Some("true");
        let wanted = entry.is_some() && annotation("ssl-redirect").as_deref() != Some("false");
        if forced || wanted {
            self.redirects.insert(host.to_owned());
        }
        let Some(secret) = entry
            .map(|entry| text(entry, "/secretName"))
            .filter(|secret| !secret.is_empty())
        else {
            return;
        };
        let found = cache
            .get(Kind::Secret, namespace(ingress), secret)
            .unwrap_or_default();
        let member = |name: &str| {
            let bytes = found["data"][name]
                .as_str()
                .and_then(|text| STANDARD.decode(text).ok());
            String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
        };
        self.pairs.entry(host.to_owned()).or_insert_with(|| Pair {
            secret: format!("{}/{secret}", namespace(ingress)),
            certificate: member("tls.crt"),
            key: member("tls.key"),
        });
    }

    /// The most specific route: named host before wildcard before none, then the longest path.
    pub(super) fn route(&self, host: &str, path: &str) -> Option<&Route> {
        let fits = |route: &&Route| {
            (route.host.is_empty() || matches_host(&route.host, host)) && matches_path(route, path)
        };
        self.routes.iter().filter(fits).max_by_key(|route| {
            let named = !route.host.is_empty() && !route.host.starts_with('*');
            (named, !route.host.is_empty(), route.exact, route.path.len())
        })
    }

    /// Whether some rule names the host.
    pub(super) fn claims(&self, host: &str) -> bool {
        self.routes
            .iter()
            .any(|route| !route.host.is_empty() && matches_host(&route.host, host))
    }

    pub(super) fn redirects(&self, host: &str) -> bool {
        self.redirects
            .iter()
            .any(|redirected| matches_host(redirected, host))
    }
}

/// Whether a rule's host (perhaps `*.…`) takes in this host: a wildcard stands for exactly one label.
pub(super) fn matches_host(rule: &str, host: &str) -> bool {
    match rule.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == domain),
        None => rule == host,
    }
}

fn matches_path(route: &Route, path: &str) -> bool {
    if route.exact {
        return route.path == path;
    }
    let prefix = route.path.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Ready addresses behind a Service's port; none if the Service has no such port.
fn endpoints(cache: &Cache, space: &str, service: &str, port: &Value) -> usize {
    let Some(found) = cache.get(Kind::Service, space, service) else {
        return 0;
    };
    let fits = |held: &Value| match (port.get("number"), port.get("name")) {
        (Some(number), _) => held["port"] == *number,
        (None, Some(name)) => held["name"] == *name,
        (None, None) => false,
    };
    if !list(&found, "/spec/ports").iter().any(fits) {
        return 0;
    }
    let slices = cache.within(Kind::EndpointSlice, space);
    let ours = slices
        .iter()
        .filter(|slice| at(slice, "/metadata/labels")["kubernetes.io/service-name"] == name(&found));
    ours.flat_map(|slice| list(slice, "/endpoints"))
        .filter(|endpoint| at(endpoint, "/conditions/ready") != false)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: &str, path: &str, exact: bool) -> Route {
        Route {
            host: host.into(),
            path: path.into(),
            exact,
            ingress: format!("{host}{path}"),
            backend: String::new(),
            endpoints: 1,
        }
    }

    #[test]
    fn the_most_specific_rule_wins() {
        let plan = Plan {
            routes: vec![
                route("*.example.com", "/", false),
                route("a.example.com", "/", false),
                route("a.example.com", "/shop", false),
                route("a.example.com", "/shop/cart", true),
            ],
            ..Plan::default()
        };
        let found = |host: &str, path: &str| plan.route(host, path).map(|route| route.ingress.clone());
        assert_eq!(found("a.example.com", "/").unwrap(), "a.example.com/");
        assert_eq!(found("a.example.com", "/shop/x").unwrap(), "a.example.com/shop");
        assert_eq!(found("a.example.com", "/shopping").unwrap(), "a.example.com/");
        assert_eq!(
            found("a.example.com", "/shop/cart").unwrap(),
            "a.example.com/shop/cart"
        );
        assert_eq!(found("b.example.com", "/").unwrap(), "*.example.com/");
        assert_eq!(found("c.b.example.com", "/"), None);
        assert!(plan.claims("b.example.com"));
        assert!(!plan.claims("example.com"));
    }
}
