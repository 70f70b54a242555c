//! A stranger's script: nothing but the binary, its folder, and the tools everybody has.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kvtls::sandbox::demo::QUICKSTART;
use kvtls::sandbox::demo::cli::{self, Scratch};
use kvtls::sandbox::demo::visitor::Environment;
use serde_json::Value;

use crate::terraform;

const SANDBOX: &str = env!("CARGO_BIN_EXE_kvtls-sandbox");

/// `kvtls-sandbox serve`, ended by closing its standard input.
struct Served {
    child: Child,
    ready: Value,
    scratch: Scratch,
}

impl Served {
    fn start() -> Self {
        let scratch = Scratch::new("contract").expect("a temporary folder");
        let mut child = Command::new(SANDBOX)
            .args(["serve", "--until-stdin-closes", "--rate", "60", "--dir"])
            .arg(scratch.path().join("world"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sandbox starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the ready line");
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self {
            child,
            ready,
            scratch,
        }
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("world")
    }

    /// Runs a script after sourcing the environment, as a person would.
    fn script(&self, script: &str) -> (bool, String) {
        let work = self.scratch.path().join("work");
        std::fs::create_dir_all(&work).expect("a working directory");
        std::fs::write(work.join("main.tf"), QUICKSTART).expect("main.tf");
        let script = format!(
            ". {}/env\nexport TF_VAR_subscription_id=$ARM_SUBSCRIPTION_ID\n{script}",
            self.dir().display()
        );
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(&work)
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.success(), text.concat())
    }

    #[track_caller]
    fn succeeds(&self, script: &str) -> String {
        let (good, text) = self.script(script);
        assert!(good, "{script}\n{text}");
        text
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

#[test]
fn the_ready_line_and_the_folder_hold_what_the_contract_says() {
    let served = Served::start();
    let ready = &served.ready;
    assert_eq!(ready["event"], "ready");
    assert_eq!(
        ready["dir"],
        served
            .dir()
            .canonicalize()
            .expect("the folder")
            .display()
            .to_string()
    );
    for member in [
        "version",
        "pid",
        "pace",
        "control",
        "front",
        "proxy",
        "vaults",
        "clusters",
        "edges",
        "principals",
    ] {
        assert!(!ready[member].is_null(), "{member}: {ready:#}");
    }
    for file in [
        "ca.pem",
        "ca-bundle.pem",
        "env",
        "env.ports",
        "kubeconfig",
        "terraform.rc",
        "sandbox.json",
        "journal.jsonl",
    ] {
        assert!(served.dir().join(file).is_file(), "{file}");
    }
    let kept: Value = serde_json::from_str(&read(&served.dir().join("sandbox.json"))).expect("JSON");
    assert_eq!(kept, *ready);
}

#[test]
fn a_script_sources_the_environment_and_drives_terraform() {
    let served = Served::start();
    let process: Environment = std::env::vars().collect();
    let program = terraform::program(&process);
    let terraform = program.display();
    served.succeeds(&format!("{terraform} apply -no-color -auto-approve"));
    served.succeeds(&format!("{terraform} plan -no-color -detailed-exitcode"));

    if tool("curl") {
        let text = served.succeeds("curl -sS https://myapp.example.com/");
        assert!(text.contains("myapp.example.com"), "{text}");
        let (good, text) = served.script("curl -sS https://example.org/");
        assert!(!good, "a host of the real world: {text}");
        let world = served.succeeds("curl -sS $KVTLS_SANDBOX/world");
        let world: Value = serde_json::from_str(&world).expect("JSON");
        assert_eq!(
            world["clusters"]["myAKSCluster"]["addon"]["enabled"], true,
            "{world:#}"
        );
    }
    if tool("kubectl") {
        let text = served.succeeds("kubectl get secretproviderclasses,deployments,ingresses,secrets -o name");
        for object in [
            "secretproviderclass",
            "deployment",
            "ingress",
            "secret/shop-my-tls-cert",
        ] {
            assert!(text.contains(object), "{object}: {text}");
        }
        served.succeeds("kubectl delete deployment shop --wait=false");
        let (good, text) = served.script(&format!("{terraform} plan -no-color -detailed-exitcode"));
        assert!(!good && text.contains("Deployment/shop"), "{text}");
    }
    served.succeeds(&format!("{terraform} destroy -no-color -auto-approve"));
}

/// The contract holds with and without these two; on CI both have to be there.
fn tool(name: &str) -> bool {
    let path = std::env::var_os("PATH")
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let found = cli::find(&path, Some(name)).is_some();
    assert!(found || std::env::var_os("CI").is_none(), "{name} is not on PATH");
    if !found {
        println!("{name} is not on PATH: its part of the contract is not tried");
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
