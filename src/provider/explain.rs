//! Every finding and every error in a practitioner's words: what was tried on what, what the service said, what is
//! now changed and what is not, and how to fix it. No match here has a catch-all arm, so that a new error does not
//! compile until somebody has written its sentence. What is wrong with a configuration alone is said by the validators.

#![deny(clippy::wildcard_enum_match_arm)]

mod access;
pub(super) mod addon;
pub(super) mod certificates;
pub mod cluster;
mod edge;
pub(super) mod gateway;
mod refusals;
pub(super) mod vaults;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::azure;
use crate::azure::ids::VaultId;
use crate::binding::controllers::is_fake;
use crate::binding::desired::Desired;
use crate::binding::edit::Edit;
use crate::binding::error::{Cause, StepError, kubernetes_said};
use crate::binding::findings::{Class, Finding, Flaw};
use crate::binding::grant::GrantKind;
use crate::binding::plan::addon_wish;
use crate::binding::revoke::{KeptGrant, Reason};
use crate::binding::step::Step;
use crate::framework::{AttributePath, Diagnostic, Severity};
use crate::k8s;

pub use access::{addon_kept, moved_binding, same_binding, stays_behind, wishes_disagree};

/// What an operation has changed so far.
#[derive(Clone, Debug, Default)]
pub struct Changed(Vec<String>);

impl Changed {
    /// Nothing at all.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// This one thing.
    pub fn done(what: impl Into<String>) -> Self {
        Self(vec![what.into()])
    }

    /// What these steps changed.
    pub fn by(steps: &[Step]) -> Self {
        Self(
            steps
                .iter()
                .filter(|step| step.is_write())
                .map(Step::describe)
                .collect(),
        )
    }

    /// What is certain, where the last write is not.
    fn before_that(&self) -> String {
        if self.0.is_empty() {
            "Before that, nothing was changed.".to_owned()
        } else {
            self.sentence()
        }
    }

    fn sentence(&self) -> String {
        if self.0.is_empty() {
            return "Nothing was changed.".to_owned();
        }
        format!(
            "Done before it, and kept in state: {}. The next apply goes on from there.",
            self.0.join(", ")
        )
    }
}

/// An ID that became known only during apply, and is not the one that the plan took it for.
pub fn other_id(attribute: &str, before: &str, after: &str) -> Diagnostic {
    Diagnostic::error(
        "ID turned out to be another",
        format!(
            "{attribute} was not known when this was planned, so the plan kept\n    {before}\nNow it is\n    {after}\n\
             That takes a replacement, which the plan did not show. Nothing was changed."
        ),
        "Plan and apply again: the ID is known now, and the plan shows the replacement. A plan with -refresh=false cannot \
         tell this from an apply; plan without it.",
    )
    .at(AttributePath::of(attribute))
    .code("KVTLS-E024")
}

/// Whether a finding is told in a plan or in an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is going to be written.
    Plan,
    /// Something would have been written next.
    Apply,
}

/// A finding before the first write.
pub fn finding(finding: &Finding, desired: &Desired, stage: Stage) -> Diagnostic {
    let is_error = match finding.class() {
        Class::Fact => true,
        Class::Curable => stage == Stage::Apply,
        Class::Decay => false,
    };
    let mut diagnostic = finding_words(finding, desired);
    if is_error {
        diagnostic.detail = format!("{} Nothing was changed.", diagnostic.detail);
    } else {
        diagnostic.severity = Severity::Warning;
    }
    diagnostic
}

fn finding_words(finding: &Finding, desired: &Desired) -> Diagnostic {
    let certificate = |key: &str| AttributePath::of("certificates").key(key);
    match finding {
        Finding::ClusterMissing => Diagnostic::error(
            "Cluster does not exist",
            format!("Azure knows no AKS cluster {}.", desired.cluster),
            "Check subscription, resource group and name. If this same apply creates the cluster, refer to its ID, \
             for example  cluster_id = azurerm_kubernetes_cluster.main.id.",
        )
        .at(AttributePath::of("cluster_id"))
        .code("KVTLS-E101"),
        Finding::VaultMissing { bound: _ } => Diagnostic::error(
            "Key Vault does not exist",
            format!("Azure knows no Key Vault {}.", desired.vault),
            "Check subscription, resource group and name. If this same apply creates the vault, refer to its ID, \
             for example  key_vault_id = azurerm_key_vault.main.id.",
        )
        .at(AttributePath::of("key_vault_id"))
        .code("KVTLS-E201"),
        Finding::OtherTenant { vault, cluster, bound: _ } => Diagnostic::error(
            "Key Vault is in another tenant",
            format!("The vault trusts tenant {vault}, the cluster's identities live in {cluster}."),
            "Use a vault of the cluster's tenant, or an identity of the vault's tenant:  access = { identity = \"workload\", … }.",
        )
        .at(AttributePath::of("key_vault_id"))
        .code("KVTLS-E202"),
        Finding::AddonNotAsRequired { enabled } => Diagnostic::error(
            "Key Vault add-on is not as required",
            format!(
                "The add-on of cluster \"{}\" {}, and addon.mode forbids kvtls to change it.",
                desired.cluster.name(),
                if *enabled { "is on, but its rotation is set otherwise" } else { "is off" }
            ),
            "Let the cluster's owner set  key_vault_secrets_provider { secret_rotation_enabled = true }, or write \
             addon = { mode = \"ensure\" }.",
        )
        .at(AttributePath::of("addon").attribute("mode"))
        .code("KVTLS-E103"),
        Finding::GrantMissing { principal_id: None, .. } => Diagnostic::error(
            "Identity may not read vault",
            "access.mode is \"require\", and the add-on is off, so it has no identity yet that could be allowed.",
            "Switch the add-on on first and grant its identity, or set  access = { mode = \"ensure\" }.",
        )
        .at(AttributePath::of("access").attribute("mode"))
        .code("KVTLS-E203"),
        Finding::GrantMissing { principal_id: Some(principal_id), rbac } => Diagnostic::error(
            "Identity may not read vault",
            format!("Identity {principal_id} has no grant on {}, and access.mode is \"require\".", desired.vault),
            if *rbac {
                format!(
                    "Somebody who may:  az role assignment create --role \"Key Vault Secrets User\" \
                     --assignee-object-id {principal_id} --assignee-principal-type ServicePrincipal --scope {}",
                    desired.vault
                )
            } else {
                format!(
                    "Somebody who may:  az keyvault set-policy --name {} --object-id {principal_id} \
                     --secret-permissions get",
                    desired.vault.name()
                )
            },
        )
        .at(AttributePath::of("access").attribute("mode"))
        .code("KVTLS-E203"),
        Finding::CertificateMissing { key, certificate: name } => Diagnostic::error(
            "Certificate does not exist in vault",
            format!(
                "Vault \"{}\" has no {}certificate \"{name}\".",
                desired.vault.name(),
                desired
                    .certificates
                    .get(key)
                    .and_then(|it| it.version.as_ref())
                    .map_or_else(String::new, |version| format!("version {version} of a "))
            ),
            "Check the name, and the version if one is set. If this same apply creates it, refer to it, so that Terraform \
             knows the order:  certificate = kvtls_certificate.NAME.versionless_secret_id, or \
             azurerm_key_vault_certificate.NAME.versionless_id.",
        )
        .at(certificate(key))
        .code("KVTLS-E301"),
        Finding::CertificateUnfit { key, certificate: name, version, flaw, bound } => {
            unfit(desired, name, version, flaw, *bound).at(certificate(key))
        }
        Finding::HostNotCovered { key, certificate: name, index, host, covers, bound: _ } => Diagnostic::error(
            "Certificate does not cover host",
            format!(
                "\"{host}\" is not covered by certificate \"{name}\" of vault \"{}\", which covers {}. A wildcard \
                 stands for exactly one label.",
                desired.vault.name(),
                if covers.is_empty() { "no host".to_owned() } else { covers.join(", ") }
            ),
            "Renew the certificate with the host, or bind one that covers it.",
        )
        .at(certificate(key).attribute("hosts").index(*index))
        .code("KVTLS-E302"),
        Finding::Foreign { object, managed_by } => Diagnostic::error(
            "Object exists and is not ours",
            format!(
                "{object} exists{}. kvtls takes over only what it made.",
                managed_by.as_ref().map(|name| format!(" and says it is managed by \"{name}\"")).unwrap_or_default()
            ),
            "Choose another name, or delete the object.",
        )
        .at(AttributePath::of("name"))
        .code("KVTLS-E401"),
        Finding::AlreadyBound { object, binding, same: _ } => Diagnostic::error(
            "Binding already exists",
            format!("{object} belongs to binding {binding}, which is complete and not this resource's."),
            format!(
                "To manage it from here:\n    import {{\n      to = ADDRESS_OF_THIS_RESOURCE\n      id = \"{binding}\"\n    }}\n\
                 If this replaces it with create_before_destroy: Terraform tells the new one nothing of the old, so \
                 take that line out,  terraform untaint  it, or set  force_conflicts = true  for this apply."
            ),
        )
        .at(AttributePath::of("name"))
        .code("KVTLS-E402"),
        Finding::TakenOver { objects } => cluster::taken_over(objects),
        Finding::Unfinished => left_behind(),
        Finding::ForeignSecret { key, secret_name } => Diagnostic::error(
            "Secret exists and is not ours",
            format!(
                "Secret {}/{secret_name} was not made by the Secrets Store CSI driver, which would leave it alone, so \
                 it would never be renewed.",
                desired.namespace
            ),
            "Choose another  secret_name, or delete the Secret.",
        )
        .at(certificate(key).attribute("secret_name"))
        .code("KVTLS-E403"),
        Finding::SecretShared { key, secret_name, class, bound: _ } => Diagnostic::error(
            "Secret is made by another SecretProviderClass",
            format!(
                "SecretProviderClass {ns}/{class} makes Secret {ns}/{secret_name}, too. The driver would write now the one \
                 certificate into it and now the other.",
                ns = desired.namespace
            ),
            "Choose another  secret_name. If it moves here from another binding, remove it there first, in an apply of its own.",
        )
        .at(certificate(key).attribute("secret_name"))
        .code("KVTLS-E418"),
        Finding::NamespaceMissing => Diagnostic::error(
            "Namespace does not exist",
            format!("Cluster \"{}\" has no namespace \"{}\".", desired.cluster.name(), desired.namespace),
            "Create it first. If this same apply creates it, refer to it, for example  namespace = \
             kubernetes_namespace.shop.metadata[0].name.",
        )
        .at(AttributePath::of("namespace"))
        .code("KVTLS-E404"),
        Finding::ClassMissing { class } => Diagnostic::error(
            "Ingress class does not exist",
            format!("Cluster \"{}\" has no Ingress class \"{class}\".", desired.cluster.name()),
            "Check the name:  kubectl get ingressclass. If this same apply installs the controller, let this resource \
             depend on it.",
        )
        .at(AttributePath::of("ingress").attribute("class_name"))
        .code("KVTLS-E414"),
        Finding::ServiceUnfit { backend, ports, bound } => {
            cluster::service_unfit(backend, ports.as_deref(), *bound, desired)
        }
        Finding::NoDefaultClass => Diagnostic::error(
            "Ingress names no class",
            format!(
                "ingress.class_name is not set, and no Ingress class of cluster \"{}\" is its default, so most controllers pass \
                 the Ingress over.",
                desired.cluster.name()
            ),
            "Set  ingress.class_name; see  kubectl get ingressclass.",
        )
        .at(AttributePath::of("ingress").attribute("class_name"))
        .code("KVTLS-W414"),
        Finding::RightsMissing(missing) => access::rights_missing(missing, desired),
        Finding::OtherModel { rbac, bound: _ } => access::other_model(*rbac, desired),
        Finding::ScopeNeedsRoles { bound: _ } => access::scope_needs_roles(desired),
        Finding::IdentityMissing => access::identity_missing(desired),
        Finding::NoIssuer { bound: _ } => access::no_issuer(desired),
        Finding::TrustMissing => access::trust_missing(desired),
        Finding::TrustFull { count, bound: _ } => access::trust_full(*count, desired),
        Finding::NewerVersion { key, version, newest } => access::newer_version(key, version, newest, desired),
        Finding::ClusterNotReady { state } => access::not_ready(state, desired),
        Finding::GatewayApiMissing => gateway::api_missing(desired),
        Finding::GatewayClassMissing { class } => gateway::class_missing(class, desired),
        Finding::GatewayMissing { gateway } => gateway::gateway_missing(gateway, desired),
        Finding::ListenerSetsRefused {
            gateway,
            served: true,
        } => gateway::no_listeners(gateway, desired),
        Finding::ListenerSetsRefused {
            gateway,
            served: false,
        } => gateway::no_listener_sets(gateway, desired),
        Finding::RedirectUnknown { controller, instead } => Diagnostic::error(
            "Controller has no known redirect setting",
            format!(
                "ssl_redirect is set, and {}.",
                instead.map_or_else(
                    || {
                        let known = controller.as_ref().map(|name| format!("\"{name}\""));
                        let name = known.unwrap_or_else(|| "this Ingress class's controller".to_owned());
                        format!("kvtls does not know how {name} is told")
                    },
                    str::to_owned
                )
            ),
            "Remove ssl_redirect and write the controller's own annotation in  ingress.annotations.",
        )
        .at(AttributePath::of("ingress").attribute("ssl_redirect"))
        .code("KVTLS-E405"),
    }
}

fn unfit(desired: &Desired, name: &str, version: &str, flaw: &Flaw, bound: bool) -> Diagnostic {
    let vault = desired.vault.name();
    let current = format!("Current version {version} of certificate \"{name}\" in vault \"{vault}\"");
    let renew = "Renew it in the vault, or pin an older version that is valid:  version = \"…\". If this same apply renews \
                 it, refer to it, for example  certificate = azurerm_key_vault_certificate.main.versionless_id.";
    let diagnostic = match flaw {
        Flaw::Expired(end) => Diagnostic::error(
            format!("Certificate expired on {}", day(*end)),
            format!("{current} is past its end date; browsers refuse it."),
            renew,
        )
        .code("KVTLS-E303"),
        Flaw::NotYetValid(start) => Diagnostic::error(
            "Certificate is not yet valid",
            format!("{current} is valid only from {}.", moment(*start)),
            renew,
        )
        .code("KVTLS-E303"),
        Flaw::Disabled => Diagnostic::error(
            "Certificate is disabled",
            format!("{current} is disabled; the cluster cannot read it."),
            "Enable it in the vault, or renew it.",
        )
        .code("KVTLS-E304"),
        Flaw::NotExportable => Diagnostic::error(
            "Certificate key cannot leave vault",
            format!("{current} has a key that is not exportable, so its Secret would have no private key."),
            "Set  exportable = true  in the certificate's policy and renew it.",
        )
        .code("KVTLS-E305"),
        Flaw::EndsSoon(end) => Diagnostic::error(
            "Certificate ends soon",
            format!("{current} ends on {}.", moment(*end)),
            "Renew it in the vault; with rotation on, the cluster follows by itself.",
        )
        .code("KVTLS-W301"),
        Flaw::EndsTooSoon(end) => access::ends_too_soon(&current, *end),
    };
    if bound && !matches!(flaw, Flaw::EndsSoon(_) | Flaw::EndsTooSoon(_)) {
        return Diagnostic {
            detail: format!(
                "{} It already serves under this binding, so nothing is blocked.",
                diagnostic.detail
            ),
            ..diagnostic
        }
        .code("KVTLS-W302");
    }
    diagnostic
}

fn day(moment: OffsetDateTime) -> String {
    moment.date().to_string()
}

fn moment(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_else(|_| moment.to_string())
}

/// A step that failed.
pub fn step_error(error: &StepError, changed: &Changed) -> Diagnostic {
    match &error.cause {
        Cause::Azure(cause) => azure_step(&error.step, cause, changed),
        Cause::Kubernetes(cause) => kubernetes_error(error, cause, changed),
        Cause::Credential(cause) => cluster::credential(cause, changed),
        Cause::TimedOut { waited, what, diagnosis } => Diagnostic::error(
            "Certificate did not arrive in time",
            format!(
                "Waited {} for {what}. {}.{} {}",
                if waited.is_zero() { "until the operation's end".to_owned() } else { format!("{} s", waited.as_secs()) },
                diagnosis.cause,
                if diagnosis.evidence.is_empty() {
                    String::new()
                } else {
                    format!("\nThe cluster says: {}\n", diagnosis.evidence)
                },
                changed.sentence()
            ),
            diagnosis.fix.clone(),
        )
        .code("KVTLS-E601"),
        Cause::WrongCertificate { host, address, subject, thumbprint, wanted } => {
            let shown = format!(
                "A handshake with {address} for \"{host}\" returned \"{subject}\" (thumbprint {thumbprint}); the \
                 vault's certificate has {wanted}."
            );
            edge::wrong_certificate(&error.step, &shown, is_fake(subject), &changed.sentence())
        }
        Cause::EdgeUnreachable { host, reason } => Diagnostic::error(
            "Edge could not be verified",
            format!("verify.level is \"served\" and \"{host}\" could not be asked: {reason}. {}", changed.sentence()),
            "Run Terraform where the edge is reachable, set  verify.endpoint, look through the API server with  verify = { \
             via = \"tunnel\" } , or choose  level = \"auto\".",
        )
        .at(AttributePath::of("verify"))
        .code("KVTLS-E603"),
        Cause::EdgeRefuses { edge, problems } => gateway::refuses(edge, problems, &changed.sentence()),
        Cause::Undecided { missing } => cluster::undecided(missing, &error.cluster, changed),
        Cause::Stopped => Diagnostic::error(
            "Apply was stopped",
            if error.step.is_write() {
                format!(
                    "Terraform was asked to stop while kvtls was to {}. That request may still take effect; the next plan \
                     shows it. {}",
                    error.step.describe(),
                    changed.before_that()
                )
            } else {
                format!(
                    "Terraform was asked to stop before kvtls could {}. {}",
                    error.step.describe(),
                    changed.sentence()
                )
            },
            "Apply again to finish.",
        )
        .code("KVTLS-E604"),
    }
}

fn azure_step(step: &Step, error: &azure::Error, changed: &Changed) -> Diagnostic {
    let attribute = match step {
        Step::SwitchAddon { .. } | Step::DisableAddon => AttributePath::of("cluster_id"),
        Step::Trust { .. } | Step::Distrust { .. } => AttributePath::of("access").attribute("identity_id"),
        Step::AssignRole { .. }
        | Step::AddAccessPolicy { .. }
        | Step::RemoveRole { .. }
        | Step::RemoveAccessPolicy { .. } => AttributePath::of("key_vault_id"),
        Step::Apply { .. }
        | Step::CreateNamespace { .. }
        | Step::AwaitSynced { .. }
        | Step::AwaitServed { .. }
        | Step::Finish { .. }
        | Step::Delete { .. }
        | Step::AwaitGone { .. } => AttributePath::root(),
    };
    let mut diagnostic = azure_error(error, changed);
    if let (true, Step::AssignRole { scope, principal, .. }) = (refusals::is_about_roles(error), step) {
        diagnostic.fix = format!(
            "Somebody who may:  az role assignment create --role \"Key Vault Secrets User\" --assignee-object-id {} \
             --assignee-principal-type ServicePrincipal --scope {scope}\nand set  access = {{ mode = \"require\" }}.",
            principal.0
        );
    }
    if let (true, Step::SwitchAddon { .. }) = (refusals::is_about_roles(error), step) {
        diagnostic.fix =
            "Give the identity \"Azure Kubernetes Service Contributor Role\" on the cluster, or let the \
                          cluster's owner switch the add-on on and set  addon = { mode = \"require\" }."
                .to_owned();
    }
    diagnostic.at(attribute)
}

/// An error of an Azure call.
pub fn azure_error(error: &azure::Error, changed: &Changed) -> Diagnostic {
    let said = error.service_said();
    let ids = ids(error);
    let detail = |lead: String| format!("{lead}: {said}.{ids} {}", changed.sentence());
    let mut diagnostic = match error {
        azure::Error::Credential { .. } => Diagnostic::error(
            "No Azure credential could be used",
            format!("Tried, in this order:\n{said}\n{}", changed.sentence()),
            "Set up one of them, for example ARM_TENANT_ID, ARM_CLIENT_ID and ARM_CLIENT_SECRET (or the attributes of the \
             same names in the provider block), or sign in with  az login. Each way: docs/guides/authentication.",
        )
        .code("KVTLS-E011"),
        azure::Error::Settings { .. } => Diagnostic::error(
            "Azure settings cannot be used",
            format!("{said}. {}", changed.sentence()),
            "Correct the provider block or the ARM_* variables.",
        )
        .code("KVTLS-E012"),
        azure::Error::Unreachable { operation, target, .. } => Diagnostic::error(
            "Azure could not be reached",
            detail(format!("{operation} got no answer from {target}")),
            "Check the network, HTTPS_PROXY and the proxy's certificate authority (SSL_CERT_FILE), then apply again.",
        )
        .code("KVTLS-E014"),
        azure::Error::Throttled { operation, target, retry_after, .. } => Diagnostic::error(
            "Azure throttled the request",
            detail(format!("{operation} on {target} was throttled, also after retries")),
            retry_after.map_or_else(
                || "Wait a minute and apply again.".to_owned(),
                |wait| format!("Wait {} s and apply again.", wait.as_secs().max(1)),
            ),
        )
        .code("KVTLS-E015"),
        azure::Error::Forbidden { operation, target, action, .. } => Diagnostic::error(
            "Permission is missing",
            detail(format!(
                "{operation} on {target} is not allowed{}",
                action.as_ref().map(|action| format!(" (needs {action})")).unwrap_or_default()
            )),
            "Ask somebody who may assign roles for one that has the action, see docs/guides/permissions.",
        )
        .code("KVTLS-E501"),
        azure::Error::Conflict { operation, target, .. } => Diagnostic::error(
            "Another operation is in the way",
            detail(format!("{operation} on {target} conflicts with another operation")),
            "Wait until it is done and apply again; order changes of one apply with depends_on.",
        )
        .code("KVTLS-E016"),
        azure::Error::Rejected { operation, target, status: 408 | 500.., .. } => Diagnostic::error(
            "Azure service is failing",
            detail(format!("{operation} on {target} failed, also after retries")),
            "Apply again in some minutes; if it stays, look at https://azure.status.microsoft.",
        )
        .code("KVTLS-E017"),
        azure::Error::Rejected { operation, target, .. } => Diagnostic::error(
            "Azure refused the request",
            detail(format!("{operation} on {target} was refused")),
            "Read what the service says; if it is about something kvtls sent, report it.",
        )
        .code("KVTLS-E017"),
        azure::Error::NotReady { operation, target, state } => Diagnostic::error(
            "Cluster cannot be changed now",
            format!("Could not {operation}: {target} is {state}. {}", changed.sentence()),
            "Start or repair the cluster (az aks start, az aks update), then apply again. A write to a failed cluster \
             would reconcile all of it.",
        )
        .at(AttributePath::of("cluster_id"))
        .code("KVTLS-E102"),
        azure::Error::OperationFailed { operation, target, status, .. } => Diagnostic::error(
            "Azure operation failed",
            format!("{operation} on {target} was accepted and ended as {said}.{ids} {}", changed.before_that()),
            if status == "Failed" {
                "Look at the activity log. A cluster that is left as \"Failed\" has to be repaired first (az aks update), \
                 then apply again."
            } else {
                "Somebody or something called it off. Apply again."
            },
        )
        .code("KVTLS-E018"),
        azure::Error::Unexpected { operation, target, .. } => Diagnostic::error(
            "Azure answered unexpectedly",
            detail(format!("{operation} on {target} got an answer that cannot be used")),
            "Apply again; if it stays, report it with the request ID.",
        )
        .code("KVTLS-E019"),
    };
    if let Some(known) = refusals::known(error) {
        known.summary.clone_into(&mut diagnostic.summary);
        diagnostic.fix = known.fix;
        if known.is_rule {
            diagnostic = diagnostic.code("KVTLS-E017");
        }
    }
    diagnostic
}

fn ids(error: &azure::Error) -> String {
    let part = |name: &str, id: Option<&str>| id.map(|id| format!(" {name} {id}.")).unwrap_or_default();
    format!(
        "{}{}",
        part("Request", error.request_id()),
        part("Correlation", error.correlation_id())
    )
}

/// An error of the cluster's API.
fn kubernetes_error(failure: &StepError, error: &k8s::Error, changed: &Changed) -> Diagnostic {
    let said = kubernetes_said(error);
    let detail = format!(
        "kvtls could not {}: {}. {}",
        failure.step.describe(),
        said.trim_end_matches('.'),
        changed.sentence()
    );
    if let k8s::Error::Invalid { message, .. } = error
        && let Some(holder) = cluster::host_is_taken_by(message)
    {
        return cluster::host_is_taken(holder, &detail);
    }
    match error {
        k8s::Error::Settings { .. } => Diagnostic::error(
            "Cluster credential cannot be used",
            detail,
            "Check that the identity may call listClusterUserCredential, and the proxy settings.",
        )
        .code("KVTLS-E406"),
        k8s::Error::NotServed { .. } => Diagnostic::error(
            "Cluster does not know the kind",
            detail,
            "Check that the Key Vault add-on is on:  az aks show --query addonProfiles.",
        )
        .code("KVTLS-E407"),
        k8s::Error::Forbidden { message, .. } => Diagnostic::error(
            "Permission in cluster is missing",
            detail,
            cluster::grant_in_cluster(message, &failure.cluster),
        )
        .code("KVTLS-E502"),
        k8s::Error::Unauthorized { .. } => Diagnostic::error(
            "Cluster does not accept credential",
            detail,
            "This is about who asks, not about rights. The identity must be of the tenant that the cluster trusts:  az aks \
             show --query aadProfile.tenantID. On a cluster without local accounts  kubernetes.credential  must be \
             \"auto\" or \"entra\".",
        )
        .code("KVTLS-E503"),
        k8s::Error::Conflict { managers, .. } => Diagnostic::error(
            "Another manager owns the fields",
            format!("{detail} Fields: {}.", owners(managers)),
            "Remove the fields there, or leave the object to that manager and choose another name here. To take them \
             nevertheless, set  force_conflicts = true.",
        )
        .code("KVTLS-E408"),
        k8s::Error::Invalid { causes, .. } => Diagnostic::error(
            "Cluster refused the object",
            format!("{detail}{}", causes.iter().map(|(field, why)| format!("\n  {field}: {why}")).collect::<String>()),
            "If a policy of the cluster refuses it, change the policy or the attribute it names.",
        )
        .code("KVTLS-E409"),
        k8s::Error::Unreachable { server, .. } => Diagnostic::error(
            "Cluster API could not be reached",
            detail,
            format!(
                "Run Terraform where {server} is reachable, or set  kubernetes = {{ proxy_url = \"http://…\" }}  or \
                 HTTPS_PROXY. A private cluster is reached from its own network only."
            ),
        )
        .code("KVTLS-E410"),
        k8s::Error::NamespaceMissing { namespace, .. } => Diagnostic::error(
            "Namespace does not exist",
            detail,
            format!("Create it first:  kubectl create namespace {namespace}"),
        )
        .at(AttributePath::of("namespace"))
        .code("KVTLS-E404"),
        k8s::Error::Terminating { .. } => Diagnostic::error(
            "Namespace is being deleted",
            detail,
            "Wait until it is gone and create it again.",
        )
        .at(AttributePath::of("namespace"))
        .code("KVTLS-E411"),
        k8s::Error::Unexpected { .. } => Diagnostic::error(
            "Cluster answered unexpectedly",
            detail,
            "Apply again; if it stays, look at the cluster's API server.",
        )
        .code("KVTLS-E412"),
    }
}

fn owners(managers: &[(String, String)]) -> String {
    managers
        .iter()
        .map(|(manager, field)| format!("{field} (\"{manager}\")"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The world changed between plan and apply.
pub fn unannounced(targets: &[String]) -> Diagnostic {
    Diagnostic::error(
        "World changed since the plan",
        format!(
            "Apply would now also have to change {}, which the plan did not show. Nothing was changed.",
            targets.join(", ")
        ),
        "Plan again and apply that.",
    )
    .code("KVTLS-E605")
}

/// Parts that could not be seen in a plan or a refresh; an error if the provider is told so.
pub fn blind_spots(spots: &[(String, String)], is_error: bool) -> Diagnostic {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (what, why) in spots {
        let why = first_line(why);
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, whats)) => whats.push(what),
            None => reasons.push((why, vec![what])),
        }
    }
    let list: Vec<String> = reasons
        .iter()
        .map(|(why, what)| format!("{} ({why})", what.join(", ")))
        .collect();
    let list = list.join(", ");
    let hint = if spots.iter().any(|(_, why)| why.starts_with("403")) {
        "Roles for a plan-only identity: docs/guides/permissions. "
    } else {
        ""
    };
    if is_error {
        return Diagnostic::error(
            "Some parts could not be observed",
            format!("Not seen: {list}. blind_plan is \"error\", so the plan does not pass over it. Nothing was changed."),
            format!("{hint}To go on with last known values: blind_plan = \"warn\"."),
        )
        .code("KVTLS-E029");
    }
    Diagnostic::warning(
        "Some parts could not be observed; their last known values are kept",
        format!("Not seen: {list}. Drift there is not detected."),
        format!("{hint}To fail instead: blind_plan = \"error\"."),
    )
    .code("KVTLS-W001")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches('.')
}

/// Apply will set the add-on, which is on already or not.
pub fn addon_will_be_set(desired: &Desired, is_on: bool) -> Diagnostic {
    addon::forecast(&desired.cluster, &addon_wish(desired), is_on, OWNER_ADVICE)
}

const OWNER_ADVICE: &str = "\
If azurerm_kubernetes_cluster manages this cluster, its next plan will switch the add-on off and fail. Add to it:
    lifecycle { ignore_changes = [key_vault_secrets_provider] }
or declare  key_vault_secrets_provider { secret_rotation_enabled = true }  there and set addon = { mode = \"require\" } here.";

/// Somebody changed the add-on since our last apply.
pub fn addon_was_changed(desired: &Desired, enabled: bool) -> Diagnostic {
    Diagnostic::warning(
        "Key Vault add-on was changed elsewhere",
        format!(
            "The add-on of cluster \"{}\" {} since the last apply; apply sets it again, with one update of the cluster. {}",
            desired.cluster.name(),
            if enabled { "was set differently" } else { "was switched off" },
            addon::UPDATING
        ),
        OWNER_ADVICE,
    )
    .at(AttributePath::of("addon"))
    .code("KVTLS-W102")
}

/// How many changed fields of an object a warning names; the plan shows all.
const EDITS_SHOWN: usize = 3;

/// Somebody changed one of our objects.
pub fn object_was_changed(key: &str, namespace: &str, edit: &Edit) -> Diagnostic {
    let (kind, name) = key.split_once('/').unwrap_or(("Object", key));
    let Edit {
        manager,
        when,
        fields,
    } = edit;
    let when = if when.is_empty() {
        String::new()
    } else {
        format!(" at {when}")
    };
    let shown = fields.iter().take(EDITS_SHOWN).map(String::as_str);
    let mut list = shown.collect::<Vec<_>>().join(", ");
    let more = fields.len().saturating_sub(EDITS_SHOWN);
    if more > 0 {
        list = format!("{list} and {more} more");
    }
    let noun = if fields.len() == 1 { "Field" } else { "Fields" };
    Diagnostic::warning(
        format!("{kind} {namespace}/{name} was changed by \"{manager}\"{when}"),
        format!("{noun} {list}. Apply takes it back."),
        "",
    )
    .at(AttributePath::of("manifests").key(key))
    .code("KVTLS-W207")
}

/// The edge could not be asked under `auto`.
pub fn unverified(host: &str, reason: &str) -> Diagnostic {
    Diagnostic::warning(
        "Served certificate could not be verified",
        format!(
            "The Secret holds the vault's certificate; what \"{host}\" serves could not be seen: {reason}."
        ),
        "To insist, set  verify = { level = \"served\" }; to dial elsewhere, set  verify.endpoint  or  verify.via.",
    )
    .at(AttributePath::of("verify"))
    .code("KVTLS-W601")
}

/// An unfinished creation is taken up again.
pub fn resumes(phase: &str) -> Diagnostic {
    Diagnostic::warning(
        "Unfinished binding will be resumed",
        format!("An earlier apply stopped in phase \"{phase}\". What it made is kept and completed; nothing is deleted."),
        "",
    )
    .code("KVTLS-W401")
}

/// A creation came to no end and left nothing in the state.
fn left_behind() -> Diagnostic {
    Diagnostic::warning(
        "Unfinished binding will be resumed",
        "The cluster holds objects of this binding that an apply made and did not complete, and that this state does not \
         know. They are taken over and completed; nothing is deleted.",
        "If another configuration is making a binding of this name in this namespace, choose another name here.",
    )
    .code("KVTLS-W401")
}

/// A creation that failed half way: what Terraform makes of it.
pub fn tainted(mut diagnostic: Diagnostic) -> Diagnostic {
    if diagnostic.severity == Severity::Error {
        diagnostic.fix = format!(
            "{}\nTerraform calls the resource tainted now: the next apply is shown as a replacement, resumes, and deletes \
             nothing that serves. To go on by an update instead:  terraform untaint ADDRESS.",
            diagnostic.fix
        );
    }
    diagnostic
}

/// What stopped an apply that is not to fail by it.
pub fn incomplete(mut diagnostic: Diagnostic) -> Diagnostic {
    diagnostic.severity = Severity::Warning;
    diagnostic.detail = format!(
        "{} on_incomplete is \"warn\", so this is no failure; status.phase tells how far the binding came.",
        diagnostic.detail
    );
    diagnostic
}

/// A grant that is of no use any more could not be taken away.
pub fn grant_not_revoked(id: &str, why: &str) -> Diagnostic {
    Diagnostic::warning(
        "Grant on vault could not be removed",
        format!(
            "{id} was made by kvtls, is not needed any more and is still there: {why}. It is kept in state."
        ),
        "Apply again to remove it.",
    )
    .code("KVTLS-W403")
}

/// A grant stays, because others need it or may.
pub fn grant_kept(kept: &KeptGrant, vault: &VaultId) -> Diagnostic {
    let grant = &kept.grant;
    let (Reason::Needed(why) | Reason::Unclear(why)) = &kept.reason;
    let (what, command) = match grant.kind {
        GrantKind::RoleAssignment => (
            grant.id.clone(),
            format!("az role assignment delete --ids {}", grant.id),
        ),
        GrantKind::FederatedCredential => {
            (grant.id.clone(), format!("az resource delete --ids {}", grant.id))
        }
        GrantKind::AccessPolicy => (
            format!("The access policy of {} in {vault}", grant.principal_id),
            format!(
                "az keyvault delete-policy --name {} --object-id {}",
                vault.name(),
                grant.principal_id
            ),
        ),
    };
    Diagnostic::warning(
        "Grant was left in place",
        format!("{what} was made by kvtls and stays: {why}."),
        format!("When nobody uses it any more:\n    {command}"),
    )
    .code("KVTLS-W402")
}

/// Objects could not be looked at, so nothing can be said about their removal.
pub fn cannot_remove(spots: &[(String, String)]) -> Diagnostic {
    let list: Vec<String> = spots
        .iter()
        .map(|(what, why)| format!("{what}: {}", first_line(why)))
        .collect();
    Diagnostic::error(
        "Binding could not be looked at",
        format!("What is to be removed could not be read ({}). Nothing was removed.", list.join("; ")),
        "A cluster that is stopped has to be started first:  az aks start. Else run Terraform where the cluster is \
         reachable. If it is gone for good, remove the binding from the state with  terraform state rm.",
    )
    .code("KVTLS-E413")
}
