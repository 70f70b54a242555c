//! What an edge serves: routes, certificates, redirects. Pure; the controllers make it from their own objects.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::sandbox::actors::cache::Cache;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{at, list, name, text};

/// All an edge serves.
#[derive(Clone, Default, PartialEq, Eq)]
pub(in crate::sandbox::actors) struct Plan {
    pub(in crate::sandbox::actors) routes: Vec<Route>,
    /// By host, as in the rules.
    pub(in crate::sandbox::actors) pairs: BTreeMap<String, Pair>,
    /// Hosts whose plain requests are sent to HTTPS, whatever their path.
    pub(in crate::sandbox::actors) redirects: BTreeSet<String>,
}

/// One path of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox::actors) struct Route {
    /// Empty for all hosts.
    pub(in crate::sandbox::actors) host: String,
    pub(in crate::sandbox::actors) path: String,
    pub(in crate::sandbox::actors) exact: bool,
    /// Only for HTTPS, only for plain requests, or for both.
    pub(in crate::sandbox::actors) secure: Option<bool>,
    /// `namespace/name` of the Ingress or HTTPRoute it comes from.
    pub(in crate::sandbox::actors) source: String,
    pub(in crate::sandbox::actors) to: Target,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox::actors) enum Target {
    /// To a Service.
    Backend {
        /// `namespace/service:port`.
        backend: String,
        /// Ready addresses behind it.
        endpoints: usize,
    },
    /// Elsewhere, with this status.
    Redirect { scheme: Option<String>, status: u16 },
}

/// A certificate with its key, as the Secret holds them.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::sandbox::actors) struct Pair {
    /// `namespace/name`.
    pub(in crate::sandbox::actors) secret: String,
    /// Empty if the Secret or the member is not there.
    pub(in crate::sandbox::actors) certificate: String,
    pub(in crate::sandbox::actors) key: String,
}

impl Pair {
    pub(in crate::sandbox::actors) fn of(cache: &Cache, namespace: &str, secret: &str) -> Self {
        let found = cache.get(Kind::Secret, namespace, secret).unwrap_or_default();
        let member = |name: &str| {
            let bytes = found["data"][name]
                .as_str()
                .and_then(|text| STANDARD.decode(text).ok());
            String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
        };
        Self {
            secret: format!("{namespace}/{secret}"),
            certificate: member("tls.crt"),
            key: member("tls.key"),
        }
    }
}

impl Plan {
    /// Adds a route. Whoever claims a path of a host first keeps it.
    pub(in crate::sandbox::actors) fn add(&mut self, route: Route) {
        let overlap = |known: &Route| match (known.secure, route.secure) {
            (Some(known), Some(new)) => known == new,
            _ => true,
        };
        let taken = self.routes.iter().any(|known| {
            known.host == route.host
                && known.path == route.path
                && known.exact == route.exact
                && overlap(known)
        });
        if !taken {
            self.routes.push(route);
        }
    }

    /// The most specific route: named host before wildcard before none, then the longest path.
    pub(super) fn route(&self, host: &str, path: &str, secure: bool) -> Option<&Route> {
        let fits = |route: &&Route| {
            route.secure.is_none_or(|wanted| wanted == secure)
                && (route.host.is_empty() || matches_host(&route.host, host))
                && matches_path(route, path)
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

/// Ready addresses behind a Service's port (`{number}` or `{name}`); none if the Service has no such port.
pub(in crate::sandbox::actors) fn endpoints(
    cache: &Cache,
    space: &str,
    service: &str,
    port: &Value,
) -> usize {
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

/// `namespace/service:port` of a backend, and the ready addresses behind it.
pub(in crate::sandbox::actors) fn backend(cache: &Cache, space: &str, service: &str, port: &Value) -> Target {
    let words = match (port.get("number"), text(port, "/name")) {
        (Some(number), _) => number.to_string(),
        (None, name) => name.to_owned(),
    };
    Target::Backend {
        backend: format!("{space}/{service}:{words}"),
        endpoints: endpoints(cache, space, service, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: &str, path: &str, exact: bool) -> Route {
        Route {
            host: host.into(),
            path: path.into(),
            exact,
            secure: None,
            source: format!("{host}{path}"),
            to: Target::Backend {
                backend: String::new(),
                endpoints: 1,
            },
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
        let found = |host: &str, path: &str| plan.route(host, path, true).map(|route| route.source.clone());
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

    #[test]
    fn plain_and_secure_requests_may_go_different_ways() {
        let mut plan = Plan::default();
        let plain = Route {
            secure: Some(false),
            to: Target::Redirect {
                scheme: Some("https".into()),
                status: 301,
            },
            ..route("a.example.com", "/", false)
        };
        plan.add(plain.clone());
        plan.add(Route {
            secure: Some(true),
            ..route("a.example.com", "/", false)
        });
        plan.add(route("a.example.com", "/", false));
        assert_eq!(plan.routes.len(), 2);
        assert_eq!(plan.route("a.example.com", "/", false), Some(&plain));
        assert_ne!(plan.route("a.example.com", "/", true), Some(&plain));
    }
}
