//! What practitioners read about a cluster's add-on as a resource of its own.

use super::vaults::{self, no_cluster};
use super::{Changed, refusals};
use crate::azure::ids::ClusterId;
use crate::azure::{AddonWish, Error};
use crate::framework::{AttributePath, Diagnostic};
use crate::provider::operation::Halt;

const OWNER_ADVICE: &str = "\
If azurerm_kubernetes_cluster manages this cluster, its next plan will switch the add-on off and fail. Add to it:
    lifecycle { ignore_changes = [key_vault_secrets_provider] }
or declare  key_vault_secrets_provider { secret_rotation_enabled = true }  there and remove this resource.";

/// Work that ended before it was done.
pub(in crate::provider) fn halted(
    halt: &Halt,
    cluster: &ClusterId,
    what: &str,
    changed: &Changed,
) -> Diagnostic {
    if let Halt::Azure(Error::Rejected { status: 404, .. }) = halt {
        return no_cluster(cluster);
    }
    let mut diagnostic = vaults::halted(halt, what, changed);
    if let Halt::Azure(error) = halt
        && refusals::is_about_roles(error)
    {
        diagnostic.fix = format!(
            "Somebody who may assign roles:\n    az role assignment create --role \"Azure Kubernetes Service Contributor \
             Role\" --assignee-object-id OBJECT_ID_OF_THE_CALLER --assignee-principal-type ServicePrincipal --scope {cluster}"
        );
    }
    diagnostic.at(AttributePath::of("cluster_id"))
}

/// Apply will set the add-on, which is on already or not.
pub(in crate::provider) fn will_be_set(cluster: &ClusterId, wish: &AddonWish, is_on: bool) -> Diagnostic {
    forecast(cluster, wish, is_on, OWNER_ADVICE)
}

/// What apply is going to do to the cluster. `advice` is for the owner of the cluster.
pub(super) fn forecast(cluster: &ClusterId, wish: &AddonWish, is_on: bool, advice: &str) -> Diagnostic {
    let rotation = match (wish.rotation_enabled, wish.rotation_poll_interval.as_deref()) {
        (true, Some(interval)) => format!("rotation on, poll {interval}"),
        (true, None) if is_on => "rotation on".to_owned(),
        (true, None) => "rotation on, poll 2m".to_owned(),
        (false, _) => "rotation off".to_owned(),
    };
    Diagnostic::warning(
        match is_on {
            true => "Key Vault add-on will be changed",
            false => "Key Vault add-on will be switched on",
        },
        format!(
            "Apply sends one update to cluster \"{}\" ({rotation}). {UPDATING}",
            cluster.name()
        ),
        advice,
    )
    .at(AttributePath::of("cluster_id"))
    .code("KVTLS-W101")
}

/// What an update of the cluster means for others.
pub(super) const UPDATING: &str = "The cluster is \"Updating\" for about 2 minutes; other changes to it in this apply can \
     fail with 409: order them with depends_on.";

/// Somebody switched it off since our last apply.
pub(in crate::provider) fn was_switched_off(cluster: &ClusterId) -> Diagnostic {
    Diagnostic::warning(
        "Key Vault add-on was changed elsewhere",
        format!(
            "The add-on of cluster \"{}\" was switched off since the last apply, or never came to run; apply sets it again, \
             with one update of the cluster. It gets another identity then, which needs its grants anew. {UPDATING}",
            cluster.name()
        ),
        OWNER_ADVICE,
    )
    .at(AttributePath::of("cluster_id"))
    .code("KVTLS-W102")
}

/// The cluster would refuse the change now, or let it wait.
pub(in crate::provider) fn not_ready(cluster: &ClusterId, state: &str) -> Diagnostic {
    Diagnostic::warning(
        "Cluster does not take changes now",
        format!(
            "The add-on of cluster \"{}\" is to be changed, and the cluster is {state}. Apply waits for other operations to \
             end; it does not write to a cluster that is stopped, failed or being deleted.",
            cluster.name()
        ),
        "Start or repair the cluster first (az aks start, az aks update), or let the other operation end.",
    )
    .at(AttributePath::of("cluster_id"))
    .code("KVTLS-W103")
}

/// On, and without what it reads the vault with.
pub(in crate::provider) fn has_no_identity(cluster: &ClusterId) -> Diagnostic {
    Diagnostic::error(
        "Key Vault add-on has no identity",
        format!(
            "The add-on of cluster \"{}\" is on as wished, and AKS tells no identity of it: an earlier update ended before \
             it was made. The add-on is kept in state.",
            cluster.name()
        ),
        format!(
            "Switch it off and on:\n    az aks disable-addons -a azure-keyvault-secrets-provider --ids {cluster}\nthen apply \
             again."
        ),
    )
    .at(AttributePath::of("cluster_id"))
    .code("KVTLS-E105")
}

/// Azure does not let it be switched off.
pub(in crate::provider) fn in_use(cluster: &ClusterId, error: &Error) -> Diagnostic {
    Diagnostic::error(
        "Key Vault add-on cannot be switched off",
        format!(
            "Azure refused to switch off the add-on of cluster \"{}\": {}. It does that while a SecretProviderClass exists \
             in any namespace. The add-on is still on, nothing was changed.",
            cluster.name(),
            error.service_said()
        ),
        "Look who uses it:  kubectl get secretproviderclass -A.  Remove these, or set  on_destroy = \"leave\"  (or \
         \"disable_if_unused\"), apply, and destroy then.",
    )
    .at(AttributePath::of("on_destroy"))
    .code("KVTLS-E106")
}

/// It stays on although it was to be switched off if nobody uses it.
pub(in crate::provider) fn left_on(cluster: &ClusterId, why: &str) -> Diagnostic {
    Diagnostic::warning(
        "Key Vault add-on was left on",
        format!(
            "The add-on of cluster \"{}\" was to be switched off if nobody uses it, and stays on: {why}.",
            cluster.name()
        ),
        format!(
            "When nobody uses it any more  (kubectl get secretproviderclass -A):\n    az aks disable-addons -a \
             azure-keyvault-secrets-provider --ids {cluster}"
        ),
    )
    .code("KVTLS-W104")
}

/// There is no add-on to import.
pub(in crate::provider) fn is_off(cluster: &ClusterId) -> Diagnostic {
    Diagnostic::error(
        "Add-on to import was not found",
        format!("The Key Vault add-on of cluster {cluster} is off. Nothing was imported."),
        "Leave the import out: creating the resource switches the add-on on.",
    )
    .code("KVTLS-E023")
}
