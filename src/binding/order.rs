//! Which steps of a plan wait for which. Pure.
//!
//! A plan lists its steps in an order that is safe. Most of them need what stands before them; those that do not are
//! named here and run at the same time. Whatever is not named waits for everything before it, so a new kind of step is
//! safe before it is quick.

use super::step::Step;
use crate::k8s::{
    GATEWAY, HTTP_ROUTE, INGRESS, LISTENER_SET, ObjectRef, REFERENCE_GRANT, SECRET_PROVIDER_CLASS,
    SERVICE_ACCOUNT,
};

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
        (Step::Apply { object: earlier, .. }, Step::Apply { object: later, .. }) => are_apart(earlier, later),
        // The Ingress's proof says nothing of the Gateway.
        (Step::AwaitServed { .. }, Step::Apply { object, .. }) => is_of_gateway(object),
        (Step::AwaitServed { .. }, Step::AwaitServed { .. })
        | (Step::AwaitGone { .. }, Step::AwaitGone { .. }) => true,
        (earlier, later) if is_revocation(earlier) => is_revocation(later),
        (Step::Delete { object, .. }, Step::Delete { object: other, .. }) => object.kind == other.kind,
        _ => false,
    };
    !independent
}

/// Whether neither of two objects needs the other. The pods need their class and their account, a route the listener it
/// joins.
fn are_apart(earlier: &ObjectRef, later: &ObjectRef) -> bool {
    let same = |kind| earlier.kind == kind && later.kind == kind;
    let is_grant = |object: &ObjectRef| object.kind == REFERENCE_GRANT;
    same(HTTP_ROUTE)
        || earlier.kind == SECRET_PROVIDER_CLASS && later.kind == SERVICE_ACCOUNT
        || earlier.kind == INGRESS && is_of_gateway(later)
        || is_grant(earlier) && is_of_gateway(later)
}

fn is_of_gateway(object: &ObjectRef) -> bool {
    [GATEWAY, LISTENER_SET, HTTP_ROUTE, REFERENCE_GRANT].contains(&object.kind)
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
    use super::super::desired::Desired;
    use super::super::fixtures::{desired, memory, own_gateway, with_addon};
    use super::super::observation::Observation;
    use super::super::plan::plan;
    use super::*;

    /// A first apply.
    #[test]
    fn the_class_is_made_beside_the_grant_and_the_ingress_after_the_secrets() {
        let expected = [
            (0, "assign Key Vault Secrets User to object"),
            (0, "apply SecretProviderClass shop/shop"),
            (1, "apply Deployment shop/shop"),
            (2, "wait for the Secrets"),
            (3, "apply Ingress shop/shop"),
            (4, "verify what Ingress shop/shop serves"),
            (5, "mark SecretProviderClass shop/shop as complete"),
        ];
        assert_eq!(
            rounds(&desired(), &with_addon()),
            expected.map(|(round, text)| (round, text.to_owned()))
        );
    }

    /// Side by side with the Ingress; the routes wait for the Gateway, and not for one another.
    #[test]
    fn a_gateway_is_made_beside_the_ingress_and_its_routes_at_the_same_time() {
        let mut desired = desired();
        let rules = &desired.ingress.as_ref().unwrap().rules;
        let mut rules = vec![rules[0].clone(), rules[0].clone()];
        rules[1].host = "api.example.com".to_owned();
        desired.gateway = Some(crate::binding::gateway::Gateway {
            rules,
            ..own_gateway()
        });
        let edges: Vec<(usize, String)> = rounds(&desired, &with_addon()).split_off(4);
        let expected = [
            (3, "apply Ingress shop/shop"),
            (4, "verify what Ingress shop/shop serves"),
            (3, "apply Gateway shop/shop"),
            (4, "apply HTTPRoute shop/shop-myapp.example.com"),
            (4, "apply HTTPRoute shop/shop-api.example.com"),
            (4, "apply HTTPRoute shop/shop-redirect"),
            (5, "verify what Gateway shop/shop serves"),
            (6, "mark SecretProviderClass shop/shop as complete"),
        ];
        assert_eq!(edges, expected.map(|(round, text)| (round, text.to_owned())));
    }

    /// The steps in the rounds in which they run.
    fn rounds(desired: &Desired, seen: &Observation) -> Vec<(usize, String)> {
        let steps = plan(desired, seen, &memory()).steps;
        let mut rounds: Vec<usize> = Vec::new();
        for (index, later) in steps.iter().enumerate() {
            let before = (0..index).filter(|at| waits_for(later, &steps[*at]));
            rounds.push(before.map(|at| rounds[at] + 1).max().unwrap_or_default());
        }
        rounds.into_iter().zip(steps.iter().map(Step::describe)).collect()
    }
}
