//! The process: one line on stdout, the lock, exit codes, files.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn sandbox() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kvtls-sandbox"))
}

fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A serving process that ends with its standard input.
fn serve(dir: &Path) -> (Child, Value) {
    let mut child = sandbox()
        .args(["serve", "--until-stdin-closes", "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ready = serde_json::from_str(&line).unwrap();
    (child, ready)
}

#[test]
fn serve_prints_one_line_and_ends_with_its_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, ready) = serve(dir.path());
    assert_eq!(ready["event"], "ready");
    assert_eq!(ready["pid"], child.id());
    let written: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("sandbox.json")).unwrap()).unwrap();
    assert_eq!(written, ready);
    let env = std::fs::read_to_string(dir.path().join("env")).unwrap();
    assert!(env.contains("export HTTPS_PROXY='http://127.0.0.1:"), "{env}");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(!dir.path().join("env").exists(), "credentials are removed");
    assert!(dir.path().join("journal.jsonl").exists());
}

#[test]
fn a_second_run_in_the_same_directory_is_refused_and_a_killed_one_is_succeeded() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = serve(dir.path());
    let (code, stdout, stderr) = ended(sandbox().args(["serve", "--dir"]).arg(dir.path()));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("another sandbox runs in"), "{stderr}");
    first.kill().unwrap();
    first.wait().unwrap();
    let (code, _, stderr) = ended(
        sandbox()
            .args(["run", "--dir"])
            .arg(dir.path())
            .args(["--", "true"]),
    );
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn run_exits_as_its_command_does_and_gives_it_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let script = "test -n \"$KVTLS_SANDBOX\" && test -r \"$SSL_CERT_FILE\" && exit 7";
    let mut command = sandbox();
    command
        .args(["run", "--as", "reader", "--dir"])
        .arg(dir.path())
        .args(["--", "sh", "-c", script]);
    let (code, stdout, stderr) = ended(&mut command);
    assert_eq!((code, stdout.as_str()), (Some(7), ""), "{stderr}");
    assert!(stderr.starts_with("This is a sandbox on 127.0.0.1."), "{stderr}");
    assert!(!dir.path().join("kubeconfig").exists(), "credentials are removed");
}

#[test]
fn control_finds_the_sandbox_that_gave_it_its_environment() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "cd / && {} control GET /clock",
        env!("CARGO_BIN_EXE_kvtls-sandbox")
    );
    let mut command = sandbox();
    command.args(["run", "--dir"]).arg(dir.path());
    command.args(["--", "sh", "-c", &script]);
    let (code, stdout, stderr) = ended(&mut command);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("\"now\""), "{stdout}");
}

#[test]
fn env_speaks_for_another_principal_of_a_running_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, _) = serve(dir.path());
    let env = |name: &str| {
        let mut command = sandbox();
        command
            .args([
                "env", "--format", "json", "--mode", "ports", "--as", name, "--dir",
            ])
            .arg(dir.path());
        ended(&mut command)
    };
    let (code, planner, _) = env("planner");
    assert_eq!(code, Some(0));
    let planner: Value = serde_json::from_str(&planner).unwrap();
    let reader: Value = serde_json::from_str(&env("reader").1).unwrap();
    assert_ne!(planner["ARM_CLIENT_ID"], reader["ARM_CLIENT_ID"]);
    assert_eq!(planner["ARM_ENVIRONMENT"], "custom");
    assert_eq!(env("nobody").0, Some(2));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(env("planner").0, Some(2), "nothing runs there any more");
}

#[test]
fn a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, _, stderr) = ended(
        sandbox()
            .args(["serve", "--ports", &port, "--dir"])
            .arg(dir.path()),
    );
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains(&port), "{stderr}");
}

#[test]
fn every_mistake_of_a_world_file_is_listed_with_its_pointer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("world.json");
    std::fs::write(
        &file,
        r#"{"version": 2, "extends": "default", "clusters": {"a": {"nodes": -1}}, "sky": 1}"#,
    )
    .unwrap();
    let (code, stdout, stderr) = ended(sandbox().args(["world", "--check"]).arg(&file));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    for pointer in ["/version: ", "/clusters/a/nodes: ", "/sky: "] {
        assert!(stderr.contains(pointer), "{pointer}: {stderr}");
    }
    let (code, world, _) = ended(sandbox().arg("world"));
    assert_eq!(code, Some(0));
    std::fs::write(&file, world).unwrap();
    assert_eq!(ended(sandbox().args(["world", "--check"]).arg(&file)).0, Some(0));
}
