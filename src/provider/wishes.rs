//! A cluster has one Key Vault add-on, and several resources of one run may have a say in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::azure::AddonWish;
use crate::azure::ids::ClusterId;
use crate::framework::validate::text;
use crate::framework::{Attribute, Presence, duration, equality};

/// Who wishes on behalf of the cluster's owner.
pub(super) const OWNER: &str = "kvtls_cluster_addon";

/// What the resources of a run wish for each cluster's add-on. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Wishes(Arc<Mutex<OfRun>>);

#[derive(Default)]
struct OfRun {
    run: Option<usize>,
    wishes: BTreeMap<ClusterId, Vec<(String, AddonWish)>>,
}

/// Two wishes that cannot both come true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// What the one who asks wishes.
    pub own: String,
    /// Who wishes something else.
    pub other: String,
    /// What that one wishes.
    pub others: String,
}

impl Wishes {
    /// Remembers a wish of a run, and finds one of somebody else that it contradicts. A binding has one wish; owners
    /// have no names, so each wish of an owner is one of another.
    pub(super) fn add(
        &self,
        run: Option<usize>,
        cluster: &ClusterId,
        who: &str,
        wish: AddonWish,
    ) -> Option<Clash> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.run != run {
            *all = OfRun {
                run,
                ..OfRun::default()
            };
        }
        let of_cluster = all.wishes.entry(cluster.clone()).or_default();
        of_cluster.retain(|(other, theirs)| other != who || who == OWNER && *theirs != wish);
        let clash = of_cluster
            .iter()
            .find_map(|(other, theirs)| clash(&wish, other, theirs));
        of_cluster.push((who.to_owned(), wish));
        clash
    }

    /// Whether the cluster's owner, in this run, sees to it that the add-on is as wished.
    pub(super) fn owner_sees_to(&self, run: Option<usize>, cluster: &ClusterId, wish: &AddonWish) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_cluster = all.wishes.get(cluster).filter(|_| all.run == run);
        of_cluster
            .into_iter()
            .flatten()
            .any(|(who, theirs)| who == OWNER && clash(wish, who, theirs).is_none())
    }
}

fn clash(wish: &AddonWish, other: &str, theirs: &AddonWish) -> Option<Clash> {
    let of = |own: String, others: String| Clash {
        own,
        other: other.to_owned(),
        others,
    };
    if wish.rotation_enabled != theirs.rotation_enabled {
        let words = |on: bool| format!("rotation_enabled = {on}");
        return Some(of(words(wish.rotation_enabled), words(theirs.rotation_enabled)));
    }
    match (&wish.rotation_poll_interval, &theirs.rotation_poll_interval) {
        (Some(own), Some(others)) if !duration::same(own, others) => {
            let words = |text: &str| format!("rotation_poll_interval = \"{text}\"");
            Some(of(words(own), words(others)))
        }
        _ => None,
    }
}

/// The attribute `rotation_enabled`, of whoever may wish it.
pub(super) fn rotation_enabled() -> Attribute {
    Attribute::bool(
        Presence::OptionalComputed,
        "Whether renewed certificates reach the cluster. True unless set.",
    )
    .default(true)
}

/// The attribute `rotation_poll_interval`, of whoever may wish it.
pub(super) fn rotation_poll_interval() -> Attribute {
    Attribute::string(
        Presence::Optional,
        "How often the vault is asked, at least `1m`. Unless set, what is there is kept.",
    )
    .valid(text(
        "a duration of at least one minute",
        "\"2m\"",
        is_poll_interval,
    ))
    .equal_by(equality::same_duration)
}

fn is_poll_interval(text: &str) -> bool {
    // AKS reads Go's durations, which know no days.
    !text.contains('d') && duration::parse(text).is_some_and(|it| it.as_secs() >= 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(rotation_enabled: bool, interval: Option<&str>) -> AddonWish {
        AddonWish {
            rotation_enabled,
            rotation_poll_interval: interval.map(str::to_owned),
        }
    }

    #[test]
    fn wishes_clash_only_where_both_cannot_come_true() {
        let cluster = ClusterId::parse("/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/aks").unwrap();
        let wishes = Wishes::default();
        assert_eq!(wishes.add(Some(1), &cluster, "a", wish(true, Some("2m"))), None);
        assert_eq!(wishes.add(Some(1), &cluster, "b", wish(true, None)), None);
        assert_eq!(wishes.add(Some(1), &cluster, "c", wish(true, Some("120s"))), None);
        // The same one may change its mind.
        assert_eq!(wishes.add(Some(1), &cluster, "b", wish(true, Some("2m"))), None);
        let clash = wishes
            .add(Some(1), &cluster, "d", wish(true, Some("5m")))
            .unwrap();
        assert!(
            clash.own.contains("5m") && clash.others.contains("2m"),
            "{clash:?}"
        );
        let clash = wishes.add(Some(1), &cluster, "e", wish(false, None)).unwrap();
        assert!(
            clash.own.contains("false") && clash.others.contains("true"),
            "{clash:?}"
        );
    }

    #[test]
    fn two_owners_are_told_apart_by_their_wishes_and_a_new_run_begins_anew() {
        let cluster = ClusterId::parse("/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/aks").unwrap();
        let wishes = Wishes::default();
        assert!(!wishes.owner_sees_to(Some(1), &cluster, &wish(true, None)));
        assert_eq!(wishes.add(Some(1), &cluster, OWNER, wish(true, Some("2m"))), None);
        assert_eq!(wishes.add(Some(1), &cluster, OWNER, wish(true, Some("2m"))), None);
        assert!(wishes.owner_sees_to(Some(1), &cluster, &wish(true, None)));
        assert!(!wishes.owner_sees_to(Some(1), &cluster, &wish(true, Some("5m"))));
        let clash = wishes.add(Some(1), &cluster, OWNER, wish(true, Some("5m")));
        assert_eq!(clash.unwrap().other, OWNER);
        assert_eq!(wishes.add(Some(2), &cluster, OWNER, wish(false, None)), None);
    }
}
