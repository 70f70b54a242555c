//! Which cloud: where tokens come from, where Azure Resource Manager is, what vault hosts end with.

use serde_json::Value;
use url::Url;

use super::Error;
use super::settings::{CustomEndpoints, Settings};

/// A cloud's endpoints. URLs have no slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Where tokens come from.
    pub authority_host: String,
    /// Azure Resource Manager.
    pub resource_manager: String,
    /// The audience of its tokens.
    pub resource_manager_audience: String,
    /// What vault hosts end with, without the dot in front.
    pub key_vault_suffix: String,
    /// What the CSI provider calls this cloud (`cloudName` of a SecretProviderClass), where it knows it.
    pub provider_cloud_name: Option<String>,
}

impl Cloud {
    /// The scope of tokens for Azure Resource Manager.
    pub(super) fn resource_manager_scope(&self) -> String {
        format!("{}/.default", self.resource_manager_audience)
    }
}

struct Known {
    words: &'static [&'static str],
    authority_host: &'static str,
    resource_manager: &'static str,
    key_vault_suffix: &'static str,
    provider_cloud_name: &'static str,
}

/// The last word of each list is the name in metadata documents and of the Azure CLI.
const CLOUDS: [Known; 3] = [
    Known {
        words: &["public", "azurepubliccloud", "azurecloud"],
        authority_host: "https://login.microsoftonline.com",
        resource_manager: "https://management.azure.com",
        key_vault_suffix: "vault.azure.net",
        provider_cloud_name: "AzurePublicCloud",
    },
    Known {
        words: &[
            "usgovernment",
            "usgovernmentl4",
            "usgovernmentl5",
            "dod",
            "azureusgovernmentcloud",
            "azureusgovernment",
        ],
        authority_host: "https://login.microsoftonline.us",
        resource_manager: "https://management.usgovcloudapi.net",
        key_vault_suffix: "vault.usgovcloudapi.net",
        provider_cloud_name: "AzureUSGovernmentCloud",
    },
    Known {
        words: &["china", "azurechinacloud"],
        authority_host: "https://login.chinacloudapi.cn",
        resource_manager: "https://management.chinacloudapi.cn",
        key_vault_suffix: "vault.azure.cn",
        provider_cloud_name: "AzureChinaCloud",
    },
];

/// What is known before the network is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Everything.
    Whole(Cloud),
    /// A document must be fetched from this URL.
    Metadata(Url),
}

/// Decides from the settings alone.
///
/// # Errors
/// [`Error::Settings`] for an unknown environment, an endpoint that is no https URL, or a custom cloud without endpoints.
pub(super) fn choose(settings: &Settings) -> Result<Choice, Error> {
    if let Some(endpoints) = &settings.endpoints {
        check(endpoints)?;
    }
    if let Some(host) = settings.metadata_host.as_deref().filter(|host| !host.is_empty()) {
        let host = host.trim_start_matches("https://").trim_end_matches('/');
        let url = format!("https://{host}/metadata/endpoints?api-version=2022-09-01");
        let url = Url::parse(&url).map_err(|error| Error::Settings {
            reason: format!("metadata_host \"{host}\" is not a host name ({error})"),
        })?;
        return Ok(Choice::Metadata(url));
    }
    let word = settings.environment.to_ascii_lowercase();
    if word == "custom" {
        return Ok(Choice::Whole(custom(settings.endpoints.as_ref())?));
    }
    let known = known(&word).ok_or_else(|| Error::Settings {
        reason: format!(
            "environment \"{}\" is not known; write public, usgovernment, china, or custom with endpoints",
            settings.environment
        ),
    })?;
    let cloud = Cloud {
        authority_host: known.authority_host.to_owned(),
        resource_manager: known.resource_manager.to_owned(),
        resource_manager_audience: known.resource_manager.to_owned(),
        key_vault_suffix: known.key_vault_suffix.to_owned(),
        provider_cloud_name: Some(known.provider_cloud_name.to_owned()),
    };
    Ok(Choice::Whole(overridden(cloud, settings.endpoints.as_ref())))
}

/// Reads a cloud from a metadata document: one object, or a list of which the environment's is taken, else the first.
///
/// # Errors
/// The reason why the document is of no use.
pub(super) fn from_metadata(document: &[u8], settings: &Settings) -> Result<Cloud, String> {
    let text = document.strip_prefix("\u{feff}".as_bytes()).unwrap_or(document);
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON ({error})"))?;
    let wanted = known(&settings.environment.to_ascii_lowercase());
    let found = match &value {
        Value::Array(list) => list
            .iter()
            .find(|each| names(each, wanted))
            .or_else(|| list.first()),
        other => Some(other),
    };
    let found = found.ok_or("the list of clouds is empty")?;
    let text = |pointer: &str| {
        found
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(|text| text.trim_end_matches('/').to_owned())
    };
    let resource_manager = text("/resourceManager").ok_or("it has no \"resourceManager\"")?;
    let cloud = Cloud {
        authority_host: text("/authentication/loginEndpoint")
            .ok_or("it has no \"authentication.loginEndpoint\"")?,
        resource_manager_audience: text("/authentication/audiences/0")
            .unwrap_or_else(|| resource_manager.clone()),
        resource_manager,
        key_vault_suffix: text("/suffixes/keyVaultDns")
            .unwrap_or_default()
            .trim_start_matches('.')
            .to_owned(),
        provider_cloud_name: CLOUDS
            .iter()
            .find(|known| names(found, Some(known)))
            .map(|known| known.provider_cloud_name.to_owned()),
    };
    let cloud = overridden(cloud, settings.endpoints.as_ref());
    for url in [&cloud.authority_host, &cloud.resource_manager] {
        if !is_https(url) {
            return Err(format!("it has \"{url}\", which is no https URL"));
        }
    }
    Ok(cloud)
}

fn known(word: &str) -> Option<&'static Known> {
    let word = if word.is_empty() { "public" } else { word };
    CLOUDS.iter().find(|known| known.words.contains(&word))
}

fn names(document: &Value, known: Option<&Known>) -> bool {
    let name = document
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_ascii_lowercase();
    known.is_some_and(|known| known.words.contains(&name.as_str()))
}

fn custom(endpoints: Option<&CustomEndpoints>) -> Result<Cloud, Error> {
    let empty = CustomEndpoints::default();
    let endpoints = endpoints.unwrap_or(&empty);
    let need = |value: &Option<String>, name: &str| {
        value.clone().ok_or_else(|| Error::Settings {
            reason: format!("environment \"custom\" needs {name} in the endpoint block, or metadata_host"),
        })
    };
    let resource_manager = need(&endpoints.resource_manager_endpoint, "resource_manager_endpoint")?;
    let cloud = Cloud {
        authority_host: need(&endpoints.authority_host, "active_directory_authority_host")?,
        resource_manager_audience: resource_manager.clone(),
        resource_manager,
        key_vault_suffix: String::new(),
        provider_cloud_name: None,
    };
    Ok(overridden(cloud, Some(endpoints)))
}

fn overridden(mut cloud: Cloud, endpoints: Option<&CustomEndpoints>) -> Cloud {
    let Some(endpoints) = endpoints else { return cloud };
    let set = |field: &mut String, value: &Option<String>| {
        if let Some(value) = value {
            *field = value.trim_end_matches('/').to_owned();
        }
    };
    if endpoints.resource_manager_endpoint.is_some() && endpoints.resource_manager_audience.is_none() {
        set(
            &mut cloud.resource_manager_audience,
            &endpoints.resource_manager_endpoint,
        );
    }
    set(&mut cloud.authority_host, &endpoints.authority_host);
    set(&mut cloud.resource_manager, &endpoints.resource_manager_endpoint);
    set(
        &mut cloud.resource_manager_audience,
        &endpoints.resource_manager_audience,
    );
    set(
        &mut cloud.key_vault_suffix,
        &endpoints
            .key_vault_dns_suffix
            .as_deref()
            .map(|s| s.trim_start_matches('.').to_owned()),
    );
    cloud
}

fn check(endpoints: &CustomEndpoints) -> Result<(), Error> {
    let urls = [
        ("active_directory_authority_host", &endpoints.authority_host),
        ("resource_manager_endpoint", &endpoints.resource_manager_endpoint),
    ];
    for (name, value) in urls {
        if let Some(url) = value.as_deref().filter(|url| !is_https(url)) {
            return Err(Error::Settings {
                reason: format!("{name} = \"{url}\" is no https URL"),
            });
        }
    }
    Ok(())
}

fn is_https(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.scheme() == "https" && url.has_host())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(environment: &str) -> Settings {
        Settings {
            environment: environment.to_owned(),
            ..Settings::default()
        }
    }

    #[test]
    fn the_clouds_are_known_by_the_words_of_other_providers() {
        let rows = [
            ("", "https://management.azure.com"),
            ("public", "https://management.azure.com"),
            ("usgovernment", "https://management.usgovcloudapi.net"),
            ("China", "https://management.chinacloudapi.cn"),
        ];
        for (environment, expected) in rows {
            let Choice::Whole(cloud) = choose(&settings(environment)).unwrap() else {
                panic!("{environment}")
            };
            assert_eq!(cloud.resource_manager, expected);
        }
        let error = choose(&settings("german")).unwrap_err().to_string();
        assert!(error.contains("write public, usgovernment, china"), "{error}");
    }

    #[test]
    fn a_custom_cloud_needs_its_endpoints() {
        let error = choose(&settings("custom")).unwrap_err().to_string();
        assert!(error.contains("resource_manager_endpoint"), "{error}");
        let endpoints = CustomEndpoints {
            authority_host: Some("https://login.local/".into()),
            resource_manager_endpoint: Some("https://arm.local/".into()),
            ..CustomEndpoints::default()
        };
        let whole = Settings {
            endpoints: Some(endpoints),
            ..settings("custom")
        };
        let Choice::Whole(cloud) = choose(&whole).unwrap() else {
            panic!("asked for metadata")
        };
        assert_eq!(
            (
                cloud.authority_host.as_str(),
                cloud.resource_manager_audience.as_str()
            ),
            ("https://login.local", "https://arm.local")
        );
        let plain = CustomEndpoints {
            authority_host: Some("http://login.local".into()),
            ..CustomEndpoints::default()
        };
        let error = choose(&Settings {
            endpoints: Some(plain),
            ..settings("public")
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("no https URL"), "{error}");
    }

    #[test]
    fn a_metadata_document_is_read_in_both_shapes() {
        let one = |name: &str, host: &str| {
            json!({
                "name": name, "resourceManager": format!("https://{host}/"),
                "authentication": {"loginEndpoint": "https://login.local/", "audiences": ["https://audience.local/"]},
                "suffixes": {"keyVaultDns": ".vault.local"},
            })
        };
        let with_bom = format!("\u{feff}{}", one("AzureStack", "arm.local"));
        let cloud = from_metadata(with_bom.as_bytes(), &settings("public")).unwrap();
        assert_eq!(cloud.resource_manager, "https://arm.local");
        assert_eq!(cloud.resource_manager_audience, "https://audience.local");
        assert_eq!(cloud.key_vault_suffix, "vault.local");
        assert_eq!(cloud.provider_cloud_name, None);
        let list = json!([
            one("AzureCloud", "public.local"),
            one("AzureChinaCloud", "china.local")
        ])
        .to_string();
        let cloud = from_metadata(list.as_bytes(), &settings("china")).unwrap();
        assert_eq!(cloud.resource_manager, "https://china.local");
        assert_eq!(cloud.provider_cloud_name.as_deref(), Some("AzureChinaCloud"));
        assert!(
            from_metadata(b"<html>", &settings("public"))
                .unwrap_err()
                .contains("no JSON")
        );
    }

    #[test]
    fn a_metadata_host_may_come_with_its_scheme() {
        let with = Settings {
            metadata_host: Some("https://127.0.0.1:18000/".into()),
            ..settings("public")
        };
        let Choice::Metadata(url) = choose(&with).unwrap() else {
            panic!("whole")
        };
        assert_eq!(
            url.as_str(),
            "https://127.0.0.1:18000/metadata/endpoints?api-version=2022-09-01"
        );
    }
}
