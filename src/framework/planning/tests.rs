//! A row is a configuration, a prior state and the plan they must give. The proposed state is made as Terraform makes
//! it, so that the rows cannot be kinder than Terraform is.

use super::*;
use crate::framework::schema::Presence::{Computed, Optional, OptionalComputed, Required};
use crate::framework::ty::Type;

/// One of everything: a resource as in the crate's own provider, but smaller.
fn schema() -> Schema {
    let same_case = |left: &Value, right: &Value| match (left.as_str(), right.as_str()) {
        (Some(left), Some(right)) => left.eq_ignore_ascii_case(right),
        _ => false,
    };
    Schema::new(
        "x",
        [
            ("name", Attribute::string(Required, "x").requires_replace()),
            (
                "cluster",
                Attribute::string(Optional, "x")
                    .requires_replace()
                    .equal_by(same_case),
            ),
            (
                "namespace",
                Attribute::string(OptionalComputed, "x").default("default"),
            ),
            ("note", Attribute::string(Optional, "x")),
            ("id", Attribute::string(Computed, "x").keeps_prior()),
            ("seen", Attribute::string(Computed, "x")),
            ("password", Attribute::string(Optional, "x").write_only()),
            (
                "addon",
                Attribute::nested(
                    Nesting::Single,
                    OptionalComputed,
                    "x",
                    [
                        ("mode", Attribute::string(OptionalComputed, "x").default("ensure")),
                        ("interval", Attribute::string(Optional, "x")),
                        ("identity", Attribute::string(OptionalComputed, "x")),
                        (
                            "inner",
                            Attribute::nested(
                                Nesting::Single,
                                OptionalComputed,
                                "x",
                                [("deep", Attribute::bool(OptionalComputed, "x").default(true))],
                            ),
                        ),
                    ],
                ),
            ),
            (
                "certificates",
                Attribute::nested(
                    Nesting::Map,
                    Optional,
                    "x",
                    [
                        ("kind", Attribute::string(OptionalComputed, "x").default("pem")),
                        ("secret", Attribute::string(OptionalComputed, "x").keeps_prior()),
                    ],
                ),
            ),
            (
                "rules",
                Attribute::nested(
                    Nesting::List,
                    Optional,
                    "x",
                    [
                        ("host", Attribute::string(Required, "x")),
                        ("path", Attribute::string(OptionalComputed, "x").default("/")),
                        ("note", Attribute::string(Computed, "x")),
                    ],
                ),
            ),
            (
                "ports",
                Attribute::nested(
                    Nesting::Set,
                    Optional,
                    "x",
                    [
                        ("port", Attribute::number(Required, "x")),
                        (
                            "protocol",
                            Attribute::string(OptionalComputed, "x").default("TCP"),
                        ),
                        ("node_port", Attribute::number(Computed, "x")),
                    ],
                ),
            ),
            (
                "status",
                Attribute::nested(
                    Nesting::Single,
                    Computed,
                    "x",
                    [("phase", Attribute::string(Computed, "x"))],
                ),
            ),
            ("tags", Attribute::value(Type::map(Type::String), Optional, "x")),
        ],
    )
}

/// An object of the schema with these attributes, the others null.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let mut object = schema().nothing();
    for (name, value) in members {
        object.set(name, value);
    }
    object
}

fn text(text: &str) -> Value {
    Value::from(text)
}

fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::object(members)
}

/// What Terraform proposes: computed and null in the configuration is prior, all else is configured.
fn proposed_new_state(attributes: &Attributes, config: &Value, prior: &Value) -> Value {
    Value::object(attributes.iter().map(|(name, attribute)| {
        let (config, prior) = (config.get(name), prior.get(name));
        let value = match (&attribute.kind, config) {
            (_, Value::Null) if attribute.is_computed() => prior.clone(),
            (AttributeKind::Nested(Nesting::Single, children), Value::Map(_)) => {
                proposed_new_state(children, config, prior)
            }
            (AttributeKind::Nested(Nesting::Map, children), Value::Map(members)) => Value::object(
                members
                    .iter()
                    .map(|(key, value)| (key.as_str(), proposed_new_state(children, value, prior.get(key)))),
            ),
            (AttributeKind::Nested(Nesting::List, children), Value::List(items)) => Value::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, value)| proposed_new_state(children, value, item(prior, index)))
                    .collect(),
            ),
            _ => config.clone(),
        };
        (name.as_str(), value)
    }))
}

fn plan(config: &Value, prior: &Value) -> Value {
    let schema = schema();
    let proposed = proposed_new_state(&schema.attributes, config, prior);
    let planned = propose(&schema, config, prior, &proposed);
    let faults = crate::framework::contract::check_plan(&schema, config, prior, &planned);
    assert!(
        faults.is_empty(),
        "a plan of planning's own must keep the contract: {faults:?}"
    );
    planned
}

fn default_addon(identity: Value) -> Value {
    map([
        ("mode", text("ensure")),
        ("interval", Value::Null),
        ("identity", identity),
        ("inner", map([("deep", Value::from(true))])),
    ])
}

/// A resource that exists and is as configured by `object([("name", text("shop"))])`.
fn existing() -> Value {
    object([
        ("name", text("shop")),
        ("namespace", text("default")),
        ("id", text("id-1")),
        ("seen", text("yesterday")),
        ("addon", default_addon(text("me"))),
        ("status", map([("phase", text("served"))])),
    ])
}

#[test]
fn on_create_defaults_are_filled_and_the_rest_of_the_computed_is_unknown() {
    let planned = plan(&object([("name", text("shop"))]), &Value::Null);
    let expected = object([
        ("name", text("shop")),
        ("namespace", text("default")),
        ("id", Value::Unknown),
        ("seen", Value::Unknown),
        ("addon", default_addon(Value::Unknown)),
        ("status", Value::Unknown),
    ]);
    assert_eq!(planned, expected);
}

#[test]
fn a_plan_without_a_difference_makes_nothing_unknown() {
    assert_eq!(plan(&object([("name", text("shop"))]), &existing()), existing());
}

#[test]
fn a_difference_makes_the_computed_unknown_except_what_keeps_its_prior_value() {
    let planned = plan(
        &object([("name", text("shop")), ("note", text("new"))]),
        &existing(),
    );
    for (name, expected) in [
        ("note", text("new")),
        ("id", text("id-1")),
        ("seen", Value::Unknown),
        ("status", Value::Unknown),
        ("addon", default_addon(Value::Unknown)),
        ("namespace", text("default")),
    ] {
        assert_eq!(planned.get(name), &expected, "{name}");
    }
}

#[test]
fn an_unknown_input_is_a_difference() {
    let planned = plan(
        &object([("name", text("shop")), ("note", Value::Unknown)]),
        &existing(),
    );
    assert_eq!(planned.get("note"), &Value::Unknown);
    assert_eq!(planned.get("seen"), &Value::Unknown);
}

#[test]
fn a_kept_value_that_is_null_so_far_becomes_unknown() {
    let mut prior = existing();
    prior.set("id", Value::Null);
    let planned = plan(&object([("name", text("shop")), ("note", text("new"))]), &prior);
    assert_eq!(planned.get("id"), &Value::Unknown);
}

#[test]
fn a_destroy_plans_nothing() {
    assert_eq!(
        propose(&schema(), &Value::Null, &existing(), &Value::Null),
        Value::Null
    );
}

#[test]
fn an_object_written_in_part_gets_the_defaults_of_the_rest() {
    let config = object([
        ("name", text("shop")),
        (
            "addon",
            map([
                ("mode", Value::Null),
                ("interval", text("5m")),
                ("identity", Value::Null),
                ("inner", Value::Null),
            ]),
        ),
    ]);
    let planned = plan(&config, &Value::Null);
    let mut expected = default_addon(Value::Unknown);
    expected.set("interval", "5m");
    assert_eq!(planned.get("addon"), &expected);
}

#[test]
fn an_object_removed_from_the_configuration_goes_back_to_its_defaults() {
    let mut prior = existing();
    let mut addon = default_addon(text("me"));
    addon.set("mode", "require");
    addon.set("interval", "5m");
    prior.set("addon", addon);
    let planned = plan(&object([("name", text("shop"))]), &prior);
    assert_eq!(planned.get("addon"), &default_addon(Value::Unknown));
    assert_eq!(planned.get("id"), &text("id-1"));
}

#[test]
fn elements_of_maps_get_their_defaults_and_keep_their_own_prior_values() {
    let element = |kind, secret| map([("kind", kind), ("secret", secret)]);
    let config = object([
        ("name", text("shop")),
        (
            "certificates",
            map([
                ("old", element(Value::Null, Value::Null)),
                ("new", element(text("pfx"), Value::Null)),
            ]),
        ),
    ]);
    let mut prior = existing();
    prior.set(
        "certificates",
        map([("old", element(text("pem"), text("shop-old")))]),
    );
    let planned = plan(&config, &prior);
    assert_eq!(
        planned.get("certificates"),
        &map([
            ("old", element(text("pem"), text("shop-old"))),
            ("new", element(text("pfx"), Value::Unknown)),
        ])
    );
}

#[test]
fn elements_of_lists_and_sets_get_their_defaults() {
    let rule = |host, path, note| map([("host", host), ("path", path), ("note", note)]);
    let port = |port: i64, protocol, node_port| {
        map([
            ("port", Value::from(port)),
            ("protocol", protocol),
            ("node_port", node_port),
        ])
    };
    let config = object([
        ("name", text("shop")),
        (
            "rules",
            Value::List(vec![
                rule(text("a.example"), Value::Null, Value::Null),
                rule(Value::Unknown, text("/b"), Value::Null),
            ]),
        ),
        (
            "ports",
            Value::Set(vec![
                port(80, Value::Null, Value::Null),
                port(53, text("UDP"), Value::Null),
            ]),
        ),
    ]);
    let planned = plan(&config, &Value::Null);
    assert_eq!(
        planned.get("rules"),
        &Value::List(vec![
            rule(text("a.example"), text("/"), Value::Unknown),
            rule(Value::Unknown, text("/b"), Value::Unknown),
        ])
    );
    assert_eq!(
        planned.get("ports"),
        &Value::Set(vec![
            port(80, text("TCP"), Value::Unknown),
            port(53, text("UDP"), Value::Unknown),
        ])
    );
}

#[test]
fn a_set_element_keeps_what_the_provider_computed_for_it_as_long_as_nothing_differs() {
    let ports = |node_port| {
        Value::Set(vec![map([
            ("port", Value::from(80)),
            ("protocol", text("TCP")),
            ("node_port", node_port),
        ])])
    };
    let mut config = object([("name", text("shop"))]);
    config.set(
        "ports",
        Value::Set(vec![map([
            ("port", Value::from(80)),
            ("protocol", Value::Null),
            ("node_port", Value::Null),
        ])]),
    );
    let mut prior = existing();
    prior.set("ports", ports(Value::from(30_080)));
    // Terraform pairs set elements by what is configured in them.
    let mut proposed = prior.clone();
    proposed.set("ports", ports(Value::from(30_080)));
    assert_eq!(propose(&schema(), &config, &prior, &proposed), prior);
}

#[test]
fn a_set_element_that_is_configured_as_before_keeps_what_the_schema_says_it_keeps() {
    let schema = Schema::new(
        "x",
        [
            ("note", Attribute::string(Optional, "x")),
            (
                "ports",
                Attribute::nested(
                    Nesting::Set,
                    Optional,
                    "x",
                    [
                        ("port", Attribute::number(Required, "x")),
                        ("title", Attribute::string(Optional, "x")),
                        (
                            "protocol",
                            Attribute::string(OptionalComputed, "x").default("TCP"),
                        ),
                        ("node_port", Attribute::number(Computed, "x").keeps_prior()),
                        ("name", Attribute::string(Computed, "x").computed_from(&["port"])),
                        ("seen", Attribute::string(Computed, "x")),
                    ],
                ),
            ),
        ],
    );
    let port = |port: i64, title: Value, [protocol, node_port, name, seen]: [Value; 4]| {
        map([
            ("port", Value::from(port)),
            ("title", title),
            ("protocol", protocol),
            ("node_port", node_port),
            ("name", name),
            ("seen", seen),
        ])
    };
    let with = |note: &str, ports: Vec<Value>| map([("note", text(note)), ("ports", Value::Set(ports))]);
    let known = |node_port: i64| [text("TCP"), node_port.into(), text("named"), text("yesterday")];
    let unset = || [Value::Null, Value::Null, Value::Null, Value::Null];
    let new = || [text("TCP"), Value::Unknown, Value::Unknown, Value::Unknown];
    let prior = with(
        "a",
        vec![
            port(53, Value::Null, known(30_053)),
            port(80, Value::Null, known(30_080)),
            port(81, text("old"), known(30_081)),
        ],
    );
    // Not paired by Terraform, and in another order.
    let config = with(
        "b",
        vec![
            port(80, Value::Null, unset()),
            port(443, Value::Null, unset()),
            port(81, text("new"), unset()),
        ],
    );
    assert_eq!(
        propose(&schema, &config, &prior, &config),
        with(
            "b",
            vec![
                port(
                    80,
                    Value::Null,
                    [text("TCP"), 30_080.into(), text("named"), Value::Unknown]
                ),
                port(443, Value::Null, new()),
                port(81, text("new"), new()),
            ]
        )
    );
}

#[test]
fn another_spelling_of_the_same_is_no_difference() {
    let mut prior = existing();
    prior.set("cluster", "/subscriptions/A");
    let planned = plan(
        &object([("name", text("shop")), ("cluster", text("/SUBSCRIPTIONS/a"))]),
        &prior,
    );
    assert_eq!(planned, prior);
    assert_eq!(planned.get("cluster").as_str(), Some("/subscriptions/A"));
}

#[test]
fn a_write_only_value_is_never_planned_and_is_no_difference() {
    let planned = plan(
        &object([("name", text("shop")), ("password", text("s3cret"))]),
        &existing(),
    );
    assert_eq!(planned, existing());
}

#[test]
fn replacement_needs_proof() {
    let at = |name: &str, value: Value| {
        let mut state = existing();
        state.set(name, value);
        state
    };
    let with_cluster = at("cluster", text("a"));
    for (prior, planned, expected) in [
        (existing(), at("name", text("store")), vec!["name"]),
        (existing(), at("name", Value::Unknown), vec![]),
        (existing(), existing(), vec![]),
        (existing(), at("note", text("new")), vec![]),
        (existing(), with_cluster.clone(), vec![]),
        (with_cluster.clone(), existing(), vec![]),
        (with_cluster, at("cluster", text("b")), vec!["cluster"]),
        (Value::Null, existing(), vec![]),
    ] {
        let paths: Vec<String> = replacements(&schema(), &prior, &planned)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(paths, expected, "{prior:?} -> {planned:?}");
    }
}

#[test]
fn replacement_is_found_inside_objects_lists_and_maps() {
    let inside = |nesting| {
        Schema::new(
            "x",
            [(
                "it",
                Attribute::nested(
                    nesting,
                    Optional,
                    "x",
                    [("zone", Attribute::string(Required, "x").requires_replace())],
                ),
            )],
        )
    };
    let zone = |zone: &str| map([("zone", text(zone))]);
    for (nesting, before, after, expected) in [
        (Nesting::Single, zone("a"), zone("b"), "it.zone"),
        (
            Nesting::List,
            Value::List(vec![zone("a"), zone("a")]),
            Value::List(vec![zone("a"), zone("b")]),
            "it[1].zone",
        ),
        (
            Nesting::Map,
            map([("k", zone("a"))]),
            map([("k", zone("b")), ("new", zone("b"))]),
            "it[\"k\"].zone",
        ),
    ] {
        let paths = replacements(&inside(nesting), &map([("it", before)]), &map([("it", after)]));
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(paths, [expected]);
    }
}

#[test]
fn a_collection_proves_a_difference_only_with_its_known_parts() {
    let list = |items: &[Value]| Value::List(items.to_vec());
    for (left, right, expected) in [
        (list(&[text("a")]), list(&[Value::Unknown]), false),
        (list(&[text("a")]), list(&[Value::Unknown, text("b")]), true),
        (map([("a", text("1"))]), map([("a", Value::Unknown)]), false),
        (map([("a", text("1"))]), map([("b", Value::Unknown)]), true),
        (
            Value::Set(vec![text("a")]),
            Value::Set(vec![text("b"), Value::Unknown]),
            true,
        ),
        (
            Value::Set(vec![text("a"), text("b")]),
            Value::Set(vec![text("b"), Value::Unknown]),
            false,
        ),
        (Value::Set(vec![text("a")]), Value::Set(vec![text("b")]), true),
    ] {
        assert_eq!(certainly_differ(&left, &right), expected, "{left:?} {right:?}");
    }
}
