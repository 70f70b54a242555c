//! `docs/development/protocol-calls.md`: every call of the protocol, and the tests that make it. A call without a test
//! does not pass. `UPDATE_EXPECT=1 cargo test --test repo` writes the page anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::files;

/// What Terraform 1.11 calls; the real one makes these calls in `tests/protocol/cli.rs`, `process.rs` and in the
/// acceptance tests. The others are for newer ones, or for OpenTofu.
const CALLED_BY_TERRAFORM_1_11: [&str; 18] = [
    "GetProviderSchema",
    "ValidateProviderConfig",
    "ConfigureProvider",
    "StopProvider",
    "ValidateResourceConfig",
    "UpgradeResourceState",
    "ReadResource",
    "PlanResourceChange",
    "ApplyResourceChange",
    "ImportResourceState",
    "MoveResourceState",
    "CallFunction",
    "ValidateDataResourceConfig",
    "ReadDataSource",
    "ValidateEphemeralResourceConfig",
    "OpenEphemeralResource",
    "RenewEphemeralResource",
    "CloseEphemeralResource",
];

/// How many tests of a call are named.
const NAMED: usize = 3;

#[test]
fn every_call_of_the_protocol_is_tested_and_listed() {
    let proto = files::text(Path::new("proto/tfplugin6.proto")).expect("the protocol");
    let calls: Vec<&str> = proto
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next())
        .collect();
    assert_eq!(calls.len(), 36, "calls of 6.11");
    let functions = functions();
    let mut page = format!(
        "# Calls of the protocol\n\nThe {} calls of protocol 6.11, and the tests in `tests/protocol` that make them over the wire. \
         \"1.11\": Terraform 1.11 makes the call, too; what it does is in `tests/protocol/cli.rs` and `process.rs` and in the \
         acceptance tests. Written by `tests/repo/protocol_calls.rs`.\n\n| Call | 1.11 | Tests |\n|---|---|---|\n",
        calls.len()
    );
    let mut without = Vec::new();
    for call in calls {
        let tests = tests_of(&format!("{}(", snake(call)), &functions);
        if tests.is_empty() {
            without.push(call);
        }
        let named: Vec<String> = tests.iter().take(NAMED).map(|test| format!("`{test}`")).collect();
        let more = match tests.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let real = if CALLED_BY_TERRAFORM_1_11.contains(&call) {
            "yes"
        } else {
            ""
        };
        page.push_str(&format!("| {call} | {real} | {}{more} |\n", named.join(", ")));
    }
    assert_eq!(without, Vec::<&str>::new(), "calls without a test");
    let path = "docs/development/protocol-calls.md";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(files::root().join(path), &page).expect("the page is written");
    }
    let there = files::text(Path::new(path)).unwrap_or_default();
    assert!(there == page, "{path} is out of date; UPDATE_EXPECT=1 writes it");
}

/// A function of the protocol tests.
struct Function {
    /// File and name, as `cargo test` prints them.
    title: String,
    name: String,
    is_test: bool,
    body: String,
}

/// The functions of the protocol tests, by what the lines say.
fn functions() -> Vec<Function> {
    let mut found = Vec::new();
    let core = [Path::new("tests/support/core.rs").to_owned()];
    for file in files::below("tests/protocol").into_iter().chain(core) {
        let text = files::text(&file).unwrap_or_default();
        let module = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut is_test = false;
        for line in text.lines() {
            let trimmed = line.trim_start();
            if trimmed.starts_with("#[tokio::test") || trimmed.starts_with("#[test") {
                is_test = true;
            }
            let signature = trimmed
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("async ");
            if let Some(rest) = signature.strip_prefix("fn ") {
                let end = rest.find(['(', '<']).unwrap_or(rest.len());
                let name = rest.get(..end).unwrap_or_default().to_owned();
                found.push(Function {
                    title: format!("{module}::{name}"),
                    name,
                    is_test: std::mem::take(&mut is_test),
                    body: String::new(),
                });
            } else if let Some(function) = found.last_mut() {
                function.body.push_str(line);
                function.body.push('\n');
            }
        }
    }
    found
}

/// The tests that make a call themselves, or through helpers.
fn tests_of(call: &str, functions: &[Function]) -> BTreeSet<String> {
    let mut callers: BTreeMap<&str, &Function> = BTreeMap::new();
    let mut wanted = vec![call.to_owned()];
    for _ in 0..3 {
        let mut next = Vec::new();
        for function in functions {
            let calls = wanted.iter().any(|wanted| says(&function.body, wanted));
            if calls && callers.insert(&function.title, function).is_none() && !function.is_test {
                next.push(format!("{}(", function.name));
            }
        }
        wanted = next;
    }
    callers
        .into_values()
        .filter(|function| function.is_test)
        .map(|function| function.title.clone())
        .collect()
}

/// Whether `words` stand there, and not as the end of a longer name.
fn says(body: &str, words: &str) -> bool {
    body.match_indices(words).any(|(at, _)| {
        let before = body.get(..at).unwrap_or_default().chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

fn snake(call: &str) -> String {
    let mut snake = String::new();
    for character in call.chars() {
        if character.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}
