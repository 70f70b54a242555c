//! Each rule with answers that pass and answers that do not, the place it names and the reason it gives.

use super::*;
use crate::framework::schema::Presence::{Computed, Optional, OptionalComputed, Required};
use crate::framework::value::Number;

fn schema() -> Schema {
    let children = || {
        [
            ("host", Attribute::string(Required, "x")),
            ("port", Attribute::number(OptionalComputed, "x")),
        ]
    };
    Schema::new(
        "x",
        [
            ("name", Attribute::string(Required, "x")),
            ("note", Attribute::string(Optional, "x")),
            ("mode", Attribute::string(OptionalComputed, "x")),
            ("id", Attribute::string(Computed, "x")),
            ("secret", Attribute::string(Optional, "x").write_only()),
            ("tags", Attribute::value(Type::map(Type::String), Optional, "x")),
            ("hosts", Attribute::value(Type::set(Type::String), Optional, "x")),
            ("any", Attribute::value(Type::Dynamic, Optional, "x")),
            (
                "one",
                Attribute::nested(Nesting::Single, Optional, "x", children()),
            ),
            (
                "list",
                Attribute::nested(Nesting::List, Optional, "x", children()),
            ),
            ("map", Attribute::nested(Nesting::Map, Optional, "x", children())),
            ("set", Attribute::nested(Nesting::Set, Optional, "x", children())),
        ],
    )
}

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

fn rule(host: &str, port: impl Into<Value>) -> Value {
    Value::object([("host", text(host)), ("port", port.into())])
}

fn list(items: &[Value]) -> Value {
    Value::List(items.to_vec())
}

fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::object(members)
}

fn set(items: &[Value]) -> Value {
    Value::Set(items.to_vec())
}

/// A row: what it is about, the three or two values of one attribute, and the fault: path and words. None: it passes.
fn expect(title: &str, found: &Diagnostics, fault: Option<(&str, &str)>) {
    match fault {
        None => assert!(found.is_empty(), "{title}: {found:?}"),
        Some((path, words)) => assert!(
            found.iter().any(|diagnostic| {
                diagnostic.attribute.to_string() == path
                    && diagnostic.detail.contains(words)
                    && diagnostic.summary == "Bug in the provider"
            }),
            "{title}: expected {path:?} {words:?} in {found:?}"
        ),
    }
}

const LEFT_NULL: &str = "the configuration leaves it null";

#[test]
fn a_planned_value_is_the_configured_one_or_the_providers_to_choose() {
    let n = || Value::Null;
    let u = || Value::Unknown;
    for (title, name, config, prior, planned, fault) in [
        ("1: as configured", "note", text("a"), n(), text("a"), None),
        ("1: unknown as configured", "note", u(), text("a"), u(), None),
        ("1: null as configured", "note", n(), text("a"), n(), None),
        (
            "2: the prior spelling",
            "note",
            text("A"),
            text("a"),
            text("a"),
            None,
        ),
        (
            "2: not if the configuration is null",
            "note",
            n(),
            text("a"),
            text("a"),
            Some(("note", LEFT_NULL)),
        ),
        ("3: write-only null", "secret", text("s"), n(), n(), None),
        (
            "3: write-only planned",
            "secret",
            text("s"),
            n(),
            text("s"),
            Some(("secret", "write-only")),
        ),
        ("4: computed known", "id", n(), text("a"), text("b"), None),
        ("4: computed unknown", "id", n(), text("a"), u(), None),
        ("5: filled in", "mode", n(), n(), text("auto"), None),
        ("5: left unknown", "mode", n(), text("a"), u(), None),
        (
            "6: not the provider's to set",
            "note",
            n(),
            n(),
            text("x"),
            Some(("note", LEFT_NULL)),
        ),
        (
            "6: nor to make unknown",
            "note",
            n(),
            n(),
            u(),
            Some(("note", LEFT_NULL)),
        ),
        (
            "8: another value",
            "note",
            text("a"),
            text("b"),
            text("c"),
            Some(("note", "neither the configured nor the prior")),
        ),
        (
            "8: another value of optional and computed",
            "mode",
            text("a"),
            n(),
            text("c"),
            Some(("mode", "neither the configured nor the prior")),
        ),
        (
            "8: unknown over known",
            "note",
            text("a"),
            n(),
            u(),
            Some(("note", "configuration is known here")),
        ),
        (
            "8: null over known",
            "note",
            text("a"),
            n(),
            n(),
            Some(("note", "the plan does not")),
        ),
        (
            "8: known over unknown",
            "note",
            u(),
            n(),
            text("a"),
            Some(("note", "configuration is unknown here")),
        ),
        (
            "8: one element of a plain map",
            "tags",
            map([("a", text("1"))]),
            n(),
            map([("a", text("2"))]),
            Some(("tags", "neither")),
        ),
        (
            "the same set in another order",
            "hosts",
            set(&[text("a"), text("b")]),
            n(),
            set(&[text("b"), text("a")]),
            None,
        ),
    ] {
        check_one(title, name, config, prior, planned, fault);
    }
}

fn check_one(
    title: &str,
    name: &str,
    config: Value,
    prior: Value,
    planned: Value,
    fault: Option<(&str, &str)>,
) {
    let found = check_plan(
        &schema(),
        &object([(name, config)]),
        &object([(name, prior)]),
        &object([(name, planned)]),
    );
    expect(title, &found, fault);
}

#[test]
fn a_planned_nested_object_is_judged_attribute_by_attribute() {
    let n = || Value::Null;
    let u = || Value::Unknown;
    let a = || rule("a", n());
    let filled = || rule("a", 80);
    let b = || rule("b", 80);
    for (title, name, config, planned, fault) in [
        ("single: child filled in", "one", a(), filled(), None),
        (
            "single: child changed",
            "one",
            a(),
            b(),
            Some(("one.host", "neither the configured")),
        ),
        (
            "single: wholly unknown",
            "one",
            a(),
            u(),
            Some(("one", "configuration is known here")),
        ),
        ("single: invented", "one", n(), a(), Some(("one", LEFT_NULL))),
        (
            "list: child filled in",
            "list",
            list(&[a()]),
            list(&[filled()]),
            None,
        ),
        (
            "list: child changed",
            "list",
            list(&[a(), a()]),
            list(&[a(), b()]),
            Some(("list[1].host", "neither")),
        ),
        (
            "list: grown",
            "list",
            list(&[a()]),
            list(&[a(), a()]),
            Some(("list", "another number of elements")),
        ),
        ("list: unknown element", "list", list(&[u()]), list(&[u()]), None),
        (
            "list: element made unknown",
            "list",
            list(&[a()]),
            list(&[u()]),
            Some(("list[0]", "configuration is known here")),
        ),
        (
            "map: child filled in",
            "map",
            map([("k", a())]),
            map([("k", filled())]),
            None,
        ),
        (
            "map: child changed",
            "map",
            map([("k", a())]),
            map([("k", b())]),
            Some(("map[\"k\"].host", "neither")),
        ),
        (
            "map: element dropped",
            "map",
            map([("k", a())]),
            map([]),
            Some(("map[\"k\"]", "not in the plan")),
        ),
        (
            "map: element invented",
            "map",
            map([]),
            map([("k", a())]),
            Some(("map[\"k\"]", "not configured")),
        ),
        ("set: child filled in", "set", set(&[a()]), set(&[filled()]), None),
        (
            "set: other elements",
            "set",
            set(&[a()]),
            set(&[b()]),
            Some(("set", "planned set")),
        ),
        (
            "set: grown",
            "set",
            set(&[a()]),
            set(&[filled(), rule("a", 81)]),
            Some(("set", "planned set")),
        ),
    ] {
        check_one(title, name, config, Value::Null, planned, fault);
    }
}

#[test]
fn a_plan_is_there_exactly_if_the_configuration_is() {
    let is = || object([("name", text("a"))]);
    for (title, config, planned, fault) in [
        ("both", is(), is(), None),
        ("destroy", Value::Null, Value::Null, None),
        (
            "absent",
            is(),
            Value::Null,
            Some(("", "although the configuration wants")),
        ),
        (
            "not destroyed",
            Value::Null,
            is(),
            Some(("", "destroy is not null")),
        ),
    ] {
        expect(
            title,
            &check_plan(&schema(), &config, &Value::Null, &planned),
            fault,
        );
    }
}

#[test]
fn a_replacement_must_name_an_attribute_that_exists() {
    let state = object([("list", list(&[rule("a", 80)])), ("any", Value::Unknown)]);
    let path = AttributePath::of;
    for (title, path, fault) in [
        ("attribute", path("name"), None),
        ("element", path("list").index(0).attribute("host"), None),
        ("below unknown", path("any").attribute("x"), None),
        ("no such attribute", path("nam"), Some(("nam", "does not exist"))),
        (
            "no such element",
            path("list").index(1),
            Some(("list[1]", "does not exist")),
        ),
    ] {
        expect(title, &check_replacements(&Value::Null, &state, &[path]), fault);
    }
}

#[test]
fn an_apply_returns_what_was_planned() {
    let n = || Value::Null;
    let u = || Value::Unknown;
    let (a, b) = (|| text("a"), || text("b"));
    for (title, name, planned, new, fault) in [
        ("kept", "note", a(), a(), None),
        ("unknown became known", "id", u(), a(), None),
        ("unknown became null", "id", u(), n(), None),
        (
            "changed",
            "note",
            a(),
            b(),
            Some(("note", "another one than planned after apply")),
        ),
        (
            "gone",
            "note",
            a(),
            n(),
            Some(("note", "planned with a value and is null")),
        ),
        (
            "come",
            "note",
            n(),
            a(),
            Some(("note", "planned as null and is set")),
        ),
        ("still unknown", "id", u(), u(), Some(("id", "still unknown"))),
        (
            "null is not empty",
            "tags",
            n(),
            map([]),
            Some(("tags", "planned as null")),
        ),
        (
            "empty is not null",
            "tags",
            map([]),
            n(),
            Some(("tags", "planned with a value")),
        ),
        (
            "map element lost",
            "tags",
            map([("k", a())]),
            map([]),
            Some(("tags[\"k\"]", "is missing")),
        ),
        (
            "map element new",
            "tags",
            map([]),
            map([("k", a())]),
            Some(("tags[\"k\"]", "new element")),
        ),
        (
            "list length",
            "list",
            list(&[rule("a", 1)]),
            list(&[]),
            Some(("list", "number of elements")),
        ),
        (
            "list child",
            "list",
            list(&[rule("a", 1)]),
            list(&[rule("a", 2)]),
            Some(("list[0].port", "another one")),
        ),
        (
            "list child unknown before",
            "list",
            list(&[rule("a", u())]),
            list(&[rule("a", 2)]),
            None,
        ),
        (
            "set element unknown before",
            "set",
            set(&[rule("a", u())]),
            set(&[rule("a", 2)]),
            None,
        ),
        (
            "set element",
            "hosts",
            set(&[a()]),
            set(&[b()]),
            Some(("hosts", "other elements")),
        ),
        (
            "set grown",
            "hosts",
            set(&[u()]),
            set(&[a(), b()]),
            Some(("hosts", "other elements")),
        ),
        ("set of any length", "hosts", u(), set(&[a(), b()]), None),
        ("write-only", "secret", n(), a(), Some(("secret", "write-only"))),
        (
            "kind",
            "name",
            a(),
            Value::from(true),
            Some(("name", "a bool was returned")),
        ),
        (
            "one number written otherwise",
            "one",
            rule("a", number("1.50")),
            rule("a", number("1.5")),
            None,
        ),
    ] {
        let found = check_apply(&schema(), &object([(name, planned)]), &object([(name, new)]));
        expect(title, &found, fault);
    }
}

fn number(text: &str) -> Number {
    Number::parse(text).expect(text)
}

#[test]
fn an_apply_leaves_a_state_exactly_if_one_was_planned() {
    let is = || object([("name", text("a"))]);
    for (title, planned, new, fault) in [
        ("deleted", Value::Null, Value::Null, None),
        (
            "not deleted",
            Value::Null,
            is(),
            Some(("", "still a state after a delete")),
        ),
        (
            "not there",
            is(),
            Value::Null,
            Some(("", "no state after an apply")),
        ),
    ] {
        expect(title, &check_apply(&schema(), &planned, &new), fault);
    }
}

#[test]
fn the_second_plan_may_only_learn() {
    let n = || Value::Null;
    for (title, first, second, fault) in [
        ("same", text("a"), text("a"), None),
        ("learned", Value::Unknown, text("a"), None),
        ("still unknown", Value::Unknown, Value::Unknown, None),
        (
            "other",
            text("a"),
            text("b"),
            Some(("id", "another one than planned in the plan made again")),
        ),
        (
            "forgot",
            text("a"),
            Value::Unknown,
            Some(("id", "became unknown")),
        ),
        (
            "vanished",
            text("a"),
            n(),
            Some(("id", "is null in the plan made again")),
        ),
    ] {
        let found = check_final_plan(&schema(), &object([("id", first)]), &object([("id", second)]));
        expect(title, &found, fault);
    }
}

#[test]
fn every_state_has_the_exact_shape_and_is_wholly_known() {
    let without_name = {
        let mut state = object([]);
        if let Some(members) = state.as_map_mut() {
            members.remove("name");
        }
        state
    };
    let with_more = object([("surplus", text("x"))]);
    let dynamic = |ty: Type, value: Value| Value::Dynamic(Box::new(ty), Box::new(value));
    for (title, state, fault) in [
        ("good", object([("name", text("a"))]), None),
        (
            "typed value",
            object([("any", dynamic(Type::String, text("a")))]),
            None,
        ),
        ("missing", without_name, Some(("name", "is missing"))),
        ("surplus", with_more, Some(("surplus", "no such attribute"))),
        (
            "not an object",
            text("a"),
            Some(("", "a string was returned where an object belongs")),
        ),
        (
            "inside",
            object([("list", list(&[rule("a", "x")]))]),
            Some(("list[0].port", "a string was returned where a number belongs")),
        ),
        (
            "list for set",
            object([("hosts", list(&[]))]),
            Some(("hosts", "a list was returned where a set belongs")),
        ),
        (
            "typed wrongly",
            object([("any", dynamic(Type::Bool, text("a")))]),
            Some(("any", "where a bool belongs")),
        ),
        (
            "unknown inside",
            object([("map", map([("k", rule("a", Value::Unknown))]))]),
            Some(("map[\"k\"].port", "still unknown")),
        ),
        (
            "write-only",
            object([("secret", text("s"))]),
            Some(("secret", "write-only")),
        ),
    ] {
        for check in [check_read, check_upgrade, check_import, check_data] {
            expect(title, &check(&schema(), &state), fault);
        }
    }
}

#[test]
fn only_a_read_may_find_nothing() {
    let schema = schema();
    expect("read", &check_read(&schema, &Value::Null), None);
    for (check, words) in [
        (
            check_upgrade as fn(&Schema, &Value) -> Diagnostics,
            "upgraded state is null",
        ),
        (check_import, "found nothing"),
        (check_data, "returned nothing"),
    ] {
        expect(words, &check(&schema, &Value::Null), Some(("", words)));
    }
}

#[test]
fn no_message_shows_a_value() {
    let found = check_apply(
        &schema(),
        &object([("note", text("planned-marker"))]),
        &object([("note", text("new-marker"))]),
    );
    assert!(!found.is_empty());
    assert!(!format!("{found:?}").contains("marker"), "{found:?}");
}

#[test]
fn what_is_repaired_can_be_stored() {
    let mut broken = object([
        ("id", Value::Unknown),
        ("secret", text("s")),
        ("note", Value::from(true)),
        ("list", list(&[rule("a", Value::Unknown), text("x")])),
        ("tags", map([("k", text("kept"))])),
        ("surplus", text("x")),
    ]);
    if let Some(members) = broken.as_map_mut() {
        members.remove("name");
    }
    let repaired = repair(&schema(), &broken);
    let expected = object([
        ("list", list(&[rule("a", Value::Null), Value::Null])),
        ("tags", map([("k", text("kept"))])),
    ]);
    assert_eq!(repaired, expected);
    expect("repaired", &check_read(&schema(), &repaired), None);
    assert_eq!(repair(&schema(), &Value::Null), Value::Null);
}
