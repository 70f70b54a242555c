//! The variables that make a client meet this world.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::core::Core;
use super::entra::{
    APP_SERVICE, METADATA_SERVICE, Principal, Voucher, identity_header, request_path, request_token,
    service_connection,
};
use super::files;
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
    for (name, value) in credential(core, dir, principal, mode) {
        set(name, value);
    }
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

/// What a principal has in place of a secret. Nothing for those that have one: these variables change which credential
/// wins.
fn credential(core: &Core, dir: &Path, principal: &Principal, mode: Mode) -> Vec<(&'static str, String)> {
    let front = core.names.front_base();
    let file = |name: String| dir.join(name).display().to_string();
    let yes = || "true".to_owned();
    let mut variables = Vec::new();
    if let (Some(certificate), None) = (&principal.certificate, &principal.secret) {
        for (path, password) in [
            ("ARM_CLIENT_CERTIFICATE_PATH", "ARM_CLIENT_CERTIFICATE_PASSWORD"),
            (
                "AZURE_CLIENT_CERTIFICATE_PATH",
                "AZURE_CLIENT_CERTIFICATE_PASSWORD",
            ),
        ] {
            variables.push((path, file(files::pfx_name(principal))));
            variables.push((password, certificate.password().to_owned()));
        }
    }
    let ask = request_path(principal).map(|path| format!("{front}{path}"));
    match (principal.voucher, ask) {
        (Some(Voucher::GitHub), Some(url)) => variables.extend([
            ("ARM_USE_OIDC", yes()),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", request_token(&principal.name)),
        ]),
        (Some(Voucher::Pipelines), Some(url)) => variables.extend([
            ("ARM_USE_OIDC", yes()),
            ("SYSTEM_OIDCREQUESTURI", url),
            ("SYSTEM_ACCESSTOKEN", request_token(&principal.name)),
            (
                "ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID",
                service_connection(&principal.name),
            ),
        ]),
        (Some(Voucher::Kubernetes), _) => {
            let login = match mode {
                Mode::Names => "https://login.microsoftonline.com".to_owned(),
                Mode::Ports => front,
            };
            variables.extend([
                ("ARM_USE_AKS_WORKLOAD_IDENTITY", yes()),
                (
                    "AZURE_FEDERATED_TOKEN_FILE",
                    file(files::federated_token_name(principal)),
                ),
                ("AZURE_AUTHORITY_HOST", format!("{login}/")),
            ]);
        }
        _ => {}
    }
    if principal.on_machine {
        let machine = core.names.proxy_base();
        variables.extend([
            ("ARM_USE_MSI", yes()),
            ("ARM_MSI_ENDPOINT", format!("{machine}{METADATA_SERVICE}")),
            ("IDENTITY_ENDPOINT", format!("{machine}{APP_SERVICE}")),
            ("IDENTITY_HEADER", identity_header()),
        ]);
    }
    variables
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
