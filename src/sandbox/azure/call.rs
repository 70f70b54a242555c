//! A call to ARM after the front-end let it through, and its reply.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use time::OffsetDateTime;

use super::path::{self, ArmPath};
use super::refusal::Refusal;
use super::tree;
use crate::sandbox::core::{Caller, Effect, StagedOutcome};
use crate::sandbox::http::{Answer, json as json_answer, whole};

/// A call that may be carried out.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: ArmPath,
    /// Path and query as they came, byte for byte.
    pub(super) target: String,
    pub(super) query: Option<String>,
    pub(super) version: String,
    pub(super) headers: HeaderMap,
    /// Null without a body.
    pub(super) body: Value,
    pub(super) caller: Caller,
    /// The `Host` the caller used.
    pub(super) asked_as: String,
    pub(super) now: OffsetDateTime,
    /// How the operation this call starts has to end, if a fault says so.
    pub(super) outcome: Option<StagedOutcome>,
}

impl Call {
    /// The region that the body asks for, in ARM's short form.
    pub(super) fn location(&self) -> Result<String, Refusal> {
        let location = tree::text(&self.body, "location")
            .replace(' ', "")
            .to_ascii_lowercase();
        if location.is_empty() {
            return Err(Refusal::gateway(
                StatusCode::BAD_REQUEST,
                "LocationRequired",
                "The location property is required for this definition.",
            ));
        }
        Ok(location)
    }

    /// The resource group of the path, empty without one.
    pub(super) fn group(&self) -> &str {
        self.path.group.as_deref().unwrap_or_default()
    }

    /// The subscription of the path, empty without one.
    pub(super) fn subscription(&self) -> &str {
        self.path.subscription.as_deref().unwrap_or_default()
    }

    /// The n-th name below the namespace.
    pub(super) fn name(&self, index: usize) -> &str {
        self.path.names().get(index).copied().unwrap_or_default()
    }

    /// A decoded member of the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        path::query(self.query.as_deref(), name)
    }

    /// The caller's object id and those of its groups.
    pub(super) fn principals(&self) -> Vec<String> {
        principals(&self.caller)
    }
}

/// A caller's object id and those of its groups.
pub(super) fn principals(caller: &Caller) -> Vec<String> {
    let own = std::iter::once(caller.oid.clone());
    own.chain(caller.groups.iter().cloned()).collect()
}

/// What is answered to a call that was carried out.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Option<Value>,
    headers: Vec<(&'static str, String)>,
    effect: Option<Effect>,
}

impl Reply {
    pub(super) fn new(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            body: Some(body),
            headers: Vec::new(),
            effect: None,
        }
    }

    pub(super) fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            body: None,
            headers: Vec::new(),
            effect: None,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// The answer; `charset` as most providers but AKS write it.
    pub(super) fn answer(self, charset: bool) -> Answer {
        let mut answer = match &self.body {
            Some(body) => json_answer(self.status, body),
            None => {
                let mut answer = Answer::new(whole(""));
                *answer.status_mut() = self.status;
                answer
            }
        };
        let headers = answer.headers_mut();
        if self.body.is_some() && charset {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json; charset=utf-8"),
            );
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if let Some(effect) = self.effect {
            answer.extensions_mut().insert(effect);
        }
        answer
    }
}

/// `2024-02-28T08:58:44.5381348Z` with this many digits of a second.
pub(super) fn stamp(at: OffsetDateTime, digits: u32) -> String {
    let (date, clock) = (at.date(), at.time());
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    if let Some(below) = 9_u32.checked_sub(digits)
        && digits > 0
    {
        let fraction = clock.nanosecond() / 10_u32.pow(below);
        text.push_str(&format!(".{fraction:0width$}", width = digits as usize));
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_the_digits_each_service_writes() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_709_110_724_538_134_800).unwrap();
        assert_eq!(stamp(at, 7), "2024-02-28T08:58:44.5381348Z");
        assert_eq!(stamp(at, 3), "2024-02-28T08:58:44.538Z");
        assert_eq!(stamp(at, 0), "2024-02-28T08:58:44Z");
    }
}
