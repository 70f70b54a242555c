//! The files of the repository, as far as people wrote them.

use std::path::{Path, PathBuf};

/// Folders that hold nothing people wrote.
const PASSED_OVER: &[&str] = &["target", ".git", ".terraform", ".kvtls-sandbox"];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the repository, by their path from its root.
pub(crate) fn below(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|file| file.strip_prefix(root()).expect("below the root").to_owned())
        .collect()
}

/// The text of a file; `None` if it is not text.
pub(crate) fn text(file: &Path) -> Option<String> {
    std::fs::read_to_string(root().join(file)).ok()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !PASSED_OVER.contains(&name.as_str()) {
                collect(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}
