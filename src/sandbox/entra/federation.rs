//! Trust between Entra and other issuers: whose assertions are good, and what an identity is federated with.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Directory, Federated};

/// Says whether an issuer signed a token.
type Verifier = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Issuers that sign with keys of their own. All others of this world share Entra's.
#[derive(Default)]
pub(super) struct Issuers(RwLock<BTreeMap<String, Verifier>>);

impl Directory {
    /// From now on, assertions of this issuer are good if `signed` says so.
    pub(crate) fn trust(&self, issuer: &str, signed: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let mut issuers = self.0.issuers.0.write().unwrap_or_else(PoisonError::into_inner);
        issuers.insert(issuer.to_owned(), Arc::new(signed));
    }

    /// Whether this issuer signed the assertion.
    pub(super) fn is_signed_by(&self, issuer: &str, assertion: &str) -> bool {
        let issuers = self.0.issuers.0.read().unwrap_or_else(PoisonError::into_inner);
        let verifier = issuers.get(issuer).cloned();
        drop(issuers);
        match verifier {
            Some(signed) => signed(assertion),
            None => self.0.keys.verifies(assertion),
        }
    }

    /// What a principal is federated with, as of now.
    pub(crate) fn set_federated(&self, oid: &str, federated: Vec<Federated>) {
        let mut principals = self.0.principals.write().unwrap_or_else(PoisonError::into_inner);
        let mut found = principals.iter_mut();
        if let Some(principal) = found.find(|principal| principal.object_id == oid) {
            principal.federated = federated;
        }
    }
}
