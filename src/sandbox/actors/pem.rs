//! PEM blocks, and the little DER that turning one key format into another takes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) label: String,
    pub(super) der: Vec<u8>,
}

/// All well-formed blocks of a text, in order; anything around them is skipped.
pub(super) fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        let marker = |word: &str| {
            line.strip_prefix(word)
                .and_then(|rest| rest.strip_suffix("-----"))
        };
        if let Some(label) = marker("-----BEGIN ") {
            open = Some((label.to_owned(), String::new()));
        } else if let Some(label) = marker("-----END ") {
            if let Some((began, body)) = open.take()
                && began == label
                && let Ok(der) = STANDARD.decode(body)
            {
                blocks.push(Block { label: began, der });
            }
        } else if let Some((_, body)) = &mut open {
            body.push_str(line);
        }
    }
    blocks
}

/// Writes one block.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let body = STANDARD.encode(der);
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// A DER element: tag, content, and what follows it.
pub(super) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        let (bytes, rest) = rest
            .split_at_checked(count)
            .filter(|_| (1..=4).contains(&count))?;
        (
            bytes
                .iter()
                .fold(0, |length, byte| (length << 8) | usize::from(*byte)),
            rest,
        )
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Writes a DER element.
pub(super) fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let length = content.len();
    if length < 0x80 {
        der.push(u8::try_from(length).unwrap_or_default());
    } else {
        let bytes: Vec<u8> = length
            .to_be_bytes()
            .into_iter()
            .skip_while(|byte| *byte == 0)
            .collect();
        der.push(0x80 | u8::try_from(bytes.len()).unwrap_or_default());
        der.extend(bytes);
    }
    der.extend(content);
    der
}

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;

/// `rsaEncryption` and `id-ecPublicKey`.
pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
pub(super) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// A private key block in the form Go's `x509` writes it: RSA as PKCS#1, EC as SEC 1 with its curve. Nothing for keys
/// it does not know.
pub(super) fn traditional_key(block: &Block) -> Option<String> {
    match block.label.as_str() {
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Some(write(&block.label, &block.der)),
        "PRIVATE KEY" => traditional(&block.der),
        _ => None,
    }
}

fn traditional(pkcs8: &[u8]) -> Option<String> {
    let (SEQUENCE, outer, _) = element(pkcs8)? else {
        return None;
    };
    let (INTEGER, _, rest) = element(outer)? else {
        return None;
    };
    let (SEQUENCE, algorithm, rest) = element(rest)? else {
        return None;
    };
    let (OCTET_STRING, key, _) = element(rest)? else {
        return None;
    };
    let (OBJECT_IDENTIFIER, kind, parameters) = element(algorithm)? else {
        return None;
    };
    if kind == RSA {
        return Some(write("RSA PRIVATE KEY", key));
    }
    if kind != EC {
        return None;
    }
    let (SEQUENCE, inner, _) = element(key)? else {
        return None;
    };
    let (INTEGER, version, rest) = element(inner)? else {
        return None;
    };
    let (OCTET_STRING, secret, mut rest) = element(rest)? else {
        return None;
    };
    let mut point = None;
    while let Some((tag, content, after)) = element(rest) {
        if tag == 0xa1 {
            point = Some(content);
        }
        rest = after;
    }
    let mut members = encode(INTEGER, version);
    members.extend(encode(OCTET_STRING, secret));
    members.extend(encode(0xa0, parameters));
    if let Some(point) = point {
        members.extend(encode(0xa1, point));
    }
    Some(write("EC PRIVATE KEY", &encode(SEQUENCE, &members)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
    use rustls::crypto::aws_lc_rs::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn blocks_survive_writing_and_parsing() {
        let text = format!("words\n{}between\n{}", write("A B", &[1; 100]), write("C", &[2]));
        let blocks = parse(&text);
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].label.as_str(), blocks[0].der.len()), ("A B", 100));
    }

    #[test]
    fn keys_take_the_traditional_form() {
        for (algorithm, label) in [
            (&PKCS_RSA_SHA256, "RSA PRIVATE KEY"),
            (&PKCS_ECDSA_P256_SHA256, "EC PRIVATE KEY"),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let text = traditional_key(&parse(&key.serialize_pem())[0]).unwrap();
            assert_eq!(parse(&text)[0].label, label);
            any_supported_type(&PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap()).unwrap();
        }
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        assert_eq!(traditional_key(&parse(&key.serialize_pem())[0]), None);
    }
}
