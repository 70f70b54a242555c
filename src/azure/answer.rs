//! One answer, and what it stands for. Pure.

use std::time::Duration;

use azure_core::http::headers::{HeaderName, Headers};
use bytes::Bytes;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::Error;
use super::envelope::Envelope;

/// An answer of any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
    pub(super) operation: &'static str,
    pub(super) target: String,
}

impl Answer {
    /// A header, by its lower-case name.
    pub(super) fn header(&self, name: &'static str) -> Option<&str> {
        self.headers.get_optional_str(&HeaderName::from_static(name))
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of a success as JSON.
    ///
    /// # Errors
    /// What the status stands for; [`Error::Unexpected`] if the body is no JSON.
    pub(super) fn json(&self) -> Result<Value, Error> {
        if !self.is_success() {
            return Err(self.refusal());
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| self.unexpected(&format!("the body is no JSON ({error})")))
    }

    /// As [`Answer::json`], with `None` for what does not exist: the object or the resource group it would be in. A
    /// subscription that cannot be found is an error, for it exists and is somewhere else.
    pub(super) fn json_if_found(&self) -> Result<Option<Value>, Error> {
        if self.status == 404 && self.envelope().code != "SubscriptionNotFound" {
            return Ok(None);
        }
        self.json().map(Some)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn envelope(&self) -> Envelope {
        Envelope::parse(&self.body)
    }

    /// How long the service asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let number = |name| self.header(name).and_then(|text| text.trim().parse::<u64>().ok());
        if let Some(milliseconds) = number("x-ms-retry-after-ms").or_else(|| number("retry-after-ms")) {
            return Some(Duration::from_millis(milliseconds));
        }
        if let Some(seconds) = number("retry-after") {
            return Some(Duration::from_secs(seconds));
        }
        let until = parse_http_date(self.header("retry-after")?)?;
        Duration::try_from(until - OffsetDateTime::now_utc()).ok()
    }

    /// The service's clock when it answered.
    pub(super) fn date(&self) -> Option<OffsetDateTime> {
        parse_http_date(self.header("date")?)
    }

    /// What a status that is no success stands for.
    pub(super) fn refusal(&self) -> Error {
        let envelope = self.envelope();
        let (operation, target) = (self.operation.to_owned(), self.target.clone());
        let request_id = self.header("x-ms-request-id").map(str::to_owned);
        let correlation_id = self.header("x-ms-correlation-request-id").map(str::to_owned);
        let action = envelope.action();
        let Envelope { code, message } = envelope;
        match self.status {
            403 => Error::Forbidden {
                operation,
                target,
                code,
                message,
                action,
                request_id,
                correlation_id,
            },
            // A lock and an unregistered provider are 409 too, but waiting does not help.
            409 | 412 if !["ScopeLocked", "MissingSubscriptionRegistration"].contains(&code.as_str()) => {
                Error::Conflict {
                    operation,
                    target,
                    code,
                    message,
                    request_id,
                    correlation_id,
                }
            }
            429 => {
                let retry_after = self.retry_after();
                Error::Throttled {
                    operation,
                    target,
                    code,
                    message,
                    retry_after,
                    request_id,
                    correlation_id,
                }
            }
            status => Error::Rejected {
                operation,
                target,
                status,
                code,
                message,
                request_id,
                correlation_id,
            },
        }
    }

    pub(super) fn unexpected(&self, reason: &str) -> Error {
        Error::Unexpected {
            operation: self.operation.to_owned(),
            target: self.target.clone(),
            reason: reason.to_owned(),
            request_id: self.header("x-ms-request-id").map(str::to_owned),
            correlation_id: self.header("x-ms-correlation-request-id").map(str::to_owned),
        }
    }

    /// Whether the service broke rather than decided, so that a write may have happened.
    pub(super) fn is_doubtful(&self) -> bool {
        self.status == 408 || self.status >= 500
    }
}

fn parse_http_date(text: &str) -> Option<OffsetDateTime> {
    // "Fri, 24 Apr 2026 02:41:08 GMT"; RFC 2822 wants a numeric zone or GMT.
    OffsetDateTime::parse(text.trim(), &Rfc2822).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    impl Answer {
        /// An answer as it was recorded.
        pub(in crate::azure) fn recorded(status: u16, headers: &[(&'static str, &str)], body: &str) -> Self {
            let mut all = Headers::new();
            for (name, value) in headers {
                all.insert(*name, (*value).to_owned());
            }
            Answer {
                status,
                headers: all,
                body: body.to_owned().into(),
                operation: "read cluster",
                target: "aks".into(),
            }
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        Answer::recorded(status, headers, body)
    }

    #[test]
    fn a_status_becomes_what_a_caller_can_do() {
        let body = r#"{"error":{"code":"C","message":"m"}}"#;
        assert!(matches!(
            answer(403, &[], body).refusal(),
            Error::Forbidden { .. }
        ));
        assert!(matches!(answer(409, &[], body).refusal(), Error::Conflict { .. }));
        assert!(matches!(answer(412, &[], body).refusal(), Error::Conflict { .. }));
        assert!(matches!(
            answer(400, &[], body).refusal(),
            Error::Rejected { status: 400, .. }
        ));
        let locked = r#"{"error":{"code":"ScopeLocked","message":"m"}}"#;
        assert!(matches!(
            answer(409, &[], locked).refusal(),
            Error::Rejected { status: 409, .. }
        ));
        let throttled = answer(429, &[("retry-after", "7")], body).refusal();
        assert!(
            matches!(throttled, Error::Throttled { retry_after: Some(d), .. } if d == Duration::from_secs(7))
        );
        let with_id = answer(
            403,
            &[("x-ms-request-id", "r"), ("x-ms-correlation-request-id", "c")],
            body,
        )
        .refusal();
        assert_eq!(
            (with_id.request_id(), with_id.correlation_id()),
            (Some("r"), Some("c"))
        );
    }

    #[test]
    fn absence_is_an_answer_but_a_missing_subscription_is_not_absence() {
        let absent = r#"{"error":{"code":"ResourceNotFound","message":"m"}}"#;
        assert_eq!(answer(404, &[], absent).json_if_found(), Ok(None));
        let lost = r#"{"error":{"code":"SubscriptionNotFound","message":"m"}}"#;
        assert!(matches!(
            answer(404, &[], lost).json_if_found(),
            Err(Error::Rejected { status: 404, .. })
        ));
    }

    #[test]
    fn the_wait_a_service_asks_for_is_read_in_every_form() {
        assert_eq!(
            answer(429, &[("x-ms-retry-after-ms", "50"), ("retry-after", "9")], "").retry_after(),
            Some(Duration::from_millis(50))
        );
        assert_eq!(
            answer(429, &[("retry-after", "7")], "").retry_after(),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            answer(429, &[("retry-after", "Fri, 24 Apr 2020 02:41:08 GMT")], "").retry_after(),
            None
        );
        assert_eq!(answer(429, &[], "").retry_after(), None);
        let dated = answer(200, &[("date", "Fri, 24 Apr 2026 02:41:08 GMT")], "");
        assert_eq!(dated.date(), Some(datetime!(2026-04-24 02:41:08 UTC)));
    }
}
