//! Asks Azure and the cluster what the caller may do.

use futures_util::future::join_all;

use super::{Missing, Need, Purpose, Wanted, needs};
use crate::azure;
use crate::binding::desired::Desired;
use crate::binding::grant;
use crate::binding::observation::{Observation, Seen};
use crate::binding::plan::Plan;
use crate::binding::world::{Freshness, World};
use crate::k8s::{Kubernetes, Right};

/// Reading a certificate's facts. Without it a binding works; what would be checked with it is skipped.
const READ_CERTIFICATE: &str = "Microsoft.KeyVault/vaults/certificates/read";

/// The rights that a plan needs and the caller lacks; `None` if all are there, or if nothing can be told.
pub async fn missing(
    world: &World,
    desired: &Desired,
    seen: &Observation,
    plan: &Plan,
    freshness: Freshness,
) -> Option<Missing> {
    let needs = needs(desired, seen, plan);
    if needs.is_empty() {
        return None;
    }
    let kubernetes = connection(world, desired, seen, &needs).await;
    let all_verbs = match &kubernetes {
        Some(kubernetes) => may_do_everything(world, desired, kubernetes, &needs, freshness).await,
        None => true,
    };
    let answers = join_all(needs.iter().map(|need| {
        let kubernetes = kubernetes.as_ref().filter(|_| !all_verbs);
        lacks(world, desired, kubernetes, need, freshness)
    }))
    .await;
    let (mut lacking, mut requests) = (Vec::new(), Vec::new());
    for (need, answer) in needs.into_iter().zip(answers) {
        if let Some(request) = answer {
            lacking.push(need);
            if !request.is_empty() && !requests.contains(&request) {
                requests.push(request);
            }
        }
    }
    if lacking.is_empty() {
        return None;
    }
    Some(Missing {
        caller: world.azure().caller().await.ok(),
        needs: lacking,
        principal: grant::reader(&desired.access.identity, seen).map(|reader| reader.principal.0),
        skipped: skipped(seen),
        requests,
        waited: None,
    })
}

/// The connection, if some need is about the cluster's API and it can be had.
async fn connection(
    world: &World,
    desired: &Desired,
    seen: &Observation,
    needs: &[Need],
) -> Option<Kubernetes> {
    if !needs.iter().any(|need| matches!(need.right, Wanted::Verb(_))) {
        return None;
    }
    let cluster = match seen.cluster.present() {
        Some(cluster) => cluster.clone(),
        None => world.cluster(&desired.cluster, Freshness::Shared).await.ok()??,
    };
    let connected = world.kubernetes(&cluster, &desired.connection).await;
    connected.ok().map(|connected| connected.kubernetes)
}

/// One question in place of many: an administrator may do everything.
async fn may_do_everything(
    world: &World,
    desired: &Desired,
    kubernetes: &Kubernetes,
    needs: &[Need],
    freshness: Freshness,
) -> bool {
    let beyond = |need: &Need| matches!(&need.right, Wanted::Verb(right) if right.namespace.is_none());
    let everything = Right {
        verb: "*",
        kind: None,
        namespace: match needs.iter().any(beyond) {
            true => None,
            false => Some(desired.namespace.clone()),
        },
    };
    let many = needs
        .iter()
        .filter(|need| matches!(need.right, Wanted::Verb(_)))
        .count()
        > 1;
    let answer = world.may(&desired.cluster, kubernetes, &everything, freshness);
    many && answer.await.unwrap_or(false)
}

/// The ID of the request that told so, if a right is certainly missing.
async fn lacks(
    world: &World,
    desired: &Desired,
    kubernetes: Option<&Kubernetes>,
    need: &Need,
    freshness: Freshness,
) -> Option<String> {
    match &need.right {
        // The refusal itself has told.
        Wanted::Action { .. } if need.purpose == Purpose::Look => Some(String::new()),
        Wanted::Action { action, scope } => {
            let known = world.permissions(scope, Freshness::Shared).await;
            let permissions = match known {
                Ok(permissions) if !permissions.allow(action) && freshness == Freshness::Fresh => {
                    world.permissions(scope, Freshness::Fresh).await
                }
                known => known,
            };
            let permissions: azure::Permissions = permissions.ok()?;
            (!permissions.allow(action)).then(|| permissions.request_id.unwrap_or_default())
        }
        Wanted::Verb(right) => {
            let allowed = world.may(&desired.cluster, kubernetes?, right, freshness).await;
            (allowed.ok() == Some(false)).then(String::new)
        }
    }
}

/// What could not be looked at for want of a right, and is not needed.
fn skipped(seen: &Observation) -> Vec<String> {
    let refused = seen.certificates.values().any(Seen::is_refused);
    let certificates = refused.then(|| READ_CERTIFICATE.to_owned());
    certificates.into_iter().collect()
}
