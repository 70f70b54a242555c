//! Strings that must appear nowhere: not in a log, a state, a plan, a diagnostic, nor in the journal.
//!
//! Text reformats keys (PKCS#8 to PKCS#1, PEM to base64), so a key's markers are windows of its secret bytes in base64
//! at all three alignments, short enough that one of them lies whole in a PEM line however the lines fall.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Length of a key's window in characters. A PEM line has 64, so of two neighbours one is always in one piece.
const WINDOW: usize = 24;
/// Shorter strings turn up by accident.
const SHORTEST: usize = 8;

/// The set of strings; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Markers(Arc<Mutex<BTreeSet<String>>>);

impl Markers {
    /// A secret value, a token, a signature.
    pub(crate) fn secret(&self, value: &str) {
        if value.len() >= SHORTEST {
            self.lock().insert(value.to_owned());
        }
    }

    /// A private key, as PKCS#8.
    pub(crate) fn private_key(&self, pkcs8: &[u8]) {
        // RSA: the modulus is public and comes first, the second half is all secret. EC: the scalar is behind the
        // fixed head of 36 bytes, the public point comes last.
        let secret = if pkcs8.len() > 500 {
            pkcs8.get(pkcs8.len() / 2..pkcs8.len() / 2 + 96)
        } else {
            pkcs8.get(36..36 + pkcs8.len() / 5)
        };
        let mut set = self.lock();
        for alignment in 0..3 {
            let text = STANDARD.encode(
                secret
                    .and_then(|bytes| bytes.get(alignment..))
                    .unwrap_or_default(),
            );
            let windows = text.as_bytes().chunks_exact(WINDOW);
            // The last characters depend on what follows.
            let inside = windows.take(text.len().saturating_sub(4) / WINDOW);
            set.extend(inside.map(|window| String::from_utf8_lossy(window).into_owned()));
        }
    }

    /// A private key as PEM of PKCS#8.
    pub(crate) fn pem(&self, key: &str) {
        let lines = key.lines().filter(|line| !line.starts_with("-----"));
        if let Ok(pkcs8) = STANDARD.decode(lines.collect::<String>()) {
            self.private_key(&pkcs8);
        }
    }

    /// All of them, sorted.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
