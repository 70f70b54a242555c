//! What goes wrong on a cluster's nodes by luck: staged, because nothing in the world would cause it.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::objects::{list, text};

/// Rows of the diagnosis table whose words can be staged as `mount_error`: their causes lie outside this world.
pub(crate) const MOUNT_ERRORS: &[u64] = &[2, 14, 15, 31, 32, 33, 34, 44];

/// `clusters.NAME.staged` of the world file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Staged {
    /// Images that no registry has; `*` at the end stands for anything.
    missing_images: Vec<String>,
    /// Why no node takes a new pod.
    pub(super) unschedulable: Option<String>,
    pub(super) node_not_ready: bool,
    /// A row of the diagnosis table whose words a mount fails with.
    pub(super) mount_error: Option<u64>,
    /// The driver's pod does not register at its node.
    pub(super) no_driver_on_node: bool,
}

impl Staged {
    fn read(source: &Value) -> Self {
        let flag = |name: &str| source[name] == true;
        Self {
            missing_images: list(source, "/missing_images")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            unschedulable: match &source["unschedulable"] {
                Value::String(why) => Some(why.clone()),
                Value::Bool(true) => Some("Insufficient cpu".to_owned()),
                _ => None,
            },
            node_not_ready: flag("node_not_ready"),
            mount_error: source["mount_error"].as_u64(),
            no_driver_on_node: flag("no_driver_on_node"),
        }
    }

    /// Why an image cannot be had.
    pub(super) fn missing_image(&self, image: &str) -> Option<(&'static str, String)> {
        let is = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => image.starts_with(start),
            None => image == pattern,
        };
        self.missing_images.iter().any(is).then(|| {
            let message = format!(
                "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found"
            );
            ("ErrImagePull", message)
        })
    }

    /// What a mount of this class fails with, from the driver's inner error on.
    pub(super) fn mount_failure(&self, class: &Value) -> Option<String> {
        let object = "failed to get objectType:secret, objectName:staged, objectVersion:";
        let vault = text(class, "/spec/parameters/keyvaultName");
        let by_provider = |error: String| {
            format!("rpc error: code = Unknown desc = failed to mount objects, error: {error}")
        };
        Some(match self.mount_error? {
            2 => "error connecting to provider \"azure\": provider not found: provider \"azure\"".to_owned(),
            14 => by_provider(
                "failed to parse workload identity tokens, error: service account tokens not found".to_owned(),
            ),
            15 => by_provider(
                "failed to parse workload identity tokens, error: token for audience api://AzureADTokenExchange not found"
                    .to_owned(),
            ),
            32 => by_provider(format!(
                "{object}: Get \"https://{vault}.vault.azure.net/secrets/staged/?api-version=7.4\": dial tcp \
                 20.62.134.74:443: i/o timeout"
            )),
            33 => by_provider(
                "failed to get keyvault client: nmi response failed with status code: 404, response body: 404 page not \
                 found"
                    .to_owned(),
            ),
            34 => "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (5242971 vs. \
                   4194304)"
                .to_owned(),
            _ => return None,
        })
    }

    /// Why the driver may not write a Secret.
    pub(super) fn forbidden_secret(&self, namespace: &str) -> Option<String> {
        (self.mount_error == Some(31)).then(|| {
            format!(
                "secrets is forbidden: User \"system:serviceaccount:kube-system:aks-secrets-store-csi-driver\" cannot \
                 create resource \"secrets\" in API group \"\" in the namespace \"{namespace}\""
            )
        })
    }

    /// Why the driver may not ask for a service account's token when it rotates.
    pub(super) fn forbidden_token(&self, namespace: &str, account: &str) -> Option<String> {
        (self.mount_error == Some(44)).then(|| {
            format!(
                "serviceaccounts \"{account}\" is forbidden: User \
                 \"system:serviceaccount:kube-system:aks-secrets-store-csi-driver\" cannot create resource \
                 \"serviceaccounts/token\" in API group \"\" in the namespace \"{namespace}\""
            )
        })
    }
}

/// What is staged now.
#[derive(Default)]
pub(super) struct Stage(Mutex<Arc<Staged>>);

impl Stage {
    pub(super) fn of(source: &Value) -> Self {
        let stage = Self::default();
        stage.set(source);
        stage
    }

    pub(super) fn set(&self, source: &Value) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Staged::read(source));
    }

    pub(super) fn get(&self) -> Arc<Staged> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
