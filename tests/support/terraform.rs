//! Drives the real CLI against a world. What a test does not expect ends it with everything one needs to know: the
//! command, where it ran, what it printed, and what the world saw of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use kvtls::sandbox::demo::changes::{Change, changes};
use kvtls::sandbox::demo::cli::{self, Cli, Run, Running, Scratch};
use kvtls::sandbox::demo::visitor::{Environment, Visitor};
use serde_json::Value;

/// The provider under test.
pub(crate) const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-kvtls");
/// The resource of the quickstart.
pub(crate) const SHOP: &str = "kvtls_ingress_binding.shop";

/// The journal's newest entries that are shown beside a failure.
const JOURNAL_LINES: usize = 40;

/// A working directory and a CLI that knows the world.
pub(crate) struct Terraform {
    cli: Cli,
    scratch: Scratch,
    visitor: Visitor,
}

/// What a command left, and what it said.
pub(crate) struct Outcome {
    pub(crate) run: Run,
    pub(crate) diagnostics: Vec<Diagnostic>,
    journal: String,
}

/// A warning or an error, as the CLI's JSON output has it.
#[derive(Clone, Debug)]
pub(crate) struct Diagnostic {
    pub(crate) severity: String,
    pub(crate) summary: String,
    pub(crate) detail: String,
    /// The line of the configuration it points at, as written; empty without one.
    pub(crate) code: String,
}

impl Terraform {
    /// A working directory with this `main.tf` and the environment of `visitor`.
    pub(crate) fn new(visitor: &Visitor, configuration: &str) -> Self {
        let scratch = Scratch::new("test").expect("a temporary folder");
        let process: Environment = std::env::vars().collect();
        let rc = scratch.path().join("terraform.rc");
        let folder = Path::new(PROVIDER)
            .parent()
            .expect("the provider stands in a folder");
        let overrides = format!(
            "provider_installation {{\n  dev_overrides {{\n    \"kvtls/kvtls\" = \"{}\"\n  }}\n  direct {{}}\n}}\n",
            folder.display()
        );
        std::fs::write(&rc, overrides).expect("terraform.rc");
        let work = scratch.path().join("work");
        std::fs::create_dir(&work).expect("a working directory");
        let cli = Cli::new(program(&process), work, &process, visitor.environment())
            .with("TF_CLI_CONFIG_FILE", &rc.display().to_string());
        let terraform = Self {
            cli,
            scratch,
            visitor: visitor.clone(),
        };
        terraform.write(configuration);
        terraform
    }

    /// The same configuration and state, run by somebody else.
    pub(crate) fn run_by(&self, visitor: &Visitor) -> Self {
        let configuration = std::fs::read_to_string(self.cli.directory.join("main.tf")).expect("main.tf");
        let other = Self::new(visitor, &configuration);
        let state = "terraform.tfstate";
        std::fs::copy(self.cli.directory.join(state), other.cli.directory.join(state)).expect("the state");
        other
    }

    /// Replaces `main.tf`.
    pub(crate) fn write(&self, configuration: &str) {
        std::fs::write(self.cli.directory.join("main.tf"), configuration).expect("main.tf");
    }

    /// Where it runs.
    pub(crate) fn directory(&self) -> &Path {
        &self.cli.directory
    }

    /// A folder that lives as long as this, beside the working directory.
    pub(crate) fn beside(&self) -> &Path {
        self.scratch.path()
    }

    /// The same working directory with another variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.cli = self.cli.with(name, value);
        self
    }

    /// The same working directory without a variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.cli = self.cli.without(name);
        self
    }

    pub(crate) async fn validate(&self) -> Outcome {
        self.command(&["validate", "-json"]).await
    }

    /// Exit status 0: no changes; 2: changes; 1: an error. The plan is kept for [`Terraform::changes`].
    pub(crate) async fn plan(&self) -> Outcome {
        self.command(&["plan", "-json", "-detailed-exitcode", "-out=last.plan"])
            .await
    }

    pub(crate) async fn apply(&self) -> Outcome {
        self.command(&["apply", "-json", "-auto-approve"]).await
    }

    pub(crate) async fn destroy(&self) -> Outcome {
        self.command(&["destroy", "-json", "-auto-approve"]).await
    }

    pub(crate) async fn import(&self, address: &str, id: &str) -> Outcome {
        self.command(&["import", "-no-color", address, id]).await
    }

    /// Runs any command.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Outcome {
        self.outcome(self.start(arguments)).await
    }

    /// Starts a command and lets it run.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.cli.start(arguments).expect("the CLI starts")
    }

    /// Waits for a command's end.
    pub(crate) async fn outcome(&self, running: Running) -> Outcome {
        let run = running
            .finish(|_| {}, std::future::pending())
            .await
            .expect("the CLI ends");
        let journal = match run.status {
            Some(0) => String::new(),
            _ => self.visitor.journal_tail(JOURNAL_LINES).await,
        };
        Outcome {
            diagnostics: diagnostics(&run),
            run,
            journal,
        }
    }

    /// What the last plan would change.
    pub(crate) async fn changes(&self) -> Vec<Change> {
        changes(&self.show(&["last.plan"]).await)
    }

    /// The attributes of a resource in the state; `None` if the state has no such resource.
    pub(crate) async fn state(&self, address: &str) -> Option<Value> {
        self.resource(address)
            .await
            .map(|resource| resource["values"].clone())
    }

    /// A resource in the state with its mode, taint and values.
    pub(crate) async fn resource(&self, address: &str) -> Option<Value> {
        let state = self.show(&[]).await;
        let resources = state["values"]["root_module"]["resources"].as_array()?;
        resources
            .iter()
            .find(|resource| resource["address"] == address)
            .cloned()
    }

    /// `show -json`, of the state or of a plan.
    pub(crate) async fn show(&self, what: &[&str]) -> Value {
        let arguments = [&["show", "-json"], what].concat();
        self.command(&arguments).await.succeeds().run.json()
    }

    /// The scenario's last line: a plan that has nothing to do and nothing to say.
    pub(crate) async fn plan_is_empty(&self) {
        let plan = self.plan().await;
        if plan.run.status == Some(2) {
            let changes = self.changes().await;
            panic!("the plan is not empty: {changes:#?}\n{}", plan.evidence());
        }
        plan.succeeds().says_nothing();
    }

    /// The plan changes exactly this of the one resource; the status that follows from it aside.
    pub(crate) async fn plan_shows(&self, expected: &[&str]) -> Outcome {
        let plan = self.plan().await;
        assert_eq!(
            plan.run.status,
            Some(2),
            "a plan with changes {expected:?}\n{}",
            plan.evidence()
        );
        let changes = self.changes().await;
        let [change] = changes.as_slice() else {
            panic!("one changed resource, not {changes:#?}\n{}", plan.evidence());
        };
        let aside = |path: &&str| *path == "status" || path.starts_with("status.");
        let paths: BTreeSet<&str> = change
            .paths
            .iter()
            .map(String::as_str)
            .filter(|path| !aside(path))
            .collect();
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        assert_eq!(paths, expected, "{}", plan.evidence());
        assert_eq!(change.actions, ["update"], "{}", plan.evidence());
        plan
    }
}

impl Outcome {
    /// Exit status 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.run.status, Some(0), "a success\n{}", self.evidence());
        self
    }

    /// An error whose summary or detail contains all these words.
    #[track_caller]
    pub(crate) fn fails_with(self, words: &[&str]) -> Self {
        assert_ne!(
            self.run.status,
            Some(0),
            "a failure with {words:?}\n{}",
            self.evidence()
        );
        self.error(words);
        self
    }

    /// The error that contains all these words.
    #[track_caller]
    pub(crate) fn error(&self, words: &[&str]) -> &Diagnostic {
        self.find("error", words)
    }

    /// The warning that contains all these words.
    #[track_caller]
    pub(crate) fn warning(&self, words: &[&str]) -> &Diagnostic {
        self.find("warning", words)
    }

    /// No warning and no error.
    #[track_caller]
    pub(crate) fn says_nothing(self) -> Self {
        assert!(self.diagnostics.is_empty(), "no diagnostics\n{}", self.evidence());
        self
    }

    #[track_caller]
    fn find(&self, severity: &str, words: &[&str]) -> &Diagnostic {
        let fits = |diagnostic: &&Diagnostic| {
            let text = format!("{}\n{}", diagnostic.summary, diagnostic.detail);
            diagnostic.severity == severity && words.iter().all(|word| text.contains(word))
        };
        let found = self.diagnostics.iter().find(fits);
        found.unwrap_or_else(|| panic!("no {severity} with {words:?}\n{}", self.evidence()))
    }

    /// Everything one needs to know.
    pub(crate) fn evidence(&self) -> String {
        let run = &self.run;
        let mut text = format!(
            "$ {}\nin {}, exit status {:?}\n",
            run.command,
            run.directory.display(),
            run.status
        );
        for diagnostic in &self.diagnostics {
            let Diagnostic {
                severity,
                summary,
                detail,
                code,
            } = diagnostic;
            writeln!(text, "── {severity}: {summary}\n   at: {code}\n{detail}").expect("text grows");
        }
        writeln!(
            text,
            "── stdout\n{}\n── stderr\n{}",
            readable(&run.stdout),
            run.stderr
        )
        .expect("text grows");
        if !self.journal.is_empty() {
            writeln!(text, "── newest requests\n{}", self.journal).expect("text grows");
        }
        text
    }
}

/// JSON events as the sentences they hold; anything else as it is. A document was read into diagnostics already.
fn readable(stdout: &str) -> String {
    if serde_json::from_str::<Value>(stdout).is_ok_and(|document| document["diagnostics"].is_array()) {
        return "(one JSON document)".to_owned();
    }
    let sentence = |line: &str| {
        let event = serde_json::from_str::<Value>(line).ok();
        event
            .and_then(|event| event["@message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| line.to_owned())
    };
    stdout.lines().map(sentence).collect::<Vec<_>>().join("\n")
}

/// The CLI: `KVTLS_CLI`, else `terraform`, else `tofu`. There is no test without one.
pub(crate) fn program(process: &Environment) -> std::path::PathBuf {
    let path = process.get("PATH").map(String::as_str).unwrap_or_default();
    let wanted = process.get("KVTLS_CLI").map(String::as_str);
    cli::find(path, wanted).unwrap_or_else(|| panic!("{}", cli::INSTALL_WORDS))
}

/// All diagnostics of a run but the warning that development overrides always cause. `validate` prints one document,
/// the others a line for each event.
fn diagnostics(run: &Run) -> Vec<Diagnostic> {
    let whole = run.json();
    let values: Vec<Value> = match whole["diagnostics"].as_array() {
        Some(list) => list.clone(),
        None => run
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["type"] == "diagnostic")
            .map(|event| event["diagnostic"].clone())
            .collect(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    values
        .iter()
        .map(|value| Diagnostic {
            severity: text(&value["severity"]),
            summary: text(&value["summary"]),
            detail: text(&value["detail"]),
            code: text(&value["snippet"]["code"]),
        })
        .filter(|diagnostic| !diagnostic.summary.starts_with("Provider development overrides"))
        .collect()
}
