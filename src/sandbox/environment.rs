//! The variables that make a client meet this world.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::core::Core;
use super::entra::Principal;
use super::world::{id_of, members};

/// How the world is addressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By Azure's own names, through the proxy.
    #[default]
    Names,
    /// By loopback ports, as a custom cloud.
    Ports,
}

/// The environment of this principal.
pub(crate) fn of(
    core: &Core,
    world: &Value,
    dir: &Path,
    principal: &Principal,
    mode: Mode,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        environment.insert(name.to_owned(), value);
    };
    let file = |name: &str| dir.join(name).display().to_string();
    for name in [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
    ] {
        set(name, file("ca-bundle.pem"));
    }
    set("TF_CLI_CONFIG_FILE", file("terraform.rc"));
    set("CHECKPOINT_DISABLE", "1".to_owned());
    set("KUBECONFIG", file("kubeconfig"));
    set("AZURE_CONFIG_DIR", file("az"));
    set("KVTLS_SANDBOX", format!("{}/sandbox", core.names.front_base()));
    set("ARM_SUBSCRIPTION_ID", subscription(world, core, principal));
    for prefix in ["ARM", "AZURE"] {
        set(&format!("{prefix}_TENANT_ID"), principal.tenant.clone());
        if let Some(client) = &principal.client_id {
            set(&format!("{prefix}_CLIENT_ID"), client.clone());
        }
        if let Some(secret) = &principal.secret {
            set(&format!("{prefix}_CLIENT_SECRET"), secret.clone());
        }
    }
    set("ARM_USE_CLI", "false".to_owned());
    set("ARM_RESOURCE_PROVIDER_REGISTRATIONS", "none".to_owned());
    set("ARM_SKIP_PROVIDER_REGISTRATION", "true".to_owned());
    for name in ["NO_PROXY", "no_proxy"] {
        set(name, "127.0.0.1,localhost".to_owned());
    }
    let base = core.names.front_base();
    match mode {
        Mode::Names => {
            for name in ["HTTPS_PROXY", "https_proxy"] {
                set(name, core.names.proxy_base());
            }
        }
        Mode::Ports => {
            set("ARM_ENVIRONMENT", "custom".to_owned());
            set(
                "ARM_METADATA_HOSTNAME",
                base.trim_start_matches("https://").to_owned(),
            );
            set("ARM_ACTIVE_DIRECTORY_AUTHORITY_HOST", base.clone());
            set("ARM_RESOURCE_MANAGER_ENDPOINT", base.clone());
            set(
                "ARM_RESOURCE_MANAGER_AUDIENCE",
                "https://management.azure.com".to_owned(),
            );
            set("AZURE_AUTHORITY_HOST", base);
        }
    }
    environment
}

/// The first subscription of the principal's tenant, or the first at all.
fn subscription(world: &Value, core: &Core, principal: &Principal) -> String {
    let tenant_of = |subscription: &Value| {
        let named = subscription.get("tenant").and_then(Value::as_str);
        let tenant = match named {
            Some(name) => core.directory.tenant(name),
            None => core.directory.tenants().first(),
        };
        tenant.map(|tenant| tenant.id.clone())
    };
    let own =
        members(world, "subscriptions").find(|(_, one)| tenant_of(one).as_ref() == Some(&principal.tenant));
    let found = own.or_else(|| members(world, "subscriptions").next());
    found.map_or_else(String::new, |(name, subscription)| {
        let given = subscription.get("id").and_then(Value::as_str).map(str::to_owned);
        given.unwrap_or_else(|| id_of(&format!("/subscriptions/{name}")))
    })
}

/// The environment as lines for a shell.
pub(crate) fn shell(environment: &BTreeMap<String, String>) -> String {
    environment.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing into a string cannot fail.
        let _written = writeln!(text, "export {name}='{}'", value.replace('\'', r"'\''")).is_ok();
        text
    })
}
