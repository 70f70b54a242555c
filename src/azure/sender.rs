//! One request and its answer, sent again while that makes sense.
//!
//! `azure_core`'s pipeline carries each try: it sets `x-ms-client-request-id` and logs by allow-list, so neither tokens
//! nor the signatures of operation URLs reach a log. Repetition is ours, because what may be repeated depends on what
//! is asked. [`super::pipeline`] adds tokens; the credentials, which make them, send without.

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::error::ErrorKind;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{
    ClientOptions, Context, Pipeline as CorePipeline, PipelineSendOptions, Request, RetryOptions, Transport,
};

use super::answer::Answer;
use super::pipeline::{Call, Repeat, jitter};
use super::throttle::Throttles;
use super::{Cause, Error};

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

/// How we show ourselves in every request.
#[derive(Clone, Debug)]
pub(super) struct Signature {
    pub(super) user_agent: String,
    /// None is sent where it is switched off.
    pub(super) correlation_id: Option<String>,
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Sender {
    core: CorePipeline,
    throttles: Throttles,
}

/// A header that only one call has, by its lower-case name.
pub(super) type Header = (&'static str, String);

impl Sender {
    pub(super) fn new(transport: Transport, signature: Signature) -> Self {
        let options = ClientOptions {
            transport: Some(transport),
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        let sign: Arc<dyn Policy> = Arc::new(Sign(signature));
        let (name, version) = (Some(env!("CARGO_PKG_NAME")), Some(env!("CARGO_PKG_VERSION")));
        let core = CorePipeline::new(name, version, options, Vec::new(), vec![sign], None);
        Self {
            core,
            throttles: Throttles::default(),
        }
    }

    /// Sends a call without a token and gives the answer, of whatever status, once it is the service's last word.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if there was no answer.
    pub(super) async fn send(&self, call: &Call, headers: &[Header]) -> Result<Answer, Error> {
        let mut tries = self.tries(call);
        loop {
            tries.take_turn().await;
            let outcome = self.once(call, headers).await;
            if tries.is_last(&outcome).await {
                return outcome.map_err(Failure::into_error);
            }
        }
    }

    /// Counts the tries of a call.
    pub(super) fn tries<'a>(&'a self, call: &'a Call) -> Tries<'a> {
        Tries {
            call,
            throttles: &self.throttles,
            waited: Duration::ZERO,
            count: 0,
        }
    }

    /// Sends a call once.
    pub(super) async fn once(&self, call: &Call, headers: &[Header]) -> Result<Answer, Failure> {
        let mut request = call.request();
        for (name, value) in headers {
            request.insert_header(*name, value.clone());
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

/// How often one call was sent, and how long it waited in between.
pub(super) struct Tries<'a> {
    call: &'a Call,
    throttles: &'a Throttles,
    waited: Duration,
    count: u32,
}

impl Tries<'_> {
    /// Waits where the service asked everybody to, and counts a try.
    pub(super) async fn take_turn(&mut self) {
        self.count += 1;
        let Some(rest) = self.throttles.rest(&self.call.url, Instant::now()) else {
            return;
        };
        // All wait for the same moment: they come back one after the other, not together.
        let pause = rest + jitter(FIRST_PAUSE.max(rest / 4));
        // A service that asks for too much may say so itself.
        if self.waited + pause <= PATIENCE {
            tracing::debug!(
                operation = self.call.operation,
                target = self.call.target,
                ?pause,
                "throttled together"
            );
            tokio::time::sleep(pause).await;
            self.waited += pause;
        }
    }

    /// Whether this is what the call ends with. If not, it has waited for its next try.
    pub(super) async fn is_last(&mut self, outcome: &Result<Answer, Failure>) -> bool {
        let call = self.call;
        let asked = match outcome {
            Ok(answer) if call.may_repeat(answer.status) => answer.retry_after(),
            Err(Failure::NotSent(_)) if self.count < CONNECTS => None,
            Err(Failure::Lost(_)) if call.repeat != Repeat::IfNotTaken => None,
            Ok(_) | Err(_) => return true,
        };
        let longest = asked.unwrap_or_else(|| backoff(self.count));
        if self.count >= TRIES || self.waited + longest > PATIENCE {
            return true;
        }
        let status = outcome.as_ref().map_or(0, |answer| answer.status);
        let pause = match asked {
            // Waited for together with everybody else, when it is our turn.
            Some(asked) if status == 429 => {
                self.throttles.pause(&call.url, asked, Instant::now());
                Duration::ZERO
            }
            Some(asked) => asked + jitter(FIRST_PAUSE),
            None => jitter(backoff(self.count)),
        };
        tracing::debug!(
            operation = call.operation,
            target = call.target,
            status,
            tries = self.count,
            ?asked,
            ?pause,
            "will ask again"
        );
        tokio::time::sleep(pause).await;
        self.waited += pause;
        false
    }
}

/// Adds who we are to every request.
#[derive(Debug)]
struct Sign(Signature);

#[async_trait::async_trait]
impl Policy for Sign {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        request.insert_header("user-agent", self.0.user_agent.clone());
        if let Some(id) = &self.0.correlation_id {
            request.insert_header("x-ms-correlation-request-id", id.clone());
        }
        // `azure_core` guarantees a transport after every policy.
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// Why there is no answer.
pub(super) enum Failure {
    Credential(Error),
    /// No connection: the service never saw it.
    NotSent(Error),
    /// The service may have seen it.
    Lost(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stay_bounded() {
        assert_eq!(backoff(1), Duration::from_millis(500));
        assert_eq!(backoff(3), Duration::from_secs(2));
        assert_eq!(backoff(40), LONGEST_PAUSE);
        assert!((0..100).all(|_| jitter(Duration::from_secs(1)) <= Duration::from_secs(1)));
    }
}
