//! The flow on one page: observe, judge, plan, guard, execute, observe again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::backends;
use super::desired::{Desired, Identity, Ingress, Mode, ReadSecret, VerifyLevel, Via};
use super::error::{Cause, StepError};
use super::execute::{Done, Executor, Limits};
use super::findings::{Class, Finding, Hold, Known, judge, judge_absent};
use super::gateway::{self, Attach, Gateway, Parent};
use super::guard::{Announced, unannounced};
use super::manifests;
use super::observation::{Observation, Seen};
use super::observe::{GatewayQuestion, Question, dialled, observe, observe_served, published_address};
use super::plan::{Memory, Owned, addon_wish, plan, plan_absent};
use super::preflight::Missing;
use super::preflight::ask::missing;
use super::prove::worse;
use super::revoke::{self, KeptGrant};
use super::step::{Step, object_key};
use super::workload;
use super::world::{Freshness, World};
use crate::azure;
use crate::k8s::edge::{Endpoint, Served};
use crate::k8s::{ObjectRef, SECRET, SERVICE_ACCOUNT};

/// A plan that never completes would loop; two passes are the longest there is reason for, one is spare.
const PASSES: usize = 3;

/// How often a new cluster is asked again whether it lets the caller in: it keeps a refusal for some seconds itself.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What an apply led to. Whatever happened, `observation` is what is true now.
#[derive(Debug)]
pub struct Outcome {
    /// What was found before the first write.
    pub findings: Vec<Finding>,
    /// What was found before a removal.
    pub hold: Option<Hold>,
    /// Targets that the plan had not shown; nothing was written.
    pub unannounced: Vec<String>,
    /// What was done, and what failed.
    pub done: Done,
    /// The world afterwards.
    pub observation: Observation,
    /// Whether kvtls is known to have switched the add-on on.
    pub switched_addon_on: bool,
    /// What kvtls granted and did not take back when it removed the binding.
    pub kept: Vec<KeptGrant>,
}

/// What to read for a whole binding.
pub fn question(desired: &Desired, retired: &[ObjectRef], freshness: Freshness) -> Question {
    let mut objects = manifests::objects(desired);
    objects.extend(workload::account(desired));
    objects.extend(retired.iter().cloned());
    let class = desired.ingress.as_ref().map(|wanted| wanted.class_name.clone());
    let gateway = desired.gateway.as_ref().map(gateway_question);
    Question {
        cluster: desired.cluster.clone(),
        vault: desired.vault.clone(),
        namespace: desired.namespace.clone(),
        certificates: desired
            .certificates
            .iter()
            .map(|(key, it)| (key.clone(), (it.certificate.clone(), it.version.clone())))
            .collect(),
        objects,
        secrets: desired
            .certificates
            .values()
            .map(|it| it.secret_name.clone())
            .collect(),
        services: backends::names(desired),
        namespace_exists: true,
        class,
        gateway,
        other_classes: false,
        accounts: names_of_accounts(retired),
        cluster_objects: desired.apply_manifests,
        read_secrets: desired.verify.read_secret != ReadSecret::Never,
        mounts_of: (desired.verify.read_secret == ReadSecret::Never).then(|| desired.name.clone()),
        whose_mounts: false,
        connection: desired.connection.clone(),
        identity: desired.access.identity.clone(),
        freshness,
    }
}

fn names_of_accounts(objects: &[ObjectRef]) -> BTreeSet<String> {
    let accounts = objects.iter().filter(|object| object.kind == SERVICE_ACCOUNT);
    accounts.map(|account| account.name.clone()).collect()
}

/// Makes the world as desired, as far as it goes.
///
/// # Errors
/// If there is no usable credential; nothing was written then.
pub async fn converge(
    world: &World,
    desired: &Desired,
    memory: &Memory,
    known: &Known,
    announced: &Announced,
    limits: &Limits,
) -> Result<Outcome, azure::Error> {
    // Until the SecretProviderClass is there to say so, nobody else can see what this binding is going to need.
    let _using = world.users().using(&desired.cluster, &desired.vault).await;
    let mut question = question(desired, &memory.retired, Freshness::Fresh);
    // Others may hold a Secret of the same name. And who is to switch the add-on off one day learns from them that it was
    // kvtls that switched it on.
    question.other_classes = true;
    let asks_who_switched = desired.addon.mode == Mode::Ensure && desired.addon.disable_if_unused;
    let mut memory = memory.clone();
    let (mut observation, missing) = begin(world, desired, &question, &memory, limits).await?;
    memory.switched_addon_on |= asks_who_switched && is_noted(&observation);
    question.other_classes = memory.retired.iter().any(|object| object.kind == SECRET);
    question.services.clear();
    let memory = &mut memory;
    let mut findings = judge(desired, &observation, known);
    findings.extend(missing.map(|missing| Finding::RightsMissing(Box::new(missing))));
    let mut outcome = Outcome {
        findings,
        hold: None,
        unannounced: Vec::new(),
        done: Done::default(),
        observation: observation.clone(),
        switched_addon_on: memory.switched_addon_on,
        kept: Vec::new(),
    };
    if outcome
        .findings
        .iter()
        .any(|finding| finding.class() != Class::Decay)
    {
        return Ok(outcome);
    }
    if let Some(failure) = cannot_begin(world, desired, &observation).await {
        outcome.done.failure = Some(failure);
        return Ok(outcome);
    }
    outcome.done.admitted = memory.admitted.clone();
    let executor = Executor {
        world,
        cluster: &desired.cluster,
        desired: Some(desired),
        connection: &desired.connection,
        adopted: &memory.adopted,
        limits,
    };
    let mut complete = false;
    for pass in 0..PASSES {
        let next = plan(desired, &observation, memory);
        complete = next.complete;
        if pass == 0 {
            outcome.unannounced = unannounced(&next.steps, announced);
            if !outcome.unannounced.is_empty() {
                return Ok(outcome);
            }
        }
        let was_off = observation
            .cluster
            .present()
            .is_some_and(|cluster| !cluster.addon.enabled);
        executor.run(&next.steps, &mut outcome.done).await;
        let switched = |step: &Step| matches!(step, Step::SwitchAddon { .. });
        if was_off && outcome.done.steps.iter().any(switched) {
            outcome.done.addon_switched_on = true;
            world.has_switched_on(&desired.cluster);
        }
        memory.switched_addon_on |= outcome.done.addon_switched_on;
        outcome.switched_addon_on = memory.switched_addon_on;
        observation = observe_again(world, &question, limits, &next.steps, &mut outcome.done).await;
        if outcome.done.failure.is_some() || next.complete || next.steps.is_empty() {
            break;
        }
    }
    if !complete && outcome.done.failure.is_none() {
        outcome.done.failure = Some(undecided(desired, &observation));
    }
    observation.served = outcome.done.served.clone();
    outcome.observation = observation;
    Ok(outcome)
}

/// Whether a binding's SecretProviderClass says that kvtls switched the add-on on, and it has stayed on.
fn is_noted(seen: &Observation) -> bool {
    let is_on = seen
        .cluster
        .present()
        .is_some_and(|cluster| cluster.addon.enabled);
    let classes = seen.other_classes.known().into_iter().flatten();
    let mut notes = classes.filter_map(|class| manifests::annotation(class, manifests::ADDON));
    is_on && notes.any(|note| note == manifests::SWITCHED_ON)
}

/// Looks at the world and at the rights of the caller. A new cluster is asked again until it lets the caller in, for as
/// long as roles may take.
async fn begin(
    world: &World,
    desired: &Desired,
    question: &Question,
    memory: &Memory,
    limits: &Limits,
) -> Result<(Observation, Option<Missing>), azure::Error> {
    let begun = Instant::now();
    let mut waited = None;
    loop {
        let observation = observe(world, question).await?;
        let first = plan(desired, &observation, memory);
        let missing = missing(world, desired, &observation, &first, Freshness::Fresh).await;
        let is_let_in = !observation.objects.values().any(Seen::is_refused)
            && !missing.as_ref().is_some_and(Missing::is_of_cluster);
        if is_let_in
            || waited >= Some(desired.access.propagation)
            || !is_young(world, desired, &observation).await
            || !limits.pause(LOOK_AGAIN).await
        {
            let missing = missing.map(|missing| Missing { waited, ..missing });
            return Ok((observation, missing));
        }
        waited = Some(begun.elapsed());
    }
}

/// Whether a cluster is so new that a role in it, made beside it in the same run, may not have come through yet. ARM does
/// not tell a cluster's age; its certificate authority does.
async fn is_young(world: &World, desired: &Desired, seen: &Observation) -> bool {
    const YOUNG: time::Duration = time::Duration::minutes(30);
    let Some(cluster) = seen.cluster.present() else {
        return false;
    };
    let connected = world.kubernetes(cluster, &desired.connection).await.ok();
    let made_at = connected.and_then(|connected| connected.server?.made_at());
    made_at.is_some_and(|made_at| super::observe::now() - made_at < YOUNG)
}

/// What stands in the way of beginning at all: a cluster whose API cannot be asked. Told before the first write.
async fn cannot_begin(world: &World, desired: &Desired, seen: &Observation) -> Option<StepError> {
    let cluster = seen.cluster.present().filter(|_| desired.apply_manifests)?;
    let why = seen.objects.values().find_map(Seen::why_not)?;
    let cause = match world.kubernetes(cluster, &desired.connection).await {
        _ if cluster.is_stopped() => Cause::Azure(azure::Error::NotReady {
            operation: "write to".to_owned(),
            target: cluster.id.to_string(),
            state: "stopped".to_owned(),
        }),
        Err(error) => Cause::Credential(error),
        Ok(_) => Cause::Undecided {
            missing: format!("the cluster's objects could not be read: {why}"),
        },
    };
    Some(StepError {
        cluster: cluster.id.clone(),
        step: Step::Apply {
            object: manifests::secret_provider_class(desired),
            manifest: serde_json::Value::Null,
            bookkeeping: false,
            is_new: true,
        },
        cause,
    })
}

/// Why a plan stays incomplete: the steps that follow need the add-on's identity and the vault.
fn undecided(desired: &Desired, seen: &Observation) -> StepError {
    let vault = seen
        .vault
        .why_not()
        .map(|why| format!("the vault could not be read: {why}"));
    let cluster = seen
        .cluster
        .why_not()
        .map(|why| format!("the cluster could not be read: {why}"));
    let missing = vault
        .or(cluster)
        .unwrap_or_else(|| "the add-on is on and Azure shows no identity for it".to_owned());
    let wish = addon_wish(desired);
    StepError {
        cluster: desired.cluster.clone(),
        step: Step::SwitchAddon {
            rotation_enabled: wish.rotation_enabled,
            rotation_poll_interval: wish.rotation_poll_interval,
        },
        cause: Cause::Undecided { missing },
    }
}

/// Reads the world back after `steps`, also after a failure. Once Terraform asked to stop, or the operation's time is
/// over, there are seconds left for it; what is not read by then keeps its last known value. What was written stays
/// written, whatever can be read now, so an error here is one of the steps and never loses them.
async fn observe_again(
    world: &World,
    question: &Question,
    limits: &Limits,
    steps: &[Step],
    done: &mut Done,
) -> Observation {
    const LAST_LOOK: Duration = Duration::from_secs(3);
    let reading = observe(world, question);
    tokio::pin!(reading);
    let answer = tokio::select! {
        answer = &mut reading => Some(answer),
        () = limits.stop.cancelled() => None,
        () = tokio::time::sleep_until(limits.until) => None,
    };
    let answer = match answer {
        Some(answer) => Some(answer),
        None => tokio::time::timeout(LAST_LOOK, reading).await.ok(),
    };
    match answer {
        Some(Ok(observation)) => return observation,
        Some(Err(error)) if done.failure.is_none() => {
            let step = steps.last().cloned();
            done.failure = step.map(|step| StepError {
                cluster: question.cluster.clone(),
                step,
                cause: error.into(),
            });
        }
        Some(Err(_)) | None => {}
    }
    Observation::blind(super::observe::now())
}

/// Removes what a binding owns, and nothing else.
///
/// # Errors
/// If there is no usable credential; nothing was removed then.
pub async fn remove(world: &World, owned: &Owned, limits: &Limits) -> Result<Outcome, azure::Error> {
    let mut accounts = names_of_accounts(&owned.objects);
    if let Identity::Workload(workload) = &owned.identity {
        accounts.insert(workload.service_account.clone());
    }
    let question = Question {
        cluster: owned.cluster.clone(),
        vault: owned.vault.clone(),
        namespace: owned.namespace.clone(),
        certificates: BTreeMap::new(),
        objects: owned.objects.clone(),
        secrets: owned.secrets.clone(),
        services: BTreeSet::new(),
        namespace_exists: false,
        class: None,
        gateway: None,
        other_classes: true,
        accounts,
        cluster_objects: owned.applied,
        read_secrets: false,
        mounts_of: (owned.applied && !owned.objects.is_empty()).then(|| owned.name.clone()),
        whose_mounts: true,
        connection: owned.connection.clone(),
        identity: owned.identity.clone(),
        freshness: Freshness::Fresh,
    };
    let mut done = Done::default();
    let mut observation = observe(world, &question).await?;
    let mut turn = None;
    let mut kept = Vec::new();
    let hold = judge_absent(owned, &observation);
    if matches!(hold, Some(Hold::InUse { .. })) {
        return Ok(removed(hold, done, observation));
    }
    let none = BTreeSet::new();
    let executor = Executor {
        world,
        cluster: &owned.cluster,
        desired: None,
        connection: &owned.connection,
        adopted: &none,
        limits,
    };
    for _ in 0..PASSES {
        let mut next = plan_absent(owned, &observation);
        if next.complete && !next.steps.is_empty() && turn.is_none() {
            // What others share goes last. Those who go together take turns, and look again when it is theirs, so that
            // the last one sees that it is the last.
            turn = world.users().leaving(&owned.cluster, &owned.vault).await;
            if turn.is_none() {
                return Ok(Outcome {
                    kept: revoke::kept(owned, &observation, true),
                    ..removed(hold, done, observation)
                });
            }
            observation = observe(world, &question).await?;
            next = plan_absent(owned, &observation);
        }
        if next.complete {
            kept = revoke::kept(owned, &observation, false);
        }
        executor.run(&next.steps, &mut done).await;
        if next.steps.is_empty() {
            break;
        }
        observation = observe_again(world, &question, limits, &next.steps, &mut done).await;
        if done.failure.is_some() || next.complete {
            break;
        }
    }
    Ok(Outcome {
        kept,
        ..removed(hold, done, observation)
    })
}

fn removed(hold: Option<Hold>, done: Done, observation: Observation) -> Outcome {
    Outcome {
        findings: Vec::new(),
        hold,
        unannounced: Vec::new(),
        done,
        observation,
        switched_addon_on: false,
        kept: Vec::new(),
    }
}

/// Reads a binding as a refresh does: nothing of Secrets unless the edge does not already prove what is in them, and
/// then their metadata and the driver's records, unless reading them was asked for.
///
/// # Errors
/// If there is no usable credential.
pub async fn refresh(
    world: &World,
    desired: &Desired,
    retired: &[ObjectRef],
) -> Result<Observation, azure::Error> {
    let mut question = question(desired, retired, Freshness::Shared);
    question.namespace_exists = false;
    // How a redirect is asked for depends on the controller.
    let redirects = |ingress: &Ingress| ingress.ssl_redirect.is_some();
    if !desired.ingress.as_ref().is_some_and(redirects) {
        question.class = None;
    }
    question.gateway = question
        .gateway
        .and_then(|gateway| gateway.parent)
        .map(|parent| GatewayQuestion {
            parent: Some(parent),
            ..GatewayQuestion::default()
        });
    question.secrets.clear();
    question.services.clear();
    question.accounts.clear();
    question.mounts_of = None;
    let mut observation = observe(world, &question).await?;
    if desired.dials_on_refresh() {
        observation.served = look_at_edges(world, desired, &observation).await;
    }
    let proves = desired.verify.level != VerifyLevel::None;
    if proves && observation.cluster.present().is_some() && !edge_proves_secrets(desired, &observation) {
        let reads = desired.verify.read_secret == ReadSecret::Always;
        let secrets = Question {
            objects: Vec::new(),
            certificates: BTreeMap::new(),
            secrets: desired
                .certificates
                .values()
                .map(|it| it.secret_name.clone())
                .collect(),
            read_secrets: reads,
            mounts_of: (!reads).then(|| desired.name.clone()),
            ..question
        };
        let seen = observe(world, &secrets).await?;
        observation.secrets = seen.secrets;
        observation.mounts = seen.mounts;
    }
    Ok(observation)
}

/// What to read of Gateway API before anything is written.
fn gateway_question(wanted: &Gateway) -> GatewayQuestion {
    match &wanted.parent {
        Parent::Own { class } => GatewayQuestion {
            served: true,
            class: Some(class.clone()),
            ..GatewayQuestion::default()
        },
        Parent::Foreign { attach, .. } => GatewayQuestion {
            served: true,
            parent: Some(wanted.publisher("")),
            listener_sets: *attach == Attach::ListenerSet,
            ..GatewayQuestion::default()
        },
    }
}

/// The address of an edge of this binding, as far as it was read: the Ingress's or the Gateway's.
pub fn addresses(desired: &Desired, seen: &Observation) -> (Option<String>, Option<String>) {
    let ingress = desired.ingress.as_ref().and_then(|wanted| {
        let key = object_key(&manifests::ingress(desired, &wanted.name));
        seen.object(&key).and_then(published_address)
    });
    let gateway = desired.gateway.as_ref().and_then(|wanted| {
        let live = match wanted.parent {
            Parent::Own { .. } => seen.object(&object_key(&wanted.publisher(&desired.namespace))),
            Parent::Foreign { .. } => seen.gateway.known().and_then(|api| api.parent.as_ref()),
        };
        live.and_then(gateway::published_address)
    });
    (ingress, gateway)
}

/// Looks at every edge, briefly and without insisting; of what two show for a host, the worse counts.
async fn look_at_edges(
    world: &World,
    desired: &Desired,
    seen: &Observation,
) -> BTreeMap<String, Seen<Served>> {
    const LOOK: Duration = Duration::from_secs(3);
    let at = |address: Option<String>| address.map(|address| Endpoint { address, port: 443 });
    let all: Vec<&str> = desired.hosts().map(|(host, _)| host).collect();
    let mut looks: Vec<(Endpoint, Vec<&str>)> = Vec::new();
    if let Some((address, port)) = &desired.verify.endpoint {
        let endpoint = Endpoint {
            address: address.clone(),
            port: *port,
        };
        looks.push((endpoint, all));
    } else if desired.verify.via == Via::Dns {
        looks.extend(
            all.iter()
                .filter_map(|host| Some((at(Some(dialled(host)))?, vec![*host]))),
        );
    } else {
        let (ingress, gateway) = addresses(desired, seen);
        let of_gateway = |host: &&&str| {
            let rules = desired.gateway.iter().flat_map(|wanted| &wanted.rules);
            rules.map(|rule| rule.host.as_str()).any(|known| known == **host)
        };
        let served_there: Vec<&str> = all.iter().filter(of_gateway).copied().collect();
        looks.extend(at(ingress).map(|endpoint| (endpoint, all)));
        looks.extend(at(gateway).map(|endpoint| (endpoint, served_there)));
    }
    let looking = looks
        .into_iter()
        .map(|(endpoint, hosts)| async move { observe_served(world, &endpoint, hosts, LOOK).await });
    let mut served: BTreeMap<String, Seen<Served>> = BTreeMap::new();
    for (host, look) in join_all(looking).await.into_iter().flatten() {
        let wanted = wanted_leaf(desired, seen, &host);
        let look = match served.remove(&host) {
            Some(before) => worse(before, look, wanted.as_deref()),
            None => look,
        };
        served.insert(host, look);
    }
    served
}

/// The thumbprint of the vault's certificate for a host.
fn wanted_leaf(desired: &Desired, seen: &Observation, host: &str) -> Option<String> {
    let (_, key) = desired.hosts().find(|(known, _)| *known == host)?;
    let found = seen.certificates.get(key).and_then(Seen::present)?;
    Some(found.leaf.thumbprint.to_string())
}

fn edge_proves_secrets(desired: &Desired, seen: &Observation) -> bool {
    desired.certificates.iter().all(|(key, certificate)| {
        let vault = seen
            .certificates
            .get(key)
            .and_then(Seen::present)
            .map(|found| &found.leaf.thumbprint);
        !certificate.hosts.is_empty()
            && vault.is_some()
            && certificate.hosts.iter().all(|host| {
                let served = seen.served.get(host).and_then(Seen::known);
                served.map(|served| &served.leaf.thumbprint) == vault
            })
    })
}

/// The objects of a binding by the keys of `manifests`, which hold every object we ever applied for it.
pub fn owned_objects<'a>(namespace: &str, keys: impl IntoIterator<Item = &'a str>) -> Vec<ObjectRef> {
    keys.into_iter()
        .filter_map(|key| {
            let (kind, name) = key.split_once('/')?;
            Some(super::observe::kind_named(kind)?.named(namespace, name))
        })
        .collect()
}
