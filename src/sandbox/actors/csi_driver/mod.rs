//! The secrets store CSI driver: mounts on request, makes Secrets of what is mounted, and brings new versions when
//! rotation is on: up to 1.5 in a loop of its own, from 1.6 on whenever the kubelet publishes again.

mod generation;
mod rotation;
mod secret_data;
mod secret_sync;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;

pub(super) use self::generation::Generation;
pub(super) use self::rotation::Rotation;
pub(super) use self::secret_sync::SecretSync;
use self::tokens::Tokens;
pub(super) use self::tokens::service_account_tokens;
use super::Cluster;
use super::cache::Topic;
use super::client::{ApiError, Client};
use super::kinds::Kind;
use super::mounts::{Files, Mount, Versions};
use super::objects::{at, entries, flag, is_covered, list, name, namespace, text, uid};
use super::vault_provider::{MountRequest, VaultProvider};
use crate::sandbox::world::go_duration;

/// On a pod status object: the node it belongs to.
const NODE_LABEL: &str = "internal.secrets-store.csi.k8s.io/node-name";
/// On a Secret: made by the driver.
const MANAGED_LABEL: &str = "secrets-store.csi.k8s.io/managed";

/// The driver's node service.
pub(super) struct CsiDriver {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    provider: Arc<VaultProvider>,
    /// When each volume's directory was last written, by pod UID and volume.
    ages: Mutex<HashMap<Volume, OffsetDateTime>>,
}

/// A pod's UID and the name of its volume.
pub(super) type Volume = (String, String);

impl CsiDriver {
    pub(super) fn new(cluster: Arc<Cluster>, client: Arc<Client>, provider: Arc<VaultProvider>) -> Self {
        Self {
            cluster,
            client,
            provider,
            ages: Mutex::default(),
        }
    }

    /// Whether publishing this volume again does anything: only with rotation, and not before the poll interval is
    /// over.
    pub(super) fn is_due(&self, volume: &Volume) -> bool {
        let Some(settings) = driver_settings(&self.cluster).filter(|settings| settings.rotation) else {
            return false;
        };
        let age = self.ages().get(volume).copied();
        age.is_none_or(|age| age + settings.poll_interval <= self.cluster.clock.now())
    }

    /// The kubelet stopped waiting for a first publish. 1.6.0 leaves the empty directory behind, which then looks as if
    /// it had been written just now.
    pub(super) fn gave_up(&self, volume: &Volume) {
        let rotates = driver_settings(&self.cluster).is_some_and(|settings| settings.rotation);
        if self.cluster.generation == Generation::Overwriting && rotates {
            let now = self.cluster.clock.now();
            self.ages().entry(volume.clone()).or_insert(now);
        }
    }

    fn ages(&self) -> MutexGuard<'_, HashMap<Volume, OffsetDateTime>> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mounts a class into a pod's volume. `tokens` are the service account's, as JSON. An error is the gRPC status as
    /// the kubelet prints it.
    pub(super) async fn publish(
        &self,
        pod: &Value,
        volume: &Value,
        tokens: &str,
        provider_there: bool,
    ) -> Result<(), String> {
        let result = self.mount(pod, volume, tokens, provider_there).await;
        let of = format!(
            "pod=\"{}/{}\" volume={:?}",
            namespace(pod),
            name(pod),
            text(volume, "/name")
        );
        match &result {
            Ok(true) => tell(
                &self.cluster,
                pod,
                'I',
                &format!("\"node publish volume complete\" {of}"),
            ),
            Ok(false) => {}
            Err(error) => {
                let words = format!("\"failed to mount secrets store object content\" err={error:?} {of}");
                tell(&self.cluster, pod, 'E', &words);
            }
        }
        result.map(drop)
    }

    /// Whether anything was mounted, which is not so if it is mounted already and not due.
    async fn mount(
        &self,
        pod: &Value,
        volume: &Value,
        tokens: &str,
        provider_there: bool,
    ) -> Result<bool, String> {
        let unknown = |error: String| format!("rpc error: code = Unknown desc = {error}");
        if !flag(volume, "/csi/readOnly") {
            return Err("rpc error: code = InvalidArgument desc = Readonly is not true in request".into());
        }
        let class_name = text(volume, "/csi/volumeAttributes/secretProviderClass");
        if class_name.is_empty() {
            return Err(unknown("secretProviderClass is not set".into()));
        }
        let key = (uid(pod).to_owned(), text(volume, "/name").to_owned());
        if self.cluster.generation.is_republished() && self.ages().contains_key(&key) && !self.is_due(&key) {
            return Ok(false);
        }
        let space = namespace(pod);
        let class = self
            .client
            .get(Kind::SecretProviderClass, space, class_name)
            .await;
        let class = class.map_err(|error| error.to_string()).and_then(|class| {
            class.ok_or_else(|| {
                format!("secretproviderclasses.secrets-store.csi.x-k8s.io \"{class_name}\" not found")
            })
        });
        let class = class.map_err(|error| {
            unknown(format!(
                "failed to get secretproviderclass {space}/{class_name}, error: {error}"
            ))
        })?;
        let in_pod = |error: String| {
            unknown(format!(
                "failed to mount secrets store objects for pod {space}/{}, err: {error}",
                name(pod)
            ))
        };
        let (files, versions) = self
            .fetch(pod, volume, &class, tokens, provider_there)
            .await
            .map_err(in_pod)?;
        let volume_name = text(volume, "/name");
        self.ages().insert(key, self.cluster.clock.now());
        let mount = Mount {
            namespace: space.to_owned(),
            pod: name(pod).to_owned(),
            class: class_name.to_owned(),
            files,
            versions,
            at: self.cluster.clock.now(),
        };
        self.cluster.mounts.put(uid(pod), volume_name, mount.clone());
        self.cluster.bell.ring(Topic::Mounts);
        let target = format!(
            "/var/lib/kubelet/pods/{}/volumes/kubernetes.io~csi/{volume_name}/mount",
            uid(pod)
        );
        let written = self.write_status(pod, &mount, &target).await;
        written.map(|()| true).map_err(|error| {
            unknown(format!(
                "failed to create secret provider class pod status for pod {space}/{}, err: {error}",
                name(pod)
            ))
        })
    }

    /// Takes all of a pod's files away.
    pub(super) fn unpublish(&self, pod: &str) {
        self.cluster.mounts.remove(pod);
        self.ages().retain(|(of, _), _| of != pod);
    }

    async fn fetch(
        &self,
        pod: &Value,
        volume: &Value,
        class: &Value,
        tokens: &str,
        provider_there: bool,
    ) -> Result<(Files, Versions), String> {
        let provider = text(class, "/spec/provider");
        if provider.is_empty() {
            return Err(format!(
                "provider not set in {}/{}",
                namespace(class),
                name(class)
            ));
        }
        if provider != "azure" || !provider_there {
            return Err(format!(
                "error connecting to provider \"{provider}\": provider not found: provider \"{provider}\""
            ));
        }
        if let Some(error) = self.cluster.stage.get().mount_failure(class) {
            return Err(error);
        }
        let secrets = match text(volume, "/csi/nodePublishSecretRef/name") {
            "" => BTreeMap::new(),
            reference => self.credential(namespace(pod), reference).await?,
        };
        let request = MountRequest {
            parameters: parameters(class),
            tokens: tokens.to_owned(),
            secrets,
        };
        let mounted = self.provider.mount(&request).await;
        provider_tells(&self.cluster, pod, &mounted);
        let (files, versions) = mounted?;
        if versions.is_empty() {
            return Err("missing object versions".into());
        }
        Ok((files, versions))
    }

    async fn credential(&self, space: &str, reference: &str) -> Result<BTreeMap<String, String>, String> {
        let failed =
            |error: String| format!("fetching NodePublishSecretRef {space}/{reference} failed: {error}");
        let found = self.client.get(Kind::Secret, space, reference).await;
        let secret = found.map_err(|error| failed(error.to_string()))?;
        let secret = secret.ok_or_else(|| failed(format!("secrets \"{reference}\" not found")))?;
        let decoded = entries(&secret, "/data").map(|(key, value)| {
            let bytes = STANDARD
                .decode(value.as_str().unwrap_or_default())
                .unwrap_or_default();
            (key.clone(), String::from_utf8_lossy(&bytes).into_owned())
        });
        Ok(decoded.collect())
    }

    /// Creates or updates the status object of this pod and class.
    async fn write_status(&self, pod: &Value, mount: &Mount, target: &str) -> Result<(), ApiError> {
        let object_name = format!("{}-{}-{}", name(pod), namespace(pod), mount.class);
        let metadata = json!({
            "labels": {NODE_LABEL: text(pod, "/spec/nodeName")},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name(pod), "uid": uid(pod)}],
        });
        let status = json!({
            "podName": name(pod), "secretProviderClassName": mount.class, "mounted": true,
            "targetPath": target, "objects": versions_json(&mount.versions),
        });
        let mut object = json!({"metadata": metadata, "status": status});
        match self
            .client
            .get(Kind::PodStatus, namespace(pod), &object_name)
            .await?
        {
            Some(existing) if is_covered(&existing, &object) => existing,
            Some(existing) => self.client.merge(Kind::PodStatus, &existing, &object).await?,
            None => {
                object["metadata"]["name"] = object_name.into();
                object["metadata"]["namespace"] = namespace(pod).into();
                self.client
                    .create(Kind::PodStatus, namespace(pod), object)
                    .await?
            }
        };
        Ok(())
    }
}

/// The driver on a pod's node says something.
fn tell(cluster: &Cluster, pod: &Value, level: char, words: &str) {
    cluster.say(text(pod, "/spec/nodeName"), "secrets-store", level, words);
}

/// The provider on a pod's node says what came of a mount.
fn provider_tells(cluster: &Cluster, pod: &Value, mounted: &Result<(Files, Versions), String>) {
    let node = text(pod, "/spec/nodeName");
    let say = |level, words: &str| cluster.say(node, "provider-azure-installer", level, words);
    let of = format!("pod=\"{}/{}\"", namespace(pod), name(pod));
    match mounted {
        Ok((files, versions)) => {
            for (id, version) in versions {
                say(
                    'I',
                    &format!("\"fetched object\" object={id:?} version={version:?} {of}"),
                );
            }
            say(
                'I',
                &format!("\"mount request complete\" files={} {of}", files.len()),
            );
        }
        Err(error) => say(
            'E',
            &format!("\"failed to process mount request\" err={error:?} {of}"),
        ),
    }
}

/// How the driver's DaemonSet has it run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DriverSettings {
    rotation: bool,
    poll_interval: Duration,
}

/// Reads the arguments of the driver's container, wherever its DaemonSet is; `None` without one.
fn driver_settings(cluster: &Cluster) -> Option<DriverSettings> {
    let sets = cluster.cache.all(Kind::DaemonSet);
    let containers = sets
        .iter()
        .flat_map(|set| list(set, "/spec/template/spec/containers"));
    let driver = containers
        .into_iter()
        .find(|container| container["name"] == "secrets-store")?;
    let argument = |name: &str| {
        let arguments = list(driver, "/args").iter().filter_map(Value::as_str);
        arguments
            .filter_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
            .next_back()
    };
    Some(DriverSettings {
        rotation: argument("--enable-secret-rotation") == Some("true"),
        poll_interval: argument("--rotation-poll-interval")
            .and_then(go_duration)
            .unwrap_or(Duration::from_secs(120)),
    })
}

fn parameters(class: &Value) -> BTreeMap<String, String> {
    let all = entries(class, "/spec/parameters");
    all.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// The versions as a status object lists them: one entry per id.
fn versions_json(versions: &Versions) -> Value {
    let by_id: BTreeMap<_, _> = versions.iter().map(|(id, version)| (id, version)).collect();
    by_id
        .into_iter()
        .map(|(id, version)| json!({"id": id, "version": version}))
        .collect()
}

/// Who owns a Secret made for this pod: the pod's own owners; of a bare pod the status object.
fn secret_owners(pod: &Value, status: &Value) -> Vec<Value> {
    let reference = |api_version: &str, kind: &str, object_name: &str, object_uid: &str| json!({"apiVersion": api_version, "kind": kind, "name": object_name, "uid": object_uid});
    let owners: Vec<_> = list(pod, "/metadata/ownerReferences")
        .iter()
        .map(|owner| {
            reference(
                text(owner, "/apiVersion"),
                text(owner, "/kind"),
                text(owner, "/name"),
                text(owner, "/uid"),
            )
        })
        .collect();
    if owners.is_empty() {
        let place = Kind::PodStatus.place();
        return vec![reference(
            place.api_version,
            place.kind,
            name(status),
            uid(status),
        )];
    }
    owners
}

/// Whether the driver made the Secret.
fn is_managed(secret: &Value) -> bool {
    at(secret, "/metadata/labels")[MANAGED_LABEL] == "true"
}
