//! A pod's life on its node: volumes, images, environment, start, readiness, end.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::probes::{hears_sigterm, image_error, needs, passes};
use super::{Kubelet, pod_name};
use crate::sandbox::actors::client::{ApiError, Delete};
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    at, int, is_covered, is_deleting, list, moment, namespace, set_condition, stamp, text, uid,
};
use crate::sandbox::actors::pulse::Next;

/// The first and the longest pause between two pulls of an image.
const FIRST_PULL_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PULL_PAUSE: Duration = Duration::from_secs(300);

/// What a pod has been through so far.
#[derive(Default)]
pub(super) struct Life {
    address: String,
    /// When its images are there.
    pulled: Option<OffsetDateTime>,
    started: Option<OffsetDateTime>,
    /// The last refused pull, and how long until the next.
    refused_pull: Option<(OffsetDateTime, Duration)>,
    /// When a failing readiness probe was last reported.
    unready: Option<OffsetDateTime>,
}

/// How far the containers are.
enum Stage {
    /// Waiting, with reason and message.
    Waiting(&'static str, String),
    Running {
        since: OffsetDateTime,
        ready: bool,
    },
}

impl Kubelet {
    /// Brings one pod of a node one step further.
    pub(super) async fn sync(&mut self, pod: &Value, node: usize, next: &mut Next) -> Result<(), ApiError> {
        if is_deleting(pod) {
            return self.end(pod, next).await;
        }
        if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            return Ok(());
        }
        if !self.lives.contains_key(uid(pod)) {
            let life = self.begin(pod, node);
            self.lives.insert(uid(pod).to_owned(), life);
        }
        let stage = self.stage(pod, node, next).await?;
        self.report(pod, node, &stage).await
    }

    fn begin(&mut self, pod: &Value, node: usize) -> Life {
        let address = match text(pod, "/status/podIP") {
            "" if at(pod, "/spec/hostNetwork") == true => format!("10.224.0.{}", node + 4),
            "" => {
                // 10.244.N.0/24 on paper; beyond its 250 addresses the third number goes on counting.
                self.addresses += 1;
                let (high, low) = (self.addresses / 250, self.addresses % 250);
                format!("10.244.{}.{}", node + usize::from(high), low + 2)
            }
            known => known.to_owned(),
        };
        let started = moment(text(pod, "/status/containerStatuses/0/state/running/startedAt"));
        Life {
            address,
            started,
            ..Life::default()
        }
    }

    async fn stage(&mut self, pod: &Value, node: usize, next: &mut Next) -> Result<Stage, ApiError> {
        let now = self.cluster.clock.now();
        let creating = || Stage::Waiting("ContainerCreating", String::new());
        if !self.volumes.prepare(pod, &self.events[node], next).await? {
            return Ok(creating());
        }
        let lag = self.cluster.lags.get("image_pull");
        let Some(life) = self.lives.get_mut(uid(pod)) else {
            return Ok(creating());
        };
        if let Some(since) = life.started {
            let ready = self.is_ready(pod, node, since, next).await?;
            return Ok(Stage::Running { since, ready });
        }
        let pulled = *life.pulled.get_or_insert(now + lag);
        if pulled > now {
            next.at(pulled, || format!("pulls the images of {}", pod_name(pod)));
            return Ok(creating());
        }
        let images = list(pod, "/spec/containers")
            .iter()
            .map(|container| text(container, "/image"));
        let staged = self.cluster.stage.get();
        let broken = |image: &str| image_error(image).or_else(|| staged.missing_image(image));
        if let Some((reason, message)) = images.clone().find_map(broken) {
            return self.refuse_pull(pod, node, reason, message, next).await;
        }
        if let Some(message) = self.missing_environment(pod) {
            let words = format!("Error: {message}");
            let waits = text(pod, "/status/containerStatuses/0/state/waiting/message") == message;
            if !waits {
                self.events[node]
                    .warning(Kind::Pod, pod, "Failed", &words)
                    .await?;
            }
            return Ok(Stage::Waiting("CreateContainerConfigError", message));
        }
        if let Some(life) = self.lives.get_mut(uid(pod)) {
            life.started = Some(now);
        }
        self.first_words(pod, now);
        let ready = self.is_ready(pod, node, now, next).await?;
        Ok(Stage::Running { since: now, ready })
    }

    async fn refuse_pull(
        &mut self,
        pod: &Value,
        node: usize,
        reason: &'static str,
        message: String,
        next: &mut Next,
    ) -> Result<Stage, ApiError> {
        if reason != "ErrImagePull" {
            return Ok(Stage::Waiting(reason, message));
        }
        let now = self.cluster.clock.now();
        let Some(life) = self.lives.get_mut(uid(pod)) else {
            return Ok(Stage::Waiting(reason, message));
        };
        let (again, tried) = match life.refused_pull {
            Some((last, pause)) if last + pause > now => (last + pause, false),
            before => {
                let pause = before.map_or(FIRST_PULL_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PULL_PAUSE));
                life.refused_pull = Some((now, pause));
                (now + pause, true)
            }
        };
        next.at(again, || format!("pulls the images of {}", pod_name(pod)));
        if tried {
            let words = format!("Failed to pull image: {message}");
            self.events[node]
                .warning(Kind::Pod, pod, "Failed", &words)
                .await?;
            return Ok(Stage::Waiting(reason, message));
        }
        let words = format!("Back-off pulling image: {reason}: {message}");
        Ok(Stage::Waiting("ImagePullBackOff", words))
    }

    /// What the environment of a container lacks.
    fn missing_environment(&self, pod: &Value) -> Option<String> {
        let containers = list(pod, "/spec/containers");
        containers.iter().flat_map(needs).find_map(|need| {
            let (kind, word) = if need.secret {
                (Kind::Secret, "secret")
            } else {
                (Kind::ConfigMap, "configmap")
            };
            let Some(object) = self.cluster.cache.get(kind, namespace(pod), need.name) else {
                return Some(format!("{word} \"{}\" not found", need.name));
            };
            let key = need.key?;
            let there = object["data"].get(key).is_some();
            let kind = kind.place().kind;
            (!there).then(|| {
                format!(
                    "couldn't find key {key} in {kind} {}/{}",
                    namespace(pod),
                    need.name
                )
            })
        })
    }

    async fn is_ready(
        &mut self,
        pod: &Value,
        node: usize,
        since: OffsetDateTime,
        next: &mut Next,
    ) -> Result<bool, ApiError> {
        let now = self.cluster.clock.now();
        let mut ready = true;
        for container in list(pod, "/spec/containers") {
            for probe in [at(container, "/startupProbe"), at(container, "/readinessProbe")] {
                if !probe.is_object() {
                    continue;
                }
                let first = since + time::Duration::seconds(int(probe, "/initialDelaySeconds").unwrap_or(0));
                if first > now {
                    next.at(first, || format!("probes {}", pod_name(pod)));
                    ready = false;
                    continue;
                }
                let size = |volume: &str, file: &str| self.cluster.mounts.file_size(uid(pod), volume, file);
                let Err(output) = passes(container, probe, size) else {
                    continue;
                };
                ready = false;
                let period = time::Duration::seconds(int(probe, "/periodSeconds").unwrap_or(10).max(1));
                let Some(life) = self.lives.get_mut(uid(pod)) else {
                    continue;
                };
                if life.unready.is_none_or(|last| last + period <= now) {
                    life.unready = Some(now);
                    let message = format!("Readiness probe failed: {output}");
                    self.events[node]
                        .warning(Kind::Pod, pod, "Unhealthy", &message)
                        .await?;
                }
                next.at(now + period, || format!("probes {}", pod_name(pod)));
            }
        }
        Ok(ready)
    }

    async fn report(&self, pod: &Value, node: usize, stage: &Stage) -> Result<(), ApiError> {
        let now = self.cluster.clock.now();
        let Some(life) = self.lives.get(uid(pod)) else {
            return Ok(());
        };
        let names = || -> Vec<_> {
            let containers = list(pod, "/spec/containers").iter();
            containers.map(|container| text(container, "/name")).collect()
        };
        let (running, ready) = match stage {
            Stage::Waiting(..) => (false, false),
            Stage::Running { ready, .. } => (true, *ready),
        };
        let mut conditions = list(pod, "/status/conditions").to_vec();
        let unready = format!("containers with unready status: [{}]", names().join(" "));
        set_condition(&mut conditions, now, false, ["PodScheduled", "True", "", ""]);
        set_condition(&mut conditions, now, false, ["Initialized", "True", "", ""]);
        let started = if running { "True" } else { "False" };
        set_condition(
            &mut conditions,
            now,
            false,
            ["PodReadyToStartContainers", started, "", ""],
        );
        for kind in ["ContainersReady", "Ready"] {
            let words = if ready {
                [kind, "True", "", ""]
            } else {
                [kind, "False", "ContainersNotReady", &unready]
            };
            set_condition(&mut conditions, now, false, words);
        }
        let containers = list(pod, "/spec/containers").iter();
        let statuses: Vec<_> = containers
            .map(|container| container_status(pod, container, stage))
            .collect();
        let start = match text(pod, "/status/startTime") {
            "" => stamp(now),
            known => known.to_owned(),
        };
        let host = format!("10.224.0.{}", node + 4);
        let mut status = json!({
            "phase": if running { "Running" } else { "Pending" }, "conditions": conditions,
            "containerStatuses": statuses, "startTime": start, "hostIP": host, "hostIPs": [{"ip": host}],
        });
        if running {
            status["podIP"] = life.address.as_str().into();
            status["podIPs"] = json!([{"ip": life.address}]);
        }
        let status = json!({"status": status});
        if !is_covered(pod, &status) {
            self.client.merge_status(Kind::Pod, pod, &status).await?;
        }
        Ok(())
    }

    /// What containers say when they start: that nothing runs in them, and what they find mounted.
    fn first_words(&self, pod: &Value, now: OffsetDateTime) {
        for container in list(pod, "/spec/containers") {
            let (name, image) = (text(container, "/name"), text(container, "/image"));
            let say = |words: &str| self.cluster.logs.say(uid(pod), name, now, words);
            say(&format!("sandbox: {image} counts as started; nothing runs here"));
            for mount in list(container, "/volumeMounts") {
                let files = self.cluster.mounts.sizes(uid(pod), text(mount, "/name"));
                for (file, size) in files {
                    let path = text(mount, "/mountPath");
                    say(&format!("sandbox: {path}/{file} has {size} bytes"));
                }
            }
        }
    }

    /// Ends a deleted pod: its containers go when told to, or are killed when the grace period is over.
    async fn end(&mut self, pod: &Value, next: &mut Next) -> Result<(), ApiError> {
        let over =
            moment(text(pod, "/metadata/deletionTimestamp")).unwrap_or_else(|| self.cluster.clock.now());
        let deaf = !list(pod, "/spec/containers").iter().all(hears_sigterm);
        let runs = self
            .lives
            .get(uid(pod))
            .is_some_and(|life| life.started.is_some());
        if deaf && runs && over > self.cluster.clock.now() {
            next.at(over, || format!("kills {}", pod_name(pod)));
            return Ok(());
        }
        self.lives.remove(uid(pod));
        self.volumes.release(uid(pod));
        self.cluster.logs.forget(uid(pod));
        let forced = int(pod, "/metadata/deletionGracePeriodSeconds") == Some(0);
        if forced && !list(pod, "/metadata/finalizers").is_empty() {
            // Somebody else's finalizer holds it; all that is ours to do is done.
            return Ok(());
        }
        self.client.delete(Kind::Pod, pod, Delete::Now).await
    }
}

fn container_status(pod: &Value, container: &Value, stage: &Stage) -> Value {
    let (name, image) = (text(container, "/name"), text(container, "/image"));
    let (state, ready) = match stage {
        Stage::Waiting(reason, message) => {
            let mut waiting = json!({"reason": reason});
            if !message.is_empty() {
                waiting["message"] = message.as_str().into();
            }
            (json!({"waiting": waiting}), false)
        }
        Stage::Running { since, ready } => (json!({"running": {"startedAt": stamp(*since)}}), *ready),
    };
    let running = matches!(stage, Stage::Running { .. });
    let digest = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, image.as_bytes()).simple();
    let instance = uuid::Uuid::new_v5(
        &uuid::Uuid::NAMESPACE_OID,
        format!("{}{name}", uid(pod)).as_bytes(),
    )
    .simple();
    json!({
        "name": name, "image": image, "ready": ready, "started": running, "restartCount": 0, "state": state,
        "lastState": {},
        "imageID": if running { format!("{image}@sha256:{digest}{digest}") } else { String::new() },
        "containerID": if running { format!("containerd://{instance}{instance}").into() } else { Value::Null },
    })
}
