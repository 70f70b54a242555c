use super::super::{Attribute, Nesting, Presence, Schema, validate};
use super::*;

const NAMES: &[&str] = &["a", "b", "c"];

fn schema(constraint: Constraint) -> Schema {
    let text = || Attribute::string(Presence::Optional, "Text.");
    Schema::new("A thing.", [("a", text()), ("b", text()), ("c", text())]).constrained(constraint)
}

/// `x` is set, `?` unknown, `-` not set.
fn object(written: &str) -> Value {
    let values = written.chars().map(|it| match it {
        'x' => Value::from("x"),
        '?' => Value::Unknown,
        _ => Value::Null,
    });
    Value::object(NAMES.iter().copied().zip(values))
}

#[test]
fn a_constraint_is_broken_where_no_unknown_value_could_keep_it() {
    for (constraint, kept, broken) in [
        (
            Constraint::exactly_one_of(NAMES),
            ["x--", "--x", "x?-", "??-", "?--"].as_slice(),
            ["---", "xx-", "x?x", "xxx"].as_slice(),
        ),
        (
            Constraint::at_most_one_of(NAMES),
            &["---", "x--", "x??", "???"],
            &["xx-", "x?x"],
        ),
        (
            Constraint::at_least_one_of(NAMES),
            &["x--", "xx-", "xxx", "--?"],
            &["---"],
        ),
        (
            Constraint::all_or_none_of(NAMES),
            &["---", "xxx", "x??", "?--", "???"],
            &["x--", "xx-", "x?-"],
        ),
        (
            Constraint::first_needs_rest(NAMES),
            &["---", "xxx", "x??", "-x-", "-xx", "?--"],
            &["x--", "xx-", "x-?"],
        ),
    ] {
        let schema = schema(constraint.clone());
        for (rows, errors) in [(kept, 0), (broken, 1)] {
            for row in rows {
                let found = validate::config(&schema, &object(row));
                assert_eq!(found.iter().count(), errors, "{constraint}: {row}: {found:?}");
            }
        }
    }
}

#[test]
fn a_broken_constraint_says_what_is_set_and_what_to_do() {
    let judged = |constraint: Constraint, written: &str| {
        let found = validate::config(&schema(constraint), &object(written));
        let told = found.into_iter().next().expect("a fault");
        (told.attribute.to_string(), told.detail, told.fix, told.code)
    };
    let told =
        |at: &str, detail: &str, fix: &str, code| (at.to_owned(), detail.to_owned(), fix.to_owned(), code);
    assert_eq!(
        judged(Constraint::exactly_one_of(NAMES), "---"),
        told(
            "",
            "Exactly one of a, b and c must be set; none is set.",
            "Set a, b or c.",
            ""
        )
    );
    assert_eq!(
        judged(
            Constraint::at_most_one_of(NAMES)
                .because("They are the same thing.")
                .code("E1"),
            "x-x"
        ),
        told(
            "c",
            "At most one of a, b and c may be set; a and c are set. They are the same thing.",
            "Keep one of a and c.",
            "E1"
        )
    );
    assert_eq!(
        judged(Constraint::first_needs_rest(NAMES).fix("Set b."), "x-?"),
        told("a", "a needs b and c; a is set.", "Set b.", "")
    );
    assert_eq!(
        judged(Constraint::all_or_none_of(NAMES), "-x-"),
        told(
            "b",
            "a, b and c are set together or not at all; b is set.",
            "Set a and c, too.",
            ""
        )
    );
}

#[test]
fn each_object_is_judged_where_it_stands_and_an_unwritten_block_is_not_set() {
    let member = |presence| Attribute::string(presence, "Text.");
    let rule = Attribute::nested(
        Nesting::Map,
        Presence::Optional,
        "Rules.",
        [
            ("a", member(Presence::Optional)),
            ("b", member(Presence::Optional)),
        ],
    )
    .constrained(Constraint::exactly_one_of(&["a", "b"]));
    let block = Attribute::blocks(Nesting::List, "Blocks.", [("a", member(Presence::Required))]);
    let schema = Schema::new(
        "A thing.",
        [
            ("rules", rule),
            ("block", block),
            ("other", member(Presence::Optional)),
        ],
    )
    .constrained(Constraint::at_least_one_of(&["block", "other"]));
    let config = Value::object([
        (
            "rules",
            Value::Map(
                [
                    ("good".to_owned(), Value::object([("a", Value::from("x"))])),
                    ("later".to_owned(), Value::Unknown),
                    ("neither".to_owned(), Value::object([("a", Value::Null)])),
                ]
                .into(),
            ),
        ),
        ("block", Value::List(Vec::new())),
        ("other", Value::Null),
    ]);
    let found = validate::config(&schema, &config);
    let at: Vec<String> = found.iter().map(|it| it.attribute.to_string()).collect();
    assert_eq!(at, ["", "rules[\"neither\"]"], "{found:?}");
    assert_eq!(validate::config(&schema, &schema.nothing()).iter().count(), 1);
}

#[test]
fn a_constraint_that_means_nothing_is_found() {
    let faulty = Schema::new(
        "A thing.",
        [
            ("a", Attribute::string(Presence::Optional, "A.")),
            ("made", Attribute::string(Presence::Computed, "Made.")),
            ("must", Attribute::string(Presence::Required, "Must.")),
        ],
    )
    .constrained(Constraint::exactly_one_of(&["a"]))
    .constrained(Constraint::exactly_one_of(&["a", "a", "gone", "made", "must"]));
    assert_eq!(
        faulty.check(),
        [
            "a constraint is about two attributes or more: [\"a\"]",
            "a constraint names a twice",
            "a constraint names gone, which is not there",
            "a constraint names made, which only the provider sets",
            "a constraint names must, which is always set",
        ]
    );
}
