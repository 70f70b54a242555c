//! Runs scripts against both and compares.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvtls::sandbox::{ControlPlaneKind, Sandbox};
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::{Map, Value, json};

use super::world;

/// Headers that are compared.
const HEADERS: &[&str] = &["content-type", "warning", "location", "retry-after"];
/// Members that are never the same: replaced by where they first appeared.
const NAMED: &[&str] = &["uid", "resourceVersion"];
/// Members that are never the same, and say nothing.
const DROPPED: &[&str] = &[
    "creationTimestamp",
    "deletionTimestamp",
    "time",
    "clusterIP",
    "clusterIPs",
    "expirationTimestamp",
    "lastTransitionTime",
    "lastUpdateTime",
    "selfLink",
];
/// Whose versions change when controllers say how far they are, which is sooner in one world than in the other.
const CONTROLLED: &[&str] = &["Deployment", "ReplicaSet", "DaemonSet", "Pod"];
/// Whose entries in `managedFields` come when they come.
const CONTROLLERS: &[&str] = &["kube-controller-manager", "kube-scheduler", "kubelet"];

/// One API, asked as its administrator, by certificate.
struct Api {
    client: Client,
    /// Shows no certificate: a token counts only then.
    bare: Client,
    server: String,
    labels: BTreeMap<String, String>,
    saved: BTreeMap<String, String>,
}

impl Api {
    fn new(world: &Sandbox) -> Self {
        let text = std::fs::read_to_string(world.dir().join("kubeconfig")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        let admin = |user: &&Value| user["name"] == "myAKSCluster-admin";
        let user = config["users"].as_array().unwrap().iter().find(admin).unwrap();
        let data = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let pair = [
            data(&user["user"]["client-certificate-data"]),
            data(&user["user"]["client-key-data"]),
        ];
        let cluster = &config["clusters"][0]["cluster"];
        let builder = || {
            let authority = Certificate::from_pem(&data(&cluster["certificate-authority-data"])).unwrap();
            let builder = Client::builder().tls_certs_only([authority]);
            builder.no_proxy().http1_only().timeout(Duration::from_secs(30))
        };
        let identity = Identity::from_pem(&pair.concat()).unwrap();
        Self {
            client: builder().identity(identity).build().unwrap(),
            bare: builder().build().unwrap(),
            server: cluster["server"].as_str().unwrap().to_owned(),
            labels: BTreeMap::new(),
            saved: BTreeMap::new(),
        }
    }

    /// Sends one request of a script; the answer as it is compared.
    async fn play(&mut self, step: &Value) -> Value {
        let text = |member: &str| step[member].as_str().unwrap_or_default();
        let method: Method = text("do").parse().unwrap();
        let url = format!("{}{}", self.server, self.filled(text("path")));
        let agent = step["agent"].as_str().unwrap_or("script/1");
        let accept = step["accept"].as_str().unwrap_or("application/json");
        let client = if step.get("token").is_some() {
            &self.bare
        } else {
            &self.client
        };
        let mut request = client.request(method, url);
        request = request.header("user-agent", agent).header("accept", accept);
        if let Some(token) = step["token"].as_str() {
            request = request.bearer_auth(self.filled(token));
        }
        if let Some(body) = step.get("body") {
            let content = step["type"].as_str().unwrap_or("application/json");
            let body = match body {
                Value::String(text) => text.clone(),
                body => body.to_string(),
            };
            request = request.header("content-type", content).body(self.filled(&body));
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = answer.text().await.unwrap_or_default();
        let parsed = match text("path").contains("watch=") {
            true => body
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .collect(),
            false => serde_json::from_str(&body).unwrap_or(Value::String(body)),
        };
        for (name, pointer) in step["save"].as_object().into_iter().flatten() {
            let found = parsed
                .pointer(pointer.as_str().unwrap())
                .cloned()
                .unwrap_or_default();
            let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            self.saved.insert(name.clone(), found);
        }
        let mut shown = json!({"status": status, "body": self.masked(parsed)});
        for name in HEADERS {
            if let Some(value) = headers.get(*name) {
                shown["headers"][*name] = json!(value.to_str().unwrap());
            }
        }
        for pointer in step["mask"].as_array().into_iter().flatten() {
            mask(&mut shown["body"], pointer.as_str().unwrap());
        }
        if let Some(kept) = step["only"].as_array() {
            let body = std::mem::take(&mut shown["body"]);
            let kept = kept.iter().filter_map(Value::as_str);
            shown["body"] = kept
                .map(|at| (at.to_owned(), body.pointer(at).cloned().unwrap_or_default()))
                .collect();
        }
        shown
    }

    fn filled(&self, text: &str) -> String {
        let fill =
            |text: String, (name, value): (&String, &String)| text.replace(&format!("${{{name}}}"), value);
        self.saved.iter().fold(text.to_owned(), fill)
    }

    /// The value without what cannot be the same.
    fn masked(&mut self, value: Value) -> Value {
        match value {
            Value::Object(members) => {
                let mut kept = Map::new();
                let owner = members
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or("the answer")
                    .to_owned();
                let kind = members.get("kind").and_then(Value::as_str);
                let controlled = kind.is_some_and(|kind| CONTROLLED.contains(&kind));
                for (name, mut value) in members {
                    if controlled
                        && name == "metadata"
                        && let Some(metadata) = value.as_object_mut()
                    {
                        metadata.remove("resourceVersion");
                    }
                    let value = match &value {
                        Value::String(text) if NAMED.contains(&name.as_str()) && !text.is_empty() => {
                            json!(self.label(&name, &owner, text))
                        }
                        Value::String(_) | Value::Array(_) if DROPPED.contains(&name.as_str()) => json!("…"),
                        Value::Array(entries) if name == "managedFields" => {
                            let ours = |entry: &&Value| {
                                !CONTROLLERS.contains(&entry["manager"].as_str().unwrap_or_default())
                            };
                            let mut entries: Vec<&Value> = entries.iter().filter(ours).collect();
                            // By time, and within one second by manager: whether a second is over is luck.
                            entries.sort_by_key(|entry| {
                                ["operation", "manager", "subresource"]
                                    .map(|part| entry[part].as_str().unwrap_or_default())
                            });
                            self.masked(entries.into_iter().cloned().collect())
                        }
                        _ => self.masked(value),
                    };
                    kept.insert(name, value);
                }
                Value::Object(kept)
            }
            Value::Array(items) => items.into_iter().map(|item| self.masked(item)).collect(),
            Value::String(text) if is_age(&text) => json!("an age"),
            Value::String(text) => {
                let known = self.labels.iter().filter(|(known, _)| known.len() > 20);
                json!(known.fold(text, |text, (known, label)| text.replace(known.as_str(), label)))
            }
            other => other,
        }
    }

    /// The same value has the same name, and another of the same object another.
    fn label(&mut self, name: &str, owner: &str, value: &str) -> String {
        if let Some(known) = self.labels.get(value) {
            return known.clone();
        }
        let start = format!("{name} of {owner} ");
        let earlier = self
            .labels
            .values()
            .filter(|label| label.starts_with(&start))
            .count();
        let label = format!("{start}{}", earlier + 1);
        self.labels.insert(value.to_owned(), label.clone());
        label
    }
}

/// Whether this is a time of a table, which goes on between two questions.
fn is_age(text: &str) -> bool {
    let number = text.strip_suffix('s').unwrap_or_default();
    !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit())
}

/// Takes away what is at a pointer; `*` is every item of a list.
fn mask(value: &mut Value, pointer: &str) {
    let Some((first, rest)) = pointer.trim_start_matches('/').split_once('/') else {
        let last = pointer.trim_start_matches('/').replace("~1", "/");
        if let Some(members) = value.as_object_mut() {
            members.remove(&last);
        }
        return;
    };
    if let (Value::Array(items), "*") = (&mut *value, first) {
        items.iter_mut().for_each(|item| mask(item, rest));
        return;
    }
    if let Some(found) = value.pointer_mut(&format!("/{first}")) {
        mask(found, rest);
    }
}

/// Where two values differ, one line each.
fn differences(at: &str, embedded: &Value, real: &Value, found: &mut String) {
    match (embedded, real) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            for name in names {
                let side = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or(json!("(absent)"));
                differences(&format!("{at}/{name}"), &side(left), &side(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(&format!("{at}/{index}"), left, right, found);
            }
        }
        (left, right) if left == right => {}
        (left, right) => writeln!(found, "    {at}\n      embedded {left}\n      real     {right}").unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_answer_alike() {
    let (embedded, real) = tokio::join!(world(ControlPlaneKind::Embedded), world(ControlPlaneKind::Real));
    let (embedded, real) = (embedded, real);
    for world in [&embedded, &real] {
        world.settle(Duration::from_secs(30)).await.unwrap();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_plane/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let (mut found, mut asked, mut known_to_differ) = (String::new(), 0, 0);
    for file in files {
        let group = file.file_stem().unwrap().to_string_lossy().into_owned();
        let steps: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (mut left, mut right) = (Api::new(&embedded), Api::new(&real));
        for (index, step) in steps.iter().enumerate() {
            if let Some(seconds) = step["settle"].as_u64() {
                for world in [&embedded, &real] {
                    world.settle(Duration::from_secs(seconds)).await.unwrap();
                }
                continue;
            }
            asked += 1;
            let (one, other) = tokio::join!(left.play(step), right.play(step));
            let mut differ = String::new();
            differences("", &one, &other, &mut differ);
            // What is known to differ must differ, or the mark has to go.
            if let Some(known) = step["known"].as_str() {
                known_to_differ += 1;
                if differ.is_empty() {
                    writeln!(
                        found,
                        "{group} {index}: no longer differs ({known}): take the mark away\n"
                    )
                    .unwrap();
                }
                continue;
            }
            if !differ.is_empty() {
                let (what, why) = (step["path"].as_str().unwrap_or_default(), &step["why"]);
                writeln!(found, "{group} {index}: {} {what} {why}\n{differ}", step["do"]).unwrap();
            }
        }
    }
    embedded.stop().await;
    real.stop().await;
    assert!(
        found.is_empty(),
        "of {asked} requests these are answered differently:\n{found}"
    );
    assert!(
        known_to_differ < asked / 10,
        "{known_to_differ} of {asked} are known to differ"
    );
    assert!(asked > 100, "only {asked} requests were compared");
}
