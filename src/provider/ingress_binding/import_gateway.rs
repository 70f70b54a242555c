//! The `gateway` of an imported binding, from the objects that carry its mark.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::binding::gateway::listener_name;
use crate::binding::manifests::{self, MANAGED_BY};
use crate::framework::Value;
use crate::k8s::{Error, GATEWAY, HTTP_ROUTE, Kind, Kubernetes, LISTENER_SET, REFERENCE_GRANT};
use crate::provider::Defaults;

/// The objects of a binding's Gateway part.
pub(super) struct Found {
    /// The Gateway or ListenerSet; none where the listeners are the owner's.
    listening: Option<Json>,
    routes: Vec<Json>,
    grant: Option<Json>,
}

/// Finds the objects; nothing if there are no routes, and none where the cluster does not know Gateway API.
pub(super) async fn find(kubernetes: &Kubernetes, namespace: &str, id: &str) -> Result<Option<Found>, Error> {
    let ours = async |kind: Kind| {
        let selector = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
        let all = match kubernetes.list(kind, Some(namespace), &selector).await {
            Err(Error::NotServed { .. }) => Vec::new(),
            all => all?,
        };
        let is_ours = |object: &Json| {
            manifests::annotation(object, manifests::BINDING).is_some_and(|it| it.eq_ignore_ascii_case(id))
        };
        Ok::<_, Error>(all.into_iter().filter(is_ours).collect::<Vec<_>>())
    };
    let (gateways, sets, mut routes, grants) = tokio::join!(
        ours(GATEWAY),
        ours(LISTENER_SET),
        ours(HTTP_ROUTE),
        ours(REFERENCE_GRANT)
    );
    let routes = {
        let mut routes = std::mem::replace(&mut routes, Ok(Vec::new()))?;
        routes.sort_by_key(|route| name(route).to_owned());
        routes
    };
    if routes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Found {
        listening: gateways?.into_iter().chain(sets?).next(),
        routes,
        grant: grants?.into_iter().next(),
    }))
}

fn name(object: &Json) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn items(list: &Json) -> impl Iterator<Item = &Json> {
    list.as_array().into_iter().flatten()
}

impl Found {
    /// The hosts that a Secret serves.
    pub(super) fn hosts(&self, secret: &str, is_only: bool) -> Vec<String> {
        let texts = |host: &Json| host.as_str().map(str::to_owned);
        match &self.listening {
            Some(listening) => items(&listening["spec"]["listeners"])
                .filter(|listener| items(&listener["tls"]["certificateRefs"]).any(|it| it["name"] == secret))
                .filter_map(|listener| texts(&listener["hostname"]))
                .collect(),
            // The owner's listeners say which Secret serves which host; with one Secret there is no doubt.
            None if is_only => self.serving().flat_map(hostnames).filter_map(texts).collect(),
            None => Vec::new(),
        }
    }

    fn serving(&self) -> impl Iterator<Item = &Json> {
        self.routes.iter().filter(|route| !is_redirect(route))
    }

    /// The attribute.
    pub(super) fn value(&self, defaults: &Defaults) -> Value {
        let redirects = self.routes.iter().any(is_redirect);
        let rules: Vec<Value> = self.serving().map(rule).collect();
        let first = self.listening.as_ref().or_else(|| self.serving().next());
        let metadata = first.map(|object| &object["metadata"]).unwrap_or(&Json::Null);
        let spec = self
            .listening
            .as_ref()
            .map(|it| &it["spec"])
            .unwrap_or(&Json::Null);
        let class = spec["gatewayClassName"].as_str();
        let parent = self.parent();
        let is_reference = self.listening.is_none();
        let own_name = match &self.listening {
            Some(listening) => name(listening).to_owned(),
            None => self.plain_name(),
        };
        let infrastructure = &spec["infrastructure"];
        Value::object([
            ("class_name", Value::from(class)),
            ("parent", parent),
            ("name", Value::from(own_name)),
            ("listeners", self.listeners()),
            ("rules", Value::List(rules)),
            ("ssl_redirect", Value::from(redirects || is_reference)),
            (
                "infrastructure",
                if infrastructure.is_object() {
                    Value::object([
                        ("labels", texts(&infrastructure["labels"], |_| true)),
                        ("annotations", texts(&infrastructure["annotations"], |_| true)),
                    ])
                } else {
                    Value::Null
                },
            ),
            (
                "addresses",
                strings(items(&spec["addresses"]).map(|it| &it["value"])),
            ),
            ("reference_grants_from", self.grants_from()),
            (
                "annotations",
                texts(&metadata["annotations"], |key| {
                    !key.starts_with(manifests::BOOKKEEPING)
                }),
            ),
            ("labels", texts_but(&metadata["labels"], defaults)),
        ])
    }

    /// The name before the hosts that several routes have in theirs.
    fn plain_name(&self) -> String {
        let first = self.serving().next();
        let route = first.map(name).unwrap_or_default();
        let host = first
            .and_then(|route| hostnames(route).next())
            .and_then(Json::as_str);
        let suffix = format!("-{}", listener_name(host.unwrap_or_default()));
        route.strip_suffix(&suffix).unwrap_or(route).to_owned()
    }

    fn parent(&self) -> Value {
        let (reference, attach) = match &self.listening {
            Some(listening) => (&listening["spec"]["parentRef"], "listener_set"),
            None => {
                let route = self.serving().next();
                let reference = route.map_or(&Json::Null, |route| &route["spec"]["parentRefs"][0]);
                (reference, "reference")
            }
        };
        if !reference.is_object() {
            return Value::Null;
        }
        Value::object([
            ("namespace", Value::from(reference["namespace"].as_str())),
            ("name", Value::from(reference["name"].as_str())),
            ("attach", Value::from(attach)),
        ])
    }

    /// Null where they are what kvtls would make of the rules by itself.
    fn listeners(&self) -> Value {
        let Some(listening) = &self.listening else {
            return Value::Null;
        };
        let mut listeners = BTreeMap::new();
        let mut plain = true;
        for listener in items(&listening["spec"]["listeners"]).filter(|it| it["protocol"] == "HTTPS") {
            let own = listener["name"].as_str().unwrap_or_default();
            let host = listener["hostname"].as_str().unwrap_or_default();
            let port = listener["port"].as_i64().unwrap_or(443);
            let from = listener["allowedRoutes"]["namespaces"]["from"]
                .as_str()
                .unwrap_or("Same");
            plain &= own == listener_name(host) && port == 443 && from == "Same";
            let value = Value::object([
                ("host", Value::from(host)),
                ("certificate", Value::Null),
                ("port", Value::from(port)),
                ("allowed_routes", Value::from(from)),
            ]);
            listeners.insert(own.to_owned(), value);
        }
        let of_rules: BTreeSet<&str> = self
            .serving()
            .flat_map(hostnames)
            .filter_map(Json::as_str)
            .collect();
        let of_listeners: BTreeSet<&str> = listeners
            .values()
            .filter_map(|listener| listener.get("host").as_str())
            .collect();
        if plain && of_rules == of_listeners {
            Value::Null
        } else {
            Value::Map(listeners)
        }
    }

    fn grants_from(&self) -> Value {
        let Some(grant) = &self.grant else {
            return Value::Null;
        };
        let parent = self.parent();
        let is_implied = |namespace: &str| {
            parent.get("attach").as_str() == Some("reference")
                && parent.get("namespace").as_str() == Some(namespace)
        };
        let from: Vec<Value> = items(&grant["spec"]["from"])
            .filter_map(|entry| entry["namespace"].as_str())
            .filter(|namespace| !is_implied(namespace))
            .map(Value::from)
            .collect();
        if from.is_empty() {
            Value::Null
        } else {
            Value::Set(from)
        }
    }
}

fn is_redirect(route: &Json) -> bool {
    route["spec"]["rules"][0]["filters"][0]["type"] == "RequestRedirect"
}

fn hostnames(route: &Json) -> impl Iterator<Item = &Json> {
    items(&route["spec"]["hostnames"])
}

fn rule(route: &Json) -> Value {
    let paths = items(&route["spec"]["rules"]).map(|rule| {
        let path = &rule["matches"][0]["path"];
        let backend = &rule["backendRefs"][0];
        let kind = if path["type"] == "Exact" {
            "Exact"
        } else {
            "Prefix"
        };
        Value::object([
            ("path", Value::from(path["value"].as_str())),
            ("path_type", Value::from(kind)),
            ("service", Value::from(backend["name"].as_str())),
            (
                "port",
                Value::from(backend["port"].as_u64().map(|port| port.to_string())),
            ),
        ])
    });
    Value::object([
        (
            "host",
            Value::from(hostnames(route).next().and_then(Json::as_str)),
        ),
        ("paths", Value::List(paths.collect())),
    ])
}

fn texts(map: &Json, keep: impl Fn(&str) -> bool) -> Value {
    let kept: BTreeMap<String, String> = map
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| keep(key))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    if kept.is_empty() {
        Value::Null
    } else {
        Value::from(kept)
    }
}

/// Labels that are written on this binding, not on all.
fn texts_but(labels: &Json, defaults: &Defaults) -> Value {
    texts(labels, |key| {
        key != MANAGED_BY.0 && defaults.labels.get(key).map(String::as_str) != labels[key].as_str()
    })
}

fn strings<'a>(all: impl Iterator<Item = &'a Json>) -> Value {
    let all: Vec<Value> = all.filter_map(Json::as_str).map(Value::from).collect();
    if all.is_empty() {
        Value::Null
    } else {
        Value::List(all)
    }
}
