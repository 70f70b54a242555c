//! Tells the story: prepares the stage, runs the steps in order, and shows the evidence when one was not observed.

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use reqwest::Method;
use tokio_util::sync::CancellationToken;

use super::super::ControlPlaneKind;
use super::cli::{self, Cli, Run, Scratch};
use super::inventory::Inventory;
use super::steps::STEPS;
use super::visitor::{Environment, VisitError, Visitor, until};
use super::voice::Voice;
use super::world::World;
use super::{QUICKSTART, WHAT_THIS_IS, provider_binary};

/// How the demo was asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `terraform`, `tofu` or a path; the first that is found without it.
    pub cli: Option<String>,
    /// Whether the world stays up afterwards.
    pub keep: bool,
    /// Whether every step waits for Enter.
    pub pause: bool,
    /// Which Kubernetes API the cluster has.
    pub control_plane: ControlPlaneKind,
    /// The variables of this process.
    pub process: Environment,
}

/// Status of a demo that saw everything it claims.
const OBSERVED: u8 = 0;
/// Something was not as the heading said.
const NOT_OBSERVED: u8 = 1;
/// It could not begin.
const NO_STAGE: u8 = 2;
/// Ctrl-C.
const INTERRUPTED: u8 = 130;

/// The lines of the journal that are shown beside a failure.
const JOURNAL_LINES: usize = 30;

/// One step of the story.
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) run: for<'a> fn(&'a mut Story) -> LocalBoxFuture<'a, Result<(), Evidence>>,
}

/// Why a step does not count as observed.
#[derive(Debug)]
pub(super) enum Evidence {
    /// What was expected and what was seen.
    Seen { expected: String, seen: String },
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// Everything the steps share.
pub(super) struct Story {
    pub(super) voice: Voice,
    pub(super) cli: Cli,
    /// Who runs Terraform.
    pub(super) deployer: Visitor,
    /// The cluster's owner, who does things behind Terraform's back.
    pub(super) owner: Visitor,
    /// What the world held before the first apply.
    pub(super) before: Inventory,
    interrupted: CancellationToken,
    overrides: Overrides,
}

/// The warning that development overrides cause is shown the first time and left out after that: it is the same for
/// every command, and says nothing about what the command does.
#[derive(Debug, Default)]
struct Overrides {
    told: bool,
    inside: bool,
}

impl Overrides {
    /// Whether this line of output is to be shown.
    fn shows(&mut self, line: &str) -> bool {
        if line.contains("Warning: Provider development overrides are in effect") {
            self.inside = true;
        }
        let shown = !self.inside || !self.told;
        if self.inside && line.ends_with("releases.") {
            self.inside = false;
            self.told = true;
        }
        shown
    }
}

/// Tells the whole story on `out` and returns the exit status. Ctrl-C ends it and takes the world down; a second one
/// does so at once.
pub async fn demo(options: &Options, out: Box<dyn Write + Send>) -> u8 {
    let mut voice = Voice::new(out);
    voice.line(WHAT_THIS_IS);
    let interrupted = CancellationToken::new();
    tokio::spawn(watch_for_interrupt(interrupted.clone()));
    let stage = match Stage::set(options).await {
        Ok(stage) => stage,
        Err(words) => {
            voice.line(&words);
            return NO_STAGE;
        }
    };
    let status = match stage.story(options, voice, interrupted.clone()).await {
        Ok(mut story) => {
            let status = tell(&mut story, options.pause).await;
            if options.keep && status != INTERRUPTED {
                by_hand(&mut story, &stage);
                interrupted.cancelled().await;
            }
            status
        }
        Err((mut voice, error)) => {
            voice.line(&error.to_string());
            NO_STAGE
        }
    };
    stage.world.stop().await;
    status
}

/// What the story happens on.
struct Stage {
    world: World,
    program: PathBuf,
    scratch: Scratch,
}

impl Stage {
    async fn set(options: &Options) -> Result<Self, String> {
        let path = options
            .process
            .get("PATH")
            .map(String::as_str)
            .unwrap_or_default();
        let program = cli::find(path, options.cli.as_deref()).ok_or_else(|| cli::INSTALL_WORDS.to_owned())?;
        provider_binary::ensure(&options.process).await?;
        let scratch = Scratch::new("demo").map_err(|error| format!("a temporary folder: {error}"))?;
        let work = scratch.path().join("work");
        let written =
            std::fs::create_dir(&work).and_then(|()| std::fs::write(work.join("main.tf"), QUICKSTART));
        written.map_err(|error| format!("{}: {error}", work.display()))?;
        let world = World::start(&scratch.path().join("world"), options.control_plane).await?;
        Ok(Self {
            world,
            program,
            scratch,
        })
    }

    fn work(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    async fn story(
        &self,
        options: &Options,
        mut voice: Voice,
        interrupted: CancellationToken,
    ) -> Result<Story, (Voice, VisitError)> {
        voice.line("");
        voice.line(&format!("working directory  {}", self.work().display()));
        voice.line("");
        for line in QUICKSTART.lines() {
            voice.line(&format!("  {line}"));
        }
        let visitors = async {
            let deployer = Visitor::new(self.world.environment("deployer"))?;
            let owner = Visitor::new(self.world.environment("owner"))?;
            // What was there before is counted once the world has come to rest.
            let rest = serde_json::json!({ "timeout": "30s" });
            deployer.control(Method::POST, "/settle", Some(&rest)).await?;
            let before = super::steps::inventory(&deployer).await?;
            Ok((deployer, owner, before))
        };
        let (deployer, owner, before) = match visitors.await {
            Ok(visitors) => visitors,
            Err(error) => return Err((voice, error)),
        };
        let cli = Cli::new(
            self.program.clone(),
            self.work(),
            &options.process,
            deployer.environment(),
        );
        Ok(Story {
            voice,
            cli,
            deployer,
            owner,
            before,
            interrupted,
            overrides: Overrides::default(),
        })
    }
}

async fn tell(story: &mut Story, pause: bool) -> u8 {
    for (index, step) in STEPS.iter().enumerate() {
        story.voice.heading(index + 1, STEPS.len(), step.title);
        if pause {
            story.voice.pause();
        }
        let result = if story.interrupted.is_cancelled() {
            Err(Evidence::Interrupted)
        } else {
            (step.run)(story).await
        };
        match result {
            Ok(()) => {}
            Err(Evidence::Interrupted) => {
                story.voice.line("Interrupted; the world is taken down.");
                return INTERRUPTED;
            }
            Err(Evidence::Seen { expected, seen }) => {
                let journal = story.deployer.journal_tail(JOURNAL_LINES).await;
                story
                    .voice
                    .line(&format!("✗ step {} was not observed: {expected}", index + 1));
                story.voice.line(&format!("What was seen instead:\n{seen}"));
                story
                    .voice
                    .line(&format!("The newest requests of the world:\n{journal}"));
                return NOT_OBSERVED;
            }
        }
    }
    story.voice.line("");
    story
        .voice
        .seen(&format!("all {} steps were observed", STEPS.len()));
    OBSERVED
}

fn by_hand(story: &mut Story, stage: &Stage) {
    let world = stage.scratch.path().join("world");
    for line in [
        String::new(),
        "The world stays up until Ctrl-C. In another terminal:".to_owned(),
        format!("  cd {}", stage.work().display()),
        format!(
            "  . {}/env; export TF_VAR_subscription_id=$ARM_SUBSCRIPTION_ID",
            world.display()
        ),
        format!("  {} apply", stage.program.display()),
        "  curl https://myapp.example.com/".to_owned(),
        "  kubectl get secretproviderclasses,deployments,ingresses,secrets".to_owned(),
        "  curl -X POST $KVTLS_SANDBOX/vaults/myAKSKeyVault/certificates/my-tls-cert/renew".to_owned(),
        "  curl -X POST $KVTLS_SANDBOX/clock -d '{\"advance\":\"3m\"}'".to_owned(),
        format!(
            "The folder {} is left for you to remove.",
            stage.scratch.path().display()
        ),
    ] {
        story.voice.line(&line);
    }
}

impl Story {
    /// Runs the CLI and shows the command and its output as it comes.
    pub(super) async fn terraform(&mut self, arguments: &[&str]) -> Result<Run, Evidence> {
        let running = self
            .cli
            .start(arguments)
            .map_err(|error| Evidence::failed("start the CLI", &error))?;
        self.voice.command(running.command());
        let (voice, overrides) = (&mut self.voice, &mut self.overrides);
        let interrupted = self.interrupted.clone();
        let echo = |line: &str| {
            if overrides.shows(line) {
                voice.line(&format!("  {line}"));
            }
        };
        let run = running.finish(echo, interrupted.cancelled()).await;
        let run = run.map_err(|error| Evidence::failed("wait for the CLI", &error))?;
        if self.interrupted.is_cancelled() {
            Err(Evidence::Interrupted)
        } else {
            Ok(run)
        }
    }

    /// Runs the CLI without showing it; its answer is read, not looked at.
    pub(super) async fn ask_terraform(&self, arguments: &[&str]) -> Result<Run, Evidence> {
        let run = self.cli.run(arguments).await;
        run.map_err(|error| Evidence::failed("run the CLI", &error))
    }

    /// Looks until it sees something; a dot for every look.
    pub(super) async fn until<T, F, Look>(
        &mut self,
        what: &str,
        patience: Duration,
        mut look: F,
    ) -> Result<Option<T>, Evidence>
    where
        F: FnMut() -> Look,
        Look: Future<Output = Option<T>>,
    {
        self.voice.wait(what);
        let voice = &mut self.voice;
        let looking = until(patience, || {
            voice.dot();
            look()
        });
        tokio::select! {
            seen = looking => Ok(seen),
            () = self.interrupted.cancelled() => Err(Evidence::Interrupted),
        }
    }
}

impl Evidence {
    /// A claim that does not hold.
    pub(super) fn unless(holds: bool, expected: &str, seen: impl FnOnce() -> String) -> Result<(), Self> {
        if holds {
            Ok(())
        } else {
            Err(Self::Seen {
                expected: expected.to_owned(),
                seen: seen(),
            })
        }
    }

    fn failed(intention: &str, error: &std::io::Error) -> Self {
        Self::Seen {
            expected: format!("to {intention}"),
            seen: error.to_string(),
        }
    }
}

impl From<VisitError> for Evidence {
    fn from(error: VisitError) -> Self {
        Self::Seen {
            expected: "an answer of the world".to_owned(),
            seen: error.to_string(),
        }
    }
}

async fn watch_for_interrupt(interrupted: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        interrupted.cancel();
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(i32::from(INTERRUPTED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_about_overrides_is_shown_once() {
        let text = "\nWarning: Provider development overrides are in effect\n\n - kvtls/kvtls in /x\nwith published\nreleases.\nPlan: 1\n";
        let mut overrides = Overrides::default();
        let mut shown = || text.lines().filter(|line| overrides.shows(line)).count();
        assert_eq!((shown(), shown()), (7, 2));
    }
}
