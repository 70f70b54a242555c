//! The attributes of `kvtls_key_vault`, and what of a configuration contradicts itself. The source of its page in `docs/`.

use crate::framework::validate::{one_of, text, unexpected, whole_number_between};
use crate::framework::{
    Attribute, AttributePath, Diagnostic, Diagnostics, Nesting, Presence, Reader, Schema, Timeouts, Type,
    Value,
};

use Presence::{Computed, Optional, OptionalComputed, Required};

/// What operations take at most unless the configuration says otherwise.
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    create: "30m",
    read: "5m",
    update: "30m",
    delete: "30m",
};

/// The schema.
pub(super) fn schema() -> Schema {
    Schema::new(
        "A Key Vault for certificates. Only the attributes of this page are ever written, so network rules and access \
         policies that others set stay; for those, and for private endpoints, use `azurerm_key_vault`.",
        [
            (
                "name",
                Attribute::string(
                    Required,
                    "Its name, unique in the whole cloud: 3 to 24 letters, digits and hyphens.",
                )
                .valid(text("a Key Vault's name", "\"kv-shop-prod\"", is_vault_name))
                .requires_replace(),
            ),
            (
                "resource_group_id",
                Attribute::string(Required, "The resource group's ID; it must exist.")
                    .valid(resource_group)
                    .equal_by(same_without_case)
                    .requires_replace(),
            ),
            (
                "location",
                Attribute::string(Required, "The region, for example `eastus`.")
                    .equal_by(same_location)
                    .requires_replace(),
            ),
            (
                "tenant_id",
                Attribute::string(
                    OptionalComputed,
                    "The tenant whose identities it lets in; the caller's unless set.",
                )
                .equal_by(same_without_case)
                .keeps_prior(),
            ),
            (
                "sku_name",
                Attribute::string(OptionalComputed, "`standard` or `premium`. `standard` unless set.")
                    .default("standard")
                    .valid(one_of(&["standard", "premium"])),
            ),
            (
                "rbac_authorization_enabled",
                Attribute::bool(
                    OptionalComputed,
                    "Whether roles decide who may read it, not access policies. True unless set.",
                )
                .default(true),
            ),
            (
                "soft_delete_retention_days",
                Attribute::number(
                    OptionalComputed,
                    "How long what is deleted can be recovered, 7 to 90 days. Set once, when the vault is made. 90 unless \
                     set.",
                )
                .default(90_i64)
                .valid(whole_number_between(7, 90)),
            ),
            (
                "purge_protection_enabled",
                Attribute::bool(
                    OptionalComputed,
                    "Whether nobody can purge it before that. Cannot be switched off again. True unless set.",
                )
                .default(true),
            ),
            (
                "public_network_access_enabled",
                Attribute::bool(
                    OptionalComputed,
                    "Whether the public network leads to it. True unless set.",
                )
                .default(true),
            ),
            (
                "tags",
                Attribute::value(
                    Type::map(Type::String),
                    Optional,
                    "Its tags. Tags that others set stay.",
                ),
            ),
            (
                "grant_caller",
                Attribute::bool(
                    OptionalComputed,
                    "Whether the identity that runs Terraform gets the role Key Vault Certificates Officer here, which \
                     making certificates needs and Owner does not have. Needs the right to assign roles. False unless set.",
                )
                .default(false),
            ),
            (
                "purge_on_destroy",
                Attribute::bool(
                    OptionalComputed,
                    "Whether destroy also purges it; needs `purge_protection_enabled = false`. False unless set.",
                )
                .default(false),
            ),
            (
                "recover_soft_deleted",
                Attribute::bool(
                    OptionalComputed,
                    "Whether a deleted vault of this name and resource group is recovered instead of made anew. True \
                     unless set.",
                )
                .default(true),
            ),
            ("timeouts", TIMEOUTS.attribute()),
            (
                "id",
                Attribute::string(Computed, "Its resource ID; also the ID to import by."),
            ),
            (
                "vault_uri",
                Attribute::string(
                    Computed,
                    "Its own address, for example `https://kv-shop-prod.vault.azure.net/`.",
                ),
            ),
            (
                "caller_grant",
                Attribute::nested(
                    Nesting::Single,
                    Computed,
                    "The role that `grant_caller` gave.",
                    [
                        ("id", Attribute::string(Computed, "The role assignment's ID.")),
                        ("principal_id", Attribute::string(Computed, "Who has it.")),
                        (
                            "managed",
                            Attribute::bool(
                                Computed,
                                "Whether kvtls made it; one that was there already stays on destroy.",
                            ),
                        ),
                    ],
                ),
            ),
        ],
    )
    .faults_as("KVTLS-E002")
}

/// What contradicts itself, as far as it is known.
pub(super) fn contradictions(config: &Value) -> Diagnostics {
    let root = Reader::root(config);
    let mut diagnostics = Diagnostics::new();
    let is = |name: &str, default: bool| root.known_bool(name).or(default).known();
    if is("purge_on_destroy", false) == Some(true) && is("purge_protection_enabled", true) == Some(true) {
        diagnostics.push(
            Diagnostic::error(
                "Purge protection forbids to purge",
                "purge_on_destroy is true, and purge_protection_enabled is true, which is its default: nobody can purge \
                 the vault then.",
                "Set  purge_protection_enabled = false, or leave  purge_on_destroy  out.",
            )
            .at(AttributePath::of("purge_on_destroy")),
        );
    }
    if is("grant_caller", false) == Some(true) && is("rbac_authorization_enabled", true) == Some(false) {
        diagnostics.push(
            Diagnostic::error(
                "Roles do not count in this vault",
                "grant_caller gives a role, and rbac_authorization_enabled is false: access policies decide then.",
                "Leave  grant_caller  out and give the caller an access policy, or let roles decide.",
            )
            .at(AttributePath::of("grant_caller")),
        );
    }
    diagnostics
}

/// The vault's ID, if what it is made of is known.
pub(super) fn id(value: &Value) -> Option<String> {
    let group = value.get("resource_group_id").as_str()?.trim_end_matches('/');
    let name = value.get("name").as_str()?;
    Some(format!("{group}/providers/Microsoft.KeyVault/vaults/{name}"))
}

fn resource_group(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    let is_group = |text: &str| {
        let segments: Vec<&str> = text.trim_end_matches('/').split('/').collect();
        matches!(segments.as_slice(), ["", first, subscription, third, group]
            if first.eq_ignore_ascii_case("subscriptions") && third.eq_ignore_ascii_case("resourceGroups")
                && !subscription.is_empty() && !group.is_empty())
    };
    match value.as_str() {
        Some(text) if !is_group(text) => vec![unexpected(
            path,
            "a resource group's ID",
            "\"/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/my-group\"",
            value,
        )],
        _ => Vec::new(),
    }
}

fn is_vault_name(name: &str) -> bool {
    let letters = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
    let begins = name.bytes().next().is_some_and(|it| it.is_ascii_alphabetic());
    letters && begins && (3..=24).contains(&name.len()) && !name.ends_with('-') && !name.contains("--")
}

fn same_without_case(left: &Value, right: &Value) -> bool {
    matches!((left.as_str(), right.as_str()), (Some(left), Some(right))
        if left.trim_end_matches('/').eq_ignore_ascii_case(right.trim_end_matches('/')))
}

/// `East US` and `eastus` are the same region.
fn same_location(left: &Value, right: &Value) -> bool {
    let plain = |value: &Value| {
        value
            .as_str()
            .map(|text| text.replace(' ', "").to_ascii_lowercase())
    };
    plain(left).is_some() && plain(left) == plain(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_keeps_terraforms_rules() {
        assert_eq!(schema().check(), Vec::<String>::new());
    }

    #[test]
    fn a_region_has_several_spellings() {
        assert!(same_location(&Value::from("East US"), &Value::from("eastus")));
        assert!(!same_location(&Value::from("eastus2"), &Value::from("eastus")));
    }

    #[test]
    fn names_are_judged_as_azure_does() {
        for (name, good) in [
            ("kv-1", true),
            ("ab", false),
            ("1ab", false),
            ("a--b", false),
            ("ab-", false),
        ] {
            assert_eq!(is_vault_name(name), good, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_purged_is_not_promised_to_be() {
        let config = |members: &[(&str, Value)]| {
            Value::object(members.iter().map(|(name, value)| (*name, value.clone())))
        };
        let rows = [
            (config(&[("purge_on_destroy", Value::from(true))]), 1),
            (
                config(&[
                    ("purge_on_destroy", Value::from(true)),
                    ("purge_protection_enabled", Value::from(false)),
                ]),
                0,
            ),
            (
                config(&[
                    ("purge_on_destroy", Value::from(true)),
                    ("purge_protection_enabled", Value::Unknown),
                ]),
                0,
            ),
            (
                config(&[
                    ("grant_caller", Value::from(true)),
                    ("rbac_authorization_enabled", Value::from(false)),
                ]),
                1,
            ),
        ];
        for (config, errors) in rows {
            assert_eq!(contradictions(&config).iter().count(), errors, "{config:?}");
        }
    }
}
