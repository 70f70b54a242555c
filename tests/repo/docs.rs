//! The pages keep up with the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::files;

const TROUBLESHOOTING: &str = "docs/guides/troubleshooting.md";

/// Every code that a practitioner may read is a heading of the page that explains it, and every heading is a code
/// that somebody may read.
#[test]
fn every_code_has_its_entry_in_troubleshooting() {
    let mut used = BTreeSet::new();
    for room in ["src/provider", "src/framework", "src/binding"] {
        for file in files::below(room) {
            used.extend(codes(&files::text(&file).unwrap_or_default()));
        }
    }
    let page = files::text(Path::new(TROUBLESHOOTING)).expect("the page exists");
    let headings = page.lines().filter(|line| line.starts_with('#')).map(codes);
    let explained: BTreeSet<String> = headings.flatten().collect();
    let missing: Vec<_> = used.difference(&explained).collect();
    assert!(missing.is_empty(), "no entry in {TROUBLESHOOTING}: {missing:?}");
    let stale: Vec<_> = explained.difference(&used).collect();
    assert!(
        stale.is_empty(),
        "explained in {TROUBLESHOOTING}, printed nowhere: {stale:?}"
    );
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut broken = Vec::new();
    let mut pages = files::below("docs");
    pages.push(PathBuf::from("README.md"));
    pages.extend(files::below("examples"));
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|extension| extension == "md"))
    {
        let text = files::text(page).expect("text");
        for target in links(&text) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = page.parent().unwrap_or(Path::new(""));
            if !files::root().join(folder).join(target).exists() {
                broken.push(format!("{} → {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What is looked for before the first write is what the page tells the reader to give.
#[test]
fn every_right_that_is_looked_for_is_on_the_page_of_permissions() {
    let page = files::text(Path::new("docs/guides/permissions.md")).expect("the page exists");
    let actions = kvtls::binding::preflight::ACTIONS.map(str::to_owned);
    let kinds = kvtls::binding::observe::KINDS.map(|kind| kind.resource());
    let missing: Vec<_> = actions
        .iter()
        .chain(&kinds)
        .filter(|right| !page.contains(&format!("`{right}`")))
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}

/// The sandbox's page starts with the words that `serve` and `demo` print.
#[test]
fn the_page_of_the_sandbox_says_what_it_says_itself() {
    let page = files::text(Path::new("docs/development/sandbox.md")).expect("the page exists");
    let said = kvtls::sandbox::demo::WHAT_THIS_IS;
    let words = |text: &str| {
        text.replace('>', " ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(words(&page).contains(&words(said)), "{said}");
}

/// `KVTLS-E123` and `KVTLS-W123` in a text.
fn codes(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, _) in text.match_indices("KVTLS-") {
        let code: String = text[start..].chars().take(10).collect();
        let tail = &code["KVTLS-".len()..];
        let number = tail
            .get(1..)
            .is_some_and(|digits| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()));
        if number && (tail.starts_with('E') || tail.starts_with('W')) {
            found.insert(code);
        }
    }
    found
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    let after = text.split("](").skip(1);
    after
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains(char::is_whitespace))
        .collect()
}

#[test]
fn codes_and_links_are_found() {
    let found: Vec<_> = codes("see KVTLS-E301 and `KVTLS-W102`, not KVTLS-X1")
        .into_iter()
        .collect();
    assert_eq!(found, ["KVTLS-E301", "KVTLS-W102"]);
    assert_eq!(
        links("a [page](docs/a.md#b) and [another](c.md)"),
        ["docs/a.md#b", "c.md"]
    );
}
