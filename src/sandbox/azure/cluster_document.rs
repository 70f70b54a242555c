//! The members of a managed cluster: what a new one has, what a PUT may change, and how a PUT is merged.
//!
//! PUT takes the whole resource, yet the service merges: members left out keep their value. What it calls read-only it
//! ignores. Members this world's file adds beyond the known ones (`extra`) are not merged but replaced, so a client
//! that does not send back what it does not know loses it, as a typed model would against a newer service.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::cluster_template as template;
use super::refusal::Refusal;
use super::tree;

/// The add-on's name, as documented.
pub(super) const ADDON: &str = "azureKeyvaultSecretsProvider";

/// Members a PUT cannot set, below the top, below `properties`, and below each node pool.
const READ_ONLY: &[&str] = &[
    "id",
    "name",
    "type",
    "systemData",
    "eTag",
    "identity.principalId",
    "identity.tenantId",
    "properties.provisioningState",
    "properties.powerState",
    "properties.maxAgentPools",
    "properties.currentKubernetesVersion",
    "properties.fqdn",
    "properties.privateFQDN",
    "properties.azurePortalFQDN",
    "properties.resourceUID",
    "properties.status",
    "properties.privateLinkResources",
    "properties.ingressProfile.webAppRouting.identity",
    "properties.oidcIssuerProfile.issuerURL",
    "properties.networkProfile.loadBalancerProfile.effectiveOutboundIPs",
    "properties.networkProfile.natGatewayProfile.effectiveOutboundIPs",
    // Write-only: taken, never shown.
    "properties.windowsProfile.adminPassword",
    "properties.servicePrincipalProfile.secret",
    "properties.aadProfile.serverAppSecret",
];

/// The same for each node pool.
const POOL_READ_ONLY: &[&str] = &[
    "eTag",
    "currentOrchestratorVersion",
    "provisioningState",
    "status",
    "nodeImageVersion",
];

/// Members that cannot change once the cluster exists; the name AKS uses for each is its last word.
const IMMUTABLE: &[&str] = &[
    "properties.dnsPrefix",
    "properties.nodeResourceGroup",
    "properties.networkProfile.networkPlugin",
    "properties.networkProfile.podCidr",
    "properties.networkProfile.serviceCidr",
    "properties.networkProfile.dnsServiceIP",
];

/// The document after a PUT of `body` on `stored`.
pub(super) fn put(stored: &Value, body: &Value, extra: &Value) -> Result<Value, Refusal> {
    let mut body = writable(body)?;
    for path in IMMUTABLE {
        let (Some(old), Some(new)) = (tree::at(stored, path), tree::at(&body, path)) else {
            continue;
        };
        if !new.is_null() && new != "" && !equal_text(old, new) {
            return Err(not_changeable(path));
        }
    }
    let stored_at = stored["location"].as_str().unwrap_or_default();
    if let Some(location) = body["location"].as_str()
        && plain(stored_at) != plain(location)
    {
        return Err(Refusal::gateway(
            StatusCode::CONFLICT,
            "InvalidResourceLocation",
            format!(
                "The resource already exists in location '{stored_at}' in resource group. A resource with the same name \
                 cannot be created in location '{location}'. Please select a new resource name."
            ),
        ));
    }
    let pools = tree::take(&mut body, "properties.agentPoolProfiles");
    let addons = tree::take(&mut body, "properties.addonProfiles");
    let mut merged = stored.clone();
    drop(body.as_object_mut().map(|body| body.remove("location")));
    tree::merge(&mut merged, &body);
    // Tags are a whole: a PUT replaces them.
    if let Some(tags) = body.get("tags") {
        tree::set(&mut merged, "tags", tags.clone());
    }
    let issuer = "properties.oidcIssuerProfile.enabled";
    if tree::at(stored, issuer) == Some(&json!(true)) && tree::at(&merged, issuer) == Some(&json!(false)) {
        return Err(Refusal::aks(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "OIDC issuer cannot be disabled once it is enabled.",
        ));
    }
    merge_pools(&mut merged, pools.as_ref())?;
    if let Some(Value::Object(addons)) = addons {
        merge_addons(&mut merged, addons)?;
    }
    drop_unsent(&mut merged, &body, extra);
    Ok(merged)
}

/// A body without what it cannot set.
pub(super) fn writable(body: &Value) -> Result<Value, Refusal> {
    if !body.is_object() {
        return Err(Refusal::aks(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "The request body could not be deserialized into known type. Please check the request.",
        ));
    }
    let mut body = body.clone();
    for path in READ_ONLY {
        drop(tree::take(&mut body, path));
    }
    for pool in tree::list_mut(&mut body, "properties.agentPoolProfiles") {
        for member in POOL_READ_ONLY {
            drop(tree::take(pool, member));
        }
    }
    let addons = tree::at_mut(&mut body, "properties.addonProfiles").and_then(Value::as_object_mut);
    for addon in addons.into_iter().flat_map(Map::values_mut) {
        drop(tree::take(addon, "identity"));
    }
    Ok(body)
}

/// Node pools are matched by name; leaving one out would delete it, which a cluster PUT must not do.
fn merge_pools(merged: &mut Value, pools: Option<&Value>) -> Result<(), Refusal> {
    let Some(Value::Array(pools)) = pools else {
        return Ok(());
    };
    let kubernetes = tree::text(merged, "properties.currentKubernetesVersion").to_owned();
    let stored = tree::list_mut(merged, "properties.agentPoolProfiles");
    let named = |pool: &Value, name: &Value| equal_text(&pool["name"], name);
    for old in stored.iter() {
        if !pools.iter().any(|pool| named(pool, &old["name"])) {
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                format!(
                    "sandbox: agent pool {} is missing from agentPoolProfiles, which would delete it",
                    old["name"]
                ),
            ));
        }
    }
    let mut added = Vec::new();
    for pool in pools {
        match stored.iter_mut().find(|old| named(old, &pool["name"])) {
            Some(old) => {
                let own = pool.as_object().cloned().unwrap_or_default();
                tree::merge(
                    old,
                    &Value::Object(own.into_iter().filter(|(_, value)| value != "").collect()),
                );
            }
            None => {
                added.push(template::pool(pool, &kubernetes));
            }
        }
    }
    if let Some(Value::Array(list)) = tree::at_mut(merged, "properties.agentPoolProfiles") {
        list.extend(added);
    }
    Ok(())
}

/// Add-ons are matched without regard to case and keep the spelling they had; a given entry replaces its `config`.
fn merge_addons(merged: &mut Value, addons: Map<String, Value>) -> Result<(), Refusal> {
    if addons.is_empty() {
        return Ok(());
    }
    if !tree::at(merged, "properties.addonProfiles").is_some_and(Value::is_object) {
        tree::set(merged, "properties.addonProfiles", json!({}));
    }
    let Some(stored) = tree::at_mut(merged, "properties.addonProfiles").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    let mut seen: Vec<String> = Vec::new();
    for (key, addon) in addons {
        let lower = key.to_ascii_lowercase();
        if seen.contains(&lower) {
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                format!("sandbox: addonProfiles names '{key}' twice, in different spellings"),
            ));
        }
        seen.push(lower);
        let Some(enabled) = addon["enabled"].as_bool() else {
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                format!("sandbox: addonProfiles.{key}.enabled must be true or false"),
            ));
        };
        let config = if enabled {
            addon["config"].clone()
        } else {
            Value::Null
        };
        if let Some(config) = config.as_object()
            && config.values().any(|value| !value.is_string())
        {
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                format!("sandbox: addonProfiles.{key}.config must hold strings only"),
            ));
        }
        let known = stored
            .keys()
            .find(|known| known.eq_ignore_ascii_case(&key))
            .cloned();
        // Disabling what was never there leaves no trace but the entry itself.
        stored.insert(
            known.unwrap_or(key),
            json!({"enabled": enabled, "config": config}),
        );
    }
    Ok(())
}

/// Takes members of `extra` away that the body did not send back.
fn drop_unsent(merged: &mut Value, body: &Value, extra: &Value) {
    let (Some(merged), Some(extra)) = (merged.as_object_mut(), extra.as_object()) else {
        return;
    };
    for (name, value) in extra {
        match body.get(name) {
            None => drop(merged.remove(name)),
            Some(sent) if value.is_object() => {
                if let Some(inner) = merged.get_mut(name) {
                    drop_unsent(inner, sent, value);
                }
            }
            Some(_) => {}
        }
    }
}

/// The add-on's entry and the spelling of its key.
pub(super) fn addon(document: &Value) -> Option<(&String, &Value)> {
    document["properties"]["addonProfiles"]
        .as_object()?
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(ADDON))
}

/// True if the add-on is on in this document, or is turned on by this body.
pub(super) fn addon_enabled(document: &Value) -> Option<bool> {
    addon(document).and_then(|(_, entry)| entry["enabled"].as_bool())
}

fn not_changeable(path: &str) -> Refusal {
    let target = path.trim_start_matches("properties.");
    Refusal::aks(
        StatusCode::BAD_REQUEST,
        "PropertyChangeNotAllowed",
        format!("Changing property '{target}' is not allowed."),
    )
    .with(json!({"target": target, "details": null, "subcode": ""}))
}

fn equal_text(left: &Value, right: &Value) -> bool {
    match (left.as_str(), right.as_str()) {
        (Some(left), Some(right)) => left.eq_ignore_ascii_case(right),
        _ => left == right,
    }
}

/// `East US` and `eastus` are one place.
fn plain(location: &str) -> String {
    location.replace(' ', "").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Value {
        template::fresh(&template::Birth {
            name: "shop",
            subscription: "s",
            group: "g",
            location: "eastus",
            kubernetes: "1.34.2",
            nodes: 3,
            suffix: "abcd1234",
            kubelet: json!({"clientId": "k"}),
        })
    }

    #[test]
    fn what_is_left_out_keeps_its_value_and_read_only_members_do_not_change() {
        let old = stored();
        let body = json!({"location": "East US", "id": "x", "properties": {
            "storageProfile": {}, "fqdn": "x", "currentKubernetesVersion": "9", "provisioningState": "x"}});
        assert_eq!(put(&old, &body, &Value::Null).unwrap(), old);
    }

    #[test]
    fn an_addon_keeps_its_spelling_and_an_absent_one_stays() {
        let mut old = stored();
        old["properties"]["addonProfiles"] =
            json!({"azureKeyVaultSecretsProvider": {"enabled": true, "config": null}});
        let unchanged = put(
            &old,
            &json!({"properties": {"addonProfiles": {"omsAgent": {"enabled": false}}}}),
            &Value::Null,
        );
        assert_eq!(addon_enabled(&unchanged.unwrap()), Some(true));
        let body = json!({"properties": {"addonProfiles": {ADDON: {"enabled": false, "identity": {"clientId": "x"}}}}});
        let disabled = put(&old, &body, &Value::Null).unwrap();
        let expected = json!({"enabled": false, "config": null});
        assert_eq!(
            addon(&disabled).unwrap(),
            (&"azureKeyVaultSecretsProvider".to_owned(), &expected)
        );
    }

    #[test]
    fn extra_members_are_lost_unless_they_are_sent_back() {
        let extra = json!({"properties": {"futureProfile": {"mode": "On"}}});
        let mut old = stored();
        tree::merge(&mut old, &extra);
        let kept = put(&old, &old, &extra).unwrap();
        assert_eq!(
            kept["properties"]["futureProfile"],
            extra["properties"]["futureProfile"]
        );
        let lost = put(&old, &json!({"properties": {}}), &extra).unwrap();
        assert_eq!(lost["properties"].get("futureProfile"), None);
    }

    #[test]
    fn a_missing_pool_and_a_changed_immutable_member_are_refused() {
        let old = stored();
        let refused = |body: Value| put(&old, &body, &Value::Null).unwrap_err().code;
        assert_eq!(
            refused(json!({"properties": {"agentPoolProfiles": []}})),
            "BadRequest"
        );
        assert_eq!(
            refused(json!({"properties": {"dnsPrefix": "other"}})),
            "PropertyChangeNotAllowed"
        );
        assert_eq!(refused(json!({"location": "westus"})), "InvalidResourceLocation");
    }

    #[test]
    fn write_only_members_are_never_stored() {
        let body = json!({"properties": {"windowsProfile": {"adminPassword": "p", "adminUsername": "u"}}});
        let merged = put(&stored(), &body, &Value::Null).unwrap();
        assert_eq!(
            merged["properties"]["windowsProfile"],
            json!({"adminUsername": "u"})
        );
    }
}
