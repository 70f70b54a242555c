//! What practitioners read about `kvtls_certificate`.

use time::OffsetDateTime;

use super::moment;
use super::vaults::exists;
use crate::azure::Error;
use crate::azure::ids::VaultId;
use crate::framework::{AttributePath, Diagnostic};

/// A certificate that is to be made exists.
pub(in crate::provider) fn certificate_exists(vault: &VaultId, name: &str) -> Diagnostic {
    let what = format!("Vault \"{}\" has a certificate \"{name}\"", vault.name());
    exists(
        "Certificate already exists",
        &what,
        &format!("{vault}/certificates/{name}"),
    )
    .code("KVTLS-E320")
}

/// A deleted certificate has the name and is not to be recovered.
pub(in crate::provider) fn deleted_certificate(vault: &VaultId, name: &str) -> Diagnostic {
    let vault = vault.name();
    Diagnostic::error(
        "Deleted certificate has the name",
        format!(
            "Certificate \"{name}\" of vault \"{vault}\" was deleted and can be recovered, and recover_soft_deleted is \
             false. Nothing was changed."
        ),
        format!(
            "To have it back with a new version, set  recover_soft_deleted = true. To remove it for good:  az keyvault \
             certificate purge --vault-name {vault} --name {name}"
        ),
    )
    .at(AttributePath::of("name"))
    .code("KVTLS-E321")
}

/// A deleted certificate was brought back, and got a new version.
pub(in crate::provider) fn certificate_recovered(vault: &VaultId, name: &str) -> Diagnostic {
    Diagnostic::warning(
        "Deleted certificate was recovered",
        format!(
            "Certificate \"{name}\" of vault \"{}\" had been deleted. It is back with its old versions, and has a new one.",
            vault.name()
        ),
        "",
    )
    .at(AttributePath::of("name"))
    .code("KVTLS-W322")
}

/// Somebody else's request is under way.
pub(in crate::provider) fn request_under_way(vault: &VaultId, name: &str, issuer: &str) -> Diagnostic {
    let vault = vault.name();
    Diagnostic::error(
        "Certificate request is under way",
        format!(
            "Somebody else's request for certificate \"{name}\" of vault \"{vault}\" (issuer \"{issuer}\") has not ended. \
             Nothing was changed."
        ),
        format!(
            "Wait for it, or call it off:  az keyvault certificate pending delete --vault-name {vault} --name {name}"
        ),
    )
    .at(AttributePath::of("name"))
    .code("KVTLS-E322")
}

/// The issuer refused.
pub(in crate::provider) fn not_issued(
    vault: &VaultId,
    name: &str,
    code: &str,
    message: &str,
    cleared: bool,
) -> Diagnostic {
    let said = [code, message]
        .iter()
        .filter(|it| !it.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(": ");
    Diagnostic::error(
        "Certificate was not issued",
        format!(
            "The request for certificate \"{name}\" in vault \"{}\" was taken and has failed: {}.{}",
            vault.name(),
            if said.is_empty() {
                "no reason was given"
            } else {
                said.as_str()
            },
            if cleared {
                " The failed request was removed; no version was made."
            } else {
                " No version was made."
            }
        ),
        "Look at the issuer's side and at  policy, then apply again.",
    )
    .at(AttributePath::of("policy"))
    .code("KVTLS-E323")
}

/// The vault cannot use what was brought.
pub(in crate::provider) fn not_imported(vault: &VaultId, name: &str, error: &Error) -> Diagnostic {
    Diagnostic::error(
        "Certificate could not be imported",
        format!(
            "Vault \"{}\" did not take what was to become certificate \"{name}\": {}. Nothing was changed.",
            vault.name(),
            error.service_said()
        ),
        "A PFX is given in base64, as  filebase64(\"site.pfx\"), with its  password_wo. PEM holds a key in PKCS#8 \
         (BEGIN PRIVATE KEY) and the certificates, the leaf first.",
    )
    .at(AttributePath::of("import"))
    .code("KVTLS-E327")
}

/// A certificate that was to get a new version is not there any more.
pub(in crate::provider) fn certificate_gone(vault: &VaultId, name: &str) -> Diagnostic {
    Diagnostic::error(
        "World changed since the plan",
        format!(
            "Certificate \"{name}\" of vault \"{}\" is gone. Nothing was changed.",
            vault.name()
        ),
        "Plan again and apply that.",
    )
    .code("KVTLS-E605")
}

/// The plan makes a new version because the current one ends soon.
pub(in crate::provider) fn renewal_due(name: &str, not_after: &str, renew_before: &str) -> Diagnostic {
    Diagnostic::warning(
        "Certificate is due for renewal",
        format!(
            "The current version of \"{name}\" ends on {not_after}, within renew_before = \"{renew_before}\". Apply has a \
             new version made."
        ),
        "",
    )
    .at(AttributePath::of("renew_before"))
    .code("KVTLS-W323")
}

/// The new version is due for renewal as soon as it is made.
pub(in crate::provider) fn renewal_never_ends(
    name: &str,
    not_after: OffsetDateTime,
    renew_before: &str,
) -> Diagnostic {
    Diagnostic::warning(
        "New certificate is due at once",
        format!(
            "The issuer made a version of \"{name}\" that ends on {}, already within renew_before = \"{renew_before}\", so \
             every apply would make another.",
            moment(not_after)
        ),
        "Make  renew_before  shorter than the issuer's certificates are valid.",
    )
    .at(AttributePath::of("renew_before"))
    .code("KVTLS-W324")
}

/// A certificate is deleted and stays recoverable although it was to be purged.
pub(in crate::provider) fn certificate_not_purged(vault: &VaultId, name: &str, why: &str) -> Diagnostic {
    let vault = vault.name();
    Diagnostic::warning(
        "Certificate was deleted but not purged",
        format!("Certificate \"{name}\" of vault \"{vault}\" is deleted and can be recovered; it could not be purged: {why}."),
        format!("Somebody who may:  az keyvault certificate purge --vault-name {vault} --name {name}"),
    )
    .code("KVTLS-W321")
}
