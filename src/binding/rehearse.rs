//! Sends what apply would send, as a dry run, so that a plan can tell what the cluster would refuse.
//!
//! A courtesy: it takes a few seconds at most, changes nothing, and whatever stands in its way (a right that a planner
//! does not have, a namespace or kind that is still to come, a webhook that cannot be asked without effect) just means
//! that nothing is said.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::desired::Desired;
use super::execute::is_reconciler;
use super::world::World;
use crate::azure::Cluster;
use crate::k8s::{Error, Kubernetes, ObjectRef};

/// All of it together.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the cluster would refuse of these objects, and why.
pub async fn rehearse(
    world: &World,
    desired: &Desired,
    cluster: &Cluster,
    objects: &[(ObjectRef, Value)],
) -> Vec<(ObjectRef, Error)> {
    let rehearsal = async {
        let Ok(connected) = world.kubernetes(cluster, &desired.connection).await else {
            return Vec::new();
        };
        let kubernetes = &connected.kubernetes;
        let tries = objects.iter().map(async |(object, manifest)| {
            let refusal = refusal(kubernetes, desired, object, manifest).await?;
            Some((object.clone(), refusal))
        });
        join_all(tries).await.into_iter().flatten().collect()
    };
    tokio::time::timeout(PATIENCE, rehearsal)
        .await
        .unwrap_or_default()
}

async fn refusal(
    kubernetes: &Kubernetes,
    desired: &Desired,
    object: &ObjectRef,
    manifest: &Value,
) -> Option<Error> {
    let mut answer = kubernetes
        .apply(object, manifest, desired.force_conflicts, true)
        .await;
    if let Err(Error::Conflict { managers, .. }) = &answer {
        // As apply does: what people hold is taken back.
        if managers.iter().any(|(manager, _)| is_reconciler(manager)) {
            return answer.err();
        }
        answer = kubernetes.apply(object, manifest, true, true).await;
    }
    answer.err().filter(is_about_the_object)
}

fn is_about_the_object(error: &Error) -> bool {
    match error {
        Error::Invalid { message, .. } => !message.contains("does not support dry run"),
        _ => false,
    }
}
