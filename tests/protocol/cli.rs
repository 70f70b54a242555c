//! The real CLI against [`crate::garden`], which it reaches in this very process by reattaching.
//!
//! What Terraform 1.11 knows of: blocks, functions, ephemeral resources, write-only values, moves across types, plans
//! that are empty for another spelling, and what it does with an answer that was rescued from a panic.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::garden::{Garden, World};
use crate::host::within;

const ADDRESS: &str = "example.test/acme/garden";

/// A working directory, and a garden that the CLI is attached to.
pub(crate) struct Cli {
    directory: TempDir,
    program: PathBuf,
    reattach: String,
    pub(crate) world: Arc<World>,
}

/// What a command printed, and how it ended.
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.status, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn fails_with(self, words: &[&str]) -> Self {
        assert_eq!(self.status, Some(1), "{}\n{}", self.stdout, self.stderr);
        let text = self
            .stderr
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace("│ ", "");
        for word in words {
            assert!(text.contains(word), "{word:?} in {text}");
        }
        self
    }
}

/// The CLI: `KVTLS_CLI`, else `terraform`, else `tofu`.
pub(crate) fn program() -> PathBuf {
    let variable = |name: &str| {
        let found = std::env::vars().find(|(key, _)| key == name);
        found.map(|(_, value)| value)
    };
    let (path, wanted) = (variable("PATH").unwrap_or_default(), variable("KVTLS_CLI"));
    kvtls::sandbox::demo::cli::find(&path, wanted.as_deref())
        .unwrap_or_else(|| panic!("{}", kvtls::sandbox::demo::cli::INSTALL_WORDS))
}

impl Cli {
    async fn start(configuration: &str) -> Self {
        let world = Arc::new(World::default());
        let directory = TempDir::new().expect("a temporary directory");
        let socket = directory.path().join("garden.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let service = kvtls::tfplugin6::service(Garden::new(&world));
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        let entry = json!({
            "Protocol": "grpc",
            "ProtocolVersion": 6,
            "Pid": std::process::id(),
            "Test": true,
            "Addr": { "Network": "unix", "String": socket },
        });
        let cli = Self {
            program: program(),
            reattach: json!({ ADDRESS: entry, "example.test/acme/orchard": entry }).to_string(),
            directory,
            world,
        };
        std::fs::write(cli.settings(), "").expect("the CLI's settings");
        cli.write(configuration);
        cli
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The settings of the CLI: none, whoever runs this.
    fn settings(&self) -> PathBuf {
        self.path().join("cli.tfrc")
    }

    fn write(&self, configuration: &str) {
        let required = format!(
            "terraform {{\n  required_providers {{\n    garden = {{\n      source = \"{ADDRESS}\"\n    }}\n  }}\n}}\n"
        );
        std::fs::write(self.path().join("main.tf"), required + configuration).expect("main.tf");
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let run = tokio::process::Command::new(&self.program)
            .args(arguments)
            .current_dir(self.path())
            .env("TF_REATTACH_PROVIDERS", &self.reattach)
            .env("TF_CLI_CONFIG_FILE", self.settings())
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = within("the CLI", run).await.expect("it starts");
        Ran {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    async fn apply(&self) -> Ran {
        self.run(&["apply", "-auto-approve", "-no-color"]).await
    }

    async fn plan_is_empty(&self) {
        let plan = self.run(&["plan", "-detailed-exitcode", "-no-color"]).await;
        assert_eq!(plan.status, Some(0), "{}\n{}", plan.stdout, plan.stderr);
    }

    async fn json(&self, arguments: &[&str]) -> Json {
        let ran = self.run(arguments).await.succeeds();
        serde_json::from_str(&ran.stdout).expect("JSON")
    }

    /// The values of the one resource in the state.
    async fn state(&self) -> Json {
        let shown = self.json(&["show", "-json"]).await;
        shown["values"]["root_module"]["resources"][0].clone()
    }
}

const BED: &str = r#"
resource "garden_bed" "one" {
  name     = "roses"
  interval = "2m"
  secret   = "under the mat"
  plant {
    kind = "rose"
  }
  plant {
    kind    = "mint"
    spacing = "10cm"
  }
  fence {
    height = 90
    gate {}
  }
  corner "north" {
    stone = true
  }
  guest {
    name = "Ann"
  }
  soil {
    sand = 0.1
  }
}
"#;

#[tokio::test]
async fn a_bed_with_blocks_is_created_kept_changed_and_removed() {
    let cli = Cli::start(BED).await;
    cli.apply().await.succeeds();
    cli.plan_is_empty().await;
    let values = cli.state().await["values"].clone();
    assert_eq!(values["secret"], Json::Null, "write-only");
    assert!(
        cli.world
            .events()
            .contains(&"was told a secret of 13 characters".to_owned())
    );
    assert_eq!(values["plant"][0]["spacing"], "30cm");
    assert_eq!(values["plant"][1]["label"], "a mint");
    assert_eq!(values["corner"]["north"]["stone"], true);
    assert_eq!(values["fence"]["gate"], json!([{ "width": null }]));

    let respelt = BED
        .replace("\"2m\"", "\"120s\"")
        .replace("\"roses\"", "\"Roses\"")
        .replace("\"Ann\"", "\"ANN\"");
    cli.write(&respelt);
    cli.plan_is_empty().await;

    cli.write(&BED.replace("kind = \"rose\"", "kind = \"sage\""));
    let plan = cli.json(&["show", "-json", cli.planned().await]).await;
    let change = &plan["resource_changes"][0]["change"];
    assert_eq!(change["actions"], json!(["update"]));
    assert_eq!(
        change["after_unknown"]["sign"],
        Json::Null,
        "nothing that the sign says changes"
    );
    assert_eq!(change["after_unknown"]["watered"], true);
    cli.apply().await.succeeds();

    cli.write(&BED.replace("\"roses\"", "\"tulips\""));
    let plan = cli.json(&["show", "-json", cli.planned().await]).await;
    let change = &plan["resource_changes"][0]["change"];
    assert_eq!(change["actions"], json!(["delete", "create"]));
    assert_eq!(change["replace_paths"], json!([["name"]]));
    cli.apply().await.succeeds();
    cli.plan_is_empty().await;
    cli.run(&["destroy", "-auto-approve", "-no-color"])
        .await
        .succeeds();
}

impl Cli {
    /// Plans into a file, and returns its name.
    async fn planned(&self) -> &'static str {
        self.run(&["plan", "-out=last.plan", "-no-color"])
            .await
            .succeeds();
        "last.plan"
    }
}

/// Terraform 1.11 allows no deferral in a plan and says in every apply that it does, where one is an error.
#[tokio::test]
async fn nothing_is_deferred_during_an_apply() {
    let cli = Cli::start(
        "resource \"garden_bed\" \"one\" {\n  name  = \"roses\"\n  fault = \"defer: no ground\"\n}\n",
    )
    .await;
    cli.apply().await.succeeds();
    cli.plan_is_empty().await;
}

#[tokio::test]
async fn too_many_blocks_are_refused_before_anything_happens() {
    let plant = "  plant {\n    kind = \"rose\"\n  }\n";
    let cli = Cli::start(&format!(
        "resource \"garden_bed\" \"one\" {{\n  name = \"roses\"\n{}}}\n",
        plant.repeat(4)
    ))
    .await;
    cli.apply()
        .await
        .fails_with(&["No more than 3 \"plant\" blocks are allowed"]);
    assert!(cli.world.events().is_empty());
}

#[tokio::test]
async fn what_a_module_says_of_itself_comes_with_every_request() {
    let cli = Cli::start(
        r#"
terraform {
  provider_meta "garden" {
    gardener = "ann"
  }
}
data "garden_weather" "today" {
}
resource "garden_bed" "one" {
  name = "roses"
}
"#,
    )
    .await;
    cli.apply().await.succeeds();
    cli.plan_is_empty().await;
    for what in ["the weather", "a plan", "a change", "a look"] {
        let event = format!("ann: {what}");
        assert!(
            cli.world.events().contains(&event),
            "{event:?} in {:?}",
            cli.world.events()
        );
    }
    let meta = "terraform {\n  provider_meta \"garden\" {\n    colour = \"green\"\n  }\n}\n";
    cli.write(&format!(
        "{meta}resource \"garden_bed\" \"one\" {{\n  name = \"roses\"\n}}\n"
    ));
    cli.run(&["plan", "-no-color"])
        .await
        .fails_with(&["Unsupported argument"]);
}

#[tokio::test]
async fn functions_are_called_while_planning() {
    let cli = Cli::start(
        r#"
output "sum" { value = provider::garden::sum(1, 2, 39) }
output "big" { value = provider::garden::describe(123456789012345678901234567890) }
output "nothing" { value = provider::garden::describe(tostring(null)) }
output "first" { value = provider::garden::first(["a", "b"]) }
"#,
    )
    .await;
    cli.apply().await.succeeds();
    let outputs = cli.json(&["output", "-json"]).await;
    assert_eq!(outputs["sum"]["value"], 42);
    assert_eq!(outputs["big"]["value"], "a number of \"number\"");
    let nothing = outputs["nothing"]["value"].as_str();
    assert!(
        nothing.is_some_and(|said| said.starts_with("null")),
        "{nothing:?}"
    );
    assert_eq!(outputs["first"]["value"], "a");
    cli.write("output \"sum\" {\n  value = provider::garden::sum(1, 2.5)\n}\n");
    cli.run(&["plan", "-no-color"])
        .await
        .fails_with(&["Invalid value for \"numbers\" parameter: Only whole numbers are added."]);
}

#[tokio::test]
async fn an_ephemeral_value_is_opened_used_and_closed_and_stored_nowhere() {
    let cli = Cli::start(
        r#"
ephemeral "garden_key" "north" {
  gate = "hurried"
}
resource "garden_bed" "one" {
  name           = "roses"
  secret         = ephemeral.garden_key.north.token
  secret_version = 1
}
"#,
    )
    .await;
    cli.apply().await.succeeds();
    let events = cli.world.events();
    let count = |what: &str| events.iter().filter(|event| event.starts_with(what)).count();
    assert_eq!(
        (count("opened"), count("closed")),
        (2, 2),
        "in the plan and in the apply: {events:?}"
    );
    assert_eq!(count("was told a secret of 16 characters"), 1, "{events:?}");
    let stored = std::fs::read_to_string(cli.path().join("terraform.tfstate")).expect("the state");
    assert!(!stored.contains("token of"), "{stored}");
    cli.plan_is_empty().await;
}

#[tokio::test]
async fn an_ephemeral_resource_that_breaks_a_rule_is_refused_in_our_words() {
    let cli = Cli::start("ephemeral \"garden_key\" \"north\" {\n  gate = \"changed\"\n}\n").await;
    cli.apply()
        .await
        .fails_with(&["Bug in the provider", "neither the configured nor the prior"]);
}

#[tokio::test]
async fn a_moved_block_brings_state_of_another_type() {
    let cli = Cli::start("resource \"garden_bed\" \"one\" {\n  name = \"roses\"\n}\n").await;
    cli.apply().await.succeeds();
    // The same object, as the orchard had stored it.
    let path = cli.path().join("terraform.tfstate");
    let mut state: Json =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("the state")).expect("JSON");
    let resource = &mut state["resources"][0];
    resource["type"] = "orchard_plot".into();
    resource["provider"] = "provider[\"example.test/acme/orchard\"]".into();
    resource["instances"][0]["attributes"] = json!({ "label": "roses" });
    resource["instances"][0]["schema_version"] = 1.into();
    std::fs::write(&path, state.to_string()).expect("the state");
    cli.write(
        r#"
resource "garden_bed" "one" {
  name = "roses"
}
moved {
  from = orchard_plot.one
  to   = garden_bed.one
}
"#,
    );
    cli.apply().await.succeeds();
    let state = cli.state().await;
    assert_eq!(
        (&state["type"], &state["values"]["id"]),
        (&json!("garden_bed"), &json!("bed-roses"))
    );
    cli.plan_is_empty().await;
}

#[tokio::test]
async fn what_an_apply_had_saved_is_in_the_state_after_its_panic() {
    let cli = Cli::start(
        "resource \"garden_bed\" \"one\" {\n  name  = \"roses\"\n  fault = \"apply: panics after it was saved\"\n}\n",
    )
    .await;
    cli.apply()
        .await
        .fails_with(&["Bug in the provider", "the spade broke"]);
    let state = cli.state().await;
    assert_eq!(
        (&state["values"]["id"], &state["tainted"]),
        (&json!("bed-roses"), &json!(true))
    );
}

#[tokio::test]
async fn an_import_is_by_id() {
    let cli = Cli::start("resource \"garden_bed\" \"one\" {\n  name = \"roses\"\n}\n").await;
    cli.apply().await.succeeds();
    cli.run(&["state", "rm", "garden_bed.one"]).await.succeeds();
    cli.run(&["import", "-no-color", "garden_bed.one", "bed-roses"])
        .await
        .succeeds();
    cli.plan_is_empty().await;
    cli.run(&["import", "-no-color", "garden_bed.one", "bed-thistles"])
        .await
        .fails_with(&["Resource already managed"]);
}
