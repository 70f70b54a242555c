//! How Azure says no: status, code and words, in the envelope of whoever says it.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::sandbox::http::{Answer, json as json_answer};

/// Who refuses, which decides the envelope and the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// ARM itself: wrapped, with `x-ms-failure-cause: gateway`.
    Gateway,
    /// A resource provider: wrapped.
    Provider,
    /// AKS: members at the top, no wrapper.
    Aks,
    /// The Key Vault data plane: wrapped, its own headers are added by its front.
    Vault,
}

/// A request that is not carried out.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) voice: Voice,
    pub(super) code: String,
    pub(super) message: String,
    /// `innererror.code`, for Key Vault.
    pub(super) inner: Option<&'static str>,
    /// More members of the error: `details`, `subcode`, `additionalInfo`.
    pub(super) more: Value,
}

impl Refusal {
    fn new(status: StatusCode, voice: Voice, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            voice,
            code: code.into(),
            message: message.into(),
            inner: None,
            more: Value::Null,
        }
    }

    pub(super) fn gateway(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(status, Voice::Gateway, code, message)
    }

    pub(super) fn provider(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(status, Voice::Provider, code, message)
    }

    pub(super) fn aks(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        let refusal = Self::new(status, Voice::Aks, code, message);
        refusal.with(json!({"details": null, "subcode": ""}))
    }

    pub(super) fn vault(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(status, Voice::Vault, code, message)
    }

    /// Adds `innererror`.
    pub(super) fn inner(mut self, code: &'static str) -> Self {
        self.inner = Some(code);
        self
    }

    /// Adds members beside code and message.
    pub(super) fn with(mut self, more: Value) -> Self {
        self.more = more;
        self
    }

    /// A path, a method or a member that this sandbox does not play.
    pub(super) fn unplayed(what: &str) -> Self {
        Self::gateway(
            StatusCode::NOT_IMPLEMENTED,
            "SandboxNotImplemented",
            format!("sandbox: {what} is not part of this world"),
        )
    }

    /// `ResourceNotFound`, as ARM words it.
    pub(super) fn resource_not_found(kind: &str, name: &str, group: &str) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "ResourceNotFound",
            format!(
                "The Resource '{kind}/{name}' under resource group '{group}' was not found. For more details please \
                 go to https://aka.ms/ARMResourceNotFoundFix"
            ),
        )
    }

    /// The answer's body.
    pub(super) fn body(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(error), Value::Object(more)) = (error.as_object_mut(), &self.more) {
            error.extend(more.clone());
        }
        if let (Some(error), Some(inner)) = (error.as_object_mut(), self.inner) {
            error.insert("innererror".to_owned(), json!({"code": inner}));
        }
        if self.voice == Voice::Aks {
            error
        } else {
            json!({"error": error})
        }
    }

    /// The answer.
    pub(super) fn answer(&self) -> Answer {
        let mut answer = json_answer(self.status, &self.body());
        let headers = answer.headers_mut();
        if self.voice != Voice::Aks {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json; charset=utf-8"),
            );
        }
        if self.voice == Voice::Gateway {
            headers.insert("x-ms-failure-cause", HeaderValue::from_static("gateway"));
        }
        answer
    }
}
