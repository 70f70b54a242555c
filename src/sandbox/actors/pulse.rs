//! Who is busy.
//!
//! An actor rests when its last pass over the cache ended well, nothing it reacts to has changed since that pass
//! *began*, and the moment it wants to look again lies in the future of the sandbox clock. Because the second and
//! third are judged when asked, and not when the actor's task gets around to running, there is no gap between a
//! cause and the busy state it brings about.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use tokio::sync::watch;

use super::cache::{Bell, Topic};
use super::client::ApiError;
use super::reflector::Backoff;
use crate::sandbox::clock::Clock;

/// When an actor wants to look again, and for what.
#[derive(Default)]
pub(super) struct Next(Option<(OffsetDateTime, String)>);

impl Next {
    /// Also at this moment, if no earlier one is wanted.
    pub(super) fn at(&mut self, moment: OffsetDateTime, what: impl FnOnce() -> String) {
        if self.0.as_ref().is_none_or(|(earlier, _)| moment < *earlier) {
            self.0 = Some((moment, what()));
        }
    }
}

/// What a pass over many objects came to: the failure of one does not keep the others waiting.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) next: Next,
    error: Option<ApiError>,
}

impl Outcome {
    /// Notes how one object went. An object that is gone meanwhile is no failure: its deletion is on its way here.
    pub(super) fn note(&mut self, result: Result<(), ApiError>) {
        match result {
            Err(error) if !error.is_not_found() => self.error = Some(error),
            _ => {}
        }
    }

    pub(super) fn finish(self) -> Result<Next, ApiError> {
        self.error.map_or(Ok(self.next), Err)
    }
}

/// A controller: one pass compares the cache with what should be and does what is missing.
pub(super) trait Actor: Send {
    /// As [`Pulse::busy`] and the clock's queue call it.
    const NAME: &'static str;
    /// What it reacts to.
    const TOPICS: &'static [Topic];

    /// Does all that is due. An error repeats the pass after a short, real pause.
    fn pass(&mut self) -> impl Future<Output = Result<Next, ApiError>> + Send;
}

/// The register of everybody's state.
pub(super) struct Pulse {
    clock: Clock,
    bell: Arc<Bell>,
    states: Mutex<BTreeMap<(String, u64), State>>,
    changed: watch::Sender<u64>,
}

enum State {
    Working,
    Failing(String),
    Resting {
        topics: &'static [Topic],
        seen: u64,
        until: Option<OffsetDateTime>,
    },
}

/// One entry of the register; gone when dropped.
pub(super) struct Task {
    pulse: Arc<Pulse>,
    key: (String, u64),
}

impl Pulse {
    pub(super) fn new(clock: Clock, bell: Arc<Bell>) -> Self {
        Self {
            clock,
            bell,
            states: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Somebody who works from now on.
    pub(super) fn task(self: &Arc<Self>, name: impl Into<String>) -> Task {
        let mut number = 0;
        self.changed.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        let key = (name.into(), number);
        self.lock().insert(key.clone(), State::Working);
        Task {
            pulse: Arc::clone(self),
            key,
        }
    }

    /// Who has work that is due.
    pub(super) fn busy(&self) -> Vec<String> {
        let now = self.clock.now();
        let states = self.lock();
        let busy = states.iter().filter_map(|((name, _), state)| match state {
            State::Working => Some(name.clone()),
            State::Failing(error) => Some(format!("{name}: {error}")),
            State::Resting { topics, seen, until } => {
                let due = until.is_some_and(|until| until <= now);
                (due || self.bell.count(topics) != *seen).then(|| name.clone())
            }
        });
        busy.collect()
    }

    /// Changes whenever somebody's state does.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Runs an actor until dropped.
    pub(super) async fn run<A: Actor>(self: Arc<Self>, task: Task, mut actor: A) {
        let mut rung = self.bell.listen();
        let mut backoff = Backoff::new();
        loop {
            task.becomes(State::Working);
            let seen = self.bell.count(A::TOPICS);
            let next = match Box::pin(actor.pass()).await {
                Ok(next) => next.0,
                Err(error) => {
                    task.becomes(State::Failing(error.to_string()));
                    backoff.pause().await;
                    continue;
                }
            };
            backoff.reset();
            task.becomes(State::Resting {
                topics: A::TOPICS,
                seen,
                until: next.as_ref().map(|(moment, _)| *moment),
            });
            while self.bell.count(A::TOPICS) == seen {
                let due = async {
                    match &next {
                        Some((moment, what)) => {
                            self.clock
                                .sleep_until(*moment, format!("{}: {what}", A::NAME))
                                .await;
                        }
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = due => break,
                    rung = rung.changed() => if rung.is_err() { return },
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u64), State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    fn becomes(&self, state: State) {
        self.pulse.lock().insert(self.key.clone(), state);
        self.pulse.changed.send_modify(|count| *count += 1);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.pulse.lock().remove(&self.key);
        self.pulse.changed.send_modify(|count| *count += 1);
    }
}
