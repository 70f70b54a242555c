//! Makes a planned binding true, or removes one. Whatever fails, the state that is returned was read back.

use uuid::Uuid;

use super::objects::read_kubernetes;
use super::state::{self, Kept};
use super::{IngressBinding, config, plan};
use crate::azure::ids::{ClusterId, IdError, IdentityId, VaultId};
use crate::binding::accounts;
use crate::binding::converge::{Outcome, converge, owned_objects, remove};
use crate::binding::desired::{Connection, Desired, Identity, Mode, Workload};
use crate::binding::error::{Cause, StepError};
use crate::binding::execute::{Done, Limits};
use crate::binding::findings::{Class, Hold, Known};
use crate::binding::grant::GrantKind;
use crate::binding::guard::Announced;
use crate::binding::manifests;
use crate::binding::plan::{Memory, Owned, OwnedGrant};
use crate::binding::revoke::KeptGrant;
use crate::binding::step::{Step, object_key};
use crate::binding::world::{Freshness, World};
use crate::framework::object::Reader;
use crate::framework::{ApplyRequest, ApplyResponse, Deadline, Diagnostic, Diagnostics, Value};
use crate::k8s::{SECRET_PROVIDER_CLASS, SERVICE_ACCOUNT};
use crate::provider::Defaults;
use crate::provider::explain::{self, Changed, Stage};

/// Creates or updates.
pub(super) async fn write(resource: &IngressBinding, request: ApplyRequest) -> ApplyResponse {
    let ready = resource
        .configured
        .need()
        .and_then(|world| Ok((world, desired(resource, &request.planned)?)));
    let (world, desired) = match ready {
        Ok(ready) => ready,
        Err(diagnostic) => return unchanged(request, Diagnostics::from(diagnostic)),
    };
    let is_create = request.prior.is_null();
    let mut kept = Kept::read(&request.private);
    if let Some(server) = &kept.server {
        world.remember_server(&desired.cluster, server.clone());
    }
    resource.memories.makes(&desired.id());
    let remembered = resource.memories.of(&desired.id());
    let instance = match request.prior.get("instance_id").as_str() {
        Some(instance) => instance.to_owned(),
        None => Uuid::new_v4().to_string(),
    };
    // A complete one that this process knows is another resource's, or stands to be replaced by its like.
    let mut instances = remembered
        .unfinished
        .map(|_| remembered.instances)
        .unwrap_or_default();
    if !is_create {
        instances.insert(instance.clone());
    }
    let known = Known {
        instances,
        ..plan::known(&request.prior, &request.planned, &kept)
    };
    let announced = if is_create || kept.announced.iter().any(|it| it == "*") {
        Announced::Everything
    } else {
        Announced::Only(kept.announced.iter().cloned().collect())
    };
    kept.cloud_name = match world.cloud_name().await {
        Ok(name) => name,
        Err(error) => {
            let diagnostic = explain::azure_error(&error, &Changed::nothing());
            return unchanged(request, Diagnostics::from(diagnostic));
        }
    };
    let memory = Memory {
        instance: instance.clone(),
        admitted: kept.admitted.clone(),
        retired: state::retired(&desired, &request.prior),
        bound: plan::versions(&known.bound, &request.prior),
        granted: request
            .prior
            .get("grants")
            .as_list()
            .is_some_and(|grants| !grants.is_empty()),
        cloud_name: kept.cloud_name.clone(),
        adopted: kept.adopted.clone(),
        switched_addon_on: kept.switched_addon_on || (is_create && world.switched_on(&desired.cluster)),
    };
    let limits = limits(&request.deadline);
    let outcome = match converge(&world, &desired, &memory, &known, &announced, &limits).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let diagnostic = explain::azure_error(&error, &Changed::nothing());
            return unchanged(request, Diagnostics::from(diagnostic));
        }
    };
    let mut diagnostics = tell(&desired, &outcome);
    let wrote = outcome.done.steps.iter().any(Step::is_write)
        || outcome
            .done
            .failure
            .as_ref()
            .is_some_and(|failure| failure.step.is_write() && !failure.cause.is_before_the_write());
    if diagnostics.has_errors() && !wrote {
        return unchanged(request, diagnostics);
    }
    kept.admitted = outcome.done.admitted.clone();
    kept.switched_addon_on = outcome.switched_addon_on || (is_create && world.switched_on(&desired.cluster));
    kept.announced.clear();
    kept.resumes = None;
    for step in &outcome.done.steps {
        if let Step::Apply { object, .. } = step {
            kept.adopted.remove(&object_key(object));
        }
    }
    let mut state = new_state(&request, &desired, &instance, &outcome, &mut kept);
    if outcome
        .done
        .steps
        .iter()
        .any(|step| matches!(step, Step::AddAccessPolicy { .. }))
    {
        state::mark_policies_managed(&mut state);
    }
    if !diagnostics.has_errors() {
        keep_promises(&request.planned, &mut state);
        let left = accounts::kept(&memory.retired, &instance, &desired.name, &outcome.observation);
        diagnostics.extend(
            left.iter()
                .map(|(account, why)| explain::cluster::account_kept(account, why)),
        );
        diagnostics.extend(revoke_stale(&world, &desired, &mut state, &kept, &limits).await);
    } else if request.planned.get("on_incomplete").as_str() == Some("warn") {
        // A success by the practitioner's own word: the plan's promises stand, and the phase tells the truth.
        keep_promises(&request.planned, &mut state);
        diagnostics = diagnostics.into_iter().map(explain::incomplete).collect();
    } else if is_create {
        diagnostics = diagnostics.into_iter().map(explain::tainted).collect();
    }
    ApplyResponse {
        state,
        private: kept.write(),
        diagnostics,
    }
}

fn desired(resource: &IngressBinding, planned: &Value) -> Result<Desired, Diagnostic> {
    let defaults = resource.configured.defaults().unwrap_or_default();
    let parsed = config::parse(planned, &defaults).map_err(|diagnostics| {
        let first = diagnostics.into_iter().next();
        first.unwrap_or_else(|| Diagnostic::error("Configuration contradicts itself", "", ""))
    })?;
    parsed.ok_or_else(|| {
        Diagnostic::error(
            "Value is not known yet",
            "The binding refers to a value that is still unknown during apply. Nothing was changed.",
            "Plan and apply again.",
        )
    })
}

fn limits(deadline: &Deadline) -> Limits {
    Limits {
        until: deadline.until,
        stop: deadline.stop.clone(),
    }
}

/// The prior state: nothing was written.
fn unchanged(request: ApplyRequest, diagnostics: Diagnostics) -> ApplyResponse {
    let kept = Kept {
        announced: Vec::new(),
        resumes: None,
        ..Kept::read(&request.private)
    };
    ApplyResponse {
        state: request.prior,
        private: kept.write(),
        diagnostics,
    }
}

/// Revokes what kvtls granted for a vault or an identity that the binding has left, now that it serves without it.
async fn revoke_stale(
    world: &World,
    desired: &Desired,
    state: &mut Value,
    kept: &Kept,
    limits: &Limits,
) -> Diagnostics {
    let reader = kept.reader(desired, state.get("addon_identity"));
    let principal = reader.map(|(_, principal)| principal);
    let rbac = kept.rbac;
    let instance = state.get("instance_id").as_str().unwrap_or_default().to_owned();
    let mut diagnostics = Diagnostics::new();
    let Some(Value::List(grants)) = state.as_map_mut().and_then(|it| it.get_mut("grants")) else {
        return diagnostics;
    };
    let (stale, current) = grants
        .drain(..)
        .partition::<Vec<Value>, _>(|grant| state::is_stale(grant, desired, principal.as_deref(), rbac));
    *grants = current;
    for grant in stale {
        let id = grant.get("id").as_str().unwrap_or_default().to_owned();
        let vault = id
            .split("/providers/Microsoft.Authorization/")
            .next()
            .and_then(|scope| scope.split("/secrets/").next())
            .unwrap_or_default();
        // A trust is no vault's; the other one is looked at all the same.
        let vault = VaultId::parse(vault).unwrap_or_else(|_| desired.vault.clone());
        let owned = Owned {
            cluster: desired.cluster.clone(),
            vault,
            namespace: desired.namespace.clone(),
            name: desired.name.clone(),
            instance: instance.clone(),
            objects: Vec::new(),
            secrets: Vec::new(),
            identity: trusted_identity(&grant).unwrap_or_else(|| desired.access.identity.clone()),
            grants: owned_grant(&grant).into_iter().collect(),
            disables_addon: false,
            applied: desired.apply_manifests,
            connection: desired.connection.clone(),
        };
        let why = match remove(world, &owned, limits).await {
            Ok(Outcome {
                done: Done { failure: None, .. },
                kept,
                ..
            }) => {
                // A role or policy that another binding needs goes with that one; a trust is this one's alone.
                let is_told = |kept: &&KeptGrant| {
                    kept.is_in_doubt() || kept.grant.kind == GrantKind::FederatedCredential
                };
                let told = kept.iter().filter(is_told);
                diagnostics.extend(told.map(|kept| explain::grant_kept(kept, &owned.vault)));
                continue;
            }
            Ok(outcome) => outcome
                .done
                .failure
                .map_or_else(String::new, |failure| failed(&failure)),
            Err(error) => error.service_said(),
        };
        diagnostics.push(explain::grant_not_revoked(&id, &why));
        grants.push(grant);
    }
    diagnostics
}

/// What was tried in vain, and what the service said.
fn failed(failure: &StepError) -> String {
    let step = failure.step.describe();
    match &failure.cause {
        Cause::Azure(error) => format!("kvtls could not {step}: {}", error.service_said()),
        _ => format!("kvtls could not {step}"),
    }
}

/// Whom a trust that has gone stale was for.
fn trusted_identity(grant: &Value) -> Option<Identity> {
    let text = |name: &str| grant.get(name).as_str().unwrap_or_default();
    let account = text("role")
        .strip_prefix("system:serviceaccount:")?
        .rsplit(':')
        .next()?;
    Some(Identity::Workload(Workload {
        id: IdentityId::parse(text("scope")).ok()?,
        service_account: account.to_owned(),
        federated: Mode::Ensure,
    }))
}

fn owned_grant(grant: &Value) -> Option<OwnedGrant> {
    let text = |name: &str| grant.get(name).as_str().unwrap_or_default().to_owned();
    Some(OwnedGrant {
        kind: state::grant_kind(grant)?,
        id: text("id"),
        scope: text("scope"),
        principal_id: text("principal_id"),
    })
}

fn new_state(
    request: &ApplyRequest,
    desired: &Desired,
    instance: &str,
    outcome: &Outcome,
    kept: &mut Kept,
) -> Value {
    let mut base = request.planned.clone();
    if let Some(members) = base.as_map_mut() {
        let id = request
            .prior
            .get("id")
            .as_str()
            .map_or_else(|| desired.id(), str::to_owned);
        members.insert("id".to_owned(), Value::from(id));
        members.insert("instance_id".to_owned(), Value::from(instance));
    }
    state::observed(&base, &request.prior, desired, &outcome.observation, kept)
}

/// After a success, values that the plan promised stand as promised; between our last write and the reading back
/// somebody else may have changed the world, which the next refresh shows.
fn keep_promises(planned: &Value, state: &mut Value) {
    let Some(members) = state.as_map_mut() else { return };
    for name in [
        "addon_identity",
        "addon_state",
        "grants",
        "secret_names",
        "manifests",
        "addresses",
    ] {
        if let Some(value) = members.get_mut(name) {
            promised(planned.get(name), value);
        }
    }
}

fn promised(planned: &Value, value: &mut Value) {
    match (planned, value) {
        (Value::Unknown, _) => {}
        (Value::Map(planned), Value::Map(members)) => {
            members.retain(|name, _| planned.contains_key(name));
            for (name, planned) in planned {
                promised(planned, members.entry(name.clone()).or_insert(Value::Null));
            }
        }
        (planned, value) if planned.is_wholly_known() => *value = planned.clone(),
        _ => {}
    }
}

/// Everything to say about an apply.
fn tell(desired: &Desired, outcome: &Outcome) -> Diagnostics {
    let mut diagnostics: Diagnostics = outcome
        .findings
        .iter()
        .map(|finding| explain::finding(finding, desired, Stage::Apply))
        .collect();
    let refused = outcome
        .findings
        .iter()
        .any(|finding| finding.class() != Class::Decay);
    if refused {
        return diagnostics;
    }
    if !outcome.unannounced.is_empty() {
        diagnostics.push(explain::unannounced(&outcome.unannounced));
    }
    if outcome.done.failure.is_some() {
        diagnostics.extend(failures(&outcome.done));
        return diagnostics;
    }
    diagnostics.extend(explain::gateway::complains(&outcome.done.problems));
    let unseen = outcome
        .done
        .served
        .iter()
        .find_map(|(host, seen)| Some((host, seen.why_not()?)));
    if let Some((host, reason)) = unseen {
        diagnostics.push(explain::unverified(host, reason));
    }
    diagnostics
}

/// Removes what the state says is ours, and nothing else.
pub(super) async fn delete(resource: &IngressBinding, request: ApplyRequest) -> ApplyResponse {
    let kept = Kept::read(&request.private);
    let instance = request.prior.get("instance_id").as_str().unwrap_or_default();
    let defaults = resource.configured.defaults().unwrap_or_default();
    let ready = resource
        .configured
        .need()
        .and_then(|world| Ok((world, owned(&request.prior, instance, &kept, &defaults)?)));
    let (world, owned) = match ready {
        Ok(ready) => ready,
        Err(diagnostic) => return unchanged(request, Diagnostics::from(diagnostic)),
    };
    if let Some(server) = kept.server.clone() {
        world.remember_server(&owned.cluster, server);
    }
    let resumes = kept.resumes.as_deref() == Some(instance) && !instance.is_empty();
    if resumes && !is_finished(&world, &owned).await {
        // The creation that follows takes over what is there.
        return ApplyResponse {
            state: Value::Null,
            private: Default::default(),
            diagnostics: Diagnostics::new(),
        };
    }
    let diagnostics = remove_owned(&world, &owned, &limits(&request.deadline)).await;
    if diagnostics.has_errors() {
        return unchanged(request, diagnostics);
    }
    ApplyResponse {
        state: Value::Null,
        private: Default::default(),
        diagnostics,
    }
}

/// Whether the binding was ever complete, by its own mark in the cluster. One that drifted since was.
async fn is_finished(world: &World, owned: &Owned) -> bool {
    let class = SECRET_PROVIDER_CLASS.named(&owned.namespace, &owned.name);
    let Ok(Some(cluster)) = world.cluster(&owned.cluster, Freshness::Shared).await else {
        return false;
    };
    let Ok(connected) = world.kubernetes(&cluster, &owned.connection).await else {
        return false;
    };
    let live = connected.kubernetes.get(&class).await;
    live.ok()
        .flatten()
        .is_some_and(|live| manifests::annotation(&live, manifests::PHASE) == Some(manifests::FINISHED))
}

async fn remove_owned(world: &World, owned: &Owned, limits: &Limits) -> Diagnostics {
    let outcome = match remove(world, owned, limits).await {
        Ok(outcome) => outcome,
        Err(error) => return Diagnostics::from(explain::azure_error(&error, &Changed::nothing())),
    };
    if let Some(hold @ Hold::InUse { .. }) = &outcome.hold {
        return Diagnostics::from(explain::cluster::hold(hold));
    }
    if outcome.done.failure.is_some() {
        return failures(&outcome.done);
    }
    let spots: Vec<(String, String)> = outcome
        .observation
        .blind_spots()
        .into_iter()
        .filter(|(what, _)| what == "cluster" || what == "cluster objects")
        .collect();
    if !spots.is_empty() {
        return Diagnostics::from(explain::cannot_remove(&spots));
    }
    let mut diagnostics = left_in_doubt(owned, &outcome);
    let left = accounts::kept(&owned.objects, &owned.instance, &owned.name, &outcome.observation);
    diagnostics.extend(
        left.iter()
            .map(|(account, why)| explain::cluster::account_kept(account, why)),
    );
    diagnostics.extend(outcome.hold.as_ref().map(explain::cluster::hold));
    diagnostics
}

/// The step that failed, and those that failed beside it.
fn failures(done: &Done) -> Diagnostics {
    let changed = Changed::by(&done.steps);
    let all = done.failure.iter().chain(&done.further_failures);
    all.map(|failure| explain::step_error(failure, &changed))
        .collect()
}

/// What kvtls made and leaves though nobody is known to need it.
fn left_in_doubt(owned: &Owned, outcome: &Outcome) -> Diagnostics {
    let in_doubt = outcome.kept.iter().filter(|kept| kept.is_in_doubt());
    let grants = in_doubt.map(|kept| explain::grant_kept(kept, &owned.vault));
    let addon = outcome.done.addon_kept.as_deref().map(explain::addon_kept);
    grants.chain(addon).collect()
}

fn connection(state: &Value, defaults: &Defaults) -> Result<Connection, Diagnostic> {
    let root = Reader::root(state);
    read_kubernetes(root.opt_object("kubernetes")?.as_ref(), &defaults.connection)
}

fn owned(state: &Value, instance: &str, kept: &Kept, defaults: &Defaults) -> Result<Owned, Diagnostic> {
    let text = |name: &str| state.get(name).as_str().unwrap_or_default();
    let broken = |name: &str, error: IdError| {
        Diagnostic::error(
            "State cannot be read",
            format!("{name} in the state {error}, so nothing can be removed safely."),
            "Remove the binding from the state with  terraform state rm  and delete its objects by hand.",
        )
    };
    let mut objects = state::objects(state);
    // Objects that a refresh could not find may be back by now.
    for kind in ["SecretProviderClass", "Deployment"] {
        let key = format!("{kind}/{}", text("name"));
        objects.extend(owned_objects(text("namespace"), [key.as_str()]));
    }
    if let Some(name) = state.get("ingress").get("name").as_str() {
        let key = format!("Ingress/{name}");
        objects.extend(owned_objects(text("namespace"), [key.as_str()]));
    }
    if let Some(name) = state.get("gateway").get("name").as_str() {
        let keys =
            ["Gateway", "ListenerSet", "HTTPRoute", "ReferenceGrant"].map(|kind| format!("{kind}/{name}"));
        objects.extend(owned_objects(text("namespace"), keys.iter().map(String::as_str)));
    }
    let root = Reader::root(state);
    let identity = match root.opt_object("access")? {
        Some(access) => config::identity(&access)?,
        None => Identity::Addon,
    };
    if let Identity::Workload(workload) = &identity {
        objects.push(SERVICE_ACCOUNT.named(text("namespace"), &workload.service_account));
    }
    let addon = state.get("addon");
    let disables_addon = kept.switched_addon_on
        && addon.get("mode").as_str() == Some("ensure")
        && addon.get("on_destroy").as_str() == Some("disable_if_unused");
    objects.sort();
    objects.dedup();
    let grants = state.get("grants").as_list().unwrap_or_default().iter();
    Ok(Owned {
        cluster: ClusterId::parse(text("cluster_id")).map_err(|error| broken("cluster_id", error))?,
        vault: VaultId::parse(text("key_vault_id")).map_err(|error| broken("key_vault_id", error))?,
        namespace: text("namespace").to_owned(),
        name: text("name").to_owned(),
        instance: instance.to_owned(),
        objects,
        secrets: state::secrets(state).map(str::to_owned).collect(),
        grants: grants
            .filter(|grant| grant.get("managed").as_bool() == Some(true))
            .filter_map(owned_grant)
            .collect(),
        identity,
        disables_addon,
        applied: state.get("apply_manifests").as_bool() != Some(false),
        connection: connection(state, defaults)?,
    })
}
