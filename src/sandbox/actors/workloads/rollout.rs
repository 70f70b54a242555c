//! How many pods the old and the new ReplicaSet of a Deployment should have next. Pure.

use serde_json::Value;

use crate::sandbox::actors::objects::{at, int, text};

/// A Deployment's strategy with its percentages resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strategy {
    pub(super) replicas: usize,
    pub(super) recreate: bool,
    pub(super) max_surge: usize,
    pub(super) max_unavailable: usize,
}

/// A ReplicaSet in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// What its spec asks for.
    pub(super) wanted: usize,
    /// Pods it has.
    pub(super) present: usize,
    pub(super) available: usize,
}

impl Strategy {
    pub(super) fn of(deployment: &Value) -> Self {
        let replicas =
            int(deployment, "/spec/replicas").map_or(1, |count| usize::try_from(count).unwrap_or(0));
        let rolling = at(deployment, "/spec/strategy/rollingUpdate");
        let max_surge = resolve(at(rolling, "/maxSurge"), replicas, true);
        let mut max_unavailable = resolve(at(rolling, "/maxUnavailable"), replicas, false);
        if max_surge == 0 && max_unavailable == 0 {
            // Otherwise nothing could ever move.
            max_unavailable = 1;
        }
        Self {
            replicas,
            recreate: text(deployment, "/spec/strategy/type") == "Recreate",
            max_surge,
            max_unavailable,
        }
    }

    /// The next sizes: of the new ReplicaSet, and of each old one in the order given (oldest first).
    pub(super) fn step(self, new: Count, old: &[Count]) -> (usize, Vec<usize>) {
        let mut sizes: Vec<_> = old.iter().map(|set| set.wanted).collect();
        if self.recreate {
            let gone = old.iter().all(|set| set.present == 0 && set.wanted == 0);
            return (if gone { self.replicas } else { new.wanted }, vec![0; old.len()]);
        }
        let old_wanted: usize = sizes.iter().sum();
        let room = (self.replicas + self.max_surge).saturating_sub(old_wanted);
        let grown = self.replicas.min(room.max(new.wanted));
        let least = self.replicas.saturating_sub(self.max_unavailable);
        // Pods that never became available cost nothing; after them, only as many as availability allows.
        let mut unhealthy =
            (old_wanted + new.wanted).saturating_sub(least + (new.wanted - new.available.min(new.wanted)));
        for (size, set) in sizes.iter_mut().zip(old) {
            let idle = set.wanted.saturating_sub(set.available).min(unhealthy);
            *size -= idle;
            unhealthy -= idle;
        }
        let available = new.available + old.iter().map(|set| set.available).sum::<usize>();
        let mut spare = available.saturating_sub(least);
        for (size, set) in sizes.iter_mut().zip(old) {
            let fewer = set.available.min(*size).min(spare);
            *size -= fewer;
            spare -= fewer;
        }
        (grown, sizes)
    }
}

/// A number, or a percentage of `replicas` rounded up or down; 25 % when absent.
fn resolve(value: &Value, replicas: usize, up: bool) -> usize {
    if let Some(count) = value.as_u64() {
        return usize::try_from(count).unwrap_or(usize::MAX);
    }
    let percent = value
        .as_str()
        .and_then(|text| text.strip_suffix('%'))
        .and_then(|text| text.parse().ok());
    let share = replicas * percent.unwrap_or(25_usize);
    if up { share.div_ceil(100) } else { share / 100 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn count(wanted: usize, available: usize) -> Count {
        Count {
            wanted,
            present: wanted,
            available,
        }
    }

    #[test]
    fn one_replica_is_replaced_by_surge() {
        let strategy = Strategy::of(&json!({"spec": {"replicas": 1}}));
        assert_eq!((strategy.max_surge, strategy.max_unavailable), (1, 0));
        assert_eq!(strategy.step(count(0, 0), &[count(1, 1)]), (1, vec![1]));
        assert_eq!(strategy.step(count(1, 0), &[count(1, 1)]), (1, vec![1]));
        assert_eq!(strategy.step(count(1, 1), &[count(1, 1)]), (1, vec![0]));
    }

    #[test]
    fn an_old_set_that_never_worked_goes_first_once_the_new_one_works() {
        let strategy = Strategy::of(&json!({"spec": {"replicas": 1}}));
        assert_eq!(strategy.step(count(1, 0), &[count(1, 0)]), (1, vec![1]));
        assert_eq!(strategy.step(count(1, 1), &[count(1, 0)]), (1, vec![0]));
    }

    #[test]
    fn recreate_waits_until_the_old_pods_are_gone() {
        let strategy = Strategy::of(&json!({"spec": {"replicas": 2, "strategy": {"type": "Recreate"}}}));
        assert_eq!(strategy.step(count(0, 0), &[count(2, 2)]), (0, vec![0]));
        let ending = Count {
            present: 1,
            ..count(0, 0)
        };
        assert_eq!(strategy.step(count(0, 0), &[ending]), (0, vec![0]));
        assert_eq!(strategy.step(count(0, 0), &[count(0, 0)]), (2, vec![0]));
    }

    #[test]
    fn scaling_without_a_rollout_goes_straight_to_the_number() {
        let strategy = Strategy::of(&json!({"spec": {"replicas": 5}}));
        assert_eq!(strategy.step(count(1, 1), &[]), (5, vec![]));
        let strategy = Strategy::of(&json!({"spec": {"replicas": 0}}));
        assert_eq!(strategy.step(count(1, 1), &[]), (0, vec![]));
    }
}
