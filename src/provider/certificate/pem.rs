//! PEM text as a vault takes it. Nothing here shows what it reads, and what it makes is a [`Secret`].

use crate::azure::Secret;

/// The blocks of a text, each with its label, as they stand there.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    const BEGIN: &str = "-----BEGIN ";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = &rest[start..];
        let Some(label) = block[BEGIN.len()..].split("-----").next() else {
            break;
        };
        let end = format!("-----END {label}-----");
        let Some(length) = block.find(&end).map(|at| at + end.len()) else {
            break;
        };
        found.push((label, &block[..length]));
        rest = &block[length..];
    }
    found
}

/// What keeps a vault from taking a text, as the second half of a sentence; nothing if it may do.
pub(super) fn fault(text: &str) -> Option<String> {
    let blocks = blocks(text);
    let labels: Vec<&str> = blocks.iter().map(|(label, _)| *label).collect();
    let count = |label: &str| labels.iter().filter(|it| **it == label).count();
    if count("CERTIFICATE") == 0 {
        return Some("it holds no certificate".to_owned());
    }
    if let Some(label) = labels
        .iter()
        .find(|label| label.ends_with("PRIVATE KEY") && **label != "PRIVATE KEY")
    {
        return Some(format!(
            "its key is of the form \"{label}\", which a vault does not take"
        ));
    }
    match count("PRIVATE KEY") {
        1 => None,
        0 => Some("it holds no private key".to_owned()),
        _ => Some("it holds more than one private key".to_owned()),
    }
}

/// The text with the key first, then the certificates in their order, and nothing else.
pub(super) fn key_first(text: &str) -> Secret {
    let mut blocks = blocks(text);
    blocks.retain(|(label, _)| ["PRIVATE KEY", "CERTIFICATE"].contains(label));
    blocks.sort_by_key(|(label, _)| *label != "PRIVATE KEY");
    let mut ordered = String::with_capacity(text.len() + blocks.len());
    for (_, block) in blocks {
        ordered.push_str(block);
        ordered.push('\n');
    }
    Secret::from(ordered)
}

/// Whether a text can be base64.
pub(super) fn is_base64(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || b"+/=\r\n".contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    }

    #[test]
    fn what_a_vault_does_not_take_is_said() {
        let rows = [
            (block("PRIVATE KEY") + &block("CERTIFICATE"), None),
            (block("CERTIFICATE"), Some("no private key")),
            (block("PRIVATE KEY"), Some("no certificate")),
            (
                block("RSA PRIVATE KEY") + &block("CERTIFICATE"),
                Some("\"RSA PRIVATE KEY\""),
            ),
            (
                block("ENCRYPTED PRIVATE KEY") + &block("CERTIFICATE"),
                Some("\"ENCRYPTED PRIVATE KEY\""),
            ),
            ("hello".to_owned(), Some("no certificate")),
        ];
        for (text, expected) in rows {
            let found = fault(&text);
            match expected {
                None => assert_eq!(found, None),
                Some(words) => assert!(found.as_ref().is_some_and(|it| it.contains(words)), "{found:?}"),
            }
        }
    }

    #[test]
    fn the_key_comes_first() {
        let text = format!("bag attributes\n{}{}", block("CERTIFICATE"), block("PRIVATE KEY"));
        let ordered = key_first(&text);
        assert_eq!(ordered.expose(), block("PRIVATE KEY") + &block("CERTIFICATE"));
    }
}
