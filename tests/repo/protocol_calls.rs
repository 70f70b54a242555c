//! `docs/development/protocol-calls.md`: every call of the protocol, and the tests that make it. A call without a test
//! does not pass. `UPDATE_EXPECT=1 cargo test --test repo` writes the page anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

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
        let tests = tests_of(&snake(call), &functions);
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
    module: String,
    name: String,
    is_test: bool,
    /// Called as `.name(`.
    is_method: bool,
    body: String,
    /// What its file can reach of other files: `crate::core::`.
    reaches: Rc<BTreeSet<String>>,
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
        let reaches = Rc::new(reaches(&text));
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
                    module: module.clone(),
                    name,
                    is_test: std::mem::take(&mut is_test),
                    is_method: false,
                    body: format!("{line}\n"),
                    reaches: Rc::clone(&reaches),
                });
            } else if let Some(function) = found.last_mut() {
                function.body.push_str(line);
                function.body.push('\n');
            }
        }
    }
    for function in &mut found {
        let (_, from_its_name) = function.body.split_once("fn ").unwrap_or_default();
        let first = from_its_name.split(['(', ',', ')']).nth(1).unwrap_or_default();
        function.is_method = first.trim().ends_with("self");
        let signature = function.body.find('{').unwrap_or_default();
        function.body.drain(..signature);
    }
    found
}

/// The other files of the tests that a file names.
fn reaches(text: &str) -> BTreeSet<String> {
    let after = text.split("crate::").skip(1);
    after
        .filter_map(|rest| Some(rest.split_once("::")?.0.to_owned()))
        .filter(|module| module.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect()
}

/// The tests that make a call themselves, or through helpers: of their own file, or of one that it names.
fn tests_of(call: &str, functions: &[Function]) -> BTreeSet<String> {
    let mut callers: BTreeMap<&str, &Function> = BTreeMap::new();
    for function in functions.iter().filter(|function| makes(&function.body, call)) {
        callers.insert(&function.title, function);
    }
    for _ in 0..3 {
        let helpers: Vec<&Function> = callers.values().copied().filter(|it| !it.is_test).collect();
        for function in functions {
            if helpers.iter().any(|helper| uses(function, helper)) {
                callers.insert(&function.title, function);
            }
        }
    }
    callers
        .into_values()
        .filter(|function| function.is_test)
        .map(|function| function.title.clone())
        .collect()
}

/// Whether the client's method is called there, or stands in a row of a table of calls with its request.
fn makes(body: &str, call: &str) -> bool {
    let in_a_row = format!("{call}(tf::");
    body.contains(&format!(".{call}(")) || body.lines().any(|line| line.trim_start().starts_with(&in_a_row))
}

/// Whether one calls the other, which is a method or a function: not what is called the same elsewhere.
fn uses(function: &Function, helper: &Function) -> bool {
    if function.module != helper.module && !function.reaches.contains(&helper.module) {
        return false;
    }
    if helper.is_method {
        return function.body.contains(&format!(".{}(", helper.name));
    }
    let called = format!("{}(", helper.name);
    function.body.match_indices(&called).any(|(at, _)| {
        let before = function.body.get(..at).unwrap_or_default();
        match before.strip_suffix("::") {
            Some(path) => path.ends_with(&helper.module) || path.ends_with("Self"),
            None => !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.'),
        }
    })
}

#[test]
fn a_call_is_a_method_of_the_client_and_a_helper_is_of_its_file() {
    let function = |title: &str, is_method, is_test, body: &str, reached: &[&str]| {
        let (module, name) = title.split_once("::").expect("a title");
        Function {
            title: title.to_owned(),
            module: module.to_owned(),
            name: name.to_owned(),
            is_test,
            is_method,
            body: body.to_owned(),
            reaches: Rc::new(reached.iter().map(|it| (*it).to_owned()).collect()),
        }
    };
    let functions = [
        function("core::plan", true, false, "self.client.plan_it(x)", &[]),
        function("one::list", false, false, "client\n.list_it(x)", &[]),
        function("one::lists", false, true, "list(&mut client)", &[]),
        function("one::only_a_type", false, true, "Type::list(Type::Bool)", &[]),
        function("one::plans", false, true, "core.plan(x)", &["core"]),
        function("two::cli", false, true, "cli.plan(x); list(x)", &["one_more"]),
        function(
            "two::table",
            false,
            true,
            "refused!(\n  list_it(tf::list_it::Request),\n)",
            &[],
        ),
        function("two::far", false, true, "crate::one::list(x)", &["one"]),
    ];
    let of = |call: &str| tests_of(call, &functions).into_iter().collect::<Vec<_>>();
    assert_eq!(of("list_it"), ["one::lists", "two::far", "two::table"]);
    assert_eq!(of("plan_it"), ["one::plans"]);
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
