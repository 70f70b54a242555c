//! Different spellings of the same, for [`Attribute::equal_by`](super::Attribute::equal_by).
//!
//! Each function is called with two known, non-null values and says whether they mean the same. A pair of another
//! kind than it is for is never the same.

use super::value::Value;
use crate::duration;

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
    both(left, right).is_some_and(|(left, right)| duration::same(left, right))
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
}
