//! Time that tests can move.
//!
//! Sandbox time is `real + offset`, and runs `rate` times as fast as real time from the moment the rate was set.
//! Everything that waits for sandbox time waits here, in one ordered queue, so that moving the clock wakes waiters in
//! the order in which they were due.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::{Notify, oneshot, watch};

/// A handle on the world's one clock; clones tell the same time.
#[derive(Clone)]
pub struct Clock(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Rings when the queue or the rate changed, so that the driver looks again.
    changed: Notify,
    /// How many pieces of work that were due are not done yet.
    working: watch::Sender<usize>,
}

struct State {
    /// Sandbox time at `since`.
    base: OffsetDateTime,
    /// The real moment `base` belongs to.
    since: Instant,
    rate: f64,
    next: u64,
    queue: BTreeMap<(OffsetDateTime, u64), Waiter>,
}

struct Waiter {
    what: String,
    /// Whether [`Clock::quiet`] waits for what it does.
    works: bool,
    wake: oneshot::Sender<()>,
}

/// A waiter that is due, or was woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// When, in sandbox time.
    pub at: OffsetDateTime,
    /// What waits.
    pub what: String,
}

impl Clock {
    /// A clock that shows real time and runs `rate` times as fast. Needs a running Tokio runtime.
    pub fn start(rate: f64) -> Self {
        let base = real_now();
        let state = State {
            base,
            since: Instant::now(),
            rate,
            next: 0,
            queue: BTreeMap::new(),
        };
        let clock = Self(Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
            working: watch::Sender::new(0),
        }));
        tokio::spawn(drive(Arc::downgrade(&clock.0)));
        clock
    }

    /// Sandbox time.
    pub fn now(&self) -> OffsetDateTime {
        self.lock().now()
    }

    /// Real time, for those who show it beside sandbox time.
    pub fn real_now(&self) -> OffsetDateTime {
        real_now()
    }

    /// How many times as fast as real time it runs.
    pub fn rate(&self) -> f64 {
        self.lock().rate
    }

    /// Runs `rate` times as fast from now on.
    pub fn set_rate(&self, rate: f64) {
        let mut state = self.lock();
        state.base = state.now();
        state.since = Instant::now();
        state.rate = rate;
        drop(state);
        self.0.changed.notify_one();
    }

    /// Waits for `duration` of sandbox time. `what` is shown by [`Clock::due`].
    pub async fn sleep(&self, duration: Duration, what: impl Into<String>) {
        let at = self.now() + duration;
        self.sleep_until(at, what).await;
    }

    /// Waits until sandbox time is `at`; returns at once if it is already.
    pub async fn sleep_until(&self, at: OffsetDateTime, what: impl Into<String>) {
        self.wait(at, what.into(), false).await;
    }

    /// Does some work when sandbox time is `at`, beside the caller. Unlike a task that sleeps and works, it is seen by
    /// [`Clock::quiet`] from the moment it is due, so that whoever moves the clock sees what the work did.
    pub fn spawn_at(
        &self,
        at: OffsetDateTime,
        what: impl Into<String>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let (clock, what) = (self.clone(), what.into());
        tokio::spawn(async move {
            clock.wait(at, what, true).await;
            let _done = Done(&clock);
            work.await;
        })
    }

    /// Waits, really, until all work that was due is done.
    pub async fn quiet(&self) {
        let mut working = self.0.working.subscribe();
        // The sender is our own, so this cannot fail.
        let _done = working.wait_for(|working| *working == 0).await.is_ok();
    }

    async fn wait(&self, at: OffsetDateTime, what: String, works: bool) {
        let (wake, woken) = oneshot::channel();
        let key = {
            let mut state = self.lock();
            if at <= state.now() {
                if works {
                    self.0.working.send_modify(|working| *working += 1);
                }
                return;
            }
            let key = (at, state.next);
            state.next += 1;
            state.queue.insert(key, Waiter { what, works, wake });
            key
        };
        self.0.changed.notify_one();
        let _gone = Forget { clock: self, key };
        // An error means that the clock itself is gone; then nothing is left to wait for.
        drop(woken.await);
    }

    /// Who waits, in the order in which they are due.
    pub fn due(&self) -> Vec<Due> {
        let state = self.lock();
        state
            .queue
            .iter()
            .map(|((at, _), waiter)| Due {
                at: *at,
                what: waiter.what.clone(),
            })
            .collect()
    }

    /// The next waiter that is due.
    pub fn next_due(&self) -> Option<OffsetDateTime> {
        self.lock().queue.keys().next().map(|(at, _)| *at)
    }

    /// Moves time forward to `until`, but no further than the first waiter on the way, which is woken and returned
    /// together with all others due at the same moment. Call again, after settling, until nothing is returned.
    pub fn advance_towards(&self, until: OffsetDateTime) -> Vec<Due> {
        let mut state = self.lock();
        let now = state.now();
        let first = state
            .queue
            .keys()
            .next()
            .map(|(at, _)| *at)
            .filter(|at| *at <= until);
        let target = first.unwrap_or(until).max(now);
        state.base = target;
        state.since = Instant::now();
        let fired = state.wake_due(target, &self.0.working);
        drop(state);
        self.0.changed.notify_one();
        fired
    }

    /// A span of sandbox time as real time.
    pub fn real(&self, duration: Duration) -> Duration {
        duration.div_f64(self.rate())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> OffsetDateTime {
        self.base + self.since.elapsed().mul_f64(self.rate)
    }

    fn wake_due(&mut self, now: OffsetDateTime, working: &watch::Sender<usize>) -> Vec<Due> {
        let later = self.queue.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.queue, later)
            .into_iter()
            .map(|((at, _), waiter)| {
                // A closed receiver is a waiter that was dropped meanwhile.
                let heard = waiter.wake.send(()).is_ok();
                if heard && waiter.works {
                    working.send_modify(|working| *working += 1);
                }
                Due {
                    at,
                    what: waiter.what,
                }
            })
            .collect()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the sandbox reads real time"
)]
fn real_now() -> OffsetDateTime {
    OffsetDateTime::from(std::time::SystemTime::now())
}

/// Ends a piece of work that was due, however it ends.
struct Done<'a>(&'a Clock);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0
            .0
            .working
            .send_modify(|working| *working = working.saturating_sub(1));
    }
}

/// Takes a waiter out of the queue when its future is dropped.
struct Forget<'a> {
    clock: &'a Clock,
    key: (OffsetDateTime, u64),
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.clock.lock().queue.remove(&self.key);
    }
}

/// Wakes waiters as time passes by itself, until the last handle is gone.
async fn drive(clock: std::sync::Weak<Shared>) {
    /// How long to wait, really, when nobody waits; a new waiter ends it.
    const IDLE: Duration = Duration::from_secs(1);
    while let Some(shared) = clock.upgrade() {
        let clock = Clock(shared);
        let pause = {
            let mut state = clock.lock();
            let now = state.now();
            state.wake_due(now, &clock.0.working);
            let next = state.queue.keys().next().map(|(at, _)| *at - now);
            let span = next.and_then(|span| Duration::try_from(span).ok());
            span.map_or(IDLE, |span| span.div_f64(state.rate).min(IDLE))
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = clock.0.changed.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_are_woken_in_the_order_in_which_they_are_due() {
        let clock = Clock::start(1.0);
        let late = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(7200), "late").await }
        });
        let soon = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(3600), "soon").await }
        });
        while clock.due().len() < 2 {
            tokio::task::yield_now().await;
        }
        let until = clock.now() + Duration::from_secs(10_000);
        let fired: Vec<_> = clock
            .advance_towards(until)
            .into_iter()
            .map(|due| due.what)
            .collect();
        assert_eq!(fired, ["soon"]);
        soon.await.unwrap();
        let fired: Vec<_> = clock
            .advance_towards(until)
            .into_iter()
            .map(|due| due.what)
            .collect();
        assert_eq!(fired, ["late"]);
        late.await.unwrap();
        assert_eq!(clock.advance_towards(until), []);
        assert!(clock.now() >= until);
    }

    #[tokio::test]
    async fn work_that_was_due_is_waited_for() {
        let clock = Clock::start(1.0);
        let (says, said) = oneshot::channel();
        let at = clock.now() + Duration::from_secs(60);
        clock.spawn_at(at, "work", async {
            tokio::task::yield_now().await;
            says.send(()).unwrap();
        });
        while clock.due().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(clock.advance_towards(at).len(), 1);
        clock.quiet().await;
        said.await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_waiter_is_forgotten() {
        let clock = Clock::start(1.0);
        let sleep = clock.sleep(Duration::from_secs(3600), "never");
        tokio::select! { biased; () = sleep => {}, () = tokio::task::yield_now() => {} }
        assert_eq!(clock.due(), []);
    }
}
