//! Rollouts, ownership, and the edge's own life.

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{HOST, Rig};
use super::{DEPLOYMENTS, PODS, SECRETS, with_binding};

const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

fn plain(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image, "ports": [{"containerPort": 80}]}]}}},
    })
}

fn condition(object: &Value, kind: &str) -> (String, String) {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default();
    let text = |member: &str| found[member].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[tokio::test]
async fn a_changed_template_is_rolled_out_and_the_secret_follows_its_owners() {
    let rig = with_binding().await;
    let first = rig.items(SETS).await[0]["metadata"]["name"].clone();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"kvtls/hash": "2"}}}}});
    rig.call(Method::PATCH, &format!("{DEPLOYMENTS}/holder"), Some(&patch))
        .await;
    rig.settle().await;
    rig.advance(1).await;
    let sets = rig.items(SETS).await;
    assert_eq!(sets.len(), 2);
    for set in &sets {
        let expected = i32::from(set["metadata"]["name"] != first);
        assert_eq!(set["spec"]["replicas"], expected);
    }
    let deployment = rig.get(&format!("{DEPLOYMENTS}/holder")).await;
    assert_eq!(
        deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "2"
    );
    assert_eq!(
        deployment["status"]["observedGeneration"],
        deployment["metadata"]["generation"]
    );
    assert_eq!(
        condition(&deployment, "Progressing"),
        ("True".into(), "NewReplicaSetAvailable".into())
    );
    let secret = rig.get(&format!("{SECRETS}/ingress-tls")).await;
    assert_eq!(secret["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
    assert_eq!(rig.items(PODS).await.len(), 1);
}

#[tokio::test]
async fn a_rollout_that_does_not_move_runs_out_of_time() {
    let rig = Rig::start().await;
    rig.create(DEPLOYMENTS, plain("nginx:1.29")).await;
    rig.settle().await;
    let deployment = rig.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(deployment["status"]["availableReplicas"], 3);
    assert_eq!(
        condition(&deployment, "Available"),
        ("True".into(), "MinimumReplicasAvailable".into())
    );
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "registry.invalid/web:2"}]}}}});
    rig.call(Method::PATCH, &format!("{DEPLOYMENTS}/web"), Some(&patch))
        .await;
    rig.settle().await;
    let pods = rig.items(PODS).await;
    let waiting: Vec<_> = pods
        .iter()
        .filter_map(|pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str())
        .collect();
    assert_eq!(waiting, ["ImagePullBackOff"], "three stay, one more is tried");
    rig.advance(610).await;
    let deployment = rig.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(
        condition(&deployment, "Progressing"),
        ("False".into(), "ProgressDeadlineExceeded".into())
    );
    assert_eq!(deployment["status"]["availableReplicas"], 3);
}

#[tokio::test]
async fn foreground_deletion_waits_for_the_dependents() {
    let rig = Rig::start().await;
    rig.create(DEPLOYMENTS, plain("nginx:1.29")).await;
    rig.settle().await;
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"});
    rig.call(Method::DELETE, &format!("{DEPLOYMENTS}/web"), Some(&options))
        .await;
    assert_ne!(rig.get(&format!("{DEPLOYMENTS}/web")).await, Value::Null);
    // The Deployment is the last to go: whoever sees it gone sees no pod.
    while rig.get(&format!("{DEPLOYMENTS}/web")).await != Value::Null {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.items(SETS).await, Vec::<Value>::new());
    assert_eq!(rig.items(PODS).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_missing_service_account_is_a_replica_failure_that_heals() {
    let rig = Rig::start().await;
    let mut deployment = plain("nginx:1.29");
    deployment["spec"]["template"]["spec"]["serviceAccountName"] = "web".into();
    rig.create(DEPLOYMENTS, deployment).await;
    rig.settle().await;
    let deployment = rig.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(
        condition(&deployment, "ReplicaFailure"),
        ("True".into(), "FailedCreate".into())
    );
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web", "namespace": "default"}});
    rig.create("/api/v1/namespaces/default/serviceaccounts", account)
        .await;
    rig.advance(60).await;
    let deployment = rig.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(deployment["status"]["availableReplicas"], 3);
    assert_eq!(
        condition(&deployment, "ReplicaFailure"),
        (String::new(), String::new())
    );
}

#[tokio::test]
async fn the_actors_survive_a_compacted_store() {
    let rig = Rig::start().await;
    rig.compact();
    rig.create(DEPLOYMENTS, plain("nginx:1.29")).await;
    rig.settle().await;
    assert_eq!(
        rig.get(&format!("{DEPLOYMENTS}/web")).await["status"]["availableReplicas"],
        3
    );
}

#[tokio::test]
async fn an_edge_redirects_plain_requests_and_refuses_all_when_unreachable() {
    let rig = with_binding().await;
    let socket = rig.edges.by_host(HOST).unwrap();
    let mut stream = TcpStream::connect(socket).await.unwrap();
    let request = format!("GET /a?b=c HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(
        answer.contains(&format!("location: https://{HOST}/a?b=c")),
        "{answer}"
    );
    rig.edges.patch("nginx", &json!({"reachable": false})).unwrap();
    let mut refused = false;
    for _ in 0..1000 {
        refused = TcpStream::connect(socket).await.is_err();
        if refused {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(refused);
    rig.edges
        .patch(
            "myAKSCluster/nginx",
            &json!({"reachable": true, "publish_address": false}),
        )
        .unwrap();
    rig.settle().await;
    let mut served = false;
    for _ in 0..1000 {
        served = TcpStream::connect(socket).await.is_ok();
        if served {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(served);
    let ingress = rig
        .get("/apis/networking.k8s.io/v1/namespaces/default/ingresses/app")
        .await;
    assert_eq!(ingress["status"]["loadBalancer"]["ingress"], Value::Null);
    assert!(rig.edges.patch("nginx", &json!({"class": "x"})).is_err());
}
