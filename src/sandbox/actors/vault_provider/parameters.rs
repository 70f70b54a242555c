//! The parameters of a SecretProviderClass, read as the Azure provider reads them. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The audience of tokens that Entra takes for a service account.
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// What a class asks for.
pub(super) struct Request {
    pub(super) vault: String,
    /// The vault's tenant.
    tenant: String,
    /// Where the authority of the cloud is.
    authority: &'static str,
    use_vm_identity: bool,
    user_assigned: String,
    client_id: String,
    use_pod_identity: bool,
    use_token_proxy: bool,
    pub(super) objects: Vec<Object>,
}

/// Whose token is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// A managed identity of the node: this one, or the only one.
    Node(Option<String>),
    /// The application or identity of this client ID, by the pod's service account.
    Workload(Workload),
}

/// A service account that acts as somebody else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) client: String,
    pub(super) tenant: String,
    /// Host of the authority.
    pub(super) authority: &'static str,
    /// The service account's token.
    pub(super) assertion: String,
}

/// One entry of `objects`.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) name: String,
    alias: String,
    pub(super) kind: String,
    pub(super) version: String,
    pub(super) history: usize,
    pub(super) pfx: bool,
    pub(super) encoding: String,
}

impl Object {
    /// Its file in the volume.
    pub(super) fn path(&self) -> &str {
        if self.alias.is_empty() {
            &self.name
        } else {
            &self.alias
        }
    }
}

/// Outermost YAML of `objects`.
#[derive(Deserialize, Default)]
struct Outer {
    #[serde(default)]
    array: Option<Vec<Value>>,
}

/// YAML of one entry. Parsed without strictness: unknown and wrongly cased members are ignored.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    object_name: Option<String>,
    object_alias: Option<String>,
    object_type: Option<String>,
    object_version: Option<String>,
    object_version_history: Option<i64>,
    object_format: Option<String>,
    object_encoding: Option<String>,
}

/// Reads all parameters; the first thing wrong is the error.
pub(super) fn parse(parameters: &BTreeMap<String, String>) -> Result<Request, String> {
    let get = |key: &str| parameters.get(key).map(|value| value.trim()).unwrap_or_default();
    let vault = get("keyvaultName");
    if vault.is_empty() {
        return Err("keyvaultName is not set".into());
    }
    let cloud = get("cloudName");
    let authority = authority(cloud).ok_or_else(|| {
        format!(
            "cloudName {cloud} is not valid, error: autorest/azure: There is no cloud environment matching the name \
             \"{}\"",
            cloud.to_uppercase()
        )
    })?;
    let use_pod_identity = boolean("usePodIdentity", get("usePodIdentity"))?;
    let use_vm_identity = boolean("useVMManagedIdentity", get("useVMManagedIdentity"))?;
    let use_token_proxy = boolean("useAzureTokenProxy", get("useAzureTokenProxy"))?;
    let tenant = match get("tenantID") {
        "" => get("tenantId"),
        tenant => tenant,
    };
    if tenant.is_empty() {
        return Err("tenantId is not provided".into());
    }
    let text = get("objects");
    if text.is_empty() {
        return Err("objects is not set".into());
    }
    if [use_pod_identity, use_vm_identity, use_token_proxy]
        .into_iter()
        .filter(|used| *used)
        .count()
        > 1
    {
        return Err(
            "failed to create auth config, error: cannot enable both pod identity and user-assigned managed \
            identity"
                .into(),
        );
    }
    let objects = objects(text)?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if !objects.is_empty() && (!(3..=24).contains(&vault.len()) || !vault.chars().all(plain)) {
        return Err(format!(
            "failed to get vault: Invalid vault name: \"{vault}\", must match [-a-zA-Z0-9]{{3,24}}"
        ));
    }
    Ok(Request {
        vault: vault.to_owned(),
        tenant: tenant.to_owned(),
        authority,
        use_vm_identity,
        user_assigned: get("userAssignedIdentityID").to_owned(),
        client_id: get("clientID").to_owned(),
        use_pod_identity,
        use_token_proxy,
        objects,
    })
}

impl Request {
    /// Which identity applies, in the provider's order. `tokens` are the service account's, as the kubelet hands them
    /// over; `secrets` are those of `nodePublishSecretRef`.
    pub(super) fn identity(
        &self,
        tokens: &str,
        secrets: &BTreeMap<String, String>,
    ) -> Result<Identity, String> {
        if self.use_pod_identity {
            return Err("failed to get keyvault client: nmi response failed with status code: 404, response body: 404 \
                page not found"
                .into());
        }
        if self.use_vm_identity {
            let named = Some(self.user_assigned.clone()).filter(|named| !named.is_empty());
            return Ok(Identity::Node(named));
        }
        if self.use_token_proxy && !self.client_id.is_empty() {
            return Err("sandbox: identity bindings are not played".into());
        }
        if !self.client_id.is_empty() {
            let assertion = assertion(tokens)
                .map_err(|error| format!("failed to parse workload identity tokens, error: {error}"))?;
            return Ok(Identity::Workload(Workload {
                client: self.client_id.clone(),
                tenant: self.tenant.clone(),
                authority: self.authority,
                assertion,
            }));
        }
        if secrets.is_empty() {
            return Err("failed to get credentials, nodePublishSecretRef secret is not set".into());
        }
        Err("sandbox: service principals in nodePublishSecretRef are not played".into())
    }
}

/// The token for Entra among those the kubelet hands over, which are JSON by audience.
fn assertion(tokens: &str) -> Result<String, String> {
    if tokens.is_empty() {
        return Err("service account tokens not found".into());
    }
    let tokens: Value = serde_json::from_str(tokens).map_err(|error| error.to_string())?;
    let token = tokens.get(AUDIENCE).and_then(|token| token["token"].as_str());
    token
        .map(str::to_owned)
        .ok_or_else(|| format!("token for audience {AUDIENCE} not found"))
}

fn objects(text: &str) -> Result<Vec<Object>, String> {
    let failed = |error: &str| format!("failed to yaml unmarshal objects, error: {error}");
    let outer: Option<Outer> = serde_saphyr::from_str(text).map_err(|error| failed(&error.to_string()))?;
    let entries = outer.unwrap_or_default().array.unwrap_or_default();
    let mut objects = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let text = match entry {
            Value::String(text) => text.clone(),
            Value::Object(_) => {
                // Two lines above the first entry's content, as the usual layout has it.
                let line = index + 2;
                let words =
                    format!("yaml: unmarshal errors:\n  line {line}: cannot unmarshal !!map into string");
                return Err(failed(&words));
            }
            Value::Array(_) => {
                return Err(failed(
                    "yaml: unmarshal errors:\n  line 2: cannot unmarshal !!seq into string",
                ));
            }
            other => other.to_string(),
        };
        let entry: Option<Entry> = serde_saphyr::from_str(&text).map_err(|error| {
            format!("unmarshal failed for keyVaultObjects at index {index}, error: {error}")
        })?;
        objects.push(object(entry.unwrap_or_default())?);
    }
    Ok(objects)
}

fn object(entry: Entry) -> Result<Object, String> {
    let trimmed = |text: Option<String>| text.unwrap_or_default().trim().to_owned();
    let object = Object {
        name: trimmed(entry.object_name),
        alias: trimmed(entry.object_alias),
        kind: trimmed(entry.object_type),
        version: trimmed(entry.object_version),
        history: usize::try_from(entry.object_version_history.unwrap_or(0)).unwrap_or(0),
        pfx: false,
        encoding: trimmed(entry.object_encoding).to_lowercase(),
    };
    let format = trimmed(entry.object_format);
    let pfx = format.eq_ignore_ascii_case("pfx");
    if !pfx && !format.is_empty() && !format.eq_ignore_ascii_case("pem") {
        return Err(format!("invalid objectFormat: {format}, should be PEM or PFX"));
    }
    // The upper-case spelling slips through, as in the real one.
    if format == "pfx" && object.kind != "secret" {
        return Err("PFX format only supported for objectType: secret".into());
    }
    if !matches!(object.encoding.as_str(), "" | "utf-8" | "hex" | "base64") {
        return Err(format!(
            "invalid objectEncoding: {}, should be hex, base64 or utf-8",
            object.encoding
        ));
    }
    if !object.encoding.is_empty() && object.kind != "secret" && object.encoding != "utf-8" {
        return Err("objectEncoding only supported for objectType: secret".into());
    }
    let path = object.path();
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!(
            "file name \"{path}\" is invalid: must be a relative path without '..'"
        ));
    }
    if !matches!(object.kind.as_str(), "secret" | "key" | "cert") {
        return Err("Invalid vaultObjectTypes. Should be secret, key, or cert".into());
    }
    Ok(Object { pfx, ..object })
}

/// Go's `ParseBool`, where an absent value is false.
fn boolean(name: &str, text: &str) -> Result<bool, String> {
    match text {
        "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        other => Err(format!(
            "failed to parse {name} flag, error: strconv.ParseBool: parsing \"{other}\": invalid syntax"
        )),
    }
}

/// The authority's host in a cloud; `None` for a cloud nobody knows.
fn authority(cloud: &str) -> Option<&'static str> {
    match cloud.to_lowercase().as_str() {
        "" | "azurepubliccloud" | "azurecloud" | "azurestackcloud" => Some("login.microsoftonline.com"),
        "azureusgovernmentcloud" | "azureusgovernment" => Some("login.microsoftonline.us"),
        "azurechinacloud" => Some("login.chinacloudapi.cn"),
        "azuregermancloud" => Some("login.microsoftonline.de"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut parameters: BTreeMap<String, String> = [
            ("keyvaultName", "myAKSKeyVault"),
            ("tenantID", "t"),
            ("useVMManagedIdentity", "true"),
            ("objects", "array:\n  - |\n    objectName: my-tls-cert\n    objectType: secret\n    objectVersion: 123\n"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        for (key, value) in changes {
            parameters.insert((*key).to_owned(), (*value).to_owned());
        }
        parameters
    }

    #[test]
    fn the_usual_class_is_read() {
        let request = parse(&with(&[])).unwrap();
        assert_eq!(request.objects.len(), 1);
        let object = &request.objects[0];
        assert_eq!(
            (
                object.name.as_str(),
                object.kind.as_str(),
                object.version.as_str()
            ),
            ("my-tls-cert", "secret", "123")
        );
        assert_eq!(request.identity("", &BTreeMap::new()), Ok(Identity::Node(None)));
    }

    #[test]
    fn json_is_yaml_too() {
        let objects =
            r#"{"array":["{\"objectName\":\"a\",\"objectType\":\"secret\",\"objectAlias\":\"b\"}"]}"#;
        assert_eq!(
            parse(&with(&[("objects", objects)])).unwrap().objects[0].path(),
            "b"
        );
    }

    #[test]
    fn each_mistake_has_the_providers_words() {
        let rows: &[(&[(&str, &str)], &str)] = &[
            (
                &[("keyvaultName", "https://v.vault.azure.net")],
                "Invalid vault name",
            ),
            (&[("keyvaultName", "a_b")], "Invalid vault name"),
            (&[("tenantID", "")], "tenantId is not provided"),
            (
                &[("useVMManagedIdentity", "yes")],
                "failed to parse useVMManagedIdentity flag, error: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (&[("usePodIdentity", "true")], "cannot enable both"),
            (&[("cloudName", "AzureMoon")], "cloudName AzureMoon is not valid"),
            (&[("objects", "")], "objects is not set"),
            (
                &[("objects", "array:\n  - objectName: a\n    objectType: secret\n")],
                "cannot unmarshal !!map into string",
            ),
            (
                &[(
                    "objects",
                    "array:\n  - |\n    objectName: a\n    objectType: certificate\n",
                )],
                "Invalid vaultObjectTypes",
            ),
            (
                &[(
                    "objects",
                    "array:\n  - |\n    objectname: a\n    objectType: secret\n",
                )],
                "is invalid",
            ),
        ];
        for (changes, words) in rows {
            let error = parse(&with(changes)).map(|_| ()).unwrap_err();
            assert!(error.contains(words), "{changes:?}: {error}");
        }
        assert_eq!(
            parse(&with(&[("objects", "arrays: []\n")]))
                .unwrap()
                .objects
                .len(),
            0
        );
        let nobody = parse(&with(&[("useVMManagedIdentity", "false")])).unwrap();
        assert!(
            nobody
                .identity("", &BTreeMap::new())
                .unwrap_err()
                .contains("nodePublishSecretRef secret is not set")
        );
    }

    #[test]
    fn a_client_id_means_the_service_account() {
        let class = with(&[("useVMManagedIdentity", "false"), ("clientID", "c")]);
        let request = parse(&class).unwrap();
        let identity = |tokens: &str| request.identity(tokens, &BTreeMap::new());
        let tokens = r#"{"api://AzureADTokenExchange":{"token":"a.b.c","expirationTimestamp":"2026-11-24T12:00:00Z"}}"#;
        let expected = Workload {
            client: "c".into(),
            tenant: "t".into(),
            authority: "login.microsoftonline.com",
            assertion: "a.b.c".into(),
        };
        assert_eq!(identity(tokens), Ok(Identity::Workload(expected)));
        for (tokens, words) in [
            ("", "service account tokens not found"),
            (
                r#"{"api://other":{"token":"a"}}"#,
                "token for audience api://AzureADTokenExchange not found",
            ),
        ] {
            assert!(identity(tokens).unwrap_err().ends_with(words));
        }
    }
}
