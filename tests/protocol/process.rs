//! A provider in a process of its own, under the real CLI: the one of `examples/framework`, which the page about the
//! framework shows.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::cli::{Ran, program};
use crate::host::within;

const PAGE: &str = "docs/development/framework.md";
const CODE: &str = include_str!("../../examples/framework/main.rs");

/// The executable of the example. Cargo builds examples for a whole test run only, so it is built here if it is not.
fn example() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let here = std::env::current_exe().expect("this test is a file");
        let profile = here.ancestors().nth(2).expect("target/debug");
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--locked",
                "--example",
                "notes",
                "--target-dir",
            ])
            .arg(profile.parent().expect("target"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo starts").success());
        profile.join("examples").join("notes")
    })
}

/// A working directory with the provider installed, and a folder for its notes.
struct Desk {
    directory: TempDir,
    environment: Vec<(&'static str, &'static str)>,
}

impl Desk {
    fn new(text: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let desk = Self {
            directory,
            environment: Vec::new(),
        };
        for folder in ["plugins", "notes", "work"] {
            std::fs::create_dir(desk.path(folder)).expect("a folder");
        }
        std::os::unix::fs::symlink(example(), desk.path("plugins/terraform-provider-notes")).expect("a link");
        let overrides = format!(
            "provider_installation {{\n  dev_overrides {{\n    \"example.test/acme/notes\" = {:?}\n  }}\n  direct {{}}\n}}\n",
            desk.path("plugins")
        );
        std::fs::write(desk.path("rc"), overrides).expect("the CLI configuration");
        desk.write("shopping", text);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let main = format!(
            r#"terraform {{
  required_providers {{
    notes = {{
      source = "example.test/acme/notes"
    }}
  }}
}}
provider "notes" {{
  folder = {folder:?}
}}
resource "notes_note" "one" {{
  name = {name:?}
  {text}
}}
"#,
            folder = self.path("notes")
        );
        std::fs::write(self.path("work/main.tf"), main).expect("main.tf");
    }

    fn note(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path("notes").join(name)).ok()
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let run = tokio::process::Command::new(program())
            .args(arguments)
            .current_dir(self.path("work"))
            .env("TF_CLI_CONFIG_FILE", self.path("rc"))
            .env("CHECKPOINT_DISABLE", "1")
            .envs(self.environment.iter().copied())
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

    async fn plan_status(&self) -> Option<i32> {
        self.run(&["plan", "-detailed-exitcode", "-no-color"])
            .await
            .status
    }

    async fn resource(&self) -> Json {
        let shown = self.run(&["show", "-json"]).await.succeeds();
        let shown: Json = serde_json::from_str(&shown.stdout).expect("JSON");
        shown["values"]["root_module"]["resources"][0].clone()
    }
}

#[test]
fn the_page_shows_the_example_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(file).expect("the page");
    let (before, _) = page.split_once("```rust\n").expect("the page shows code");
    crate::rules::is_the_page(PAGE, &format!("{before}```rust\n{CODE}```\n"));
}

#[tokio::test]
async fn a_note_is_written_kept_changed_found_again_and_torn_up() {
    let desk = Desk::new("text = \"milk\"");
    desk.apply().await.succeeds();
    assert_eq!(desk.note("shopping").as_deref(), Some("milk"));
    assert_eq!(desk.resource().await["values"]["length"], 4);
    assert_eq!(desk.plan_status().await, Some(0));

    desk.write("shopping", "");
    desk.apply().await.succeeds();
    assert_eq!(desk.note("shopping").as_deref(), Some("(empty)"));

    // Somebody else writes into it: drift, and the next apply puts it right.
    std::fs::write(desk.path("notes/shopping"), "wine").expect("a note");
    assert_eq!(desk.plan_status().await, Some(2));
    desk.apply().await.succeeds();
    assert_eq!(desk.note("shopping").as_deref(), Some("(empty)"));

    desk.write("plans", "");
    desk.apply().await.succeeds();
    assert_eq!(
        (desk.note("shopping"), desk.note("plans").as_deref()),
        (None, Some("(empty)"))
    );

    // Gone without us: planned anew; and torn up by somebody else, a destroy has nothing to do.
    std::fs::remove_file(desk.path("notes/plans")).expect("a note");
    assert_eq!(desk.plan_status().await, Some(2));
    desk.apply().await.succeeds();
    desk.run(&["state", "rm", "notes_note.one"]).await.succeeds();
    desk.run(&["import", "notes_note.one", "plans"]).await.succeeds();
    assert_eq!(desk.plan_status().await, Some(0));
    desk.run(&["destroy", "-auto-approve", "-no-color"])
        .await
        .succeeds();
    assert_eq!(desk.note("plans"), None);
}

#[tokio::test]
async fn an_error_is_about_its_attribute_and_stores_nothing() {
    let desk = Desk::new("text = \"milk\"");
    desk.write("a/b", "");
    let refused = desk.apply().await;
    assert!(
        refused.stderr.contains("Expected letters and digits"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("name = \"a/b\""), "{}", refused.stderr);
    desk.write("shopping", "");
    std::fs::remove_dir(desk.path("notes")).expect("an empty folder");
    let refused = desk.apply().await;
    assert!(
        refused.stderr.contains("Note could not be written"),
        "{}",
        refused.stderr
    );
    assert_eq!(desk.resource().await, Json::Null);
}

#[tokio::test]
async fn a_caught_panic_is_a_diagnostic_and_not_a_crash_of_the_plugin() {
    let desk = Desk::new("text = \"PANIC\"");
    let failed = desk.apply().await;
    assert_eq!(failed.status, Some(1));
    assert!(failed.stderr.contains("Bug in the provider"), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("this note is explosive"),
        "{}",
        failed.stderr
    );
    assert!(!failed.stderr.contains("plugin crashed"), "{}", failed.stderr);
    assert!(!failed.stderr.contains("Stack trace"), "{}", failed.stderr);
    let resource = desk.resource().await;
    assert_eq!(
        (&resource["values"]["length"], &resource["tainted"]),
        (&json!(5), &json!(true))
    );

    // Whoever asks for the log gets the backtrace.
    let mut desk = desk;
    desk.environment.push(("TF_LOG_PROVIDER", "ERROR"));
    let failed = desk.apply().await;
    assert!(failed.stderr.contains("a call panicked"), "{}", failed.stderr);
    assert!(failed.stderr.contains("backtrace="), "{}", failed.stderr);
    assert!(!failed.stderr.contains("plugin crashed"), "{}", failed.stderr);
}

#[tokio::test]
async fn it_is_reached_over_tcp_and_without_tls_too() {
    for environment in [
        ("PLUGIN_UNIX_SOCKET_DIR", "/nonexistent"),
        ("TF_DISABLE_PLUGIN_TLS", "1"),
    ] {
        let mut desk = Desk::new("text = \"milk\"");
        desk.environment.push(environment);
        desk.apply().await.succeeds();
        assert_eq!(desk.note("shopping").as_deref(), Some("milk"), "{environment:?}");
    }
}

#[tokio::test]
async fn each_subsystem_of_the_log_has_a_level_of_its_own() {
    let mut desk = Desk::new("text = \"milk\"");
    desk.environment = vec![("TF_LOG_PROVIDER", "TRACE"), ("TF_LOG_PROVIDER_NOTES", "ERROR")];
    let quiet = desk.run(&["plan", "-no-color"]).await.succeeds();
    assert!(!quiet.stderr.contains("served request"), "{}", quiet.stderr);
    desk.environment
        .push(("TF_LOG_PROVIDER_NOTES_TFPLUGIN6", "DEBUG"));
    let loud = desk.run(&["plan", "-no-color"]).await.succeeds();
    assert!(loud.stderr.contains("served request"), "{}", loud.stderr);
    assert!(
        loud.stderr.contains("tf_rpc=PlanResourceChange"),
        "{}",
        loud.stderr
    );
    for told in [
        "tf_provider_addr=example.test/acme/notes",
        "tf_proto_version=6.11",
    ] {
        assert!(loud.stderr.contains(told), "{told}: {}", loud.stderr);
    }
    assert!(
        loud.stderr.contains("@module=notes.tfplugin6.server.answer"),
        "{}",
        loud.stderr
    );
}
