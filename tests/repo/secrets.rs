//! What must stand nowhere in the repository.

use std::path::Path;

use crate::files;

/// Hosts of package registries, cut in two so that this file does not name them either. Clients know them; whoever
/// writes one down makes a build depend on it.
const REGISTRIES: &[(&str, &str)] = &[
    ("proxy.golang", ".org"),
    ("sum.golang", ".org"),
    ("static.crates", ".io"),
    ("index.crates", ".io"),
    ("pypi", ".org"),
    ("files.pythonhosted", ".org"),
    ("registry.npmjs", ".org"),
    ("repo.maven.apache", ".org"),
    ("deb.debian", ".org"),
];

#[test]
fn no_host_of_a_package_registry_is_named() {
    let mut found = Vec::new();
    for file in files::below(".") {
        let Some(text) = files::text(&file) else { continue };
        for (left, right) in REGISTRIES {
            if text.contains(&format!("{left}{right}")) {
                found.push(format!("{}: {left}{right}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A private key in PEM is a heading and a line of base64. Headings alone appear where such texts are recognised.
#[test]
fn no_private_key_is_committed() {
    let mut found = Vec::new();
    for file in files::below(".") {
        let Some(text) = files::text(&file) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let heading = pair[0].contains("BEGIN") && pair[0].contains("PRIVATE KEY-----");
            if heading && pair[1].trim().len() >= 60 && is_base64(pair[1].trim()) {
                found.push(file.display().to_string());
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn is_base64(line: &str) -> bool {
    line.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

/// The provider can be told apart from the world it is tested in: it never names the sandbox.
#[test]
fn the_provider_has_no_test_hook() {
    for room in [
        "go_plugin",
        "tfplugin6",
        "framework",
        "azure",
        "k8s",
        "binding",
        "provider",
    ] {
        for file in files::below(&format!("src/{room}")) {
            let text = files::text(&file).unwrap_or_default();
            for hook in ["KVTLS_SANDBOX", "crate::sandbox", "cfg(feature"] {
                assert!(!text.contains(hook), "{} holds {hook}", file.display());
            }
        }
    }
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sandbox").is_dir());
}
