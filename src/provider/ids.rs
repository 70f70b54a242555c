//! Resource IDs in a configuration: what is said of one that is none.

use crate::azure::ids::{ClusterId, IdError, IdentityId, VaultId};
use crate::framework::{AttributePath, Diagnostic, Value};

/// What is wrong with a cluster's ID.
pub(super) fn cluster_id(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    judge(value, path, ClusterId::parse)
}

/// What is wrong with a vault's ID.
pub(super) fn vault_id(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    judge(value, path, VaultId::parse)
}

/// What is wrong with a user-assigned identity's ID.
pub(super) fn identity_id(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    judge(value, path, IdentityId::parse)
}

fn judge<T>(
    value: &Value,
    path: &AttributePath,
    parse: impl FnOnce(&str) -> Result<T, IdError>,
) -> Vec<Diagnostic> {
    let error = value.as_str().and_then(|text| parse(text).err());
    error.iter().map(|error| invalid_id(error, path)).collect()
}

/// The ID at `path` is not the one that is asked for.
pub(super) fn invalid_id(error: &IdError, path: &AttributePath) -> Diagnostic {
    Diagnostic::error(
        "Resource ID is not valid",
        format!("{path} {error}."),
        format!("Correct {path}."),
    )
    .at(path.clone())
    .code("KVTLS-E001")
}
