//! Who asks: bearer tokens, the server's own and others.

use std::collections::BTreeMap;

use serde_json::Value;
use time::OffsetDateTime;

use super::account_key::AccountKey;
use super::server::{Identity, Judge};
use super::store::text_at;

/// The issuer of service account tokens of a cluster without an issuer of its own.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// Judges and issues tokens.
pub(super) struct Authenticator {
    others: Judge,
    fixed: BTreeMap<String, Identity>,
    key: AccountKey,
    /// The cluster's own issuer, whose documents everybody can read.
    issuer: Option<String>,
}

impl Authenticator {
    /// With a new key.
    pub(super) fn new(others: Judge, fixed: BTreeMap<String, Identity>) -> Self {
        Self {
            others,
            fixed,
            key: AccountKey::generate(),
            issuer: None,
        }
    }

    /// Who issues service account tokens from now on. Those of the old issuer stay good, as in a real cluster.
    pub(super) fn set_issuer(&mut self, issuer: Option<String>) {
        self.issuer = issuer;
    }

    /// Who issues service account tokens; also the audience of those that name none.
    pub(super) fn issuer(&self) -> &str {
        self.issuer.as_deref().unwrap_or(ISSUER)
    }

    /// Whether this server signed a token.
    pub(super) fn signed(&self, token: &str) -> bool {
        self.key.verified(token).is_some()
    }

    pub(super) fn set_static_tokens(&mut self, tokens: BTreeMap<String, Identity>) {
        self.fixed = tokens;
    }

    /// Whom a token names; `alive` says whether a service account (namespace, name, uid) still exists.
    pub(super) fn judge(
        &self,
        token: &str,
        now: OffsetDateTime,
        alive: impl Fn(&str, &str, &str) -> bool,
    ) -> Option<Identity> {
        if let Some(identity) = self.fixed.get(token) {
            return Some(identity.clone());
        }
        if let Some(claims) = self.key.verified(token) {
            let expiry = claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
            let audiences = claims.get("aud").and_then(Value::as_array);
            let meant =
                audiences.is_some_and(|all| all.iter().any(|one| one == ISSUER || one == self.issuer()));
            let own = claims.get("kubernetes.io")?;
            let (namespace, name) = (
                text_at(own, &["namespace"]),
                text_at(own, &["serviceaccount", "name"]),
            );
            let uid = text_at(own, &["serviceaccount", "uid"]);
            if !meant || expiry <= now.unix_timestamp() || !alive(namespace, name, uid) {
                return None;
            }
            return Some(service_account(namespace, name, uid));
        }
        (self.others)(token)
    }

    /// Signs claims.
    pub(super) fn issue(&self, claims: &Value) -> Option<String> {
        self.key.issue(claims)
    }

    /// The key set that verifies its tokens.
    pub(super) fn jwks(&self) -> Value {
        self.key.jwks()
    }
}

/// A service account as a user.
pub(super) fn service_account(namespace: &str, name: &str, uid: &str) -> Identity {
    Identity {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.to_owned(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ],
    }
}

/// An identity with the group that everybody is in.
pub(super) fn complete(mut user: Identity) -> Identity {
    let everybody = "system:authenticated";
    if !user.groups.iter().any(|group| group == everybody) {
        user.groups.push(everybody.to_owned());
    }
    user
}
