//! Certificates as vocabulary: what the provider reads of them, and nothing else. Pure.
//!
//! What is read is public: names, validity, thumbprints. A private key has no type here, so no function of this room
//! can be handed one by mistake, and none can give one back.
//!
//! Next: [`Leaf`] for what is known of a certificate, [`covers`] for which name a host needs.

mod certificate;
mod host;
mod thumbprint;

pub use certificate::{CertificateError, Leaf};
pub use host::{Host, HostError, covers};
pub use thumbprint::{Fingerprint, Thumbprint};
