//! Reads the world around a binding. Whatever cannot be read is said, not guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use serde_json::Value;
use time::OffsetDateTime;

use super::accounts;
use super::controllers;
use super::desired::Connection;
use super::desired::{Identity, Mode};
use super::error::{causes, kubernetes_said};
use super::grant;
use super::manifests;
use super::observation::{GatewayApi, Mount, Observation, Seen, Unseen};
use super::step::object_key;
use super::text::{forget_autoscaler, is_autoscaled};
use super::world::{ConnectError, Connected, Freshness, World};
use crate::azure::ids::{ClusterId, VaultId};
use crate::azure::{self, Cluster, Vault, VaultCertificate};
use crate::k8s::edge::{Endpoint, Served, handshake};
use crate::k8s::{
    AUTOSCALER, ApiServer, GATEWAY, GATEWAY_CLASS, INGRESS_CLASS, Kind, Kubernetes, LISTENER_SET, NAMESPACE,
    ObjectRef, POD, SECRET_PROVIDER_CLASS,
};

/// What to read. Each member costs at least one request, so ask for what a decision needs.
#[derive(Clone, Debug)]
pub struct Question {
    /// The cluster.
    pub cluster: ClusterId,
    /// The vault.
    pub vault: VaultId,
    /// The binding's namespace.
    pub namespace: String,
    /// Names in the vault, and the version that matters if not the newest, by logical name.
    pub certificates: BTreeMap<String, (String, Option<String>)>,
    /// Objects of the cluster.
    pub objects: Vec<ObjectRef>,
    /// Secrets of the namespace.
    pub secrets: Vec<String>,
    /// Services of the namespace. One request, however many.
    pub services: BTreeSet<String>,
    /// Whether the namespace's existence matters.
    pub namespace_exists: bool,
    /// The Ingress class whose controller matters; `Some(None)` is the cluster's default.
    pub class: Option<Option<String>>,
    /// What of Gateway API matters.
    pub gateway: Option<GatewayQuestion>,
    /// Whether other SecretProviderClasses matter.
    pub other_classes: bool,
    /// Service accounts of which it matters who runs as them.
    pub accounts: BTreeSet<String>,
    /// The identity that reads.
    pub identity: Identity,
    /// Whether anything of the cluster's API is to be asked at all.
    pub cluster_objects: bool,
    /// Whether Secrets are read, or only their metadata.
    pub read_secrets: bool,
    /// The SecretProviderClass of which it matters who mounts it, and which versions.
    pub mounts_of: Option<String>,
    /// Whether the pods that mount it are to be told apart.
    pub whose_mounts: bool,
    /// How the cluster's API is reached.
    pub connection: Connection,
    /// Whether an earlier answer of this run will do.
    pub freshness: Freshness,
}

/// What to read of Gateway API beside one's own objects.
#[derive(Clone, Debug, Default)]
pub struct GatewayQuestion {
    /// Whether it is there at all.
    pub served: bool,
    /// A GatewayClass that must be there.
    pub class: Option<String>,
    /// Somebody else's Gateway.
    pub parent: Option<ObjectRef>,
    /// Whether ListenerSets are served.
    pub listener_sets: bool,
}

impl From<&azure::Error> for Unseen {
    fn from(error: &azure::Error) -> Self {
        Self {
            why: error.service_said(),
            refused: error.is_forbidden(),
        }
    }
}

impl From<&crate::k8s::Error> for Unseen {
    fn from(error: &crate::k8s::Error) -> Self {
        let why = match error {
            // The same of every object, so it is told once for all of them.
            crate::k8s::Error::Unreachable { server, source, .. } => {
                format!("no answer from {server}: {}", causes(source.as_ref()))
            }
            _ => kubernetes_said(error),
        };
        Self {
            why,
            refused: matches!(error, crate::k8s::Error::Forbidden { .. }),
        }
    }
}

impl From<&ConnectError> for Unseen {
    fn from(error: &ConnectError) -> Self {
        let refused = matches!(error, ConnectError::Azure(error) if error.is_forbidden());
        Self {
            why: error.said(),
            refused,
        }
    }
}

/// Reads what `question` asks for.
///
/// # Errors
/// Only if there is no usable credential at all: then nothing could be read.
pub async fn observe(world: &World, question: &Question) -> Result<Observation, azure::Error> {
    let (cluster, vault, (identity, federated)) = tokio::join!(
        Box::pin(world.cluster(&question.cluster, question.freshness)),
        Box::pin(world.vault(&question.vault, question.freshness)),
        Box::pin(read_identity(world, question)),
    );
    let mut observation = Observation::blind(now());
    observation.identity = identity;
    observation.federated = federated;
    observation.cluster = seen(cluster)?;
    observation.vault = seen(vault)?;
    let cluster = observation.cluster.present();
    let vault = observation.vault.present();
    let (assignments, certificates, newest, objects) = tokio::join!(
        Box::pin(read_assignments(world, question, &observation)),
        Box::pin(read_certificates(world, question, vault)),
        Box::pin(read_newest(world, question, vault)),
        Box::pin(read_cluster(world, question, cluster)),
    );
    observation.assignments = assignments;
    if let Some(moment) = certificates
        .values()
        .filter_map(Seen::present)
        .map(|found| found.seen_at)
        .max()
    {
        observation.taken_at = moment;
    }
    observation.certificates = certificates;
    observation.newest = newest;
    let ClusterPart {
        namespace,
        objects,
        controller,
        gateway,
        services,
        secrets,
        other_classes,
        account_users,
        mounts,
        server,
    } = objects;
    observation.gateway = gateway;
    observation.account_users = account_users;
    observation.mounts = mounts;
    observation.server = server;
    observation.namespace = namespace;
    observation.objects = objects;
    observation.controller = controller;
    observation.secrets = secrets;
    observation.services = services;
    observation.other_classes = other_classes;
    Ok(observation)
}

/// Real time; everything that is judged by time prefers the vault's own `Date`.
pub(super) fn now() -> OffsetDateTime {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the domain reads real time"
    )]
    OffsetDateTime::from(std::time::SystemTime::now())
}

fn seen<T>(answer: Result<T, azure::Error>) -> Result<Seen<T>, azure::Error> {
    match answer {
        Ok(value) => Ok(Seen::Known(value)),
        Err(error) if error.is_credential() => Err(error),
        Err(error) => Ok(Seen::NotSeen(Unseen::from(&error))),
    }
}

async fn read_assignments(
    world: &World,
    question: &Question,
    seen: &Observation,
) -> Seen<Vec<azure::RoleAssignment>> {
    let principal = grant::principal(&question.identity, seen);
    let (Some(principal), Some(true)) = (principal, seen.vault.present().map(|vault| vault.rbac)) else {
        return Seen::NotAsked;
    };
    match world
        .assignments(&question.vault, &principal, question.freshness)
        .await
    {
        Ok(found) => Seen::Known(found),
        Err(error) => Seen::NotSeen(Unseen::from(&error)),
    }
}

/// The workload identity and whom it trusts, if one reads.
async fn read_identity(
    world: &World,
    question: &Question,
) -> (
    Seen<Option<azure::ManagedIdentity>>,
    Seen<Vec<azure::FederatedCredential>>,
) {
    fn seen<T>(answer: Result<T, azure::Error>) -> Seen<T> {
        match answer {
            Ok(value) => Seen::Known(value),
            Err(error) => Seen::NotSeen(Unseen::from(&error)),
        }
    }
    let Identity::Workload(workload) = &question.identity else {
        return (Seen::NotAsked, Seen::NotAsked);
    };
    let credentials = async {
        if workload.federated == Mode::Ignore {
            return Seen::NotAsked;
        }
        seen(
            world
                .federated_credentials(&workload.id, question.freshness)
                .await,
        )
    };
    let identity = async { seen(world.identity(&workload.id, question.freshness).await) };
    tokio::join!(identity, credentials)
}

async fn read_certificates(
    world: &World,
    question: &Question,
    vault: Option<&Vault>,
) -> BTreeMap<String, Seen<Option<VaultCertificate>>> {
    let Some(vault) = vault else {
        return BTreeMap::new();
    };
    let reads = question
        .certificates
        .iter()
        .map(|(key, (name, version))| async move {
            let answer = world
                .certificate(vault, name, version.as_deref(), question.freshness)
                .await;
            let seen = answer.map_or_else(|error| Seen::NotSeen(Unseen::from(&error)), Seen::Known);
            (key.clone(), seen)
        });
    join_all(reads).await.into_iter().collect()
}

/// The newest versions of certificates that are bound to another one.
async fn read_newest(
    world: &World,
    question: &Question,
    vault: Option<&Vault>,
) -> BTreeMap<String, VaultCertificate> {
    let Some(vault) = vault else {
        return BTreeMap::new();
    };
    let pinned = question
        .certificates
        .iter()
        .filter(|(_, (_, version))| version.is_some());
    let reads = pinned.map(|(key, (name, _))| async move {
        let newest = world.certificate(vault, name, None, question.freshness).await;
        Some((key.clone(), newest.ok()??))
    });
    join_all(reads).await.into_iter().flatten().collect()
}

struct ClusterPart {
    namespace: Seen<bool>,
    objects: BTreeMap<String, Seen<Option<Value>>>,
    controller: Seen<Option<String>>,
    gateway: Seen<GatewayApi>,
    services: Seen<Arc<Vec<Value>>>,
    secrets: BTreeMap<String, Seen<Option<crate::k8s::SecretCertificate>>>,
    other_classes: Seen<Vec<Value>>,
    account_users: BTreeMap<String, Seen<BTreeSet<String>>>,
    mounts: Seen<Vec<Mount>>,
    server: Option<ApiServer>,
}

async fn read_cluster(world: &World, question: &Question, cluster: Option<&Cluster>) -> ClusterPart {
    let Some(cluster) = cluster.filter(|_| question.cluster_objects) else {
        return ClusterPart::unseen(question, None);
    };
    if cluster.is_stopped() {
        let why = Unseen::from("the cluster is stopped".to_owned());
        return ClusterPart::unseen(question, Some(&why));
    }
    let connected = match world.kubernetes(cluster, &question.connection).await {
        Ok(connected) => connected,
        Err(error) => return ClusterPart::unseen(question, Some(&Unseen::from(&error))),
    };
    let lost = AtomicBool::new(false);
    let part = read_objects(&connected, question, &lost).await;
    if !(connected.is_remembered && lost.load(Ordering::Relaxed)) {
        return part;
    }
    // What was remembered of the server may be out of date: its certificates were rotated, or it was built anew.
    match world.kubernetes_anew(cluster, &question.connection).await {
        Ok(connected) => read_objects(&connected, question, &lost).await,
        Err(_) => part,
    }
}

impl ClusterPart {
    /// Nothing of the cluster's API could be asked.
    fn unseen(question: &Question, why: Option<&Unseen>) -> Self {
        fn no<T>(why: Option<&Unseen>) -> Seen<T> {
            why.cloned().map_or(Seen::NotAsked, Seen::NotSeen)
        }
        Self {
            namespace: no(why),
            objects: question
                .objects
                .iter()
                .map(|object| (object_key(object), no(why)))
                .collect(),
            controller: Seen::NotAsked,
            gateway: Seen::NotAsked,
            services: Seen::NotAsked,
            secrets: question
                .secrets
                .iter()
                .map(|name| (name.clone(), no(why)))
                .collect(),
            other_classes: no(why),
            account_users: question
                .accounts
                .iter()
                .map(|account| (account.clone(), no(why)))
                .collect(),
            mounts: no(why),
            server: None,
        }
    }
}

/// Reads all there is to read at the same time. `lost` becomes true if an answer did not come.
async fn read_objects(connected: &Connected, question: &Question, lost: &AtomicBool) -> ClusterPart {
    let kubernetes = &connected.kubernetes;
    let objects = join_all(question.objects.iter().map(|object| async move {
        let found = match kubernetes.get(object).await {
            Ok(Some(live)) => Ok(Some(without_gone_autoscaler(kubernetes, object, live).await)),
            found => found,
        };
        (object_key(object), told(found, lost))
    }));
    let secrets = join_all(question.secrets.iter().map(|name| async move {
        let found = if question.read_secrets {
            kubernetes.secret_certificate(&question.namespace, name).await
        } else {
            kubernetes.secret_marks(&question.namespace, name).await
        };
        (name.clone(), told(found, lost))
    }));
    let namespace = async {
        if !question.namespace_exists {
            return Seen::NotAsked;
        }
        let found = kubernetes.get(&NAMESPACE.named("", &question.namespace)).await;
        told(found.map(|found| found.is_some()), lost)
    };
    let other_classes = async {
        if !question.other_classes {
            return Seen::NotAsked;
        }
        match kubernetes.list(SECRET_PROVIDER_CLASS, None, "").await {
            // Without the kind there is nobody who reads a vault.
            Err(crate::k8s::Error::NotServed { .. }) => Seen::Known(Vec::new()),
            listed => told(listed, lost),
        }
    };
    let (objects, secrets, services, namespace, controller, gateway, other_classes, account_users, mounts) = tokio::join!(
        objects,
        secrets,
        read_services(connected, question, lost),
        namespace,
        read_controller(kubernetes, question.class.as_ref(), lost),
        read_gateway(kubernetes, question, lost),
        other_classes,
        read_account_users(kubernetes, question, lost),
        read_mounts(connected, question, lost),
    );
    ClusterPart {
        namespace,
        objects: objects.into_iter().collect(),
        controller,
        gateway,
        services,
        secrets: secrets.into_iter().collect(),
        other_classes,
        account_users,
        mounts,
        server: connected.server.clone(),
    }
}

/// The number that an autoscaler has set stands in the object as its own even when the autoscaler is gone. Whether it is
/// can be told only by looking, which costs a request where there is such a number.
async fn without_gone_autoscaler(kubernetes: &Kubernetes, object: &ObjectRef, mut live: Value) -> Value {
    if !is_autoscaled(&live) {
        return live;
    }
    let all = kubernetes.list(AUTOSCALER, object.namespace.as_deref(), "").await;
    let scales = |autoscaler: &Value| {
        let target = &autoscaler["spec"]["scaleTargetRef"];
        target["kind"] == object.kind.kind && target["name"] == object.name.as_str()
    };
    if all.is_ok_and(|all| !all.iter().any(scales)) {
        forget_autoscaler(&mut live);
    }
    live
}

async fn read_account_users(
    kubernetes: &Kubernetes,
    question: &Question,
    lost: &AtomicBool,
) -> BTreeMap<String, Seen<BTreeSet<String>>> {
    if question.accounts.is_empty() {
        return BTreeMap::new();
    }
    let namespace = Some(question.namespace.as_str());
    let (deployments, pods) = tokio::join!(
        kubernetes.list(crate::k8s::DEPLOYMENT, namespace, ""),
        kubernetes.list(POD, namespace, ""),
    );
    let both = deployments.and_then(|deployments| Ok((deployments, pods?)));
    let seen = told(both, lost);
    let of = |account: &String| match &seen {
        Seen::Known((deployments, pods)) => Seen::Known(accounts::users(deployments, pods, account)),
        Seen::NotSeen(unseen) => Seen::NotSeen(unseen.clone()),
        Seen::NotAsked => Seen::NotAsked,
    };
    let accounts = question.accounts.iter();
    accounts.map(|account| (account.clone(), of(account))).collect()
}

async fn read_services(
    connected: &Connected,
    question: &Question,
    lost: &AtomicBool,
) -> Seen<Arc<Vec<Value>>> {
    if question.services.is_empty() {
        return Seen::NotAsked;
    }
    let found = connected.services(&question.namespace, &question.services, question.freshness);
    told(found.await, lost)
}

async fn read_controller(
    kubernetes: &Kubernetes,
    class: Option<&Option<String>>,
    lost: &AtomicBool,
) -> Seen<Option<String>> {
    let Some(class) = class else { return Seen::NotAsked };
    let found = match class {
        Some(class) => kubernetes.get(&INGRESS_CLASS.named("", class)).await,
        None => default_class(kubernetes).await,
    };
    let controller = |class: Value| class["spec"]["controller"].as_str().map(str::to_owned);
    told(found.map(|found| found.and_then(controller)), lost)
}

/// The Ingress class of Ingresses that name none.
///
/// # Errors
/// Any of reading.
pub async fn default_class(kubernetes: &Kubernetes) -> Result<Option<Value>, crate::k8s::Error> {
    let classes = kubernetes.list(INGRESS_CLASS, None, "").await?;
    Ok(classes.into_iter().find(controllers::is_default_class))
}

async fn read_gateway(kubernetes: &Kubernetes, question: &Question, lost: &AtomicBool) -> Seen<GatewayApi> {
    let Some(wanted) = &question.gateway else {
        return Seen::NotAsked;
    };
    told(gateway_api(kubernetes, wanted, &question.namespace).await, lost)
}

async fn gateway_api(
    kubernetes: &Kubernetes,
    wanted: &GatewayQuestion,
    namespace: &str,
) -> Result<GatewayApi, crate::k8s::Error> {
    // A list of what cannot be there tells whether the kind is served.
    let served = async |asked: bool, kind: Kind| {
        if !asked {
            return Ok(true);
        }
        match kubernetes.list(kind, Some(namespace), "kvtls.io/none").await {
            Ok(_) => Ok(true),
            Err(crate::k8s::Error::NotServed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    };
    let class = async {
        match &wanted.class {
            Some(class) => kubernetes.get(&GATEWAY_CLASS.named("", class)).await,
            None => Ok(None),
        }
    };
    let parent = async {
        match &wanted.parent {
            Some(parent) => kubernetes.get(parent).await,
            None => Ok(None),
        }
    };
    let (is_served, listener_sets, class, parent) = tokio::join!(
        served(wanted.served, GATEWAY),
        served(wanted.listener_sets, LISTENER_SET),
        class,
        parent
    );
    Ok(GatewayApi {
        served: is_served?,
        listener_sets: listener_sets?,
        class: class?,
        parent: parent?,
    })
}

/// Who mounts the SecretProviderClass, by the driver's own records; the sync pods are told from others by their label.
async fn read_mounts(connected: &Connected, question: &Question, lost: &AtomicBool) -> Seen<Vec<Mount>> {
    let Some(class) = &question.mounts_of else {
        return Seen::NotAsked;
    };
    let namespace = Some(question.namespace.as_str());
    let pods = async {
        if question.whose_mounts {
            let selector = manifests::sync_selector(class);
            connected.kubernetes.list(POD, namespace, &selector).await
        } else {
            Ok(Vec::new())
        }
    };
    let records = connected.mount_records(&question.namespace, question.freshness);
    let (records, pods) = tokio::join!(records, pods);
    let records = match records {
        Err(crate::k8s::Error::NotServed { .. }) => Arc::default(),
        Err(error) => return told(Err(error), lost),
        Ok(records) => records,
    };
    let own = match pods {
        Err(error) => return told(Err(error), lost),
        Ok(pods) => names(pods),
    };
    let mut mounts = mounts(&records, class, &own);
    if question.whose_mounts {
        // A record outlives its pod until the garbage collector comes to it: half a minute, where the driver is new.
        let is_there = |mount: &Mount| {
            let pod = POD.named(&question.namespace, &mount.pod);
            let ours = mount.ours;
            async move { Ok(ours || connected.kubernetes.get(&pod).await?.is_some()) }
        };
        let there = try_join_all(mounts.iter().map(is_there)).await;
        match there {
            Err(error) => return told(Err(error), lost),
            Ok(there) => {
                let mut there = there.into_iter();
                mounts.retain(|_| there.next().unwrap_or(true));
            }
        }
    }
    Seen::Known(mounts)
}

/// The mounts of a SecretProviderClass among the driver's records.
fn mounts(records: &[Value], class: &str, own_pods: &[String]) -> Vec<Mount> {
    let of_class = records
        .iter()
        .map(|record| &record["status"])
        .filter(|status| status["secretProviderClassName"] == class && status["mounted"] != false);
    of_class
        .map(|status| {
            let pod = status["podName"].as_str().unwrap_or_default().to_owned();
            let objects = status["objects"].as_array().into_iter().flatten();
            Mount {
                ours: own_pods.contains(&pod),
                pod,
                versions: objects
                    .filter_map(|object| {
                        let id = object["id"].as_str()?.to_owned();
                        Some((id, object["version"].as_str()?.to_owned()))
                    })
                    .collect(),
            }
        })
        .collect()
}

fn told<T>(answer: Result<T, crate::k8s::Error>, lost: &AtomicBool) -> Seen<T> {
    match answer {
        Ok(value) => Seen::Known(value),
        Err(error) => {
            if matches!(error, crate::k8s::Error::Unreachable { .. }) {
                lost.store(true, Ordering::Relaxed);
            }
            Seen::NotSeen(Unseen::from(&error))
        }
    }
}

/// Asks the edge for each host, all at once.
pub async fn observe_served<'a>(
    world: &World,
    endpoint: &Endpoint,
    hosts: impl IntoIterator<Item = &'a str>,
    timeout: Duration,
) -> BTreeMap<String, Seen<Served>> {
    let asks = hosts.into_iter().map(|host| async move {
        let seen = match handshake(endpoint, &dialled(host), world.proxy(), timeout).await {
            Ok(served) => Seen::Known(served),
            Err(error) => Seen::NotSeen(error.to_string().into()),
        };
        (host.to_owned(), seen)
    });
    join_all(asks).await.into_iter().collect()
}

/// A wildcard host is proven by any one name under it.
pub fn dialled(host: &str) -> String {
    host.strip_prefix("*.")
        .map_or_else(|| host.to_owned(), |rest| format!("kvtls-probe.{rest}"))
}

/// Events and pod states that explain why a mount does not come up, newest first.
pub async fn mount_messages(kubernetes: &Kubernetes, namespace: &str, binding: &str) -> Vec<String> {
    let selector = manifests::sync_selector(binding);
    let (pods, events) = tokio::join!(
        kubernetes.list(POD, Some(namespace), &selector),
        kubernetes.list(crate::k8s::EVENT, Some(namespace), ""),
    );
    let pods = pods.unwrap_or_default();
    let pod_of = |event: &Value| {
        let name = &event["involvedObject"]["name"];
        pods.iter().find(|pod| pod["metadata"]["name"] == *name)
    };
    let mut found: Vec<(String, String)> = events
        .unwrap_or_default()
        .into_iter()
        .filter(|event| event["type"] == "Warning")
        // A pod that is ready has its mount, whatever went wrong before.
        .filter(|event| pod_of(event).is_some_and(|pod| event["reason"] != "FailedMount" || !is_ready(pod)))
        .map(|event| {
            let time = event["lastTimestamp"]
                .as_str()
                .or(event["eventTime"].as_str())
                .unwrap_or_default();
            (
                time.to_owned(),
                event["message"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    found.sort_by(|left, right| right.0.cmp(&left.0));
    found.into_iter().map(|(_, message)| message).collect()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .filter(|condition| condition["type"] == "Ready")
        .any(|condition| condition["status"] == "True")
}

fn names(objects: Vec<Value>) -> Vec<String> {
    objects
        .into_iter()
        .filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned))
        .collect()
}

/// The address an Ingress publishes, if it does.
pub fn published_address(ingress: &Value) -> Option<String> {
    let first = &ingress["status"]["loadBalancer"]["ingress"][0];
    first["ip"]
        .as_str()
        .or(first["hostname"].as_str())
        .map(str::to_owned)
}

/// Every kind of object that a binding makes in its namespace.
pub const KINDS: [Kind; 8] = [
    SECRET_PROVIDER_CLASS,
    crate::k8s::DEPLOYMENT,
    crate::k8s::INGRESS,
    crate::k8s::SERVICE_ACCOUNT,
    GATEWAY,
    LISTENER_SET,
    crate::k8s::HTTP_ROUTE,
    crate::k8s::REFERENCE_GRANT,
];

/// The kind of an object in `manifests`, by its name there.
pub fn kind_named(kind: &str) -> Option<Kind> {
    KINDS.into_iter().find(|known| known.kind == kind)
}
