//! What holds for all values, and for all bytes. Every run tries the same ones; `PROPTEST_CASES` tries more.

use kvtls::framework::set::sorted;
use kvtls::framework::{Number, Type, Value};
use kvtls::tfplugin6::dynamic_value::{decode, encode};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Tries `test` on values of `strategy`: few unless asked for more, and the same every time.
fn for_all<S: Strategy>(strategy: &S, test: impl Fn(S::Value)) {
    let mut config = Config::default();
    if config.cases == 256 {
        config.cases = 100; // proptest's own default: nobody asked
    }
    config.failure_persistence = None;
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(strategy, |value| {
        test(value);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Bool),
        Just(Type::Number),
        Just(Type::String),
        Just(Type::Dynamic)
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(Type::list),
            inner.clone().prop_map(Type::set),
            inner.clone().prop_map(Type::map),
            btree_map("[a-c]{1,2}", inner.clone(), 0..3).prop_map(Type::Object),
            vec(inner, 0..3).prop_map(Type::Tuple),
        ]
    })
}

fn numbers() -> impl Strategy<Value = Number> {
    let parsed = |text: String| Number::parse(&text).expect("a number");
    prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64),
        "-?[0-9]{1,60}(\\.[0-9]{1,60})?".prop_map(parsed),
        "-?[1-9]e-?[0-9]{1,3}".prop_map(parsed),
        any::<bool>().prop_map(Number::infinite),
    ]
}

/// Values of a type; with unknown parts if `open`.
fn values(ty: &Type, open: bool) -> BoxedStrategy<Value> {
    let known = match ty {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::Number => numbers().prop_map(Value::Number).boxed(),
        Type::String => any::<String>().prop_map(Value::String).boxed(),
        Type::List(element) => vec(values(element, open), 0..4).prop_map(Value::List).boxed(),
        Type::Set(element) => vec(values(element, open), 0..4)
            .prop_map(|items| Value::Set(sorted(items)))
            .boxed(),
        Type::Map(element) => btree_map(".{0,4}", values(element, open), 0..4)
            .prop_map(Value::Map)
            .boxed(),
        Type::Object(members) => members
            .iter()
            .map(|(name, ty)| (Just(name.clone()), values(ty, open)))
            .collect::<Vec<_>>()
            .prop_map(|members| Value::Map(members.into_iter().collect()))
            .boxed(),
        Type::Tuple(elements) => elements
            .iter()
            .map(|ty| values(ty, open))
            .collect::<Vec<_>>()
            .prop_map(Value::List)
            .boxed(),
        Type::Dynamic => prop_oneof![Just(Type::Bool), Just(Type::list(Type::Number))]
            .prop_flat_map(move |ty| {
                let inner = values(&ty, open);
                (Just(ty), inner)
            })
            .prop_map(|(ty, value)| Value::Dynamic(Box::new(ty), Box::new(value)))
            .boxed(),
    };
    let unknown = if open { Value::Unknown } else { Value::Null };
    prop_oneof![8 => known, 1 => Just(Value::Null), 1 => Just(unknown)].boxed()
}

fn typed(open: bool) -> impl Strategy<Value = (Type, Value)> {
    types().prop_flat_map(move |ty| {
        let value = values(&ty, open);
        (Just(ty), value)
    })
}

#[test]
fn what_is_written_is_read_as_the_same() {
    for_all(&typed(true), |(ty, value)| {
        let bytes = encode(&ty, &value).expect("a value of the type");
        assert_eq!(decode(&ty, &bytes).expect("what was written"), value);
        let again = encode(&ty, &decode(&ty, &bytes).expect("what was written")).expect("the same");
        assert_eq!(again, bytes, "one value, one text");
    });
}

#[test]
fn no_bytes_cut_short_or_changed_do_harm() {
    let spoilt = (typed(true), any::<prop::sample::Index>(), any::<u8>());
    for_all(&spoilt, |((ty, value), at, byte)| {
        let mut bytes = encode(&ty, &value).expect("a value of the type");
        let at = at.index(bytes.len());
        drop(decode(&ty, &bytes[..at]));
        bytes[at] = byte;
        if let Ok(read) = decode(&ty, &bytes) {
            let written = encode(&ty, &read).expect("what was read");
            assert_eq!(decode(&ty, &written).expect("what was written"), read);
        }
        targets::messagepack(&bytes);
    });
}

/// A known value as Terraform stores it; infinity has no JSON.
fn json(value: &Value) -> Option<String> {
    let all = |items: &[Value]| items.iter().map(json).collect::<Option<Vec<_>>>();
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    Some(match value {
        Value::Null => "null".to_owned(),
        Value::Unknown => return None,
        Value::Bool(value) => value.to_string(),
        Value::Number(number) if number.is_infinite() => return None,
        Value::Number(number) => {
            let plain = number.to_plain();
            // JSON has no leading zeros.
            let (sign, digits) = plain
                .strip_prefix('-')
                .map_or(("", plain.as_str()), |rest| ("-", rest));
            let trimmed = digits.trim_start_matches('0');
            let zero = if trimmed.is_empty() || trimmed.starts_with('.') {
                "0"
            } else {
                ""
            };
            format!("{sign}{zero}{trimmed}")
        }
        Value::String(text) => quoted(text),
        Value::List(items) | Value::Set(items) => format!("[{}]", all(items)?.join(",")),
        Value::Map(members) => {
            let members: Option<Vec<_>> = members
                .iter()
                .map(|(key, value)| Some(format!("{}:{}", quoted(key), json(value)?)))
                .collect();
            format!("{{{}}}", members?.join(","))
        }
        Value::Dynamic(ty, value) => format!("{{\"value\":{},\"type\":{}}}", json(value)?, ty.to_json()),
    })
}

#[test]
fn what_is_stored_is_read_as_the_same() {
    for_all(&typed(false), |(ty, value)| {
        if let Some(text) = json(&value) {
            let read = Value::from_json(&ty, &text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(read, value, "{text}");
            targets::state(text.as_bytes());
        }
    });
}

#[test]
fn a_type_is_read_as_it_was_written() {
    for_all(&types(), |ty| {
        let text = ty.to_json();
        assert_eq!(Type::from_json(&text).expect("what was written"), ty);
        targets::types(text.as_bytes());
    });
}

#[test]
fn random_bytes_do_no_harm() {
    for_all(&vec(any::<u8>(), 0..400), |bytes| {
        targets::messagepack(&bytes);
        targets::state(&bytes);
        targets::types(&bytes);
    });
    for_all(&"[\\[\\]{}\",:0-9a-z ]{0,200}", |text| {
        targets::state(text.as_bytes());
        targets::types(text.as_bytes());
    });
}

/// What decoding may hold at its peak for each byte it is given, whether it succeeds or fails. The dearest byte seen takes
/// 122: a null of a list that is just growing, and so there twice.
const PEAK_OF_A_BYTE: u64 = 200;

/// What it may hold besides: the words of an error.
const PEAK_OF_ANY: u64 = 8 << 10;

/// Decodes as everything that comes from a host, and looks at the allocator.
fn stays_below_the_bound(bytes: &[u8]) {
    let length = u64::try_from(bytes.len()).expect("short");
    let bound = PEAK_OF_A_BYTE * length + PEAK_OF_ANY;
    let measured = |what: &str, decode: &dyn Fn()| {
        let peak = allocation_counter::measure(decode).bytes_max;
        assert!(peak <= bound, "{what}: {length} bytes made it hold {peak}");
    };
    for ty in targets::types_of_messagepack() {
        measured("MessagePack", &|| drop(decode(&ty, bytes)));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for ty in targets::types_of_state() {
            measured("state", &|| drop(Value::from_json(&ty, text)));
        }
        measured("type", &|| drop(Type::from_json(text)));
    }
}

#[test]
fn decoding_never_holds_more_than_the_bytes_justify() {
    // Headers that promise what does not follow.
    let ty = br#"["map",["list","string"]]"#;
    for promise in [
        &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0xc9, 0xff, 0xff, 0xff, 0xff, 0x0c],
        &[0x92, 0xc6, 0xff, 0xff, 0xff, 0xff],
    ] {
        stays_below_the_bound(promise);
        stays_below_the_bound(&[&[0x91][..], promise].concat());
        let dynamic = [&[0x92, 0xc4, 25][..], ty, promise].concat();
        stays_below_the_bound(&dynamic);
        stays_below_the_bound(&[&[0xdd, 0, 0, 0, 9][..], &dynamic].concat());
    }
    // Numbers that are longer than they look, and nesting.
    for text in [
        "1e999999999",
        "-1e-999999999",
        "[1e99999,1e99999]",
        "1e18446744073709551616",
    ] {
        stays_below_the_bound(text.as_bytes());
        let length = u8::try_from(text.len()).expect("short");
        stays_below_the_bound(&[&[0x91, 0xd9, length][..], text.as_bytes()].concat());
    }
    stays_below_the_bound("[".repeat(10_000).as_bytes());
    stays_below_the_bound("{\"a\":".repeat(10_000).as_bytes());
    stays_below_the_bound("[\"list\",".repeat(10_000).as_bytes());
    stays_below_the_bound(&[0x91; 10_000]);
    stays_below_the_bound(&[0x81; 10_000]);
    stays_below_the_bound(&[0xc0; 10_000]);
    stays_below_the_bound(&[&[0xdd, 0, 0, 0x27, 0x10][..], &[0xc0; 10_000]].concat());
    stays_below_the_bound(&[&[0xdd, 0, 0, 0x27, 0x0f][..], &[0xc0; 10_000]].concat());
    // And whatever else there is, whole, cut short and changed.
    for_all(&vec(any::<u8>(), 0..400), |bytes| stays_below_the_bound(&bytes));
    for_all(&"[\\[\\]{}\",:0-9a-z ]{0,200}", |text| {
        stays_below_the_bound(text.as_bytes())
    });
    let spoilt = (typed(true), any::<prop::sample::Index>(), any::<u8>());
    for_all(&spoilt, |((ty, value), at, byte)| {
        let mut bytes = encode(&ty, &value).expect("a value of the type");
        let at = at.index(bytes.len());
        stays_below_the_bound(&bytes[..at]);
        stays_below_the_bound(json(&value).unwrap_or_default().as_bytes());
        bytes[at] = byte;
        stays_below_the_bound(&bytes);
    });
}

#[test]
fn the_dearest_bytes_stay_within_the_bound() {
    let mut doubles = vec![0xdc, 0x01, 0x00];
    for _ in 0..256 {
        doubles.push(0xcb);
        doubles.extend(f64::from_bits(1).to_be_bytes());
    }
    let ty = br#"["list","number"]"#;
    let mut dynamic = vec![0x92, 0xc4, u8::try_from(ty.len()).expect("short")];
    dynamic.extend(ty);
    dynamic.extend(doubles);
    targets::messagepack(&dynamic);
    stays_below_the_bound(&dynamic);
    let mut nothing = vec![0xdd, 0x00, 0x01, 0x00, 0x00];
    nothing.extend([0xc0; 0x1_0000]);
    targets::messagepack(&nothing);
    stays_below_the_bound(&nothing);
    let strings = Type::list(Type::String);
    let peak = allocation_counter::measure(|| drop(decode(&strings, &nothing))).bytes_max;
    assert!(peak > 0x1_0000, "the allocator is heard: {peak}");
}

#[test]
fn what_nests_too_deeply_is_refused() {
    let deep = |depth: usize| {
        let text = format!("{}\"bool\"{}", "[\"list\",".repeat(depth), "]".repeat(depth));
        Type::from_json(&text)
    };
    assert!(deep(90).is_ok());
    assert!(deep(110).is_err());
    assert!(deep(100_000).is_err());
    let ty = deep(90).expect("a type");
    drop(decode(&ty, &[0x91; 100_000]));
    let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    drop(Value::from_json(&ty, &text));
    let mut dynamic = Vec::new();
    for _ in 0..1000 {
        dynamic.extend([0x92, 0xc4, 9]);
        dynamic.extend(br#""dynamic""#);
    }
    let error = decode(&Type::Dynamic, &dynamic).expect_err("too deep");
    assert_eq!(error.to_string(), "expected less nesting");
}
