//! Tokens: signed, verified, taken apart.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::certificates::CertificateError;

/// The key pair that signs every token of the world.
pub(crate) struct Keys {
    pair: EcdsaKeyPair,
    id: String,
}

impl Keys {
    /// A new pair.
    pub(crate) fn generate() -> Result<Self, CertificateError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|aws_lc_rs::error::Unspecified| CertificateError::Random)?;
        let sum = digest(&SHA256, pair.public_key().as_ref());
        let id = URL_SAFE_NO_PAD.encode(sum.as_ref().get(..20).unwrap_or_default());
        Ok(Self { pair, id })
    }

    /// A JWT with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let head = json!({"typ": "JWT", "alg": "ES256", "kid": self.id, "x5t": self.id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        // Signing fails only without randomness; a token without signature is then refused everywhere.
        let signature = signature.map(|signature| URL_SAFE_NO_PAD.encode(signature));
        format!("{signed}.{}", signature.unwrap_or_default())
    }

    /// Whether this pair signed that token.
    pub(crate) fn verifies(&self, token: &str) -> bool {
        let Some((signed, signature)) = token.rsplit_once('.') else {
            return false;
        };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).is_ok()
    }

    /// The public key as a JWKS document.
    pub(crate) fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let half =
            |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({"keys": [{
            "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": self.id, "x5t": self.id,
            // An uncompressed point: one byte 4, then both coordinates.
            "x": half(1..33), "y": half(33..65),
        }]})
    }
}

/// The claims of a token, unverified.
pub(crate) fn claims_of(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// What the journal shows of a token: its own id, or a hash.
pub(crate) fn token_id(token: &str) -> String {
    let claims = claims_of(token);
    let id = claims
        .as_ref()
        .and_then(|claims| claims.get("uti").or_else(|| claims.get("jti")));
    match id.and_then(Value::as_str) {
        Some(id) => format!("token:{id}"),
        None => super::super::journal::hash(token.as_bytes()),
    }
}

/// 16 random bytes as text. A broken random source gives zeros, which harms no more than a confusing journal.
pub(super) fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    let _filled = aws_lc_rs::rand::fill(&mut bytes).is_ok();
    URL_SAFE_NO_PAD.encode(bytes)
}
