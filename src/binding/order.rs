//! Which steps of a plan wait for which. Pure.
//!
//! A plan lists its steps in an order that is safe. Most of them need what stands before them; those that do not are
//! named here and run at the same time. Whatever is not named waits for everything before it, so a new kind of step is
//! safe before it is quick.

use super::step::Step;
use crate::k8s::{ObjectRef, SECRET_PROVIDER_CLASS};

/// Whether `later` may begin only when `earlier`, which stands before it in the plan, is done.
pub fn waits_for(later: &Step, earlier: &Step) -> bool {
    let independent = match (earlier, later) {
        // A new SecretProviderClass only says what a mount would read; one that is there is read by pods that run.
        (earlier, Step::Apply { object, is_new, .. }) if is_grant(earlier) => *is_new && is_class(object),
        // An add-on that is switched on for the first time ends its pass; here only its rotation changes.
        (Step::SwitchAddon { .. }, later) => {
            is_grant(later) || matches!(later, Step::Apply { .. } | Step::CreateNamespace { .. })
        }
        (earlier, Step::CreateNamespace { .. }) => is_grant(earlier),
        (Step::CreateNamespace { .. }, later) => is_grant(later),
        (Step::AwaitServed { .. }, Step::AwaitServed { .. })
        | (Step::AwaitGone { .. }, Step::AwaitGone { .. }) => true,
        (earlier, later) if is_revocation(earlier) => is_revocation(later),
        (Step::Delete { object, .. }, Step::Delete { object: other, .. }) => object.kind == other.kind,
        _ => false,
    };
    !independent
}

fn is_class(object: &ObjectRef) -> bool {
    object.kind == SECRET_PROVIDER_CLASS
}

fn is_grant(step: &Step) -> bool {
    matches!(
        step,
        Step::AssignRole { .. } | Step::AddAccessPolicy { .. } | Step::Trust { .. }
    )
}

fn is_revocation(step: &Step) -> bool {
    matches!(
        step,
        Step::RemoveRole { .. } | Step::RemoveAccessPolicy { .. } | Step::Distrust { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{desired, memory, with_addon};
    use super::super::plan::plan;
    use super::*;

    /// The steps of a first apply in the rounds in which they run.
    #[test]
    fn the_class_is_made_beside_the_grant_and_the_ingress_after_the_secrets() {
        let steps = plan(&desired(), &with_addon(), &memory()).steps;
        let mut rounds: Vec<usize> = Vec::new();
        for (index, later) in steps.iter().enumerate() {
            let before = (0..index).filter(|at| waits_for(later, &steps[*at]));
            rounds.push(before.map(|at| rounds[at] + 1).max().unwrap_or_default());
        }
        let described: Vec<(usize, String)> =
            rounds.into_iter().zip(steps.iter().map(Step::describe)).collect();
        let expected = [
            (0, "assign Key Vault Secrets User to object"),
            (0, "apply SecretProviderClass shop/shop"),
            (1, "apply Deployment shop/shop"),
            (2, "wait for the Secrets"),
            (3, "apply Ingress shop/shop"),
            (4, "verify what Ingress shop/shop serves"),
            (5, "mark SecretProviderClass shop/shop as complete"),
        ];
        assert_eq!(described, expected.map(|(round, text)| (round, text.to_owned())));
    }
}
