//! What a real controller manager still has to do, judged by the cluster's objects. Pure.
//!
//! It takes the place of this folder's controllers, and nobody can ask it whether it is busy. So the same objects that
//! wake it are compared with what it leaves behind when it is done. What it cannot do yet (a pod that does not come up,
//! content that waits for somebody's finalizer) is not awaited.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::daemon_sets::takes;
use super::deployments::{count, number, revision};
use super::garbage::{FOREGROUND, KINDS, ORPHAN};
use super::replica_sets::{is_active, ready_since};
use super::rollout::Strategy;
use crate::sandbox::actors::cache::Cache;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    at, condition, controller_uid, entries, flag, has_finalizer, includes, int, is_deleting, key, list, name,
    namespace, owners, text, uid,
};

/// The first thing that is not done, in words.
pub(in crate::sandbox::actors) fn awaited(cache: &Cache) -> Option<String> {
    let mut pods: BTreeMap<String, Vec<Arc<Value>>> = BTreeMap::new();
    for pod in cache.all(Kind::Pod) {
        pods.entry(controller_uid(&pod).to_owned()).or_default().push(pod);
    }
    let of = |owner: &Value| pods.get(uid(owner)).map_or(&[][..], Vec::as_slice);
    let first = |kind: Kind, is_behind: &dyn Fn(&Value) -> bool| {
        let all = cache.all(kind);
        let behind = all.iter().find(|object| is_behind(object));
        behind.map(|object| format!("kube-controller-manager: {} {}", kind.place().plural, key(object)))
    };
    let sets = cache.all(Kind::ReplicaSet);
    let nodes = cache.all(Kind::Node);
    first(Kind::Namespace, &|space| namespace_is_behind(cache, space))
        .or_else(|| first(Kind::ReplicaSet, &|set| replica_set_is_behind(set, of(set))))
        .or_else(|| {
            first(Kind::Deployment, &|deployment| {
                deployment_is_behind(deployment, &sets)
            })
        })
        .or_else(|| first(Kind::DaemonSet, &|set| daemon_set_is_behind(set, of(set), &nodes)))
        .or_else(|| first(Kind::Service, &|service| service_is_behind(cache, service)))
        .or_else(|| garbage(cache))
}

fn namespace_is_behind(cache: &Cache, space: &Value) -> bool {
    if !is_deleting(space) {
        let has = |kind, wanted| cache.get(kind, name(space), wanted).is_some();
        return !has(Kind::ServiceAccount, "default") || !has(Kind::ConfigMap, "kube-root-ca.crt");
    }
    let lingers = |kind: Kind| {
        let within = cache.within(kind, name(space));
        let waits = |object: &Arc<Value>| {
            is_deleting(object) && (kind == Kind::Pod || !list(object, "/metadata/finalizers").is_empty())
        };
        within.iter().any(waits)
    };
    !Kind::ALL.into_iter().any(lingers)
}

fn replica_set_is_behind(set: &Value, pods: &[Arc<Value>]) -> bool {
    let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).collect();
    let ready = active.iter().filter(|pod| ready_since(pod).is_some()).count();
    let wanted = number(set, "/spec/replicas");
    let refused = active.len() < wanted && condition(set, "ReplicaFailure").is_some();
    let sized = is_deleting(set) || active.len() == wanted || refused;
    !sized
        || !observed(set)
        || number(set, "/status/replicas") != active.len()
        || number(set, "/status/readyReplicas") != ready
}

fn deployment_is_behind(deployment: &Value, sets: &[Arc<Value>]) -> bool {
    if is_deleting(deployment) {
        return false;
    }
    let mut old: Vec<_> = sets
        .iter()
        .filter(|set| controller_uid(set) == uid(deployment) && !is_deleting(set))
        .collect();
    old.sort_by_key(|set| revision(set));
    let sum = |pointer: &str| old.iter().map(|set| number(set, pointer)).sum::<usize>();
    let reported = ["replicas", "readyReplicas", "availableReplicas"]
        .iter()
        .all(|member| {
            let pointer = format!("/status/{member}");
            number(deployment, &pointer) == sum(&pointer)
        });
    let Some(new) = old.pop() else { return true };
    let sized = flag(deployment, "/spec/paused") || {
        let counts: Vec<_> = old.iter().map(|set| count(set)).collect();
        let sizes = old.iter().map(|set| count(set).wanted).collect();
        Strategy::of(deployment).step(count(new), &counts) == (count(new).wanted, sizes)
    };
    !sized
        || !reported
        || !observed(deployment)
        || number(deployment, "/status/updatedReplicas") != count(new).present
}

fn daemon_set_is_behind(set: &Value, pods: &[Arc<Value>], nodes: &[Arc<Value>]) -> bool {
    let wanted = nodes.iter().filter(|node| takes(node, set)).count();
    let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).collect();
    let ready = active.iter().filter(|pod| ready_since(pod).is_some()).count();
    let updated = number(set, "/status/updatedNumberScheduled");
    !is_deleting(set)
        && (!observed(set)
            || active.len() != wanted
            || number(set, "/status/desiredNumberScheduled") != wanted
            || number(set, "/status/numberReady") != ready
            || ready == wanted && updated != wanted)
}

/// Whether the endpoints of a Service are not the pods that it selects.
fn service_is_behind(cache: &Cache, service: &Value) -> bool {
    if is_deleting(service) || entries(service, "/spec/selector").next().is_none() {
        return false;
    }
    let slices = cache.within(Kind::EndpointSlice, namespace(service));
    let mine = slices
        .iter()
        .filter(|slice| at(slice, "/metadata/labels")["kubernetes.io/service-name"] == name(service));
    let mut found = BTreeSet::new();
    let mut any = false;
    for slice in mine {
        any = true;
        for endpoint in list(slice, "/endpoints") {
            let pod = text(endpoint, "/targetRef/uid").to_owned();
            found.insert((pod, flag(endpoint, "/conditions/ready")));
        }
    }
    let pods = cache.within(Kind::Pod, namespace(service));
    let selected = pods.iter().filter(|pod| {
        includes(at(pod, "/metadata/labels"), at(service, "/spec/selector"))
            && !text(pod, "/status/podIP").is_empty()
            && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
    });
    let selected: BTreeSet<_> = selected
        .map(|pod| {
            (
                uid(pod).to_owned(),
                ready_since(pod).is_some() && !is_deleting(pod),
            )
        })
        .collect();
    !any || found != selected
}

/// What belongs to nobody, and owners that have nothing to wait for. Kinds that a definition has brought are left out:
/// the collector looks for those every thirty seconds only.
fn garbage(cache: &Cache) -> Option<String> {
    let objects: Vec<_> = KINDS
        .into_iter()
        .filter(|kind| !kind.is_custom())
        .flat_map(|kind| cache.all(kind).into_iter().map(move |object| (kind, object)))
        .collect();
    let alive: HashSet<_> = objects.iter().map(|(_, object)| uid(object)).collect();
    let is_gone = |owner: &Value| {
        let kind = Kind::named(text(owner, "/apiVersion"), text(owner, "/kind"));
        kind.is_some_and(|kind| KINDS.contains(&kind) && !kind.is_custom())
            && !alive.contains(text(owner, "/uid"))
    };
    let is_behind = |object: &Value| {
        if !is_deleting(object) {
            return !owners(object).is_empty() && owners(object).iter().all(is_gone);
        }
        let mut dependents = objects.iter().filter_map(|(_, dependent)| {
            let reference = owners(dependent)
                .iter()
                .find(|owner| text(owner, "/uid") == uid(object))?;
            Some((dependent, flag(reference, "/blockOwnerDeletion")))
        });
        has_finalizer(object, ORPHAN)
            || has_finalizer(object, FOREGROUND)
                && !dependents.any(|(dependent, blocks)| blocks && is_deleting(dependent))
    };
    let behind = objects.iter().find(|(_, object)| is_behind(object));
    behind.map(|(kind, object)| {
        format!(
            "kube-controller-manager: {} {}, garbage",
            kind.place().plural,
            key(object)
        )
    })
}

fn observed(object: &Value) -> bool {
    int(object, "/status/observedGeneration") == int(object, "/metadata/generation")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::actors::cache::Bell;
    use serde_json::json;

    fn cache(objects: &[(Kind, Value)]) -> Cache {
        let cache = Cache::new(Arc::new(Bell::new()));
        for (index, (kind, object)) in objects.iter().enumerate() {
            let mut object = object.clone();
            object["metadata"]["resourceVersion"] = (index + 1).to_string().into();
            cache.observe(*kind, object);
        }
        cache
    }

    fn behind(objects: &[(Kind, Value)]) -> String {
        awaited(&cache(objects)).unwrap_or_default()
    }

    fn owned(by: &str) -> Value {
        json!([{"apiVersion": "apps/v1", "kind": by, "name": "web", "uid": by, "controller": true, "blockOwnerDeletion": true}])
    }

    fn replica_set(replicas: u64, ready: u64) -> (Kind, Value) {
        let set = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "ReplicaSet", "generation": 1, "ownerReferences": owned("Deployment")},
            "spec": {"replicas": replicas},
            "status": {"observedGeneration": 1, "replicas": replicas, "readyReplicas": ready, "availableReplicas": ready},
        });
        (Kind::ReplicaSet, set)
    }

    fn deployment(generation: u64, ready: u64) -> (Kind, Value) {
        let deployment = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "Deployment", "generation": generation},
            "spec": {"replicas": 1},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready, "availableReplicas": ready},
        });
        (Kind::Deployment, deployment)
    }

    fn pod(ready: bool) -> (Kind, Value) {
        let conditions = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let pod = json!({
            "metadata": {"name": "web-1", "namespace": "a", "uid": "Pod", "labels": {"app": "web"}, "ownerReferences": owned("ReplicaSet")},
            "status": {"podIP": "10.244.0.4", "conditions": conditions},
        });
        (Kind::Pod, pod)
    }

    #[test]
    fn a_pod_that_does_not_come_up_is_not_awaited() {
        assert_eq!(behind(&[deployment(1, 0), replica_set(1, 0), pod(false)]), "");
    }

    #[test]
    fn every_step_of_a_rollout_is_awaited() {
        let words = |plural: &str| format!("kube-controller-manager: {plural} a/web");
        assert_eq!(
            behind(&[deployment(2, 1), replica_set(1, 1), pod(true)]),
            words("deployments")
        );
        assert_eq!(behind(&[deployment(1, 0)]), words("deployments"));
        assert_eq!(
            behind(&[deployment(1, 0), replica_set(1, 0)]),
            words("replicasets")
        );
        assert_eq!(
            behind(&[deployment(1, 0), replica_set(1, 0), pod(true)]),
            words("replicasets")
        );
        assert_eq!(
            behind(&[deployment(1, 0), replica_set(1, 1), pod(true)]),
            words("deployments")
        );
        assert_eq!(behind(&[deployment(1, 1), replica_set(1, 1), pod(true)]), "");
    }

    #[test]
    fn what_a_deleted_owner_leaves_is_awaited() {
        let words = "kube-controller-manager: replicasets a/web, garbage";
        assert_eq!(behind(&[replica_set(1, 1), pod(true)]), words);
    }

    #[test]
    fn a_namespace_is_awaited_until_it_is_furnished_and_until_it_has_ended() {
        let words = "kube-controller-manager: namespaces a";
        let mut space = json!({"metadata": {"name": "a", "uid": "Namespace"}});
        assert_eq!(behind(&[(Kind::Namespace, space.clone())]), words);
        space["metadata"]["deletionTimestamp"] = "2026-11-30T00:00:00Z".into();
        assert_eq!(behind(&[(Kind::Namespace, space.clone())]), words);
        let (kind, mut ending) = pod(true);
        ending["metadata"]["deletionTimestamp"] = "2026-11-30T00:00:00Z".into();
        ending["metadata"]["ownerReferences"] = Value::Null;
        assert_eq!(behind(&[(Kind::Namespace, space), (kind, ending)]), "");
    }

    #[test]
    fn the_endpoints_of_a_service_are_awaited() {
        let service = json!({"metadata": {"name": "web", "namespace": "a", "uid": "Service"}, "spec": {"selector": {"app": "web"}}});
        let slice = |ready: bool| {
            let endpoint = json!({"conditions": {"ready": ready}, "targetRef": {"uid": "Pod"}});
            let slice = json!({
                "metadata": {"name": "web-x", "namespace": "a", "uid": "Slice", "labels": {"kubernetes.io/service-name": "web"}},
                "endpoints": [endpoint],
            });
            (Kind::EndpointSlice, slice)
        };
        let all = [
            deployment(1, 1),
            replica_set(1, 1),
            pod(true),
            (Kind::Service, service),
        ];
        let words = "kube-controller-manager: services a/web";
        assert_eq!(behind(&all), words);
        assert_eq!(behind(&[&all[..], &[slice(false)]].concat()), words);
        assert_eq!(behind(&[&all[..], &[slice(true)]].concat()), "");
    }
}
