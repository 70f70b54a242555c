//! An API server's `Status`, read into [`Error`]. Pure.

use serde_json::Value;

use super::{Error, ObjectRef};

/// What an answer that is no success stands for. `object` is absent where a whole kind was asked for.
pub(super) fn error(
    verb: &str,
    subject: &str,
    object: Option<&ObjectRef>,
    status: u16,
    body: &[u8],
) -> Error {
    let answer: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let message = match answer.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().chars().take(300).collect(),
    };
    let (operation, verb, object_text) = (verb.to_owned(), verb.to_owned(), subject.to_owned());
    // A webhook refuses with whatever code it likes; what it means is that the object will not do.
    if message.contains("admission webhook") || message.contains("ValidatingAdmissionPolicy") {
        let causes = causes(&answer);
        return Error::Invalid {
            operation,
            object: object_text,
            causes,
            message,
        };
    }
    // An apply's unknown field is answered with 500, by the real API server, too.
    if let Some(field) = undeclared_field(&message) {
        let causes = vec![(field, "field not declared in schema".to_owned())];
        return Error::Invalid {
            operation,
            object: object_text,
            causes,
            message,
        };
    }
    match status {
        401 => Error::Unauthorized {
            operation,
            object: object_text,
            message,
        },
        403 if is_terminating(&answer) => Error::Terminating {
            operation,
            object: object_text,
            message,
        },
        403 => Error::Forbidden {
            verb,
            object: object_text,
            message,
        },
        404 => match missing_namespace(&answer, object) {
            Some(namespace) => Error::NamespaceMissing {
                operation,
                object: object_text,
                namespace,
            },
            None if is_not_served(&answer) => Error::NotServed {
                operation,
                object: object_text,
                message,
            },
            None => Error::Unexpected {
                operation,
                object: object_text,
                status,
                message,
            },
        },
        409 => Error::Conflict {
            operation,
            object: object_text,
            managers: conflicts(&answer),
            message,
        },
        400 | 422 => Error::Invalid {
            operation,
            object: object_text,
            causes: causes(&answer),
            message,
        },
        _ => Error::Unexpected {
            operation,
            object: object_text,
            status,
            message,
        },
    }
}

/// Whether a 404 is about the kind and not about an object: then its details name no object, or it is plain text.
pub(super) fn is_not_served(answer: &Value) -> bool {
    answer
        .pointer("/details/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
}

/// `failed to create typed patch object (…): .spec.x: field not declared in schema`
fn undeclared_field(message: &str) -> Option<String> {
    let rest = message.strip_prefix("failed to create typed patch object")?;
    let (_, rest) = rest.split_once("): ")?;
    rest.split(": ").next().map(str::to_owned)
}

fn missing_namespace(answer: &Value, object: Option<&ObjectRef>) -> Option<String> {
    let kind = answer.pointer("/details/kind").and_then(Value::as_str)?;
    let namespace = object?.namespace.as_ref()?;
    (kind == "namespaces").then(|| namespace.clone())
}

fn is_terminating(answer: &Value) -> bool {
    let causes = answer.pointer("/details/causes").and_then(Value::as_array);
    causes
        .into_iter()
        .flatten()
        .any(|cause| cause.get("reason").and_then(Value::as_str) == Some("NamespaceTerminating"))
}

fn pairs(answer: &Value) -> impl Iterator<Item = (&str, &str, &str)> {
    let causes = answer.pointer("/details/causes").and_then(Value::as_array);
    causes.into_iter().flatten().map(|cause| {
        let text = |key: &str| cause.get(key).and_then(Value::as_str).unwrap_or_default();
        (text("reason"), text("field"), text("message"))
    })
}

fn causes(answer: &Value) -> Vec<(String, String)> {
    pairs(answer)
        .map(|(_, field, message)| (field.to_owned(), message.to_owned()))
        .collect()
}

/// The other manager and the field of each conflict that a `Status` names.
pub fn conflicts(status: &Value) -> Vec<(String, String)> {
    let conflicts = pairs(status).filter(|(reason, _, _)| *reason == "FieldManagerConflict");
    conflicts
        .map(|(_, field, message)| {
            // conflict with "kubectl-edit" using networking.k8s.io/v1 at 2026-11-22T09:14:03Z
            let manager = message.split('"').nth(1).unwrap_or(message);
            (manager.to_owned(), field.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::INGRESS;
    use super::*;

    fn read(status: u16, body: &Value) -> Error {
        let object = INGRESS.named("shop", "web");
        error(
            "apply",
            &object.to_string(),
            Some(&object),
            status,
            body.to_string().as_bytes(),
        )
    }

    #[test]
    fn a_conflict_names_the_other_manager_and_the_field() {
        let body = json!({"kind": "Status", "reason": "Conflict", "message": "Apply failed with 1 conflict", "details": {"causes": [
            {"reason": "FieldManagerConflict", "field": ".spec.tls",
             "message": "conflict with \"kubectl-edit\" using networking.k8s.io/v1 at 2026-11-22T09:14:03Z"}]}});
        let Error::Conflict { managers, .. } = read(409, &body) else {
            panic!("no conflict")
        };
        assert_eq!(managers, [("kubectl-edit".to_owned(), ".spec.tls".to_owned())]);
        let stale = json!({"reason": "Conflict", "message": "the object has been modified"});
        assert!(matches!(read(409, &stale), Error::Conflict { managers, .. } if managers.is_empty()));
    }

    #[test]
    fn every_refusal_is_told_apart() {
        let namespace = json!({"reason": "NotFound", "message": "namespaces \"shop\" not found", "details": {"name": "shop", "kind": "namespaces"}});
        assert!(
            matches!(read(404, &namespace), Error::NamespaceMissing { namespace, .. } if namespace == "shop")
        );
        let kind = json!({"reason": "NotFound", "message": "the server could not find the requested resource", "details": {}});
        assert!(matches!(read(404, &kind), Error::NotServed { .. }));
        let object = INGRESS.named("shop", "web");
        let text = error("apply", "x", Some(&object), 404, b"404 page not found\n");
        assert!(matches!(text, Error::NotServed { message, .. } if message == "404 page not found"));
        let terminating = json!({"reason": "Forbidden", "message": "m", "details": {"causes": [{"reason": "NamespaceTerminating", "message": "m"}]}});
        assert!(matches!(read(403, &terminating), Error::Terminating { .. }));
        assert!(matches!(
            read(403, &json!({"message": "no"})),
            Error::Forbidden { .. }
        ));
        assert!(matches!(
            read(401, &json!({"message": "no"})),
            Error::Unauthorized { .. }
        ));
        let webhook = json!({"message": "admission webhook \"policy\" denied the request: no"});
        assert!(matches!(read(403, &webhook), Error::Invalid { .. }));
        let invalid = json!({"message": "invalid", "details": {"causes": [{"field": "spec.rules", "message": "Required value"}]}});
        assert!(matches!(read(422, &invalid), Error::Invalid { causes, .. } if causes[0].0 == "spec.rules"));
        assert!(matches!(
            read(400, &json!({"message": "strict decoding error: unknown field"})),
            Error::Invalid { .. }
        ));
        assert!(matches!(
            read(500, &json!({"message": "etcd"})),
            Error::Unexpected { status: 500, .. }
        ));
    }
}
