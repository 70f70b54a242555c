//! The one `send`: token, identification, repetition, redaction.
//!
//! `azure_core`'s pipeline carries each try: it sets `x-ms-client-request-id` and logs by allow-list, so neither tokens
//! nor the signatures of operation URLs reach a log. Repetition is ours, because what may be repeated depends on what
//! is asked: a read freely; a write only if the service says that it did not take it. A write whose answer was lost is
//! the caller's to resolve, by looking.

use std::sync::Arc;
use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{
    ClientOptions, Context, Method, Pipeline as CorePipeline, PipelineSendOptions, Request, RetryOptions,
    Transport,
};
use serde_json::Value;
use url::Url;

use super::answer::Answer;
use super::cloud::Cloud;
use super::credential::Credentials;
use super::{Cause, Error, Secret};

/// How often a request is sent at most. With doubling pauses the last one comes after about 16 s.
const TRIES: u32 = 6;
/// How often a connection is tried at most: what is not there after 3 s will not be there after 16.
const CONNECTS: u32 = 4;
/// The first pause is at most this long, each further one twice as long (full jitter).
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// No pause of our own is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// All pauses of one call together; a service that asks for more is reported as throttling.
const PATIENCE: Duration = Duration::from_secs(180);

/// Sends requests of one identity.
#[derive(Debug)]
pub(super) struct Pipeline {
    core: CorePipeline,
    credentials: Credentials,
}

/// One request, and what it is about. Without `Debug`, for an operation's URL is a secret.
#[derive(Clone)]
pub(super) struct Call {
    /// What is attempted, as "read cluster".
    pub(super) operation: &'static str,
    /// On what, for messages.
    pub(super) target: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) auth: Auth,
    pub(super) body: Option<Value>,
    /// A JSON body that nobody may see; in place of `body`.
    pub(super) secret_body: Option<Secret>,
    pub(super) if_match: Option<String>,
    pub(super) repeat: Repeat,
}

/// Whose token goes along.
#[derive(Clone, Debug)]
pub(super) enum Auth {
    /// None.
    Anonymous,
    /// One for a scope, of a tenant other than the configured one if given.
    Token { scope: String, tenant: Option<String> },
}

/// When a call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Whenever there is a chance: reads, and writes that come to the same when done twice.
    Freely,
    /// Only if it surely had no effect: no connection, or throttled.
    IfNotTaken,
}

impl Call {
    /// A read.
    pub(super) fn get(operation: &'static str, target: impl Into<String>, url: Url, auth: Auth) -> Self {
        let target = target.into();
        Self {
            operation,
            target,
            method: Method::Get,
            url,
            auth,
            body: None,
            secret_body: None,
            if_match: None,
            repeat: Repeat::Freely,
        }
    }

    /// A write that must not be repeated blindly.
    pub(super) fn write(
        operation: &'static str,
        target: impl Into<String>,
        method: Method,
        url: Url,
        auth: Auth,
    ) -> Self {
        Self {
            method,
            repeat: Repeat::IfNotTaken,
            ..Self::get(operation, target, url, auth)
        }
    }

    /// With a JSON body.
    pub(super) fn body(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// With a JSON body that holds a secret.
    pub(super) fn secret_body(self, body: Secret) -> Self {
        Self {
            secret_body: Some(body),
            ..self
        }
    }

    /// The same without a body, for a question that only wants to know whom to show a token.
    pub(super) fn without_body(self) -> Self {
        Self {
            body: None,
            secret_body: None,
            ..self
        }
    }

    /// Says that sending it twice does no harm.
    pub(super) fn repeatable(self) -> Self {
        Self {
            repeat: Repeat::Freely,
            ..self
        }
    }

    fn request(&self) -> Request {
        let mut request = Request::new(self.url.clone(), self.method);
        request.insert_header("accept", "application/json");
        if let Some(body) = &self.body {
            request.insert_header("content-type", "application/json");
            request.set_body(body.to_string());
        }
        if let Some(body) = &self.secret_body {
            request.insert_header("content-type", "application/json");
            request.set_body(body.expose().as_bytes().to_vec());
        }
        if let Some(tag) = &self.if_match {
            request.insert_header("if-match", tag.clone());
        }
        request
    }

    fn may_repeat(&self, status: u16) -> bool {
        match status {
            429 => true,
            408 | 500 | 502 | 503 | 504 => self.repeat == Repeat::Freely,
            _ => false,
        }
    }
}

/// Adds who we are to every request.
#[derive(Debug)]
struct Identify {
    user_agent: String,
    correlation_id: String,
}

#[async_trait::async_trait]
impl Policy for Identify {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        request.insert_header("user-agent", self.user_agent.clone());
        request.insert_header("x-ms-correlation-request-id", self.correlation_id.clone());
        // `azure_core` guarantees a transport after every policy.
        next[0].send(ctx, request, &next[1..]).await
    }
}

impl Pipeline {
    pub(super) fn new(
        transport: Transport,
        credentials: Credentials,
        user_agent: String,
        correlation_id: String,
    ) -> Self {
        let options = ClientOptions {
            transport: Some(transport),
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        let identify: Arc<dyn Policy> = Arc::new(Identify {
            user_agent,
            correlation_id,
        });
        let (name, version) = (Some(env!("CARGO_PKG_NAME")), Some(env!("CARGO_PKG_VERSION")));
        let core = CorePipeline::new(name, version, options, Vec::new(), vec![identify], None);
        Self { core, credentials }
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Sends a call and gives the answer, of whatever status, once it is the service's last word.
    ///
    /// # Errors
    /// [`Error::Credential`]; [`Error::Unreachable`] if there was no answer.
    pub(super) async fn send(&self, cloud: &Cloud, call: &Call) -> Result<Answer, Error> {
        let mut waited = Duration::ZERO;
        let mut renewed = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = self.once(cloud, call).await;
            let asked = match &outcome {
                Ok(answer) if answer.status == 401 && !renewed && self.renew(call).await => {
                    renewed = true;
                    continue;
                }
                Ok(answer) if call.may_repeat(answer.status) => answer.retry_after(),
                Err(Failure::NotSent(_)) if tries < CONNECTS => None,
                Err(Failure::Lost(_)) if call.repeat == Repeat::Freely => None,
                Ok(_) | Err(_) => return outcome.map_err(Failure::into_error),
            };
            let pause = asked.map_or_else(
                || jitter(backoff(tries)),
                |asked| asked + jitter(Duration::from_millis(500)),
            );
            if tries >= TRIES || waited + pause > PATIENCE {
                return outcome.map_err(Failure::into_error);
            }
            let status = outcome.as_ref().map_or(0, |answer| answer.status);
            tracing::debug!(
                operation = call.operation,
                target = call.target,
                status,
                tries,
                ?pause,
                "will ask again"
            );
            tokio::time::sleep(pause).await;
            waited += pause;
        }
    }

    /// Drops the token of a call, if it has one; says whether there was one.
    async fn renew(&self, call: &Call) -> bool {
        match &call.auth {
            Auth::Anonymous => false,
            Auth::Token { scope, tenant } => {
                self.credentials.forget(scope, tenant.as_deref()).await;
                true
            }
        }
    }

    async fn once(&self, cloud: &Cloud, call: &Call) -> Result<Answer, Failure> {
        let mut request = call.request();
        if let Auth::Token { scope, tenant } = &call.auth {
            let token = self
                .credentials
                .token(cloud, scope, tenant.as_deref())
                .await
                .map_err(Failure::Credential)?;
            request.insert_header("authorization", format!("Bearer {}", token.secret()));
        }
        let options = PipelineSendOptions {
            skip_checks: true,
            ..PipelineSendOptions::default()
        };
        match self.core.send(&Context::new(), &mut request, Some(options)).await {
            Ok(response) => {
                let (status, headers, body) = response.deconstruct();
                Ok(Answer {
                    status: status.into(),
                    headers,
                    body: body.into(),
                    operation: call.operation,
                    target: call.target.clone(),
                })
            }
            Err(error) => {
                let unreachable = Error::Unreachable {
                    operation: call.operation.to_owned(),
                    target: call.url.host_str().unwrap_or_default().to_owned(),
                    source: Cause::of(&error),
                };
                match error.kind() {
                    ErrorKind::Connection => Err(Failure::NotSent(unreachable)),
                    _ => Err(Failure::Lost(unreachable)),
                }
            }
        }
    }
}

/// Why there is no answer.
enum Failure {
    Credential(Error),
    /// No connection: the service never saw it.
    NotSent(Error),
    /// The service may have seen it.
    Lost(Error),
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Self::Credential(error) | Self::NotSent(error) | Self::Lost(error) => error,
        }
    }
}

fn backoff(tries: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << tries.saturating_sub(1).min(10))
        .min(LONGEST_PAUSE)
}

/// Any moment up to the given one: callers that failed together do not come back together.
pub(super) fn jitter(most: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness all wait alike, which is slower, not wrong.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return most;
    }
    most.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

/// Waits between two looks at something that takes its time: what the service asks for, else 5 to 10 s (AKS throttles
/// faster callers).
pub(super) async fn pause(asked: Option<Duration>) {
    let pause = asked.unwrap_or_else(|| Duration::from_secs(5) + jitter(Duration::from_secs(5)));
    tokio::time::sleep(pause.min(Duration::from_secs(120))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_taken_is_sent_again_when_it_is_a_write() {
        let url = Url::parse("https://arm.local/x").unwrap();
        let read = Call::get("read", "x", url.clone(), Auth::Anonymous);
        let write = Call::write("write", "x", Method::Put, url, Auth::Anonymous);
        let rows = [
            (429, true, true),
            (503, true, false),
            (500, true, false),
            (409, false, false),
            (404, false, false),
        ];
        for (status, reads, writes) in rows {
            assert_eq!(
                (read.may_repeat(status), write.may_repeat(status)),
                (reads, writes),
                "{status}"
            );
        }
    }

    #[test]
    fn pauses_double_and_stay_bounded() {
        assert_eq!(backoff(1), Duration::from_millis(500));
        assert_eq!(backoff(3), Duration::from_secs(2));
        assert_eq!(backoff(40), LONGEST_PAUSE);
        assert!((0..100).all(|_| jitter(Duration::from_secs(1)) <= Duration::from_secs(1)));
    }
}
