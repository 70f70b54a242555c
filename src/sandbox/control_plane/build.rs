//! Where the programs of a real control plane come from: Go modules, built once and kept beside this build.
//!
//! The recipe is `tests/control_plane/go.mod` with its sums; it is part of this binary. What was built remembers the
//! recipe and the compiler, so that a change of either builds again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Kubernetes version of the recipe.
pub(crate) const VERSION: &str = "v1.34.2";

const MODULE: &str = include_str!("../../../tests/control_plane/go.mod");
const SUMS: &str = include_str!("../../../tests/control_plane/go.sum");

/// What is built: the program, how its compiler names it, and its package.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("etcd", "server", "go.etcd.io/etcd/server/v3"),
    (
        "kube-apiserver",
        "kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-apiserver",
    ),
    (
        "kube-controller-manager",
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
];

/// The file that says what the programs were built from.
const STAMP: &str = "built-from";

/// The programs cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// Nobody has built them.
    #[error(
        "kube-apiserver, kube-controller-manager and etcd are not built: run `cargo sandbox control-plane build` (once, \
         about six minutes on two cores; needs Go 1.24 or newer on PATH), or set KVTLS_SKIP_CONTROL_PLANE=1 to leave out what needs them"
    )]
    Missing,
    /// There is no compiler.
    #[error(
        "Go is not on PATH: install Go 1.24 or newer (https://go.dev/dl) and run this again, or set \
         KVTLS_SKIP_CONTROL_PLANE=1 to leave out what needs a real kube-apiserver"
    )]
    NoGo,
    /// The compiler did not succeed; its words are on stderr.
    #[error("`go build` failed")]
    Failed,
    /// A file.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where the programs are kept: in the target folder that this binary was built into.
pub(crate) fn folder() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let target = own
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .unwrap_or(own.parent().unwrap_or(Path::new(".")));
    target.join("control-plane").join(VERSION)
}

/// The folder that holds the programs of this recipe.
///
/// # Errors
/// When they are not built, or from another recipe.
pub(crate) fn built() -> Result<PathBuf, BuildError> {
    let folder = folder();
    let whole = PROGRAMS
        .iter()
        .all(|(program, ..)| folder.join(program).is_file());
    let stamp = fs::read_to_string(folder.join(STAMP)).unwrap_or_default();
    // Any compiler will do for running; whoever builds compares it, too.
    let same = stamp.lines().next() == Some(recipe().as_str());
    if whole && same {
        Ok(folder)
    } else {
        Err(BuildError::Missing)
    }
}

/// Builds what is missing, and says so on stderr, because it takes minutes.
///
/// # Errors
/// When there is no Go, or it does not succeed.
pub(crate) fn build(say: impl Fn(&str)) -> Result<PathBuf, BuildError> {
    let folder = folder();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Io { path, source }
    };
    let module = folder.join("module");
    fs::create_dir_all(&module).map_err(failed(&module))?;
    // Two who build at the same time build once.
    let lock = folder.join("lock");
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(failed(&folder))?;
    let compiler = go_version();
    if let Ok(built) = built() {
        let stamp = fs::read_to_string(built.join(STAMP)).unwrap_or_default();
        // Without a compiler, as with a cache that came from elsewhere, what is there is good.
        if compiler.is_none() || stamp.lines().nth(1) == compiler.as_deref() {
            return Ok(built);
        }
    }
    let compiler = compiler.ok_or(BuildError::NoGo)?;
    for (name, content) in [("go.mod", MODULE), ("go.sum", SUMS)] {
        let file = module.join(name);
        fs::write(&file, content).map_err(failed(&file))?;
    }
    // Beside the programs: whoever runs those that are there keeps them.
    let fresh = folder.join("fresh");
    fs::create_dir_all(&fresh).map_err(failed(&fresh))?;
    let names: Vec<_> = PROGRAMS.iter().map(|(program, ..)| *program).collect();
    say(&format!("building {} with {compiler}", names.join(", ")));
    // All at once: what they have in common is compiled beside what they have not.
    let status = Command::new("go")
        .current_dir(&module)
        .args([
            "build",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            "-ldflags",
        ])
        .arg(linked())
        .arg("-o")
        .arg(&fresh)
        .args(PROGRAMS.iter().map(|(.., package)| package))
        // Settings of this machine that are meant for other modules.
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    if !status.map_err(failed(&module))?.success() {
        return Err(BuildError::Failed);
    }
    for (program, compiled, _) in PROGRAMS {
        let file = folder.join(program);
        fs::rename(fresh.join(compiled), &file).map_err(failed(&file))?;
    }
    let stamp = folder.join(STAMP);
    fs::write(&stamp, format!("{}\n{compiler}\n", recipe())).map_err(failed(&stamp))?;
    Ok(folder)
}

/// What the linker is told: no symbols, and the version that a release would have.
fn linked() -> String {
    let package = "k8s.io/component-base/version";
    let (major, minor) = VERSION
        .trim_start_matches('v')
        .split_once('.')
        .unwrap_or_default();
    let minor = minor.split('.').next().unwrap_or_default();
    format!(
        "-s -w -X {package}.gitMajor={major} -X {package}.gitMinor={minor} -X {package}.gitVersion={VERSION} \
         -X {package}.gitTreeState=clean"
    )
}

/// What stands for the recipe: a hash of everything that goes into it.
fn recipe() -> String {
    let linked = linked();
    let programs = PROGRAMS
        .iter()
        .flat_map(|(program, _, package)| [*program, *package]);
    let all: Vec<_> = [MODULE, SUMS, &linked].into_iter().chain(programs).collect();
    super::super::journal::hash(all.join("\n").as_bytes())
}

/// The compiler's own words for its version; `None` without one.
fn go_version() -> Option<String> {
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !version.is_empty()).then_some(version)
}
