//! Who asks: bearer tokens, the server's own and others.

use std::collections::BTreeMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::server::{Identity, Judge};
use super::store::text_at;

/// The issuer of service account tokens, and the audience of those that name none.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// Judges and issues tokens.
pub(super) struct Authenticator {
    others: Judge,
    fixed: BTreeMap<String, Identity>,
    /// Absent only if the machine has no randomness; then no token is issued and none is accepted.
    key: Option<EcdsaKeyPair>,
}

impl Authenticator {
    /// With a new key.
    pub(super) fn new(others: Judge, fixed: BTreeMap<String, Identity>) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok();
        Self { others, fixed, key }
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
        if let Some(claims) = self.verified(token) {
            let expiry = claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
            let audiences = claims.get("aud").and_then(Value::as_array);
            let meant = audiences.is_some_and(|all| all.iter().any(|one| one == ISSUER));
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

    /// The claims of a token that this server signed.
    fn verified(&self, token: &str) -> Option<Value> {
        let key = self.key.as_ref()?;
        let (signed, signature) = token.rsplit_once('.')?;
        let (_, payload) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref());
        public.verify(signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// Signs claims.
    pub(super) fn issue(&self, claims: &Value) -> Option<String> {
        let key = self.key.as_ref()?;
        let header = json!({"alg": "ES256", "kid": self.key_id()});
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// The key set that verifies its tokens.
    pub(super) fn jwks(&self) -> Value {
        let point = self
            .key
            .as_ref()
            .map(|key| key.public_key().as_ref().to_vec())
            .unwrap_or_default();
        // An uncompressed point: one byte of form, then both coordinates.
        let part =
            |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id(), "crv": "P-256", "alg": "ES256", "x": part(1..33), "y": part(33..65),
        }]})
    }

    fn key_id(&self) -> String {
        let point = self
            .key
            .as_ref()
            .map(|key| key.public_key().as_ref().to_vec())
            .unwrap_or_default();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &point);
        URL_SAFE_NO_PAD.encode(digest.as_ref())
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
