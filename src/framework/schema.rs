//! Attributes, what they accept and what they promise. The source of the schema that Terraform sees and of `docs/`.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// Keeps its prior value on update unless the resource says otherwise.
    pub keeps_prior: bool,
    /// Different spellings of the same meaning.
    pub equality: Option<Equality>,
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

    fn new(kind: AttributeKind, presence: Presence, description: String) -> Self {
        Self {
            kind,
            presence,
            description,
            sensitive: false,
            default: None,
            validators: Vec::new(),
            requires_replace: false,
            keeps_prior: false,
            equality: None,
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
        }
    }

    /// The object type of a value of this schema.
    pub fn ty(&self) -> Type {
        object_type(&self.attributes)
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
