//! Quantities (`500m`, `1Gi`) in the one form the API stores them in.

/// The suffixes of both systems, the largest first: in nanos of one, or in powers of 1024.
const DECIMAL: &[(&str, i128)] = &[
    ("E", 1_000_000_000_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000_000_000),
    ("T", 1_000_000_000_000_000_000_000),
    ("G", 1_000_000_000_000_000_000),
    ("M", 1_000_000_000_000_000),
    ("k", 1_000_000_000_000),
    ("", NANOS),
    ("m", 1_000_000),
    ("u", 1_000),
    ("n", 1),
];
const BINARY: &[(&str, i128)] = &[
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const NANOS: i128 = 1_000_000_000;

/// The canonical form; `None` if the text is no quantity, or one beyond reason.
pub(super) fn canonical(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || ".+-".contains(c)))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let nanos = nanos(number)?;
    if let Some((_, factor)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        let value = nanos.checked_mul(*factor)?;
        if value.abs() < 1024 * NANOS {
            return Some(decimal(value));
        }
        // Fractions of a byte are rounded up.
        let whole = (value + NANOS - 1).div_euclid(NANOS);
        let fitting = BINARY.iter().find(|(_, factor)| whole % factor == 0);
        let (name, factor) = fitting.copied().unwrap_or(("", 1));
        return Some(format!("{}{name}", whole / factor));
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty()) {
        let exponent: i32 = exponent.parse().ok()?;
        let scaled = if exponent >= 0 {
            nanos.checked_mul(10_i128.checked_pow(exponent.unsigned_abs())?)?
        } else {
            nanos / 10_i128.checked_pow(exponent.unsigned_abs())?
        };
        return Some(exponential(scaled));
    }
    let (_, factor) = DECIMAL.iter().find(|(name, _)| *name == suffix)?;
    let value = nanos.checked_mul(*factor)?;
    Some(decimal(
        value.div_euclid(NANOS) + i128::from(value.rem_euclid(NANOS) > 0),
    ))
}

/// What a quantity in its canonical form amounts to, in nanos; `None` for one with an exponent.
pub(super) fn amount(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number = number.parse::<i128>().ok()?;
    let is = |(name, _): &&(&str, i128)| *name == suffix;
    match BINARY.iter().find(is) {
        Some((_, factor)) => number.checked_mul(*factor)?.checked_mul(NANOS),
        None => number.checked_mul(DECIMAL.iter().find(is)?.1),
    }
}

/// A decimal number in nanos.
fn nanos(number: &str) -> Option<i128> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let padded: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let value = whole.checked_mul(NANOS)?.checked_add(padded.parse().ok()?)?;
    Some(if negative { -value } else { value })
}

/// With the largest suffix that leaves no fraction.
fn decimal(nanos: i128) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let fitting = DECIMAL.iter().find(|(_, factor)| nanos % factor == 0);
    let (name, factor) = fitting.copied().unwrap_or(("n", 1));
    format!("{}{name}", nanos / factor)
}

fn exponential(nanos: i128) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let (mut value, mut exponent) = (nanos, -9);
    while value % 1000 == 0 {
        (value, exponent) = (value / 1000, exponent + 3);
    }
    if exponent == 0 {
        value.to_string()
    } else {
        format!("{value}e{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantity_has_one_form() {
        for (text, wanted) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("500m", "500m"),
            ("1", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("64Mi", "64Mi"),
            ("1000Ki", "1000Ki"),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("0", "0"),
            ("100k", "100k"),
            ("-1500m", "-1500m"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(wanted), "{text}");
        }
        for text in ["", "x", "1Q", "1.2.3", "."] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }
}
