//! Sees to it that the provider stands beside this binary.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::visitor::Environment;

/// The provider's file name, which is also what Terraform looks for.
pub(super) const NAME: &str = "terraform-provider-kvtls";

/// What to run to build the provider: nothing unless Cargo started us. Then always, because the one that lies there
/// may be older than its source; Cargo finds out in an instant.
pub(super) fn build_command(process: &Environment, this: &Path) -> Option<Vec<String>> {
    let cargo = process.get("CARGO")?;
    let manifest = process.get("CARGO_MANIFEST_DIR")?;
    let mut command: Vec<String> = [
        cargo.as_str(),
        "build",
        "--quiet",
        "--bin",
        NAME,
        "--manifest-path",
    ]
    .map(str::to_owned)
    .to_vec();
    command.push(format!("{manifest}/Cargo.toml"));
    if this
        .parent()
        .and_then(Path::file_name)
        .is_some_and(|profile| profile == "release")
    {
        command.push("--release".to_owned());
    }
    Some(command)
}

/// Builds it if there is something to build with, and returns its path.
///
/// # Errors
/// The words to show if there is none afterwards.
pub(super) async fn ensure(process: &Environment) -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this binary's own path: {error}"))?;
    if let Some(command) = build_command(process, &this)
        && let [program, arguments @ ..] = command.as_slice()
    {
        // Its messages go to stderr, where Cargo's messages about this binary went.
        let status = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .status()
            .await;
        let status = status.map_err(|error| format!("{}: {error}", command.join(" ")))?;
        if !status.success() {
            return Err(format!("{}: {status}", command.join(" ")));
        }
    }
    let provider = this.with_file_name(NAME);
    if provider.is_file() {
        return Ok(provider);
    }
    Err(format!(
        "{} does not exist; build it with:  cargo build --bin {NAME}",
        provider.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn nothing_is_built_outside_of_cargo() {
        assert_eq!(
            build_command(&process(&[]), Path::new("/usr/bin/kvtls-sandbox")),
            None
        );
    }

    #[test]
    fn the_provider_is_built_in_the_profile_of_this_binary() {
        let process = process(&[("CARGO", "/bin/cargo"), ("CARGO_MANIFEST_DIR", "/src")]);
        let debug = build_command(&process, Path::new("/src/target/debug/kvtls-sandbox"))
            .unwrap()
            .join(" ");
        assert_eq!(
            debug,
            "/bin/cargo build --quiet --bin terraform-provider-kvtls --manifest-path /src/Cargo.toml"
        );
        let release = build_command(&process, Path::new("/src/target/release/kvtls-sandbox")).unwrap();
        assert_eq!(release.last().map(String::as_str), Some("--release"));
    }
}
