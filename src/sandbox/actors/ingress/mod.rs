//! The ingress controller: serves what Ingress objects of its class say, with the Secrets they name.

mod plan;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Cluster;
use super::cache::Topic;
use super::client::{ApiError, Client};
use super::edge::{Edge, Profile, is_ip};
use super::events::Recorder;
use super::kinds::Kind;
use super::objects::{at, int, is_covered, is_deleting, key, list, namespace, text, uid};
use super::pulse::{Actor, Next, Outcome};

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// How long an update of Application Gateway takes beyond a controller that reloads itself.
const APPLICATION_GATEWAY_UPDATE: Duration = Duration::from_secs(20);
const CLASS: &str = "kubernetes.io/ingress.class";

/// The controller behind one edge.
pub(super) struct Ingresses {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    events: Recorder,
    edge: Arc<Edge>,
    /// Whether its class has been installed; if somebody deletes it later, it stays away.
    installed: bool,
    /// When a changed plan takes effect.
    due: Option<OffsetDateTime>,
    /// Generation of each Ingress that was last told about, by UID.
    told: HashMap<String, i64>,
}

impl Actor for Ingresses {
    const NAME: &'static str = "ingress";
    const TOPICS: &'static [Topic] = &[
        Topic::Objects(Kind::Ingress),
        Topic::Objects(Kind::IngressClass),
        Topic::Objects(Kind::Secret),
        Topic::Objects(Kind::Service),
        Topic::Objects(Kind::EndpointSlice),
        Topic::Edges,
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        self.install_class().await?;
        let ingresses = self.claimed();
        let plan = plan::of(&self.cluster.cache, self.edge.profile, &ingresses);
        let now = self.cluster.clock.now();
        if self.edge.served().plan == plan {
            self.due = None;
        } else {
            let lag = self.edge.settings.borrow().reload_lag;
            let own = match self.edge.profile {
                Profile::Agic => APPLICATION_GATEWAY_UPDATE,
                _ => Duration::ZERO,
            };
            let lag = lag.unwrap_or_else(|| self.cluster.lags.get("edge_reload") + own);
            let due = *self.due.get_or_insert(now + lag);
            if due > now {
                let name = self.edge.name.clone();
                outcome.next.at(due, || format!("edge {name} reloads"));
                return outcome.finish();
            }
            self.due = None;
            self.edge.reload(&self.cluster, plan);
        }
        for ingress in &ingresses {
            let result = self.tell(ingress).await;
            outcome.note(result);
        }
        outcome.finish()
    }
}

impl Ingresses {
    /// `objects` are the world's own: a class among them is not installed a second time.
    pub(super) fn new(
        cluster: Arc<Cluster>,
        client: Arc<Client>,
        edge: Arc<Edge>,
        objects: &[Value],
    ) -> Self {
        let events = Recorder::new(
            Arc::clone(&client),
            cluster.clock.clone(),
            match edge.profile {
                Profile::Nginx | Profile::Envoy => "nginx-ingress-controller",
                Profile::Traefik => "traefik",
                Profile::Agic => "azure/application-gateway",
            },
            None,
        );
        Self {
            cluster,
            client,
            events,
            installed: objects.iter().any(|object| {
                text(object, "/kind") == "IngressClass" && text(object, "/metadata/name") == edge.class
            }),
            edge,
            due: None,
            told: HashMap::new(),
        }
    }

    async fn install_class(&mut self) -> Result<(), ApiError> {
        if self.installed || self.edge.class.is_empty() {
            return Ok(());
        }
        if self
            .cluster
            .cache
            .get(Kind::IngressClass, "", &self.edge.class)
            .is_none()
        {
            let mut class =
                json!({"metadata": {"name": self.edge.class}, "spec": {"controller": self.edge.controller}});
            if self.edge.is_default {
                class["metadata"]["annotations"] = json!({IS_DEFAULT: "true"});
            }
            match self.client.create(Kind::IngressClass, "", class).await {
                Err(error) if error.is_conflict() => {}
                other => drop(other?),
            }
        }
        self.installed = true;
        Ok(())
    }

    /// The Ingresses of this controller's classes, oldest first.
    fn claimed(&self) -> Vec<Arc<Value>> {
        let classes = self.cluster.cache.all(Kind::IngressClass);
        let ours: BTreeSet<_> = classes
            .iter()
            .filter(|class| text(class, "/spec/controller") == self.edge.controller)
            .map(|class| text(class, "/metadata/name"))
            .collect();
        let mut ingresses = self.cluster.cache.all(Kind::Ingress);
        ingresses.retain(|ingress| {
            let class = match text(ingress, "/spec/ingressClassName") {
                "" => at(ingress, "/metadata/annotations")[CLASS]
                    .as_str()
                    .unwrap_or_default(),
                class => class,
            };
            ours.contains(class) && !is_deleting(ingress)
        });
        ingresses.sort_by_key(|ingress| {
            (
                text(ingress, "/metadata/creationTimestamp").to_owned(),
                key(ingress),
            )
        });
        ingresses
    }

    /// Writes the address into an Ingress's status, and that it was taken up.
    async fn tell(&mut self, ingress: &Value) -> Result<(), ApiError> {
        let generation = int(ingress, "/metadata/generation").unwrap_or(0);
        if self.edge.profile == Profile::Agic {
            self.miss_secrets(ingress).await?;
        }
        if self.told.get(uid(ingress)) != Some(&generation) {
            if self.edge.profile == Profile::Nginx {
                self.events
                    .normal(Kind::Ingress, ingress, "Sync", "Scheduled for sync")
                    .await?;
                let words = format!("\"Scheduled for sync\" ingress={:?}", key(ingress));
                self.edge.say(&self.cluster, &words);
            }
            self.told.insert(uid(ingress).to_owned(), generation);
        }
        let publish = self.edge.settings.borrow().publish_address;
        let wanted = if publish {
            let kind = if is_ip(&self.edge.address) {
                "ip"
            } else {
                "hostname"
            };
            json!([{kind: self.edge.address}])
        } else {
            Value::Null
        };
        let known = list(ingress, "/status/loadBalancer/ingress");
        let same = match &wanted {
            Value::Array(wanted) => {
                wanted.len() == known.len()
                    && wanted
                        .iter()
                        .zip(known)
                        .all(|(wanted, known)| is_covered(known, wanted))
            }
            _ => known.is_empty(),
        };
        if !same {
            let patch = json!({"status": {"loadBalancer": {"ingress": wanted}}});
            self.client.merge_status(Kind::Ingress, ingress, &patch).await?;
        }
        Ok(())
    }

    /// Application Gateway builds no listener without a certificate, and says so.
    async fn miss_secrets(&self, ingress: &Value) -> Result<(), ApiError> {
        for entry in list(ingress, "/spec/tls") {
            let (space, secret) = (namespace(ingress), text(entry, "/secretName"));
            if secret.is_empty() || self.cluster.cache.get(Kind::Secret, space, secret).is_some() {
                continue;
            }
            let message = format!("Unable to find the secret associated to secretId: [{space}/{secret}]");
            self.events
                .warning(Kind::Ingress, ingress, "SecretNotFound", &message)
                .await?;
        }
        Ok(())
    }
}
