//! Attributes, what they accept and what they promise. The source of the schema that Terraform sees and of `docs/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contract;
use super::diagnostic::Diagnostic;
use super::path::AttributePath;
use super::ty::Type;
use super::value::Value;

/// The schema of a provider, resource or data source.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Raised whenever stored state of an older version needs an upgrade.
    pub version: i64,
    /// Markdown for the docs page.
    pub description: String,
    /// Top-level attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
    /// The code of what its validators find and give none of its own; empty for none.
    pub fault_code: &'static str,
}

/// Who sets an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The configuration must.
    Required,
    /// The configuration may; null stays null.
    Optional,
    /// The configuration may; the provider fills what is null.
    OptionalComputed,
    /// Only the provider.
    Computed,
}

/// How elements of a nested attribute are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// One object.
    Single,
    /// A list of objects.
    List,
    /// A set of objects.
    Set,
    /// A map to objects.
    Map,
}

/// That a nested attribute is written as blocks, `rule { … }`, repeated: without an equals sign, and never null. What is
/// not written is an empty collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// At least so many.
    pub least: u32,
    /// At most so many; zero for no limit.
    pub most: u32,
    /// A single block that is always there, with nothing set in it if it is not written.
    pub group: bool,
}

/// A plain value or an object with attributes of its own.
#[derive(Clone, Debug)]
pub enum AttributeKind {
    /// A value of this type.
    Value(Type),
    /// Objects with these attributes.
    Nested(Nesting, BTreeMap<String, Attribute>),
}

/// Judges one known, non-null value; returns what is wrong with it. The path is where the value stands.
pub type Validator = Arc<dyn Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync>;

/// Whether two known values mean the same, so that the prior spelling is kept.
pub type Equality = fn(&Value, &Value) -> bool;

/// One attribute.
#[derive(Clone)]
pub struct Attribute {
    /// Its type, or its nested attributes.
    pub kind: AttributeKind,
    /// Who sets it.
    pub presence: Presence,
    /// Markdown for the docs.
    pub description: String,
    /// Hidden in Terraform's output.
    pub sensitive: bool,
    /// Filled in when the configuration is null; only with [`Presence::OptionalComputed`].
    pub default: Option<Value>,
    /// Run on known, non-null values.
    pub validators: Vec<Validator>,
    /// A change between two known values replaces the resource.
    pub requires_replace: bool,
    /// Why it does, for the log.
    pub replace_reason: &'static str,
    /// Keeps its prior value on update unless the resource says otherwise.
    pub keeps_prior: bool,
    /// Attributes of the same object; the value becomes unknown only if one of them changes. Empty: if anything does.
    pub computed_from: &'static [&'static str],
    /// Different spellings of the same meaning.
    pub equality: Option<Equality>,
    /// Only ever in the configuration: null in every plan and state.
    pub write_only: bool,
    /// Written as blocks.
    pub block: Option<Block>,
    /// What to use instead, shown as a warning where it is set; empty while it is recommended.
    pub deprecation: &'static str,
}

impl std::fmt::Debug for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attribute")
            .field("kind", &self.kind)
            .field("presence", &self.presence)
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

impl Attribute {
    /// A plain value.
    pub fn value(ty: Type, presence: Presence, description: impl Into<String>) -> Self {
        Self::new(AttributeKind::Value(ty), presence, description.into())
    }

    /// A string.
    pub fn string(presence: Presence, description: impl Into<String>) -> Self {
        Self::value(Type::String, presence, description)
    }

    /// A bool.
    pub fn bool(presence: Presence, description: impl Into<String>) -> Self {
        Self::value(Type::Bool, presence, description)
    }

    /// A number.
    pub fn number(presence: Presence, description: impl Into<String>) -> Self {
        Self::value(Type::Number, presence, description)
    }

    /// Objects with attributes of their own.
    pub fn nested<const N: usize>(
        nesting: Nesting,
        presence: Presence,
        description: impl Into<String>,
        attributes: [(&str, Attribute); N],
    ) -> Self {
        let attributes = attributes
            .into_iter()
            .map(|(name, attribute)| (name.to_owned(), attribute))
            .collect();
        Self::new(
            AttributeKind::Nested(nesting, attributes),
            presence,
            description.into(),
        )
    }

    /// Blocks with attributes, and blocks, of their own. Not for sets with computed attributes: Terraform cannot tell
    /// which element is which.
    pub fn blocks<const N: usize>(
        nesting: Nesting,
        description: impl Into<String>,
        attributes: [(&str, Attribute); N],
    ) -> Self {
        Self {
            block: Some(Block::default()),
            ..Self::nested(nesting, Presence::Optional, description, attributes)
        }
    }

    /// One block that is always there, written or not.
    pub fn group<const N: usize>(description: impl Into<String>, attributes: [(&str, Attribute); N]) -> Self {
        Self {
            block: Some(Block {
                group: true,
                ..Block::default()
            }),
            ..Self::nested(Nesting::Single, Presence::Optional, description, attributes)
        }
    }

    fn new(kind: AttributeKind, presence: Presence, description: String) -> Self {
        Self {
            kind,
            presence,
            description,
            sensitive: false,
            default: None,
            validators: Vec::new(),
            requires_replace: false,
            replace_reason: "",
            keeps_prior: false,
            computed_from: &[],
            equality: None,
            write_only: false,
            block: None,
            deprecation: "",
        }
    }

    /// Hidden in output.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Filled with `value` when the configuration is null.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    /// Also judged by `validator`.
    #[must_use]
    pub fn valid(
        mut self,
        validator: impl Fn(&Value, &AttributePath) -> Vec<Diagnostic> + Send + Sync + 'static,
    ) -> Self {
        self.validators.push(Arc::new(validator));
        self
    }

    /// A change between two known values replaces the resource.
    #[must_use]
    pub fn requires_replace(mut self) -> Self {
        self.requires_replace = true;
        self
    }

    /// As [`Attribute::requires_replace`], and the log says why.
    #[must_use]
    pub fn replaces_because(mut self, reason: &'static str) -> Self {
        self.requires_replace = true;
        self.replace_reason = reason;
        self
    }

    /// Becomes unknown in a plan only if one of these attributes of the same object changes.
    #[must_use]
    pub fn computed_from(mut self, attributes: &'static [&'static str]) -> Self {
        self.computed_from = attributes;
        self
    }

    /// So many blocks; zero as `most` for no limit.
    #[must_use]
    pub fn between(mut self, least: u32, most: u32) -> Self {
        if let Some(block) = &mut self.block {
            (block.least, block.most) = (least, most);
        }
        self
    }

    /// No longer recommended; `instead` says what is.
    #[must_use]
    pub fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecation = instead;
        self
    }

    /// Its value where the configuration says nothing of it.
    pub fn unset(&self) -> Value {
        let (Some(block), AttributeKind::Nested(nesting, children)) = (self.block, &self.kind) else {
            return Value::Null;
        };
        match nesting {
            Nesting::Single if block.group => nothing(children),
            Nesting::Single => Value::Null,
            Nesting::List => Value::List(Vec::new()),
            Nesting::Set => Value::Set(Vec::new()),
            Nesting::Map => Value::Map(BTreeMap::new()),
        }
    }

    /// Keeps its prior value on update.
    #[must_use]
    pub fn keeps_prior(mut self) -> Self {
        self.keeps_prior = true;
        self
    }

    /// Values that `equality` calls the same keep the prior spelling.
    #[must_use]
    pub fn equal_by(mut self, equality: Equality) -> Self {
        self.equality = Some(equality);
        self
    }

    /// Read from the configuration only, and stored nowhere. Needs Terraform 1.11 or newer where it is set.
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.write_only = true;
        self
    }

    /// Whether an omitted object becomes the object of its children's defaults.
    pub fn fills_when_omitted(&self) -> bool {
        let AttributeKind::Nested(Nesting::Single, children) = &self.kind else {
            return false;
        };
        self.presence == Presence::OptionalComputed
            && self.default.is_none()
            && children
                .values()
                .any(|child| child.default.is_some() || child.fills_when_omitted())
    }

    /// Whether the provider may set it.
    pub fn is_computed(&self) -> bool {
        matches!(self.presence, Presence::Computed | Presence::OptionalComputed)
    }

    /// The type of the values of this attribute.
    pub fn ty(&self) -> Type {
        match &self.kind {
            AttributeKind::Value(ty) => ty.clone(),
            AttributeKind::Nested(nesting, attributes) => {
                let object = object_type(attributes);
                match nesting {
                    Nesting::Single => object,
                    Nesting::List => Type::list(object),
                    Nesting::Set => Type::set(object),
                    Nesting::Map => Type::map(object),
                }
            }
        }
    }
}

impl Schema {
    /// A schema of these attributes, version 0.
    pub fn new<const N: usize>(description: impl Into<String>, attributes: [(&str, Attribute); N]) -> Self {
        let attributes = attributes
            .into_iter()
            .map(|(name, attribute)| (name.to_owned(), attribute))
            .collect();
        Self {
            version: 0,
            description: description.into(),
            attributes,
            fault_code: "",
        }
    }

    /// The same, with a code for what its validators find and give none of its own.
    #[must_use]
    pub fn faults_as(mut self, code: &'static str) -> Self {
        self.fault_code = code;
        self
    }

    /// The object type of a value of this schema.
    pub fn ty(&self) -> Type {
        object_type(&self.attributes)
    }

    /// The configuration that sets nothing.
    pub fn nothing(&self) -> Value {
        nothing(&self.attributes)
    }

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
        faults
    }
}

/// Meta-arguments of resources. A provider block has `alias` and `version` of its own.
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

fn nothing(attributes: &BTreeMap<String, Attribute>) -> Value {
    Value::object(
        attributes
            .iter()
            .map(|(name, attribute)| (name.as_str(), attribute.unset())),
    )
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
        attribute.presence != Presence::Optional || attribute.default.is_some(),
        "a block has no presence and no default of its own; see Attribute::between",
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

fn object_type(attributes: &BTreeMap<String, Attribute>) -> Type {
    Type::Object(
        attributes
            .iter()
            .map(|(name, attribute)| (name.clone(), attribute.ty()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
