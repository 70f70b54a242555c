//! AKS clusters: facts, and credentials for their API servers.

use azure_core::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::addon;
use super::answer::Answer;
use super::cluster::{Addon, AddonIdentity, Cluster};
use super::pipeline::Call;
use super::{Azure, ClientId, ClusterId, Error, PrincipalId, Secret};

/// One version for reading and writing alike, or a write would lose what the other version does not show.
const API_VERSION: &str = "2026-04-01";

/// The application that stands for every AKS API server, in all clouds.
const KUBERNETES_SCOPE: &str = "6dae42f8-4368-4678-94ff-3960e28e3630/.default";

impl Azure {
    /// What is known of a cluster; `None` if it or its resource group does not exist.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn cluster(&self, id: &ClusterId) -> Result<Option<Cluster>, Error> {
        let answer = self.cluster_answer(id).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(None);
        };
        parse(id, &body)
            .map(Some)
            .map_err(|reason| answer.unexpected(&reason))
    }

    /// The answer to reading a cluster.
    pub(super) async fn cluster_answer(&self, id: &ClusterId) -> Result<Answer, Error> {
        let call = Call::get(
            "read cluster",
            id.name(),
            self.cluster_url(id, "").await?,
            self.arm_auth().await?,
        );
        self.send(&call).await
    }

    /// The URL of a cluster or of something below it.
    pub(super) async fn cluster_url(&self, id: &ClusterId, below: &str) -> Result<url::Url, Error> {
        self.arm_url(&format!("{id}{below}"), &[("api-version", API_VERSION)])
            .await
    }

    /// The kubeconfig for users. With Entra ID it has no credential of its own, only server and CA.
    ///
    /// # Errors
    /// Those of reading; [`Error::Forbidden`] without `…/listClusterUserCredential/action`.
    pub async fn user_credential(&self, id: &ClusterId) -> Result<Secret, Error> {
        self.cluster_credential(
            id,
            "read the cluster's user credential",
            "/listClusterUserCredential",
        )
        .await
    }

    /// The kubeconfig of the cluster's local administrator.
    ///
    /// # Errors
    /// Those of reading; [`Error::Forbidden`] without `…/listClusterAdminCredential/action`; [`Error::Rejected`] where
    /// local accounts are off.
    pub async fn admin_credential(&self, id: &ClusterId) -> Result<Secret, Error> {
        self.cluster_credential(
            id,
            "read the cluster's admin credential",
            "/listClusterAdminCredential",
        )
        .await
    }

    async fn cluster_credential(
        &self,
        id: &ClusterId,
        operation: &'static str,
        action: &str,
    ) -> Result<Secret, Error> {
        let url = self.cluster_url(id, action).await?;
        let auth = self.arm_auth().await?;
        let call = Call::write(operation, id.name(), Method::Post, url, auth).repeatable();
        let answer = self.send(&call).await?;
        let body = answer.json()?;
        let encoded = body.pointer("/kubeconfigs/0/value").and_then(Value::as_str);
        let encoded = encoded.ok_or_else(|| answer.unexpected("it has no kubeconfig"))?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|error| answer.unexpected(&format!("the kubeconfig is no base64 ({error})")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            answer.unexpected(&format!("the kubeconfig is no text ({})", error.utf8_error()))
        })?;
        Ok(Secret::new(text))
    }

    /// A token that AKS API servers with Entra ID accept.
    ///
    /// # Errors
    /// [`Error::Credential`]; those of finding out about the cloud.
    pub async fn kubernetes_token(&self) -> Result<Secret, Error> {
        self.token(KUBERNETES_SCOPE).await
    }
}

/// Reads a cluster's JSON.
pub(super) fn parse(id: &ClusterId, body: &Value) -> Result<Cluster, String> {
    let properties = body
        .get("properties")
        .filter(|value| value.is_object())
        .ok_or("it has no \"properties\"")?;
    let text = |pointer: &str| {
        properties
            .pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let claim = |pointer: &str| {
        properties
            .pointer(pointer)
            .and_then(Value::as_bool)
            .unwrap_or(false)
    };
    let private = claim("/apiServerAccessProfile/enablePrivateCluster");
    Ok(Cluster {
        id: id.clone(),
        location: body
            .get("location")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        provisioning_state: text("/provisioningState").ok_or("it has no \"provisioningState\"")?,
        power: text("/powerState/code"),
        server: text("/fqdn").or_else(|| text("/privateFQDN")),
        private,
        entra: properties.get("aadProfile").is_some_and(Value::is_object),
        azure_rbac: claim("/aadProfile/enableAzureRBAC"),
        local_accounts_disabled: claim("/disableLocalAccounts"),
        kubernetes_version: text("/currentKubernetesVersion").or_else(|| text("/kubernetesVersion")),
        tenant_id: text("/aadProfile/tenantID").or_else(|| {
            body.pointer("/identity/tenantId")
                .and_then(Value::as_str)
                .map(str::to_owned)
        }),
        oidc_issuer: text("/oidcIssuerProfile/issuerURL").filter(|_| claim("/oidcIssuerProfile/enabled")),
        etag: body
            .get("eTag")
            .or_else(|| body.get("etag"))
            .and_then(Value::as_str)
            .map(str::to_owned),
        addon: parse_addon(properties),
    })
}

fn parse_addon(properties: &Value) -> Addon {
    let Some((_, entry)) = addon::find(properties) else {
        return Addon::default();
    };
    let config = |key: &str| {
        let config = entry.get("config").and_then(Value::as_object)?;
        let (_, value) = config.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        value.as_str().map(str::to_owned)
    };
    let enabled = entry.get("enabled").and_then(Value::as_bool).unwrap_or(false);
    Addon {
        enabled,
        rotation_enabled: enabled
            && config(addon::ROTATION).is_some_and(|text| text.eq_ignore_ascii_case("true")),
        rotation_poll_interval: config(addon::INTERVAL),
        identity: entry.get("identity").and_then(parse_identity).filter(|_| enabled),
    }
}

fn parse_identity(identity: &Value) -> Option<AddonIdentity> {
    let text = |key: &str| identity.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(AddonIdentity {
        client_id: ClientId(text("clientId")?),
        object_id: PrincipalId(text("objectId")?),
        resource_id: text("resourceId").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/shop/providers/Microsoft.ContainerService/managedClusters/aks";

    fn read(body: &Value) -> Cluster {
        parse(&ClusterId::parse(ID).unwrap(), body).unwrap()
    }

    #[test]
    fn a_cluster_is_read_whatever_its_age() {
        let cluster = read(&json!({
            "location": "eastus", "eTag": "tag",
            "identity": {"tenantId": "t"},
            "properties": {
                "provisioningState": "Updating", "powerState": {"code": "Running"}, "privateFQDN": "p.local",
                "apiServerAccessProfile": {"enablePrivateCluster": true}, "disableLocalAccounts": true,
                "aadProfile": {"managed": true, "enableAzureRBAC": true}, "kubernetesVersion": "1.34",
                "addonProfiles": {"azureKeyvaultSecretsProvider": {
                    "enabled": true, "config": {"enableSecretRotation": "true", "rotationPollInterval": "30m"},
                    "identity": {"clientId": "c", "objectId": "o", "resourceId": "/r"}}},
            },
        }));
        assert_eq!(cluster.server.as_deref(), Some("p.local"));
        assert!(cluster.private && cluster.entra && cluster.azure_rbac && cluster.local_accounts_disabled);
        assert_eq!(
            (cluster.etag.as_deref(), cluster.tenant_id.as_deref()),
            (Some("tag"), Some("t"))
        );
        assert!(cluster.addon.enabled && cluster.addon.rotation_enabled);
        assert_eq!(cluster.addon.rotation_poll_interval.as_deref(), Some("30m"));
        assert_eq!(cluster.addon.identity.unwrap().object_id, PrincipalId("o".into()));
    }

    #[test]
    fn an_addon_is_read_in_every_state() {
        let rows = [
            (json!({}), Addon::default()),
            (json!({"addonProfiles": null}), Addon::default()),
            (
                json!({"addonProfiles": {"azureKeyvaultSecretsProvider": {"enabled": false, "config": null}}}),
                Addon::default(),
            ),
            (
                json!({"addonProfiles": {"azurekeyvaultsecretsprovider": {"enabled": true, "config": null}}}),
                Addon {
                    enabled: true,
                    ..Addon::default()
                },
            ),
            (
                json!({"addonProfiles": {"AzureKeyVaultSecretsProvider": {"enabled": true, "config": {"enableSecretRotation": "false"}}}}),
                Addon {
                    enabled: true,
                    ..Addon::default()
                },
            ),
        ];
        for (mut properties, expected) in rows {
            properties["provisioningState"] = json!("Succeeded");
            let body = json!({"properties": properties});
            assert_eq!(read(&body).addon, expected, "{body}");
        }
    }

    #[test]
    fn an_answer_without_substance_is_no_cluster() {
        assert!(parse(&ClusterId::parse(ID).unwrap(), &json!({})).is_err());
    }
}
