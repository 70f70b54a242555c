//! What a plan shows: a function of configuration, prior state and what the last read kept. Pure.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::SEEN_AT;
use crate::framework::duration;
use crate::framework::resource::Private;
use crate::framework::{PlanRequest, Value};

/// Why a new version is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The policy is another one, or there was none.
    Policy,
    /// Other key material is brought, or there was none.
    Material,
    /// Somebody wishes it.
    Trigger,
    /// The current version ends soon.
    Due,
}

/// Fills in what the configuration leaves to us, as far as it is known.
pub(super) fn fill(config: &Value, planned: &mut Value) {
    let written = config.get("policy");
    let Some(policy) = planned.as_map_mut().and_then(|it| it.get_mut("policy")) else {
        return;
    };
    if policy.as_map().is_none() {
        return;
    }
    let kind = policy.get("key_type").clone();
    if written.get("key_size").is_null() {
        let size = match kind.as_str() {
            Some("RSA") => Value::from(2048),
            Some(_) => Value::Null,
            None => Value::Unknown,
        };
        policy.set("key_size", size);
    }
    if written.get("curve").is_null() {
        let curve = match kind.as_str() {
            Some("EC") => Value::from("P-256"),
            Some(_) => Value::Null,
            None => Value::Unknown,
        };
        policy.set("curve", curve);
    }
    if written.get("subject").is_null() {
        let first = policy.get("hosts").as_list().and_then(<[Value]>::first);
        let subject = match first.and_then(Value::as_str) {
            Some(host) => Value::from(format!("CN={host}")),
            None => Value::Unknown,
        };
        policy.set("subject", subject);
    }
}

/// What follows from a version, and so is another with each.
const OF_A_VERSION: [&str; 5] = ["version", "hosts", "thumbprint", "not_before", "not_after"];

/// Computed values of a creation.
pub(super) fn of_creation(planned: &mut Value) {
    for name in ["id", "versionless_secret_id", "exportable"]
        .iter()
        .chain(&OF_A_VERSION)
    {
        planned.set(*name, Value::Unknown);
    }
}

/// Computed values of an update, and why it makes a new version, if it does.
pub(super) fn of_update(request: &PlanRequest, planned: &mut Value) -> Option<Reason> {
    let prior = &request.prior;
    for name in ["id", "versionless_secret_id", "exportable"]
        .iter()
        .chain(&OF_A_VERSION)
    {
        let value = match prior.get(name) {
            // An unfinished creation that somebody untainted is completed.
            Value::Null => Value::Unknown,
            value => value.clone(),
        };
        planned.set(*name, value);
    }
    let reason = reason(prior, planned, &request.private);
    if reason.is_some() {
        for name in OF_A_VERSION {
            planned.set(name, Value::Unknown);
        }
        if prior.get("exportable").as_bool() != Some(true) {
            planned.set("exportable", Value::Unknown);
        }
    }
    reason
}

/// Why a new version is to be made of what `prior` describes.
pub(super) fn reason(prior: &Value, planned: &Value, private: &Private) -> Option<Reason> {
    let changed = |name: &str| prior.get(name) != planned.get(name);
    if !planned.get("policy").is_null() && (changed("policy") || !prior.get("import").is_null()) {
        return Some(Reason::Policy);
    }
    if !planned.get("import").is_null()
        && prior.get("import").get("wo_version") != planned.get("import").get("wo_version")
    {
        return Some(Reason::Material);
    }
    if changed("renew_trigger") {
        return Some(Reason::Trigger);
    }
    let seen_at = private.get(SEEN_AT).and_then(serde_json::Value::as_i64)?;
    let seen_at = OffsetDateTime::from_unix_timestamp(seen_at).ok()?;
    let not_after = OffsetDateTime::parse(prior.get("not_after").as_str()?, &Rfc3339).ok()?;
    is_due(planned, not_after, seen_at).then_some(Reason::Due)
}

/// Whether a version that ends then is due for renewal now.
pub(super) fn is_due(planned: &Value, not_after: OffsetDateTime, now: OffsetDateTime) -> bool {
    let before = planned.get("renew_before").as_str().and_then(duration::parse);
    before.is_some_and(|before| !planned.get("policy").is_null() && not_after - now <= before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(members: &[(&str, Value)]) -> Value {
        Value::object(members.iter().map(|(name, value)| (*name, value.clone())))
    }

    #[test]
    fn a_policy_is_filled_by_its_key_type() {
        let hosts = Value::from(vec!["a.example.com", "b.example.com"]);
        let rows = [
            (Value::from("RSA"), Value::from(2048), Value::Null),
            (Value::from("EC"), Value::Null, Value::from("P-256")),
            (Value::Unknown, Value::Unknown, Value::Unknown),
        ];
        for (kind, size, curve) in rows {
            let written = object(&[("hosts", hosts.clone())]);
            let config = object(&[("policy", written)]);
            let policy = object(&[("hosts", hosts.clone()), ("key_type", kind.clone())]);
            let mut planned = object(&[("policy", policy)]);
            fill(&config, &mut planned);
            let policy = planned.get("policy");
            assert_eq!(
                (policy.get("key_size"), policy.get("curve")),
                (&size, &curve),
                "{kind:?}"
            );
            assert_eq!(policy.get("subject"), &Value::from("CN=a.example.com"));
        }
    }

    #[test]
    fn each_reason_for_a_new_version_is_found() {
        let policy = |months: i64| object(&[("validity_months", Value::from(months))]);
        let import = |version: i64| object(&[("wo_version", Value::from(version))]);
        let base = object(&[
            ("policy", policy(12)),
            ("not_after", Value::from("2026-03-01T00:00:00Z")),
        ]);
        let with = |name: &str, value: Value| {
            let mut changed = base.clone();
            changed.set(name, value);
            changed
        };
        let seen = |at: i64| Private::from([(SEEN_AT.to_owned(), serde_json::Value::from(at))]);
        // 1 February and 20 February 2026.
        let (early, late) = (seen(1_769_904_000), seen(1_771_545_600));
        let imported = object(&[("import", import(1))]);
        let rows = [
            (&base, base.clone(), &early, None),
            (&base, with("policy", policy(6)), &early, Some(Reason::Policy)),
            (&imported, base.clone(), &early, Some(Reason::Policy)),
            (&imported, object(&[("import", import(1))]), &early, None),
            (
                &imported,
                object(&[("import", import(2))]),
                &early,
                Some(Reason::Material),
            ),
            (
                &base,
                object(&[("import", import(1))]),
                &early,
                Some(Reason::Material),
            ),
            (
                &base,
                with("renew_trigger", Value::from("x")),
                &early,
                Some(Reason::Trigger),
            ),
            (&base, with("renew_before", Value::from("10d")), &early, None),
            (
                &base,
                with("renew_before", Value::from("10d")),
                &late,
                Some(Reason::Due),
            ),
            (
                &base,
                with("renew_before", Value::from("10d")),
                &Private::new(),
                None,
            ),
            (&base, with("enabled", Value::from(false)), &late, None),
        ];
        for (prior, planned, private, expected) in rows {
            assert_eq!(reason(prior, &planned, private), expected, "{planned:?}");
        }
    }
}
