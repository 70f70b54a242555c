//! Every request the world has seen, for assertions and for failure output.
//!
//! Tokens are shown as ids, keys, PFX and secret values as hashes. What is secret is known by the member that holds
//! it; `GET /markers` is how a test checks that the journal, too, kept quiet.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Older entries are dropped from memory; the file keeps them.
const KEPT: usize = 20_000;
/// Bodies beyond this are shown by their hash: a cluster or a list of objects fits, a PFX is hashed anyway.
const LONGEST_BODY: usize = 64 * 1024;

/// The journal; clones write into the same.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Shared>);

struct Shared {
    entries: Mutex<Entries>,
    /// The number of the newest entry.
    newest: watch::Sender<u64>,
    open: Mutex<BTreeMap<&'static str, Arc<AtomicU64>>>,
}

#[derive(Default)]
struct Entries {
    first: u64,
    list: std::collections::VecDeque<Arc<Value>>,
    file: Option<std::fs::File>,
}

/// Which entries are asked for. `None` asks for all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only entries after this number.
    pub after: u64,
    /// `arm`, `login`, `imds`, `graph`, `vault`, `kubernetes`, `edge`.
    pub plane: Option<String>,
    /// The HTTP method.
    pub method: Option<String>,
    /// A glob for the path, as in a fault.
    pub path: Option<String>,
    /// The principal's name.
    pub principal: Option<String>,
    /// Whether requests of the world's own actors are shown.
    pub actors: bool,
}

impl Journal {
    /// An empty journal that also writes to this file.
    pub(crate) fn new(file: Option<std::fs::File>) -> Self {
        let entries = Entries {
            first: 1,
            file,
            ..Entries::default()
        };
        Self(Arc::new(Shared {
            entries: Mutex::new(entries),
            newest: watch::Sender::new(0),
            open: Mutex::default(),
        }))
    }

    /// Adds an entry and numbers it.
    pub(crate) fn add(&self, mut entry: Value) {
        let mut entries = self.lock();
        let number = entries.first + entries.list.len() as u64;
        if let Some(members) = entry.as_object_mut() {
            members.insert("n".to_owned(), json!(number));
        }
        if let Some(file) = &mut entries.file
            && writeln!(file, "{entry}").is_err()
        {
            // A full disk must not end the world; the journal in memory goes on.
            entries.file = None;
        }
        entries.list.push_back(Arc::new(entry));
        if entries.list.len() > KEPT {
            entries.list.pop_front();
            entries.first += 1;
        }
        drop(entries);
        self.0.newest.send_replace(number);
    }

    /// The entries that match, and the number to ask after next time.
    pub(crate) fn entries(&self, filter: &Filter) -> (Vec<Arc<Value>>, u64) {
        let entries = self.lock();
        let newest = entries.first + entries.list.len() as u64 - 1;
        let skip = filter.after.saturating_add(1).saturating_sub(entries.first);
        let rest = entries
            .list
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX));
        let found = rest.filter(|entry| filter.admits(entry)).cloned().collect();
        (found, newest)
    }

    /// As [`Journal::entries`], but waits, really, until one entry matches or the time is over.
    pub(crate) async fn wait(&self, filter: &Filter, patience: Duration) -> (Vec<Arc<Value>>, u64) {
        let mut newest = self.0.newest.subscribe();
        let waiting = async {
            loop {
                newest.mark_unchanged();
                let found = self.entries(filter);
                if !found.0.is_empty() || newest.changed().await.is_err() {
                    return found;
                }
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(found) => found,
            Err(_) => self.entries(filter),
        }
    }

    /// Counts a request in flight on this plane until the guard is dropped.
    pub(crate) fn enter(&self, plane: &'static str) -> InFlight {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let gauge = Arc::clone(open.entry(plane).or_default());
        let count = gauge.fetch_add(1, Ordering::Relaxed) + 1;
        InFlight { gauge, count }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight.
pub(crate) struct InFlight {
    gauge: Arc<AtomicU64>,
    /// How many were, this one among them.
    pub(crate) count: u64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Filter {
    fn admits(&self, entry: &Value) -> bool {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let same = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| text(name) == Some(wanted))
        };
        let principal = entry.pointer("/as/name").and_then(Value::as_str);
        let path = text("url").map(|url| url.split('?').next().unwrap_or(url));
        (self.actors || entry.get("actor").is_none_or(Value::is_null))
            && same(&self.plane, "plane")
            && same(&self.method, "method")
            && self
                .principal
                .as_deref()
                .is_none_or(|wanted| principal == Some(wanted))
            && self
                .path
                .as_deref()
                .is_none_or(|glob| path.is_some_and(|path| glob_matches(glob, path)))
    }
}

/// Whether a path matches a glob, ignoring case: `**` stands for any characters, `*` for any but a slash.
pub(crate) fn glob_matches(glob: &str, path: &str) -> bool {
    fn matches(glob: &[u8], path: &[u8]) -> bool {
        match glob {
            [] => path.is_empty(),
            [b'*', b'*', rest @ ..] => {
                (0..=path.len()).any(|from| matches(rest, path.get(from..).unwrap_or_default()))
            }
            [b'*', rest @ ..] => {
                let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
                (0..=end).any(|from| matches(rest, path.get(from..).unwrap_or_default()))
            }
            [first, rest @ ..] => path
                .split_first()
                .is_some_and(|(byte, after)| first.eq_ignore_ascii_case(byte) && matches(rest, after)),
        }
    }
    matches(glob.as_bytes(), path.as_bytes())
}

/// `sha256:` and the first 16 hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let sum = digest(&SHA256, bytes);
    let digits = sum.as_ref().iter().take(8);
    digits.fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A body as the journal shows it.
pub(crate) fn shown_body(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    if bytes.len() > LONGEST_BODY {
        return json!({"sandbox:long": hash(bytes), "bytes": bytes.len()});
    }
    if let Ok(mut body) = serde_json::from_slice(bytes) {
        redact(&mut body);
        return body;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if looks_like_form(text) => json!(redacted_form(text)),
        Ok(text) if text.contains("PRIVATE KEY") => json!(hash(bytes)),
        Ok(text) => json!(text),
        Err(_) => json!({"sandbox:binary": hash(bytes), "bytes": bytes.len()}),
    }
}

/// Members whose text is secret wherever they stand.
const SECRET_MEMBERS: &[&str] = &[
    "access_token",
    "refresh_token",
    "client_secret",
    "client_assertion",
    "assertion",
    "token",
    "pwd",
    "password",
    "client-key-data",
    "tls.key",
];

/// Hides secrets in a JSON body.
fn redact(body: &mut Value) {
    match body {
        Value::Object(members) => {
            let is_secret = members.get("kind").is_some_and(|kind| kind == "Secret");
            // A vault's secret or an import has a `value` of text, and so has a kubeconfig; so have harmless things,
            // whose hash does no harm.
            for (name, member) in members.iter_mut() {
                let hides = SECRET_MEMBERS.contains(&name.as_str())
                    || (name == "value" && member.is_string())
                    || (is_secret && matches!(name.as_str(), "data" | "stringData"));
                if hides { hide(member) } else { redact(member) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) if text.contains("PRIVATE KEY") => *text = hash(text.as_bytes()),
        _ => {}
    }
}

/// Replaces every text below by its hash.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) => *text = hash(text.as_bytes()),
        Value::Object(members) => members.values_mut().for_each(hide),
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

fn looks_like_form(text: &str) -> bool {
    !text.contains(['\n', ' ', '{']) && text.contains('=')
}

fn redacted_form(text: &str) -> String {
    let pairs = text.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if SECRET_MEMBERS.contains(&name) => format!("{name}={}", hash(value.as_bytes())),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stays_in_its_segment_and_two_do_not() {
        for (glob, path, expected) in [
            ("**/managedClusters/*", "/subscriptions/s/managedclusters/a", true),
            (
                "**/managedClusters/*",
                "/subscriptions/s/managedClusters/a/agentPools/p",
                false,
            ),
            ("/api/*/secrets", "/api/v1/secrets", true),
            ("/api/*/secrets", "/api/v1/namespaces/secrets", false),
            ("**", "/anything/at/all", true),
        ] {
            assert_eq!(glob_matches(glob, path), expected, "{glob} {path}");
        }
    }

    #[test]
    fn secrets_are_hashed_wherever_they_stand() {
        let body =
            br#"{"kind":"List","items":[{"kind":"Secret","data":{"tls.key":"c2VjcmV0"}}],"value":"PFX"}"#;
        let shown = shown_body(body).to_string();
        assert!(!shown.contains("c2VjcmV0") && !shown.contains("PFX"), "{shown}");
        let shown = shown_body(b"grant_type=client_credentials&client_secret=hunter2&scope=x").to_string();
        assert!(!shown.contains("hunter2") && shown.contains("scope=x"), "{shown}");
    }

    #[tokio::test]
    async fn waiting_ends_with_the_first_entry_that_matches() {
        let journal = Journal::new(None);
        let filter = Filter {
            plane: Some("arm".to_owned()),
            ..Filter::default()
        };
        let waiting = journal.wait(&filter, Duration::from_secs(10));
        let writing = async {
            journal.add(json!({"plane": "login", "url": "/x"}));
            journal.add(json!({"plane": "arm", "url": "/y"}));
        };
        let ((found, next), ()) = tokio::join!(waiting, writing);
        assert_eq!((found.len(), next), (1, 2));
    }
}
