//! The world file.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// The GUID of a thing in the world, the same in every run.
pub(crate) fn id_of(path: &str) -> String {
    Uuid::new_v5(&NAMESPACE, path.as_bytes()).to_string()
}

/// A GUID that is new each time: request and correlation IDs.
pub(crate) fn random_uuid() -> String {
    Uuid::new_v4().to_string()
}

/// The sandbox's own name space.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d2f_2f0e_7c8b_5d6c_9c51_6f4b_76c4_4b01);

/// Parses `10m`, `1h30m`, `250ms`, `22d`.
pub(crate) fn duration(text: &str) -> Option<std::time::Duration> {
    let mut rest = text;
    let mut total = std::time::Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total += std::time::Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// A duration as [`duration`] parses it.
pub(crate) fn shown(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis % 1000 != 0 => format!("{millis}ms"),
        _ if millis % 3_600_000 == 0 => format!("{}h", millis / 3_600_000),
        _ if millis % 60_000 == 0 => format!("{}m", millis / 60_000),
        _ => format!("{}s", millis / 1000),
    }
}

/// Parses a moment: `-22d` and `+90d` are relative to the start, anything else is RFC 3339.
pub(crate) fn moment(text: &str, start: OffsetDateTime) -> Option<OffsetDateTime> {
    match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(before), _) => Some(start - duration(before)?),
        (_, Some(after)) => Some(start + duration(after)?),
        _ => OffsetDateTime::parse(text, &Rfc3339).ok(),
    }
}

/// A moment as text, in UTC, to the second.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    let seconds = at.replace_nanosecond(0).unwrap_or(at);
    seconds
        .to_offset(time::UtcOffset::UTC)
        .format(&Rfc3339)
        .unwrap_or_default()
}
