//! The attributes of `kvtls_cluster_addon`. The source of its page in `docs/`.

use crate::framework::validate::one_of;
use crate::framework::{Attribute, Nesting, Presence, Schema, Timeouts, equality};
use crate::provider::ids::cluster_id;
use crate::provider::wishes;

use Presence::{Computed, OptionalComputed, Required};

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
        "The Key Vault Secrets Provider add-on of an AKS cluster, switched on and kept as wished. It belongs in one place: \
         with whoever owns the cluster. There, use this resource or the block `key_vault_secrets_provider` of \
         `azurerm_kubernetes_cluster`, not both; where azurerm manages the cluster without that block, add \
         `lifecycle { ignore_changes = [key_vault_secrets_provider] }` to it. Bindings of such a cluster say \
         `addon = { mode = \"require\" }` and change nothing of it.",
        [
            (
                "cluster_id",
                Attribute::string(Required, "The AKS cluster's resource ID.")
                    .valid(cluster_id)
                    .equal_by(equality::without_case)
                    .requires_replace(),
            ),
            ("rotation_enabled", wishes::rotation_enabled()),
            ("rotation_poll_interval", wishes::rotation_poll_interval()),
            (
                "on_destroy",
                Attribute::string(
                    OptionalComputed,
                    "`leave` leaves the add-on on; `disable` switches it off, which Azure refuses while a \
                     SecretProviderClass exists anywhere in the cluster; `disable_if_unused` asks the cluster first and \
                     leaves it on, with a warning, if there is one or the cluster does not answer. `leave` unless set.",
                )
                .default("leave")
                .valid(one_of(&["leave", "disable_if_unused", "disable"])),
            ),
            ("timeouts", TIMEOUTS.attribute()),
            (
                "id",
                Attribute::string(Computed, "The cluster's resource ID; also the ID to import by."),
            ),
            (
                "identity",
                Attribute::nested(
                    Nesting::Single,
                    Computed,
                    "The identity that AKS made for it, another one each time it is switched on; null while it is off.",
                    [
                        (
                            "client_id",
                            Attribute::string(Computed, "Its client ID, which a SecretProviderClass names."),
                        ),
                        (
                            "object_id",
                            Attribute::string(Computed, "Its object ID, for grants."),
                        ),
                        ("resource_id", Attribute::string(Computed, "Its resource ID.")),
                    ],
                ),
            ),
            (
                "provisioning_state",
                Attribute::string(
                    Computed,
                    "The cluster's, for example `Succeeded`, or `Updating` while somebody changes it.",
                ),
            ),
        ],
    )
    .faults_as("KVTLS-E002")
}
