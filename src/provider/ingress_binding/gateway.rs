//! The `gateway` attribute: what it accepts, what it fills in, how it is read, and what contradicts what.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{member, read_rules};
use super::schema::{annotations, host, is_label, is_subdomain, labels, rules};
use crate::binding::gateway::{Attach, Gateway, Listener, PLAIN, Parent, listener_name};
use crate::framework::object::{Known, Reader};
use crate::framework::validate::{each, length_between, matches_each, one_of, text, whole_number_between};
use crate::framework::{Attribute, Constraint, Diagnostic, Diagnostics, Nesting, Presence, Type, Value};

use Presence::{Optional, OptionalComputed, Required};

const FOREIGN: &str = "With parent the Gateway is somebody else's, who writes it.";
const OWN: &str = "Remove it, or set  class_name  for a Gateway of one's own.";

/// The attribute.
pub(super) fn attribute() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Optional,
        "The Gateway API way: a Gateway of one's own, or listeners and routes at somebody else's. May stand beside \
         `ingress`, to move from one to the other without downtime.",
        [
            (
                "class_name",
                Attribute::string(Optional, "The class of a Gateway of one's own.").valid(text(
                    "a DNS subdomain",
                    "\"approuting-istio\"",
                    is_subdomain,
                )),
            ),
            ("parent", parent()),
            (
                "name",
                Attribute::string(
                    OptionalComputed,
                    "Names the Gateway or ListenerSet, and the routes; the binding's unless set. A new name is served \
                     first.",
                )
                .valid(text("a DNS subdomain", "\"shop\"", is_subdomain)),
            ),
            ("listeners", listeners()),
            ("rules", rules(&["Prefix", "Exact"], true)),
            (
                "ssl_redirect",
                Attribute::bool(
                    OptionalComputed,
                    "Whether plain HTTP is redirected (301, by a route of its own); false serves it as it is. True unless \
                     set. With `attach = \"reference\"` the Gateway's owner decides.",
                )
                .default(true),
            ),
            (
                "infrastructure",
                Attribute::nested(
                    Nesting::Single,
                    Optional,
                    "What the controller puts on the Service and the pods that it makes for the Gateway.",
                    [
                        (
                            "labels",
                            Attribute::value(Type::map(Type::String), Optional, "Labels.").valid(labels),
                        ),
                        (
                            "annotations",
                            Attribute::value(
                                Type::map(Type::String),
                                Optional,
                                "Annotations, for example for an internal load balancer.",
                            )
                            .valid(annotations),
                        ),
                    ],
                ),
            ),
            (
                "addresses",
                Attribute::value(
                    Type::list(Type::String),
                    Optional,
                    "Addresses to ask for, IP addresses or host names; the controller's choice unless set.",
                )
                .valid(length_between(1, 16)),
            ),
            (
                "reference_grants_from",
                Attribute::value(
                    Type::set(Type::String),
                    Optional,
                    "Namespaces whose Gateways may use this binding's Secrets, and nothing else of the namespace.",
                )
                .valid(each(namespace)),
            ),
            (
                "annotations",
                Attribute::value(Type::map(Type::String), Optional, "Annotations of the objects.").valid(annotations),
            ),
            (
                "labels",
                Attribute::value(Type::map(Type::String), Optional, "Labels of the objects.").valid(labels),
            ),
        ],
    )
    .constrained(
        Constraint::exactly_one_of(&["class_name", "parent"])
            .because("class_name makes a Gateway of one's own; parent joins somebody else's.")
            .fix(
                "Set  class_name = \"approuting-istio\"  or  parent = { namespace = \"infra\", name = \"shared\" }, and not \
                 both.",
            ),
    )
    .constrained(Constraint::at_most_one_of(&["parent", "infrastructure"]).because(FOREIGN).fix(OWN))
    .constrained(Constraint::at_most_one_of(&["parent", "addresses"]).because(FOREIGN).fix(OWN))
}

fn namespace(value: &Value, path: &crate::framework::AttributePath) -> Vec<Diagnostic> {
    text("a DNS label", "\"infra\"", is_label)(value, path)
}

fn parent() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Optional,
        "Somebody else's Gateway, which is never written.",
        [
            (
                "namespace",
                Attribute::string(Required, "Its namespace.").valid(text("a DNS label", "\"infra\"", is_label)),
            ),
            (
                "name",
                Attribute::string(Required, "Its name.").valid(text("a DNS subdomain", "\"shared\"", is_subdomain)),
            ),
            (
                "attach",
                Attribute::string(
                    OptionalComputed,
                    "`listener_set`: own listeners in a ListenerSet (Gateway API 1.5, and the Gateway must let them in). \
                     `reference`: its owner's listeners use the Secrets in `secret_names`; a ReferenceGrant for them, \
                     routes and verification are added. `listener_set` unless set.",
                )
                .default("listener_set")
                .valid(one_of(&["listener_set", "reference"])),
            ),
        ],
    )
}

fn listeners() -> Attribute {
    Attribute::nested(
        Nesting::Map,
        Optional,
        "The listeners that terminate TLS, by name; one for each host of the rules, named like it, unless set.",
        [
            ("host", Attribute::string(Required, "The host.").valid(host)),
            (
                "certificate",
                Attribute::string(
                    Optional,
                    "The key in `certificates`; the one that has the host unless set.",
                ),
            ),
            (
                "port",
                Attribute::number(OptionalComputed, "The port. 443 unless set.")
                    .default(443)
                    .valid(whole_number_between(1, 65_535)),
            ),
            (
                "allowed_routes",
                Attribute::string(
                    OptionalComputed,
                    "`Same`: routes of the binding's namespace; `All`: of every namespace. `Same` unless set.",
                )
                .default("Same")
                .valid(one_of(&["Same", "All"])),
            ),
        ],
    )
    .valid(length_between(1, 32))
    .valid(matches_each("a DNS subdomain other than \"http\"", "myapp.example.com", |name| {
        is_subdomain(name) && name != PLAIN && !name.starts_with("http-")
    }))
}

/// Fills in what the configuration leaves to us.
pub(super) fn fill(config: &Value, planned: &mut Value) {
    let name = planned.get("name").clone();
    let written = config.get("gateway").get("name").clone();
    if let Some(gateway) = member(planned, "gateway").and_then(Value::as_map_mut) {
        gateway.insert("name".to_owned(), if written.is_null() { name } else { written });
    }
}

/// Reads the wished Gateway; `certificate_of` knows which certificate has a host.
pub(super) fn read(
    gateway: &Reader<'_>,
    certificate_of: impl Fn(&str) -> Option<String>,
) -> Result<Gateway, Diagnostic> {
    let parent = match gateway.opt_object("parent")? {
        Some(parent) => Parent::Foreign {
            namespace: parent.string("namespace")?.to_owned(),
            name: parent.string("name")?.to_owned(),
            attach: match parent.string("attach")? {
                "reference" => Attach::Reference,
                _ => Attach::ListenerSet,
            },
        },
        None => Parent::Own {
            class: gateway.string("class_name")?.to_owned(),
        },
    };
    let rules = read_rules(gateway)?;
    let mut listeners = BTreeMap::new();
    if matches!(
        parent,
        Parent::Foreign {
            attach: Attach::Reference,
            ..
        }
    ) {
        // They are the owner's.
    } else if gateway.at("listeners").is_null() {
        for host in rules.iter().map(|rule| rule.host.as_str()) {
            let listener = Listener {
                host: host.to_owned(),
                certificate: certificate_of(host).unwrap_or_default(),
                port: 443,
                allowed_routes: "Same".to_owned(),
            };
            listeners.insert(listener_name(host), listener);
        }
    } else {
        for (name, listener) in gateway.map("listeners")? {
            let host = listener.string("host")?;
            let certificate = listener.opt_string("certificate")?.map(str::to_owned);
            listeners.insert(
                name.to_owned(),
                Listener {
                    host: host.to_owned(),
                    certificate: certificate.or_else(|| certificate_of(host)).unwrap_or_default(),
                    port: u16::try_from(listener.whole("port")?).unwrap_or(443),
                    allowed_routes: listener.string("allowed_routes")?.to_owned(),
                },
            );
        }
    }
    let infrastructure = gateway.opt_object("infrastructure")?;
    let texts = |name: &str| {
        infrastructure
            .as_ref()
            .map_or(Ok(BTreeMap::new()), |it| it.string_map(name))
    };
    Ok(Gateway {
        name: gateway.string("name")?.to_owned(),
        parent,
        listeners,
        rules,
        ssl_redirect: gateway.opt_bool("ssl_redirect")?.unwrap_or(true),
        infrastructure_labels: texts("labels")?,
        infrastructure_annotations: texts("annotations")?,
        addresses: gateway.strings("addresses")?,
        labels: gateway.string_map("labels")?,
        annotations: gateway.string_map("annotations")?,
        grants_from: gateway.strings("reference_grants_from")?.into_iter().collect(),
    })
}

/// Hosts of listeners and rules that need a certificate, with where they stand.
pub(super) fn hosts<'a>(gateway: &Reader<'a>) -> Vec<(&'a str, Reader<'a>)> {
    let listeners = gateway.known_map("listeners").known().unwrap_or_default();
    let rules = gateway.known_list("rules").known().unwrap_or_default();
    let things = listeners.into_iter().map(|(_, listener)| listener).chain(rules);
    things
        .filter_map(|thing| match thing.known_string("host") {
            Known::Known(host) => Some((host, thing.at("host"))),
            Known::Null | Known::Unknown => None,
        })
        .collect()
}

/// What contradicts what within `gateway`, as far as it is known. `certificates` are their logical names.
pub(super) fn contradictions(
    gateway: &Reader<'_>,
    certificates: Option<&BTreeSet<&str>>,
    diagnostics: &mut Diagnostics,
) {
    let mut refuse = |at: Reader<'_>, summary: &str, detail: String, fix: &str| {
        diagnostics.push(Diagnostic::error(summary, detail, fix).at(at.path().clone()));
    };
    let by_reference = match gateway.known_object("parent") {
        Known::Known(parent) => parent.known_string("attach").known() == Some("reference"),
        Known::Null | Known::Unknown => false,
    };
    if by_reference && !gateway.at("listeners").is_null() {
        refuse(
            gateway.at("listeners"),
            "Listeners are the owner's",
            "With attach = \"reference\" the listeners stand in the Gateway, which is somebody else's."
                .to_owned(),
            "Remove listeners, or use  attach = \"listener_set\".",
        );
    }
    let mut seen = BTreeSet::new();
    let rules = gateway.known_list("rules").known().unwrap_or_default();
    for rule in &rules {
        if let Known::Known(host) = rule.known_string("host")
            && !seen.insert(host)
        {
            refuse(
                rule.at("host"),
                "Host has two rules",
                format!("\"{host}\" stands in another rule, too; each rule becomes one HTTPRoute."),
                "Put all its paths into one rule.",
            );
        }
    }
    let Known::Known(listeners) = gateway.known_map("listeners") else {
        return;
    };
    let mut places: BTreeMap<(&str, i64), &str> = BTreeMap::new();
    let mut listened = Vec::new();
    for (name, listener) in &listeners {
        if let (Known::Known(key), Some(keys)) = (listener.known_string("certificate"), certificates)
            && !keys.contains(key)
        {
            refuse(
                listener.at("certificate"),
                "Listener names no certificate",
                format!("There is no \"{key}\" in certificates."),
                "Use one of the keys of  certificates.",
            );
        }
        let Known::Known(host) = listener.known_string("host") else {
            return;
        };
        listened.push(host);
        let port = listener.known_whole("port").known().unwrap_or(443);
        if let Some(other) = places.insert((host, port), name) {
            refuse(
                listener.at("host"),
                "Listeners are the same",
                format!("\"{other}\" and \"{name}\" listen for \"{host}\" at the same port."),
                "Remove one of them.",
            );
        }
    }
    for rule in &rules {
        let Known::Known(host) = rule.known_string("host") else {
            continue;
        };
        if !listened.iter().any(|listener| crate::tls::covers(listener, host)) {
            refuse(
                rule.at("host"),
                "Host has no listener",
                format!("The rule for \"{host}\" would get no requests: no listener is for it."),
                "Add a listener for the host, or leave out  listeners : then each host gets one.",
            );
        }
    }
}
