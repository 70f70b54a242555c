//! The engine behind a socket: the real kubectl, and port-forwards.

use std::net::SocketAddr;
use std::process::Stdio;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::*;

/// Serves the world on a port of its own, to whoever comes.
async fn listen(world: &World) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::clone(&world.server);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&server);
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let server = Arc::clone(&server);
                async move {
                    let (parts, body) = request.into_parts();
                    let bytes = body.collect().await?.to_bytes();
                    let peer = Identity {
                        name: "root".to_owned(),
                        groups: vec!["system:masters".to_owned()],
                        ..Identity::default()
                    };
                    let answer = server.answer(Request::from_parts(parts, bytes), Some(peer)).await;
                    Ok::<_, hyper::Error>(answer)
                }
            });
            tokio::spawn(
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades(),
            );
        }
    });
    address
}

/// The real kubectl against a world.
struct Kubectl {
    address: SocketAddr,
    home: tempfile::TempDir,
}

impl Kubectl {
    async fn of(world: &World) -> Self {
        Self {
            address: listen(world).await,
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs a command; exit code, standard output, standard error.
    async fn run(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        let mut command = tokio::process::Command::new("kubectl");
        command
            .arg(format!("--server=http://{}", self.address))
            .arg("--username=x")
            .args(arguments)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("none"))
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .expect("kubectl must be installed (kubernetes-client on Debian)");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    #[track_caller]
    fn fine(result: (i32, String, String)) -> String {
        assert_eq!(result.0, 0, "{}{}", result.1, result.2);
        result.1
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_reads_describes_and_deletes() {
    let world = World::new();
    let kubectl = Kubectl::of(&world).await;
    let mut wanted = deployment("web");
    let text = wanted.to_string();
    let said = Kubectl::fine(kubectl.run(&["apply", "-f", "-"], &text).await);
    assert_eq!(said, "deployment.apps/web created\n");
    let said = Kubectl::fine(kubectl.run(&["apply", "-f", "-"], &text).await);
    assert_eq!(said, "deployment.apps/web unchanged\n");
    wanted["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:1.28");
    let said = Kubectl::fine(kubectl.run(&["apply", "-f", "-"], &wanted.to_string()).await);
    assert_eq!(said, "deployment.apps/web configured\n");
    let said = Kubectl::fine(kubectl.run(&["get", "deploy,svc", "-A"], "").await);
    assert!(
        said.contains("deployment.apps/web") && said.contains("service/kubernetes"),
        "{said}"
    );
    let said = Kubectl::fine(
        kubectl
            .run(&["get", "deploy", "web", "-o", "jsonpath={..image}"], "")
            .await,
    );
    assert_eq!(said, "nginx:1.28");
    let said = Kubectl::fine(kubectl.run(&["describe", "deploy", "web"], "").await);
    assert!(
        said.contains("nginx:1.28") && said.contains("RollingUpdateStrategy"),
        "{said}"
    );
    let said = Kubectl::fine(kubectl.run(&["scale", "deploy", "web", "--replicas=3"], "").await);
    assert_eq!(said, "deployment.apps/web scaled\n");
    let said = Kubectl::fine(kubectl.run(&["delete", "deploy", "web"], "").await);
    assert!(said.contains("deployment.apps \"web\" deleted"), "{said}");
    let (code, _, said) = kubectl.run(&["get", "deploy", "web"], "").await;
    assert_eq!(
        (code, said.as_str()),
        (
            1,
            "Error from server (NotFound): deployments.apps \"web\" not found\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_on_the_server_and_meets_conflicts() {
    let world = World::new();
    let kubectl = Kubectl::of(&world).await;
    world
        .apply("kvtls", &format!("{MAPS}/a"), &map("a", json!({"k": "v"})))
        .await
        .ok();
    let text = map("a", json!({"k": "w"})).to_string();
    let (code, _, said) = kubectl.run(&["apply", "--server-side", "-f", "-"], &text).await;
    assert_eq!(code, 1);
    assert!(
        said.contains("Apply failed with 1 conflict: conflict with \"kvtls\": .data.k"),
        "{said}"
    );
    let said = Kubectl::fine(
        kubectl
            .run(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &text)
            .await,
    );
    assert_eq!(said, "configmap/a serverside-applied\n");
    let said = Kubectl::fine(kubectl.run(&["label", "cm", "a", "x=y"], "").await);
    assert_eq!(said, "configmap/a labeled\n");
    let said = Kubectl::fine(
        kubectl
            .run(&["api-resources", "--api-group=apps", "-o", "name"], "")
            .await,
    );
    assert_eq!(said, "daemonsets.apps\ndeployments.apps\nreplicasets.apps\n");
    let said = Kubectl::fine(kubectl.run(&["version", "-o", "json"], "").await);
    assert!(said.contains("v1.34.2"), "{said}");
    let wrong =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "x": 1}).to_string();
    let (_, _, said) = kubectl.run(&["apply", "-f", "-"], &wrong).await;
    assert!(
        said.contains("strict decoding error: unknown field \"x\""),
        "{said}"
    );
    let waited = kubectl
        .run(
            &["wait", "--for=jsonpath={.data.k}=w", "cm/a", "--timeout=5s"],
            "",
        )
        .await;
    assert_eq!(Kubectl::fine(waited), "configmap/a condition met\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_forward_reaches_where_the_world_says() {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            let mut buffer = [0; 5];
            if stream.read_exact(&mut buffer).await.is_ok() {
                buffer.reverse();
                stream.write_all(&buffer).await.unwrap();
            }
        }
    });
    let world = World::forwarding(Arc::new(move |pod, port| {
        let (name, namespace) = (&pod["metadata"]["name"], &pod["metadata"]["namespace"]);
        (namespace == "default" && name == "a" && port == 8443).then_some(place)
    }));
    world
        .post("/api/v1/namespaces/default/pods", &pod("a"))
        .await
        .ok();
    let address = listen(&world).await;
    let path = format!("ws://{address}/api/v1/namespaces/default/pods/a/portforward?ports=8443%2C9");
    let mut request = path.into_client_request().unwrap();
    let protocols = "v5.channel.k8s.io, v4.channel.k8s.io".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocols);
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
    let mut heard = Vec::new();
    socket.send(Message::binary(b"\x00hello".to_vec())).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message {
            heard.push(bytes.to_vec());
        }
    }
    let (low, high) = (8443_u16.to_le_bytes()[0], 8443_u16.to_le_bytes()[1]);
    for wanted in [
        vec![0, low, high],
        vec![1, low, high],
        vec![2, 9, 0],
        vec![3, 9, 0],
        b"\x00olleh".to_vec(),
    ] {
        assert!(heard.contains(&wanted), "{wanted:?} in {heard:?}");
    }
    assert!(
        heard
            .iter()
            .any(|one| one.starts_with(b"\x03error forwarding port 9"))
    );
    let spdy = [("upgrade", "SPDY/3.1"), ("connection", "Upgrade")];
    let path = "/api/v1/namespaces/default/pods/a/portforward?ports=1";
    let got = world.send(MASTERS, Method::POST, path, &spdy, Bytes::new()).await;
    assert!(got.refused(501).starts_with("sandbox: "));
}
