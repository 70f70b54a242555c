//! Services and Ingresses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names::{self, is_label, is_subdomain};
use crate::sandbox::kubernetes::refusal::Cause;
use crate::sandbox::kubernetes::store::{at, text_at};

pub(super) fn port_in_range(value: &Value) -> bool {
    value.as_i64().is_some_and(|port| (1..=65535).contains(&port))
}

pub(super) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

pub(super) fn check_service(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let ports = spec
        .get("ports")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && !headless && spec["type"] != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    if spec["type"] == "ExternalName" && text_at(spec, &["externalName"]).is_empty() {
        causes.push(Cause::required("spec.externalName", ""));
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (at, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{at}]");
        let name = text_at(port, &["name"]);
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if !name.is_empty() && !is_label(name) {
            causes.push(Cause::invalid(
                format!("{path}.name"),
                &port["name"],
                names::LABEL,
            ));
        } else if !name.is_empty() && !names.insert(name.to_owned()) {
            causes.push(Cause::duplicate(format!("{path}.name"), &port["name"]));
        }
        if !port_in_range(&port["port"]) {
            causes.push(Cause::invalid(format!("{path}.port"), &port["port"], PORT_RANGE));
        }
        if port["targetPort"].is_number() && !port_in_range(&port["targetPort"]) {
            causes.push(Cause::invalid(
                format!("{path}.targetPort"),
                &port["targetPort"],
                PORT_RANGE,
            ));
        }
        if !numbers.insert(format!("{}/{}", port["protocol"], port["port"])) {
            causes.push(Cause::duplicate(path, port));
        }
    }
    if let Some(live) = live {
        let old = text_at(live, &["spec", "clusterIP"]);
        if !old.is_empty() && spec["type"] != "ExternalName" && spec["clusterIP"] != old {
            let why = "may not change once set";
            causes.push(Cause::invalid(
                "spec.clusterIPs[0]",
                &serde_json::json!([spec["clusterIP"]]),
                why,
            ));
        }
    }
}

pub(super) fn check_ingress(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let rules = spec
        .get("rules")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if rules.is_empty() && spec.get("defaultBackend").is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        causes.push(Cause::invalid("spec", &Value::Null, why));
    }
    if let Some(backend) = spec.get("defaultBackend") {
        check_backend(backend, "spec.defaultBackend", causes);
    }
    for (at, tls) in spec
        .get("tls")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        for (number, host) in tls
            .get("hosts")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            check_host(host, &format!("spec.tls[{at}].hosts[{number}]"), causes);
        }
        let secret = text_at(tls, &["secretName"]);
        if !secret.is_empty() && !is_subdomain(secret) {
            let path = format!("spec.tls[{at}].secretName");
            causes.push(Cause::invalid(path, &tls["secretName"], names::SUBDOMAIN));
        }
    }
    for (at, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{at}]");
        if let Some(host) = rule.get("host").filter(|host| *host != "") {
            check_host(host, &format!("{path}.host"), causes);
        }
        let paths = rule
            .pointer("/http/paths")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for (number, one) in paths.iter().enumerate() {
            check_path(one, &format!("{path}.http.paths[{number}]"), causes);
        }
    }
    let class = text_at(spec, &["ingressClassName"]);
    if !class.is_empty() && !is_subdomain(class) {
        causes.push(Cause::invalid(
            "spec.ingressClassName",
            &spec["ingressClassName"],
            names::SUBDOMAIN,
        ));
    }
}

fn check_host(host: &Value, path: &str, causes: &mut Vec<Cause>) {
    let text = host.as_str().unwrap_or_default();
    if text.parse::<std::net::IpAddr>().is_ok() {
        causes.push(Cause::invalid(
            path,
            host,
            "must be a DNS name, not an IP address",
        ));
    } else if let Some(rest) = text.strip_prefix("*.") {
        if !is_subdomain(rest) {
            let why = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
            causes.push(Cause::invalid(path, host, why));
        }
    } else if !is_subdomain(text) {
        causes.push(Cause::invalid(path, host, names::SUBDOMAIN));
    }
}

fn check_path(one: &Value, path: &str, causes: &mut Vec<Cause>) {
    let text = text_at(one, &["path"]);
    match text_at(one, &["pathType"]) {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                causes.push(Cause::invalid(
                    format!("{path}.path"),
                    &Value::from(text),
                    "must be an absolute path",
                ));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(bad) {
                    let why = format!("must not contain '{bad}'");
                    causes.push(Cause::invalid(format!("{path}.path"), &one["path"], why));
                }
            }
        }
        "ImplementationSpecific" if !text.is_empty() && !text.starts_with('/') => {
            causes.push(Cause::invalid(
                format!("{path}.path"),
                &one["path"],
                "must be an absolute path",
            ));
        }
        _ => {}
    }
    if let Some(backend) = one.get("backend") {
        check_backend(backend, &format!("{path}.backend"), causes);
    }
}

fn check_backend(backend: &Value, path: &str, causes: &mut Vec<Cause>) {
    match (backend.get("service"), backend.get("resource")) {
        (Some(_), Some(_)) => {
            let why = "cannot set both resource and service backends";
            causes.push(Cause::invalid(path, &Value::from(""), why));
        }
        (Some(service), None) => {
            let name = text_at(service, &["name"]);
            if !name.is_empty() && !names::is_dns_1035(name) {
                causes.push(Cause::invalid(
                    format!("{path}.service.name"),
                    &service["name"],
                    names::DNS_1035,
                ));
            }
            let (port, number) = (
                text_at(service, &["port", "name"]),
                at(service, &["port", "number"]),
            );
            match number {
                None if port.is_empty() => {
                    causes.push(Cause::required(path, "port name or number is required"));
                }
                Some(_) if !port.is_empty() => {
                    let why = "cannot set both port name & port number";
                    causes.push(Cause::invalid(format!("{path}.service"), service, why));
                }
                Some(number) if !port_in_range(number) => {
                    causes.push(Cause::invalid(
                        format!("{path}.service.port.number"),
                        number,
                        PORT_RANGE,
                    ));
                }
                _ => {}
            }
        }
        (None, None) => causes.push(Cause::required(path, "resource or service backend is required")),
        (None, Some(_)) => {}
    }
}
