//! Pauses that a service asked for, shared by everybody it asked.
//!
//! Azure throttles a principal in a subscription, not a call. So the first 429 that says how long stops all calls of
//! that subscription until then; without this, fifty calls would each find out alone and prolong it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

/// Until when nobody calls, by host and subscription.
#[derive(Debug, Default)]
pub(super) struct Throttles(Mutex<HashMap<String, Instant>>);

impl Throttles {
    /// How long a call of this URL has to wait still.
    pub(super) fn rest(&self, url: &Url, now: Instant) -> Option<Duration> {
        let key = key(url);
        let mut pauses = self.lock();
        let until = *pauses.get(&key)?;
        let rest = until.checked_duration_since(now);
        if rest.is_none() {
            pauses.remove(&key);
        }
        rest
    }

    /// Keeps what the answer to a call of this URL asked for. The longest wish holds.
    pub(super) fn pause(&self, url: &Url, asked: Duration, now: Instant) {
        let until = now + asked;
        let mut pauses = self.lock();
        let kept = pauses.entry(key(url)).or_insert(until);
        *kept = until.max(*kept);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // A panic elsewhere does not make a map of moments wrong.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is throttled together. A vault, and everything else without a subscription, by its host.
fn key(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let mut segments = url.path_segments().into_iter().flatten();
    let subscription = match segments.next() {
        Some(first) if first.eq_ignore_ascii_case("subscriptions") => segments.next().unwrap_or_default(),
        _ => "",
    };
    format!("{host}:{port}/{}", subscription.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_subscription_pauses_as_a_whole_and_no_other() {
        let throttles = Throttles::default();
        let (now, seven) = (Instant::now(), Duration::from_secs(7));
        let path = "https://arm.local/subscriptions/A/resourceGroups/g";
        throttles.pause(&url(path), seven, now);
        let same = url("https://arm.local/SUBSCRIPTIONS/a/providers/x?api-version=1");
        assert_eq!(throttles.rest(&same, now), Some(seven));
        for other in [
            "https://arm.local/subscriptions/b",
            "https://vault.local/subscriptions/a",
        ] {
            assert_eq!(throttles.rest(&url(other), now), None, "{other}");
        }
        throttles.pause(&same, Duration::from_secs(3), now);
        assert_eq!(throttles.rest(&same, now), Some(seven), "the longest wish holds");
        assert_eq!(throttles.rest(&same, now + seven + seven), None);
    }
}
