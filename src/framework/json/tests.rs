//! A row is a type, a text and the value it is.

use super::*;

fn number(text: &str) -> Value {
    Value::Number(Number::parse(text).expect(text))
}

fn object(attributes: &[(&str, Type)]) -> Type {
    Type::Object(
        attributes
            .iter()
            .map(|(name, ty)| ((*name).to_owned(), ty.clone()))
            .collect(),
    )
}

#[test]
fn the_type_decides_how_json_is_read() {
    let pair = object(&[("a", Type::String), ("b", Type::Bool)]);
    for (ty, text, expected) in [
        (Type::String, "\"x\"", Value::from("x")),
        (Type::String, " null ", Value::Null),
        (Type::Bool, "true", Value::from(true)),
        (
            Type::list(Type::String),
            "[\"b\",\"a\"]",
            Value::from(vec!["b", "a"]),
        ),
        (
            Type::set(Type::String),
            "[\"b\",\"a\",\"b\"]",
            Value::Set(vec![Value::from("a"), Value::from("b")]),
        ),
        (
            Type::map(Type::Bool),
            "{\"k\":false}",
            Value::object([("k", Value::from(false))]),
        ),
        (
            Type::Tuple(vec![Type::String, Type::Bool]),
            "[\"x\",true]",
            Value::List(vec![Value::from("x"), Value::from(true)]),
        ),
        (
            Type::Dynamic,
            "{\"value\":[\"x\"],\"type\":[\"list\",\"string\"]}",
            Value::Dynamic(
                Box::new(Type::list(Type::String)),
                Box::new(Value::from(vec!["x"])),
            ),
        ),
        // Older state: missing is null, surplus is ignored, pretty-printed or not.
        (
            pair.clone(),
            "{\n  \"a\": \"x\",\n  \"gone\": {\"deep\": []}\n}",
            Value::object([("a", Value::from("x")), ("b", Value::Null)]),
        ),
        (Type::Bool, "\"true\"", Value::from(true)),
        (Type::Bool, "\"0\"", Value::from(false)),
        (Type::String, "true", Value::from("true")),
        (Type::String, "12.50", Value::from("12.50")),
        (Type::Number, "\"7\"", number("7")),
    ] {
        let read = Value::from_json(&ty, text);
        assert_eq!(read.ok(), Some(expected), "{text}");
    }
}

#[test]
fn a_number_of_any_size_is_read_to_its_last_digit() {
    for text in [
        "123456789012345678901234567890.123456789",
        "0.1",
        "1e30",
        "-9223372036854775809",
    ] {
        let read = Value::from_json(&Type::Number, text).expect(text);
        assert!(
            matches!(&read, Value::Number(number) if number.as_str() == text),
            "{read:?}"
        );
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_place_and_without_its_value() {
    let list = object(&[("hosts", Type::list(Type::Number))]);
    for (ty, text, words) in [
        (list, "{\"hosts\":[1,\"marker\"]}", "hosts[1]: expected a number"),
        (Type::Bool, "\"marker\"", "expected a bool"),
        (Type::String, "{\"marker\":1}", "expected a string"),
        (Type::map(Type::String), "[]", "expected a map"),
        (
            Type::Tuple(vec![Type::String]),
            "[]",
            "expected a tuple of another length",
        ),
        (
            Type::Dynamic,
            "{\"value\":1}",
            "expected an object with type and value",
        ),
        (Type::Number, "1e99999", "expected a number"),
        (Type::String, "\"unclosed", "expected JSON"),
        (Type::String, "", "expected JSON"),
    ] {
        let error = Value::from_json(&ty, text).expect_err(text).to_string();
        assert_eq!(error, words);
        assert!(!error.contains("marker"));
    }
}

#[test]
fn a_type_is_written_as_terraform_writes_it_and_read_back() {
    let ty = object(&[
        ("z", Type::list(Type::Number)),
        ("a", Type::Tuple(vec![Type::Bool, Type::Dynamic])),
        ("m", Type::map(Type::set(Type::String))),
    ]);
    let json = ty.to_json();
    assert_eq!(
        json,
        r#"["object",{"a":["tuple",["bool","dynamic"]],"m":["map",["set","string"]],"z":["list","number"]}]"#
    );
    assert_eq!(Type::from_json(&json).ok(), Some(ty));
    assert_eq!(
        Type::from_json(r#"["object",{"a":"string"},["a"]]"#).ok(),
        Some(object(&[("a", Type::String)]))
    );
}

#[test]
fn what_is_not_a_type_is_refused() {
    for text in [
        "",
        "\"strng\"",
        "[]",
        "[\"list\"]",
        "[\"object\",[]]",
        "{}",
        "1",
        "[\"map\",null]",
    ] {
        assert!(Type::from_json(text).is_err(), "{text}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep_type = format!(
        "{}\"string\"{}",
        "[\"list\",".repeat(MAX_DEPTH),
        "]".repeat(MAX_DEPTH)
    );
    assert!(Type::from_json(&deep_type).is_err());
    let mut dynamic = "null".to_owned();
    for _ in 0..=MAX_DEPTH {
        dynamic = format!("{{\"type\":\"dynamic\",\"value\":{dynamic}}}");
    }
    assert!(Value::from_json(&Type::Dynamic, &dynamic).is_err());
}
