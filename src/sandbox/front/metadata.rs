//! Documents about the world's endpoints: ARM's metadata of a cloud, and `OpenID` issuers other than Entra.

use super::super::kubernetes::issuer_document;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::core::Core;
use super::super::http::{Answer, Incoming, json as json_answer};
use super::names::{Names, host_of};

/// `GET /metadata/endpoints`: azurerm asks for one cloud, the Azure CLI's older version for a list.
pub(super) fn endpoints(names: &Names, asked_as: &str, query: &str) -> Answer {
    let arm = names.arm_base(asked_as);
    let login = names.login_base(asked_as);
    let cloud = json!({
        "name": "AzureCloud",
        "portal": "https://portal.azure.com",
        "authentication": {
            "loginEndpoint": login,
            "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "media": "https://rest.media.azure.net",
        "graphAudience": "https://graph.windows.net/",
        "graph": "https://graph.windows.net/",
        "microsoftGraphResourceId": "https://graph.microsoft.com/",
        "batch": "https://batch.core.windows.net/",
        "gallery": "https://gallery.azure.com/",
        "resourceManager": format!("{arm}/"),
        "suffixes": {
            "keyVaultDns": names.vault_suffix(),
            "mhsmDns": "managedhsm.azure.net",
            "storage": "core.windows.net",
            "acrLoginServer": "azurecr.io",
            "sqlServerHostname": "database.windows.net",
        },
    });
    // Up to 2019 the answer was a list.
    let is_list = query.contains("api-version=2019") || query.contains("api-version=2018");
    json_answer(StatusCode::OK, &if is_list { json!([cloud]) } else { cloud })
}

/// Issuers of assertions. Those of clusters have a host of their own, `REGION.oic.prod-aks.azure.com`, and on loopback a
/// path, `/oidc/aks/HOST/…`. The others, `/oidc/NAME/…`, share Entra's key, for the world has no reason to keep them
/// apart.
pub(super) fn issuer(core: &Core, asked_as: &str, request: &Incoming) -> Answer {
    let path = request.uri().path();
    let cluster = match (path.strip_prefix("/oidc/aks/"), path.strip_prefix("/oidc/")) {
        (Some(rest), _) => rest.to_owned(),
        (None, Some(rest)) => return shared_issuer(core, rest, request),
        (None, None) => format!("{}{path}", host_of(asked_as)),
    };
    let wanted = format!("https://{cluster}");
    for cluster in core.clusters.all() {
        let issuer = cluster.api.issuer();
        match wanted.strip_prefix(&issuer) {
            Some(".well-known/openid-configuration") => {
                return json_answer(StatusCode::OK, &issuer_document(&issuer));
            }
            Some("openid/v1/jwks") => return json_answer(StatusCode::OK, &cluster.api.issuer_keys()),
            _ => {}
        }
    }
    not_imitated(request)
}

fn shared_issuer(core: &Core, rest: &str, request: &Incoming) -> Answer {
    let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let issuer = format!("{}/oidc/{name}", core.names.front_base());
    match rest {
        ".well-known/openid-configuration" => json_answer(
            StatusCode::OK,
            &json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}/keys"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }),
        ),
        "keys" => json_answer(StatusCode::OK, &core.directory.jwks()),
        _ => not_imitated(request),
    }
}

/// A path nobody plays.
pub(super) fn not_imitated(request: &Incoming) -> Answer {
    let message = format!(
        "sandbox: {} {} is not imitated.",
        request.method(),
        request.uri().path()
    );
    let body: Value = json!({"error": {"code": "NotImitated", "message": message}});
    json_answer(StatusCode::NOT_FOUND, &body)
}
