use serde_json::json;

use super::*;
use crate::binding::fixtures::{
    INSTANCE, bare, complete, desired, memory, secret, vault_certificate, with_addon,
};
use crate::binding::guard::{Announced, unannounced};
use crate::binding::revoke::{self, Reason};

fn described(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::describe).collect()
}

fn object_mut<'a>(seen: &'a mut Observation, key: &str) -> &'a mut Value {
    match seen.objects.get_mut(key) {
        Some(Seen::Known(Some(live))) => live,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn without_the_addon_only_the_addon_can_be_decided() {
    let plan = plan(&desired(), &bare(), &memory());
    assert_eq!(described(&plan), ["update the cluster's Key Vault add-on"]);
    assert!(!plan.complete);
}

#[test]
fn the_grant_comes_first_and_the_ingress_after_the_secrets() {
    let plan = plan(&desired(), &with_addon(), &memory());
    assert_eq!(
        described(&plan),
        [
            "assign Key Vault Secrets User to object",
            "apply SecretProviderClass shop/shop",
            "apply Deployment shop/shop",
            "wait for the Secrets",
            "apply Ingress shop/shop",
            "verify what Ingress shop/shop serves",
            "mark SecretProviderClass shop/shop as complete",
        ]
    );
    assert!(plan.complete);
}

#[test]
fn a_complete_binding_needs_no_write() {
    let plan = plan(&desired(), &complete(), &memory());
    assert_eq!(
        plan.steps.iter().filter(|step| step.is_write()).count(),
        0,
        "{:?}",
        described(&plan)
    );
}

#[test]
fn a_vault_with_access_policies_gets_a_policy() {
    let mut seen = with_addon();
    if let Seen::Known(Some(vault)) = &mut seen.vault {
        vault.rbac = false;
    }
    let plan = plan(&desired(), &seen, &memory());
    assert_eq!(described(&plan)[0], "add an access policy for object");
}

#[test]
fn an_edited_field_is_taken_back_and_others_fields_are_left() {
    let mut seen = complete();
    object_mut(&mut seen, "Ingress/shop")["spec"]["tls"][0]["secretName"] = json!("theirs");
    object_mut(&mut seen, "Deployment/shop")["spec"]["revisionHistoryLimit"] = json!(3);
    let plan = plan(&desired(), &seen, &memory());
    let writes: Vec<String> = plan
        .steps
        .iter()
        .filter(|it| it.is_write())
        .map(Step::describe)
        .collect();
    assert_eq!(writes, ["apply Ingress shop/shop"]);
}

#[test]
fn a_secret_behind_the_vault_replaces_the_pods_once() {
    let mut seen = complete();
    seen.certificates
        .insert("web".to_owned(), Seen::Known(Some(vault_certificate("v2"))));
    let stale = plan(&desired(), &seen, &memory());
    let writes: Vec<&Step> = stale.steps.iter().filter(|it| it.is_write()).collect();
    let [
        Step::Apply {
            object,
            manifest,
            bookkeeping: true,
            is_new: false,
        },
    ] = writes.as_slice()
    else {
        panic!("{writes:?}")
    };
    assert_eq!(object.to_string(), "Deployment shop/shop");
    // Once the pods are replaced and the Secret has caught up, the token stays and nothing is written again.
    seen.objects
        .insert("Deployment/shop".to_owned(), Seen::Known(Some(manifest.clone())));
    seen.secrets
        .insert("shop-web".to_owned(), Seen::Known(Some(secret("v2"))));
    let calm = plan(&desired(), &seen, &memory());
    assert_eq!(
        calm.steps.iter().filter(|it| it.is_write()).count(),
        0,
        "{:?}",
        described(&calm)
    );
}

/// Otherwise a Secret that goes wrong a second time under one version would stay so.
#[test]
fn each_time_a_secret_goes_wrong_the_pods_are_replaced() {
    let mut seen = complete();
    let mut tokens = BTreeSet::new();
    let wrong = [
        Some(secret("foreign")),
        Some(secret("foreign")),
        Some(SecretCertificate {
            key_fits: Some(false),
            ..secret("v1")
        }),
        None,
    ];
    for found in wrong {
        seen.secrets.insert("shop-web".to_owned(), Seen::Known(found));
        let steps = plan(&desired(), &seen, &memory()).steps;
        let applied = steps.iter().find_map(|step| match step {
            Step::Apply { manifest, .. } => Some(manifest.clone()),
            _ => None,
        });
        let applied = applied.unwrap();
        let token = &applied["spec"]["template"]["metadata"]["annotations"][manifests::INPUTS];
        assert!(tokens.insert(token.to_string()), "{token}");
        seen.objects
            .insert("Deployment/shop".to_owned(), Seen::Known(Some(applied)));
    }
}

#[test]
fn what_was_not_announced_is_named() {
    let mut seen = complete();
    seen.objects
        .insert("Deployment/shop".to_owned(), Seen::Known(None));
    let steps = plan(&desired(), &seen, &memory()).steps;
    let none = Announced::Only(BTreeSet::new());
    assert_eq!(unannounced(&steps, &none), ["Deployment/shop"]);
    assert_eq!(unannounced(&steps, &Announced::Everything), Vec::<String>::new());
}

fn owned() -> Owned {
    let desired = desired();
    let keys = ["SecretProviderClass/shop", "Deployment/shop", "Ingress/shop"];
    Owned {
        cluster: desired.cluster.clone(),
        vault: desired.vault.clone(),
        namespace: "shop".to_owned(),
        name: "shop".to_owned(),
        instance: INSTANCE.to_owned(),
        objects: crate::binding::converge::owned_objects("shop", keys),
        secrets: vec!["shop-web".to_owned()],
        applied: true,
        connection: Connection::default(),
        grants: vec![OwnedGrant {
            kind: GrantKind::RoleAssignment,
            id: "assignment".to_owned(),
            scope: desired.vault.to_string(),
            principal_id: "object".to_owned(),
        }],
        identity: Identity::Addon,
        disables_addon: false,
    }
}

#[test]
fn removal_takes_the_edge_first_and_waits_for_the_secret() {
    let plan = plan_absent(&owned(), &complete());
    assert_eq!(
        described(&plan),
        [
            "delete Ingress shop/shop",
            "delete Deployment shop/shop",
            "wait until Secret shop/shop-web is gone",
            "delete SecretProviderClass shop/shop",
        ]
    );
    assert!(!plan.complete);
}

#[test]
fn objects_that_a_successor_took_over_are_not_deleted() {
    let mut seen = complete();
    for key in ["SecretProviderClass/shop", "Deployment/shop", "Ingress/shop"] {
        object_mut(&mut seen, key)["metadata"]["annotations"][manifests::INSTANCE] = json!("another");
    }
    seen.other_classes = Seen::Known(vec![object_mut(&mut seen, "SecretProviderClass/shop").clone()]);
    assert_eq!(
        plan_absent(&owned(), &seen),
        Plan {
            steps: Vec::new(),
            complete: true
        }
    );
}

#[test]
fn the_last_reader_of_a_vault_revokes_the_grant() {
    let class = |vault: &str| {
        json!({
            "metadata": { "namespace": "blog", "name": "blog" },
            "spec": { "provider": "azure", "parameters": { "keyvaultName": vault, "useVMManagedIdentity": "true" } },
        })
    };
    let needed = |by: &str| Some(Reason::Needed(by.to_owned()));
    let unread = "the cluster's SecretProviderClasses could not be read (403)";
    let rows = [
        (Seen::Known(Vec::new()), None),
        (Seen::Known(vec![class("another")]), None),
        (
            Seen::Known(vec![class("another"), class("KV-prod")]),
            needed("SecretProviderClass blog/blog reads with it"),
        ),
        (
            Seen::Known(vec![
                json!({ "metadata": class("")["metadata"], "spec": { "provider": "azure" } }),
            ]),
            needed("SecretProviderClass blog/blog reads with it"),
        ),
        (
            Seen::NotSeen("403".to_owned().into()),
            Some(Reason::Unclear(unread.to_owned())),
        ),
        (
            Seen::NotAsked,
            Some(Reason::Unclear(
                "with apply_manifests = false the cluster is not asked who else needs it".to_owned(),
            )),
        ),
    ];
    for (others, reason) in rows {
        let mut seen = complete();
        for found in seen.objects.values_mut() {
            *found = Seen::Known(None);
        }
        seen.other_classes = others.clone();
        let plan = plan_absent(&owned(), &seen);
        assert_eq!(plan.steps.is_empty(), reason.is_some(), "{others:?}");
        assert!(plan.complete);
        let kept = revoke::kept(&owned(), &seen, false);
        assert_eq!(
            kept.into_iter().map(|kept| kept.reason).next(),
            reason,
            "{others:?}"
        );
    }
}
