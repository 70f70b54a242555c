//! Who owns which fields of an object, from its `metadata.managedFields`. Pure.

use serde_json::Value;

/// A live object cut down to the fields that the manager's own applies own, plus `apiVersion`, `kind` and
/// `metadata.name`/`namespace`. `Null` where the manager owns nothing.
pub fn owned(_live: &Value, _manager: &str) -> Value {
    Value::Null
}

/// Who last wrote a field (or something in it), and when: manager and RFC 3339 time. The path is written as the API
/// server writes it in conflicts: `.spec.tls`, `.spec.template.spec.containers[name="sync"].image`.
pub fn last_editor(_live: &Value, _path: &str) -> Option<(String, String)> {
    None
}
