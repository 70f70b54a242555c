//! What practitioners read about vaults and certificates as resources of their own.

use super::{Changed, azure_error};
use crate::azure::ids::{ClusterId, VaultId};
use crate::azure::{DeletedKeyVault, Error};
use crate::framework::{AttributePath, Diagnostic};
use crate::provider::operation::Halt;

/// Work that ended before it was done. `changed` says what is there now.
pub(in crate::provider) fn halted(halt: &Halt, what: &str, changed: &Changed) -> Diagnostic {
    match halt {
        Halt::Azure(error) => azure_error(error, changed),
        Halt::Stopped => Diagnostic::error(
            "Operation was stopped",
            format!(
                "Terraform was asked to stop while kvtls tried to {what}. {}",
                changed.before_that()
            ),
            "Apply again; it goes on from what is there.",
        )
        .code("KVTLS-E604"),
        Halt::TooLate => Diagnostic::error(
            "Operation did not end in time",
            format!(
                "The time was over while kvtls tried to {what}. {}",
                changed.before_that()
            ),
            "Apply again, or give it more time in  timeouts.",
        )
        .code("KVTLS-E224"),
    }
}

/// A write that was refused in a vault's data plane, most likely for want of a role there.
pub(in crate::provider) fn data_plane(
    halt: &Halt,
    vault: &VaultId,
    what: &str,
    changed: &Changed,
) -> Diagnostic {
    let mut diagnostic = halted(halt, what, changed);
    let Halt::Azure(error) = halt else {
        return diagnostic;
    };
    match error.code() {
        Some("ForbiddenByRbac") => {
            diagnostic.fix = format!(
                "Owner and Contributor have no rights on what a vault holds. Somebody who may assign roles:\n    az role \
                 assignment create --role \"Key Vault Certificates Officer\" --assignee-object-id OBJECT_ID_OF_THE_CALLER \
                 --assignee-principal-type ServicePrincipal --scope {vault}\nA vault of kvtls_key_vault does it itself \
                 with  grant_caller = true."
            );
        }
        Some("AccessDenied") => {
            diagnostic.fix = format!(
                "Somebody who may change the vault:  az keyvault set-policy --name {} --object-id OBJECT_ID_OF_THE_CALLER \
                 --certificate-permissions get list create import update delete recover purge",
                vault.name()
            );
        }
        Some("BadParameter") => {
            diagnostic.fix =
                "The vault or the issuer does not do what  policy  asks for. Change it, then apply again."
                    .to_owned();
        }
        _ => {}
    }
    diagnostic
}

/// An object that is to be made exists.
pub(super) fn exists(summary: &str, what: &str, id: &str) -> Diagnostic {
    Diagnostic::error(
        summary,
        format!("{what}, and this state does not know it. Nothing was changed."),
        format!(
            "To manage it from here:\n    import {{\n      to = ADDRESS_OF_THIS_RESOURCE\n      id = \"{id}\"\n    }}\n\
             or choose another name."
        ),
    )
    .at(AttributePath::of("name"))
}

/// A vault that is to be made exists.
pub(in crate::provider) fn vault_exists(id: &VaultId) -> Diagnostic {
    let what = format!(
        "Vault \"{}\" exists in resource group \"{}\"",
        id.name(),
        id.resource_group()
    );
    exists("Key Vault already exists", &what, id.as_str()).code("KVTLS-E220")
}

/// A vault's name belongs to somebody else.
pub(in crate::provider) fn vault_name_taken(id: &VaultId, error: &Error) -> Diagnostic {
    Diagnostic::error(
        "Key Vault name is taken",
        format!(
            "Names of vaults are unique in the whole cloud, and \"{}\" belongs to another vault: {}. Nothing was changed.",
            id.name(),
            error.service_said()
        ),
        "Choose another name. If a vault of yours was deleted in another subscription:  az keyvault list-deleted.",
    )
    .at(AttributePath::of("name"))
    .code("KVTLS-E221")
}

/// A deleted vault has the name, and is not to be or cannot be recovered.
pub(in crate::provider) fn deleted_vault(deleted: &DeletedKeyVault, why: &str) -> Diagnostic {
    let name = deleted.id.name();
    let purge = if deleted.purge_protection {
        format!(
            "It has purge protection, so its name is free only on {}.",
            deleted.purged_on
        )
    } else {
        format!(
            "To remove it for good:  az keyvault purge --name {name} --location {}",
            deleted.location
        )
    };
    Diagnostic::error(
        "Deleted Key Vault has the name",
        format!(
            "Vault \"{}\" was deleted and can be recovered; {why}. Nothing was changed.",
            deleted.id
        ),
        format!("To have it back, set  recover_soft_deleted = true. {purge}"),
    )
    .at(AttributePath::of("name"))
    .code("KVTLS-E222")
}

/// A setting of a vault that can be set once only.
pub(in crate::provider) fn one_way(attribute: &str, why: &str, fix: &str) -> Diagnostic {
    Diagnostic::error(
        "Key Vault setting cannot be changed back",
        format!("{attribute}: {why}. Nothing was changed."),
        fix.to_owned(),
    )
    .at(AttributePath::of(attribute))
    .code("KVTLS-E223")
}

/// A deleted vault was brought back instead of a new one made.
pub(in crate::provider) fn vault_recovered(id: &VaultId) -> Diagnostic {
    Diagnostic::warning(
        "Deleted Key Vault was recovered",
        format!(
            "Vault \"{}\" had been deleted and is back, with the certificates, keys and secrets it held. Role assignments \
             are not recovered.",
            id.name()
        ),
        "",
    )
    .at(AttributePath::of("name"))
    .code("KVTLS-W222")
}

/// A vault is deleted and stays recoverable although it was to be purged.
pub(in crate::provider) fn vault_not_purged(id: &VaultId, why: &str) -> Diagnostic {
    Diagnostic::warning(
        "Key Vault was deleted but not purged",
        format!(
            "Vault \"{}\" is deleted and can be recovered; it could not be purged: {why}.",
            id.name()
        ),
        format!("Somebody who may:  az keyvault purge --name {}", id.name()),
    )
    .code("KVTLS-W221")
}

/// The caller's role at the vault could not be taken away.
pub(in crate::provider) fn caller_grant_kept(id: &str, why: &str) -> Diagnostic {
    Diagnostic::warning(
        "Role of the caller was left in place",
        format!("{id} was made by kvtls and stays: {why}."),
        "When nobody uses it any more:  az role assignment delete --ids ID.",
    )
    .at(AttributePath::of("grant_caller"))
    .code("KVTLS-W223")
}

/// The vault of a certificate does not exist.
pub(in crate::provider) fn no_vault(id: &VaultId) -> Diagnostic {
    Diagnostic::error(
        "Key Vault does not exist",
        format!("Azure knows no Key Vault {id}. Nothing was changed."),
        "Check subscription, resource group and name. If this same apply creates the vault, refer to its ID, for example  \
         key_vault_id = kvtls_key_vault.main.id.",
    )
    .at(AttributePath::of("key_vault_id"))
    .code("KVTLS-E201")
}

/// A data source's certificate does not exist.
pub(in crate::provider) fn no_certificate(vault: &VaultId, name: &str, version: Option<&str>) -> Diagnostic {
    let what = version.map_or_else(
        || format!("no certificate \"{name}\""),
        |version| format!("no version {version} of certificate \"{name}\""),
    );
    let at = if version.is_some() { "version" } else { "name" };
    Diagnostic::error(
        "Certificate does not exist in vault",
        format!("Vault \"{}\" has {what}.", vault.name()),
        format!(
            "Check the name:  az keyvault certificate list --vault-name {}. If this same apply makes it, refer to the \
             resource that does.",
            vault.name()
        ),
    )
    .at(AttributePath::of(at))
    .code("KVTLS-E301")
}

/// What is to be imported into the state is not there.
pub(in crate::provider) fn nothing_to_import(what: &str, id: &str) -> Diagnostic {
    Diagnostic::error(
        format!("{what} to import was not found"),
        format!("Azure has nothing at {id}. Nothing was imported."),
        "Check subscription, resource group, vault and name.",
    )
    .code("KVTLS-E023")
}

/// An ID that cannot be imported.
pub(in crate::provider) fn bad_import_id(id: &str, expected: &str, why: &str) -> Diagnostic {
    Diagnostic::error(
        "Import ID is not valid",
        format!("Expected {expected}; \"{id}\" {why}."),
        "Take it from  az keyvault show --query id.",
    )
    .code("KVTLS-E020")
}

/// The cluster's own API did not answer a data source.
pub(in crate::provider) fn cluster_unreachable(why: &str) -> Diagnostic {
    Diagnostic::warning(
        "Cluster API could not be reached",
        format!("What only the cluster itself knows is null: {why}."),
        "Run Terraform where the cluster is reachable, with an identity that it lets in.",
    )
    .at(AttributePath::of("cluster_id"))
    .code("KVTLS-W411")
}

/// The cluster of a data source does not exist.
pub(in crate::provider) fn no_cluster(id: &ClusterId) -> Diagnostic {
    Diagnostic::error(
        "Cluster does not exist",
        format!("Azure knows no AKS cluster {id}."),
        "Check subscription, resource group and name. If this same apply creates the cluster, refer to its ID.",
    )
    .at(AttributePath::of("cluster_id"))
    .code("KVTLS-E101")
}
