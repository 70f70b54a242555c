//! Host names, and which name of a certificate covers which host.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;

/// A lower-case DNS name, or a wildcard for exactly one label (`*.example.com`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

/// Why a text is no [`Host`]. The text says what to write instead where that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing was written.
    #[error("is empty; write a DNS name such as \"shop.example.com\"")]
    Empty,
    /// The same name in capitals.
    #[error("has upper-case letters; write \"{lower}\"")]
    UpperCase {
        /// The name as it should be written.
        lower: String,
    },
    /// An address; certificates of Key Vault and Ingress rules name hosts.
    #[error("is an IP address; a host is a DNS name")]
    Address,
    /// A scheme, port or path came along.
    #[error("is more than a host name; write \"{host}\" without scheme, port or path")]
    Url {
        /// The part that is a host.
        host: String,
    },
    /// The root dot of an absolute name.
    #[error("ends with a dot; write \"{without}\"")]
    TrailingDot {
        /// The name as it should be written.
        without: String,
    },
    /// A star that is not the whole first label.
    #[error(
        "has a wildcard where none can be; \"*\" stands for the whole first label only, as in \"*.example.com\""
    )]
    Wildcard,
    /// A wildcard with no name behind it.
    #[error("is a wildcard with nothing to the right of it; write \"*.example.com\"")]
    BareWildcard,
    /// Two dots in a row, or a dot at the start.
    #[error("has an empty label (two dots in a row, or one at the start)")]
    EmptyLabel,
    /// A label of more than 63 characters.
    #[error("has the label \"{label}\" of {length} characters; 63 is the most")]
    LongLabel {
        /// The label.
        label: String,
        /// Its length.
        length: usize,
    },
    /// More than 253 characters.
    #[error("has {length} characters; 253 is the most")]
    Long {
        /// Its length.
        length: usize,
    },
    /// A label that starts or ends with a hyphen.
    #[error("has the label \"{label}\", which starts or ends with a hyphen")]
    Hyphen {
        /// The label.
        label: String,
    },
    /// Letters outside ASCII; DNS carries them as punycode.
    #[error("has the character {character:?}; write international names in punycode (\"xn--…\")")]
    NotAscii {
        /// The first such character.
        character: char,
    },
    /// A character that no host name has.
    #[error("has the character {character:?}; a host name has a-z, 0-9, \"-\" and \".\"")]
    Character {
        /// The first such character.
        character: char,
    },
}

impl Host {
    /// Reads a host name; the name is kept as written, so it must be lower-case already.
    ///
    /// # Errors
    /// [`HostError`] says what is wrong, as the second half of a sentence whose subject is the text.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        reject_what_is_no_name(text)?;
        let name = match text.strip_prefix("*.") {
            Some("") => return Err(HostError::BareWildcard),
            Some(rest) => rest,
            None if text == "*" => return Err(HostError::BareWildcard),
            None => text,
        };
        if text.len() > 253 {
            return Err(HostError::Long { length: text.len() });
        }
        for label in name.split('.') {
            check_label(label)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the first label is a wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

fn reject_what_is_no_name(text: &str) -> Result<(), HostError> {
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(HostError::Address);
    }
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', ':', '?', '#']).next().unwrap_or(bare);
    if bare.len() != text.len() {
        return Err(HostError::Url {
            host: bare.to_ascii_lowercase(),
        });
    }
    if let Some(without) = text
        .strip_suffix('.')
        .filter(|rest| !rest.is_empty() && *rest != "*" && !rest.ends_with('.'))
    {
        return Err(HostError::TrailingDot {
            without: without.to_ascii_lowercase(),
        });
    }
    if let Some(character) = text.chars().find(|c| !c.is_ascii()) {
        return Err(HostError::NotAscii { character });
    }
    if text.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(HostError::UpperCase {
            lower: text.to_ascii_lowercase(),
        });
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError::EmptyLabel);
    }
    if label.contains('*') {
        return Err(HostError::Wildcard);
    }
    if let Some(character) = label
        .chars()
        .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'))
    {
        return Err(HostError::Character { character });
    }
    if label.len() > 63 {
        return Err(HostError::LongLabel {
            label: label.to_owned(),
            length: label.len(),
        });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostError::Hyphen {
            label: label.to_owned(),
        });
    }
    Ok(())
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a certificate's DNS name covers a host, by the rules of browsers: without case; a wildcard stands for
/// exactly one whole label, the first; a wildcard host is covered by the same wildcard only.
pub fn covers(pattern_or_san: &str, host: &str) -> bool {
    let pattern = pattern_or_san.trim_end_matches('.').to_ascii_lowercase();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if pattern.is_empty() || host.is_empty() {
        return false;
    }
    if pattern == host {
        return true;
    }
    let (Some(suffix), Some((label, rest))) = (pattern.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    // "*.com" would cover every name of a top-level domain; browsers refuse it, so counting on it breaks sites.
    suffix.contains('.') && !label.is_empty() && label != "*" && rest == suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_covers_a_host_by_the_rules_of_browsers() {
        let rows = [
            ("shop.example.com", "shop.example.com", true),
            ("Shop.Example.COM", "shop.example.com", true),
            ("shop.example.com.", "shop.example.com", true),
            ("shop.example.com", "www.shop.example.com", false),
            ("*.example.com", "shop.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "*.b.example.com", false),
            ("shop.example.com", "*.example.com", false),
            ("f*.example.com", "foo.example.com", false),
            ("*.com", "example.com", false),
            ("*", "example", false),
            ("", "", false),
        ];
        for (pattern, host, expected) in rows {
            assert_eq!(covers(pattern, host), expected, "{pattern} covers {host}");
        }
    }

    #[test]
    fn host_names_are_accepted_as_dns_has_them() {
        for text in [
            "shop.example.com",
            "*.example.com",
            "localhost",
            "a-b.c0",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(
                Host::parse(text).map(|host| host.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_host_is_said() {
        let long = "a".repeat(64);
        let rows = [
            ("", "is empty"),
            ("Shop.example.com", "write \"shop.example.com\""),
            ("10.0.0.1", "IP address"),
            ("[::1]", "IP address"),
            (
                "https://shop.example.com/x",
                "write \"shop.example.com\" without scheme",
            ),
            (
                "shop.example.com:443",
                "write \"shop.example.com\" without scheme",
            ),
            ("shop.example.com.", "ends with a dot"),
            ("a.*.example.com", "wildcard where none can be"),
            ("f*.example.com", "wildcard where none can be"),
            ("*.*.example.com", "wildcard where none can be"),
            ("*.", "nothing to the right"),
            ("*", "nothing to the right"),
            ("a..b", "empty label"),
            (".a", "empty label"),
            ("a_b.example.com", "'_'"),
            ("bücher.example", "punycode"),
            ("-a.example", "hyphen"),
            (long.as_str(), "63 is the most"),
        ];
        for (text, expected) in rows {
            let error = Host::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
