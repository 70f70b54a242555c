//! A pod's volumes: mounts that take a while, fail, and are tried again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::{DRIVER, runs};
use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client};
use crate::sandbox::actors::csi_driver::{CsiDriver, service_account_tokens};
use crate::sandbox::actors::events::Recorder;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{at, flag, list, namespace, text, uid};
use crate::sandbox::actors::pulse::Next;

/// First and longest pause between two attempts at the same volume; the kubelet's own.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(122);
/// How long the driver may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pod UID and volume name.
type Key = (String, String);

enum Mount {
    Running,
    Done,
    Failed { pause: Duration, again: OffsetDateTime },
}

/// The state of every volume in use.
pub(super) struct Volumes {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    driver: Arc<CsiDriver>,
    mounts: Arc<Mutex<HashMap<Key, Mount>>>,
}

impl Volumes {
    pub(super) fn new(cluster: Arc<Cluster>, client: Arc<Client>, driver: Arc<CsiDriver>) -> Self {
        Self {
            cluster,
            client,
            driver,
            mounts: Arc::default(),
        }
    }

    /// Mounts what is not mounted yet; true when all is.
    pub(super) async fn prepare(
        &self,
        pod: &Value,
        events: &Arc<Recorder>,
        next: &mut Next,
    ) -> Result<bool, ApiError> {
        let mut all = true;
        for volume in list(pod, "/spec/volumes") {
            let key = (uid(pod).to_owned(), text(volume, "/name").to_owned());
            let now = self.cluster.clock.now();
            let pause = match lock(&self.mounts).get(&key) {
                Some(Mount::Done) => continue,
                Some(Mount::Running) => {
                    all = false;
                    continue;
                }
                Some(Mount::Failed { again, .. }) if *again > now => {
                    let again = *again;
                    next.at(again, || format!("mounts {} of {}", key.1, super::pod_name(pod)));
                    all = false;
                    continue;
                }
                Some(Mount::Failed { pause, .. }) => (*pause * 2).min(LONGEST_PAUSE),
                None => FIRST_PAUSE,
            };
            if volume.get("csi").is_some_and(|csi| csi["driver"] == DRIVER) {
                all = false;
                self.begin(pod, volume, key, pause, Arc::clone(events));
            } else if let Some(missing) = self.missing(pod, volume) {
                all = false;
                let again = now + pause;
                lock(&self.mounts).insert(key.clone(), Mount::Failed { pause, again });
                next.at(again, || format!("mounts {} of {}", key.1, super::pod_name(pod)));
                let message = format!("MountVolume.SetUp failed for volume \"{}\" : {missing}", key.1);
                events.warning(Kind::Pod, pod, "FailedMount", &message).await?;
            } else {
                lock(&self.mounts).insert(key, Mount::Done);
            }
        }
        Ok(all)
    }

    /// Has the driver publish again what it has mounted for a pod. What goes wrong there is the driver's to tell.
    pub(super) fn publish_again(&self, pod: &Value) {
        for volume in list(pod, "/spec/volumes") {
            let key = (uid(pod).to_owned(), text(volume, "/name").to_owned());
            let is_ours = volume.get("csi").is_some_and(|csi| csi["driver"] == DRIVER);
            let is_mounted = matches!(lock(&self.mounts).get(&key), Some(Mount::Done));
            if !is_ours || !is_mounted || !self.driver.is_due(&key) {
                continue;
            }
            let (cluster, driver) = (Arc::clone(&self.cluster), Arc::clone(&self.driver));
            let client = Arc::clone(&self.client);
            let (pod, volume) = (pod.clone(), volume.clone());
            let task = cluster.pulse.task(format!(
                "kubelet: publishes {} of {} again",
                key.1,
                super::pod_name(&pod)
            ));
            let work = async move {
                if let Err(error) = attempt(&cluster, &client, &driver, &pod, &volume).await {
                    tracing::debug!(
                        error,
                        "csi-secrets-store: a republish failed and is answered with OK"
                    );
                }
                drop(task);
            };
            self.cluster.spawn(work);
        }
    }

    /// Unmounts all of a pod's volumes.
    pub(super) fn release(&self, pod: &str) {
        lock(&self.mounts).retain(|(of, _), _| of != pod);
        self.driver.unpublish(pod);
    }

    /// Hands a volume to the driver. The kubelet goes on meanwhile.
    fn begin(&self, pod: &Value, volume: &Value, key: Key, pause: Duration, events: Arc<Recorder>) {
        lock(&self.mounts).insert(key.clone(), Mount::Running);
        let (cluster, driver) = (Arc::clone(&self.cluster), Arc::clone(&self.driver));
        let client = Arc::clone(&self.client);
        let mounts = Arc::clone(&self.mounts);
        let (pod, volume) = (pod.clone(), volume.clone());
        let task = cluster
            .pulse
            .task(format!("kubelet: mounts {} of {}", key.1, super::pod_name(&pod)));
        let work = async move {
            let result = attempt(&cluster, &client, &driver, &pod, &volume).await;
            // A pod that ended meanwhile has no use for the outcome.
            let wanted = lock(&mounts).contains_key(&key);
            match result {
                Ok(()) if wanted => drop(lock(&mounts).insert(key, Mount::Done)),
                Ok(()) => driver.unpublish(uid(&pod)),
                Err(message) if wanted => {
                    let message = format!("MountVolume.SetUp failed for volume \"{}\" : {message}", key.1);
                    if let Err(error) = events.warning(Kind::Pod, &pod, "FailedMount", &message).await {
                        tracing::debug!(%error, "an event was lost");
                    }
                    let again = cluster.clock.now() + pause;
                    lock(&mounts).insert(key, Mount::Failed { pause, again });
                }
                Err(_) => {}
            }
            cluster.bell.ring(Topic::Mounts);
            drop(task);
        };
        self.cluster.spawn(work);
    }

    /// A Secret or ConfigMap a volume needs that is not there.
    fn missing(&self, pod: &Value, volume: &Value) -> Option<String> {
        let lacks = |kind: Kind, word: &str, name: &str| {
            let there = self.cluster.cache.get(kind, namespace(pod), name).is_some();
            (!there).then(|| format!("{word} \"{name}\" not found"))
        };
        let (secret, map) = (at(volume, "/secret"), at(volume, "/configMap"));
        if secret.is_object() && !flag(secret, "/optional") {
            return lacks(Kind::Secret, "secret", text(secret, "/secretName"));
        }
        if map.is_object() && !flag(map, "/optional") {
            return lacks(Kind::ConfigMap, "configmap", text(map, "/name"));
        }
        None
    }
}

/// One call of the driver, as the kubelet makes and reports it.
async fn attempt(
    cluster: &Cluster,
    client: &Client,
    driver: &CsiDriver,
    pod: &Value,
    volume: &Value,
) -> Result<(), String> {
    let node = text(pod, "/spec/nodeName");
    let csi_node = cluster.cache.get(Kind::CsiNode, "", node);
    let registered = csi_node.is_some_and(|csi_node| {
        list(&csi_node, "/spec/drivers")
            .iter()
            .any(|driver| driver["name"] == DRIVER)
    });
    if !registered {
        return Err(format!(
            "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {DRIVER} not found in the list \
             of registered CSI drivers"
        ));
    }
    let modes = cluster.cache.get(Kind::CsiDriver, "", DRIVER);
    let ephemeral = modes.is_some_and(|modes| {
        list(&modes, "/spec/volumeLifecycleModes")
            .iter()
            .any(|mode| mode == "Ephemeral")
    });
    if !ephemeral {
        return Err(format!(
            "kubernetes.io/csi: mounter.SetUpAt failed to check volume lifecycle mode: volume mode \"Ephemeral\" not \
             supported by driver {DRIVER}"
        ));
    }
    let tokens = service_account_tokens(cluster, client, pod, None).await.map_err(|error| {
        format!(
            "kubernetes.io/csi: mounter.SetUpAt failed to get service accoount token attributes: failed to fetch token: \
             {error}"
        )
    })?;
    let provider = runs(cluster, node, "provider-azure-installer");
    let late = cluster.clock.sleep(PATIENCE, "a mount's deadline");
    tokio::select! {
        result = Box::pin(driver.publish(pod, volume, &tokens, provider)) => result,
        () = late => {
            driver.gave_up(&(uid(pod).to_owned(), text(volume, "/name").to_owned()));
            Err("rpc error: code = DeadlineExceeded desc = context deadline exceeded".into())
        }
    }
}

fn lock(mounts: &Mutex<HashMap<Key, Mount>>) -> MutexGuard<'_, HashMap<Key, Mount>> {
    mounts.lock().unwrap_or_else(PoisonError::into_inner)
}
