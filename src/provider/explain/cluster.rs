//! What is said about reaching a cluster, about rights in it, and about what lives on a binding's objects.

#![deny(clippy::wildcard_enum_match_arm)]

use super::Changed;
use crate::azure::ids::ClusterId;
use crate::binding::backends::Backend;
use crate::binding::desired::{Desired, Port};
use crate::binding::findings::Hold;
use crate::binding::world::ConnectError;
use crate::framework::{AttributePath, Diagnostic};
use crate::k8s::{self, ObjectRef};

/// A binding that must not be removed, or whose users could not be seen.
pub fn hold(hold: &Hold) -> Diagnostic {
    match hold {
        Hold::InUse { class, pods } => Diagnostic::error(
            "Other pods mount the certificates",
            format!(
                "{class} is mounted by {} that kvtls did not make: {}. Without it they could not start again. Nothing \
                 was removed.",
                if pods.len() == 1 { "a pod" } else { "pods" },
                pods.join(", ")
            ),
            format!(
                "Give them a SecretProviderClass of their own, or remove them first:  kubectl get pods --namespace {} {}",
                class.namespace.as_deref().unwrap_or_default(),
                pods.join(" ")
            ),
        )
        .code("KVTLS-E421"),
        Hold::UseUnseen { class, why } => Diagnostic::warning(
            "Users of the certificates were not seen",
            format!("Who mounts {class} could not be read ({why}). It is removed nevertheless."),
            format!(
                "To look with other rights:  kubectl get secretproviderclasspodstatuses --namespace {}",
                class.namespace.as_deref().unwrap_or_default()
            ),
        )
        .code("KVTLS-W423"),
    }
}

/// A Service that a rule names and that is not there, or has no such port.
pub(super) fn service_unfit(
    backend: &Backend,
    ports: Option<&[String]>,
    bound: bool,
    desired: &Desired,
) -> Diagnostic {
    let (service, namespace) = (&backend.service, &desired.namespace);
    let path = AttributePath::of(backend.edge)
        .attribute("rules")
        .index(backend.rule)
        .attribute("paths")
        .index(backend.path);
    let unless = if bound {
        " That is no reason to stop here: what serves keeps serving, and whoever makes the namespace comes first."
    } else {
        ""
    };
    let sibling = "If this same apply makes it, refer to it or let this resource depend on it, so that Terraform knows the \
                   order.";
    let diagnostic = match ports {
        None => Diagnostic::error(
            "Service does not exist",
            format!(
                "Namespace \"{namespace}\" of cluster \"{}\" has no Service \"{service}\", so requests would be answered \
                 with 503 under the right certificate.{unless}",
                desired.cluster.name()
            ),
            format!("Check the name:  kubectl get services --namespace {namespace}. {sibling}"),
        )
        .at(path.attribute("service"))
        .code("KVTLS-E415"),
        Some(ports) => Diagnostic::error(
            "Service has no such port",
            format!(
                "Service {namespace}/{service} does not listen on {}, so requests would be answered with 503 under the right \
                 certificate. It has: {}.{unless}",
                match &backend.port {
                    Port::Number(number) => format!("port {number}"),
                    Port::Name(name) => format!("a port \"{name}\""),
                },
                ports.join(", ")
            ),
            format!("Write one of its ports (not the pods' own, its targetPort). {sibling}"),
        )
        .at(path.attribute("port"))
        .code("KVTLS-E416"),
    };
    if bound {
        diagnostic.code("KVTLS-W415")
    } else {
        diagnostic
    }
}

/// The Ingress that holds a host and a path already, in the words of ingress-nginx's webhook.
pub(super) fn host_is_taken_by(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("is already defined in ingress ")?;
    rest.split_whitespace().next()
}

/// A webhook of the controller takes no second Ingress for a host and a path.
pub(super) fn host_is_taken(holder: &str, detail: &str) -> Diagnostic {
    Diagnostic::error(
        "Another Ingress has this host already",
        format!("{detail} Ingress {holder} still serves it."),
        format!(
            "If {holder} is somebody else's, take host and path out of one of the two. If it is this binding's under its \
             former name: this controller takes no second Ingress for a host, so the new name cannot come first. Keep the \
             name; or let a  gateway  serve the host while the Ingress changes its name; or, where some seconds without \
             the certificate do no harm, apply once without  ingress  and once with the new name."
        ),
    )
    .at(AttributePath::of("ingress").attribute("name"))
    .code("KVTLS-E417")
}

/// A service account of ours stays.
pub fn account_kept(account: &ObjectRef, why: &str) -> Diagnostic {
    Diagnostic::warning(
        "Service account was left in place",
        format!("{account} was made by kvtls, is no longer needed by this binding, and stays: {why}."),
        format!(
            "kvtls does not remove it any more. When nobody uses it:  kubectl delete serviceaccount --namespace {} {}",
            account.namespace.as_deref().unwrap_or_default(),
            account.name
        ),
    )
    .code("KVTLS-W425")
}

/// Objects of this binding whose creation this state does not know were taken over, because it was asked for.
pub fn taken_over(objects: &[ObjectRef]) -> Diagnostic {
    let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
    Diagnostic::warning(
        "Complete binding is taken over",
        format!(
            "{} carry this binding's ID and belong to a creation that this state does not know. force_conflicts is set, \
             so they are taken over. If another state manages them, it will want them back.",
            names.join(", ")
        ),
        "If this replaces the binding with create_before_destroy, that is as it should be. Else keep the binding in one \
         state only.",
    )
    .at(AttributePath::of("force_conflicts"))
    .code("KVTLS-W422")
}

/// Objects that other hands made are adopted.
pub fn adopted(managers: &[String], left: &[String]) -> Diagnostic {
    let left = if left.is_empty() {
        String::new()
    } else {
        format!(
            " {} mount the SecretProviderClass and stay as they are; remove them once the binding serves.",
            left.join(", ")
        )
    };
    Diagnostic::warning(
        "Objects made by others are adopted",
        format!(
            "The next apply takes their fields over, once, whoever holds them. So far they belong to: {}.{left}",
            managers.join("; ")
        ),
        "Take the objects out of whatever applied them, or it will want them back.",
    )
    .code("KVTLS-W424")
}

/// Something that all further steps depend on could not be seen.
pub(super) fn undecided(missing: &str, cluster: &ClusterId, changed: &Changed) -> Diagnostic {
    let detail = format!(
        "Everything that follows depends on it: {missing}. {}",
        changed.sentence()
    );
    if missing.contains("is forbidden: User") {
        return Diagnostic::error(
            "Permission in cluster is missing",
            detail,
            grant_in_cluster(missing, cluster),
        )
        .code("KVTLS-E502");
    }
    let fix = if missing.contains("no answer from") {
        "Run Terraform where the cluster's API is reachable, or set  kubernetes = { proxy_url = \"http://…\" }  or \
         HTTPS_PROXY. A private cluster is reached from its own network only."
    } else {
        "If it could not be read, give the identity Reader on cluster and vault. If the add-on lost its identity, switch \
         it off and on:  az aks disable-addons / enable-addons -a azure-keyvault-secrets-provider."
    };
    Diagnostic::error("Binding cannot go on", detail, fix).code("KVTLS-E606")
}

/// A credential that this cluster cannot give.
pub fn credential(error: &ConnectError, changed: &Changed) -> Diagnostic {
    let attribute = AttributePath::of("kubernetes").attribute("credential");
    let detail = format!("{}. {}", error.said(), changed.sentence());
    match error {
        ConnectError::Azure(error) => super::azure_error(error, changed),
        ConnectError::Kubernetes(_) => Diagnostic::error(
            "Cluster credential cannot be used",
            detail,
            "Check kubernetes.server and kubernetes.proxy_url.",
        )
        .at(AttributePath::of("kubernetes"))
        .code("KVTLS-E406"),
        ConnectError::NoEntra => Diagnostic::error(
            "Cluster has no Entra ID",
            detail,
            "Set  kubernetes = { credential = \"user\" }, or leave it out. To give the cluster Entra ID:  az aks update \
             --enable-aad.",
        )
        .at(attribute)
        .code("KVTLS-E422"),
        ConnectError::NeedsLogin => Diagnostic::error(
            "User credential needs a login",
            detail,
            "Set  kubernetes = { credential = \"entra\" }, or leave it out: then this provider's own identity is used.",
        )
        .at(attribute)
        .code("KVTLS-E423"),
        ConnectError::LocalAccountsOff(_) => Diagnostic::error(
            "Cluster has no local accounts",
            detail,
            "There is no administrator's credential to be had while local accounts are off. Leave  \
             kubernetes.credential  out: then this provider's own identity is used, which needs a role in the cluster.",
        )
        .at(attribute)
        .code("KVTLS-E424"),
    }
}

/// What to do about a right that is missing in the cluster: the command of whichever authorizer refused.
pub(super) fn grant_in_cluster(message: &str, cluster: &ClusterId) -> String {
    let who = between(message, "User \"", "\"").unwrap_or("OBJECT_ID");
    let namespace = between(message, "in the namespace \"", "\"");
    if message.contains("in Azure") {
        let scope = namespace.map_or_else(
            || cluster.to_string(),
            |namespace| format!("{cluster}/namespaces/{namespace}"),
        );
        return format!(
            "This cluster asks Azure RBAC. Somebody who may:  {}\n\
             (\"RBAC Writer\" has no right to custom resources such as SecretProviderClass.)",
            azure_role(who, &scope)
        );
    }
    let group = between(message, "in API group \"", "\"").unwrap_or_default();
    let resource = between(message, "resource \"", "\"").map(|name| match group {
        "" => name.to_owned(),
        group => format!("{name}.{group}"),
    });
    match (namespace, resource) {
        (Some(namespace), resource) => format!(
            "This cluster asks Kubernetes RBAC. Somebody who may:\n{}",
            namespace_role(who, namespace, &resource.into_iter().collect::<Vec<_>>())
        ),
        (None, resource) => {
            let resource = resource.unwrap_or_else(|| "RESOURCE".to_owned());
            let name = resource.split('.').next().unwrap_or_default();
            format!(
                "This cluster asks Kubernetes RBAC. Somebody who may:\n    kubectl create clusterrole kvtls-{name} \
                 --verb=get,list,watch,create,patch --resource={resource}\n    kubectl create clusterrolebinding \
                 kvtls-{name} --clusterrole=kvtls-{name} --user={who}"
            )
        }
    }
}

/// The role of Azure RBAC that covers all a binding needs, as a command.
pub(super) fn azure_role(who: &str, scope: &str) -> String {
    format!(
        "az role assignment create --role \"Azure Kubernetes Service RBAC Cluster Admin\" --assignee-object-id {who} \
         --assignee-principal-type ServicePrincipal --scope {scope}"
    )
}

/// The role of Kubernetes RBAC that covers all a binding needs in its namespace, as two commands. `kubectl` refuses kinds
/// that the cluster does not know, so those that not every binding has are named only where they are needed.
pub(super) fn namespace_role(who: &str, namespace: &str, needed: &[String]) -> String {
    const ALWAYS: [&str; 7] = [
        "secretproviderclasses.secrets-store.csi.x-k8s.io",
        "secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io",
        "deployments.apps",
        "ingresses.networking.k8s.io",
        "secrets",
        "pods",
        "events",
    ];
    let mut resources = ALWAYS.to_vec();
    for resource in needed {
        if !resources.contains(&resource.as_str()) {
            resources.push(resource);
        }
    }
    format!(
        "    kubectl create role kvtls --namespace {namespace} --verb=get,list,watch,create,patch,delete \
         --resource={}\n    kubectl create rolebinding kvtls --namespace {namespace} --role=kvtls --user={who}",
        resources.join(",")
    )
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// What the cluster would say to an object of the plan.
pub fn would_refuse(object: &ObjectRef, error: &k8s::Error) -> Diagnostic {
    let said = crate::binding::error::kubernetes_said(error);
    Diagnostic::warning(
        "Cluster would refuse an object",
        format!("A dry run of {object} was refused: {said}. Apply will fail there, unless the cluster changes until then."),
        "If a policy refuses it, change the policy or the attribute it names; if another manager owns the fields, remove \
         them there or set  force_conflicts = true.",
    )
    .at(AttributePath::of("manifests").key(&crate::binding::step::object_key(object)))
    .code("KVTLS-W421")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterId {
        let id = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/aks";
        ClusterId::parse(id).unwrap()
    }

    #[test]
    fn the_authorizer_that_refused_is_named_with_its_command() {
        let kubernetes = "deployments.apps \"shop\" is forbidden: User \"8d42\" cannot patch resource \"deployments\" in \
                          API group \"apps\" in the namespace \"shop\"";
        let fix = grant_in_cluster(kubernetes, &cluster());
        assert!(
            fix.contains("kubectl create rolebinding kvtls --namespace shop --role=kvtls --user=8d42"),
            "{fix}"
        );
        let azure = format!(
            "{kubernetes}: User does not have access to the resource in Azure. Update role assignment to allow access."
        );
        let fix = grant_in_cluster(&azure, &cluster());
        assert!(fix.contains("--assignee-object-id 8d42"), "{fix}");
        assert!(fix.contains("managedClusters/aks/namespaces/shop"), "{fix}");
        let cluster_wide = "namespaces \"shop\" is forbidden: User \"8d42\" cannot patch resource \"namespaces\" in API \
                            group \"\" at the cluster scope";
        let fix = grant_in_cluster(cluster_wide, &cluster());
        assert!(
            fix.contains("--clusterrole=kvtls-namespaces --user=8d42"),
            "{fix}"
        );
    }
}
