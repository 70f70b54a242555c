//! Between Terraform's values and a vault's settings. Pure.

use crate::azure::{KeyVault, KeyVaultSettings, RoleAssignment};
use crate::framework::Value;
use crate::provider::operation::{all_tags, shown_tags, tags};

/// The settings of a planned state. `tenant` stands in where none is written.
pub(super) fn settings(planned: &Value, tenant: &str) -> KeyVaultSettings {
    let is = |name: &str, default: bool| planned.get(name).as_bool().unwrap_or(default);
    KeyVaultSettings {
        tenant_id: planned.get("tenant_id").as_str().unwrap_or(tenant).to_owned(),
        sku_name: planned.get("sku_name").as_str().unwrap_or("standard").to_owned(),
        rbac: is("rbac_authorization_enabled", true),
        retention_days: planned.get("soft_delete_retention_days").as_i64().unwrap_or(90),
        purge_protection: is("purge_protection_enabled", true),
        public_network: is("public_network_access_enabled", true),
        tags: tags(planned),
    }
}

/// The state of a vault that was read. `base` has the attributes that Azure does not know.
pub(super) fn observed(base: &Value, id: &str, vault: &KeyVault) -> Value {
    let settings = &vault.settings;
    let mut state = base.clone();
    state.set("id", id);
    state.set("vault_uri", vault.uri.as_str());
    state.set("location", vault.location.as_str());
    state.set("tenant_id", settings.tenant_id.as_str());
    state.set("sku_name", settings.sku_name.as_str());
    state.set("rbac_authorization_enabled", settings.rbac);
    state.set("soft_delete_retention_days", settings.retention_days);
    state.set("purge_protection_enabled", settings.purge_protection);
    state.set("public_network_access_enabled", settings.public_network);
    state.set("tags", shown_tags(&settings.tags, base));
    state
}

/// The state of a vault that is imported.
pub(super) fn imported(empty: &Value, id: &str, group: &str, name: &str, vault: &KeyVault) -> Value {
    let mut state = observed(empty, id, vault);
    state.set("name", name);
    state.set("resource_group_id", group);
    state.set("tags", all_tags(&vault.settings.tags));
    state.set("grant_caller", false);
    state.set("purge_on_destroy", false);
    state.set("recover_soft_deleted", true);
    state
}

/// The caller's role as the state tells it.
pub(super) fn grant(assignment: &RoleAssignment, managed: bool) -> Value {
    Value::object([
        ("id", Value::from(assignment.id.as_str())),
        ("principal_id", Value::from(assignment.principal.0.as_str())),
        ("managed", Value::from(managed)),
    ])
}

/// Whether two settings differ in what can be changed.
pub(super) fn differ(left: &KeyVaultSettings, right: &KeyVaultSettings) -> bool {
    let comparable = |it: &KeyVaultSettings| KeyVaultSettings {
        tenant_id: it.tenant_id.to_ascii_lowercase(),
        retention_days: 0,
        ..it.clone()
    };
    comparable(left) != comparable(right)
}
