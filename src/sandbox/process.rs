//! The command line: `serve`, `run`, `env`, `control`, `world`, `demo`, `control-plane`.
//!
//! Of `serve` exactly one line goes to stdout, when every port answers; everything else goes to stderr. Exit codes: 0 stopped,
//! 2 usage or world file, 3 port taken, 4 control plane did not start, 70 our bug; `run` exits as its command did.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::assembly::{Options, Sandbox, StartError};
use super::control_plane::{self, ControlPlaneKind, Performed};
use super::core::WorldError;
use super::demo;
use super::environment::{Mode, shell};
use super::files::provider_dir;
use super::front::names::PortPlan;
use super::lag::Pace;
use super::world;

const USAGE: u8 = 2;
const PORT_TAKEN: u8 = 3;
const CONTROL_PLANE: u8 = 4;
const OUR_BUG: u8 = 70;

/// Entra, ARM, AKS, Key Vault and a Kubernetes API, on loopback.
#[derive(Parser)]
#[command(name = "kvtls-sandbox", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs until SIGINT, SIGTERM or POST /sandbox/stop.
    Serve(Serve),
    /// Serves, and runs a command in its environment; exits as the command does.
    Run(Run),
    /// Prints the environment of a running sandbox.
    Env(Env),
    /// Calls the control API of a running sandbox and prints the answer.
    Control(Control),
    /// Prints a built-in world, or everything that is wrong with a file.
    World(World),
    /// The whole story with the real CLI on `examples/quickstart`.
    Demo(Demo),
    /// The programs of a real control plane, and what is tested with them.
    ControlPlane(ControlPlane),
}

#[derive(Args)]
struct ControlPlane {
    /// What to do.
    #[arg(default_value = "test")]
    what: control_plane::Task,
    /// For the tests: names to run, and whatever else the test programs take.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

#[derive(Args)]
struct Demo {
    /// Which Kubernetes API the cluster has.
    #[arg(long, default_value = "embedded")]
    control_plane: ControlPlaneKind,
    /// terraform, tofu, or a path; the first that is found unless set.
    #[arg(long)]
    cli: Option<String>,
    /// Leaves the world up afterwards and says how to use it by hand.
    #[arg(long)]
    keep: bool,
    /// Waits for Enter before every step.
    #[arg(long)]
    pause: bool,
}

#[derive(Args)]
struct Serve {
    /// Where the files of the run go.
    #[arg(long, default_value = ".kvtls-sandbox")]
    dir: PathBuf,
    /// A world file, or the name of a built-in world.
    #[arg(long, default_value = "default")]
    world: String,
    /// The first of a block of ninety ports; auto lets the system choose.
    #[arg(long, default_value = "auto", value_parser = parse_ports)]
    ports: PortPlan,
    /// How fast the world reacts.
    #[arg(long, default_value = "fast")]
    pace: PaceName,
    /// How many times as fast as real time the clock runs.
    #[arg(long, default_value_t = 1.0, value_parser = parse_rate)]
    rate: f64,
    /// Which Kubernetes API the first cluster has: the one in this process, or kube-apiserver with its controllers and etcd.
    #[arg(long, default_value = "embedded")]
    control_plane: ControlPlaneKind,
    /// What vault names end with.
    #[arg(long, default_value = ".vault.azure.net")]
    vault_suffix: String,
    /// Also stops when standard input ends, so that no orphan outlives its parent.
    #[arg(long)]
    until_stdin_closes: bool,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    serve: Serve,
    /// The principal the command is.
    #[arg(long = "as", default_value = "deployer")]
    principal: String,
    /// How the command addresses the world.
    #[arg(long, default_value = "names")]
    mode: ModeName,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Args)]
struct Env {
    /// Where the files of the run are.
    #[arg(long, default_value = ".kvtls-sandbox")]
    dir: PathBuf,
    /// The principal.
    #[arg(long = "as", default_value = "deployer")]
    principal: String,
    /// How the world is addressed.
    #[arg(long, default_value = "names")]
    mode: ModeName,
    /// Lines for a shell, or JSON.
    #[arg(long, default_value = "sh")]
    format: Format,
}

#[derive(Args)]
struct Control {
    /// Where the files of the run are; unless set, the sandbox of this environment (`KVTLS_SANDBOX`), then
    /// `.kvtls-sandbox`.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// GET, POST, PUT, PATCH or DELETE.
    method: String,
    /// Below `/sandbox`: `/clock`, `/faults/f1?wait=hit`.
    path: String,
    /// The body, as JSON.
    body: Option<String>,
}

#[derive(Args)]
struct World {
    /// The built-in world to print.
    #[arg(default_value = "default")]
    name: String,
    /// A world file to check instead.
    #[arg(long)]
    check: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PaceName {
    Fast,
    Real,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    Names,
    Ports,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Sh,
    Json,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Names => Self::Names,
            ModeName::Ports => Self::Ports,
        }
    }
}

/// Why the process ends with a code other than its command's.
struct Failure {
    code: u8,
    lines: Vec<String>,
}

impl Failure {
    fn new(code: u8, line: impl Into<String>) -> Self {
        Self {
            code,
            lines: vec![line.into()],
        }
    }

    fn world(errors: &[WorldError]) -> Self {
        let lines = errors.iter().map(|error| {
            let pointer = if error.pointer.is_empty() {
                "/"
            } else {
                &error.pointer
            };
            format!("{pointer}: {}", error.message)
        });
        Self {
            code: USAGE,
            lines: lines.collect(),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::World(errors) => return Self::world(errors),
            StartError::Directory(_) => USAGE,
            StartError::Port(_) => PORT_TAKEN,
            StartError::Cluster { .. } => CONTROL_PLANE,
            StartError::Certificates(_) => OUR_BUG,
        };
        Self::new(code, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(OUR_BUG, error.to_string())
    }
}

/// The life of the `kvtls-sandbox` process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are no failures; clap knows where each is printed.
        Err(error) => {
            let _printed = error.print().is_ok();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(error.into())),
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Serve(arguments) => Box::pin(serve(arguments)).await,
            Command::Run(arguments) => Box::pin(run(arguments)).await,
            Command::Env(arguments) => Box::pin(env(arguments)).await,
            Command::Control(arguments) => Box::pin(control(arguments)).await,
            Command::World(arguments) => print_world(&arguments),
            Command::Demo(arguments) => Ok(Box::pin(tell(arguments)).await),
            Command::ControlPlane(arguments) => control_plane(&arguments),
        }
    });
    // A thread that reads standard input must not keep the process alive.
    runtime.shutdown_background();
    end(ended)
}

fn end(ended: Result<u8, Failure>) -> ExitCode {
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            for line in &failure.lines {
                say(&format!("kvtls-sandbox: {line}"));
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn serve(arguments: Serve) -> Result<u8, Failure> {
    let until_stdin_closes = arguments.until_stdin_closes;
    let sandbox = start(arguments).await?;
    print(&sandbox.ready().to_string())?;
    stop_signal(&sandbox, until_stdin_closes).await?;
    sandbox.stop().await;
    Ok(0)
}

async fn run(arguments: Run) -> Result<u8, Failure> {
    let until_stdin_closes = arguments.serve.until_stdin_closes;
    let mode = Mode::from(arguments.mode);
    let sandbox = start(arguments.serve).await?;
    let environment = sandbox.environment(&arguments.principal, mode);
    if environment.is_empty() {
        sandbox.stop().await;
        let message = format!("there is no principal {}", arguments.principal);
        return Err(Failure::new(USAGE, message));
    }
    let ended = command(&arguments.command, &environment, &sandbox, until_stdin_closes).await;
    sandbox.stop().await;
    ended
}

/// Runs the command until it ends. Whoever stops the sandbox stops the command.
async fn command(
    command: &[OsString],
    environment: &BTreeMap<String, String>,
    sandbox: &Sandbox,
    until_stdin_closes: bool,
) -> Result<u8, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new(USAGE, "there is no command"));
    };
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .envs(environment)
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| {
        let message = format!("{} does not start: {error}", program.to_string_lossy());
        Failure::new(USAGE, message)
    })?;
    tokio::select! {
        status = child.wait() => {
            use std::os::unix::process::ExitStatusExt as _;
            let status = status?;
            // As a shell does: 128 and the signal that ended it.
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(OUR_BUG))
        }
        stopped = stop_signal(sandbox, until_stdin_closes) => {
            // Ctrl-C in a terminal reaches the command by itself; it decides how to end, and we wait for it.
            if stopped? != Stop::Interrupt && let Some(id) = child.id() {
                let terminate = tokio::process::Command::new("kill").arg(id.to_string()).status();
                let _told = terminate.await.is_ok();
            }
            if tokio::time::timeout(PARTING, child.wait()).await.is_err() {
                child.kill().await?;
            }
            Ok(0)
        }
    }
}

async fn start(arguments: Serve) -> Result<Sandbox, Failure> {
    say(demo::WHAT_THIS_IS);
    super::log::start();
    let options = Options {
        world: read_world(&arguments.world)?,
        dir: Some(arguments.dir),
        ports: arguments.ports,
        pace: match arguments.pace {
            PaceName::Fast => Pace::Fast,
            PaceName::Real => Pace::Real,
        },
        rate: arguments.rate,
        vault_suffix: arguments.vault_suffix,
        control_plane: arguments.control_plane,
    };
    let provider = provider_dir().join("terraform-provider-kvtls");
    if !provider.exists() {
        let shown = provider.display();
        say(&format!(
            "kvtls-sandbox: there is no provider at {shown}: build it, or terraform will not find it"
        ));
    }
    Ok(Sandbox::start(options).await?)
}

/// How long a command may take to end when the sandbox stops.
const PARTING: std::time::Duration = std::time::Duration::from_secs(10);

/// Why the sandbox stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Interrupt,
    Asked,
}

/// Returns when somebody wants the sandbox to stop.
async fn stop_signal(sandbox: &Sandbox, until_stdin_closes: bool) -> io::Result<Stop> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stdin_closes = async {
        if !until_stdin_closes {
            return std::future::pending().await;
        }
        let mut ignored = [0; 1024];
        let mut stdin = tokio::io::stdin();
        while stdin.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    };
    Ok(tokio::select! {
        _ = interrupt.recv() => Stop::Interrupt,
        _ = terminate.recv() => Stop::Asked,
        () = sandbox.stop_requested() => Stop::Asked,
        () = stdin_closes => Stop::Asked,
    })
}

/// A client of the control API of the sandbox that runs with this directory, and that API's address.
fn running(dir: &Path) -> Result<(reqwest::Client, String), Failure> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(dir.join(name));
        text.map_err(|error| not_running(dir, &format!("{name}: {error}")))
    };
    let ready: Value =
        serde_json::from_str(&read("sandbox.json")?).map_err(|error| not_running(dir, &error.to_string()))?;
    let control = ready.get("control").and_then(Value::as_str).unwrap_or_default();
    let client = client_of(&read("ca.pem")?).map_err(|error| not_running(dir, &error.to_string()))?;
    Ok((client, control.to_owned()))
}

/// The same of the sandbox that gave this process its environment; `None` if none did.
fn surrounding() -> Option<Result<(reqwest::Client, String), Failure>> {
    let variables = variables();
    let control = variables.get("KVTLS_SANDBOX")?.trim_end_matches('/').to_owned();
    let bundle = variables.get("SSL_CERT_FILE").map_or("", String::as_str);
    let client = std::fs::read_to_string(bundle).map_err(|error| error.to_string());
    let client = client.and_then(|pem| client_of(&pem).map_err(|error| error.to_string()));
    Some(match client {
        Ok(client) => Ok((client, control)),
        Err(why) => {
            let line =
                format!("KVTLS_SANDBOX is set, and SSL_CERT_FILE ({bundle:?}) holds no authority: {why}");
            Err(Failure::new(USAGE, line))
        }
    })
}

fn client_of(authorities: &str) -> reqwest::Result<reqwest::Client> {
    let authorities = reqwest::Certificate::from_pem_bundle(authorities.as_bytes())?;
    let client = reqwest::Client::builder();
    client.tls_certs_only(authorities).no_proxy().build()
}

fn not_running(dir: &Path, why: &str) -> Failure {
    Failure::new(USAGE, format!("no sandbox runs in {}: {why}", dir.display()))
}

/// curl for the control API.
async fn control(arguments: Control) -> Result<u8, Failure> {
    let dir = arguments.dir.as_deref();
    let here = Path::new(".kvtls-sandbox");
    let (client, control) = match (dir, surrounding()) {
        (None, Some(surrounding)) => surrounding?,
        (dir, _) => running(dir.unwrap_or(here))?,
    };
    let method = reqwest::Method::from_bytes(arguments.method.to_ascii_uppercase().as_bytes())
        .map_err(|error| Failure::new(USAGE, format!("{}: {error}", arguments.method)))?;
    let path = arguments
        .path
        .trim_start_matches("/sandbox")
        .trim_start_matches('/');
    let mut request = client.request(method, format!("{control}/{path}"));
    if let Some(body) = arguments.body {
        request = request.body(body);
    }
    let lost = |error: reqwest::Error| Failure::new(USAGE, format!("no sandbox runs at {control}: {error}"));
    let answer = request.send().await.map_err(lost)?;
    let is_good = answer.status().is_success();
    let text = answer.text().await.map_err(lost)?;
    let shown = serde_json::from_str::<Value>(&text).map_or(text, |body| format!("{body:#}"));
    print(&shown)?;
    Ok(if is_good { 0 } else { USAGE })
}

/// Asks the running sandbox, because only it knows the ports and secrets of a world file that may be gone.
async fn env(arguments: Env) -> Result<u8, Failure> {
    let not_running = |why: String| not_running(&arguments.dir, &why);
    let (client, control) = running(&arguments.dir)?;
    let mode = match arguments.mode {
        ModeName::Names => "names",
        ModeName::Ports => "ports",
    };
    let encoded: String = url::form_urlencoded::byte_serialize(arguments.principal.as_bytes()).collect();
    let url = format!("{control}/environment?as={encoded}&mode={mode}");
    let answer = client
        .get(url)
        .send()
        .await
        .map_err(|error| not_running(error.to_string()))?;
    let is_known = answer.status().is_success();
    let body = answer
        .bytes()
        .await
        .map_err(|error| not_running(error.to_string()))?;
    if !is_known {
        let message = format!("there is no principal {}", arguments.principal);
        return Err(Failure::new(USAGE, message));
    }
    let environment: BTreeMap<String, String> =
        serde_json::from_slice(&body).map_err(|error| not_running(error.to_string()))?;
    match arguments.format {
        Format::Sh => print(shell(&environment).trim_end())?,
        Format::Json => print(&format!("{:#}", serde_json::json!(environment)))?,
    }
    Ok(0)
}

async fn tell(arguments: Demo) -> u8 {
    let options = demo::Options {
        cli: arguments.cli,
        keep: arguments.keep,
        pause: arguments.pause,
        control_plane: arguments.control_plane,
        process: variables(),
    };
    Box::pin(demo::demo(&options, Box::new(io::stdout()))).await
}

/// The variables of this process that are text.
fn variables() -> BTreeMap<String, String> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

fn control_plane(arguments: &ControlPlane) -> Result<u8, Failure> {
    let performed = control_plane::perform(arguments.what, &arguments.arguments, &variables(), say)
        .map_err(|error| Failure::new(CONTROL_PLANE, error.to_string()))?;
    match performed {
        Performed::Folder(folder) => {
            print(&folder.display().to_string())?;
            Ok(0)
        }
        Performed::Tests(status) => Ok(status),
    }
}

fn print_world(arguments: &World) -> Result<u8, Failure> {
    if let Some(file) = &arguments.check {
        let world = read_file(file)?;
        world::resolve(&world).map_err(|errors| Failure::world(&errors))?;
        return Ok(0);
    }
    let world = world::built_in(&arguments.name).ok_or_else(|| unknown_world(&arguments.name))?;
    print(&format!("{world:#}"))?;
    Ok(0)
}

/// A built-in world by name, or else a file.
fn read_world(name: &str) -> Result<Value, Failure> {
    match world::built_in(name) {
        Some(world) => Ok(world),
        None if Path::new(name).exists() => read_file(Path::new(name)),
        None => Err(unknown_world(name)),
    }
}

fn read_file(file: &Path) -> Result<Value, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Failure::new(USAGE, format!("{shown} cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| Failure::new(USAGE, format!("{shown} is not JSON: {error}")))
}

fn unknown_world(name: &str) -> Failure {
    let known = world::names().join(", ");
    Failure::new(
        USAGE,
        format!("{name} is neither a file nor one of the built-in worlds: {known}"),
    )
}

fn parse_ports(text: &str) -> Result<PortPlan, String> {
    if text == "auto" {
        return Ok(PortPlan::Auto);
    }
    match text.parse() {
        Ok(first @ 1024..=65_000) => Ok(PortPlan::From(first)),
        _ => Err("must be auto or a port from 1024 to 65000".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("must be a number from 0.001 to 100000".to_owned()),
    }
}

/// One line on standard output.
fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// One line on standard error. Whoever closed it does not want to know.
fn say(line: &str) {
    let _said = writeln!(io::stderr(), "{line}").is_ok();
}
