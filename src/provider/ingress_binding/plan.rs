//! Plans: a function of configuration, prior state and private data. What is looked up live here becomes diagnostics,
//! never values, because Terraform plans again during apply and the two plans must agree.

use std::collections::{BTreeMap, BTreeSet};

use super::memory::{Clash, Intent, Memory, is_unfinished};
use super::state::{self, Kept};
use super::{IngressBinding, config};
use crate::azure::Cluster;
use crate::binding::backends::backends as all_backends;
use crate::binding::controllers;
use crate::binding::converge::question;
use crate::binding::desired::{Desired, Mode, Port};
use crate::binding::findings::{Finding, Known, judge};
use crate::binding::grant;
use crate::binding::manifests::{objects as manifests_of, stamped};
use crate::binding::observation::{Observation, Seen};
use crate::binding::observe::{Question, observe};
use crate::binding::plan::addon_wish;
use crate::binding::plan::{Memory as Steps, Plan};
use crate::binding::preflight::ask::missing;
use crate::binding::rehearse::rehearse;
use crate::binding::step::Step;
use crate::binding::step::object_key;
use crate::binding::text::yaml;
use crate::binding::workload;
use crate::binding::world::{Freshness, World};
use crate::framework::duration;
use crate::framework::equality::without_case;
use crate::framework::{AttributePath, Diagnostic, Diagnostics, PlanRequest, PlanResponse, Value};
use crate::provider::{Defaults, explain};

/// The plan of a creation, an update or a removal.
pub(super) async fn plan(resource: &IngressBinding, request: PlanRequest) -> PlanResponse {
    if request.is_destroy() {
        let kept = Kept {
            announced: Vec::new(),
            resumes: None,
            ..Kept::read(&request.private)
        };
        let id = request.prior.get("id").as_str();
        let clash = id.and_then(|id| clash(resource, id, Intent::Destroy));
        return PlanResponse {
            planned: Value::Null,
            requires_replace: Vec::new(),
            private: kept.write(),
            diagnostics: clash.into_iter().collect(),
        };
    }
    let mut planned = request.proposed.clone();
    config::fill(&request.config, &mut planned);
    let defaults = resource.configured.defaults();
    let desired = match config::parse(&planned, &defaults.clone().unwrap_or_default()) {
        Ok(desired) => desired,
        Err(diagnostics) => {
            return PlanResponse {
                planned,
                requires_replace: Vec::new(),
                private: request.private,
                diagnostics,
            };
        }
    };
    // Without the provider's labels nothing can be said of the objects.
    let desired = desired.filter(|_| defaults.is_some() || !resource.configured.is_undecided());
    let disagreement = desired
        .as_ref()
        .filter(|desired| desired.addon.mode == Mode::Ensure)
        .and_then(|desired| {
            let who = format!("Binding {}/{}", desired.namespace, desired.name);
            let clash = resource.wishes.add(
                resource.configured.run(),
                &desired.cluster,
                &who,
                addon_wish(desired),
            )?;
            Some(explain::wishes_disagree(&who, &clash).at(AttributePath::of("addon")))
        });
    let twice = config::id(&planned)
        .filter(|_| request.is_create())
        .and_then(|id| clash(resource, &id, Intent::Create));
    let other = ["cluster_id", "namespace", "name"]
        .iter()
        .find_map(|name| resource.configured.other_id(&request, name));
    if let Some(diagnostic) = other.or(disagreement).or(twice) {
        return request.refused(diagnostic);
    }
    if request.is_create() {
        plan_create(resource, &request, planned, desired.as_ref()).await
    } else {
        plan_update(resource, &request, planned, desired.as_ref()).await
    }
}

/// What is to be said if another resource of this run is the same binding.
fn clash(resource: &IngressBinding, id: &str, intent: Intent) -> Option<Diagnostic> {
    let clash = resource.memories.plans(id, resource.configured.run()?, intent)?;
    Some(match clash {
        Clash::Same => explain::same_binding(id),
        Clash::Moved => explain::moved_binding(id),
    })
}

async fn plan_create(
    resource: &IngressBinding,
    request: &PlanRequest,
    mut planned: Value,
    desired: Option<&Desired>,
) -> PlanResponse {
    let id = config::id(&planned);
    let memory = id
        .as_deref()
        .map(|id| resource.memories.of(id))
        .unwrap_or_default();
    set(&mut planned, "id", id.map_or(Value::Unknown, Value::from));
    for name in [
        "instance_id",
        "addon_identity",
        "addon_state",
        "grants",
        "addresses",
        "status",
    ] {
        set(&mut planned, name, Value::Unknown);
    }
    let secret_names = secret_names(&planned);
    set(&mut planned, "secret_names", secret_names);
    let manifests = desired.map_or(Value::Unknown, |desired| {
        let mut manifests = manifests(desired, [None; 4]);
        if let (Some((key, text)), Some(all)) = (account(desired, None, &Value::Null), manifests.as_map_mut())
        {
            all.insert(key, text);
        }
        manifests
    });
    set(&mut planned, "manifests", manifests);
    let mut diagnostics = Diagnostics::new();
    if let Some(phase) = &memory.unfinished {
        diagnostics.push(explain::resumes(phase));
    }
    if let (Some(desired), Some(world)) = (desired, resource.configured.world()) {
        let blind_plan_fails = resource.configured.blind_plan_fails();
        let looking = look(
            resource,
            &world,
            desired,
            &memory,
            blind_plan_fails,
            &mut diagnostics,
        );
        within(request, looking).await;
    }
    let kept = Kept {
        resumes: memory
            .unfinished
            .as_ref()
            .and_then(|_| memory.instances.iter().next().cloned()),
        ..Kept::default()
    };
    PlanResponse {
        planned,
        requires_replace: Vec::new(),
        private: kept.write(),
        diagnostics,
    }
}

async fn plan_update(
    resource: &IngressBinding,
    request: &PlanRequest,
    mut planned: Value,
    desired: Option<&Desired>,
) -> PlanResponse {
    let prior = &request.prior;
    let mut kept = Kept::read(&request.private);
    if let (Some(server), Some(desired), Some(world)) = (&kept.server, desired, resource.configured.world()) {
        world.remember_server(&desired.cluster, server.clone());
    }
    for name in [
        "id",
        "instance_id",
        "secret_names",
        "addresses",
        "addon_identity",
        "addon_state",
        "grants",
        "manifests",
        "status",
    ] {
        set(&mut planned, name, prior.get(name).clone());
    }
    let mut diagnostics = Diagnostics::new();
    match desired {
        Some(desired) => {
            plan_known(request, desired, &kept, &mut planned);
            kept.announced = announced(prior, &planned);
            tell_update(resource, request, desired, &kept, &planned, &mut diagnostics).await;
        }
        None => {
            // Something the binding depends on is still to be made: everything that follows from it is open.
            let secret_names = secret_names(&planned);
            set(&mut planned, "secret_names", secret_names);
            for name in ["manifests", "addresses", "addon_state", "grants"] {
                set(&mut planned, name, Value::Unknown);
            }
            if prior.get("addon_identity").is_null() {
                set(&mut planned, "addon_identity", Value::Unknown);
            }
            kept.announced = vec!["*".to_owned()];
        }
    }
    if planned != *prior {
        set(&mut planned, "status", Value::Unknown);
    }
    PlanResponse {
        planned,
        requires_replace: Vec::new(),
        private: kept.write(),
        diagnostics,
    }
}

/// Computed values of an update whose inputs are all known.
fn plan_known(request: &PlanRequest, desired: &Desired, kept: &Kept, planned: &mut Value) {
    let prior = &request.prior;
    let same = |name: &str| without_case(prior.get(name), planned.get(name));
    let same_vault = same("key_vault_id");
    let prior_addon = prior.get("addon_state");
    let is_on = prior_addon.get("enabled").as_bool() == Some(true);
    let ensures = desired.addon.mode == Mode::Ensure;
    let has_identity = is_on && prior.get("addon_identity").as_map().is_some();
    if ensures {
        let addon = wished_addon(desired, prior_addon, is_on);
        set(planned, "addon_state", addon);
    }
    if ensures && !has_identity {
        set(planned, "addon_identity", Value::Unknown);
    }
    let reader = kept
        .reader(desired, prior.get("addon_identity"))
        .filter(|_| has_identity);
    let principal = reader.as_ref().map(|(_, principal)| principal.as_str());
    let rbac = kept.rbac.filter(|_| same_vault);
    let grants = prior.get("grants").as_list().unwrap_or_default();
    let any_stale = grants
        .iter()
        .any(|grant| state::is_stale(grant, desired, principal, rbac));
    let to_grant = !state::is_granted(grants, desired, rbac) || !state::is_trusted(grants, desired);
    let same_reader = same_access(prior.get("access"), planned.get("access"));
    if !same_vault || !same_reader || (ensures && !has_identity) || to_grant || any_stale {
        set(planned, "grants", Value::Unknown);
    }
    set(planned, "secret_names", state::secret_names(desired));
    let client_id = reader.as_ref().map(|(client_id, _)| client_id.as_str());
    let tenant_id = kept.tenant_id.as_deref().filter(|_| same_vault);
    let same_class = prior.get("ingress").get("class_name") == planned.get("ingress").get("class_name");
    let controller = kept.controller.as_deref().filter(|_| same_class);
    let mut manifests = manifests(
        desired,
        [client_id, tenant_id, kept.cloud_name.as_deref(), controller],
    );
    if let (Some((key, text)), Some(all)) = (account(desired, client_id, prior), manifests.as_map_mut()) {
        all.insert(key, text);
    }
    set(planned, "manifests", manifests);
    let edge = |value: &Value| {
        [
            ("ingress", "name"),
            ("ingress", "class_name"),
            ("gateway", "name"),
            ("gateway", "class_name"),
            ("gateway", "parent"),
            ("gateway", "addresses"),
        ]
        .map(|(edge, member)| value.get(edge).get(member).clone())
    };
    // An Ingress that is made anew publishes its address anew; one that stays keeps it, or DNS records would churn.
    let ingress = format!(
        "Ingress/{}",
        planned.get("ingress").get("name").as_str().unwrap_or_default()
    );
    let gateway = format!(
        "Gateway/{}",
        planned.get("gateway").get("name").as_str().unwrap_or_default()
    );
    let is_new = |key: &str, attribute: &str| {
        prior.get("manifests").get(key).is_null() && !planned.get(attribute).is_null()
    };
    let own_gateway = planned.get("gateway").get("class_name").as_str().is_some();
    let made_anew = is_new(&ingress, "ingress") || (own_gateway && is_new(&gateway, "gateway"));
    if edge(prior) != edge(planned) || made_anew {
        set(planned, "addresses", Value::Unknown);
    }
    let status = prior.get("status");
    let phase = status.get("phase").as_str().unwrap_or("pending");
    if status.get("in_sync").as_bool() != Some(true) || is_unfinished(phase, planned) {
        set(planned, "status", Value::Unknown);
    }
}

/// The service account in `manifests`. Whether one that is not there yet will be ours is seen only when it is looked for.
fn account(desired: &Desired, client_id: Option<&str>, prior: &Value) -> Option<(String, Value)> {
    let key = object_key(&workload::account(desired)?);
    let before = prior.get("manifests").get(&key).as_str();
    let text = match before {
        None => Value::Unknown,
        Some(state::USED_AS_IT_IS) => Value::from(state::USED_AS_IT_IS),
        Some(_) => match state::account_manifest(desired, client_id) {
            Some(manifest) => Value::from(yaml(&manifest)),
            None => Value::Unknown,
        },
    };
    Some((key, text))
}

/// Whether the same identity reads the same things.
fn same_access(left: &Value, right: &Value) -> bool {
    ["identity", "identity_id", "service_account_name", "scope"]
        .iter()
        .all(|name| left.get(name) == right.get(name) || without_case(left.get(name), right.get(name)))
}

fn wished_addon(desired: &Desired, prior: &Value, is_on: bool) -> Value {
    let live = prior.get("rotation_poll_interval");
    let interval = match (&desired.addon.rotation_poll_interval, live.as_str()) {
        (Some(wished), Some(live)) if duration::same(wished, live) => Value::from(live),
        // Where none is set, the driver's own interval is in force.
        (Some(wished), None) if is_on && duration::same(wished, "2m") => Value::Null,
        (Some(wished), _) => Value::from(wished.as_str()),
        (None, _) if is_on => live.clone(),
        (None, _) => Value::Unknown,
    };
    // Turning rotation on where no interval is set makes the service choose one.
    let interval = if interval.is_null()
        && prior.get("rotation_enabled").as_bool() != Some(desired.addon.rotation_enabled)
    {
        Value::Unknown
    } else {
        interval
    };
    Value::object([
        ("enabled", Value::from(true)),
        ("rotation_enabled", Value::from(desired.addon.rotation_enabled)),
        ("rotation_poll_interval", interval),
    ])
}

fn manifests(desired: &Desired, [client_id, tenant_id, cloud, controller]: [Option<&str>; 4]) -> Value {
    let wanted = state::wanted(desired, client_id, tenant_id, cloud, controller);
    Value::object(
        wanted
            .into_iter()
            .map(|(key, manifest)| (key, manifest.map_or(Value::Unknown, |it| Value::from(yaml(&it))))),
    )
}

/// What the plan shows to change, in the words of the guard.
fn announced(prior: &Value, planned: &Value) -> Vec<String> {
    let mut targets = BTreeSet::new();
    if prior.get("addon_state") != planned.get("addon_state") {
        targets.insert("addon".to_owned());
    }
    if prior.get("grants") != planned.get("grants") {
        targets.insert("grant".to_owned());
    }
    let none = BTreeMap::new();
    let before = prior.get("manifests").as_map().unwrap_or(&none);
    let after = planned.get("manifests").as_map().unwrap_or(&none);
    // Rendered texts say nothing about objects, so applying them for the first time may write them all.
    let turned = prior.get("apply_manifests").as_bool() == Some(false)
        && planned.get("apply_manifests").as_bool() == Some(true);
    if planned.get("create_namespace").as_bool() == Some(true) {
        let namespace = planned.get("namespace").as_str().unwrap_or_default();
        targets.insert(format!("Namespace/{namespace}"));
    }
    for key in before.keys().chain(after.keys()) {
        if turned || before.get(key) != after.get(key) {
            targets.insert(key.clone());
        }
    }
    let still: BTreeSet<&str> = state::secrets(planned).collect();
    targets.extend(
        state::secrets(prior)
            .filter(|name| !still.contains(name))
            .map(|name| format!("Secret/{name}")),
    );
    targets.into_iter().collect()
}

/// The Secrets by logical name, as far as their names are known.
fn secret_names(planned: &Value) -> Value {
    match planned.get("certificates") {
        Value::Map(certificates) => Value::object(
            certificates
                .iter()
                .map(|(key, it)| (key.as_str(), it.get("secret_name").clone())),
        ),
        _ => Value::Unknown,
    }
}

/// What to say about an update, or about a binding that stays as it is.
async fn tell_update(
    resource: &IngressBinding,
    request: &PlanRequest,
    desired: &Desired,
    kept: &Kept,
    planned: &Value,
    diagnostics: &mut Diagnostics,
) {
    let prior = &request.prior;
    if planned.get("addon_state") != prior.get("addon_state") {
        let enabled = prior.get("addon_state").get("enabled").as_bool() == Some(true);
        diagnostics.push(match same_wish(prior.get("addon"), planned.get("addon")) {
            true => explain::addon_was_changed(desired, enabled),
            false => explain::addon_will_be_set(desired, enabled),
        });
    }
    if planned.get("addon_state").get("rotation_enabled").as_bool() == Some(false) {
        let lagging = bound(prior, planned).into_iter().filter(|key| {
            let status = prior.get("status").get("certificates").get(key);
            let of = |place: &str| status.get(place).get("version").as_str();
            matches!((of("vault"), of("synced")), (Some(vault), Some(synced)) if vault != synced)
        });
        diagnostics.extend(lagging.map(|key| explain::stays_behind(&key, desired)));
    }
    for (key, edit) in &kept.edits {
        if edit.manager != crate::k8s::FIELD_MANAGER
            && prior.get("manifests").get(key) != planned.get("manifests").get(key)
        {
            diagnostics.push(explain::object_was_changed(key, &desired.namespace, edit));
        }
    }
    let Some(world) = resource.configured.world() else {
        return;
    };
    let cluster_unseen = resource.memories.of(&desired.id()).cluster_unseen;
    let looking = async {
        look_again(&world, request, desired, kept, planned, diagnostics).await;
        if cluster_unseen {
            return;
        }
        let client_id = kept.reader(desired, planned.get("addon_identity")).map(|it| it.0);
        let wanted = state::wanted(
            desired,
            client_id.as_deref(),
            kept.tenant_id.as_deref(),
            kept.cloud_name.as_deref(),
            kept.controller.as_deref(),
        );
        let changes = |key: &str| prior.get("manifests").get(key) != planned.get("manifests").get(key);
        rehearse_all(&world, desired, &wanted, changes, diagnostics).await;
    };
    within(request, looking).await;
}

fn same_wish(left: &Value, right: &Value) -> bool {
    ["mode", "rotation_enabled", "rotation_poll_interval"]
        .iter()
        .all(|name| left.get(name) == right.get(name))
}

/// What the state knows of the binding.
pub(super) fn known(prior: &Value, planned: &Value, kept: &Kept) -> Known {
    let instance = prior.get("instance_id").as_str().map(str::to_owned);
    let same_vault = without_case(prior.get("key_vault_id"), planned.get("key_vault_id"));
    Known {
        instances: instance.into_iter().collect(),
        bound: bound(prior, planned),
        backends: backends(prior),
        access: same_vault && prior.get("access") == planned.get("access"),
        secrets: state::secrets(prior).map(str::to_owned).collect(),
        adopted: kept.adopted.clone(),
    }
}

/// The thumbprints that a state knows as those of the vault's versions, of these certificates.
pub(super) fn versions(bound: &BTreeSet<String>, prior: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let of = |key: &String| {
        let status = prior.get("status").get("certificates").get(key);
        let places = ["vault", "synced", "served"].map(|place| status.get(place));
        let known = places.into_iter().filter(|place| !place.get("version").is_null());
        known
            .filter_map(|place| place.get("thumbprint").as_str().map(str::to_owned))
            .collect()
    };
    bound.iter().map(|key| (key.clone(), of(key))).collect()
}

/// The Services and ports that the rules of a state name.
fn backends(prior: &Value) -> Vec<(String, Port)> {
    let parsed = config::parse(prior, &Defaults::default()).ok().flatten();
    let named = parsed.iter().flat_map(all_backends);
    named.map(|backend| (backend.service, backend.port)).collect()
}

/// Certificates that stay bound to the same name and version of the same vault, with the same hosts.
fn bound(prior: &Value, planned: &Value) -> BTreeSet<String> {
    if !without_case(prior.get("key_vault_id"), planned.get("key_vault_id")) {
        return BTreeSet::new();
    }
    let before = prior.get("certificates");
    let none = BTreeMap::new();
    let after = planned.get("certificates").as_map().unwrap_or(&none);
    let unchanged = after.iter().filter(|(key, now)| {
        let was = before.get(key);
        ["certificate", "version", "hosts"]
            .iter()
            .all(|name| was.get(name) == now.get(name))
    });
    unchanged.map(|(key, _)| key.clone()).collect()
}

/// Whether the cluster's owner, in this same run, does what is found missing.
fn is_being_cured(resource: &IngressBinding, desired: &Desired, finding: &Finding) -> bool {
    let run = resource.configured.run();
    matches!(finding, Finding::AddonNotAsRequired { .. })
        && resource
            .wishes
            .owner_sees_to(run, &desired.cluster, &addon_wish(desired))
}

/// Looks at the world of a creation.
async fn look(
    resource: &IngressBinding,
    world: &World,
    desired: &Desired,
    memory: &Memory,
    blind_plan_fails: bool,
    diagnostics: &mut Diagnostics,
) {
    let mut question = question(desired, &[], Freshness::Shared);
    question.other_classes = true;
    let seen = match observe(world, &question).await {
        Ok(seen) => seen,
        Err(error) => {
            diagnostics.push(explain::azure_error(&error, &explain::Changed::nothing()));
            return;
        }
    };
    let known = Known {
        instances: memory.instances.clone(),
        ..Known::default()
    };
    for finding in judge(desired, &seen, &known) {
        if !is_being_cured(resource, desired, &finding) {
            diagnostics.push(explain::finding(&finding, desired, explain::Stage::Plan));
        }
    }
    tell_controller(&seen, diagnostics);
    let next = crate::binding::plan::plan(desired, &seen, &Steps::default());
    tell_rights(world, desired, &seen, &next, diagnostics).await;
    let cluster = seen.cluster.present();
    if let Some(cluster) = cluster.filter(|_| switches_addon(&next)) {
        diagnostics.push(explain::addon_will_be_set(desired, cluster.addon.enabled));
    }
    let spots = seen.blind_spots();
    if !spots.is_empty() {
        diagnostics.push(explain::blind_spots(&spots, blind_plan_fails));
    }
    if seen.cluster_was_seen() {
        let reader = grant::reader(&desired.access.identity, &seen);
        let tenant_id = seen.vault.present().map(|vault| vault.tenant_id.as_str());
        let client_id = reader.as_ref().map(|reader| reader.client_id.0.as_str());
        let wanted = state::wanted(
            desired,
            client_id,
            tenant_id,
            None,
            seen.controller.present().map(String::as_str),
        );
        rehearse_all(world, desired, &wanted, |_| true, diagnostics).await;
    }
}

/// What is to be said of the controller of the Ingress's class.
fn tell_controller(seen: &Observation, diagnostics: &mut Diagnostics) {
    let controller = seen.controller.present();
    if let Some((what, way_out)) = controller.and_then(|controller| controllers::advice(controller)) {
        diagnostics.push(explain::gateway::has_no_future(what, way_out));
    }
}

fn switches_addon(next: &Plan) -> bool {
    next.steps
        .iter()
        .any(|step| matches!(step, Step::SwitchAddon { .. }))
}

/// What apply would need and the caller may not do, by what is known now.
async fn tell_rights(
    world: &World,
    desired: &Desired,
    seen: &Observation,
    next: &Plan,
    diagnostics: &mut Diagnostics,
) {
    let state = seen.cluster.present().and_then(Cluster::not_ready);
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(
        state
            .filter(|_| switches_addon(next))
            .map(|state| Finding::ClusterNotReady { state }),
    );
    let missing = missing(world, desired, seen, next, Freshness::Shared).await;
    findings.extend(missing.map(|missing| Finding::RightsMissing(Box::new(missing))));
    for finding in findings {
        diagnostics.push(explain::finding(&finding, desired, explain::Stage::Plan));
    }
}

/// Asks the cluster what it would refuse of the objects that are to change.
async fn rehearse_all(
    world: &World,
    desired: &Desired,
    wanted: &BTreeMap<String, Option<serde_json::Value>>,
    changes: impl Fn(&str) -> bool,
    diagnostics: &mut Diagnostics,
) {
    if !desired.apply_manifests {
        return;
    }
    let objects: Vec<_> = manifests_of(desired)
        .into_iter()
        .filter(|object| changes(&object_key(object)))
        .filter_map(|object| {
            let manifest = wanted.get(&object_key(&object))?.clone()?;
            Some((object, stamped(manifest, &desired.id(), "planned")))
        })
        .collect();
    if objects.is_empty() {
        return;
    }
    let Ok(Some(cluster)) = world.cluster(&desired.cluster, Freshness::Shared).await else {
        return;
    };
    for (object, error) in rehearse(world, desired, &cluster, &objects).await {
        diagnostics.push(explain::cluster::would_refuse(&object, &error));
    }
}

/// Looks at the certificates of an existing binding, at what it newly relies on, and at the rights for what is announced;
/// everything else was read by the refresh.
async fn look_again(
    world: &World,
    request: &PlanRequest,
    desired: &Desired,
    kept: &Kept,
    planned: &Value,
    diagnostics: &mut Diagnostics,
) {
    let prior = &request.prior;
    let mut question = question(desired, &[], Freshness::Shared);
    only_new(&mut question, prior, planned);
    // Errors were told by the refresh.
    let Ok(mut seen) = observe(world, &question).await else {
        return;
    };
    for finding in judge(desired, &seen, &known(prior, planned, kept)) {
        diagnostics.push(explain::finding(&finding, desired, explain::Stage::Plan));
    }
    tell_controller(&seen, diagnostics);
    let announced = &kept.announced;
    if announced.is_empty() || announced.iter().any(|target| target == "*") {
        return;
    }
    let none = BTreeMap::new();
    let there = prior.get("manifests").as_map().unwrap_or(&none).keys();
    let there = there.map(|key| (key.clone(), Seen::Known(Some(serde_json::Value::Null))));
    seen.objects.extend(there);
    let mut next = crate::binding::plan::plan(desired, &seen, &Steps::default());
    next.steps
        .retain(|step| step.target().is_some_and(|target| announced.contains(&target)));
    tell_rights(world, desired, &seen, &next, diagnostics).await;
}

/// Leaves of a question about the cluster what the update newly relies on.
fn only_new(question: &mut Question, prior: &Value, planned: &Value) {
    // What was only rendered is applied for the first time.
    let was_applied = prior.get("apply_manifests").as_bool() != Some(false);
    let before = prior.get("manifests");
    question
        .objects
        .retain(|object| !was_applied || before.get(&object_key(object)).is_null());
    let secrets: BTreeSet<&str> = state::secrets(prior).filter(|_| was_applied).collect();
    question.secrets.retain(|name| !secrets.contains(name.as_str()));
    question.read_secrets = false;
    question.mounts_of = None;
    question.namespace_exists = !was_applied;
    let differs = |edge: &str, members: &[&str]| {
        let (before, after) = (prior.get(edge), planned.get(edge));
        !was_applied
            || before.is_null()
            || members
                .iter()
                .any(|member| before.get(member) != after.get(member))
    };
    if !differs("ingress", &["class_name", "ssl_redirect"]) {
        question.class = None;
    }
    if !differs("gateway", &["class_name", "parent"]) {
        question.gateway = None;
    }
    let after = planned.get("manifests").as_map();
    let is_edge = |key: &str| key.starts_with("Ingress/") || key.starts_with("HTTPRoute/");
    let mut edges = after.into_iter().flatten().filter(|(key, _)| is_edge(key));
    if was_applied && edges.all(|(key, text)| before.get(key) == text) {
        question.services.clear();
    }
    question.other_classes = !question.secrets.is_empty();
    question.cluster_objects &= question.namespace_exists
        || !question.services.is_empty()
        || question.class.is_some()
        || question.gateway.is_some()
        || !question.objects.is_empty()
        || !question.secrets.is_empty();
}

/// Runs a look-up of a plan within the operation's time; what does not come in time is not told.
async fn within(request: &PlanRequest, looking: impl Future<Output = ()>) {
    let limited = tokio::time::timeout_at(request.deadline.until, looking);
    tokio::select! {
        _ = limited => {}
        () = request.deadline.stop.cancelled() => {}
    }
}

fn set(value: &mut Value, name: &str, member: Value) {
    if let Some(members) = value.as_map_mut() {
        members.insert(name.to_owned(), member);
    }
}
