//! What is known of a certificate.

use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::thumbprint::hex;
use super::{Fingerprint, Thumbprint, covers};

/// The public facts of one certificate: the one that names the host, hence the name.
///
/// The same type describes an intermediate where a chain is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// The subject's distinguished name, as text.
    pub subject: String,
    /// The issuer's distinguished name, as text.
    pub issuer: String,
    /// The DNS names of the subject alternative name, lower-case, in the certificate's order. The common name is not
    /// among them: no browser looks at it.
    pub hosts: Vec<String>,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// SHA-1, as the Azure portal shows it.
    pub thumbprint: Thumbprint,
    /// SHA-256.
    pub fingerprint: Fingerprint,
    /// Subject and issuer are the same name. The signature is not checked: this describes, it does not trust.
    pub self_signed: bool,
    /// The serial number in upper-case hex.
    pub serial: String,
}

/// Why no certificate could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are no X.509 certificate.
    #[error("not an X.509 certificate: {reason}")]
    NotACertificate {
        /// The parser's words.
        reason: String,
    },
    /// A date no calendar here can hold.
    #[error("the certificate's validity is out of range")]
    Validity,
    /// The text holds no block `-----BEGIN CERTIFICATE-----`.
    #[error("no certificate in the PEM text")]
    NoCertificate,
    /// The PEM armour is broken.
    #[error("broken PEM text: {reason}")]
    BrokenPem {
        /// The parser's words.
        reason: String,
    },
}

impl Leaf {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError::NotACertificate`], [`CertificateError::Validity`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| CertificateError::NotACertificate {
                reason: error.to_string(),
            })?;
        let validity = certificate.validity();
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            hosts: hosts(&certificate),
            not_before: moment(validity.not_before.timestamp())?,
            not_after: moment(validity.not_after.timestamp())?,
            thumbprint: Thumbprint::of_der(der),
            fingerprint: Fingerprint::of_der(der),
            self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            serial: hex(certificate.raw_serial()).to_ascii_uppercase(),
        })
    }

    /// Reads the first certificate of a PEM text: the leaf, in what servers and Secrets hold.
    ///
    /// # Errors
    /// Any [`CertificateError`].
    pub fn first_of_pem(text: &[u8]) -> Result<Self, CertificateError> {
        for block in Pem::iter_from_buffer(text) {
            let block = block.map_err(|error| CertificateError::BrokenPem {
                reason: error.to_string(),
            })?;
            if block.label == "CERTIFICATE" {
                return Self::from_der(&block.contents);
            }
        }
        Err(CertificateError::NoCertificate)
    }

    /// Reads all certificates of a PEM text in their order. Blocks of other kinds are passed over.
    ///
    /// # Errors
    /// Any [`CertificateError`]; [`CertificateError::NoCertificate`] if there is none.
    pub fn chain_of_pem(text: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let mut chain = Vec::new();
        for block in Pem::iter_from_buffer(text) {
            let block = block.map_err(|error| CertificateError::BrokenPem {
                reason: error.to_string(),
            })?;
            if block.label == "CERTIFICATE" {
                chain.push(Self::from_der(&block.contents)?);
            }
        }
        if chain.is_empty() {
            Err(CertificateError::NoCertificate)
        } else {
            Ok(chain)
        }
    }

    /// Whether one of its names covers the host.
    pub fn covers(&self, host: &str) -> bool {
        self.hosts.iter().any(|name| covers(name, host))
    }

    /// Whether the end of validity is past at that moment.
    pub fn is_expired_at(&self, moment: OffsetDateTime) -> bool {
        moment > self.not_after
    }

    /// Whether validity has not begun at that moment.
    pub fn is_not_yet_valid_at(&self, moment: OffsetDateTime) -> bool {
        moment < self.not_before
    }
}

fn hosts(certificate: &X509Certificate<'_>) -> Vec<String> {
    // A malformed extension names no host; what then fails is the cover, which says so in words people can act on.
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(text) => Some(text.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

fn moment(timestamp: i64) -> Result<OffsetDateTime, CertificateError> {
    OffsetDateTime::from_unix_timestamp(timestamp)
        .ok()
        .ok_or(CertificateError::Validity)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use time::macros::datetime;

    use super::*;

    fn certificate(hosts: &[&str]) -> rcgen::Certificate {
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "common.example.com");
        params.not_before = datetime!(2026-01-01 00:00 UTC);
        params.not_after = datetime!(2026-03-31 12:00 UTC);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_leaf_tells_names_and_validity() {
        let made = certificate(&["Shop.example.com", "*.example.org"]);
        let leaf = Leaf::from_der(made.der()).unwrap();
        assert_eq!(leaf.hosts, ["shop.example.com", "*.example.org"]);
        assert_eq!(leaf.not_before, datetime!(2026-01-01 00:00 UTC));
        assert!(!leaf.is_expired_at(datetime!(2026-03-31 12:00 UTC)));
        assert!(leaf.is_expired_at(datetime!(2026-03-31 12:00:01 UTC)));
        assert!(leaf.is_not_yet_valid_at(datetime!(2025-12-31 23:59:59 UTC)));
        assert!(leaf.self_signed);
        assert!(leaf.subject.contains("common.example.com"), "{}", leaf.subject);
        assert_eq!(leaf.thumbprint, Thumbprint::of_der(made.der()));
        assert!(!leaf.serial.is_empty());
    }

    #[test]
    fn the_common_name_covers_nothing() {
        let leaf = Leaf::from_der(certificate(&["a.example.com"]).der()).unwrap();
        assert!(leaf.covers("a.example.com"));
        assert!(!leaf.covers("common.example.com"));
    }

    #[test]
    fn the_first_certificate_of_a_text_is_the_leaf() {
        let (first, second) = (certificate(&["one.example"]), certificate(&["two.example"]));
        let text = format!("subject=/CN=one\n{}{}", first.pem(), second.pem());
        assert_eq!(
            Leaf::first_of_pem(text.as_bytes()).unwrap().hosts,
            ["one.example"]
        );
        let chain = Leaf::chain_of_pem(text.as_bytes()).unwrap();
        assert_eq!(
            chain
                .iter()
                .map(|leaf| leaf.hosts[0].as_str())
                .collect::<Vec<_>>(),
            ["one.example", "two.example"]
        );
    }

    #[test]
    fn what_is_no_certificate_is_said() {
        assert!(matches!(
            Leaf::from_der(b"nonsense"),
            Err(CertificateError::NotACertificate { .. })
        ));
        assert_eq!(Leaf::first_of_pem(b""), Err(CertificateError::NoCertificate));
        assert_eq!(
            Leaf::chain_of_pem(b"hello\n"),
            Err(CertificateError::NoCertificate)
        );
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Leaf::first_of_pem(broken),
            Err(CertificateError::BrokenPem { .. })
        ));
    }
}
