//! The secrets store add-on: what AKS puts into the cluster when ARM has enabled it, and takes away again.

mod manifests;

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::Cluster;
use super::cache::{Bell, Topic};
use super::client::{ApiError, Client, Delete};
use super::kinds::Kind;
use super::kubelet::DRIVER;
use super::objects::{is_covered, is_deleting, name};
use super::pulse::{Actor, Next, Outcome};
use crate::sandbox::core::AddonState;

/// AKS's add-on manager, for this one add-on.
pub(super) struct Addon {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    wanted: watch::Receiver<AddonState>,
    /// What was last asked for, and from when on it is done.
    asked: Option<(AddonState, OffsetDateTime)>,
    driver_version: String,
    noticed: Arc<Noticed>,
}

impl Actor for Addon {
    const NAME: &'static str = "addon";
    const TOPICS: &'static [Topic] = &[
        Topic::Addon,
        Topic::Objects(Kind::CustomResourceDefinition),
        Topic::Objects(Kind::CsiDriver),
        Topic::Objects(Kind::DaemonSet),
        Topic::Objects(Kind::Namespace),
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        let now = self.cluster.clock.now();
        let wanted = self.wanted.borrow_and_update().clone();
        let due = match &self.asked {
            Some((asked, due)) if *asked == wanted => *due,
            // What a cluster has when the world begins, it has had for long.
            None => now,
            Some(_) => now + self.cluster.lags.get("driver_ready"),
        };
        self.asked = Some((wanted.clone(), due));
        self.noticed.note(&wanted);
        if due > now {
            outcome.next.at(due, || "brings the driver".into());
        } else if wanted.enabled {
            let result = self.install(&wanted).await;
            outcome.note(result);
        } else {
            let result = self.remove().await;
            outcome.note(result);
        }
        outcome.finish()
    }
}

impl Addon {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        client: Arc<Client>,
        wanted: watch::Receiver<AddonState>,
        driver_version: String,
        noticed: Arc<Noticed>,
    ) -> Self {
        Self {
            cluster,
            client,
            wanted,
            asked: None,
            driver_version,
            noticed,
        }
    }

    async fn install(&self, state: &AddonState) -> Result<(), ApiError> {
        if self
            .cluster
            .cache
            .get(Kind::Namespace, "", "kube-system")
            .is_none()
        {
            // Comes with the cluster, before any add-on.
            return Ok(());
        }
        for definition in manifests::definitions() {
            self.ensure(Kind::CustomResourceDefinition, "", definition)
                .await?;
        }
        self.ensure(
            Kind::CsiDriver,
            "",
            manifests::csi_driver(self.cluster.generation.is_republished()),
        )
        .await?;
        for set in [
            manifests::driver_set(state, &self.driver_version),
            manifests::provider_set(self.cluster.generation),
        ] {
            self.ensure(Kind::DaemonSet, "kube-system", set).await?;
        }
        Ok(())
    }

    /// Creates what is missing and mends what differs.
    async fn ensure(&self, kind: Kind, space: &str, object: Value) -> Result<(), ApiError> {
        match self.cluster.cache.get(kind, space, name(&object)) {
            None => {
                self.client.create(kind, space, object).await?;
            }
            Some(have) if is_deleting(&have) => {}
            // Only what changes with the add-on's settings; the rest is defaulted by the API and stays as it was.
            Some(have) if kind == Kind::DaemonSet => {
                let patch =
                    json!({"spec": {"template": {"spec": {"containers": keep_known(&have, &object)}}}});
                if !is_covered(&have, &patch) {
                    self.client.merge(kind, &have, &patch).await?;
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn remove(&self) -> Result<(), ApiError> {
        for (kind, space, wanted) in [
            (Kind::DaemonSet, "kube-system", manifests::DRIVER_SET),
            (Kind::DaemonSet, "kube-system", manifests::PROVIDER_SET),
            (Kind::CsiDriver, "", DRIVER),
        ] {
            if let Some(object) = self.cluster.cache.get(kind, space, wanted)
                && !is_deleting(&object)
            {
                self.client.delete(kind, &object, Delete::Graceful).await?;
            }
        }
        Ok(())
    }
}

/// The containers as they are, with the arguments they should have.
fn keep_known(have: &Value, wanted: &Value) -> Vec<Value> {
    let containers = |object: &Value| super::objects::list(object, "/spec/template/spec/containers").to_vec();
    let wanted = containers(wanted);
    let mut kept = containers(have);
    for container in &mut kept {
        if let Some(wanted) = wanted.iter().find(|wanted| wanted["name"] == container["name"])
            && !wanted["args"].is_null()
        {
            container["args"] = wanted["args"].clone();
        }
    }
    kept
}

/// Rings the bell whenever Azure changes its mind.
pub(super) async fn relay(mut wanted: watch::Receiver<AddonState>, bell: Arc<Bell>) {
    while wanted.changed().await.is_ok() {
        bell.ring(Topic::Addon);
    }
}

/// What the add-on actor has taken notice of; shared with whoever asks whether it is busy.
#[derive(Default)]
pub(super) struct Noticed(Mutex<Option<AddonState>>);

impl Noticed {
    pub(super) fn is(&self, state: &AddonState) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(state)
    }

    fn note(&self, state: &AddonState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
    }
}
