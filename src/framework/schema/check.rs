//! What is wrong with a schema by itself. What is wrong with it where it stands says [`crate::framework::check()`].

use std::collections::BTreeMap;

use super::{Attribute, AttributeKind, Block, Nesting, Presence, Schema};
use crate::framework::contract;
use crate::framework::path::AttributePath;
use crate::framework::ty::Type;

/// Meta-arguments of resources; a provider block has more.
const RESERVED: [&str; 7] = [
    "connection",
    "count",
    "depends_on",
    "for_each",
    "lifecycle",
    "provider",
    "provisioner",
];

struct Place {
    path: AttributePath,
    in_set: bool,
    in_computed: bool,
    /// Inside a nested attribute, which cannot hold blocks.
    in_attribute: bool,
}

impl Schema {
    /// What is wrong with this schema, one sentence each; for a test of the provider. Terraform crashes on some of
    /// these, and misbehaves quietly on the others.
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.version < 0 {
            faults.push("the version is negative".to_owned());
        }
        for name in self.attributes.keys() {
            if RESERVED.contains(&name.as_str()) {
                faults.push(format!("{name}: the name is Terraform's own"));
            }
        }
        let place = Place {
            path: AttributePath::root(),
            in_set: false,
            in_computed: false,
            in_attribute: false,
        };
        check_attributes(&self.attributes, &place, &mut faults);
        for constraint in &self.constraints {
            faults.extend(constraint.check(|name| self.attributes.get(name)));
        }
        faults
    }
}

fn check_attributes(attributes: &BTreeMap<String, Attribute>, place: &Place, faults: &mut Vec<String>) {
    if attributes.is_empty() && !place.path.is_root() {
        faults.push(format!("{}: an object without attributes", place.path));
    }
    for (name, attribute) in attributes {
        let path = place.path.attribute(name);
        let mut characters = name.chars();
        let starts_well = characters
            .next()
            .is_some_and(|first| first.is_ascii_lowercase() || first == '_');
        if !starts_well || !characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            faults.push(format!(
                "{path}: a name has lower-case letters, digits and underscores, a digit never first"
            ));
        }
        check_attribute(attribute, &path, place, faults);
        check_block(attribute, &path, place, faults);
        for from in attribute.computed_from {
            if !attributes.contains_key(*from) || from == name {
                faults.push(format!(
                    "{path}: it is computed from {from}, which is not beside it"
                ));
            }
        }
        let children = match &attribute.kind {
            AttributeKind::Nested(_, children) => Some(children),
            AttributeKind::Value(_) => None,
        };
        for constraint in &attribute.constraints {
            let wrong = constraint.check(|name| children.and_then(|children| children.get(name)));
            faults.extend(wrong.into_iter().map(|fault| format!("{path}: {fault}")));
        }
        if let AttributeKind::Nested(nesting, children) = &attribute.kind {
            let inside = Place {
                path,
                in_set: place.in_set || *nesting == Nesting::Set,
                in_computed: place.in_computed || attribute.presence == Presence::Computed,
                in_attribute: place.in_attribute || attribute.block.is_none(),
            };
            check_attributes(children, &inside, faults);
        }
    }
}

fn check_attribute(attribute: &Attribute, path: &AttributePath, place: &Place, faults: &mut Vec<String>) {
    let computed_only = attribute.presence == Presence::Computed;
    let mut fault = |wrong: bool, sentence: &str| {
        if wrong {
            faults.push(format!("{path}: {sentence}"));
        }
    };
    fault(attribute.description.trim().is_empty(), "no description");
    fault(
        place.in_computed && !computed_only,
        "everything inside a computed object is computed only",
    );
    fault(
        attribute.default.is_some() && attribute.presence != Presence::OptionalComputed,
        "a default needs optional and computed",
    );
    fault(
        attribute.keeps_prior && !attribute.is_computed(),
        "only a computed attribute can keep its prior value",
    );
    fault(
        attribute.keeps_prior && attribute.default.is_some(),
        "a default leaves nothing to keep",
    );
    fault(
        !attribute.computed_from.is_empty() && (!attribute.is_computed() || attribute.keeps_prior),
        "only a computed attribute that does not keep its prior value is computed from others",
    );
    fault(
        attribute.requires_replace && computed_only,
        "a computed attribute would replace the resource whenever it is recomputed",
    );
    fault(
        attribute.requires_replace && place.in_set,
        "elements of sets have no path; put requires_replace on the set",
    );
    fault(
        computed_only && !attribute.validators.is_empty(),
        "nobody can set it, so its validators never run",
    );
    fault(
        attribute.write_only && attribute.is_computed(),
        "write-only and computed exclude each other",
    );
    fault(
        attribute.write_only && place.in_set,
        "a set cannot hold write-only attributes",
    );
    fault(
        attribute.write_only && attribute.requires_replace,
        "a write-only value is stored nowhere, so its change cannot be seen",
    );
    let ty = attribute.ty();
    fault(
        has_dynamic_elements(&ty) || (place.in_set && has_dynamic(&ty)),
        "a collection of dynamic values makes Terraform panic",
    );
    if let AttributeKind::Nested(Nesting::Single, children) = &attribute.kind {
        fault(
            attribute.fills_when_omitted()
                && children
                    .values()
                    .any(|child| child.presence == Presence::Required),
            "it is filled with defaults when omitted, and a required child would then be null",
        );
    }
    if let Some(default) = &attribute.default {
        fault(default.is_null(), "a null default is no default");
        fault(!default.is_wholly_known(), "a default must be known");
        fault(
            matches!(attribute.kind, AttributeKind::Value(_)) && !contract::has_shape(&ty, default),
            "the default is of another type",
        );
        fault(
            attribute
                .validators
                .iter()
                .any(|validator| !validator(default, path).is_empty()),
            "the default does not pass the validators",
        );
    }
}

fn check_block(attribute: &Attribute, path: &AttributePath, place: &Place, faults: &mut Vec<String>) {
    let Some(block) = attribute.block else { return };
    let AttributeKind::Nested(nesting, _) = &attribute.kind else {
        faults.push(format!("{path}: a block has attributes"));
        return;
    };
    let mut fault = |wrong: bool, sentence: &str| {
        if wrong {
            faults.push(format!("{path}: {sentence}"));
        }
    };
    fault(place.in_attribute, "a nested attribute cannot hold blocks");
    fault(
        !matches!(attribute.presence, Presence::Optional | Presence::Computed) || attribute.default.is_some(),
        "a block is written or computed and has no default of its own; see Attribute::between",
    );
    fault(
        attribute.is_computed_block() && block != Block::default(),
        "nobody counts computed blocks, and a group cannot be computed",
    );
    fault(
        attribute.sensitive || attribute.write_only,
        "a block cannot be sensitive or write-only, its attributes can",
    );
    fault(
        block.most != 0 && block.least > block.most,
        "at least more than at most",
    );
    fault(
        *nesting == Nesting::Map && (block.least, block.most) != (0, 0),
        "Terraform does not count the blocks of a map",
    );
    fault(
        *nesting == Nesting::Single && block.most != 0 && block.most != 1,
        "a single block cannot be more than one",
    );
    fault(
        block.group && (*nesting != Nesting::Single || block.least != 0 || block.most != 0),
        "a group is one block and never counted",
    );
}

fn has_dynamic(ty: &Type) -> bool {
    match ty {
        Type::Dynamic => true,
        Type::Bool | Type::Number | Type::String => false,
        Type::List(element) | Type::Set(element) | Type::Map(element) => has_dynamic(element),
        Type::Object(attributes) => attributes.values().any(has_dynamic),
        Type::Tuple(elements) => elements.iter().any(has_dynamic),
    }
}

fn has_dynamic_elements(ty: &Type) -> bool {
    match ty {
        Type::List(element) | Type::Set(element) | Type::Map(element) => has_dynamic(element),
        Type::Object(attributes) => attributes.values().any(has_dynamic_elements),
        Type::Tuple(elements) => elements.iter().any(has_dynamic_elements),
        Type::Bool | Type::Number | Type::String | Type::Dynamic => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::{Diagnostic, Value};

    fn faults(attribute: Attribute) -> Vec<String> {
        Schema::new("x", [("it", attribute)]).check()
    }

    fn computed() -> Attribute {
        Attribute::string(Presence::OptionalComputed, "x")
    }

    #[test]
    fn a_sound_schema_has_no_faults() {
        let nested = Attribute::nested(
            Nesting::Single,
            Presence::OptionalComputed,
            "x",
            [
                ("mode", computed().default("auto")),
                ("id", computed().keeps_prior()),
            ],
        );
        assert_eq!(faults(nested), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found_and_named() {
        let required = || Attribute::string(Presence::Required, "x");
        let only_computed = || Attribute::string(Presence::Computed, "x");
        let set_of = |child| Attribute::nested(Nesting::Set, Presence::Optional, "x", [("child", child)]);
        for (attribute, words) in [
            (Attribute::string(Presence::Optional, " "), "no description"),
            (required().default("x"), "needs optional and computed"),
            (required().keeps_prior(), "keep its prior"),
            (computed().default("x").keeps_prior(), "nothing to keep"),
            (only_computed().requires_replace(), "whenever it is recomputed"),
            (set_of(required().requires_replace()), "have no path"),
            (only_computed().valid(|_, _| Vec::new()), "never run"),
            (computed().write_only(), "exclude each other"),
            (set_of(required().write_only()), "cannot hold write-only"),
            (required().write_only().requires_replace(), "cannot be seen"),
            (
                Attribute::value(Type::list(Type::Dynamic), Presence::Optional, "x"),
                "makes Terraform panic",
            ),
            (
                set_of(Attribute::value(Type::Dynamic, Presence::Optional, "x")),
                "makes Terraform panic",
            ),
            (computed().default(Value::Null), "null default"),
            (computed().default(Value::Unknown), "must be known"),
            (computed().default(true), "another type"),
            (
                computed()
                    .default("x")
                    .valid(|_, path| vec![Diagnostic::error("x", "x", "x").at(path.clone())]),
                "does not pass",
            ),
            (
                Attribute::nested(Nesting::Single, Presence::Computed, "x", [("child", required())]),
                "is computed only",
            ),
            (
                Attribute::nested(
                    Nesting::Single,
                    Presence::OptionalComputed,
                    "x",
                    [("child", required()), ("mode", computed().default("auto"))],
                ),
                "would then be null",
            ),
            (
                Attribute::nested(Nesting::Single, Presence::Optional, "x", []),
                "without attributes",
            ),
            (
                Attribute::nested(
                    Nesting::Single,
                    Presence::Optional,
                    "x",
                    [(
                        "rule",
                        Attribute::blocks(Nesting::List, "x", [("host", required())]),
                    )],
                ),
                "cannot hold blocks",
            ),
            (
                Attribute::blocks(Nesting::List, "x", [("host", required())]).between(3, 2),
                "more than at most",
            ),
            (
                Attribute::blocks(Nesting::Map, "x", [("host", required())]).between(1, 0),
                "blocks of a map",
            ),
            (
                Attribute::blocks(Nesting::Single, "x", [("host", required())]).between(0, 2),
                "more than one",
            ),
            (
                Attribute::group("x", [("host", required())]).between(1, 1),
                "never counted",
            ),
            (
                Attribute::blocks(Nesting::List, "x", [("host", required())]).computed(),
                "is computed only",
            ),
            (
                Attribute::group("x", [("host", only_computed())]).computed(),
                "a group cannot be computed",
            ),
            (
                Attribute::blocks(Nesting::List, "x", [("host", required())]).sensitive(),
                "cannot be sensitive",
            ),
            (only_computed().computed_from(&["other"]), "not beside it"),
            (
                required().computed_from(&["other"]),
                "only a computed attribute that",
            ),
        ] {
            let found = faults(attribute);
            assert!(
                found.iter().any(|fault| fault.contains(words)),
                "{words}: {found:?}"
            );
        }
    }

    #[test]
    fn reserved_and_ill_formed_names_are_refused() {
        for name in ["count", "Upper", "1st", "a-b", ""] {
            assert_ne!(
                Schema::new("x", [(name, computed())]).check(),
                Vec::<String>::new(),
                "{name}"
            );
        }
        let negative = Schema {
            version: -1,
            ..Schema::default()
        };
        assert_eq!(negative.check(), ["the version is negative"]);
    }
}
