//! What is said about rights, grants, identities and the shared add-on.

use super::cluster::{azure_role, namespace_role};
use super::day;
use crate::binding::desired::Desired;
use crate::binding::preflight::{Missing, Need, Purpose, Wanted};
use crate::framework::{AttributePath, Diagnostic};
use crate::provider::wishes::Clash;

/// Rights that are missing, all of them at once.
pub(super) fn rights_missing(missing: &Missing, desired: &Desired) -> Diagnostic {
    let mut text = String::new();
    if let Some(caller) = &missing.caller {
        text.push_str(&format!(
            "Identity: \"{}\", object ID {}, tenant {}\n",
            caller.name, caller.object_id, caller.tenant
        ));
    }
    for (index, group) in grouped(&missing.needs).into_iter().enumerate() {
        let (rights, purpose) = (group.rights, group.purpose);
        text.push_str(&format!("{}. {rights}{}\n", index + 1, words(purpose)));
        text.push_str(&remedy(purpose, missing, desired));
    }
    let in_cluster = |need: &Need| matches!(need.purpose, Purpose::Write | Purpose::Watch);
    if missing.needs.iter().any(in_cluster) {
        let who = object_id(missing);
        let scope = format!("{}/namespaces/{}", desired.cluster, desired.namespace);
        let needed = missing.needs.iter().filter(|need| in_cluster(need));
        let resources: Vec<String> = needed
            .filter_map(|need| match &need.right {
                Wanted::Verb(right) => Some(right.kind?.resource()),
                Wanted::Action { .. } => None,
            })
            .collect();
        text.push_str(&format!(
            "In the cluster, someone who may run, where it asks Kubernetes RBAC:\n{}\nor, where it asks Azure RBAC:\n    {}\n",
            namespace_role(who, &desired.namespace, &resources),
            azure_role(who, &scope)
        ));
    }
    if !missing.skipped.is_empty() {
        text.push_str(&format!(
            "Not allowed either, and not needed: {}. What would be checked with it is left out.\n",
            missing.skipped.join(", ")
        ));
    }
    if let Some(waited) = missing.waited {
        text.push_str(&format!(
            "The cluster is new, so kvtls waited {} s for roles in it to come through (access.propagation_timeout).\n",
            waited.as_secs()
        ));
    }
    if !missing.requests.is_empty() {
        text.push_str(&format!(
            "Azure said so in request {}.",
            missing.requests.join(", ")
        ));
    }
    let count = missing.needs.len();
    let plural = if count == 1 {
        "permission is"
    } else {
        "permissions are"
    };
    Diagnostic::error(
        format!("{count} {plural} missing"),
        text.trim_end().to_owned() + "\n",
        "All parts and the roles that have them: docs/guides/permissions.",
    )
    .code("KVTLS-E501")
}

/// Rights of one purpose, in one line.
struct Group {
    purpose: Purpose,
    rights: String,
}

fn grouped(needs: &[Need]) -> Vec<Group> {
    let mut groups: Vec<(Purpose, String, Vec<String>)> = Vec::new();
    for need in needs {
        let (left, right) = match &need.right {
            Wanted::Action { action, scope } => ((*action).to_owned(), format!("on {scope}")),
            Wanted::Verb(verb) => {
                let kind = verb.kind.map_or("*".to_owned(), |kind| kind.resource());
                let place = verb.namespace.as_ref();
                let place = place.map_or("everywhere".to_owned(), |it| format!("in namespace \"{it}\""));
                (verb.verb.to_owned(), format!("{kind} {place}"))
            }
        };
        match groups
            .iter_mut()
            .find(|(purpose, place, _)| *purpose == need.purpose && *place == right)
        {
            Some((_, _, lefts)) => lefts.push(left),
            None => groups.push((need.purpose, right, vec![left])),
        }
    }
    groups
        .into_iter()
        .map(|(purpose, right, lefts)| Group {
            purpose,
            rights: format!("{} {right}", lefts.join(", ")),
        })
        .collect()
}

fn words(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Look => ", to see it",
        Purpose::Addon => ", to switch the Key Vault add-on on",
        Purpose::Role => ", to grant Key Vault Secrets User to the identity that reads the vault",
        Purpose::Policy => ", to let the identity that reads the vault in",
        Purpose::Trust => ", to make the identity trust the service account",
        Purpose::Connect => ", to get a credential for the cluster's API",
        Purpose::Namespace => ", to make the namespace",
        Purpose::Write => "",
        Purpose::Watch => ", to see that the certificate has arrived",
    }
}

fn object_id(missing: &Missing) -> &str {
    missing
        .caller
        .as_ref()
        .map_or("OBJECT_ID", |it| it.object_id.as_str())
}

/// What somebody who may would run, and the setting that makes the right unnecessary.
fn remedy(purpose: Purpose, missing: &Missing, desired: &Desired) -> String {
    let principal = missing.principal.clone().unwrap_or_else(|| {
        format!(
            "\"$(az aks show --ids {} --query \
             addonProfiles.azureKeyvaultSecretsProvider.identity.objectId -o tsv)\"",
            desired.cluster
        )
    });
    let cluster = format!(
        "--name {} --resource-group {} --subscription {}",
        desired.cluster.name(),
        desired.cluster.resource_group(),
        desired.cluster.subscription()
    );
    let caller = object_id(missing);
    match purpose {
        Purpose::Look => format!(
            "   Someone who may run:\n     az role assignment create --role Reader --assignee-object-id {caller} --scope …\n"
        ),
        Purpose::Addon => format!(
            "   Someone who may run:\n     az aks enable-addons --addons azure-keyvault-secrets-provider \
             --enable-secret-rotation {cluster}\n   and set  addon = {{ mode = \"require\" }}\n"
        ),
        Purpose::Role => {
            let first = if missing.principal.is_none() {
                "   Once the add-on is on, someone"
            } else {
                "   Someone"
            };
            let scopes = crate::binding::grant::scopes(desired, true);
            let scope = scopes.into_iter().next().unwrap_or_default();
            format!(
                "{first} who may run:\n     az role assignment create --role \"Key Vault Secrets User\" \
                 --assignee-object-id {principal} --assignee-principal-type ServicePrincipal --scope {scope}\n   and set  \
                 access = {{ mode = \"require\" }}  (a grant at the resource group counts as well)\n"
            )
        }
        Purpose::Policy => format!(
            "   Someone who may run:\n     az keyvault set-policy --name {} --object-id {principal} \
             --secret-permissions get\n   and set  access = {{ mode = \"require\" }}\n",
            desired.vault.name()
        ),
        Purpose::Trust => {
            let Some(workload) = desired.access.workload() else {
                return String::new();
            };
            let subject = crate::binding::workload::subject(&desired.namespace, &workload.service_account);
            format!(
                "   Someone who may run:\n     az identity federated-credential create --name {} --identity-name {} \
                 --resource-group {} --subject {subject} --audiences api://AzureADTokenExchange --issuer \
                 \"$(az aks show --ids {} --query oidcIssuerProfile.issuerUrl -o tsv)\"\n   and set  access = {{ \
                 federated_credential = \"require\" }}\n",
                crate::binding::workload::credential_name(&desired.cluster, &subject),
                workload.id.name(),
                workload.id.resource_group(),
                desired.cluster
            )
        }
        Purpose::Connect => format!(
            "   Someone who may run:\n     az role assignment create --role \"Azure Kubernetes Service Cluster User Role\" \
             --assignee-object-id {caller} --scope {}\n",
            desired.cluster
        ),
        Purpose::Namespace => format!(
            "   Someone who may run:\n     kubectl create namespace {}\n",
            desired.namespace
        ),
        // One role covers all of these: it is told once.
        Purpose::Write | Purpose::Watch => String::new(),
    }
}

pub(super) fn other_model(rbac: bool, desired: &Desired) -> Diagnostic {
    let (is, written) = if rbac {
        ("roles", "access_policy")
    } else {
        ("access policies", "rbac")
    };
    Diagnostic::error(
        "Vault has another permission model",
        format!(
            "Vault \"{}\" uses {is}, and access.model is \"{written}\": what would be granted had no effect.",
            desired.vault.name()
        ),
        "Change the vault, or leave access.model out: then the vault decides.",
    )
    .at(AttributePath::of("access").attribute("model"))
    .code("KVTLS-E204")
}

pub(super) fn scope_needs_roles(desired: &Desired) -> Diagnostic {
    Diagnostic::error(
        "Grants on certificates need roles",
        format!(
            "access.scope is \"certificate\", and vault \"{}\" uses access policies, which know only whole vaults.",
            desired.vault.name()
        ),
        "Set  scope = \"vault\", or let the vault use roles.",
    )
    .at(AttributePath::of("access").attribute("scope"))
    .code("KVTLS-E205")
}

pub(super) fn identity_missing(desired: &Desired) -> Diagnostic {
    let id = desired
        .access
        .workload()
        .map(|it| it.id.to_string())
        .unwrap_or_default();
    Diagnostic::error(
        "Managed identity does not exist",
        format!("Azure knows no user-assigned identity {id}."),
        "Check subscription, resource group and name. If this same apply creates it, refer to its ID, for example  \
         identity_id = azurerm_user_assigned_identity.main.id.",
    )
    .at(AttributePath::of("access").attribute("identity_id"))
    .code("KVTLS-E206")
}

pub(super) fn no_issuer(desired: &Desired) -> Diagnostic {
    Diagnostic::error(
        "Cluster has no OIDC issuer",
        format!(
            "Workload identity needs tokens that Entra can check, and cluster \"{}\" has no OIDC issuer.",
            desired.cluster.name()
        ),
        "Let the cluster's owner switch it on (oidc_issuer_enabled = true, or  az aks update --enable-oidc-issuer), or use \
         the add-on's identity.",
    )
    .at(AttributePath::of("access").attribute("identity"))
    .code("KVTLS-E207")
}

pub(super) fn trust_missing(desired: &Desired) -> Diagnostic {
    let (identity, subject) = trust_of(desired);
    Diagnostic::error(
        "Identity does not trust service account",
        format!("Identity \"{identity}\" has no federated credential for {subject}, and access.federated_credential is \"require\"."),
        "Let the identity's owner add it (issuer: the cluster's OIDC issuer URL with its slash at the end, audience: \
         api://AzureADTokenExchange), or set  federated_credential = \"ensure\".",
    )
    .at(AttributePath::of("access").attribute("federated_credential"))
    .code("KVTLS-E208")
}

pub(super) fn trust_full(count: usize, desired: &Desired) -> Diagnostic {
    let (identity, subject) = trust_of(desired);
    Diagnostic::error(
        "Identity has no room for credentials",
        format!(
            "Identity \"{identity}\" has {count} federated credentials, which is as many as one can have; {subject} would \
             be one more."
        ),
        "Share a service account between bindings (access.service_account_name), remove credentials that nobody uses, or \
         use another identity.",
    )
    .at(AttributePath::of("access").attribute("identity_id"))
    .code("KVTLS-E209")
}

fn trust_of(desired: &Desired) -> (String, String) {
    let workload = desired.access.workload();
    workload
        .map(|workload| {
            (
                workload.id.name().to_owned(),
                crate::binding::workload::subject(&desired.namespace, &workload.service_account),
            )
        })
        .unwrap_or_default()
}

/// One resource creates the binding that another destroys.
pub fn moved_binding(id: &str) -> Diagnostic {
    Diagnostic::error(
        "Binding is created and destroyed at once",
        format!(
            "One resource of this run creates {id}, and another one destroys it. Terraform does both at the same time, so hosts \
             would be without a certificate. Nothing was changed."
        ),
        "If the resource was renamed or moved, say so:\n    moved {\n      from = OLD_ADDRESS\n      to   = NEW_ADDRESS\n    }\n\
         To really make it anew, remove it in an apply of its own.",
    )
    .at(AttributePath::of("name"))
    .code("KVTLS-E027")
}

/// The vault has renewed a certificate, and nothing takes it to the cluster.
pub fn stays_behind(key: &str, desired: &Desired) -> Diagnostic {
    let wanted = desired.certificates.get(key);
    let (name, secret) = wanted.map_or((key, key), |it| {
        (it.certificate.as_str(), it.secret_name.as_str())
    });
    Diagnostic::warning(
        "Secret holds an earlier certificate version",
        format!(
            "Certificate \"{name}\" was renewed in vault \"{}\". Rotation is off, so the driver leaves Secret \
             {}/{secret} as it is, and the earlier version is served until its end.",
            desired.vault.name(),
            desired.namespace
        ),
        format!(
            "Set  addon = {{ rotation_enabled = true }}. To bring this one version by hand, at the price of moments without \
             a certificate:\n    kubectl delete secret -n {ns} {secret}\n    kubectl rollout restart deployment -n {ns} {}",
            desired.name,
            ns = desired.namespace,
        ),
    )
    .at(AttributePath::of("certificates").key(key))
    .code("KVTLS-W304")
}

pub(super) fn newer_version(key: &str, version: &str, newest: &str, desired: &Desired) -> Diagnostic {
    let name = desired
        .certificates
        .get(key)
        .map_or(key, |it| it.certificate.as_str());
    Diagnostic::error(
        "Newer certificate version exists",
        format!(
            "Certificate \"{name}\" in vault \"{}\" is pinned to version {version}; the newest is {newest}.",
            desired.vault.name()
        ),
        "To follow renewals, remove  version; to move on once, write the newer one.",
    )
    .at(AttributePath::of("certificates").key(key).attribute("version"))
    .code("KVTLS-W303")
}

pub(super) fn ends_too_soon(current: &str, end: time::OffsetDateTime) -> Diagnostic {
    Diagnostic::error(
        "Certificate ends within expiry.fail",
        format!("{current} ends on {}, which is within  expiry.fail.", day(end)),
        "Renew it in the vault, or set a shorter time in  expiry = { fail = … }. Before it destroys, Terraform plans as ever, so \
         with this limit reached:  terraform destroy -refresh=false",
    )
    .code("KVTLS-E306")
}

pub(super) fn not_ready(state: &str, desired: &Desired) -> Diagnostic {
    Diagnostic::error(
        "Cluster does not take changes now",
        format!(
            "The add-on of cluster \"{}\" is to be changed, and the cluster is {state}. Apply waits for other operations to \
             end; it does not write to a cluster that is stopped, failed or being deleted.",
            desired.cluster.name()
        ),
        "Start or repair the cluster first (az aks start, az aks update), or let the other operation end.",
    )
    .at(AttributePath::of("cluster_id"))
    .code("KVTLS-W103")
}

/// Two wishes for the one add-on of a cluster.
pub fn wishes_disagree(who: &str, clash: &Clash) -> Diagnostic {
    Diagnostic::error(
        "Wishes for the add-on disagree",
        format!(
            "{who} wishes {}, {} wishes {}; a cluster has one Key Vault add-on. Nothing was changed.",
            clash.own, clash.other, clash.others
        ),
        "Write the same in both, or let the bindings say  addon = { mode = \"require\" }  and the cluster's owner decide.",
    )
    .code("KVTLS-E104")
}

/// The add-on stays on.
pub fn addon_kept(why: &str) -> Diagnostic {
    Diagnostic::warning(
        "Key Vault add-on was left on",
        format!("It was to be switched off, and Azure refused: {why}."),
        "Remove the SecretProviderClasses that are left  (kubectl get secretproviderclass -A), then  az aks \
         disable-addons --addons azure-keyvault-secrets-provider.",
    )
    .code("KVTLS-W104")
}

/// Two bindings of one configuration are one and the same.
pub fn same_binding(id: &str) -> Diagnostic {
    Diagnostic::error(
        "Two bindings are the same",
        format!(
            "Two resources of this configuration both create {id}: they have the same cluster, namespace and name, and each \
             would take the other's objects over. Nothing was changed."
        ),
        "Give one of them another  name  or  namespace.",
    )
    .at(AttributePath::of("name"))
    .code("KVTLS-E028")
}
