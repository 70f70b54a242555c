//! What to speak where a cloud does not know our version yet.
//!
//! Sovereign clouds get versions later. They refuse with the list of what they know; the newest stable version before
//! ours is then spoken with that kind of resource for good, by reads and writes alike. Only a read may find this out:
//! a body that was read in one version is not written in another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use url::Url;

const PARAMETER: &str = "api-version";
const CODES: [&str; 2] = ["NoRegisteredProviderFound", "InvalidApiVersionParameter"];

/// The versions that are spoken in place of ours, by kind of resource.
#[derive(Debug, Default)]
pub(super) struct ApiVersions(Mutex<HashMap<(String, String), String>>);

impl ApiVersions {
    /// The URL in the version that its resource is known to speak.
    pub(super) fn spoken(&self, url: &Url) -> Url {
        let Some(key) = key(url) else { return url.clone() };
        match self.lock().get(&key) {
            Some(version) => with_version(url, version),
            None => url.clone(),
        }
    }

    /// Learns from a refusal; whether a version was found that is worth another try.
    pub(super) fn learn(&self, url: &Url, code: &str, message: &str) -> bool {
        let (true, Some(key)) = (CODES.contains(&code), key(url)) else {
            return false;
        };
        let Some(version) = newest_before(&key.1, message) else {
            return false;
        };
        tracing::info!(
            resource = key.0,
            ours = key.1,
            spoken = version,
            "the cloud speaks an older version"
        );
        let known = self.lock().insert(key, version.clone());
        known.as_ref() != Some(&version)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), String>> {
        // A panic elsewhere does not make a map of versions wrong.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of resource a URL is of, and the version it is asked in.
fn key(url: &Url) -> Option<(String, String)> {
    let (_, version) = url.query_pairs().find(|(name, _)| name == PARAMETER)?;
    let path = url.path().to_ascii_lowercase();
    let (_, kind) = path.rsplit_once("/providers/")?;
    let mut segments = kind.split('/');
    let namespace = segments.next()?;
    // Every second one is a name.
    let types: Vec<&str> = segments.step_by(2).collect();
    Some((format!("{namespace}/{}", types.join("/")), version.into_owned()))
}

fn with_version(url: &Url, version: &str) -> Url {
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut other = url.clone();
    other
        .query_pairs_mut()
        .clear()
        .extend_pairs(pairs.iter().map(|(name, value)| {
            let value = if name == PARAMETER {
                version
            } else {
                value.as_str()
            };
            (name.as_str(), value)
        }));
    other
}

/// The newest stable version before ours that a message lists.
fn newest_before(ours: &str, message: &str) -> Option<String> {
    // Versions are dates, so text order is their order.
    let listed = message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let dates = listed.filter(|word| word.len() == 10 && is_date(word) && *word < ours);
    dates.max().map(str::to_owned)
}

fn is_date(word: &str) -> bool {
    word.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &str = "No registered resource provider found for location 'chinaeast2' and API version \
        '2026-04-01' for type 'managedClusters'. The supported api-versions are '2024-09-01, 2025-10-01, \
        2026-02-02-preview, 2026-08-01'. The supported locations are 'chinaeast2, chinanorth3'.";

    #[test]
    fn the_newest_stable_version_before_ours_is_spoken_from_then_on() {
        let versions = ApiVersions::default();
        let cluster = "https://arm.local/subscriptions/1/resourceGroups/g/providers/Microsoft.ContainerService/\
                       managedClusters/";
        let url = |tail: &str| Url::parse(&format!("{cluster}{tail}")).unwrap();
        let read = url("a?api-version=2026-04-01&x=y");
        assert_eq!(versions.spoken(&read), read);
        assert!(versions.learn(&read, "NoRegisteredProviderFound", REFUSAL));
        assert_eq!(
            versions.spoken(&url("b?api-version=2026-04-01&x=y")),
            url("b?api-version=2025-10-01&x=y")
        );
        let pools = url("a/agentPools/p?api-version=2026-04-01");
        assert_eq!(versions.spoken(&pools), pools, "another kind");
    }

    #[test]
    fn nothing_is_learnt_from_another_refusal_or_a_list_without_older_versions() {
        let versions = ApiVersions::default();
        let url =
            Url::parse("https://arm.local/subscriptions/1/providers/A.B/c/d?api-version=2026-04-01").unwrap();
        assert!(!versions.learn(&url, "BadRequest", REFUSAL));
        assert!(!versions.learn(
            &url,
            "NoRegisteredProviderFound",
            "The supported api-versions are '2026-08-01'."
        ));
    }
}
