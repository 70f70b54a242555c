use super::*;
use crate::azure::VaultCertificate;
use crate::binding::fixtures::{NOW, bare, complete, desired, vault_certificate, with_addon};
use crate::binding::observation::Seen;

const POLL: Duration = Duration::minutes(2);

#[test]
fn phases_follow_what_is_there() {
    let granted = Observation {
        assignments: complete().assignments,
        ..with_addon()
    };
    let unsynced = Observation {
        secrets: bare().secrets,
        served: Default::default(),
        ..complete()
    };
    let unasked = Observation {
        served: Default::default(),
        ..complete()
    };
    let rows = [
        (bare(), Phase::Pending),
        (with_addon(), Phase::Pending),
        (granted, Phase::Azure),
        (unsynced, Phase::Objects),
        (unasked, Phase::Unverified),
        (complete(), Phase::Served),
    ];
    for (seen, phase) in rows {
        assert_eq!(status(&desired(), &seen, None, POLL).phase, phase);
    }
}

#[test]
fn a_renewal_is_in_sync_until_its_grace_is_over() {
    let before = status(&desired(), &complete(), None, POLL);
    let rows = [
        (Duration::minutes(6), true, Phase::Served),
        (Duration::minutes(8), false, Phase::Objects),
    ];
    for (age, in_sync, phase) in rows {
        let seen = renewed(age);
        let status = status(&desired(), &seen, Some(&before), POLL);
        assert_eq!((status.in_sync, status.phase), (in_sync, phase), "{age}");
        let web = &status.certificates["web"];
        assert_ne!(web.vault, web.synced);
    }
}

#[test]
fn without_rotation_an_earlier_version_stays_where_it_is() {
    let before = status(&desired(), &complete(), None, POLL);
    let mut seen = renewed(Duration::days(30));
    if let Seen::Known(Some(cluster)) = &mut seen.cluster {
        cluster.addon.rotation_enabled = false;
    }
    let status = status(&desired(), &seen, Some(&before), POLL);
    assert_eq!((status.in_sync, status.phase), (true, Phase::Served));
    let web = &status.certificates["web"];
    assert_ne!(web.vault, web.synced);
}

#[test]
fn a_certificate_that_was_never_in_the_vault_is_not_on_the_way() {
    let before = status(&desired(), &complete(), None, POLL);
    let mut seen = renewed(Duration::minutes(1));
    let fake = crate::k8s::edge::Served {
        leaf: crate::binding::fixtures::leaf("fake"),
        chain_length: 1,
    };
    seen.served
        .insert("myapp.example.com".to_owned(), Seen::Known(fake));
    let status = status(&desired(), &seen, Some(&before), POLL);
    assert_eq!((status.in_sync, status.phase), (false, Phase::Unverified));
}

/// A complete binding whose certificate was renewed this long ago and has not arrived yet.
fn renewed(age: Duration) -> Observation {
    let mut seen = complete();
    let renewed = VaultCertificate {
        created_at: Some(NOW - age),
        ..vault_certificate("v2")
    };
    seen.certificates
        .insert("web".to_owned(), Seen::Known(Some(renewed)));
    seen
}

#[test]
fn what_is_not_seen_keeps_its_last_value() {
    let before = status(&desired(), &complete(), None, POLL);
    let blind = Observation::blind(NOW);
    assert_eq!(status(&desired(), &blind, Some(&before), POLL), before);
}

#[test]
fn a_current_edge_proves_the_secret_without_reading_it() {
    let unread = Observation {
        secrets: Default::default(),
        ..complete()
    };
    let status = status(&desired(), &unread, None, POLL);
    assert_eq!(
        status.certificates["web"].synced,
        status.certificates["web"].vault
    );
    assert_eq!(status.phase, Phase::Served);
}
