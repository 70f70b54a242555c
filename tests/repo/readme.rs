//! The README's commands exist, and its configuration is the one that is tried.

use std::path::Path;

use crate::files;

/// Commands that Cargo brings along, as far as the README uses them.
const CARGO: &[&str] = &["build", "test", "run", "bench", "doc", "fmt", "clippy"];

#[test]
fn every_cargo_command_of_the_readme_exists() {
    let config = files::text(Path::new(".cargo/config.toml")).expect("aliases");
    let alias = |name: &str| {
        config
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{name} =")))
    };
    let mut seen = 0;
    for line in commands() {
        let Some(rest) = line.strip_prefix("cargo ") else {
            continue;
        };
        let name = rest.split_whitespace().next().unwrap_or_default();
        assert!(CARGO.contains(&name) || alias(name), "`{line}`: no such command");
        seen += 1;
    }
    assert!(seen >= 2, "the README shows `cargo demo` and `cargo test`");
}

#[test]
fn every_path_of_the_readme_exists() {
    let readme = files::text(Path::new("README.md")).expect("README.md");
    let quoted = readme.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|text| {
        ["docs/", "src/", "examples/", "tests/", ".ci/"]
            .iter()
            .any(|start| text.starts_with(start))
    });
    for path in paths {
        let path = path.trim_end_matches('/').trim_end_matches("/**");
        assert!(files::root().join(path).exists(), "`{path}` does not exist");
    }
}

/// The resource of the README is the quickstart's: what is shown is what the demo and the tests run.
#[test]
fn the_readme_shows_the_quickstart() {
    let readme = files::text(Path::new("README.md")).expect("README.md");
    let quickstart = kvtls::sandbox::demo::QUICKSTART;
    let start = quickstart
        .find("resource \"kvtls_ingress_binding\"")
        .expect("the resource");
    let end = quickstart[start..].find("\n}\n").expect("its end");
    let resource = &quickstart[start..start + end + 2];
    assert!(readme.contains(resource), "README.md shows:\n{resource}");
}

#[cfg(unix)]
#[test]
fn what_ci_runs_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;
    for script in [".ci/run", ".ci/opentofu"] {
        let mode = std::fs::metadata(files::root().join(script))
            .expect(script)
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is executable");
    }
    let run = files::text(Path::new(".ci/run")).expect("text");
    for command in ["cargo fmt", "cargo clippy", "cargo test", "cargo doc"] {
        assert!(run.contains(command), "{command}");
    }
}

/// Lines of the README's shell blocks.
fn commands() -> Vec<String> {
    let readme = files::text(Path::new("README.md")).expect("README.md");
    let mut inside = false;
    let mut found = Vec::new();
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = !inside && (line == "```sh" || line == "```shell");
        } else if inside {
            found.push(line.trim_start_matches("$ ").trim().to_owned());
        }
    }
    found
}
