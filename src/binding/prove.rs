//! Proves what an edge serves: dials it where a practitioner's clients would, or its pods, and compares the leaf.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::Value;
use tokio::time::Instant;

use super::controllers::{self, Pods};
use super::desired::{Desired, ReadSecret, Verify, VerifyLevel, Via};
use super::error::{Cause, kubernetes_said};
use super::execute::{Done, Executor};
use super::gateway;
use super::observation::Seen;
use super::observe::{default_class, dialled, published_address};
use super::step::Awaited;
use crate::k8s::edge::{Endpoint, Served, handshake, handshake_over};
use crate::k8s::{GATEWAY, INGRESS_CLASS, Kubernetes, ObjectRef, POD};

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(5);

/// How many hosts or objects are asked for at the same time.
const TOGETHER: usize = 8;

/// Where to look.
enum Dial {
    /// At an address.
    Address(Endpoint),
    /// At each host's own address, as DNS says.
    Dns,
    /// In a pod of the controller.
    Pod(ObjectRef, u16),
}

impl Dial {
    fn shown(&self, host: &str) -> String {
        match self {
            Self::Address(endpoint) => format!("{}:{}", endpoint.address, endpoint.port),
            Self::Dns => format!("{}:443", dialled(host)),
            Self::Pod(pod, port) => format!("port {port} of {pod}"),
        }
    }
}

impl Executor<'_> {
    /// Waits until the edge of `edge`, an Ingress or a Gateway, serves the awaited leaf for every host. What a Gateway's
    /// controller says against it explains a failure, and is told beside a success.
    pub(super) async fn await_served(
        &self,
        edge: &ObjectRef,
        hosts: &[(String, Awaited)],
        done: &mut Done,
    ) -> Result<(), Cause> {
        let Some(desired) = self.desired else {
            return Ok(());
        };
        let kubernetes = self.kubernetes().await?;
        let mut all_seen = true;
        let verdict = self
            .prove(&kubernetes, desired, edge, hosts, done, &mut all_seen)
            .await;
        if edge.kind != GATEWAY {
            return verdict;
        }
        let problems = self.problems(&kubernetes, desired, edge).await;
        let unseen = match &verdict {
            Ok(()) => !all_seen,
            Err(cause) => matches!(cause, Cause::EdgeUnreachable { .. }),
        };
        // A backend that is missing keeps no certificate from being served.
        if unseen && problems.iter().any(|problem| problem.concerns_tls) {
            return Err(Cause::EdgeRefuses {
                edge: edge.clone(),
                problems,
            });
        }
        done.problems = problems;
        verdict
    }

    async fn prove(
        &self,
        kubernetes: &Kubernetes,
        desired: &Desired,
        edge: &ObjectRef,
        hosts: &[(String, Awaited)],
        done: &mut Done,
        all_seen: &mut bool,
    ) -> Result<(), Cause> {
        let deadline = Instant::now() + desired.verify.timeout;
        let dial = match where_to_look(kubernetes, &desired.verify, edge, deadline).await? {
            Ok(dial) => dial,
            Err(reason) => {
                *all_seen = false;
                for (host, awaited) in hosts {
                    remember(
                        done,
                        host,
                        Seen::NotSeen(reason.clone().into()),
                        awaited.thumbprint.as_deref(),
                    );
                }
                let host = hosts.first().map(|(host, _)| host.as_str()).unwrap_or_default();
                return judge_unreachable(desired, host, &reason);
            }
        };
        for hosts in hosts.chunks(TOGETHER) {
            let looks = hosts
                .iter()
                .map(|(host, awaited)| self.await_host(kubernetes, desired, &dial, host, awaited, deadline));
            for ((host, _), looked) in hosts.iter().zip(join_all(looks).await) {
                let (wanted, seen) = looked?;
                let wanted = wanted.as_deref();
                let verdict = match &seen {
                    Seen::Known(served) => judge_leaf(&dial, host, wanted, served),
                    Seen::NotSeen(unseen) => {
                        *all_seen = false;
                        let reason = self
                            .explained(kubernetes, desired, edge, host, wanted, &unseen.why)
                            .await?;
                        remember(done, host, Seen::NotSeen(reason.clone().into()), wanted);
                        judge_unreachable(desired, host, &reason)?;
                        continue;
                    }
                    Seen::NotAsked => Ok(()),
                };
                remember(done, host, seen, wanted);
                verdict?;
            }
        }
        Ok(())
    }

    /// Asks the edge until it returns the wanted leaf, which comes with what was seen. Where the vault could not be read it
    /// is what the Secret holds, and that is looked up again each time, because the Secret may change meanwhile. Without a
    /// single answer, `auto` gives up after a fifth of the time: a runner that cannot reach the edge should not wait for it
    /// at every apply.
    async fn await_host(
        &self,
        kubernetes: &Kubernetes,
        desired: &Desired,
        dial: &Dial,
        host: &str,
        awaited: &Awaited,
        deadline: Instant,
    ) -> Result<(Option<String>, Seen<Served>), Cause> {
        let patience = match desired.verify.level {
            VerifyLevel::Auto => Instant::now() + desired.verify.timeout / 5,
            VerifyLevel::Served | VerifyLevel::Synced | VerifyLevel::None => deadline,
        };
        let mut pause = Duration::from_millis(250);
        loop {
            let seen = match self.look(kubernetes, dial, host).await {
                Ok(served) => Seen::Known(served),
                Err(reason) => Seen::NotSeen(reason.into()),
            };
            let wanted = match &awaited.thumbprint {
                Some(thumbprint) => Some(thumbprint.clone()),
                None => synced_thumbprint(kubernetes, desired, awaited).await?,
            };
            let now = Instant::now();
            let (is_wanted, patience) = match &seen {
                Seen::Known(served) => (
                    wanted
                        .as_deref()
                        .is_none_or(|wanted| served.leaf.thumbprint.to_string() == wanted),
                    deadline,
                ),
                Seen::NotSeen(_) | Seen::NotAsked => (false, patience.min(deadline)),
            };
            if is_wanted || now + pause > patience {
                return Ok((wanted, seen));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(4));
        }
    }

    async fn look(&self, kubernetes: &Kubernetes, dial: &Dial, host: &str) -> Result<Served, String> {
        let name = dialled(host);
        let endpoint = match dial {
            Dial::Address(endpoint) => endpoint.clone(),
            Dial::Dns => Endpoint {
                address: name.clone(),
                port: 443,
            },
            Dial::Pod(pod, port) => {
                let stream = kubernetes
                    .tunnel(pod, *port)
                    .await
                    .map_err(|error| kubernetes_said(&error))?;
                let shown = dial.shown(host);
                let looked = handshake_over(&shown, &name, stream, LOOK).await;
                return looked.map_err(|error| error.to_string());
            }
        };
        let looked = handshake(&endpoint, &name, self.world.proxy(), LOOK).await;
        looked.map_err(|error| error.to_string())
    }

    /// Why an address could not be asked, with what the controller's pod serves, if that can be seen.
    ///
    /// # Errors
    /// If the pod serves another certificate: then it is wrong wherever one asks.
    async fn explained(
        &self,
        kubernetes: &Kubernetes,
        desired: &Desired,
        edge: &ObjectRef,
        host: &str,
        wanted: Option<&str>,
        reason: &str,
    ) -> Result<String, Cause> {
        if desired.verify.via != Via::Auto || desired.verify.endpoint.is_some() {
            return Ok(reason.to_owned());
        }
        let Ok((pod, port)) = find_pod(kubernetes, edge).await else {
            return Ok(reason.to_owned());
        };
        let dial = Dial::Pod(pod, port);
        match self.look(kubernetes, &dial, host).await {
            Ok(served) => {
                judge_leaf(&dial, host, wanted, &served)?;
                Ok(format!(
                    "{reason}; through the API server, {} serves the vault's certificate",
                    dial.shown(host)
                ))
            }
            Err(_) => Ok(reason.to_owned()),
        }
    }

    async fn problems(
        &self,
        kubernetes: &Kubernetes,
        desired: &Desired,
        edge: &ObjectRef,
    ) -> Vec<gateway::Problem> {
        let publisher = kubernetes.get(edge).await.ok().flatten();
        let reads = gateway::objects(desired)
            .into_iter()
            .map(|(object, _)| async move {
                let found = kubernetes.get(&object).await.ok().flatten();
                (object, found)
            });
        let live: Vec<_> = stream::iter(reads).buffered(TOGETHER).collect().await;
        gateway::problems(desired, publisher.as_ref(), &live)
    }
}

/// Of what two edges show for a host, the worse one stays.
fn remember(done: &mut Done, host: &str, seen: Seen<Served>, wanted: Option<&str>) {
    let seen = match done.served.remove(host) {
        Some(before) => worse(before, seen, wanted),
        None => seen,
    };
    done.served.insert(host.to_owned(), seen);
}

/// The worse of two looks: another leaf than the wanted one before none before the wanted one.
pub(super) fn worse(left: Seen<Served>, right: Seen<Served>, wanted: Option<&str>) -> Seen<Served> {
    let rank = |seen: &Seen<Served>| match seen {
        Seen::Known(served) if wanted.is_some_and(|wanted| served.leaf.thumbprint.to_string() != wanted) => 0,
        Seen::NotSeen(_) => 1,
        Seen::Known(_) => 2,
        Seen::NotAsked => 3,
    };
    if rank(&right) < rank(&left) { right } else { left }
}

/// Where to dial: the configured endpoint, DNS, a pod, or the address that the edge publishes, which is waited for.
async fn where_to_look(
    kubernetes: &Kubernetes,
    verify: &Verify,
    edge: &ObjectRef,
    deadline: Instant,
) -> Result<Result<Dial, String>, Cause> {
    if let Some((address, port)) = &verify.endpoint {
        return Ok(Ok(Dial::Address(Endpoint {
            address: address.clone(),
            port: *port,
        })));
    }
    match verify.via {
        Via::Dns => return Ok(Ok(Dial::Dns)),
        Via::Tunnel => {
            return Ok(loop {
                match find_pod(kubernetes, edge).await {
                    Ok((pod, port)) => break Ok(Dial::Pod(pod, port)),
                    Err(reason) if Instant::now() + Duration::from_secs(1) > deadline => break Err(reason),
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            });
        }
        Via::Auto | Via::Address => {}
    }
    let address = |live: &Value| {
        if edge.kind == GATEWAY {
            gateway::published_address(live)
        } else {
            published_address(live)
        }
    };
    let patience = match verify.level {
        // A Gateway's conditions say more than waiting does.
        VerifyLevel::Auto if edge.kind == GATEWAY => Instant::now() + verify.timeout / 5,
        _ => deadline,
    };
    let published = kubernetes.wait(edge, |live| live.and_then(address));
    match tokio::time::timeout_at(patience, published).await {
        Ok(address) => Ok(Ok(Dial::Address(Endpoint {
            address: address?,
            port: 443,
        }))),
        Err(_) => Ok(Err(format!(
            "{edge} has no address, so no controller may serve its class"
        ))),
    }
}

/// A running pod of the controller behind an edge, and its TLS port.
async fn find_pod(kubernetes: &Kubernetes, edge: &ObjectRef) -> Result<(ObjectRef, u16), String> {
    let pods = if edge.kind == GATEWAY {
        controllers::gateway_pods(edge.namespace.as_deref().unwrap_or_default(), &edge.name)
    } else {
        ingress_pods(kubernetes, edge).await?
    };
    let found = kubernetes
        .list(POD, pods.namespace.as_deref(), &pods.selector)
        .await
        .map_err(|error| kubernetes_said(&error))?;
    let running = found.iter().find(|pod| pod["status"]["phase"] == "Running");
    let pod = running.ok_or_else(|| format!("no running pod has the labels {}", pods.selector))?;
    let text = |member: &str| pod["metadata"][member].as_str().unwrap_or_default();
    Ok((POD.named(text("namespace"), text("name")), pods.port))
}

async fn ingress_pods(kubernetes: &Kubernetes, ingress: &ObjectRef) -> Result<Pods, String> {
    let said = |error| kubernetes_said(&error);
    let live = kubernetes.get(ingress).await.map_err(said)?.unwrap_or_default();
    let class = match live["spec"]["ingressClassName"].as_str() {
        Some(class) => kubernetes
            .get(&INGRESS_CLASS.named("", class))
            .await
            .map_err(said)?,
        None => default_class(kubernetes).await.map_err(said)?,
    };
    let class = class.ok_or_else(|| format!("{ingress} has no class that exists"))?;
    let controller = class["spec"]["controller"].as_str().unwrap_or_default();
    controllers::pods(controller)
        .ok_or_else(|| format!("no pods are known in which controller \"{controller}\" terminates TLS"))
}

async fn synced_thumbprint(
    kubernetes: &Kubernetes,
    desired: &Desired,
    awaited: &Awaited,
) -> Result<Option<String>, Cause> {
    if desired.verify.read_secret == ReadSecret::Never {
        return Ok(None);
    }
    let secret = kubernetes
        .secret_certificate(&desired.namespace, &awaited.secret_name)
        .await?;
    Ok(secret
        .and_then(|secret| secret.leaf)
        .map(|leaf| leaf.thumbprint.to_string()))
}

fn judge_leaf(dial: &Dial, host: &str, wanted: Option<&str>, served: &Served) -> Result<(), Cause> {
    let thumbprint = served.leaf.thumbprint.to_string();
    match wanted {
        Some(wanted) if wanted != thumbprint => Err(Cause::WrongCertificate {
            host: host.to_owned(),
            address: dial.shown(host),
            subject: served.leaf.subject.clone(),
            thumbprint,
            wanted: wanted.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn judge_unreachable(desired: &Desired, host: &str, reason: &str) -> Result<(), Cause> {
    if desired.verify.level != VerifyLevel::Served {
        return Ok(());
    }
    Err(Cause::EdgeUnreachable {
        host: host.to_owned(),
        reason: reason.to_owned(),
    })
}
