//! Makes a planned add-on true, or switches one off. Whatever fails, the state that is returned was read back.

use super::{ClusterAddonResource, explain, state};
use crate::azure::ids::ClusterId;
use crate::azure::{AddonWish, Cluster, Error};
use crate::binding::error::kubernetes_said;
use crate::binding::world::{Connected, Freshness, World};
use crate::framework::{ApplyRequest, ApplyResponse, Diagnostic, Diagnostics, Value};
use crate::k8s::{self, SECRET_PROVIDER_CLASS};
use crate::provider::explain::Changed;
use crate::provider::operation::{Halt, keep_promises, last_look, resumes, within};

fn answer(state: Value, diagnostics: Diagnostics) -> ApplyResponse {
    ApplyResponse {
        state,
        private: Default::default(),
        diagnostics,
    }
}

/// Creates or updates: both make it as planned, and write nothing if it is.
pub(super) async fn write(resource: &ClusterAddonResource, request: ApplyRequest) -> ApplyResponse {
    let ready = resource
        .configured
        .need()
        .and_then(|world| Ok((world, subject(&request.planned)?)));
    let (world, (id, wish)) = match ready {
        Ok(ready) => ready,
        Err(diagnostic) => return answer(request.prior, Diagnostics::from(diagnostic)),
    };
    let done = within(&request.deadline, world.azure().ensure_addon(&id, &wish)).await;
    let outcome = match done {
        Ok(outcome) => outcome,
        Err(halt) => {
            let diagnostic = explain::halted(
                &halt,
                &id,
                "switch the Key Vault add-on on as wished",
                &Changed::nothing(),
            );
            let state = after_failure(&world, &id, &request, &halt).await;
            return answer(state, Diagnostics::from(diagnostic));
        }
    };
    if outcome.written {
        // Bindings that are planned after this one are not to be told what was true before it.
        drop(last_look(world.cluster(&id, Freshness::Fresh)).await);
    }
    let mut state = placed(&request.planned, &id, &outcome.cluster);
    if outcome.cluster.addon.identity.is_none() {
        return answer(state, Diagnostics::from(explain::has_no_identity(&id)));
    }
    keep_promises(&request.planned, &mut state);
    answer(state, Diagnostics::new())
}

fn subject(planned: &Value) -> Result<(ClusterId, AddonWish), Diagnostic> {
    let known = state::cluster_id(planned).zip(state::wish(planned));
    known.ok_or_else(|| Diagnostic::bug("a planned add-on has unknown attributes"))
}

fn placed(base: &Value, id: &ClusterId, cluster: &Cluster) -> Value {
    let mut state = base.clone();
    if state.get("id").as_str().is_none() {
        state.set("id", id.to_string());
    }
    state::observed(&state, cluster)
}

/// The state after a failure. A creation that wrote nothing has made nothing.
async fn after_failure(world: &World, id: &ClusterId, request: &ApplyRequest, halt: &Halt) -> Value {
    let is_refused = matches!(
        halt,
        Halt::Azure(Error::Forbidden { .. } | Error::NotReady { .. } | Error::Rejected { .. })
    );
    if is_refused {
        return request.prior.clone();
    }
    match last_look(world.azure().cluster(id)).await {
        Some(None) => request.prior.clone(),
        // An accepted write shows at once.
        Some(Some(cluster)) if !cluster.addon.enabled && request.prior.is_null() => Value::Null,
        Some(Some(cluster)) => {
            let mut state = placed(&request.planned, id, &cluster);
            if request.prior.is_null() {
                state.set("identity", Value::Null);
            }
            state
        }
        None if request.prior.is_null() => {
            let mut state = request.planned.clone();
            state.set("id", id.to_string());
            state.set("identity", Value::Null);
            state.set("provisioning_state", Value::Null);
            state
        }
        None => request.prior.clone(),
    }
}

/// How an add-on whose resource goes ends.
enum Left {
    /// As it is, as wished, or off, or with its cluster.
    Well,
    /// On, although it was to be switched off.
    On(String),
}

/// Leaves it on or switches it off, as `on_destroy` says.
pub(super) async fn delete(resource: &ClusterAddonResource, request: ApplyRequest) -> ApplyResponse {
    let only_if_unused = match request.prior.get("on_destroy").as_str() {
        Some("disable") => false,
        Some("disable_if_unused") => true,
        _ => return answer(Value::Null, Diagnostics::new()),
    };
    if resumes(&request.private) {
        // The creation that follows completes what is there.
        return answer(Value::Null, Diagnostics::new());
    }
    let ready = resource.configured.need().and_then(|world| {
        let id = state::cluster_id(&request.prior);
        let id = id.ok_or_else(|| Diagnostic::bug("a state without a cluster"))?;
        Ok((world, id))
    });
    let (world, id) = match ready {
        Ok(ready) => ready,
        Err(diagnostic) => return answer(request.prior, Diagnostics::from(diagnostic)),
    };
    let connection = resource.configured.defaults().unwrap_or_default().connection;
    let leaving = async {
        let Some(cluster) = world.cluster(&id, Freshness::Fresh).await? else {
            return Ok(Left::Well);
        };
        if !cluster.addon.enabled || cluster.provisioning_state.eq_ignore_ascii_case("Deleting") {
            return Ok(Left::Well);
        }
        if only_if_unused {
            let used = match cluster.is_stopped() {
                true => Some("the cluster is stopped and cannot be asked who uses it".to_owned()),
                false => users(&world, &cluster, &connection).await,
            };
            if let Some(why) = used {
                return Ok(Left::On(why));
            }
        }
        match world.azure().disable_addon(&id).await {
            Ok(_) => Ok(Left::Well),
            Err(error @ Error::Rejected { status: 400, .. }) if only_if_unused => {
                Ok(Left::On(format!("Azure refused: {}", error.service_said())))
            }
            Err(error) => Err(error),
        }
    };
    match within(&request.deadline, leaving).await {
        Ok(Left::Well) => answer(Value::Null, Diagnostics::new()),
        Ok(Left::On(why)) => answer(Value::Null, Diagnostics::from(explain::left_on(&id, &why))),
        Err(halt) => {
            let diagnostic = match &halt {
                Halt::Azure(error @ Error::Rejected { status: 400, .. }) => explain::in_use(&id, error),
                halt => explain::halted(halt, &id, "switch the Key Vault add-on off", &Changed::nothing()),
            };
            let state = match last_look(world.azure().cluster(&id)).await {
                Some(None) => Value::Null,
                Some(Some(cluster)) => state::observed(&request.prior, &cluster),
                None => request.prior,
            };
            answer(state, Diagnostics::from(diagnostic))
        }
    }
}

/// Who uses the add-on, or why that cannot be said; none if nobody does.
async fn users(
    world: &World,
    cluster: &Cluster,
    way: &crate::binding::desired::Connection,
) -> Option<String> {
    let not_asked = |why: String| Some(format!("the cluster could not be asked who uses it: {why}"));
    let connected = match world.kubernetes(cluster, way).await {
        Ok(connected) => connected,
        Err(error) => return not_asked(error.said()),
    };
    let mut listed = classes(&connected).await;
    if listed.is_err() && connected.is_remembered {
        // The cluster may have been built anew since.
        match world.kubernetes_anew(cluster, way).await {
            Ok(connected) => listed = classes(&connected).await,
            Err(error) => return not_asked(error.said()),
        }
    }
    match listed {
        Ok(names) if names.is_empty() => None,
        Ok(names) => Some(format!("SecretProviderClasses use it: {}", names.join(", "))),
        Err(error) => not_asked(kubernetes_said(&error)),
    }
}

async fn classes(connected: &Connected) -> Result<Vec<String>, k8s::Error> {
    let listed = connected.kubernetes.list(SECRET_PROVIDER_CLASS, None, "").await;
    let listed = match listed {
        Err(k8s::Error::NotServed { .. }) => Vec::new(),
        listed => listed?,
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let name = |class: &serde_json::Value| {
        let metadata = &class["metadata"];
        format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]))
    };
    Ok(listed.iter().map(name).collect())
}
