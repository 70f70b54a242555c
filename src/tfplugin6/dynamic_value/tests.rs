//! A row is a type, bytes as Terraform sends them, the value they are, and the bytes it leaves as.

use super::*;
use std::collections::BTreeMap;

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

fn strings(items: &[&str]) -> Vec<Value> {
    items.iter().map(|item| Value::from(*item)).collect()
}

#[test]
fn a_value_is_read_and_leaves_as_it_came() {
    let double = |value: f64| [&[0xcb][..], &value.to_be_bytes()].concat();
    let short = |text: &str| {
        let length = 0xa0 | u8::try_from(text.len()).expect("short");
        [&[length][..], text.as_bytes()].concat()
    };
    let pair = object(&[("a", Type::String), ("b", Type::Bool)]);
    for (ty, bytes, expected) in [
        (Type::String, vec![0xc0], Value::Null),
        (Type::String, vec![0xd4, 0, 0], Value::Unknown),
        (Type::Bool, vec![0xc3], Value::from(true)),
        (Type::Bool, vec![0xc2], Value::from(false)),
        (Type::String, short("ä"), Value::from("ä")),
        (Type::Number, vec![0x07], number("7")),
        (Type::Number, vec![0xe0], number("-32")),
        (Type::Number, vec![0xcc, 0xff], number("255")),
        (Type::Number, vec![0xd1, 0x80, 0x00], number("-32768")),
        (
            Type::Number,
            vec![0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0],
            number("-9223372036854775808"),
        ),
        (Type::Number, double(1.5), number("1.5")),
        (Type::Number, double(-0.5), number("-0.5")),
        (Type::Number, short("0.1"), number("0.1")),
        (
            Type::Number,
            short("18446744073709551615"),
            number("18446744073709551615"),
        ),
        (
            Type::Number,
            short("1000000000000000000000000000000"),
            number("1e30"),
        ),
        (
            Type::Number,
            short("123456789.123456789"),
            number("123456789.123456789"),
        ),
        (
            Type::list(Type::String),
            vec![0x92, 0xa1, b'b', 0xa1, b'a'],
            Value::List(strings(&["b", "a"])),
        ),
        (
            Type::set(Type::String),
            vec![0x92, 0xa1, b'a', 0xa1, b'b'],
            Value::Set(strings(&["b", "a"])),
        ),
        (
            Type::set(Type::String),
            vec![0x92, 0xa1, b'a', 0xd4, 0, 0],
            Value::Set(vec![Value::from("a"), Value::Unknown]),
        ),
        (
            Type::map(Type::Bool),
            vec![0x81, 0xa1, b'k', 0xc3],
            Value::object([("k", Value::from(true))]),
        ),
        (
            Type::Tuple(vec![Type::String, Type::Bool]),
            vec![0x92, 0xa1, b'x', 0xc3],
            Value::List(vec![Value::from("x"), Value::from(true)]),
        ),
        (
            pair,
            vec![0x82, 0xa1, b'a', 0xc0, 0xa1, b'b', 0xd4, 0, 0],
            Value::object([("a", Value::Null), ("b", Value::Unknown)]),
        ),
        (
            Type::Dynamic,
            [&[0x92, 0xc4, 8][..], b"\"string\"", &[0xa1, b'x']].concat(),
            Value::Dynamic(Box::new(Type::String), Box::new(Value::from("x"))),
        ),
        (
            Type::Dynamic,
            [&[0x92, 0xc4, 8][..], b"\"string\"", &[0xd4, 0, 0]].concat(),
            Value::Dynamic(Box::new(Type::String), Box::new(Value::Unknown)),
        ),
        (Type::Dynamic, vec![0xc0], Value::Null),
        (Type::Dynamic, vec![0xd4, 0, 0], Value::Unknown),
        (Type::list(Type::String), vec![0xd4, 0, 0], Value::Unknown),
    ] {
        let read = decode(&ty, &bytes).unwrap_or_else(|error| panic!("{bytes:x?}: {error}"));
        assert_eq!(read, expected, "{bytes:x?}");
        assert_eq!(encode(&ty, &read).expect("of its type"), bytes, "{read:?}");
    }
}

#[test]
fn other_forms_are_accepted_and_leave_in_the_one_form() {
    let refined = rmpv::Value::Ext(
        12,
        rmpv_bytes(&rmpv::Value::Map(vec![
            (1.into(), false.into()),
            (2.into(), "pre-".into()),
        ])),
    );
    for (ty, bytes, expected) in [
        (Type::Number, vec![0xcf, 0, 0, 0, 0, 0, 0, 0, 7], vec![0x07]),
        (Type::Number, vec![0xca, 0x3f, 0x80, 0, 0], vec![0x01]),
        (Type::Number, vec![0xa1, b'7'], vec![0x07]),
        (
            Type::Number,
            rmpv_bytes(&u64::MAX.into()),
            [&[0xb4][..], b"18446744073709551615"].concat(),
        ),
        (Type::String, vec![0xc4, 1, b'x'], vec![0xa1, b'x']),
        (Type::String, vec![0xd9, 1, b'x'], vec![0xa1, b'x']),
        (Type::String, rmpv_bytes(&refined), UNKNOWN.to_vec()),
        (Type::String, vec![0xc7, 2, 99, 0, 0], UNKNOWN.to_vec()),
        (Type::Bool, vec![0xc3, 0xff, 0xff], vec![0xc3]),
        (Type::Bool, vec![], vec![0xc0]),
        (
            Type::set(Type::String),
            vec![0x93, 0xa1, b'b', 0xa1, b'a', 0xa1, b'b'],
            vec![0x92, 0xa1, b'a', 0xa1, b'b'],
        ),
        (
            Type::map(Type::Bool),
            vec![0x82, 0xa1, b'k', 0xc3, 0xa1, b'k', 0xc2],
            vec![0x81, 0xa1, b'k', 0xc2],
        ),
    ] {
        let read = decode(&ty, &bytes).unwrap_or_else(|error| panic!("{bytes:x?}: {error}"));
        assert_eq!(encode(&ty, &read).expect("of its type"), expected, "{bytes:x?}");
    }
}

fn rmpv_bytes(value: &rmpv::Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("memory");
    bytes
}

#[test]
fn a_fraction_is_a_double_only_if_the_double_is_exactly_it() {
    let tiny = 2.0_f64.powi(-60);
    let came = [&[0xcb][..], &tiny.to_be_bytes()].concat();
    let read = decode(&Type::Number, &came).expect("a double");
    assert_eq!(encode(&Type::Number, &read).expect("a number"), came);

    let nearly = [&[0xcb][..], &0.1_f64.to_be_bytes()].concat();
    let read = decode(&Type::Number, &nearly).expect("a double");
    assert_ne!(read, number("0.1"), "the double nearest to 0.1 is another number");
    assert_eq!(encode(&Type::Number, &read).expect("a number"), nearly);
    assert_eq!(
        encode(&Type::Number, &number("0.1")).expect("a number"),
        [&[0xa3][..], b"0.1"].concat()
    );
    assert_eq!(
        encode(&Type::Number, &number("2.5e-1")).expect("a number"),
        [&[0xcb][..], &0.25_f64.to_be_bytes()].concat()
    );
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let pair = || object(&[("a", Type::String), ("b", Type::list(Type::Bool))]);
    for (ty, bytes, words) in [
        (Type::Bool, vec![0x01], "expected a bool"),
        (Type::String, vec![0xc3], "expected a string"),
        (Type::String, vec![0xa2, 0xff, 0xff], "expected UTF-8"),
        (Type::Number, vec![0xa1, b'x'], "expected a number"),
        (
            Type::Number,
            [&[0xcb][..], &f64::NAN.to_be_bytes()].concat(),
            "expected a number",
        ),
        (
            Type::Tuple(vec![Type::Bool]),
            vec![0x92, 0xc3, 0xc3],
            "expected a tuple of the type's length",
        ),
        (
            pair(),
            vec![0x81, 0xa1, b'a', 0xc0],
            "expected an object with exactly the attributes of the schema",
        ),
        (
            pair(),
            vec![0x82, 0xa1, b'a', 0xc0, 0xa1, b'c', 0xc0],
            "expected known attributes only",
        ),
        (
            pair(),
            vec![0x82, 0xa1, b'a', 0xc0, 0xa1, b'a', 0xc0],
            "expected each attribute once",
        ),
        (
            pair(),
            vec![0x82, 0xa1, b'a', 0xc0, 0xa1, b'b', 0x92, 0xc3, 0x00],
            "b[1]: expected a bool",
        ),
        (
            Type::map(Type::Bool),
            vec![0x81, 0xa1, b'k', 0x00],
            "[\"k\"]: expected a bool",
        ),
        (
            Type::map(Type::Bool),
            vec![0x81, 0x01, 0xc3],
            "expected a string as key",
        ),
        (Type::Dynamic, vec![0x92, 0xc4, 1, b'x', 0xc0], "expected a type"),
        (Type::Dynamic, vec![0x91, 0xc0], "expected a type and a value"),
        (Type::String, vec![0xc1], "expected MessagePack"),
        (
            Type::String,
            vec![0xdb, 0xff, 0xff, 0xff, 0xff, b'x'],
            "expected more bytes",
        ),
        (
            Type::list(Type::Bool),
            vec![0xdd, 0xff, 0xff, 0xff, 0xff],
            "expected more bytes",
        ),
        (
            Type::map(Type::Bool),
            vec![0xdf, 0xff, 0xff, 0xff, 0xff],
            "expected more bytes",
        ),
        (
            Type::String,
            vec![0xc9, 0xff, 0xff, 0xff, 0xff, 0, 0],
            "expected more bytes",
        ),
    ] {
        let error = decode(&ty, &bytes).expect_err(words);
        assert_eq!(error.to_string(), words, "{bytes:x?}");
    }
}

#[test]
fn nesting_without_end_is_refused() {
    // A dynamic value of dynamic type holds a dynamic value of dynamic type …
    let layer = [&[0x92, 0xc4, 9][..], b"\"dynamic\""].concat();
    let bytes = layer.repeat(100_000);
    assert_eq!(
        decode(&Type::Dynamic, &bytes).map_err(|error| error.to_string()),
        Err("expected less nesting".to_owned())
    );
}

#[test]
fn a_value_of_another_kind_is_not_written() {
    let error = encode(&Type::list(Type::Bool), &Value::List(vec![Value::from("marker")]));
    assert_eq!(
        error.map_err(|error| error.to_string()),
        Err("a string cannot be written as a bool".to_owned())
    );
}

#[test]
fn a_missing_attribute_is_written_as_null_and_a_surplus_one_not_at_all() {
    let ty = object(&[("a", Type::String)]);
    let value = Value::object([("b", Value::from("x"))]);
    assert_eq!(
        encode(&ty, &value).expect("an object"),
        vec![0x81, 0xa1, b'a', 0xc0]
    );
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn text(&mut self) -> String {
        (0..self.below(5))
            .map(|_| char::from(b'a' + self.byte() % 26))
            .collect()
    }
}

fn random_type(random: &mut Random, depth: usize) -> Type {
    match random.below(if depth == 0 { 3 } else { 9 }) {
        0 => Type::Bool,
        1 => Type::Number,
        2 => Type::String,
        3 => Type::list(random_type(random, depth - 1)),
        4 => Type::set(random_type(random, depth - 1)),
        5 => Type::map(random_type(random, depth - 1)),
        6 => Type::Tuple(
            (0..random.below(4))
                .map(|_| random_type(random, depth - 1))
                .collect(),
        ),
        7 => Type::Dynamic,
        _ => Type::Object(
            (0..random.below(4))
                .map(|_| (random.text(), random_type(random, depth - 1)))
                .collect(),
        ),
    }
}

fn random_value(random: &mut Random, ty: &Type) -> Value {
    match random.below(8) {
        0 => return Value::Null,
        1 => return Value::Unknown,
        _ => {}
    }
    match ty {
        Type::Bool => Value::from(random.below(2) == 0),
        Type::Number => {
            let digits = format!("{}{}", random.next(), random.next());
            let cut = random.below(digits.len()).max(1);
            let (whole, fraction) = digits.split_at(cut);
            match random.below(4) {
                0 => Value::from(i64::from_be_bytes(random.next().to_be_bytes())),
                1 => Value::from(Number::from_f64(f64::from_bits(random.next() >> 2)).expect("finite")),
                2 => number(whole),
                _ => number(&format!("-{whole}.{fraction}")),
            }
        }
        Type::String => Value::from(random.text()),
        Type::List(element) => Value::List(
            (0..random.below(4))
                .map(|_| random_value(random, element))
                .collect(),
        ),
        Type::Set(element) => Value::Set(sorted(
            (0..random.below(4))
                .map(|_| random_value(random, element))
                .collect(),
        )),
        Type::Tuple(types) => Value::List(types.iter().map(|ty| random_value(random, ty)).collect()),
        Type::Map(element) => {
            Value::object((0..random.below(4)).map(|_| (random.text(), random_value(random, element))))
        }
        Type::Object(attributes) => Value::Map(
            attributes
                .iter()
                .map(|(name, ty)| (name.clone(), random_value(random, ty)))
                .collect::<BTreeMap<_, _>>(),
        ),
        Type::Dynamic => {
            let ty = random_type(random, 1);
            let value = random_value(random, &ty);
            Value::Dynamic(Box::new(ty), Box::new(value))
        }
    }
}

#[test]
fn any_value_of_any_type_comes_back_as_it_left() {
    let mut random = Random(0x5eed);
    for round in 0..3_000 {
        let ty = random_type(&mut random, 3);
        let value = random_value(&mut random, &ty);
        let bytes = encode(&ty, &value).unwrap_or_else(|error| panic!("round {round}: {error}: {value:?}"));
        let read = decode(&ty, &bytes).unwrap_or_else(|error| panic!("round {round}: {error}: {value:?}"));
        assert_eq!(read, value, "round {round}, {ty:?}");
        assert_eq!(
            encode(&ty, &read).expect("the same value"),
            bytes,
            "round {round}"
        );
    }
}

/// Neither noise nor a damaged message may panic; what is accepted must be a value of the type.
#[test]
fn hostile_bytes_are_an_error_or_a_value_of_the_type() {
    let mut random = Random(0xbad_5eed);
    let mut accepted = 0;
    for round in 0..20_000 {
        let ty = random_type(&mut random, 3);
        let mut bytes = if round % 2 == 0 {
            (0..random.below(64)).map(|_| random.byte()).collect()
        } else {
            let value = random_value(&mut random, &ty);
            encode(&ty, &value).expect("a value of its type")
        };
        for _ in 0..random.below(4) {
            let position = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(position) {
                *byte = random.byte();
            }
        }
        if let Ok(value) = decode(&ty, &bytes) {
            accepted += 1;
            assert!(
                crate::framework::contract::has_shape(&ty, &value),
                "round {round}: {ty:?} {value:?}"
            );
        }
    }
    assert!(
        accepted > 1_000,
        "the loop must reach the values, not only the errors: {accepted}"
    );
}

#[test]
fn infinity_is_a_number_that_passes_through() {
    for value in [f64::INFINITY, f64::NEG_INFINITY] {
        let came = [&[0xcb][..], &value.to_be_bytes()].concat();
        let read = decode(&Type::Number, &came).expect("a number");
        assert_eq!(encode(&Type::Number, &read).expect("a number"), came);
    }
    assert_ne!(Number::infinite(true), Number::infinite(false));
    assert_ne!(Number::infinite(false), number_of("1e9999"));
}

fn number_of(text: &str) -> Number {
    Number::parse(text).expect("a number")
}
