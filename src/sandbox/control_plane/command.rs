//! `kvtls-sandbox control-plane`: builds the programs, says where they are, runs the tests that need them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use super::build::{self, BuildError};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// Builds the programs, if they are not there.
    Build,
    /// Prints the folder that holds them.
    Path,
    /// Builds them, then runs the tests that compare and use them.
    Test,
}

/// What came of it.
pub(crate) enum Performed {
    /// The programs are here.
    Folder(PathBuf),
    /// The tests ended with this status.
    Tests(u8),
}

/// It did not come to that.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The programs are not there.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The tests cannot be run from here.
    #[error("the tests are run by Cargo: use `cargo control-plane` in the repository")]
    NoCargo,
    /// Cargo does not start.
    #[error("cargo: {0}")]
    Cargo(#[from] std::io::Error),
}

/// The variable that leaves out what needs a real control plane.
const SKIP: &str = "KVTLS_SKIP_CONTROL_PLANE";
/// The variable that gives the world of every test a real control plane.
const KIND: &str = "KVTLS_CONTROL_PLANE";
/// The acceptance cases that are not run on it, by the starts of their names; all others are. A room whose scenarios belong
/// to both APIs is left out case by case.
const LEFT_OUT: &[(&str, &str)] = &[
    ("azure_failures::", "is about what Azure refuses"),
    ("bad_input::", "ends before a cluster is asked"),
    ("certificate::a_", "is about a vault's certificates"),
    ("certificate::pem_", "is about a vault's certificates"),
    ("certificate::s05_", "is about a vault's certificates"),
    ("certificate::s22_", "is about a vault's certificates"),
    ("certificate::s23_", "is about a vault's certificates"),
    ("certificate::somebody_", "is about a vault's certificates"),
    ("certificate::what_", "is about a vault's certificates"),
    (
        "changes::a_rename_that_the_controllers_webhook_refuses",
        "the webhook that it is about is played by the embedded API alone",
    ),
    ("cluster_addon::", "is about the add-on as Azure has it"),
    ("contract::", "is about the sandbox as a program"),
    ("identity::", "is about who signs in to Azure, and how"),
    ("key_vault::", "is about vaults, and binds nothing"),
    (
        "many::s08_",
        "ten mounts at sixty times the speed do not settle there",
    ),
];

/// The cases that say most about what a controller manager does: rollouts, restarts, what belongs to nobody, namespaces
/// that end. They run with a real one; the others with the sandbox's own, which begins in no time.
const CONTROLLED: &[&str] = &[
    "adopt::s17_",
    "changes::a_renamed_",
    "changes::a_rollout_",
    "changes::s05_",
    "create::",
    "destroy::",
    "drift::s10_drift_in_the_cluster",
    "gateway::s19_from_ingress_to_gateway",
    "objects::pods_of_ours",
    "secrets::",
    "teardown::",
];

/// Does it. `more` goes to the test programs and chooses among the tests.
pub(crate) fn perform(
    task: Task,
    more: &[OsString],
    process: &BTreeMap<String, String>,
    say: impl Fn(&str),
) -> Result<Performed, CommandError> {
    match task {
        Task::Build => Ok(Performed::Folder(build::build(say)?)),
        Task::Path => Ok(Performed::Folder(build::built()?)),
        Task::Test if process.get(SKIP).is_some_and(|skip| skip == "1") => {
            say(&format!(
                "{SKIP}=1: nothing was compared with a real kube-apiserver"
            ));
            Ok(Performed::Tests(0))
        }
        Task::Test => {
            build::build(say)?;
            test(more, process)
        }
    }
}

fn test(more: &[OsString], process: &BTreeMap<String, String>) -> Result<Performed, CommandError> {
    let (Some(cargo), Some(folder)) = (process.get("CARGO"), process.get("CARGO_MANIFEST_DIR")) else {
        return Err(CommandError::NoCargo);
    };
    let without = |names: &[&str]| {
        let skips = names
            .iter()
            .flat_map(|name| ["--skip", *name])
            .map(OsString::from);
        more.iter().cloned().chain(skips).collect::<Vec<_>>()
    };
    let left_out: Vec<&str> = LEFT_OUT.iter().map(|(name, _why)| *name).collect();
    let mut runs = vec![("control_plane", "real", more.to_vec())];
    if more.is_empty() {
        let controlled = CONTROLLED.iter().map(OsString::from).collect();
        runs.push(("acceptance", "controllers", controlled));
        runs.push(("acceptance", "real", without(&[&left_out, CONTROLLED].concat())));
    } else {
        // Who chooses gets all of what was chosen with a real one.
        runs.push(("acceptance", "controllers", without(&left_out)));
    }
    let mut worst = 0;
    for (tier, kind, arguments) in runs {
        let status = Command::new(cargo)
            .args(["test", "--locked", "--manifest-path"])
            .arg(format!("{folder}/Cargo.toml"))
            // Each thread keeps a control plane of 400 MB, and a core, busy.
            .args(["--test", tier, "--", "--test-threads", "3"])
            .args(arguments)
            .env(KIND, kind)
            .status()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        worst = worst.max(code.unwrap_or(1));
    }
    Ok(Performed::Tests(worst))
}

#[cfg(test)]
mod tests {
    use super::LEFT_OUT;

    /// The scenarios of both APIs among the rooms that are otherwise about Azure.
    #[test]
    fn what_belongs_to_both_is_not_left_out() {
        let both = [
            "certificate::s02_vault_certificate_and_binding_in_one_apply",
            "certificate::s13_a_sibling_certificate_is_waited_for_where_terraform_knows_the_order",
            "many::s16_fifty_bindings_make_one_write_each_of_cluster_and_grant",
            "kubernetes_failures::f_what_is_applied_to_the_cluster",
        ];
        for name in both {
            // As the test program takes `--skip`.
            let left = LEFT_OUT.iter().find(|(start, _)| name.contains(start));
            assert_eq!(left, None, "{name}");
        }
    }
}
