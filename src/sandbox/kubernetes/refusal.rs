//! Refusals: the `Status` objects a Kubernetes API answers with when it does not do what it was asked.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::sandbox::http::{Answer, json as answer_json, text};

/// What came of a request's inner work.
pub(super) type Outcome<T> = Result<T, Refusal>;

/// A `Status` with `status: Failure`, or the plain text of a path that nobody serves.
#[derive(Clone, Debug)]
pub(super) struct Refusal(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: u16,
    reason: &'static str,
    message: String,
    details: Map<String, Value>,
    plain: bool,
    /// Shows `details` though there are none.
    bare: bool,
}

/// One field that is wrong: why, where, and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) field: String,
    pub(super) message: String,
}

impl Cause {
    /// A value that is not acceptable.
    pub(super) fn invalid(field: impl Into<String>, value: &Value, why: impl AsRef<str>) -> Self {
        let message = format!("Invalid value: {}: {}", shown(value), why.as_ref());
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message,
        }
    }

    /// A value that must be there.
    pub(super) fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            message,
        }
    }

    /// A value outside an enumeration.
    pub(super) fn unsupported(field: impl Into<String>, value: &Value, known: &[String]) -> Self {
        let known: Vec<_> = known.iter().map(|word| format!("{word:?}")).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            shown(value),
            known.join(", ")
        );
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message,
        }
    }

    /// A name that refers to nothing.
    pub(super) fn not_found(field: impl Into<String>, value: &str) -> Self {
        Self {
            reason: "FieldValueNotFound",
            field: field.into(),
            message: format!("Not found: {value:?}"),
        }
    }

    /// A value that may appear only once.
    pub(super) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {}", shown(value)),
        }
    }

    /// A value that must not be there.
    pub(super) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {why}"),
        }
    }

    fn json(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

/// A value as Go prints it in validation messages.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

impl Refusal {
    /// Any refusal.
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            reason,
            message: message.into(),
            details: Map::new(),
            plain: false,
            bare: false,
        }))
    }

    /// The text of the original's router for paths that nobody serves.
    pub(super) fn no_such_path() -> Self {
        let mut refusal = Self::new(404, "NotFound", "404 page not found");
        refusal.0.plain = true;
        refusal
    }

    /// 404 of a resource that a known version does not have.
    pub(super) fn no_such_resource() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .with_no_details()
    }

    /// 400.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401, as for a request without credentials.
    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 404 of an object; `resource` is `deployments.apps`.
    pub(super) fn not_found(resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found")).about(resource, name)
    }

    /// 409 on creation.
    pub(super) fn exists(resource: &str, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{resource} {name:?} already exists"),
        )
        .about(resource, name)
    }

    /// 409 on update.
    pub(super) fn conflict(resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// 403 of admission.
    pub(super) fn forbidden(resource: &str, name: &str, why: &str) -> Self {
        Self::new(
            403,
            "Forbidden",
            format!("{resource} {name:?} is forbidden: {why}"),
        )
        .about(resource, name)
    }

    /// 405.
    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message).with_no_details()
    }

    /// 406.
    pub(super) fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 415.
    pub(super) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 410 of a revision that is no longer remembered.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 500 without a reason, as for an error the original did not expect.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 501 in the sandbox's own words.
    pub(super) fn not_played(what: &str) -> Self {
        Self::new(501, "NotImplemented", format!("sandbox: {what}"))
    }

    /// 422 with its causes; `kind` is `Deployment.apps`.
    pub(super) fn invalid(kind: &str, name: &str, causes: &[Cause]) -> Self {
        // What is wrong twice is listed twice and said once.
        let mut all = Vec::new();
        for cause in causes {
            let words = format!("{}: {}", cause.field, cause.message);
            if !all.contains(&words) {
                all.push(words);
            }
        }
        let said = match all.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut refusal =
            Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {said}")).about(kind, name);
        let causes: Vec<_> = causes.iter().map(Cause::json).collect();
        refusal
            .0
            .details
            .insert("causes".to_owned(), Value::Array(causes));
        refusal
    }

    /// Names the object; `resource` is `plural.group` or `Kind.group`.
    pub(super) fn about(mut self, resource: &str, name: &str) -> Self {
        let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                self.0.details.insert(key.to_owned(), Value::from(value));
            }
        }
        self
    }

    /// `details` is there, and empty.
    pub(super) fn with_no_details(mut self) -> Self {
        self.0.bare = true;
        self
    }

    /// Adds a member to `details`.
    pub(super) fn with_detail(mut self, key: &str, value: Value) -> Self {
        self.0.details.insert(key.to_owned(), value);
        self
    }

    /// The `Status` object.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.0.message, "code": self.0.code,
        });
        if !self.0.reason.is_empty() {
            status["reason"] = Value::from(self.0.reason);
        }
        if self.0.bare || !self.0.details.is_empty() {
            status["details"] = Value::Object(self.0.details.clone());
        }
        status
    }

    /// The HTTP answer.
    pub(super) fn answer(&self) -> Answer {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.0.plain {
            text(code, format!("{}\n", self.0.message))
        } else {
            answer_json(code, &self.status())
        }
    }
}
