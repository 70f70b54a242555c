//! The kubeconfigs a cluster gives out, and its node pools.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Azure;
use super::call::{Call, Reply};
use super::cluster_calls::may_change;
use super::cluster_template as template;
use super::managed_clusters::KUBERNETES;
use super::operations::Work;
use super::refusal::Refusal;
use super::tree;
use crate::sandbox::core::{Effect, KubeCredential};
use crate::sandbox::entra::AKS_AUDIENCE;

/// The public client application kubelogin signs in with.
const CLIENT: &str = "80faf920-1908-4b52-b5ef-a8e7bedfc67a";

/// What a kubeconfig says of a cluster and its user.
struct Kubeconfig<'a> {
    cluster: &'a str,
    server: &'a str,
    ca_pem: &'a str,
    user: &'a str,
    /// The `user` entry's members, indented.
    credential: String,
}

impl Kubeconfig<'_> {
    fn yaml(&self) -> String {
        let Self {
            cluster,
            server,
            ca_pem,
            user,
            credential,
        } = self;
        let ca = STANDARD.encode(ca_pem);
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: {server}\n  name: \
             {cluster}\ncontexts:\n- context:\n    cluster: {cluster}\n    user: {user}\n  name: \
             {cluster}\ncurrent-context: {cluster}\nkind: Config\npreferences: {{}}\nusers:\n- name: {user}\n  \
             user:\n{credential}"
        )
    }
}

/// Certificate, key and token.
fn with_certificate(credential: &KubeCredential) -> String {
    format!(
        "    client-certificate-data: {}\n    client-key-data: {}\n    token: {}\n",
        STANDARD.encode(&credential.certificate.certificate_pem),
        STANDARD.encode(&credential.certificate.key_pem),
        credential.token
    )
}

/// kubelogin, which cannot work where nobody sits in front of a browser.
fn with_kubelogin(tenant: &str) -> String {
    let arguments = [
        "get-token",
        "--environment",
        "AzurePublicCloud",
        "--server-id",
        AKS_AUDIENCE,
        "--client-id",
        CLIENT,
        "--tenant-id",
        tenant,
        "--login",
        "devicecode",
    ];
    let arguments: String = arguments
        .iter()
        .map(|argument| format!("      - {argument}\n"))
        .collect();
    format!(
        "    exec:\n      apiVersion: client.authentication.k8s.io/v1beta1\n      args:\n{arguments}      command: \
         kubelogin\n      env: null\n      installHint: \"\\nkubelogin is not installed which is required to connect to \
         AAD enabled cluster.\\n\\nTo learn more, please go to https://aka.ms/aks/kubelogin\\n\"\n      \
         provideClusterInfo: false\n"
    )
}

impl Azure {
    /// `listClusterUserCredential` and `listClusterAdminCredential`.
    pub(super) fn credential_call(&self, call: &Call, admin: bool) -> Result<Reply, Refusal> {
        let state = self.lock();
        let cluster = state.cluster(call)?;
        let settings = self.settings(cluster, Value::Null);
        let (name, group) = (cluster.name.clone(), cluster.group.clone());
        drop(state);
        let format = call.query("format");
        if admin && !settings.local_accounts {
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                "Getting static credential is not allowed because this cluster is set to disable local accounts.",
            ));
        }
        let plane = self.core.clusters.get(&name).ok_or_else(|| {
            Refusal::aks(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                format!("sandbox: the Kubernetes API of '{name}' does not run"),
            )
        })?;
        let prefix = if admin { "clusterAdmin" } else { "clusterUser" };
        let user = format!("{prefix}_{group}_{name}");
        let credential = match (&settings.entra_tenant, admin) {
            (Some(tenant), false) => with_kubelogin(tenant),
            (_, true) => with_certificate(&plane.admin),
            (None, false) if format.as_deref() == Some("azure") => with_certificate(&plane.user),
            (None, false) => with_certificate(&plane.user),
        };
        let yaml = Kubeconfig {
            cluster: &name,
            server: &self.core.names.cluster_server(&name, &call.asked_as),
            ca_pem: &plane.ca_pem,
            user: &user,
            credential,
        }
        .yaml();
        let body = json!({"kubeconfigs": [{"name": prefix, "value": STANDARD.encode(yaml)}]});
        let reply = Reply::ok(body).header("x-ms-ratelimit-remaining-subscription-writes", "1199");
        Ok(reply.effect(Effect::None))
    }

    /// Calls on node pools.
    pub(super) fn pool_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let mut state = self.lock();
        let cluster = state.cluster(call)?;
        let fqdn = self.core.names.cluster_fqdn(&cluster.name);
        let shown = |pool: &Value| {
            json!({
                "id": format!("{}/agentPools/{}", cluster.id(), tree::text(pool, "name")),
                "name": pool["name"],
                "type": "Microsoft.ContainerService/managedClusters/agentPools",
                "properties": pool,
            })
        };
        let body = cluster.body(&call.version, &fqdn);
        let pools = body["properties"]["agentPoolProfiles"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if !call.path.is_named() {
            return Ok(Reply::ok(
                json!({"value": pools.iter().map(shown).collect::<Vec<_>>()}),
            ));
        }
        let name = call.name(1);
        let found = pools
            .iter()
            .find(|pool| tree::text(pool, "name").eq_ignore_ascii_case(name));
        if call.method == Method::GET {
            return found.map(|pool| Reply::ok(shown(pool))).ok_or_else(|| {
                Refusal::aks(
                    StatusCode::NOT_FOUND,
                    "NotFound",
                    format!("The agent pool '{name}' was not found."),
                )
            });
        }
        if call.method != Method::PUT {
            return Err(Refusal::unplayed("this method on a node pool"));
        }
        may_change(cluster)?;
        let is_new = found.is_none();
        let key = cluster.id().to_ascii_lowercase();
        let mut asked = call.body["properties"].clone();
        for member in [
            "eTag",
            "provisioningState",
            "currentOrchestratorVersion",
            "nodeImageVersion",
            "name",
        ] {
            drop(tree::take(&mut asked, member));
        }
        tree::set(&mut asked, "name", json!(name));
        if let Some(cluster) = state.clusters.get_mut(&key) {
            let fresh = template::pool(&asked, KUBERNETES);
            let pools = tree::list_mut(&mut cluster.document, "properties.agentPoolProfiles");
            let old = pools
                .iter_mut()
                .find(|pool| tree::text(pool, "name").eq_ignore_ascii_case(name));
            match old {
                Some(old) => tree::merge(old, &asked),
                None => {
                    let list = tree::at_mut(&mut cluster.document, "properties.agentPoolProfiles");
                    if let Some(list) = list.and_then(Value::as_array_mut) {
                        list.push(fresh);
                    }
                    cluster.pool_etags.push(uuid::Uuid::new_v4());
                }
            }
        }
        let operation = self.begin(&mut state, call, &key, Work::Pool(name.to_owned()), "aks_update");
        let cluster = state.cluster(call)?;
        let body = cluster.body(&call.version, &fqdn);
        let pools = body["properties"]["agentPoolProfiles"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let pool = pools
            .into_iter()
            .find(|pool| tree::text(pool, "name").eq_ignore_ascii_case(name));
        let status = if is_new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let body = json!({
            "id": format!("{}/agentPools/{name}", cluster.id()),
            "name": name,
            "type": "Microsoft.ContainerService/managedClusters/agentPools",
            "properties": pool,
        });
        Ok(self.with_operation(Reply::new(status, body), &operation, call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_yaml_that_reads_back() {
        let yaml = Kubeconfig {
            cluster: "shop",
            server: "https://shop.hcp.eastus.azmk8s.io:443",
            ca_pem: "pem",
            user: "clusterUser_g_shop",
            credential: with_kubelogin("t"),
        }
        .yaml();
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(
            read["clusters"][0]["cluster"]["server"],
            "https://shop.hcp.eastus.azmk8s.io:443"
        );
        assert_eq!(read["users"][0]["user"]["exec"]["command"], "kubelogin");
        assert_eq!(read["users"][0]["user"]["exec"]["args"][4], AKS_AUDIENCE);
        assert_eq!(read["current-context"], "shop");
    }
}
