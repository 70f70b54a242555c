//! Plays tables of failures: injected, what is said compared with a file beside the table (`UPDATE_EXPECT=1` writes it
//! anew), the state compared with the world, and applied again.

use std::fmt::Write as _;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::terraform::{Outcome, Terraform};
use crate::world::{CLUSTER, World};

/// Plane, method and path of a request.
pub(crate) type Request = (&'static str, &'static str, &'static str);

/// The part of the reference, the request it meets, how often, and what the service answers.
pub(crate) type Row = (&'static str, Request, u64, Value);

/// As long as the command runs.
pub(crate) const ALWAYS: u64 = 0;

/// Plays the rows of a table: there is `work` to do, something goes wrong on the way, state and world agree, and where
/// anything was said another run goes on. A plan writes nothing, so nothing has to agree after one.
pub(crate) async fn play(
    world: &World,
    terraform: &Terraform,
    (table, command): (&str, &str),
    rows: &[Row],
    work: impl AsyncFn(usize),
    agrees: impl AsyncFn(),
) {
    let run = async || match command {
        "plan" => terraform.plan().await,
        "apply" => terraform.apply().await,
        _ => terraform.destroy().await,
    };
    let mut told = String::new();
    for (index, row) in rows.iter().enumerate() {
        work(index).await;
        let (section, (plane, method, path), times, does) = row;
        println!("── {section} {method} {path} {does}");
        let times = if *times == ALWAYS {
            Value::Null
        } else {
            json!(times)
        };
        // To Kubernetes it is the client certificate's name that counts.
        let who = if *plane == "kubernetes" {
            "masterclient"
        } else {
            "deployer"
        };
        let matches = json!({ "plane": plane, "method": method, "path": path, "as": who });
        let fault = world
            .fault(json!({ "match": matches, "times": times, "do": does }))
            .await;
        let outcome = run().await;
        assert!(
            world.hits(&fault).await > 0,
            "{section} {does} was met\n{}",
            outcome.evidence()
        );
        world.release(&fault).await;
        tell(&mut told, row, command, &outcome);
        if command == "plan" {
            continue;
        }
        rests(world).await;
        agrees().await;
        if outcome.run.status != Some(0) || !outcome.diagnostics.is_empty() {
            run().await.succeeds();
            agrees().await;
        }
    }
    if command == "apply" {
        terraform.plan_is_empty().await;
    }
    let file = format!("tests/acceptance/{table}.txt");
    let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
    if std::env::vars().any(|(name, _)| name == "UPDATE_EXPECT") {
        std::fs::write(&there, &told).expect("the expectation is written");
    }
    let expected = std::fs::read_to_string(&there).unwrap_or_default();
    for (told, expected) in told.split("\n## ").zip(expected.split("\n## ")) {
        assert_eq!(told, expected, "{file}; UPDATE_EXPECT=1 writes it");
    }
    assert_eq!(told.len(), expected.len(), "{file}; UPDATE_EXPECT=1 writes it");
}

/// Waits until the cluster's operation is over; one that failed is repaired, as its owner has to.
async fn rests(world: &World) {
    let path = world
        .owner
        .cluster_path(crate::world::GROUP, CLUSTER)
        .expect("a path");
    let state = world.arm(&path).await["properties"]["provisioningState"].clone();
    if state == "Failed" || state == "Canceled" {
        let repaired = json!({ "clusters": { CLUSTER: { "state": "Succeeded" } } });
        world.control(Method::PATCH, "/world", repaired).await;
    }
    world.operations_end().await;
}

/// What was met and what was said.
fn tell(told: &mut String, row: &Row, command: &str, outcome: &Outcome) {
    let (section, (_, method, path), times, does) = row;
    let text = |name: &str| does[name].as_str().map(str::to_owned);
    let what = text("named").or_else(|| does["throttle"]["code"].as_str().map(str::to_owned));
    let outcome_of = || {
        let code = does["error"]["code"].as_str().unwrap_or_default();
        text("outcome").map(|outcome| format!("{outcome} with {code}"))
    };
    let status = || {
        let reason = does["body"]["reason"].as_str().unwrap_or_default();
        does["status"]
            .as_u64()
            .map(|status| format!("{status} {reason}").trim_end().to_owned())
    };
    let cut = || text("lose").map(|what| format!("{what} lost"));
    let reset = || text("reset").map(|when| format!("connection reset, {when}"));
    let what = what
        .or_else(outcome_of)
        .or_else(status)
        .or_else(cut)
        .or_else(reset);
    let what = what.unwrap_or_default();
    let often = match *times {
        ALWAYS => "always".to_owned(),
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    let path = path.trim_start_matches("**/");
    let ends = match (command, outcome.run.status) {
        (_, Some(0)) => "succeeds",
        ("plan", Some(2)) => "has changes",
        _ => "fails",
    };
    writeln!(
        told,
        "\n## {section} {what}, {often}, to {method} {path}: {command} {ends}"
    )
    .expect("text grows");
    for it in &outcome.diagnostics {
        let text = format!(
            "{}: {}\nat: {}\n{}",
            it.severity,
            it.summary,
            it.code.trim(),
            it.detail
        );
        writeln!(told, "\n{}", masked(text.trim_end())).expect("text grows");
    }
}

/// The attributes of the one resource in the state, null without one.
pub(crate) fn attributes(terraform: &Terraform) -> Value {
    let text = std::fs::read_to_string(terraform.directory().join("terraform.tfstate"));
    let state: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
    let resources = state["resources"].as_array();
    let managed = resources
        .into_iter()
        .flatten()
        .find(|resource| resource["mode"] == "managed");
    managed.map_or(Value::Null, |resource| {
        resource["instances"][0]["attributes"].clone()
    })
}

/// The text without what differs from run to run: IDs, versions, thumbprints, moments, ports.
fn masked(text: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let mut masked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        masked.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let hex = word.chars().filter(char::is_ascii_hexdigit).count();
        let dashes = word.matches('-').count();
        let is_date = dashes >= 2 && word.len() >= 10 && word.starts_with("20");
        masked.push_str(match (word.len(), hex, dashes) {
            (36, 32, 4) => "(id)",
            (32, 32, 0) => "(version)",
            (40, 40, 0) => "(thumbprint)",
            _ if is_date && word.len() == 10 => "(day)",
            _ if is_date => {
                rest = rest.trim_start_matches(|letter: char| {
                    letter.is_ascii_digit() || letter == ':' || letter == '.' || letter == 'Z'
                });
                "(moment)"
            }
            (4..=5, _, 0) if masked.ends_with("127.0.0.1:") => "(port)",
            _ => word,
        });
    }
    masked + rest
}
