//! Who may name whom. Every `crate::` and `super::` path of every file is compared with one table.

use std::collections::BTreeSet;
use std::path::Path;

use syn::visit::Visit;

use crate::files;

/// A place in the source, and what it may name of ours beside itself. The longest place that fits a file decides.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("duration", &[]),
    ("go_plugin", &[]),
    ("framework", &["duration"]),
    ("tls", &[]),
    ("tfplugin6", &["framework"]),
    ("azure", &["duration", "tls"]),
    ("azure::ids", &[]),
    ("k8s", &["tls"]),
    ("k8s::objects", &[]),
    // What decides is pure: it knows the clients' words, and no client.
    ("binding", VOCABULARY),
    ("binding::observe", CLIENTS),
    ("binding::execute", CLIENTS),
    ("binding::converge", CLIENTS),
    ("binding::prove", CLIENTS),
    ("binding::preflight::ask", CLIENTS),
    ("binding::rehearse", CLIENTS),
    ("binding::world", CLIENTS),
    // Keeps their errors as causes.
    ("binding::error", CLIENTS),
    ("provider", &["framework", "binding", "azure", "k8s", "tls"]),
    // Never the clients' wire types: shared structs would let one mistake cancel itself.
    ("sandbox", &["tls"]),
];

const CLIENTS: &[&str] = &["tls", "azure", "k8s"];

/// Plain values of the clients: what is seen, and what is wished.
const VOCABULARY: &[&str] = &[
    "duration",
    "tls",
    "azure::ids",
    "azure::AccessPolicy",
    "azure::Addon",
    "azure::AddonIdentity",
    "azure::Caller",
    "azure::FederatedCredential",
    "azure::MOST_CREDENTIALS",
    "azure::ManagedIdentity",
    "azure::AddonWish",
    "azure::Cluster",
    "azure::RoleAssignment",
    "azure::Vault",
    "azure::VaultCertificate",
    "k8s::objects",
    "k8s::ownership",
    "k8s::Kind",
    "k8s::ObjectRef",
    "k8s::Right",
    "k8s::DEPLOYMENT",
    "k8s::GATEWAY",
    "k8s::HTTP_ROUTE",
    "k8s::INGRESS",
    "k8s::LISTENER_SET",
    "k8s::REFERENCE_GRANT",
    "k8s::SECRET",
    "k8s::SECRET_PROVIDER_CLASS",
    "k8s::SERVICE_ACCOUNT",
    "k8s::FIELD_MANAGER",
    "k8s::SecretCertificate",
    "k8s::ApiServer",
    "k8s::NAMESPACE",
    "k8s::edge::Served",
];

/// The binaries name the library by its crate name.
const BINARIES: &[(&str, &[&str])] = &[
    ("src/main.rs", &["go_plugin", "tfplugin6", "provider"]),
    ("src/bin/kvtls-sandbox.rs", &["sandbox"]),
];

#[test]
fn every_room_names_only_what_it_may() {
    let mut wrong = Vec::new();
    for file in files::below("src") {
        if file.extension().is_none_or(|extension| extension != "rs") || file == Path::new("src/lib.rs") {
            continue;
        }
        let place = place(&file);
        let binary = BINARIES.iter().find(|(path, _)| Path::new(path) == file);
        let allowed: Vec<&str> = match binary {
            Some((_, allowed)) => allowed.to_vec(),
            None => allowed(&place),
        };
        let room = if binary.is_some() {
            None
        } else {
            place.first().cloned()
        };
        for named in named(&file, &place) {
            let own = room
                .as_ref()
                .is_some_and(|room| named == *room || named.starts_with(&format!("{room}::")));
            let fine = own
                || allowed
                    .iter()
                    .any(|prefix| named == *prefix || named.starts_with(&format!("{prefix}::")));
            if !fine {
                wrong.push(format!("{} names {named}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "not in the table of tests/repo/layers.rs:\n{}",
        wrong.join("\n")
    );
}

/// What only this provider is about: the framework is for providers of any kind.
const NOT_THE_FRAMEWORKS: [&str; 6] = ["azure", "kubernetes", "k8s", "ingress", "vault", "kvtls"];

#[test]
fn the_framework_says_no_word_of_what_this_provider_is_about() {
    let mut wrong = Vec::new();
    for room in ["src/go_plugin", "src/tfplugin6", "src/framework"] {
        for file in files::below(room) {
            let text = files::text(&file).unwrap_or_default();
            for (number, line) in text.lines().enumerate() {
                // The crate's name is the one that a user of the framework writes, too.
                let said = line.to_lowercase().replace("kvtls::", "");
                if NOT_THE_FRAMEWORKS.iter().any(|word| said.contains(word)) {
                    wrong.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_bites() {
    let names = |source: &str, place: &[&str]| {
        let place: Vec<String> = place.iter().map(|part| (*part).to_owned()).collect();
        collected(source, &place).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(
        names("use crate::{azure::{ids::A, error}, tls};", &["binding", "plan"]),
        ["azure::error", "azure::ids::A", "tls"]
    );
    assert_eq!(
        names("fn f() { crate::sandbox::start(); }", &["provider"]),
        ["sandbox::start"]
    );
    assert_eq!(
        names("use super::super::azure::X;", &["k8s", "apply"]),
        ["azure::X"]
    );
    assert_eq!(
        names(
            "mod tests { use super::Y; use super::super::plan::Z; }",
            &["binding", "guard"]
        ),
        ["binding::guard::Y", "binding::plan::Z"]
    );
    assert_eq!(
        names("use kvtls::provider::Provider;", &[]),
        ["provider::Provider"]
    );
    let place: Vec<String> = vec!["binding".to_owned(), "observe".to_owned()];
    assert!(allowed(&place).contains(&"azure"));
    let place: Vec<String> = vec!["binding".to_owned(), "plan".to_owned()];
    for client in ["azure", "azure::Azure", "k8s", "k8s::Kubernetes"] {
        assert!(
            !allowed(&place).contains(&client),
            "what decides may not name {client}"
        );
    }
}

/// `src/azure/ids.rs` → `azure`, `ids`.
fn place(file: &Path) -> Vec<String> {
    let inner = file.strip_prefix("src").expect("below src").with_extension("");
    let mut parts: Vec<String> = inner
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

fn allowed(place: &[String]) -> Vec<&'static str> {
    let path = place.join("::");
    let fits = |rule: &&(&str, &[&str])| path == rule.0 || path.starts_with(&format!("{}::", rule.0));
    let rule = MAY_NAME.iter().filter(fits).max_by_key(|rule| rule.0.len());
    let rule = rule.unwrap_or_else(|| panic!("{path} is a room without a row in the table"));
    rule.1.to_vec()
}

fn named(file: &Path, place: &[String]) -> BTreeSet<String> {
    collected(&files::text(file).expect("text"), place)
}

fn collected(source: &str, place: &[String]) -> BTreeSet<String> {
    let parsed = syn::parse_file(source).expect("Rust");
    let mut names = Names {
        place: place.to_vec(),
        found: BTreeSet::new(),
    };
    names.visit_file(&parsed);
    names.found
}

/// Collects paths that start at the crate or climb towards it, as seen from the crate's root.
struct Names {
    place: Vec<String>,
    found: BTreeSet<String>,
}

impl Names {
    fn add(&mut self, segments: &[String]) {
        let Some(first) = segments.first() else { return };
        let absolute = match first.as_str() {
            "crate" | "kvtls" => segments.get(1..).unwrap_or_default().to_vec(),
            "super" => {
                let climbs = segments.iter().take_while(|segment| *segment == "super").count();
                let kept = self.place.len().saturating_sub(climbs);
                [&self.place[..kept], &segments[climbs..]].concat()
            }
            _ => return,
        };
        if !absolute.is_empty() {
            self.found.insert(absolute.join("::"));
        }
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) if name.ident == "self" => self.add(before),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.place.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.place.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.add(&segments);
        syn::visit::visit_path(self, path);
    }
}
