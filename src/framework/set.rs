//! Sets: equal in any order, and written in one.

use super::value::Value;

/// Sets come sorted from the wire, so that comparing them in order is nearly always enough.
pub(super) fn same_elements(left: &[Value], right: &[Value]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    if left == right {
        return true;
    }
    let mut rest: Vec<&Value> = right.iter().collect();
    left.iter().all(|element| {
        rest.iter()
            .position(|candidate| *candidate == element)
            .map(|position| rest.swap_remove(position))
            .is_some()
    })
}

/// The set's elements in one order, each known one once.
pub fn sorted(items: Vec<Value>) -> Vec<Value> {
    let mut keyed: Vec<(String, Value)> = items.into_iter().map(|item| (sort_key(&item), item)).collect();
    keyed.sort_by(|(left, _), (right, _)| left.cmp(right));
    keyed.dedup_by(|(left_key, left), (right_key, right)| {
        left_key == right_key && left.is_wholly_known() && left == right
    });
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// Equal values have equal keys; strings sort by their bytes.
fn sort_key(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_canonical(),
        other => {
            let mut key = String::new();
            write_key(other, &mut key);
            key
        }
    }
}

fn write_key(value: &Value, key: &mut String) {
    match value {
        Value::Null => key.push('\u{0}'),
        Value::Unknown => key.push('\u{10FFFF}'),
        Value::Bool(value) => key.push(if *value { '1' } else { '0' }),
        Value::Number(number) => key.push_str(&number.to_canonical()),
        Value::String(text) => key.push_str(&format!("{text:?}")),
        Value::List(items) => {
            key.push('[');
            for item in items {
                write_key(item, key);
                key.push(',');
            }
            key.push(']');
        }
        Value::Set(items) => write_key(&Value::List(sorted(items.clone())), key),
        Value::Map(members) => {
            key.push('{');
            for (name, value) in members {
                key.push_str(&format!("{name:?}:"));
                write_key(value, key);
                key.push(',');
            }
            key.push('}');
        }
        Value::Dynamic(ty, value) => {
            key.push_str(&ty.to_json());
            write_key(value, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::value::Number;

    #[test]
    fn a_set_is_written_in_one_order_with_each_known_element_once() {
        let one = |text: &str| Value::from(Number::parse(text).expect(text));
        for (items, expected) in [
            (
                vec![Value::from("b"), Value::from("a"), Value::from("b")],
                vec![Value::from("a"), Value::from("b")],
            ),
            (vec![one("1.0"), one("1")], vec![one("1")]),
            (
                vec![Value::Unknown, Value::from("z"), Value::Unknown],
                vec![Value::from("z"), Value::Unknown, Value::Unknown],
            ),
        ] {
            assert_eq!(Value::List(sorted(items)), Value::List(expected));
        }
    }
}
