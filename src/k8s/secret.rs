//! The public half of a TLS Secret.

use crate::tls::Leaf;

/// What is known of a TLS Secret without its key.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretCertificate {
    /// The first certificate of `tls.crt`; `None` where there is none or it cannot be read.
    pub leaf: Option<Leaf>,
    /// How many certificates `tls.crt` has.
    pub chain_length: usize,
    /// The Secret's type, `kubernetes.io/tls` if all is well.
    pub secret_type: String,
    /// The CSI driver made it and keeps it.
    pub managed: bool,
    /// `tls.key` is there and not empty. Its content was not looked at.
    pub has_key: bool,
}
