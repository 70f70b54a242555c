//! Operations that are accepted first and end later.
//!
//! The URL is Azure's own business: it carries a signature, is sent back byte for byte, and is never logged. A token
//! goes only to the host the write went to.

use serde_json::Value;
use url::Url;

use super::answer::Answer;
use super::envelope::Envelope;
use super::pipeline::{Auth, Call, pause};
use super::{Azure, Error};

/// The URL to poll that the answer to a write gives, if it gives one.
fn operation_url(answer: &Answer) -> Option<&str> {
    answer
        .header("azure-asyncoperation")
        .or_else(|| answer.header("location"))
}

/// Whether two URLs are of the same server.
pub(super) fn same_server(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

impl Azure {
    /// Waits until the operation that `answer` began has ended. No operation: nothing to wait for. The caller bounds
    /// the wait by dropping it.
    ///
    /// # Errors
    /// [`Error::OperationFailed`]; those of reading.
    pub(super) async fn until_done(&self, call: &Call, answer: &Answer) -> Result<(), Error> {
        let Some(text) = operation_url(answer) else {
            return Ok(());
        };
        let url = Url::parse(text)
            .map_err(|error| answer.unexpected(&format!("the operation's URL is no URL ({error})")))?;
        if !same_server(&url, &call.url) {
            let host = url.host_str().unwrap_or_default();
            return Err(answer.unexpected(&format!("the operation's URL points to another server ({host})")));
        }
        let poll = Call::get(call.operation, call.target.clone(), url, call.auth.clone());
        let mut asked = answer.retry_after();
        loop {
            pause(asked).await;
            let answer = self.send(&poll).await?;
            if answer.status == 404 {
                // Forgotten, so it has ended: what it was about tells how.
                return Ok(());
            }
            if answer.status == 202 {
                asked = answer.retry_after();
                continue;
            }
            let body = answer.json()?;
            match status(&body).to_ascii_lowercase().as_str() {
                // May carry an error all the same, when a later operation overtook this one: the status decides.
                "succeeded" => return Ok(()),
                "failed" | "canceled" | "cancelled" => return Err(failed(&answer, call, &body)),
                state => tracing::debug!(
                    operation = call.operation,
                    target = call.target,
                    state,
                    "still under way"
                ),
            }
            asked = answer.retry_after();
        }
    }
}

fn status(body: &Value) -> &str {
    let status = body
        .get("status")
        .or_else(|| body.pointer("/properties/provisioningState"));
    status.and_then(Value::as_str).unwrap_or("Succeeded")
}

fn failed(answer: &Answer, call: &Call, body: &Value) -> Error {
    let Envelope { code, message } = Envelope::of_json(body);
    Error::OperationFailed {
        operation: call.operation.to_owned(),
        target: call.target.clone(),
        status: status(body).to_owned(),
        code,
        message,
        request_id: answer.header("x-ms-request-id").map(str::to_owned),
        correlation_id: answer.header("x-ms-correlation-request-id").map(str::to_owned),
    }
}

/// The next page of a list.
///
/// # Errors
/// [`Error::Unexpected`] if it is on another server, which a token must not go to.
pub(super) fn next_page(page: &Value, call: &Call, answer: &Answer) -> Result<Option<Call>, Error> {
    let Some(text) = page
        .get("nextLink")
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let url = Url::parse(text)
        .map_err(|error| answer.unexpected(&format!("the next page's URL is no URL ({error})")))?;
    if !same_server(&url, &call.url) {
        return Err(answer.unexpected("the next page is on another server"));
    }
    let auth: Auth = call.auth.clone();
    Ok(Some(Call::get(call.operation, call.target.clone(), url, auth)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_stays_with_its_server() {
        let rows = [
            ("https://arm.local/a", "https://arm.local:443/b?s=1", true),
            ("https://arm.local/a", "https://arm.local:444/a", false),
            ("https://arm.local/a", "http://arm.local/a", false),
            ("https://arm.local/a", "https://arm.local.evil.example/a", false),
        ];
        for (one, other, expected) in rows {
            assert_eq!(
                same_server(&Url::parse(one).unwrap(), &Url::parse(other).unwrap()),
                expected,
                "{other}"
            );
        }
    }

    #[test]
    fn the_status_decides_even_beside_an_error() {
        let body = json!({"status": "Succeeded", "error": {"code": "NotLatestOperation", "message": "x"}});
        assert_eq!(status(&body), "Succeeded");
        assert_eq!(
            status(&json!({"properties": {"provisioningState": "Updating"}})),
            "Updating"
        );
    }
}
