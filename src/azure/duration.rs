//! Durations as practitioners write them: Go's syntax, as AKS takes it, and `d` for days, which AKS does not take. Pure.

use std::time::Duration;

/// Reads `90s`, `1h30m`, `1.5h`, `30d`. Returns nothing for anything else, for negative and for absurd values.
pub fn parse(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    const DAY: f64 = 86_400.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = &rest[..end];
        let factor = if unit == "d" {
            DAY
        } else {
            UNITS.iter().find(|(name, _)| *name == unit)?.1
        };
        seconds += amount * factor;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Whether two spellings mean the same duration.
pub fn same(left: &str, right: &str) -> bool {
    left == right || matches!((parse(left), parse(right)), (Some(left), Some(right)) if left == right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them_and_days_too() {
        for (text, seconds) in [
            ("2m", 120.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("30d", 2_592_000.0),
            ("90s", 90.0),
        ] {
            assert_eq!(parse(text).map(|it| it.as_secs_f64()), Some(seconds), "{text}");
        }
        for text in ["", "2", "m", "-2m", "2 m", "2x", "1e3s", "."] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(same("2m", "120s"));
    }
}
