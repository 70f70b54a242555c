//! Garbage collection: what belongs to nobody goes. Owners are told by their **UID**: a successor of the same name is
//! somebody else.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client, Delete};
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    flag, has_finalizer, is_deleting, list, name, namespace, owners, text, uid,
};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};

/// An owner that waits for its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// An owner that lets its dependents go.
pub(super) const ORPHAN: &str = "orphan";

/// The kinds that own or are owned here.
pub(super) const KINDS: [Kind; 18] = [
    Kind::Pod,
    Kind::Service,
    Kind::Secret,
    Kind::ConfigMap,
    Kind::ServiceAccount,
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::DaemonSet,
    Kind::Ingress,
    Kind::EndpointSlice,
    Kind::SecretProviderClass,
    Kind::PodStatus,
    Kind::CsiNode,
    Kind::Node,
    Kind::Gateway,
    Kind::HttpRoute,
    Kind::ListenerSet,
    Kind::ReferenceGrant,
];

/// The garbage collector.
pub(in crate::sandbox::actors) struct Garbage {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
}

impl Actor for Garbage {
    const NAME: &'static str = "garbage collector";
    const TOPICS: &'static [Topic] = &[
        Topic::Objects(Kind::Pod),
        Topic::Objects(Kind::Service),
        Topic::Objects(Kind::Secret),
        Topic::Objects(Kind::ConfigMap),
        Topic::Objects(Kind::ServiceAccount),
        Topic::Objects(Kind::Deployment),
        Topic::Objects(Kind::ReplicaSet),
        Topic::Objects(Kind::DaemonSet),
        Topic::Objects(Kind::Ingress),
        Topic::Objects(Kind::EndpointSlice),
        Topic::Objects(Kind::SecretProviderClass),
        Topic::Objects(Kind::PodStatus),
        Topic::Objects(Kind::CsiNode),
        Topic::Objects(Kind::Node),
        Topic::Objects(Kind::Gateway),
        Topic::Objects(Kind::HttpRoute),
        Topic::Objects(Kind::ListenerSet),
        Topic::Objects(Kind::ReferenceGrant),
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        let objects: Vec<_> = KINDS
            .into_iter()
            .flat_map(|kind| {
                self.cluster
                    .cache
                    .all(kind)
                    .into_iter()
                    .map(move |object| (kind, object))
            })
            .collect();
        let alive: HashSet<_> = objects.iter().map(|(_, object)| uid(object)).collect();
        for (kind, object) in &objects {
            if is_deleting(object) {
                if has_finalizer(object, FOREGROUND) {
                    let result = self.foreground(*kind, object, &objects).await;
                    outcome.note(result);
                } else if has_finalizer(object, ORPHAN) {
                    let result = self.orphan(*kind, object, &objects).await;
                    outcome.note(result);
                }
            } else if owners(object)
                .iter()
                .any(|owner| !alive.contains(text(owner, "/uid")))
            {
                let result = self.collect(*kind, object, &alive).await;
                outcome.note(result);
            }
        }
        outcome.finish()
    }
}

impl Garbage {
    pub(in crate::sandbox::actors) fn new(cluster: Arc<Cluster>, client: Arc<Client>) -> Self {
        Self { cluster, client }
    }

    /// Deletes an object all of whose owners are gone; drops the gone ones from an object that has others.
    async fn collect(&self, kind: Kind, object: &Value, alive: &HashSet<&str>) -> Result<(), ApiError> {
        let mut left = Vec::new();
        for owner in owners(object) {
            if alive.contains(text(owner, "/uid")) || self.exists(namespace(object), owner).await? {
                left.push(owner.clone());
            }
        }
        if left.is_empty() {
            return self.client.delete(kind, object, Delete::Graceful).await;
        }
        if left.len() < owners(object).len() {
            let patch = json!({"metadata": {"uid": uid(object), "ownerReferences": left}});
            self.client.merge(kind, object, &patch).await?;
        }
        Ok(())
    }

    /// Asks the API itself before anything is lost. An owner of a kind not known here counts as alive.
    async fn exists(&self, namespace: &str, owner: &Value) -> Result<bool, ApiError> {
        let Some(kind) = Kind::named(text(owner, "/apiVersion"), text(owner, "/kind")) else {
            return Ok(true);
        };
        let space = if kind.place().namespaced { namespace } else { "" };
        let found = self.client.get(kind, space, text(owner, "/name")).await?;
        Ok(found.is_some_and(|found| uid(&found) == text(owner, "/uid")))
    }

    /// Deletes the dependents; the owner may go when none blocks it any more.
    async fn foreground(
        &self,
        kind: Kind,
        owner: &Value,
        objects: &[(Kind, Arc<Value>)],
    ) -> Result<(), ApiError> {
        let mut blocked = false;
        for (kind, object) in objects {
            let Some(reference) = owners(object)
                .iter()
                .find(|reference| text(reference, "/uid") == uid(owner))
            else {
                continue;
            };
            if !is_deleting(object) {
                // What has dependents of its own passes the order on, or the owner would go before its grandchildren.
                let is_owner = |(_, other): &(Kind, Arc<Value>)| {
                    owners(other)
                        .iter()
                        .any(|reference| text(reference, "/uid") == uid(object))
                };
                let how = if objects.iter().any(is_owner) {
                    Delete::Foreground
                } else {
                    Delete::Graceful
                };
                self.client.delete(*kind, object, how).await?;
            }
            let left = self.cluster.cache.get(*kind, namespace(object), name(object));
            let still = left.is_some_and(|left| uid(&left) == uid(object));
            blocked |= still && flag(reference, "/blockOwnerDeletion");
        }
        if blocked {
            return Ok(());
        }
        self.release(kind, owner, FOREGROUND).await
    }

    async fn orphan(
        &self,
        kind: Kind,
        owner: &Value,
        objects: &[(Kind, Arc<Value>)],
    ) -> Result<(), ApiError> {
        for (kind, object) in objects {
            let others: Vec<_> = owners(object)
                .iter()
                .filter(|other| text(other, "/uid") != uid(owner))
                .collect();
            if others.len() < owners(object).len() {
                let patch = json!({"metadata": {"uid": uid(object), "ownerReferences": others}});
                self.client.merge(*kind, object, &patch).await?;
            }
        }
        self.release(kind, owner, ORPHAN).await
    }

    async fn release(&self, kind: Kind, object: &Value, finalizer: &str) -> Result<(), ApiError> {
        let left: Vec<_> = list(object, "/metadata/finalizers")
            .iter()
            .filter(|held| *held != finalizer)
            .collect();
        let patch = json!({"metadata": {"uid": uid(object), "finalizers": left}});
        self.client.merge(kind, object, &patch).await?;
        // With its last finalizer the object itself has gone.
        if left.is_empty()
            && self
                .client
                .get(kind, namespace(object), name(object))
                .await?
                .is_none()
        {
            self.cluster.cache.forget(kind, object);
        }
        Ok(())
    }
}
