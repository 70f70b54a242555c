//! What every namespace gets when it starts, and how one ends.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client};
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{is_deleting, list, name, namespace, text};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};

/// How long until content that does not go by itself is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// The namespace controller, with those for default `ServiceAccounts` and root certificates.
pub(in crate::sandbox::actors) struct Namespaces {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
}

impl Actor for Namespaces {
    const NAME: &'static str = "namespaces";
    const TOPICS: &'static [Topic] = &[
        Topic::Objects(Kind::Namespace),
        Topic::Objects(Kind::ServiceAccount),
        Topic::Objects(Kind::ConfigMap),
        // Their last pods keep namespaces from ending.
        Topic::Objects(Kind::Pod),
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        for space in self.cluster.cache.all(Kind::Namespace) {
            let result = if is_deleting(&space) {
                self.end(&space, &mut outcome.next).await
            } else {
                self.furnish(name(&space)).await
            };
            outcome.note(result);
        }
        outcome.finish()
    }
}

impl Namespaces {
    pub(in crate::sandbox::actors) fn new(cluster: Arc<Cluster>, client: Arc<Client>) -> Self {
        Self { cluster, client }
    }

    async fn furnish(&self, space: &str) -> Result<(), ApiError> {
        if self
            .cluster
            .cache
            .get(Kind::ServiceAccount, space, "default")
            .is_none()
        {
            let account = json!({"metadata": {"name": "default", "namespace": space}});
            self.ensure(Kind::ServiceAccount, space, account).await?;
        }
        if self
            .cluster
            .cache
            .get(Kind::ConfigMap, space, "kube-root-ca.crt")
            .is_none()
        {
            let roots = json!({
                "metadata": {"name": "kube-root-ca.crt", "namespace": space, "annotations": {
                    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver \
                        when using internal endpoints such as the internal service IP or kubernetes.default.svc. \
                        No other usage is guaranteed across distributions of Kubernetes clusters."}},
                "data": {"ca.crt": self.cluster.ca_pem},
            });
            self.ensure(Kind::ConfigMap, space, roots).await?;
        }
        Ok(())
    }

    /// Creates; that somebody else already did is fine.
    async fn ensure(&self, kind: Kind, space: &str, object: Value) -> Result<(), ApiError> {
        let wanted = name(&object).to_owned();
        match self.client.create(kind, space, object).await {
            Err(error) if error.is_conflict() => {
                self.client.get(kind, space, &wanted).await?;
                Ok(())
            }
            // The namespace has begun to end; its own event is on its way.
            Err(error) if error.is(403) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Deletes all content; when none is left, lets the namespace go.
    async fn end(&self, space: &Value, next: &mut Next) -> Result<(), ApiError> {
        let mut left = 0;
        for path in self.contents(name(space)).await? {
            let content = match self.client.versions(&path).await {
                Ok(content) => content,
                Err(error) if error.is(404) || error.is(405) => continue,
                Err(error) => return Err(error),
            };
            for object in list(&content, "/items") {
                left += self.remove(&path, object).await?;
            }
        }
        if left > 0 {
            let again = self.cluster.clock.now() + AGAIN;
            next.at(again, || format!("empties namespace {}", name(space)));
            return Ok(());
        }
        let mut ended = space.clone();
        ended["spec"]["finalizers"] = json!([]);
        ended["apiVersion"] = "v1".into();
        ended["kind"] = "Namespace".into();
        let path = format!("{}/finalize", Kind::Namespace.path("", name(space)));
        let content = Some("application/json");
        self.client
            .call(Method::PUT, &path, content, Some(&ended))
            .await?;
        if self.client.get(Kind::Namespace, "", name(space)).await?.is_none() {
            self.cluster.cache.forget(Kind::Namespace, space);
        }
        Ok(())
    }

    /// Deletes one object; 1 if it lingers.
    async fn remove(&self, path: &str, object: &Value) -> Result<usize, ApiError> {
        let path = format!("{path}/{}", name(object));
        if !is_deleting(object) {
            let options =
                json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
            let content = Some("application/json");
            match self
                .client
                .call(Method::DELETE, &path, content, Some(&options))
                .await
            {
                Ok(_) => {}
                Err(error) if error.is_not_found() => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        match self.client.call(Method::GET, &path, None, None).await {
            Ok(object) => Ok(usize::from(!namespace(&object).is_empty())),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The list path of every kind that lives in namespaces, as discovery tells. Pods go first: they take longest.
    async fn contents(&self, space: &str) -> Result<Vec<String>, ApiError> {
        let mut roots = vec!["/api/v1".to_owned()];
        let groups = self.client.call(Method::GET, "/apis", None, None).await?;
        roots.extend(
            list(&groups, "/groups")
                .iter()
                .map(|group| format!("/apis/{}", text(group, "/preferredVersion/groupVersion"))),
        );
        let mut paths = Vec::new();
        for root in roots {
            let resources = self.client.call(Method::GET, &root, None, None).await?;
            for resource in list(&resources, "/resources") {
                let plural = text(resource, "/name");
                let can = |verb: &str| list(resource, "/verbs").iter().any(|have| have == verb);
                if resource["namespaced"] == true && !plural.contains('/') && can("list") && can("delete") {
                    paths.push(format!("{root}/namespaces/{space}/{plural}"));
                }
            }
        }
        paths.sort_by_key(|path| !path.ends_with("/pods"));
        Ok(paths)
    }
}
