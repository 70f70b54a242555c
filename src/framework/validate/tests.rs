//! A row is an attribute, a configured value and the words on the place where they must appear.

use super::*;
use crate::framework::schema::Presence::{Computed, Optional, Required};
use crate::framework::ty::Type;

fn found(attribute: Attribute, value: Value) -> Vec<(String, String)> {
    let schema = Schema::new("x", [("it", attribute)]);
    config(&schema, &Value::object([("it", value)]))
        .iter()
        .map(|diagnostic| (diagnostic.attribute.to_string(), diagnostic.detail.clone()))
        .collect()
}

fn one(path: &str, detail: &str) -> Vec<(String, String)> {
    vec![(path.to_owned(), detail.to_owned())]
}

fn lower() -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static {
    text("lower-case letters", "\"shop\"", |text| {
        text.bytes().all(|byte| byte.is_ascii_lowercase())
    })
}

#[test]
fn what_is_wrong_says_what_is_expected_with_an_example() {
    let plain = || Attribute::string(Optional, "x");
    let number = || Attribute::number(Optional, "x");
    let strings = |ty: fn(Type) -> Type| Attribute::value(ty(Type::String), Optional, "x");
    let list = |items: &[&str]| Value::from(items.to_vec());
    let map = Value::object([("ok", Value::from("a")), ("No", Value::Unknown)]);
    for (attribute, value, expected) in [
        (
            plain().valid(lower()),
            Value::from("Shop"),
            one(
                "it",
                "Expected lower-case letters, for example \"shop\"; got \"Shop\".",
            ),
        ),
        (
            plain().valid(one_of(&["auto", "never"])),
            Value::from("x"),
            one(
                "it",
                "Expected one of \"auto\", \"never\", for example \"auto\"; got \"x\".",
            ),
        ),
        (
            plain().valid(length_between(2, 3)),
            Value::from("äöüß"),
            one("it", "Expected between 2 and 3 characters, for example 2; got 4."),
        ),
        (
            strings(Type::list).valid(length_between(1, 2)),
            list(&[]),
            one("it", "Expected between 1 and 2 elements, for example 1; got 0."),
        ),
        (
            number().valid(whole_number_between(1, 3)),
            Value::from(4),
            one(
                "it",
                "Expected a whole number between 1 and 3, for example 1; got 4.",
            ),
        ),
        (
            number().valid(whole_number_between(1, 3)),
            Value::Number(crate::framework::Number::parse("1.5").expect("a number")),
            one(
                "it",
                "Expected a whole number between 1 and 3, for example 1; got 1.5.",
            ),
        ),
        (
            strings(Type::map).valid(matches_each("lower-case letters", "\"shop\"", |key| {
                key.bytes().all(|byte| byte.is_ascii_lowercase())
            })),
            map,
            one(
                "it[\"No\"]",
                "Expected each key to be lower-case letters, for example \"shop\"; got \"No\".",
            ),
        ),
        (
            strings(Type::list).valid(each(lower())),
            list(&["ok", "B"]),
            one(
                "it[1]",
                "Expected lower-case letters, for example \"shop\"; got \"B\".",
            ),
        ),
    ] {
        assert_eq!(found(attribute, value), expected);
    }
}

#[test]
fn what_is_right_null_or_unknown_passes() {
    let strict = || {
        Attribute::string(Optional, "x")
            .valid(lower())
            .valid(length_between(1, 5))
    };
    for value in [Value::from("shop"), Value::Null, Value::Unknown] {
        assert_eq!(found(strict(), value), []);
    }
    let list = Attribute::value(Type::list(Type::String), Optional, "x").valid(each(lower()));
    assert_eq!(
        found(
            list,
            Value::List(vec![Value::Unknown, Value::Null, Value::from("ok")])
        ),
        []
    );
    let number = Attribute::number(Optional, "x").valid(whole_number_between(1, 3));
    assert_eq!(found(number, Value::from(3)), []);
    let word = Attribute::string(Optional, "x").valid(one_of(&["auto"]));
    assert_eq!(found(word, Value::from("auto")), []);
}

#[test]
fn presence_is_judged() {
    for (presence, value, expected) in [
        (Required, Value::Null, one("it", "it must be set.")),
        (Required, Value::Unknown, vec![]),
        (
            Computed,
            Value::from("x"),
            one("it", "it is set by the provider only."),
        ),
        (
            Computed,
            Value::Unknown,
            one("it", "it is set by the provider only."),
        ),
        (Computed, Value::Null, vec![]),
        (Optional, Value::Null, vec![]),
    ] {
        let attribute = Attribute::string(presence, "x");
        assert_eq!(
            found(attribute, value.clone()),
            expected,
            "{presence:?} {value:?}"
        );
    }
}

#[test]
fn nested_attributes_are_judged_on_their_elements() {
    let nested = |nesting| {
        let children = [("host", Attribute::string(Required, "x").valid(lower()))];
        Attribute::nested(nesting, Optional, "x", children)
    };
    let host = |host: &str| Value::object([("host", Value::from(host))]);
    let bad = "Expected lower-case letters, for example \"shop\"; got \"B\".";
    for (nesting, value, expected) in [
        (Nesting::Single, host("B"), one("it.host", bad)),
        (
            Nesting::List,
            Value::List(vec![host("a"), host("B")]),
            one("it[1].host", bad),
        ),
        (
            Nesting::Map,
            Value::object([("k", host("B"))]),
            one("it[\"k\"].host", bad),
        ),
        (Nesting::Set, Value::Set(vec![host("B")]), one("it.host", bad)),
        (
            Nesting::List,
            Value::List(vec![Value::Null, Value::Unknown]),
            one("it[0]", "it[0] must be an object; it is null."),
        ),
        (
            Nesting::Map,
            Value::object([("k", Value::object([("host", Value::Null)]))]),
            one("it[\"k\"].host", "it[\"k\"].host must be set."),
        ),
    ] {
        assert_eq!(found(nested(nesting), value), expected);
    }
}

#[test]
fn a_sensitive_value_is_not_shown_nor_one_inside_a_sensitive_object() {
    let secret = Attribute::string(Optional, "x").valid(lower()).sensitive();
    let write_only = Attribute::string(Optional, "x").valid(lower()).write_only();
    let inside = Attribute::nested(
        Nesting::Single,
        Optional,
        "x",
        [("child", Attribute::string(Optional, "x").valid(lower()))],
    )
    .sensitive();
    let marker = Value::from("MARKER");
    for (attribute, value) in [
        (secret, marker.clone()),
        (write_only, marker.clone()),
        (inside, Value::object([("child", marker)])),
    ] {
        let found = found(attribute, value);
        assert_eq!(
            found[0].1,
            "Expected lower-case letters, for example \"shop\"; got another, sensitive value."
        );
    }
}

#[test]
fn a_long_value_is_cut() {
    let long = "X".repeat(1000);
    let found = found(Attribute::string(Optional, "x").valid(lower()), Value::from(long));
    assert!(found[0].1.len() < 200, "{found:?}");
    assert!(found[0].1.contains("1000 characters"), "{found:?}");
}

#[test]
fn a_write_only_value_needs_a_terraform_that_knows_of_it() {
    let schema = Schema::new(
        "x",
        [
            ("it", Attribute::string(Optional, "x").write_only()),
            ("other", Attribute::string(Optional, "x")),
        ],
    );
    let with = |it: Value| Value::object([("it", it), ("other", Value::from("x"))]);
    let paths = |config: Value| -> Vec<String> {
        write_only_unsupported(&schema, &config)
            .iter()
            .map(|diagnostic| diagnostic.attribute.to_string())
            .collect()
    };
    assert_eq!(paths(with(Value::from("s"))), ["it"]);
    assert_eq!(paths(with(Value::Null)), Vec::<String>::new());
}

#[test]
fn what_is_found_has_the_codes_of_the_schema_unless_it_has_its_own() {
    let schema = Schema::new("x", [("it", Attribute::string(Optional, "x").valid(lower()))]).faults_as("X-1");
    let own = Diagnostic::error("own", "", "").code("X-2");
    let config = Value::object([("it", Value::from("UPPER"))]);
    let codes: Vec<_> = with_own(&schema, &config, own.into())
        .iter()
        .map(|fault| fault.code)
        .collect();
    assert_eq!(codes, ["X-1", "X-2"]);
}
