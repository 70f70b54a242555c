use serde_json::json;
use time::macros::datetime;

use super::*;
use crate::binding::fixtures::{INSTANCE, bare, complete, desired, vault_certificate};

fn unfit(change: impl FnOnce(&mut VaultCertificate)) -> Observation {
    let mut seen = bare();
    let mut found = vault_certificate("v1");
    change(&mut found);
    seen.certificates
        .insert("web".to_owned(), Seen::Known(Some(found)));
    seen
}

fn classes(seen: &Observation, known: &Known) -> Vec<Class> {
    judge(&desired(), seen, known)
        .iter()
        .map(Finding::class)
        .collect()
}

#[test]
fn a_fit_world_gives_no_finding() {
    assert_eq!(judge(&desired(), &bare(), &Known::default()), []);
}

#[test]
fn what_no_sibling_can_cure_is_a_fact_and_decay_of_what_is_bound_is_not() {
    let bound = Known {
        bound: BTreeSet::from(["web".to_owned()]),
        ..Known::default()
    };
    let worlds = [
        unfit(|it| it.enabled = false),
        unfit(|it| it.exportable = Some(false)),
        unfit(|it| it.leaf.not_after = datetime!(2026-11-01 0:00 UTC)),
        unfit(|it| it.leaf.hosts = vec!["*.example.org".to_owned()]),
    ];
    for seen in worlds {
        assert_eq!(classes(&seen, &Known::default()), [Class::Fact], "{seen:?}");
        assert_eq!(classes(&seen, &bound), [Class::Decay], "{seen:?}");
    }
    let soon = unfit(|it| it.leaf.not_after = datetime!(2026-12-10 0:00 UTC));
    assert_eq!(classes(&soon, &Known::default()), [Class::Decay]);
}

#[test]
fn what_a_sibling_may_make_is_curable() {
    let mut seen = bare();
    seen.certificates.insert("web".to_owned(), Seen::Known(None));
    seen.namespace = Seen::Known(false);
    assert_eq!(
        classes(&seen, &Known::default()),
        [Class::Curable, Class::Curable]
    );
}

#[test]
fn what_could_not_be_seen_is_no_finding() {
    let mut seen = bare();
    seen.certificates
        .insert("web".to_owned(), Seen::NotSeen("403".to_owned().into()));
    seen.namespace = Seen::NotSeen("403".to_owned().into());
    assert_eq!(judge(&desired(), &seen, &Known::default()), []);
}

#[test]
fn objects_are_ours_foreign_or_of_a_binding_that_this_state_does_not_know() {
    let knows = Known {
        instances: BTreeSet::from([INSTANCE.to_owned()]),
        ..Known::default()
    };
    assert_eq!(judge(&desired(), &complete(), &knows), []);

    let found = judge(&desired(), &complete(), &Known::default());
    assert!(
        matches!(found.as_slice(), [Finding::AlreadyBound { .. }, ..]),
        "{found:?}"
    );

    let mut seen = bare();
    let foreign = json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": "Helm" } } });
    seen.objects
        .insert("Ingress/shop".to_owned(), Seen::Known(Some(foreign)));
    let found = judge(&desired(), &seen, &Known::default());
    assert!(
        matches!(&found[..], [Finding::Foreign { managed_by: Some(name), .. }] if name == "Helm"),
        "{found:?}"
    );
}

#[test]
fn an_unfinished_creation_of_the_same_binding_is_taken_over() {
    let mut seen = complete();
    if let Some(Seen::Known(Some(class))) = seen.objects.get_mut("SecretProviderClass/shop") {
        class["metadata"]["annotations"][manifests::PHASE] = json!(manifests::UNFINISHED);
    }
    let found = judge(&desired(), &seen, &Known::default());
    assert_eq!(found, [Finding::Unfinished]);
    assert_eq!(found[0].class(), Class::Decay);
}
