//! Different spellings of the same, for [`Attribute::equal_by`](super::Attribute::equal_by).
//!
//! Each function is called with two known, non-null values and says whether they mean the same. A pair of another
//! kind than it is for is never the same.

use std::time::Duration;

use super::value::Value;

/// Text that differs in the case of ASCII letters only, as resource IDs do.
pub fn without_case(left: &Value, right: &Value) -> bool {
    both(left, right).is_some_and(|(left, right)| left.eq_ignore_ascii_case(right))
}

/// Text that differs in trailing white space only, as PEM files and heredocs do.
pub fn without_trailing_space(left: &Value, right: &Value) -> bool {
    both(left, right).is_some_and(|(left, right)| left.trim_end() == right.trim_end())
}

/// Durations of the same length: `2m` and `120s`. Text that is no duration is the same as itself only.
pub fn same_duration(left: &Value, right: &Value) -> bool {
    both(left, right).is_some_and(|(left, right)| match (duration(left), duration(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    })
}

/// JSON documents of the same content, whatever their white space and the order of their members.
pub fn same_json(left: &Value, right: &Value) -> bool {
    both(left, right).is_some_and(|(left, right)| {
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        left == right || parsed(left).is_some_and(|left| Some(left) == parsed(right))
    })
}

fn both<'a>(left: &'a Value, right: &'a Value) -> Option<(&'a str, &'a str)> {
    Some((left.as_str()?, right.as_str()?))
}

/// Reads a duration as Go writes it: numbers, which may have a fraction, each with one of the units `h`, `m`, `s`, `ms`,
/// `us`, `µs` and `ns`, largest first or not; and `d` for days of 24 hours, which Go does not know. `None` for anything
/// else, for negative ones, and beyond 292 years, where Go's end.
pub fn duration(text: &str) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_mean_the_same() {
        type Same = fn(&Value, &Value) -> bool;
        for (same, left, right, expected) in [
            (without_case as Same, "/Subscriptions/A", "/subscriptions/a", true),
            (without_case, "a", "b", false),
            (without_trailing_space, "a\n", "a", true),
            (without_trailing_space, "\na", "a", false),
            (same_duration, "2m", "120s", true),
            (same_duration, "1h0m0.5s", "3600500ms", true),
            (same_duration, "2m", "121s", false),
            (same_duration, "soon", "soon", true),
            (same_duration, "soon", "late", false),
            (same_json, r#"{"a": 1, "b": [2]}"#, r#"{"b":[2],"a":1}"#, true),
            (same_json, "[1,2]", "[2,1]", false),
            (same_json, "no json", "no json", true),
        ] {
            assert_eq!(same(&left.into(), &right.into()), expected, "{left:?} {right:?}");
        }
        assert!(!without_case(&true.into(), &"true".into()));
    }

    #[test]
    fn a_duration_is_read_as_go_reads_it_and_days_too() {
        for (text, expected) in [
            ("0", Some(0)),
            ("90s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("1m30s", Some(90_000)),
            (".5s", Some(500)),
            ("1d12h", Some(129_600_000)),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }
}
