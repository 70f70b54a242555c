//! Which api-versions each resource provider still speaks.

use http::StatusCode;

use super::refusal::Refusal;

/// Resource types that share their api-versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Clusters,
    Vaults,
    Authorization,
    Identities,
    Resources,
}

/// AKS has a new version each month; previews up to the middle of 2024 were retired in July 2026.
const CLUSTERS: &[&str] = &[
    "2024-09-01",
    "2024-10-01",
    "2025-01-01",
    "2025-02-01",
    "2025-03-01",
    "2025-04-01",
    "2025-05-01",
    "2025-06-01",
    "2025-07-01",
    "2025-08-01",
    "2025-09-01",
    "2025-10-01",
    "2026-01-01",
    "2026-02-01",
    "2026-03-01",
    "2026-04-01",
    "2026-05-01",
    "2026-06-01",
    "2026-07-01",
    "2026-08-01",
];
const VAULTS: &[&str] = &[
    "2019-09-01",
    "2020-04-01-preview",
    "2021-04-01-preview",
    "2021-06-01-preview",
    "2021-10-01",
    "2021-11-01-preview",
    "2022-02-01-preview",
    "2022-07-01",
    "2022-11-01",
    "2023-02-01",
    "2023-07-01",
    "2024-04-01-preview",
    "2024-11-01",
    "2024-12-01-preview",
    "2025-05-01",
    "2026-02-01",
    "2026-05-15",
];
const AUTHORIZATION: &[&str] = &[
    "2015-07-01",
    "2018-01-01-preview",
    "2018-07-01",
    "2018-07-01-preview",
    "2018-09-01-preview",
    "2020-04-01-preview",
    "2020-08-01-preview",
    "2020-10-01-preview",
    "2021-04-01-preview",
    "2022-01-01-preview",
    "2022-04-01",
    "2022-05-01-preview",
    "2024-07-01-preview",
];
const IDENTITIES: &[&str] = &[
    "2018-11-30",
    "2021-09-30-preview",
    "2022-01-31-preview",
    "2023-01-31",
    "2024-11-30",
    "2026-04-30",
    "2026-05-31",
];

/// Refuses a version that is missing or not spoken. Retired ones pass where the world says so, for recorded traffic.
pub(super) fn check(family: Family, version: &str, kind: &str, accepts_retired: bool) -> Result<(), Refusal> {
    if version.is_empty() {
        return Err(Refusal::gateway(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    }
    let spoken = match family {
        Family::Clusters => CLUSTERS,
        Family::Vaults => VAULTS,
        Family::Authorization => AUTHORIZATION,
        Family::Identities => IDENTITIES,
        // Older than all of them and unchanged since.
        Family::Resources => return Ok(()),
    };
    if spoken.contains(&version) || (accepts_retired && version.starts_with("20")) {
        return Ok(());
    }
    Err(Refusal::gateway(
        StatusCode::BAD_REQUEST,
        "NoRegisteredProviderFound",
        format!(
            "No registered resource provider found for location 'eastus' and API version '{version}' for type '{kind}'. \
             The supported api-versions are '{}'. The supported locations are 'eastus, eastus2, westus2, westeurope, \
             northeurope'.",
            spoken.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_refused_with_the_list() {
        let refusal = check(Family::Clusters, "2023-05-02-preview", "managedClusters", false).unwrap_err();
        assert_eq!(refusal.code, "NoRegisteredProviderFound");
        assert!(refusal.message.contains("2026-04-01"));
        assert!(check(Family::Clusters, "2023-05-02-preview", "managedClusters", true).is_ok());
        assert_eq!(
            check(Family::Vaults, "", "vaults", false).unwrap_err().code,
            "MissingApiVersionParameter"
        );
    }
}
