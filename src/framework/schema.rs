//! Attributes, what they accept and what they promise. The source of the schema that Terraform sees and of `docs/`.
//!
//! Next: `check` for what a schema must not say.

mod check;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::constraint::Constraint;
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
    /// Which of them go together.
    pub constraints: Vec<Constraint>,
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
    /// Which of the attributes in it go together; only with nested ones.
    pub constraints: Vec<Constraint>,
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
            constraints: Vec::new(),
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

    /// Blocks that only the provider writes, and whose number it decides. Everything in them is computed, too.
    ///
    /// Terraform before 1.16 knows no such blocks: there they are empty in every plan and state, whatever the resource
    /// returns.
    #[must_use]
    pub fn computed(mut self) -> Self {
        self.presence = Presence::Computed;
        self
    }

    /// Whether these are blocks that only the provider writes.
    pub fn is_computed_block(&self) -> bool {
        self.block.is_some() && self.presence == Presence::Computed
    }

    /// So many blocks; zero as `most` for no limit.
    #[must_use]
    pub fn between(mut self, least: u32, most: u32) -> Self {
        if let Some(block) = &mut self.block {
            (block.least, block.most) = (least, most);
        }
        self
    }

    /// Which attributes of its objects go together, judged for each object by itself. For the attributes beside this one
    /// see [`Schema::constrained`].
    #[must_use]
    pub fn constrained(mut self, constraint: Constraint) -> Self {
        self.constraints.push(constraint);
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
            constraints: Vec::new(),
        }
    }

    /// The same, of this version; see [`Schema::version`](field@Schema::version).
    #[must_use]
    pub fn version(mut self, version: i64) -> Self {
        self.version = version;
        self
    }

    /// The same, with a code for what its validators find and give none of its own.
    #[must_use]
    pub fn faults_as(mut self, code: &'static str) -> Self {
        self.fault_code = code;
        self
    }

    /// The same, in which these attributes of the top level go together.
    #[must_use]
    pub fn constrained(mut self, constraint: Constraint) -> Self {
        self.constraints.push(constraint);
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
}

fn nothing(attributes: &BTreeMap<String, Attribute>) -> Value {
    Value::object(
        attributes
            .iter()
            .map(|(name, attribute)| (name.as_str(), attribute.unset())),
    )
}

fn object_type(attributes: &BTreeMap<String, Attribute>) -> Type {
    Type::Object(
        attributes
            .iter()
            .map(|(name, attribute)| (name.clone(), attribute.ty()))
            .collect(),
    )
}
