//! The two digests people compare certificates by.
//!
//! Azure shows SHA-1 in upper-case hex and calls it thumbprint; everybody else shows SHA-256 and calls it fingerprint.
//! They are two types, so that one is never compared with the other.

use std::fmt::{self, Display, Write as _};

use aws_lc_rs::digest;

/// SHA-1 of the certificate's DER in upper-case hex, as the Azure portal shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint(String);

/// SHA-256 of the certificate's DER in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Thumbprint {
    /// The thumbprint of a certificate in DER.
    pub fn of_der(der: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
        Self(hex(digest.as_ref()).to_ascii_uppercase())
    }

    /// Reads 40 hexadecimal digits in either case, with or without colons; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let valid = digits.len() == 40 && digits.chars().all(|c| c.is_ascii_hexdigit());
        valid.then(|| Self(digits.to_ascii_uppercase()))
    }

    /// The 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of_der(der: &[u8]) -> Self {
        Self(hex(digest::digest(&digest::SHA256, der).as_ref()))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        assert_eq!(
            Thumbprint::of_der(b"abc").to_string(),
            "A9993E364706816ABA3E25717850C26C9CD0D89D"
        );
        assert_eq!(
            Fingerprint::of_der(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_thumbprint_is_read_in_any_common_spelling() {
        let plain = Thumbprint::of_der(b"abc");
        let colons = "a9:99:3e:36:47:06:81:6a:ba:3e:25:71:78:50:c2:6c:9c:d0:d8:9d";
        assert_eq!(Thumbprint::parse(colons), Some(plain));
        assert_eq!(Thumbprint::parse("A9993E"), None);
        assert_eq!(
            Thumbprint::parse("zz993E364706816ABA3E25717850C26C9CD0D89D"),
            None
        );
    }
}
