//! The figures of the project, measured in one run and printed beside their budgets. Never an assertion: a busy
//! machine is no bug.
//!
//! `cargo bench` builds everything as it is shipped; `cargo bench -- many` measures only that part (`process`, `framework`,
//! `one`, `many`). The CLI is the real one.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and has nobody to hand an error to"
)]

#[path = "../tests/support/bindings.rs"]
mod bindings;
#[path = "../tests/support/host.rs"]
#[expect(dead_code, reason = "shared with the protocol tests, which use all of it")]
mod host;
mod no_op;
mod scale;
#[path = "../tests/support/terraform.rs"]
#[expect(dead_code, reason = "shared with the acceptance tests, which use all of it")]
mod terraform;
#[path = "../tests/support/world.rs"]
#[expect(dead_code, reason = "shared with the acceptance tests, which use all of it")]
mod world;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bindings::bindings;
use host::{Channel, Launch};
use kvtls::sandbox::demo::cli::Scratch;
use kvtls::tfplugin6::dynamic_value;
use serde_json::{Value, json};
use terraform::{PROVIDER, Terraform};
use world::World;

const SANDBOX: &str = env!("CARGO_BIN_EXE_kvtls-sandbox");
/// What Terraform passes to a plugin so that it does not think a human started it.
const COOKIE: (&str, &str) = (
    "TF_PLUGIN_MAGIC_COOKIE",
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
);
/// The argument with which this program is a provider that does nothing.
const SERVE: &str = "--serve-no-op";
const ROUNDS: usize = 9;
/// No-op reads of each measurement: those of a large plan. Go's framework keeps a context of every request until its
/// process is told to stop (`contextCancels` in its `proto6server`), 24 KB each, so that its memory says how many there
/// were.
const READS: usize = 2_000;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == SERVE) {
        return no_op::serve();
    }
    // `cargo test --benches` and the like only want to know whether it starts.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return ExitCode::SUCCESS;
    }
    // `cargo bench -- many` measures only that.
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    println!("{:<52} {:>12}   budget", "figure (median)", "measured");
    if wanted("process") {
        process();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if wanted("framework") {
        runtime.block_on(the_framework_alone());
    }
    if wanted("scale") {
        runtime.block_on(scale::measure());
    }
    if wanted("one") {
        runtime.block_on(with_the_cli());
    }
    if wanted("many") {
        runtime.block_on(many_bindings());
    }
    ExitCode::SUCCESS
}

fn process() {
    let mut resident = 0;
    let handshake = median(ROUNDS * 3, || {
        let start = Instant::now();
        let (child, line) = first_line(
            Command::new(PROVIDER)
                .env(COOKIE.0, COOKIE.1)
                .env("PLUGIN_PROTOCOL_VERSIONS", "6"),
        );
        let took = start.elapsed();
        assert!(line.contains("|grpc|"), "the handshake line: {line}");
        resident = rss(child.id());
        took
    });
    show("provider: exec to handshake line", &millis(handshake), "5 ms");
    show(
        "provider: resident memory, idle",
        &format!("{:.1} MB", resident as f64 / 1024.0),
        "10 MB",
    );
    let size = std::fs::metadata(PROVIDER).expect("the provider").len();
    show("provider: size", &format!("{:.1} MB", size as f64 / 1e6), "12 MB");

    let start = median(ROUNDS, || {
        let scratch = Scratch::new("bench").expect("a temporary folder");
        let start = Instant::now();
        let (mut child, line) = first_line(
            Command::new(SANDBOX)
                .args(["serve", "--until-stdin-closes", "--dir"])
                .arg(scratch.path().join("world")),
        );
        let took = start.elapsed();
        assert!(line.contains("ready"), "the ready line: {line}");
        drop(child.0.stdin.take());
        drop(child.0.wait());
        took
    });
    show("sandbox: exec to ready line", &millis(start), "300 ms");
}

/// What the framework itself costs: reads of a resource that does nothing, by a process as Terraform starts it, and the
/// same of a provider in Go. Where nobody asks for a log, Go's writes all of its own all the same, 23 lines of 10 KB
/// for each read, and Terraform throws them away; what it does without stands beside.
async fn the_framework_alone() {
    let ours = std::env::current_exe().expect("this program");
    measure_no_op("framework", &ours, &[SERVE], &[]).await;
    match built_in_go() {
        Some(beside) => {
            measure_no_op("Go's framework", &beside, &[], &[]).await;
            let silent = [("TF_LOG_SDK", "OFF")];
            measure_no_op("Go's, without its log", &beside, &[], &silent).await;
        }
        None => show("Go's framework", "not measured", "it takes Go"),
    }
}

/// The provider in Go; nothing without Go.
fn built_in_go() -> Option<PathBuf> {
    let executable = Path::new(env!("CARGO_TARGET_TMPDIR")).join("noop-in-go");
    let status = Command::new("go")
        .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
        .arg(&executable)
        .arg(".")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/beside"))
        .env("CGO_ENABLED", "0")
        .status()
        .ok()?;
    status.success().then_some(executable)
}

async fn measure_no_op(
    whose: &str,
    executable: &Path,
    arguments: &[&str],
    environment: &[(&'static str, &'static str)],
) {
    let start = || {
        // Without TLS: what Go's plugins hold up is a certificate authority's own, which this host's library refuses.
        let mut launch = Launch::by_terraform()
            .environment(&[("PLUGIN_CLIENT_CERT", "")])
            .environment(environment);
        launch.executable = executable.to_owned();
        launch.arguments = arguments.iter().map(ToString::to_string).collect();
        launch.start()
    };
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let plugin = start().await;
        times.push(begun.elapsed());
        plugin.signal("KILL").await;
        plugin.ended().await;
    }
    show(
        &format!("{whose}: exec to handshake line"),
        &millis(middle(times)),
        "",
    );

    let plugin = start().await;
    let channel = plugin.dial().await;
    // Neither starts cold.
    reads_per_second(&channel, 10).await;
    for (title, tasks) in [("one after another", 1), ("ten at a time", 10)] {
        let rate = reads_per_second(&channel, tasks).await;
        show(
            &format!("{whose}: no-op reads per second, {title}"),
            &format!("{rate:.0}"),
            "",
        );
    }
    let resident = rss(plugin.id()) as f64 / 1024.0;
    show(
        &format!("{whose}: resident memory after them"),
        &format!("{resident:.1} MB"),
        "",
    );
    // Not every plugin answers before it goes when it is asked to.
    plugin.signal("KILL").await;
    plugin.ended().await;
}

async fn reads_per_second(channel: &Channel, tasks: usize) -> f64 {
    use kvtls::tfplugin6::generated::{DynamicValue, read_resource};
    let schema = no_op::schema();
    let message = DynamicValue {
        msgpack: dynamic_value::encode(&schema.ty(), &no_op::state(&schema)).expect("a state"),
        json: Vec::new(),
    };
    let begun = Instant::now();
    let workers = (0..tasks).map(|_| {
        let (mut client, message) = (channel.provider(), message.clone());
        tokio::spawn(async move {
            for _ in 0..READS / tasks {
                let request = read_resource::Request {
                    type_name: no_op::TYPE.to_owned(),
                    current_state: Some(message.clone()),
                    ..Default::default()
                };
                client.read_resource(request).await.expect("an answer");
            }
        })
    });
    for worker in futures_util::future::join_all(workers).await {
        worker.expect("no panic");
    }
    READS as f64 / begun.elapsed().as_secs_f64()
}

async fn with_the_cli() {
    let world = World::start().await;
    let nothing = Terraform::new(
        &world.deployer,
        "resource \"terraform_data\" \"one\" {\n  input = \"x\"\n}\n",
    );
    nothing.apply().await.succeeds();
    let shop = world.quickstart();

    let before = world.now_in_journal().await;
    let start = Instant::now();
    shop.apply().await.succeeds();
    let created = start.elapsed();
    let create = requests(&world, before).await;

    let alone = plans(&nothing).await;
    let bound = plans(&shop).await;
    show("terraform plan of one terraform_data", &millis(alone), "");
    show("terraform plan of one binding in sync", &millis(bound), "");
    show(
        "  beyond Terraform's own time",
        &millis(bound.saturating_sub(alone)),
        "150 ms",
    );
    show(
        "terraform apply of one binding (sandbox at rate 60)",
        &millis(created),
        "",
    );

    let before = world.now_in_journal().await;
    shop.command(&["plan", "-refresh-only", "-json"]).await.succeeds();
    let refresh = requests(&world, before).await;
    let before = world.now_in_journal().await;
    shop.destroy().await.succeeds();
    let destroy = requests(&world, before).await;
    show_requests("create", &create, "");
    show_requests("refresh", &refresh, "8");
    show_requests("destroy", &destroy, "");
}

/// Many bindings of one cluster and one vault: what they share is asked and written once.
async fn many_bindings() {
    const COUNT: usize = 50;
    let world = World::start().await;
    for count in [1, 10, COUNT] {
        let shops = Terraform::new(&world.deployer, &bindings(count, ""));
        let before = world.now_in_journal().await;
        shops.apply().await.succeeds();
        let writes = world.writes_after(before).await;
        let of = |part: &str| writes.iter().filter(|write| write.contains(part)).count();
        let parts = format!(
            "{} cluster, {} grant",
            of("/managedClusters/"),
            of("/roleAssignments/")
        );
        show(
            &format!("writes of {count} creations at once ({parts})"),
            &writes.len().to_string(),
            "1 cluster, 1 grant",
        );
        let before = world.now_in_journal().await;
        shops
            .command(&["plan", "-refresh-only", "-json"])
            .await
            .succeeds();
        let refresh = requests(&world, before).await;
        show_requests(&format!("refresh of {count} bindings"), &refresh, "");
        if count == COUNT {
            slowly(&world, &shops, COUNT).await;
        }
        shops.destroy().await.succeeds();
        // The next one finds the add-on as the first one found it.
        world
            .change_addon(|addon| *addon = json!({ "enabled": false, "config": null }))
            .await;
    }
}

/// Plans where each request takes 50 ms.
async fn slowly(world: &World, shops: &Terraform, count: usize) {
    let nothing = format!("resource \"terraform_data\" \"all\" {{\n  count = {count}\n  input = \"x\"\n}}\n");
    let nothing = Terraform::new(&world.deployer, &nothing);
    nothing.apply().await.succeeds();
    let alone = plans(&nothing).await;
    let near = plans(shops).await;
    show(
        &format!("terraform plan of {count} bindings, beyond Terraform's own"),
        &millis(near.saturating_sub(alone)),
        "",
    );
    let slow = json!({ "match": {}, "times": Value::Null, "do": { "delay": "50ms" } });
    let fault = world.fault(slow).await;
    let bound = plans(shops).await;
    world.release(&fault).await;
    show(
        &format!("terraform plan of {count} bindings, 50 ms a request"),
        &millis(bound),
        "",
    );
    show(
        "  beyond Terraform's own time",
        &millis(bound.saturating_sub(alone)),
        "2000 ms",
    );
}

/// The sum of requests but for tokens, and how it is made up.
fn show_requests(what: &str, counted: &BTreeMap<String, usize>, budget: &str) {
    let counts = counted.iter().filter(|(plane, _)| *plane != "login");
    let total: usize = counts.map(|(_, count)| count).sum();
    let parts = counted.iter().map(|(plane, count)| format!("{plane} {count}"));
    let parts = parts.collect::<Vec<_>>().join(", ");
    show(
        &format!("requests of {what} ({parts})"),
        &total.to_string(),
        budget,
    );
}

/// Requests after that entry of the journal, by plane.
async fn requests(world: &World, after: u64) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for entry in world.journal_after(after).await {
        let plane = entry["plane"].as_str().unwrap_or_default().to_owned();
        if plane != "control" {
            *counted.entry(plane).or_insert(0) += 1;
        }
    }
    counted
}

async fn plans(terraform: &Terraform) -> Duration {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        terraform.command(&["plan", "-json"]).await.succeeds();
        times.push(start.elapsed());
    }
    middle(times)
}

/// A process that is ended with this.
struct Running(Child);

impl std::ops::Deref for Running {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn first_line(command: &mut Command) -> (Running, String) {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output"))
        .read_line(&mut line)
        .expect("a line");
    (Running(child), line)
}

/// Resident memory in KiB.
fn rss(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .unwrap_or_default()
}

fn median(rounds: usize, mut measured: impl FnMut() -> Duration) -> Duration {
    middle((0..rounds).map(|_| measured()).collect())
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn show(what: &str, measured: &str, budget: &str) {
    println!("{what:<52} {measured:>12}   {budget}");
}
