//! What can go wrong with Azure, grouped by what a caller can do about it.
//!
//! Not found is no error: reads answer `Option`. What the service said is kept whole (status, code, message, request
//! and correlation ID), because it is what support asks for.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::time::Duration;

/// A failed call. `Display` is one clause without the cause; [`Error::service_said`] has the service's own words.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// No credential gave a token. Nothing was sent to the service.
    #[error("no credential gave a token for Azure")]
    Credential {
        /// Each credential in the order tried, and why it did not do.
        tried: Vec<Tried>,
    },
    /// The settings cannot be used: an unknown cloud, an endpoint that is no https URL, a trust store that cannot be read.
    #[error("the Azure settings cannot be used: {reason}")]
    Settings {
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// No answer came: name resolution, connection, TLS, a proxy that refused, or a time-out. A write may have arrived.
    #[error("{operation} got no answer from {target}")]
    Unreachable {
        /// What was attempted, as "read cluster".
        operation: String,
        /// The host.
        target: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The service asked to slow down, longer than a call here waits.
    #[error("{operation} on {target} was throttled")]
    Throttled {
        /// What was attempted.
        operation: String,
        /// On what.
        target: String,
        /// The service's code.
        code: String,
        /// The service's words.
        message: String,
        /// How long it asked to wait, if it said so.
        retry_after: Option<Duration>,
        /// The service's ID of the request.
        request_id: Option<String>,
        /// Our ID of all requests of this process.
        correlation_id: Option<String>,
    },
    /// The caller lacks a right.
    #[error("{operation} on {target} is not allowed")]
    Forbidden {
        /// What was attempted.
        operation: String,
        /// On what.
        target: String,
        /// The service's code, the innermost one where several are given (`ForbiddenByFirewall`).
        code: String,
        /// The service's words.
        message: String,
        /// The action that is missing, as role definitions name it, where the service named it.
        action: Option<String>,
        /// The service's ID of the request.
        request_id: Option<String>,
        /// Our ID of all requests of this process.
        correlation_id: Option<String>,
    },
    /// Something else changes the same thing, and kept doing so for as long as a call here waits.
    #[error("{operation} on {target} conflicts with another operation")]
    Conflict {
        /// What was attempted.
        operation: String,
        /// On what.
        target: String,
        /// The service's code.
        code: String,
        /// The service's words.
        message: String,
        /// The service's ID of the request.
        request_id: Option<String>,
        /// Our ID of all requests of this process.
        correlation_id: Option<String>,
    },
    /// The service understood and refused.
    #[error("{operation} on {target} was refused with status {status}")]
    Rejected {
        /// What was attempted.
        operation: String,
        /// On what.
        target: String,
        /// The HTTP status.
        status: u16,
        /// The service's code.
        code: String,
        /// The service's words.
        message: String,
        /// The service's ID of the request.
        request_id: Option<String>,
        /// Our ID of all requests of this process.
        correlation_id: Option<String>,
    },
    /// The cluster is in a state in which it must not be written to: failed, stopped, being deleted.
    #[error("{target} is {state}")]
    NotReady {
        /// What was attempted.
        operation: String,
        /// The cluster.
        target: String,
        /// Its state in words, as "stopped".
        state: String,
    },
    /// A long-running operation was accepted and ended badly.
    #[error("{operation} on {target} was accepted but ended as {status}")]
    OperationFailed {
        /// What was attempted.
        operation: String,
        /// On what.
        target: String,
        /// `Failed` or `Canceled`.
        status: String,
        /// The service's code.
        code: String,
        /// The service's words.
        message: String,
        /// The service's ID of the request that told so.
        request_id: Option<String>,
        /// Our ID of all requests of this process.
        correlation_id: Option<String>,
    },
    /// The answer was not what the service's documentation promises.
    #[error("{operation} on {target} got an answer that cannot be used: {reason}")]
    Unexpected {
        /// What was attempted.
        operation: String,
        /// On what.
        target: String,
        /// What is wrong with it.
        reason: String,
        /// The service's ID of the request.
        request_id: Option<String>,
        /// Our ID of all requests of this process.
        correlation_id: Option<String>,
    },
}

/// A credential that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its name, as "client secret".
    pub name: String,
    /// Why it gave no token, and what to set if it should.
    pub outcome: String,
}

/// The texts of an error and its causes, without what URLs carry behind the question mark. Unlike the errors it is
/// made from it can be kept, compared and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    /// Keeps the texts of an error and of all its causes.
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        Self {
            text: without_queries(&error.to_string()),
            source: error.source().map(|next| Box::new(Self::of(next))),
        }
    }

    /// A cause in our own words.
    pub fn text(text: &str) -> Self {
        Self {
            text: without_queries(text),
            source: None,
        }
    }

    /// All texts, outermost first, without repetitions.
    pub fn chain(&self) -> String {
        let mut text = self.text.clone();
        let mut next = self.source.as_deref();
        while let Some(cause) = next {
            if !text.contains(&cause.text) {
                text = format!("{text}: {}", cause.text);
            }
            next = cause.source.as_deref();
        }
        text
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// Cuts the query of every URL in a text: an operation's URL carries its signature there.
pub(super) fn without_queries(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let end = rest[start..]
            .find(|c: char| c.is_whitespace() || "\"')>".contains(c))
            .map_or(rest.len(), |i| start + i);
        let url = &rest[..end];
        match url[start..].find('?') {
            Some(query) => {
                kept.push_str(&url[..start + query]);
                kept.push_str("?(redacted)");
            }
            None => kept.push_str(url),
        }
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

impl Error {
    /// The service's ID of the failed request, where there was an answer.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Throttled { request_id, .. }
            | Self::Forbidden { request_id, .. }
            | Self::Conflict { request_id, .. }
            | Self::Rejected { request_id, .. }
            | Self::OperationFailed { request_id, .. }
            | Self::Unexpected { request_id, .. } => request_id.as_deref(),
            Self::Credential { .. }
            | Self::Settings { .. }
            | Self::Unreachable { .. }
            | Self::NotReady { .. } => None,
        }
    }

    /// The correlation ID of the failed request, where there was an answer.
    pub fn correlation_id(&self) -> Option<&str> {
        match self {
            Self::Throttled { correlation_id, .. }
            | Self::Forbidden { correlation_id, .. }
            | Self::Conflict { correlation_id, .. }
            | Self::Rejected { correlation_id, .. }
            | Self::OperationFailed { correlation_id, .. }
            | Self::Unexpected { correlation_id, .. } => correlation_id.as_deref(),
            Self::Credential { .. }
            | Self::Settings { .. }
            | Self::Unreachable { .. }
            | Self::NotReady { .. } => None,
        }
    }

    /// The service's code, where it gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Throttled { code, .. }
            | Self::Forbidden { code, .. }
            | Self::Conflict { code, .. }
            | Self::Rejected { code, .. }
            | Self::OperationFailed { code, .. } => Some(code.as_str()).filter(|code| !code.is_empty()),
            Self::Credential { .. }
            | Self::Settings { .. }
            | Self::Unreachable { .. }
            | Self::NotReady { .. }
            | Self::Unexpected { .. } => None,
        }
    }

    /// What was said, in the words of whoever said it, as a part of a sentence.
    pub fn service_said(&self) -> String {
        let said = self.words();
        said.trim_end_matches(['.', ';', ' ']).to_owned()
    }

    fn words(&self) -> String {
        match self {
            Self::Credential { tried } => {
                let lines = tried
                    .iter()
                    .map(|each| format!("{}: {}", each.name, each.outcome));
                lines.collect::<Vec<_>>().join("\n")
            }
            Self::Settings { reason } | Self::Unexpected { reason, .. } => reason.clone(),
            Self::Unreachable { source, .. } => source.chain(),
            Self::NotReady { target, state, .. } => format!("{target} is {state}"),
            Self::Throttled { code, message, .. } => said(429, code, message),
            Self::Forbidden { code, message, .. } => said(403, code, message),
            Self::Conflict { code, message, .. } => said(409, code, message),
            Self::Rejected {
                status,
                code,
                message,
                ..
            } => said(*status, code, message),
            Self::OperationFailed {
                status,
                code,
                message,
                ..
            } => format!("{status}: {code}: {message}"),
        }
    }

    /// Whether the caller lacks a right.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }

    /// Whether the caller has no usable credential at all.
    pub fn is_credential(&self) -> bool {
        matches!(self, Self::Credential { .. })
    }
}

fn said(status: u16, code: &str, message: &str) -> String {
    if code.is_empty() {
        format!("{status}: {message}")
    } else {
        format!("{status} {code}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queries_of_urls_are_cut() {
        let text = "error sending request for url (https://arm.example/operations/1?t=1&c=MII&s=sig) after https://x/y";
        assert_eq!(
            without_queries(text),
            "error sending request for url (https://arm.example/operations/1?(redacted)) after https://x/y"
        );
        assert_eq!(without_queries("why? because"), "why? because");
    }

    #[test]
    fn a_cause_keeps_the_whole_chain() {
        let inner = std::io::Error::other("connection refused");
        let outer = std::io::Error::other(Wrapped(inner));
        assert_eq!(Cause::of(&outer).chain(), "outer: connection refused");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Wrapped(#[source] std::io::Error);

    #[test]
    fn a_forbidden_call_says_what_the_service_said() {
        let error = Error::Forbidden {
            operation: "read cluster".into(),
            target: "aks-prod".into(),
            code: "AuthorizationFailed".into(),
            message: "no".into(),
            action: None,
            request_id: Some("r".into()),
            correlation_id: None,
        };
        assert_eq!(error.to_string(), "read cluster on aks-prod is not allowed");
        assert_eq!(error.service_said(), "403 AuthorizationFailed: no");
        assert_eq!(
            (error.request_id(), error.code(), error.is_forbidden()),
            (Some("r"), Some("AuthorizationFailed"), true)
        );
    }
}
