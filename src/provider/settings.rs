//! The provider block and the environment, turned into the clients' settings. What is written wins over a variable.

use super::Defaults;
use super::environment::Environment;
use super::ingress_binding::objects;
use super::ingress_binding::schema::labels;
use super::{identity, requests};
use crate::azure::{CustomEndpoints, Settings};
use crate::binding::desired::Connection;
use crate::framework::object::Reader;
use crate::framework::{Attribute, Diagnostic, Diagnostics, Nesting, Presence, Schema, Type, Value};
use crate::k8s::edge::ProxySettings;

/// The schema of the provider block: names, variables and order as azurerm and azapi have them.
pub fn schema() -> Schema {
    let optional = |text: &str| Attribute::string(Presence::Optional, text);
    let mut schema = Schema::new(
        "Serves HTTPS from AKS with certificates that live in Azure Key Vault, and keeps it true.",
        [
            (
                "environment",
                optional("`public`, `usgovernment`, `china` or `custom`; public unless set. Also `ARM_ENVIRONMENT`.")
                    .valid(crate::framework::validate::one_of(&["public", "usgovernment", "china", "custom"])),
            ),
            (
                "metadata_host",
                optional(
                    "Host, without scheme, that serves the metadata of a custom cloud. Also `ARM_METADATA_HOSTNAME`.",
                ),
            ),
            ("endpoint", endpoint_attribute()),
            (
                "blind_plan",
                optional(
                    "What a plan does about parts that it may not see: `warn` keeps their last known values, `error` \
                     fails. `warn` unless set. Also `KVTLS_BLIND_PLAN`.",
                )
                .valid(crate::framework::validate::one_of(&["warn", "error"])),
            ),
            ("kubernetes", objects::provider_kubernetes()),
            (
                "default_labels",
                Attribute::value(
                    Type::map(Type::String),
                    Presence::Optional,
                    "Labels of every object, beside its own; those of one object win.",
                )
                .valid(labels),
            ),
        ],
    )
    .faults_as("KVTLS-E002");
    let more = identity::attributes().into_iter().chain(requests::attributes());
    schema
        .attributes
        .extend(more.map(|(name, attribute)| (name.to_owned(), attribute)));
    schema
}

fn endpoint_attribute() -> Attribute {
    let optional = |text: &str| Attribute::string(Presence::Optional, text);
    Attribute::nested(
        Nesting::Single,
        Presence::Optional,
        "Endpoints of a custom cloud, each `https://`.",
        [
            (
                "active_directory_authority_host",
                optional("Where tokens come from. Also `ARM_ACTIVE_DIRECTORY_AUTHORITY_HOST`."),
            ),
            (
                "resource_manager_endpoint",
                optional("Azure Resource Manager. Also `ARM_RESOURCE_MANAGER_ENDPOINT`."),
            ),
            (
                "resource_manager_audience",
                optional("The audience of its tokens. Also `ARM_RESOURCE_MANAGER_AUDIENCE`."),
            ),
            (
                "key_vault_dns_suffix",
                optional("The suffix of vault host names, for example `vault.azure.net`."),
            ),
        ],
    )
}

/// What the block says for all bindings, unless something of it is not known yet.
///
/// # Errors
/// If a value cannot be used.
pub fn defaults(config: &Value) -> Result<Option<Defaults>, Diagnostic> {
    let names = ["kubernetes", "default_labels"];
    if names.iter().any(|name| !config.get(name).is_wholly_known()) {
        return Ok(None);
    }
    let root = Reader::root(config);
    let labels = (!root.at("default_labels").is_null()).then(|| root.string_map("default_labels"));
    let block = root.opt_object("kubernetes")?;
    Ok(Some(Defaults {
        labels: labels.transpose()?.unwrap_or_default(),
        connection: objects::read_kubernetes(block.as_ref(), &Connection::default())?,
        blind_plan_fails: false,
    }))
}

/// The settings, unless something in the block is not known yet.
///
/// # Errors
/// If a value cannot be used; the diagnostic names the attribute or variable.
pub fn read(config: &Value, environment: &Environment) -> Result<Option<Settings>, Diagnostics> {
    if !config.is_wholly_known() {
        return Ok(None);
    }
    let text = |name: &str, variables: &[&str]| {
        let written = config.get(name).as_str().map(str::to_owned);
        written.or_else(|| environment.first(variables).map(str::to_owned))
    };
    Ok(Some(Settings {
        credential: identity::read(config, environment)?,
        environment: text("environment", &["ARM_ENVIRONMENT"]).unwrap_or_else(|| "public".to_owned()),
        metadata_host: text("metadata_host", &["ARM_METADATA_HOSTNAME"]),
        endpoints: endpoints(config.get("endpoint"), environment),
        correlation_id: text("custom_correlation_request_id", &["ARM_CORRELATION_REQUEST_ID"]),
        disable_correlation_id: truth(
            config,
            environment,
            "disable_correlation_request_id",
            "ARM_DISABLE_CORRELATION_REQUEST_ID",
        )?
        .unwrap_or(false),
        partner_id: requests::partner_id(text("partner_id", &["ARM_PARTNER_ID"]))?,
        user_agent_suffix: environment.first(&["AZURE_HTTP_USER_AGENT"]).map(str::to_owned),
    }))
}

fn endpoints(block: &Value, environment: &Environment) -> Option<CustomEndpoints> {
    let text = |name: &str, variable: &str| {
        let written = block.get(name).as_str().map(str::to_owned);
        written.or_else(|| environment.first(&[variable]).map(str::to_owned))
    };
    let endpoints = CustomEndpoints {
        authority_host: text(
            "active_directory_authority_host",
            "ARM_ACTIVE_DIRECTORY_AUTHORITY_HOST",
        ),
        resource_manager_endpoint: text("resource_manager_endpoint", "ARM_RESOURCE_MANAGER_ENDPOINT"),
        resource_manager_audience: text("resource_manager_audience", "ARM_RESOURCE_MANAGER_AUDIENCE"),
        key_vault_dns_suffix: block.get("key_vault_dns_suffix").as_str().map(str::to_owned),
    };
    (endpoints != CustomEndpoints::default()).then_some(endpoints)
}

/// A bool of the block, or else of its variable.
///
/// # Errors
/// If the variable holds something else.
pub(super) fn truth(
    config: &Value,
    environment: &Environment,
    name: &str,
    variable: &str,
) -> Result<Option<bool>, Diagnostics> {
    if let Some(written) = config.get(name).as_bool() {
        return Ok(Some(written));
    }
    // The words that Go's providers take.
    match environment.first(&[variable]) {
        None => Ok(None),
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(Some(true)),
        Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(Some(false)),
        Some(other) => Err(Diagnostics::from(Diagnostic::error(
            "Environment variable is not a bool",
            format!("{variable} is \"{other}\"; expected true or false."),
            format!("Set {variable}=true or {variable}=false, or unset it."),
        ))),
    }
}

/// Whether a plan that cannot see everything fails.
///
/// # Errors
/// If the variable holds something else than `warn` or `error`.
pub fn blind_plan_fails(config: &Value, environment: &Environment) -> Result<bool, Diagnostics> {
    const VARIABLE: &str = "KVTLS_BLIND_PLAN";
    let written = config.get("blind_plan").as_str();
    match written.or_else(|| environment.first(&[VARIABLE])) {
        None | Some("warn") => Ok(false),
        Some("error") => Ok(true),
        Some(other) => Err(Diagnostics::from(Diagnostic::error(
            "Environment variable has no such choice",
            format!("{VARIABLE} is \"{other}\"; expected warn or error."),
            format!("Set {VARIABLE}=warn or {VARIABLE}=error, or unset it."),
        ))),
    }
}

/// The proxy of the environment.
pub fn proxy(environment: &Environment) -> ProxySettings {
    ProxySettings {
        https_proxy: environment.either_case("HTTPS_PROXY").map(str::to_owned),
        no_proxy: environment.either_case("NO_PROXY").map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_wins_over_a_variable() {
        let environment: Environment = [("ARM_TENANT_ID", "variable"), ("ARM_CLIENT_ID", "app")]
            .into_iter()
            .collect();
        let config = Value::object([("tenant_id", Value::from("written"))]);
        let settings = read(&config, &environment).unwrap().unwrap();
        assert_eq!(settings.credential.tenant_id.as_deref(), Some("written"));
        assert_eq!(settings.credential.client_id.as_deref(), Some("app"));
        assert!(settings.credential.use_cli);
    }

    #[test]
    fn an_unknown_setting_postpones_everything() {
        let config = Value::object([("tenant_id", Value::Unknown)]);
        assert!(read(&config, &Environment::default()).unwrap().is_none());
    }

    #[test]
    fn a_variable_that_is_not_a_bool_is_named() {
        let environment: Environment = [("ARM_USE_CLI", "yes")].into_iter().collect();
        let error = read(&Value::object::<String>([]), &environment).unwrap_err();
        assert!(
            error.iter().next().unwrap().detail.contains("ARM_USE_CLI"),
            "{error:?}"
        );
    }
}
