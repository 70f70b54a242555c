//! `docs/index.md`, `docs/resources/*.md` and `docs/data-sources/*.md` are rendered from the schemas and the examples. `UPDATE_EXPECT=1 cargo
//! test --test repo` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use kvtls::framework::{Attribute, AttributeKind, Constraint, Nesting, Presence, Provider, Schema, Type};
use kvtls::provider::Kvtls;

use crate::files;

#[test]
fn the_pages_of_the_registry_equal_the_schemas() {
    let provider = Kvtls::with_environment(Default::default());
    let mut pages = BTreeMap::new();
    let example = example("examples/provider/provider.tf");
    let index = page(
        "kvtls Provider",
        "",
        Provider::schema(&provider),
        &example,
        LAYOUT,
    );
    pages.insert("docs/index.md".to_owned(), index);
    for resource in provider.resources() {
        let name = resource.type_name();
        let folder = format!("examples/resources/{name}");
        let shown = self::example(&format!("{folder}/resource.tf"));
        let import = files::text(Path::new(&format!("{folder}/import.sh"))).expect("an import example");
        let import = format!("\n## Import\n\n```shell\n{}\n```\n", import.trim());
        let title = format!("{name} Resource - kvtls");
        let file = name.trim_start_matches("kvtls_");
        let text = page(&title, "subcategory: \"\"\n", resource.schema(), &shown, &import);
        pages.insert(format!("docs/resources/{file}.md"), text);
    }
    for source in provider.data_sources() {
        let name = source.type_name();
        let shown = self::example(&format!("examples/data-sources/{name}/data-source.tf"));
        let title = format!("{name} Data Source - kvtls");
        let file = name.trim_start_matches("kvtls_");
        let text = page(&title, "subcategory: \"\"\n", source.schema(), &shown, "");
        pages.insert(format!("docs/data-sources/{file}.md"), text);
    }
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    for (path, wanted) in pages {
        let path = Path::new(&path);
        if update {
            let whole = files::root().join(path);
            std::fs::create_dir_all(whole.parent().expect("a folder")).expect("the folder");
            std::fs::write(whole, &wanted).expect("the page is written");
        }
        let there = files::text(path).unwrap_or_default();
        assert_eq!(
            there,
            wanted,
            "{} is not what the schema says; UPDATE_EXPECT=1 renders it",
            path.display()
        );
    }
}

/// Whose the shared parts are, at the end of the index.
const LAYOUT: &str = "
## Recommended layout

A cluster has one Key Vault add-on, and its owner should switch it on: with `kvtls_cluster_addon`, or with the block
`key_vault_secrets_provider` where `azurerm_kubernetes_cluster` manages the cluster. Bindings then say
`addon = { mode = \"require\" }` and need no right to change the cluster.
";

fn example(path: &str) -> String {
    let text = files::text(Path::new(path)).expect("an example");
    format!("\n## Example\n\n```terraform\n{}\n```\n", text.trim())
}

fn page(title: &str, front: &str, schema: &Schema, example: &str, tail: &str) -> String {
    let mut text = format!(
        "---\npage_title: \"{title}\"\n{front}description: |-\n  {}\n---\n\n",
        schema.description
    );
    let heading = title.split(' ').next().unwrap_or_default();
    text.push_str(&format!(
        "# {heading}\n\n{}\n{example}\n## Schema\n",
        schema.description
    ));
    together(&mut text, &schema.constraints);
    sections(&mut text, &schema.attributes, "");
    text.push_str(tail);
    text
}

fn sections(text: &mut String, attributes: &BTreeMap<String, Attribute>, within: &str) {
    let groups: [(&str, &[Presence]); 3] = [
        ("Required", &[Presence::Required]),
        ("Optional", &[Presence::Optional, Presence::OptionalComputed]),
        ("Read-only", &[Presence::Computed]),
    ];
    let heading = if within.is_empty() { "###" } else { "####" };
    for (title, presences) in groups {
        let members: Vec<_> = attributes
            .iter()
            .filter(|(_, it)| presences.contains(&it.presence))
            .collect();
        if members.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{heading} {title}{within}\n\n"));
        for (name, attribute) in members {
            let replaces = " Changing it replaces the resource.";
            let change = if attribute.requires_replace { replaces } else { "" };
            let (kind, description) = (kind(attribute), &attribute.description);
            text.push_str(&format!("- `{name}` ({kind}) {description}{change}\n"));
        }
    }
    for (name, attribute) in attributes {
        if let AttributeKind::Nested(_, children) = &attribute.kind {
            let path = if within.is_empty() {
                name.clone()
            } else {
                format!(
                    "{}.{name}",
                    within.trim_start_matches(" of `").trim_end_matches('`')
                )
            };
            sections(text, children, &format!(" of `{path}`"));
            together(text, &attribute.constraints);
        }
    }
}

/// What goes together in the object above.
fn together(text: &mut String, constraints: &[Constraint]) {
    if constraints.is_empty() {
        return;
    }
    text.push('\n');
    for constraint in constraints {
        text.push_str(&format!("- {}\n", constraint.markdown()));
    }
}

fn kind(attribute: &Attribute) -> String {
    let kind = match &attribute.kind {
        AttributeKind::Value(ty) => type_name(ty),
        AttributeKind::Nested(Nesting::Single, _) => "object".to_owned(),
        AttributeKind::Nested(Nesting::List, _) => "list of objects".to_owned(),
        AttributeKind::Nested(Nesting::Set, _) => "set of objects".to_owned(),
        AttributeKind::Nested(Nesting::Map, _) => "map of objects".to_owned(),
    };
    if attribute.write_only {
        format!("{kind}, write-only")
    } else if attribute.sensitive {
        format!("{kind}, sensitive")
    } else {
        kind
    }
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::Number => "number".to_owned(),
        Type::String => "string".to_owned(),
        Type::List(element) => format!("list of {}s", type_name(element)),
        Type::Set(element) => format!("set of {}s", type_name(element)),
        Type::Map(element) => format!("map of {}s", type_name(element)),
        Type::Object(_) | Type::Tuple(_) | Type::Dynamic => "any".to_owned(),
    }
}
