//! What is wrong with a provider before anybody calls it.
//!
//! Terraform crashes on some of these faults, refuses others in words that name no attribute, and misbehaves quietly on
//! the rest. A debug build says them in its log at every start; a release is spared the time, so check in a test, too.

use std::collections::BTreeSet;

use super::function::is_identifier;
use super::resource::Provider;
use super::schema::{Attribute, AttributeKind, Schema};

/// Arguments that every provider block has.
const RESERVED_IN_PROVIDER_BLOCKS: [&str; 2] = ["alias", "version"];

/// What is wrong with what `provider` offers, one sentence each.
pub fn check(provider: &dyn Provider) -> Vec<String> {
    let mut faults = settings(provider);
    for resource in provider.resources() {
        let what = format!("resource {}", resource.type_name());
        tell(&mut faults, &what, resource.schema().check());
        if let Some(identity) = resource.identity() {
            tell(
                &mut faults,
                &format!("identity of {what}"),
                identity.schema().check(),
            );
        }
    }
    for source in provider.data_sources() {
        let what = format!("data source {}", source.type_name());
        tell(&mut faults, &what, stateless(source.schema()));
    }
    for ephemeral in provider.ephemeral_resources() {
        let what = format!("ephemeral resource {}", ephemeral.type_name());
        tell(&mut faults, &what, stateless(ephemeral.schema()));
    }
    for list in provider.list_resources() {
        let what = format!("list resource {}", list.type_name());
        tell(&mut faults, &what, stateless(list.schema()));
        let has_identity = provider
            .resources()
            .iter()
            .any(|resource| resource.type_name() == list.type_name() && resource.identity().is_some());
        if !has_identity {
            faults.push(format!("{what}: no resource of that name has an identity"));
        }
    }
    for action in provider.actions() {
        let what = format!("action {}", action.type_name());
        tell(&mut faults, &what, action.schema().check());
    }
    for function in provider.functions() {
        let what = format!("function {}", function.name());
        tell(&mut faults, &what, function.signature().check());
    }
    names(provider, &mut faults);
    faults
}

fn settings(provider: &dyn Provider) -> Vec<String> {
    let mut faults = Vec::new();
    let schema = provider.schema();
    tell(&mut faults, "provider block", stateless(schema));
    for name in RESERVED_IN_PROVIDER_BLOCKS {
        if schema.attributes.contains_key(name) {
            faults.push(format!("provider block: {name}: the name is Terraform's own"));
        }
    }
    if let Some(meta) = provider.meta_schema() {
        tell(&mut faults, "provider_meta block", stateless(meta));
    }
    faults
}

fn tell(faults: &mut Vec<String>, what: &str, found: Vec<String>) {
    faults.extend(found.into_iter().map(|fault| format!("{what}: {fault}")));
}

/// What is wrong with a schema of which nothing is planned and stored.
fn stateless(schema: &Schema) -> Vec<String> {
    let mut faults = schema.check();
    if schema.attributes.values().any(holds_write_only) {
        faults.push("write-only attributes are for what is stored, and for actions".to_owned());
    }
    faults
}

fn holds_write_only(attribute: &Attribute) -> bool {
    attribute.write_only
        || matches!(&attribute.kind, AttributeKind::Nested(_, children) if children.values().any(holds_write_only))
}

/// Each family of what is offered has names of its own: a resource and its list resource share one.
fn names(provider: &dyn Provider, faults: &mut Vec<String>) {
    let families: [(&str, Vec<&str>); 6] = [
        (
            "resource",
            provider.resources().iter().map(|it| it.type_name()).collect(),
        ),
        (
            "data source",
            provider.data_sources().iter().map(|it| it.type_name()).collect(),
        ),
        (
            "ephemeral resource",
            provider
                .ephemeral_resources()
                .iter()
                .map(|it| it.type_name())
                .collect(),
        ),
        (
            "list resource",
            provider
                .list_resources()
                .iter()
                .map(|it| it.type_name())
                .collect(),
        ),
        (
            "action",
            provider.actions().iter().map(|it| it.type_name()).collect(),
        ),
        (
            "function",
            provider.functions().iter().map(|it| it.name()).collect(),
        ),
    ];
    for (family, names) in families {
        let mut seen = BTreeSet::new();
        for name in names {
            if !is_identifier(name) {
                faults.push(format!("{family} {name:?}: the name is an identifier"));
            }
            if !seen.insert(name) {
                faults.push(format!("{family} {name}: two of one name"));
            }
        }
    }
}
