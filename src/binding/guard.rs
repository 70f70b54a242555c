//! Apply may do less than was shown, never more. Pure.

use std::collections::BTreeSet;

use super::step::Step;

/// What a plan announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// A creation: everything of the binding was announced.
    Everything,
    /// An update: these targets, as [`Step::target`] names them.
    Only(BTreeSet<String>),
}

/// The targets of steps that were not announced: the world changed since the plan.
pub fn unannounced(steps: &[Step], announced: &Announced) -> Vec<String> {
    match announced {
        Announced::Everything => Vec::new(),
        Announced::Only(targets) => steps
            .iter()
            .filter_map(Step::target)
            .filter(|target| !targets.contains(target))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
    }
}
