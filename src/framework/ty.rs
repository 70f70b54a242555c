//! Attribute types: what a value may be, independent of whether it is known.

use std::collections::BTreeMap;

/// A type of Terraform's type system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// True or false.
    Bool,
    /// A decimal number of any size and precision.
    Number,
    /// Unicode text.
    String,
    /// An ordered sequence of one element type.
    List(Box<Type>),
    /// An unordered collection without duplicates.
    Set(Box<Type>),
    /// String keys to one element type.
    Map(Box<Type>),
    /// A fixed set of named attributes.
    Object(BTreeMap<String, Type>),
    /// A fixed sequence of types.
    Tuple(Vec<Type>),
    /// Decided by the value.
    Dynamic,
}

impl Type {
    /// A list of `element`.
    pub fn list(element: Type) -> Self {
        Self::List(Box::new(element))
    }

    /// A set of `element`.
    pub fn set(element: Type) -> Self {
        Self::Set(Box::new(element))
    }

    /// A map to `element`.
    pub fn map(element: Type) -> Self {
        Self::Map(Box::new(element))
    }
}
