//! How long things take, in sandbox time, each under the name the control API shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How fast the world reacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As measured on Azure.
    Real,
    /// Without needless waiting.
    Fast,
}

/// The live lag table; clones share it.
#[derive(Clone)]
pub struct Lags(Arc<Mutex<BTreeMap<String, Duration>>>);

/// Name, milliseconds at `real` pace, milliseconds at `fast` pace. Sources: measured add-on operations, documented
/// propagation times, and estimates where neither exists; `docs/development/sandbox.md` says which is which.
const TABLE: &[(&str, u64, u64)] = &[
    ("aks_update", 104_000, 2_000),
    ("aks_enable", 120_000, 2_000),
    ("aks_disable", 107_000, 2_000),
    ("aks_create", 360_000, 2_000),
    ("driver_ready", 15_000, 1_000),
    ("vault_dns", 36_000, 0),
    ("purge", 36_000, 0),
    ("certificate_issue", 4_000, 0),
    ("deleted_list", 10_000, 0),
    ("role_effect", 180_000, 0),
    ("kubernetes_authz_effect", 180_000, 0),
    ("federated_effect", 10_000, 0),
    ("image_pull", 2_000, 0),
    ("edge_reload", 1_000, 0),
];

impl Lags {
    /// The table of this pace.
    pub fn of(pace: Pace) -> Self {
        let table = TABLE.iter().map(|(name, real, fast)| {
            let millis = if pace == Pace::Real { *real } else { *fast };
            ((*name).to_owned(), Duration::from_millis(millis))
        });
        Self(Arc::new(Mutex::new(table.collect())))
    }

    /// The lag of this name; zero for a name that is not in the table.
    pub fn get(&self, name: &str) -> Duration {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied()
            .unwrap_or_default()
    }

    /// Sets a lag; false if there is none of this name.
    pub fn set(&self, name: &str, lag: Duration) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = table.get_mut(name) else {
            return false;
        };
        *entry = lag;
        true
    }

    /// The whole table.
    pub fn all(&self) -> BTreeMap<String, Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
