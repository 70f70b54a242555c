//! Runs the real CLI, Terraform or OpenTofu, in a working directory of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::visitor::Environment;

/// What is taken over from the process's own environment; all that could point at a real cloud stays behind.
const INHERITED: &[&str] = &["PATH", "HOME", "TMPDIR", "LANG", "TERM", "RUST_BACKTRACE"];

/// What to do when there is neither Terraform nor OpenTofu.
pub const INSTALL_WORDS: &str = "\
Neither `terraform` nor `tofu` was found on PATH. One of them is needed, 1.8 or newer:
  Terraform  https://developer.hashicorp.com/terraform/install
  OpenTofu   https://opentofu.org/docs/intro/install/
  or, with Go 1.24 or newer, from source:  .ci/opentofu   (prints the folder to put on PATH)";

/// A CLI in a working directory.
#[derive(Clone, Debug)]
pub struct Cli {
    /// The program.
    pub program: PathBuf,
    /// Where it runs.
    pub directory: PathBuf,
    environment: Environment,
}

/// What a run of it left.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command as a person would type it.
    pub command: String,
    /// Where it ran.
    pub directory: PathBuf,
    /// The exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// A run that goes on.
pub struct Running {
    child: Child,
    command: String,
    directory: PathBuf,
    lines: mpsc::UnboundedReceiver<Line>,
}

/// A line of output.
enum Line {
    Out(String),
    Error(String),
}

impl Cli {
    /// A CLI that runs in `directory` with the variables of `environment` beside the few that are taken over from
    /// `process`.
    pub fn new(
        program: PathBuf,
        directory: PathBuf,
        process: &Environment,
        environment: &Environment,
    ) -> Self {
        let kept = |name: &&str| {
            process
                .get(*name)
                .map(|value| ((*name).to_owned(), value.clone()))
        };
        let mut variables: BTreeMap<_, _> = INHERITED.iter().filter_map(kept).collect();
        variables.extend(environment.clone());
        variables.insert("TF_IN_AUTOMATION".to_owned(), "1".to_owned());
        variables.insert("TF_INPUT".to_owned(), "0".to_owned());
        if let Some(subscription) = environment.get("ARM_SUBSCRIPTION_ID") {
            variables.insert("TF_VAR_subscription_id".to_owned(), subscription.clone());
        }
        Self {
            program,
            directory,
            environment: variables,
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(&self, arguments: &[&str]) -> std::io::Result<Running> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C on the terminal reaches us, and we pass it on exactly once.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (sender, lines) = mpsc::unbounded_channel();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(forward(stdout, sender.clone(), Line::Out));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(forward(stderr, sender, Line::Error));
        }
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let command = std::iter::once(name.as_ref())
            .chain(arguments.iter().copied())
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Running {
            child,
            command,
            directory: self.directory.clone(),
            lines,
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// If the program cannot be started or waited for.
    pub async fn run(&self, arguments: &[&str]) -> std::io::Result<Run> {
        self.start(arguments)?
            .finish(|_| {}, std::future::pending())
            .await
    }
}

impl Running {
    /// The command as a person would type it.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Waits for its end; `echo` gets every line as it comes. When `stop` is ready, it is interrupted once and given
    /// the time it needs to end by itself.
    ///
    /// # Errors
    /// If it cannot be waited for, or not be interrupted.
    pub async fn finish(
        mut self,
        mut echo: impl FnMut(&str),
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<Run> {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut stop = pin!(stop.fuse());
        loop {
            let line = tokio::select! {
                line = self.lines.recv() => line,
                () = &mut stop => {
                    self.interrupt().await?;
                    continue;
                }
            };
            let Some(line) = line else { break };
            let (text, target) = match &line {
                Line::Out(text) => (text, &mut stdout),
                Line::Error(text) => (text, &mut stderr),
            };
            echo(text);
            target.push_str(text);
            target.push('\n');
        }
        let status = self.child.wait().await?;
        Ok(Run {
            command: self.command,
            directory: self.directory,
            status: code(status),
            stdout,
            stderr,
        })
    }

    /// What Ctrl-C on a terminal does: SIGINT to the whole process group, the provider included.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub async fn interrupt(&self) -> std::io::Result<()> {
        signal("-INT", self.child.id()).await
    }

    /// SIGKILL to the whole process group: nobody gets to say goodbye.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub async fn kill(&self) -> std::io::Result<()> {
        signal("-KILL", self.child.id()).await
    }
}

impl Run {
    /// True if it ended well. With `-detailed-exitcode`, 2 (there are changes) is not this.
    pub fn succeeded(&self) -> bool {
        self.status == Some(0)
    }

    /// Both outputs, in that order.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Its output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or(Value::Null)
    }

    /// Summaries of the warnings it shows, without the one that development overrides always cause.
    pub fn warnings(&self) -> Vec<String> {
        let all = self.output();
        let lines = all.lines().filter_map(|line| {
            let line = line.trim_start_matches(['│', '╷', ' ']);
            line.strip_prefix("Warning: ").map(str::to_owned)
        });
        lines
            .filter(|summary| !summary.starts_with("Provider development overrides"))
            .collect()
    }
}

/// Finds the program: the wanted one, else `terraform`, else `tofu`, in the folders of a `PATH`.
pub fn find(path: &str, wanted: Option<&str>) -> Option<PathBuf> {
    let names: &[&str] = match &wanted {
        Some(name) if name.contains('/') => return Some(PathBuf::from(name)).filter(|file| file.is_file()),
        Some(name) => &[name],
        None => &["terraform", "tofu"],
    };
    let folders = || std::env::split_paths(path);
    names.iter().find_map(|name| {
        folders()
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    })
}

/// A folder below the system's temporary one that goes away when this does.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new, empty folder that only this user may look into.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(purpose: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("kvtls-{purpose}-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whatever cannot be removed now is the system's to clean: it is in its temporary folder.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

async fn forward<R>(stream: R, sender: mpsc::UnboundedSender<Line>, kind: fn(String) -> Line)
where
    R: AsyncRead + Unpin,
{
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if sender.send(kind(line)).is_err() {
            return;
        }
    }
}

async fn signal(which: &str, group: Option<u32>) -> std::io::Result<()> {
    let Some(group) = group else {
        return Ok(()); // It has ended already.
    };
    // The shell's own `kill`: signals need unsafe code or one more dependency otherwise.
    let status = Command::new("sh")
        .args(["-c", &format!("kill {which} -{group}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await?;
    if status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(format!("kill {which} -{group}: {status}")))
}

fn code(status: ExitStatus) -> Option<i32> {
    status.code()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stdout: &str) -> Run {
        Run {
            command: String::new(),
            directory: PathBuf::new(),
            status: Some(0),
            stdout: stdout.to_owned(),
            stderr: String::new(),
        }
    }

    #[test]
    fn warnings_are_read_from_their_boxes() {
        let text = "╷\n│ Warning: Provider development overrides are in effect\n│ \n╵\n╷\n│ Warning: Key Vault add-on will be switched on\n│ KVTLS-W101\n╵\n";
        assert_eq!(run(text).warnings(), ["Key Vault add-on will be switched on"]);
    }

    #[tokio::test]
    async fn a_run_keeps_both_outputs_and_the_status() {
        let scratch = Scratch::new("test").unwrap();
        let cli = Cli::new(
            "/bin/sh".into(),
            scratch.path().to_owned(),
            &Environment::new(),
            &Environment::new(),
        );
        let run = cli.run(&["-c", "echo out; echo err >&2; exit 3"]).await.unwrap();
        assert_eq!(
            (run.stdout.as_str(), run.stderr.as_str(), run.status),
            ("out\n", "err\n", Some(3))
        );
        assert_eq!(run.command, "sh -c echo out; echo err >&2; exit 3");
    }

    #[tokio::test]
    async fn an_interrupt_reaches_the_whole_group() {
        let scratch = Scratch::new("test").unwrap();
        // A job in the background ignores interrupts, and a shell cannot undo that.
        let cli = Cli::new(
            "/usr/bin/env".into(),
            scratch.path().to_owned(),
            &Environment::new(),
            &Environment::new(),
        );
        let mut running = cli
            .start(&[
                "--default-signal=INT",
                "/bin/sh",
                "-c",
                "trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 1 & wait; done",
            ])
            .unwrap();
        let Some(Line::Out(ready)) = running.lines.recv().await else {
            panic!("no output")
        };
        assert_eq!(ready, "ready");
        running.interrupt().await.unwrap();
        let run = running.finish(|_| {}, std::future::pending()).await.unwrap();
        assert_eq!((run.status, run.stdout.as_str()), (Some(7), "bye\n"));
    }

    #[test]
    fn a_program_is_found_on_the_path() {
        let path = format!("/nowhere:{}", "/bin:/usr/bin");
        assert!(find(&path, Some("sh")).is_some());
        assert_eq!(find(&path, Some("no-such-program")), None);
        assert_eq!(find("/nowhere", None), None);
    }
}
