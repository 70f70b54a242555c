//! The rotation loop of the 1.5 generation: every poll interval it fetches everything that is mounted again.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Generation, Tokens, driver_settings, is_managed, parameters, provider_tells, secret_data,
    service_account_tokens, tell, versions_json,
};
use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client};
use crate::sandbox::actors::events::Recorder;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::mounts::{Files, Versions};
use crate::sandbox::actors::objects::{is_covered, is_deleting, is_true, list, name, namespace, text, uid};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};
use crate::sandbox::actors::vault_provider::{MountRequest, VaultProvider};

/// Mounts that are fetched side by side: enough for the few cores of a test machine.
const AT_A_TIME: usize = 4;

/// The loop.
pub(in crate::sandbox::actors) struct Rotation {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    events: Recorder,
    provider: Arc<VaultProvider>,
    tokens: Tokens,
    /// When the last round was, or the loop began.
    last: Option<OffsetDateTime>,
}

impl Actor for Rotation {
    const NAME: &'static str = "csi rotation";
    const TOPICS: &'static [Topic] = &[Topic::Objects(Kind::DaemonSet)];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        let rotates = self.cluster.generation == Generation::Loop;
        let settings = driver_settings(&self.cluster).filter(|settings| rotates && settings.rotation);
        let Some(settings) = settings else {
            self.last = None;
            return outcome.finish();
        };
        let now = self.cluster.clock.now();
        let last = *self.last.get_or_insert(now);
        if last + settings.poll_interval <= now {
            self.last = Some(now);
            for some in self.cluster.cache.all(Kind::PodStatus).chunks(AT_A_TIME) {
                let results = join_all(some.iter().map(|status| self.rotate(status))).await;
                results.into_iter().for_each(|result| outcome.note(result));
            }
        }
        let due = self.last.unwrap_or(now) + settings.poll_interval;
        outcome.next.at(due, || "looks for new versions".into());
        outcome.finish()
    }
}

/// Whether a status object names these versions already.
fn is_known(status: &Value, versions: &Versions) -> bool {
    status["status"]["objects"] == versions_json(versions)
}

impl Rotation {
    pub(in crate::sandbox::actors) fn new(
        cluster: Arc<Cluster>,
        client: Arc<Client>,
        provider: Arc<VaultProvider>,
    ) -> Self {
        let component = "csi-secrets-store-rotation";
        let events = Recorder::new(Arc::clone(&client), cluster.clock.clone(), component, None);
        Self {
            cluster,
            client,
            events,
            provider,
            tokens: Tokens::default(),
            last: None,
        }
    }

    async fn rotate(&self, status: &Value) -> Result<(), ApiError> {
        let space = namespace(status);
        let Some(pod) = self
            .cluster
            .cache
            .get(Kind::Pod, space, text(status, "/status/podName"))
        else {
            return Ok(());
        };
        // A pod that has not started yet is the kubelet's.
        if is_deleting(&pod) || !is_true(&pod, "PodReadyToStartContainers") {
            return Ok(());
        }
        let class_name = text(status, "/status/secretProviderClassName");
        let Some(class) = self
            .cluster
            .cache
            .get(Kind::SecretProviderClass, space, class_name)
        else {
            return Ok(());
        };
        if !super::super::kubelet::runs(&self.cluster, text(&pod, "/spec/nodeName"), "secrets-store") {
            return Ok(());
        }
        let account = text(&pod, "/spec/serviceAccountName");
        if let Some(error) = self.cluster.stage.get().forbidden_token(space, account) {
            let message = format!("failed to get service account tokens: {error}");
            return self
                .events
                .warning(Kind::Pod, &pod, "MountRotationFailed", &message)
                .await;
        }
        let mounted =
            match service_account_tokens(&self.cluster, &self.client, &pod, Some(&self.tokens)).await {
                Ok(tokens) => {
                    let request = MountRequest {
                        parameters: parameters(&class),
                        tokens,
                        secrets: Default::default(),
                    };
                    let mounted = self.provider.mount(&request).await;
                    // A poll that finds nothing new is not worth a line.
                    if !mounted
                        .as_ref()
                        .is_ok_and(|(_, versions)| is_known(status, versions))
                    {
                        provider_tells(&self.cluster, &pod, &mounted);
                    }
                    mounted
                }
                Err(ApiError::Status { message, .. }) => {
                    Err(format!("failed to get service account tokens: {message}"))
                }
                Err(error) => return Err(error),
            };
        let (files, versions) = match mounted {
            Ok(mounted) => mounted,
            Err(error) => {
                let message = format!("provider mount err: {error}");
                tell(
                    &self.cluster,
                    &pod,
                    'E',
                    &format!("\"failed to rotate\" err={message:?}"),
                );
                return self
                    .events
                    .warning(Kind::Pod, &pod, "MountRotationFailed", &message)
                    .await;
            }
        };
        self.renew_mount(status, &pod, &files, &versions).await?;
        for entry in list(&class, "/spec/secretObjects") {
            if secret_data::flaw(entry).is_none() {
                self.renew_secret(&pod, entry, &files).await?;
            }
        }
        Ok(())
    }

    async fn renew_mount(
        &self,
        status: &Value,
        pod: &Value,
        files: &Files,
        versions: &Versions,
    ) -> Result<(), ApiError> {
        if is_known(status, versions) {
            return Ok(());
        }
        let patch = json!({"status": {"objects": versions_json(versions)}});
        let class = text(status, "/status/secretProviderClassName");
        let now = self.cluster.clock.now();
        self.cluster.mounts.rewrite(uid(pod), class, files, versions, now);
        self.cluster.bell.ring(Topic::Mounts);
        self.client.merge(Kind::PodStatus, status, &patch).await?;
        let of = format!("spc=\"{}/{class}\" pod={:?}", namespace(pod), name(pod));
        tell(
            &self.cluster,
            pod,
            'I',
            &format!("\"updated versions in spc pod status\" {of}"),
        );
        let message = format!(
            "successfully rotated mounted contents for spc {}/{class}",
            namespace(pod)
        );
        self.events
            .normal(Kind::Pod, pod, "MountRotationComplete", &message)
            .await
    }

    async fn renew_secret(&self, pod: &Value, entry: &Value, files: &Files) -> Result<(), ApiError> {
        let secret_name = text(entry, "/secretName").trim();
        let data = match secret_data::data(entry, files) {
            Ok(data) => data,
            Err(error) => {
                let message = format!("failed to get data for secret {secret_name}, err: {error}");
                return self
                    .events
                    .warning(Kind::Pod, pod, "SecretRotationFailed", &message)
                    .await;
            }
        };
        let found = self.cluster.cache.get(Kind::Secret, namespace(pod), secret_name);
        let Some(secret) = found.filter(|secret| is_managed(secret)) else {
            return Ok(());
        };
        let patch = json!({"data": data});
        if is_covered(&secret, &patch) {
            return Ok(());
        }
        match self.client.merge(Kind::Secret, &secret, &patch).await {
            Ok(_) => {
                let message = format!("successfully rotated K8s secret {}", name(&secret));
                self.events
                    .normal(Kind::Pod, pod, "SecretRotationComplete", &message)
                    .await
            }
            Err(ApiError::Status { message, .. }) => {
                let words = format!("failed to patch secret {secret_name} with new data, err: {message}");
                self.events
                    .warning(Kind::Pod, pod, "SecretRotationFailed", &words)
                    .await
            }
            Err(error) => Err(error),
        }
    }
}
