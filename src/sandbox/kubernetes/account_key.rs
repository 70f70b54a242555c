//! The key that signs service account tokens: the embedded server's, or one that is given to a real one.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A P-256 key. Empty only if the machine has no randomness; then no token is issued and none is accepted.
pub(crate) struct AccountKey(Option<EcdsaKeyPair>);

impl AccountKey {
    /// A new one.
    pub(crate) fn generate() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok())
    }

    /// The claims of a token that this key signed.
    pub(crate) fn verified(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (_, payload) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.point()?);
        public.verify(signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// Signs claims.
    pub(super) fn issue(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.id()});
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self
            .0
            .as_ref()?
            .sign(&SystemRandom::new(), signed.as_bytes())
            .ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// The key set that verifies its tokens.
    pub(crate) fn jwks(&self) -> Value {
        let point = self.point().unwrap_or_default();
        // An uncompressed point: one byte of form, then both coordinates.
        let part =
            |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id(), "crv": "P-256", "alg": "ES256", "x": part(1..33), "y": part(33..65),
        }]})
    }

    /// Private and public half as PEM, as kube-apiserver reads them.
    pub(crate) fn pem(&self) -> Option<(String, String)> {
        let pair = self.0.as_ref()?;
        let private = pair.to_pkcs8v1().ok()?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
        Some((
            pem("PRIVATE KEY", private.as_ref()),
            pem("PUBLIC KEY", public.as_ref()),
        ))
    }

    /// Its name in tokens: as the original makes it, a hash of the public key in DER.
    fn id(&self) -> String {
        let pair = self.0.as_ref();
        let der = pair.and_then(|pair| -> Option<PublicKeyX509Der<'_>> { pair.public_key().as_der().ok() });
        let der = der.map(|der| der.as_ref().to_vec()).unwrap_or_default();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        URL_SAFE_NO_PAD.encode(digest.as_ref())
    }

    fn point(&self) -> Option<&[u8]> {
        Some(self.0.as_ref()?.public_key().as_ref())
    }
}

/// The issuer's document below `/.well-known`.
pub(crate) fn issuer_document(issuer: &str) -> Value {
    json!({
        "issuer": issuer, "jwks_uri": format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
