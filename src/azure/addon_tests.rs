//! Rows about what is sent back, against the shape of recorded clusters.

use super::*;
use crate::azure::{AddonIdentity, ClientId, PrincipalId};

fn cluster(state: &str, power: &str, addon: Addon) -> Cluster {
    let id = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/shop/providers/Microsoft.ContainerService/managedClusters/aks";
    let body = json!({"properties": {"provisioningState": state, "powerState": {"code": power}}});
    Cluster {
        addon,
        ..parse(&ClusterId::parse(id).unwrap(), &body).unwrap()
    }
}

fn wish(rotation_enabled: bool, interval: Option<&str>) -> AddonWish {
    AddonWish {
        rotation_enabled,
        rotation_poll_interval: interval.map(str::to_owned),
    }
}

#[test]
fn a_wish_is_met_by_the_same_duration_in_another_spelling() {
    let on = |rotation_enabled, interval: Option<&str>| Addon {
        enabled: true,
        rotation_enabled,
        rotation_poll_interval: interval.map(str::to_owned),
        identity: Some(AddonIdentity {
            client_id: ClientId("client".to_owned()),
            object_id: PrincipalId("object".to_owned()),
            resource_id: "resource".to_owned(),
        }),
    };
    let without_identity = Addon {
        identity: None,
        ..on(true, None)
    };
    let rows = [
        (wish(true, None), on(true, Some("30m")), true),
        (wish(true, Some("1h")), on(true, Some("60m")), true),
        (wish(true, Some("1h0m0s")), on(true, Some("1h")), true),
        (wish(true, Some("2m")), on(true, None), true),
        (wish(true, Some("5m")), on(true, None), false),
        (wish(true, Some("5m")), on(true, Some("2m")), false),
        (wish(true, None), on(false, None), false),
        (wish(false, None), on(false, None), true),
        (wish(true, None), Addon::default(), false),
        (wish(true, None), without_identity, false),
        (wish(true, Some("odd")), on(true, Some("odd")), true),
    ];
    for (wish, addon, met) in rows {
        assert_eq!(wish.is_met_by(&addon), met, "{wish:?} {addon:?}");
    }
}

#[test]
fn only_a_running_settled_cluster_is_written_to() {
    let rows = [
        ("Succeeded", "Running", "Ready"),
        ("Canceled", "Running", "Ready"),
        ("Updating", "Running", "Busy"),
        ("RotatingServiceAccountSigningKeysInternal", "Running", "Busy"),
        ("Succeeded", "Stopped", "Refused"),
        ("Failed", "Running", "Refused"),
        ("Deleting", "Running", "Refused"),
    ];
    for (state, power, expected) in rows {
        let found = format!("{:?}", readiness(&cluster(state, power, Addon::default())));
        assert!(found.starts_with(expected), "{state} {power}: {found}");
    }
}

#[test]
fn the_cluster_goes_back_whole_but_for_what_is_read_only_and_ours() {
    let live = json!({
        "id": "/x", "name": "aks", "type": "Microsoft.ContainerService/ManagedClusters", "eTag": "1", "systemData": {},
        "location": "eastus", "kind": "Base", "sku": {"name": "Base", "tier": "Free"}, "tags": {"a": "b"},
        "identity": {"type": "UserAssigned", "principalId": "p", "tenantId": "t",
                     "userAssignedIdentities": {"/id": {"clientId": "c", "principalId": "p"}}},
        "properties": {
            "provisioningState": "Succeeded", "powerState": {"code": "Running"}, "fqdn": "f", "maxAgentPools": 100,
            "currentKubernetesVersion": "1.34.4", "kubernetesVersion": "1.34", "somethingNew": {"kept": [1, 2.5, null]},
            "agentPoolProfiles": [{"name": "n", "count": 3, "powerState": {"code": "Running"}, "eTag": "2",
                "provisioningState": "Succeeded", "currentOrchestratorVersion": "1.34.4", "nodeImageVersion": "i",
                "orchestratorVersion": "1.34"}],
            "addonProfiles": {
                "azurepolicy": {"enabled": true, "config": null, "identity": {"objectId": "o"}},
                "AzureKeyvaultSecretsProvider": {"enabled": false, "config": {"other": "kept"}},
            },
            "networkProfile": {"loadBalancerSku": "standard",
                "loadBalancerProfile": {"managedOutboundIPs": {"count": 1}, "effectiveOutboundIPs": [{"id": "/ip"}]}},
            "oidcIssuerProfile": {"enabled": true, "issuerURL": "https://issuer/"},
            "servicePrincipalProfile": {"clientId": "msi"},
        },
    });
    let expected = json!({
        "location": "eastus", "kind": "Base", "sku": {"name": "Base", "tier": "Free"}, "tags": {"a": "b"},
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {"/id": {}}},
        "properties": {
            "kubernetesVersion": "1.34", "somethingNew": {"kept": [1, 2.5, null]},
            "agentPoolProfiles": [{"name": "n", "count": 3, "powerState": {"code": "Running"}, "orchestratorVersion": "1.34"}],
            "addonProfiles": {
                "azurepolicy": {"enabled": true, "config": null},
                "AzureKeyvaultSecretsProvider": {"enabled": true, "config": {
                    "other": "kept", "enableSecretRotation": "true", "rotationPollInterval": "2m"}},
            },
            "networkProfile": {"loadBalancerSku": "standard", "loadBalancerProfile": {"managedOutboundIPs": {"count": 1}}},
            "oidcIssuerProfile": {"enabled": true},
            "servicePrincipalProfile": {"clientId": "msi"},
        },
    });
    assert_eq!(wished_body(&live, &wish(true, None)), expected);
}

#[test]
fn an_interval_that_is_there_stays_unless_another_is_wished() {
    let entry =
        |config: Value| json!({"properties": {"addonProfiles": {KEY: {"enabled": true, "config": config}}}});
    let rows = [
        (
            entry(json!({"rotationPollInterval": "30m"})),
            wish(true, None),
            "30m",
        ),
        (
            entry(json!({"rotationPollInterval": "30m"})),
            wish(true, Some("5m")),
            "5m",
        ),
        (
            entry(json!({"RotationPollInterval": "30m"})),
            wish(true, Some("5m")),
            "5m",
        ),
        (entry(Value::Null), wish(false, None), "2m"),
        (
            json!({"properties": {"addonProfiles": null}}),
            wish(true, Some("1h")),
            "1h",
        ),
        (json!({"properties": {}}), wish(true, None), "2m"),
    ];
    for (live, wish, interval) in rows {
        let body = wished_body(&live, &wish);
        let config = body["properties"]["addonProfiles"][KEY]["config"]
            .as_object()
            .unwrap();
        let found: Vec<_> = config
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(INTERVAL))
            .collect();
        assert_eq!(found.len(), 1, "{body}");
        assert_eq!(found[0].1, interval, "{body}");
        assert_eq!(config[ROTATION], wish.rotation_enabled.to_string());
    }
}

/// Paths of `before` that are not in `after`; list places as `*`.
fn dropped(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                match after.get(name) {
                    Some(kept) => dropped(value, kept, &format!("{path}/{name}"), found),
                    None => found.push(format!("{path}/{name}")),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{path}");
            for (value, kept) in before.iter().zip(after) {
                dropped(value, kept, &format!("{path}/*"), found);
            }
        }
        (before, after) => assert_eq!(before, after, "{path}"),
    }
}

/// A cluster as Azure sent it on 24 April 2026 (recorded by the Azure CLI's tests, trimmed).
#[test]
fn of_a_recorded_cluster_only_what_is_read_only_is_dropped() {
    let live: Value = serde_json::from_str(include_str!("recorded/cluster-2026.json")).unwrap();
    let body = wished_body(&live, &wish(true, None));
    let mut found = Vec::new();
    dropped(&live, &body, "", &mut found);
    found.sort();
    found.dedup();
    let expected = [
        "/eTag",
        "/id",
        "/identity/userAssignedIdentities//subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/e2e-managed-identity-pool/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cp-32/clientId",
        "/identity/userAssignedIdentities//subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/e2e-managed-identity-pool/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cp-32/principalId",
        "/name",
        "/properties/agentPoolProfiles/*/currentOrchestratorVersion",
        "/properties/agentPoolProfiles/*/eTag",
        "/properties/agentPoolProfiles/*/nodeImageVersion",
        "/properties/agentPoolProfiles/*/provisioningState",
        "/properties/azurePortalFQDN",
        "/properties/currentKubernetesVersion",
        "/properties/fqdn",
        "/properties/ingressProfile/webAppRouting/identity",
        "/properties/maxAgentPools",
        "/properties/networkProfile/loadBalancerProfile/effectiveOutboundIPs",
        "/properties/oidcIssuerProfile/issuerURL",
        "/properties/powerState",
        "/properties/provisioningState",
        "/properties/resourceUID",
        "/type",
    ];
    assert_eq!(found, expected);
    assert_eq!(body["properties"]["addonProfiles"][KEY]["enabled"], true);
}
