//! `data.kvtls_cluster`: what of a cluster matters for serving HTTPS from it, as Azure and the cluster itself tell it.

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::Value as Json;

use crate::azure::ids::ClusterId;
use crate::azure::{Addon, Cluster};
use crate::binding::controllers;
use crate::binding::desired::Connection;
use crate::binding::world::World;
use crate::framework::{
    Attribute, DataSource, Deadline, Diagnostic, Diagnostics, Nesting, Presence, ReadDataRequest,
    ReadDataResponse, Reader, Schema, Value,
};
use crate::k8s::{
    self, CRD, DAEMON_SET, GATEWAY_CLASS, INGRESS_CLASS, Kind, Kubernetes, SECRET_PROVIDER_CLASS,
};
use crate::provider::Configured;
use crate::provider::explain::Changed;
use crate::provider::explain::vaults as explain;
use crate::provider::ids::cluster_id;
use crate::provider::ingress_binding::objects;
use crate::provider::operation::{Halt, identity_value, within};

use Presence::{Computed, Required};

/// Whose version is that of the whole Gateway API.
const GATEWAY_DEFINITION: &str = "gateways.gateway.networking.k8s.io";
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// The data source.
pub struct ClusterData {
    schema: Schema,
    configured: Configured,
}

impl ClusterData {
    /// The data source, over the world that the provider block describes.
    pub fn new(configured: Configured) -> Self {
        Self {
            schema: schema(),
            configured,
        }
    }
}

fn schema() -> Schema {
    let text = |description: &str| Attribute::string(Computed, description);
    let is = |description: &str| Attribute::bool(Computed, description);
    Schema::new(
        "An AKS cluster: what matters for serving HTTPS from it. What only the cluster itself knows is null, with a \
         warning, where the cluster cannot be reached.",
        [
            (
                "cluster_id",
                Attribute::string(Required, "The AKS cluster's resource ID.").valid(cluster_id),
            ),
            ("kubernetes", objects::kubernetes()),
            ("name", text("Its name.")),
            ("location", text("Its region.")),
            (
                "resource_group_id",
                text("The resource group it is in, for what is to stand beside it."),
            ),
            ("power_state", text("`Running` or `Stopped`.")),
            (
                "provisioning_state",
                text("`Succeeded`, or what Azure is doing with it."),
            ),
            ("kubernetes_version", text("The Kubernetes version that runs.")),
            (
                "private_cluster_enabled",
                is("Whether its API is reachable from its own network only."),
            ),
            ("entra_enabled", is("Whether it takes Entra tokens.")),
            (
                "azure_rbac_enabled",
                is("Whether Azure roles decide what a caller may do in it."),
            ),
            (
                "local_accounts_enabled",
                is("Whether it takes credentials without Entra."),
            ),
            (
                "oidc_issuer_url",
                text("Who vouches for its service accounts; null without workload identity."),
            ),
            (
                "addon_state",
                Attribute::nested(
                    Nesting::Single,
                    Computed,
                    "The Key Vault Secrets Provider add-on.",
                    [
                        ("enabled", is("Whether it is on.")),
                        ("rotation_enabled", is("Whether it rotates.")),
                        (
                            "rotation_poll_interval",
                            text("How often; null is the default, `2m`."),
                        ),
                    ],
                ),
            ),
            (
                "addon_identity",
                Attribute::nested(
                    Nesting::Single,
                    Computed,
                    "The add-on's identity; null while the add-on is off.",
                    [
                        ("client_id", text("Its client ID.")),
                        ("object_id", text("Its object ID, for grants.")),
                        ("resource_id", text("Its resource ID.")),
                    ],
                ),
            ),
            (
                "reachable",
                is("Whether the cluster's own API answered; all that follows is null where it did not."),
            ),
            (
                "driver_version",
                text("The version of the Secrets Store CSI driver; null while the add-on is off."),
            ),
            (
                "secret_provider_class_count",
                Attribute::number(
                    Computed,
                    "How many SecretProviderClasses there are, in all namespaces.",
                ),
            ),
            (
                "ingress_classes",
                Attribute::nested(
                    Nesting::List,
                    Computed,
                    "The Ingress classes, by name.",
                    [
                        ("name", text("Its name.")),
                        ("controller", text("Whose it is.")),
                        ("default", is("Whether it is the cluster's default.")),
                        (
                            "retired_on",
                            text(
                                "The last day on which its controller is maintained; null where no end is known.",
                            ),
                        ),
                    ],
                ),
            ),
            (
                "gateway_classes",
                Attribute::nested(
                    Nesting::List,
                    Computed,
                    "The Gateway classes, by name; none without the Gateway API.",
                    [("name", text("Its name.")), ("controller", text("Whose it is."))],
                ),
            ),
            (
                "gateway_api_version",
                text("The version of the Gateway API's bundle; null without it."),
            ),
        ],
    )
    .faults_as("KVTLS-E002")
}

#[async_trait]
impl DataSource for ClusterData {
    fn type_name(&self) -> &'static str {
        "kvtls_cluster"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn read(&self, request: ReadDataRequest) -> ReadDataResponse {
        let (state, diagnostics) = match self.find(&request.config, &request.deadline).await {
            Ok(found) => found,
            Err(diagnostic) => (Value::Null, Diagnostics::from(diagnostic)),
        };
        ReadDataResponse { state, diagnostics }
    }
}

impl ClusterData {
    async fn find(&self, config: &Value, deadline: &Deadline) -> Result<(Value, Diagnostics), Diagnostic> {
        let world = self.configured.need()?;
        let id = ClusterId::parse(config.get("cluster_id").as_str().unwrap_or_default())
            .map_err(|error| Diagnostic::bug(error.to_string()))?;
        let defaults = self.configured.defaults().unwrap_or_default();
        let block = Reader::root(config).opt_object("kubernetes")?;
        let way = objects::read_kubernetes(block.as_ref(), &defaults.connection)?;
        let cluster = within(deadline, world.cluster(&id, self.configured.freshness()))
            .await
            .map_err(|halt| explain::halted(&halt, "read the cluster", &Changed::nothing()))?
            .ok_or_else(|| explain::no_cluster(&id))?;
        let mut state = of_azure(config, &cluster);
        let looking = async { Ok(look(&world, &cluster, &way).await) };
        let seen = match within(deadline, looking).await {
            Ok(seen) => seen,
            Err(Halt::TooLate) => Err("it did not answer in time".to_owned()),
            Err(halt) => return Err(explain::halted(&halt, "ask the cluster", &Changed::nothing())),
        };
        let mut diagnostics = Diagnostics::new();
        state.set("reachable", seen.is_ok());
        match seen {
            Ok(seen) => {
                let missed = seen.missed.join("; ");
                for (name, value) in seen.values {
                    state.set(name, value);
                }
                if !missed.is_empty() {
                    diagnostics.push(explain::cluster_unreachable(&missed));
                }
            }
            Err(why) => diagnostics.push(explain::cluster_unreachable(&why)),
        }
        Ok((state, diagnostics))
    }
}

/// What Azure tells; what the cluster tells is null.
fn of_azure(config: &Value, cluster: &Cluster) -> Value {
    let id = &cluster.id;
    let group = format!(
        "/subscriptions/{}/resourceGroups/{}",
        id.subscription(),
        id.resource_group()
    );
    let identity = identity_value(cluster.addon.identity.as_ref());
    let mut state = config.clone();
    for (name, value) in [
        ("name", Value::from(id.name())),
        ("location", Value::from(cluster.location.as_str())),
        ("resource_group_id", Value::from(group)),
        ("power_state", Value::from(cluster.power.clone())),
        (
            "provisioning_state",
            Value::from(cluster.provisioning_state.as_str()),
        ),
        (
            "kubernetes_version",
            Value::from(cluster.kubernetes_version.clone()),
        ),
        ("private_cluster_enabled", Value::from(cluster.private)),
        ("entra_enabled", Value::from(cluster.entra)),
        ("azure_rbac_enabled", Value::from(cluster.azure_rbac)),
        (
            "local_accounts_enabled",
            Value::from(!cluster.local_accounts_disabled),
        ),
        ("oidc_issuer_url", Value::from(cluster.oidc_issuer.clone())),
        ("addon_state", addon(&cluster.addon)),
        ("addon_identity", identity),
    ] {
        state.set(name, value);
    }
    state
}

fn addon(addon: &Addon) -> Value {
    let interval = addon.rotation_poll_interval.clone().filter(|_| addon.enabled);
    Value::object([
        ("enabled", Value::from(addon.enabled)),
        ("rotation_enabled", Value::from(addon.rotation_enabled)),
        ("rotation_poll_interval", Value::from(interval)),
    ])
}

/// What the cluster tells, and what it did not tell.
struct Seen {
    values: Vec<(&'static str, Value)>,
    missed: Vec<String>,
}

async fn look(world: &World, cluster: &Cluster, way: &Connection) -> Result<Seen, String> {
    if cluster.power.as_deref() == Some("Stopped") {
        return Err("the cluster is stopped".to_owned());
    }
    let connected = world.kubernetes(cluster, way).await;
    let kubernetes = connected.map_err(|error| error.said())?.kubernetes;
    let lists = [
        (DAEMON_SET, Some("kube-system")),
        (SECRET_PROVIDER_CLASS, None),
        (INGRESS_CLASS, None),
        (GATEWAY_CLASS, None),
    ];
    let asked = lists.map(|(kind, namespace)| list(&kubernetes, kind, namespace));
    let definition = CRD.named("", GATEWAY_DEFINITION);
    let (listed, definition) = tokio::join!(join_all(asked), kubernetes.get(&definition));
    let mut missed = Vec::new();
    let mut listed = listed.into_iter().map(|answer| match answer {
        Ok(items) => Ok(Some(items)),
        Err(k8s::Error::Unreachable { .. } | k8s::Error::Unauthorized { .. }) => Err(()),
        Err(error) => {
            missed.push(crate::binding::error::kubernetes_said(&error));
            Ok(None)
        }
    });
    let mut next = || listed.next().unwrap_or(Ok(None));
    let (sets, classes, ingress, gateway) = (next(), next(), next(), next());
    drop(listed);
    let (Ok(sets), Ok(classes), Ok(ingress), Ok(gateway)) = (sets, classes, ingress, gateway) else {
        return Err("its API server did not let the caller in, or did not answer".to_owned());
    };
    let count = classes.and_then(|all| i64::try_from(all.len()).ok());
    let version = definition.ok().flatten();
    let version = version.and_then(|it| text(&it["metadata"]["annotations"][BUNDLE_VERSION]));
    let values = vec![
        (
            "driver_version",
            Value::from(sets.and_then(|all| driver_version(&all))),
        ),
        ("secret_provider_class_count", Value::from(count)),
        (
            "ingress_classes",
            ingress.map_or(Value::Null, |all| named(&all, ingress_class)),
        ),
        (
            "gateway_classes",
            gateway.map_or(Value::Null, |all| named(&all, gateway_class)),
        ),
        ("gateway_api_version", Value::from(version)),
    ];
    Ok(Seen { values, missed })
}

/// All of a kind; none where it is not served.
async fn list(kubernetes: &Kubernetes, kind: Kind, namespace: Option<&str>) -> Result<Vec<Json>, k8s::Error> {
    match kubernetes.list(kind, namespace, "").await {
        Err(k8s::Error::NotServed { .. }) => Ok(Vec::new()),
        other => other,
    }
}

fn text(value: &Json) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The tag of the driver's image, whatever its DaemonSet is called.
fn driver_version(sets: &[Json]) -> Option<String> {
    let containers = sets.iter().flat_map(|set| {
        set["spec"]["template"]["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
    });
    let mut images = containers
        .filter(|container| container["name"] == "secrets-store")
        .filter_map(|container| container["image"].as_str());
    let (_, tag) = images.next()?.rsplit_once(':')?;
    Some(tag.trim_start_matches('v').to_owned())
}

/// Objects as values, by name.
fn named(objects: &[Json], value: fn(&Json) -> Value) -> Value {
    let mut objects: Vec<&Json> = objects.iter().collect();
    objects.sort_by_key(|object| object["metadata"]["name"].as_str());
    Value::List(objects.into_iter().map(value).collect())
}

fn ingress_class(class: &Json) -> Value {
    let controller = text(&class["spec"]["controller"]);
    let retired = controller.as_deref().and_then(controllers::retired_on);
    Value::object([
        ("name", Value::from(text(&class["metadata"]["name"]))),
        ("controller", Value::from(controller)),
        ("default", Value::from(controllers::is_default_class(class))),
        ("retired_on", Value::from(retired.map(str::to_owned))),
    ])
}

fn gateway_class(class: &Json) -> Value {
    Value::object([
        ("name", Value::from(text(&class["metadata"]["name"]))),
        ("controller", Value::from(text(&class["spec"]["controllerName"]))),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schema_keeps_terraforms_rules() {
        assert_eq!(schema().check(), Vec::<String>::new());
    }

    #[test]
    fn a_class_says_whether_its_controller_has_an_end() {
        let class = |controller: &str| {
            ingress_class(&json!({
                "metadata": {"name": "c", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}, "spec": {"controller": controller},
            }))
        };
        assert_eq!(
            class("k8s.io/ingress-nginx").get("retired_on"),
            &Value::from("2026-03-31")
        );
        let other = class("traefik.io/ingress-controller");
        assert_eq!(
            (other.get("retired_on"), other.get("default")),
            (&Value::Null, &Value::from(true))
        );
    }

    #[test]
    fn the_drivers_version_is_its_images() {
        let set = |image: &str| {
            json!({"spec": {"template": {"spec": {"containers": [
                {"name": "liveness-probe", "image": "x:v9"}, {"name": "secrets-store", "image": image},
            ]}}}})
        };
        let image = "mcr.microsoft.com/oss/v2/kubernetes-csi/secrets-store/driver:v1.5.6";
        assert_eq!(driver_version(&[set(image)]).as_deref(), Some("1.5.6"));
        assert_eq!(driver_version(&[json!({})]), None);
    }
}
