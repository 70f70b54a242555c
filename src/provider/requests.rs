//! How every request shows whose it is: settings of the provider block beside identity and cloud.

use uuid::Uuid;

use crate::framework::{Attribute, AttributePath, Diagnostic, Diagnostics, Presence, Value};

/// Attributes of the provider block.
pub(super) fn attributes() -> Vec<(&'static str, Attribute)> {
    let optional = |text: &str| Attribute::string(Presence::Optional, text);
    let bool = |text: &str| Attribute::bool(Presence::Optional, text);
    vec![
        (
            "partner_id",
            optional(
                "GUID of a Microsoft partner to whom the use of Azure is attributed, as `pid-GUID` in the User-Agent. \
                 Also `ARM_PARTNER_ID`.",
            ),
        ),
        (
            "disable_terraform_partner_id",
            bool("kvtls never sends a partner ID that is not configured, so this can only be `true`.")
                .valid(only_true("a partner ID that is not configured is never sent")),
        ),
        (
            "custom_correlation_request_id",
            optional(
                "GUID sent as `x-ms-correlation-request-id` with every request; one is made for each run unless set. \
                 Also `ARM_CORRELATION_REQUEST_ID`.",
            ),
        ),
        (
            "disable_correlation_request_id",
            bool(
                "Sends no `x-ms-correlation-request-id`; false unless set. Also `ARM_DISABLE_CORRELATION_REQUEST_ID`.",
            ),
        ),
        (
            "disable_instance_discovery",
            bool(
                "kvtls asks no other cloud whether an authority can be trusted, so this can only be `true`.",
            )
            .valid(only_true("instance discovery is never asked for")),
        ),
    ]
}

/// A setting of azurerm or azapi that is always so here: the other value would promise what is not done.
fn only_true(why: &'static str) -> impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync {
    move |value, path| match value.as_bool() {
        Some(false) => vec![
            Diagnostic::error(
                "Setting can only be true",
                format!("{path} is false, but {why}."),
                "Remove the line.",
            )
            .at(path.clone()),
        ],
        _ => Vec::new(),
    }
}

/// A partner's GUID.
///
/// # Errors
/// If it is none.
pub(super) fn partner_id(text: Option<String>) -> Result<Option<String>, Diagnostics> {
    match text {
        Some(text) if Uuid::parse_str(&text).is_err() => Err(Diagnostics::from(
            Diagnostic::error(
                "Partner ID is not a GUID",
                format!("partner_id (ARM_PARTNER_ID) is \"{text}\"."),
                "Write the GUID of the partner, for example 11111111-2222-3333-4444-555555555555.",
            )
            .at(AttributePath::of("partner_id")),
        )),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partner_is_a_guid() {
        assert!(partner_id(Some("contoso".to_owned())).is_err());
        let guid = "11111111-2222-3333-4444-555555555555".to_owned();
        assert_eq!(partner_id(Some(guid.clone())), Ok(Some(guid)));
        assert_eq!(partner_id(None), Ok(None));
    }
}
