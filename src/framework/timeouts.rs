//! How long operations may take: the attribute `timeouts`, by which the practitioner says so.

use std::time::Duration;

use super::schema::{Attribute, Nesting, Presence};
use super::validate;
use super::value::Value;
use crate::duration;

/// What each operation may take unless the configuration says otherwise, as written there: `"30m"`.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To create.
    pub create: &'static str,
    /// To read, which planning and importing do, too.
    pub read: &'static str,
    /// To update.
    pub update: &'static str,
    /// To delete.
    pub delete: &'static str,
}

impl Timeouts {
    /// The attribute `timeouts`.
    pub fn attribute(&self) -> Attribute {
        let timeout = |default: &'static str| {
            Attribute::string(Presence::Optional, format!("`{default}` unless set."))
                .valid(validate::duration(default))
        };
        Attribute::nested(
            Nesting::Single,
            Presence::Optional,
            "How long operations may take.",
            [
                ("create", timeout(self.create)),
                ("read", timeout(self.read)),
                ("update", timeout(self.update)),
                ("delete", timeout(self.delete)),
            ],
        )
    }

    /// What `operation` may take for this configuration or state: the answer of [`super::Resource::timeout`].
    pub fn of(&self, operation: &str, value: &Value) -> Duration {
        let otherwise = match operation {
            "create" => self.create,
            "update" => self.update,
            "delete" => self.delete,
            _ => self.read,
        };
        let written = value.get("timeouts").get(operation).as_str();
        written
            .and_then(duration::parse)
            .or_else(|| duration::parse(otherwise))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_before_what_is_usual() {
        let timeouts = Timeouts {
            create: "30m",
            read: "5m",
            update: "1h",
            delete: "10m",
        };
        let written = Value::object([(
            "timeouts",
            Value::object([("read", Value::from("90s")), ("delete", Value::Unknown)]),
        )]);
        for (operation, value, seconds) in [
            ("create", &Value::Null, 1800),
            ("read", &Value::Null, 300),
            ("update", &written, 3600),
            ("read", &written, 90),
            ("delete", &written, 600),
        ] {
            assert_eq!(
                timeouts.of(operation, value),
                Duration::from_secs(seconds),
                "{operation}"
            );
        }
    }
}
