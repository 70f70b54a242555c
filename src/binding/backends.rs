//! The Services that the rules send requests to: whether they are there, and listen where they are asked. Pure.
//!
//! A controller serves a host whose Service is missing all the same, and answers 503: no handshake tells.

use std::collections::BTreeSet;

use serde_json::Value;

use super::desired::{Desired, Port, Rule};
use super::findings::{Finding, Known};
use super::observation::{Observation, Seen};

/// A Service that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `ingress` or `gateway`.
    pub edge: &'static str,
    /// Position in `rules`.
    pub rule: usize,
    /// Position in the rule's `paths`.
    pub path: usize,
    /// The Service.
    pub service: String,
    /// Its port.
    pub port: Port,
}

/// Every Service that a rule names, in order.
pub fn backends(desired: &Desired) -> Vec<Backend> {
    let ingress = desired.ingress.iter().map(|it| ("ingress", &it.rules));
    let gateway = desired.gateway.iter().map(|it| ("gateway", &it.rules));
    ingress
        .chain(gateway)
        .flat_map(|(edge, rules)| of_rules(edge, rules))
        .collect()
}

fn of_rules(edge: &'static str, rules: &[Rule]) -> Vec<Backend> {
    let numbered = rules.iter().enumerate();
    let paths = numbered.flat_map(|(rule, it)| it.paths.iter().enumerate().map(move |found| (rule, found)));
    paths
        .map(|(rule, (path, named))| Backend {
            edge,
            rule,
            path,
            service: named.service.clone(),
            port: named.port.clone(),
        })
        .collect()
}

/// The names of those Services.
pub fn names(desired: &Desired) -> BTreeSet<String> {
    backends(desired).into_iter().map(|it| it.service).collect()
}

/// What is missing of them, each where it is named first.
pub fn judge(desired: &Desired, seen: &Observation, known: &Known, findings: &mut Vec<Finding>) {
    let Seen::Known(services) = &seen.services else {
        return;
    };
    // Its own finding says so.
    if seen.namespace == Seen::Known(false) && !desired.create_namespace {
        return;
    }
    let mut told: Vec<(String, Option<Port>)> = Vec::new();
    for backend in backends(desired) {
        let named = |service: &&Value| service["metadata"]["name"] == backend.service.as_str();
        let service = services.iter().find(named);
        let what = (backend.service.clone(), service.map(|_| backend.port.clone()));
        if service.is_some_and(|it| listens(it, &backend.port)) || told.contains(&what) {
            continue;
        }
        told.push(what);
        findings.push(Finding::ServiceUnfit {
            ports: service.map(ports),
            // Who lets the binding make the namespace puts the Services into it afterwards.
            bound: desired.create_namespace
                || known
                    .backends
                    .contains(&(backend.service.clone(), backend.port.clone())),
            backend: Box::new(backend),
        });
    }
}

fn listens(service: &Value, wanted: &Port) -> bool {
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice);
    // One without ports is another name of something else, or none that this could judge.
    let Some(ports) = ports.filter(|ports| !ports.is_empty()) else {
        return true;
    };
    ports.iter().any(|port| match wanted {
        Port::Number(number) => port["port"] == *number,
        Port::Name(name) => port["name"] == name.as_str(),
    })
}

/// The ports of a Service, in words.
fn ports(service: &Value) -> Vec<String> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let words = |port: &Value| match port["name"].as_str() {
        Some(name) => format!("{} ({name})", port["port"]),
        None => port["port"].to_string(),
    };
    ports.map(words).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::findings::Class;
    use super::super::fixtures::{desired, with_addon};
    use super::*;

    fn found(services: &Value, known: &Known, change: fn(&mut Desired)) -> Vec<(Option<Vec<String>>, Class)> {
        let mut seen = with_addon();
        seen.services = Seen::Known(Arc::new(services.as_array().cloned().unwrap_or_default()));
        let mut desired = desired();
        change(&mut desired);
        let mut findings = Vec::new();
        judge(&desired, &seen, known, &mut findings);
        let told = |finding: &Finding| match finding {
            Finding::ServiceUnfit { ports, .. } => (ports.clone(), finding.class()),
            other => panic!("{other:?}"),
        };
        findings.iter().map(told).collect()
    }

    #[test]
    fn a_service_is_there_and_listens_or_is_told() {
        let service =
            |ports: Value| json!([{ "metadata": { "name": "my-app" }, "spec": { "ports": ports } }]);
        let new = Known::default();
        let same = |_: &mut Desired| {};
        assert_eq!(found(&json!([]), &new, same), [(None, Class::Curable)]);
        assert_eq!(found(&service(json!([{ "port": 80 }])), &new, same), []);
        // An ExternalName has none.
        assert_eq!(found(&service(Value::Null), &new, same), []);
        let other = service(json!([{ "port": 8080, "name": "web" }]));
        let ports = Some(vec!["8080 (web)".to_owned()]);
        assert_eq!(found(&other, &new, same), [(ports, Class::Curable)]);
        let by_name = |desired: &mut Desired| {
            let ingress = desired.ingress.as_mut().unwrap();
            ingress.rules[0].paths[0].port = Port::Name("web".to_owned());
        };
        assert_eq!(found(&other, &new, by_name), []);
    }

    #[test]
    fn what_was_bound_before_and_what_comes_after_the_namespace_only_warns() {
        let known = Known {
            backends: vec![("my-app".to_owned(), Port::Number(80))],
            ..Known::default()
        };
        assert_eq!(found(&json!([]), &known, |_| {}), [(None, Class::Decay)]);
        let makes = |desired: &mut Desired| desired.create_namespace = true;
        assert_eq!(
            found(&json!([]), &Known::default(), makes),
            [(None, Class::Decay)]
        );
    }

    #[test]
    fn a_service_that_two_rules_name_is_told_once() {
        let twice = |desired: &mut Desired| {
            let ingress = desired.ingress.as_mut().unwrap();
            let rule = ingress.rules[0].clone();
            ingress.rules.push(rule);
        };
        assert_eq!(found(&json!([]), &Known::default(), twice).len(), 1);
    }
}
