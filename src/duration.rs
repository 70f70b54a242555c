//! Durations as practitioners write them: Go's syntax, and `d` for days, which Go does not know. Pure.

use std::time::Duration;

/// Reads a duration as Go writes it: numbers, which may have a fraction, each with one of the units `h`, `m`, `s`, `ms`,
/// `us`, `µs` and `ns`, largest first or not; and `d` for days of 24 hours, which Go does not know. `None` for anything
/// else, for negative ones, and beyond 292 years, where Go's end.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut nanoseconds: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit: u128 = match unit {
            "d" => 86_400_000_000_000,
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.len() > 18 {
            return None;
        }
        let digits = |text: &str| {
            if text.is_empty() {
                Some(0)
            } else {
                text.parse::<u128>().ok()
            }
        };
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let part = digits(whole)?.checked_mul(unit)? + digits(fraction)?.checked_mul(unit)? / scale;
        nanoseconds = nanoseconds.checked_add(part)?;
        rest = tail;
    }
    let nanoseconds = i64::try_from(nanoseconds).ok()?;
    Some(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

/// Whether two spellings mean the same duration. Text that is none is the same as itself only.
pub fn same(left: &str, right: &str) -> bool {
    left == right || matches!((parse(left), parse(right)), (Some(left), Some(right)) if left == right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them_and_days_too() {
        for (text, expected) in [
            ("0", Some(0)),
            ("90s", Some(90_000)),
            ("2m", Some(120_000)),
            ("1h30m", Some(5_400_000)),
            ("30d", Some(2_592_000_000)),
            ("1.5h", Some(5_400_000)),
            ("1m30s", Some(90_000)),
            (".5s", Some(500)),
            ("1d12h", Some(129_600_000)),
            ("", None),
            ("5", None),
            ("m", None),
            ("-2m", None),
            ("2 m", None),
            (" 2m", None),
            ("2x", None),
            ("1e3s", None),
            (".", None),
            ("-5s", None),
            ("s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(parse(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn two_spellings_may_mean_the_same() {
        for (left, right, expected) in [
            ("2m", "120s", true),
            ("2m", "2h", false),
            ("soon", "soon", true),
            ("soon", "later", false),
        ] {
            assert_eq!(same(left, right), expected, "{left} {right}");
        }
    }
}
