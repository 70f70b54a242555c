//! What the controller manager does, as far as Deployments, `DaemonSets`, Services, namespaces and ownership go.
//!
//! Each controller is an actor of its own, so that one that cannot proceed does not hold up the others. Where a real
//! controller manager runs, none of them does, and [`awaited`] says what it has still to do.

pub(super) mod awaited;
pub(super) mod daemon_sets;
pub(super) mod deployments;
pub(super) mod endpoints;
pub(super) mod garbage;
pub(super) mod namespaces;
pub(super) mod replica_sets;
mod rollout;

use serde_json::{Value, json};

use super::objects::{at, entries};

/// Letters of generated names: no vowels, so no words; what Kubernetes uses.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A suffix that depends on nothing.
pub(super) fn random_suffix() -> String {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    letters(high, 5)
}

/// A suffix that depends on `value` alone.
pub(super) fn hash_of(value: &Value) -> String {
    // FNV-1a, over the canonical text: serde_json orders the members of an object.
    let hash = value
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    letters(hash, 10)
}

fn letters(mut number: u64, length: usize) -> String {
    let base = LETTERS.len() as u64;
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        let index = usize::try_from(number % base).unwrap_or_default();
        text.push(char::from(LETTERS[index]));
        number /= base;
    }
    text
}

/// A pod as a controller makes it of a template.
fn pod_of(template: &Value, namespace: &str, generate_name: &str, owner: &Value) -> Value {
    let labels = at(template, "/metadata/labels").clone();
    let annotations = at(template, "/metadata/annotations").clone();
    let mut metadata = json!({
        "name": format!("{generate_name}{}", random_suffix()), "generateName": generate_name,
        "namespace": namespace, "labels": labels, "ownerReferences": [owner],
    });
    if entries(&annotations, "").next().is_some() {
        metadata["annotations"] = annotations;
    }
    json!({"metadata": metadata, "spec": template["spec"]})
}

/// A counter as a status carries it: zero is left out.
fn counter(count: usize) -> Value {
    if count == 0 { Value::Null } else { count.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_template_does_not_depend_on_the_order_of_its_members() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{"b":2,"a":1}"#).unwrap();
        assert_eq!(hash_of(&one), hash_of(&other));
        assert_ne!(hash_of(&one), hash_of(&json!({"a": 1, "b": 3})));
        assert_eq!(hash_of(&one).len(), 10);
    }
}
