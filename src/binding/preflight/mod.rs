//! The caller's rights, found out before the first write. What is needed follows from the plan and is pure; whether it
//! is there is [`ask`]ed of Azure and of the cluster. What cannot be found out is not called missing.

pub mod ask;

use std::time::Duration;

use super::desired::{Desired, Mode};
use super::grant;
use super::manifests;
use super::observation::{Observation, Seen};
use super::plan::Plan;
use super::step::{Step, object_key};
use super::workload;
use crate::azure::Caller;
use crate::k8s::{Kind, NAMESPACE, Right, SECRET};

/// A right that a plan needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What it is for.
    pub purpose: Purpose,
    /// The right itself.
    pub right: Wanted,
}

/// A right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An action of Azure Resource Manager.
    Action {
        /// As role definitions name it.
        action: &'static str,
        /// Where.
        scope: String,
    },
    /// A verb of the cluster's API.
    Verb(Right),
}

/// What a right is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To see the cluster or the vault at all.
    Look,
    /// To switch the add-on on as wished.
    Addon,
    /// To let the reading identity in by a role.
    Role,
    /// To let the reading identity in by an access policy.
    Policy,
    /// To make the identity trust a service account.
    Trust,
    /// To get a credential for the cluster's API.
    Connect,
    /// To make the namespace.
    Namespace,
    /// To write an object.
    Write,
    /// To see that a Secret holds the certificate.
    Watch,
}

/// Rights that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Who lacks them, where the token says so.
    pub caller: Option<Caller>,
    /// Which.
    pub needs: Vec<Need>,
    /// Whom a grant would be for; none while the add-on has no identity.
    pub principal: Option<String>,
    /// What is not allowed either, and is not needed.
    pub skipped: Vec<String>,
    /// The requests that told, for a support case.
    pub requests: Vec<String>,
    /// How long they were waited for, if they were, because roles in a new cluster take a while to come through.
    pub waited: Option<Duration>,
}

impl Missing {
    /// Whether something is missing that the cluster itself decides.
    pub fn is_of_cluster(&self) -> bool {
        self.needs
            .iter()
            .any(|need| matches!(need.right, Wanted::Verb(_)))
    }
}

const READ_CLUSTER: &str = "Microsoft.ContainerService/managedClusters/read";
const WRITE_CLUSTER: &str = "Microsoft.ContainerService/managedClusters/write";
const CREDENTIAL: &str = "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action";
const READ_VAULT: &str = "Microsoft.KeyVault/vaults/read";
const WRITE_POLICY: &str = "Microsoft.KeyVault/vaults/accessPolicies/write";
const ASSIGN: &str = "Microsoft.Authorization/roleAssignments/write";
const TRUST: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write";

/// Every action of Azure that is asked for.
pub const ACTIONS: [&str; 7] = [
    READ_CLUSTER,
    WRITE_CLUSTER,
    CREDENTIAL,
    READ_VAULT,
    WRITE_POLICY,
    ASSIGN,
    TRUST,
];

/// The rights that a plan needs, as far as it is decided; what follows from a pass that is still to come is counted in.
pub fn needs(desired: &Desired, seen: &Observation, plan: &Plan) -> Vec<Need> {
    let mut needs = azure_needs(desired, seen, plan);
    for right in cluster_needs(desired, seen, plan) {
        let purpose = match right.kind {
            Some(SECRET) if right.verb != "delete" => Purpose::Watch,
            Some(NAMESPACE) => Purpose::Namespace,
            _ => Purpose::Write,
        };
        let right = Wanted::Verb(right);
        needs.push(Need { purpose, right });
    }
    needs
}

fn azure_needs(desired: &Desired, seen: &Observation, plan: &Plan) -> Vec<Need> {
    let cluster = desired.cluster.to_string();
    let vault = desired.vault.to_string();
    let mut needs = Vec::new();
    let mut add = |purpose, action, scope: &str| {
        let scope = scope.to_owned();
        let right = Wanted::Action { action, scope };
        needs.push(Need { purpose, right });
    };
    let has = |wanted: fn(&Step) -> bool| plan.steps.iter().any(wanted);
    if seen.cluster.is_refused() {
        add(Purpose::Look, READ_CLUSTER, &cluster);
    }
    if seen.vault.is_refused() {
        add(Purpose::Look, READ_VAULT, &vault);
    }
    if has(|step| matches!(step, Step::SwitchAddon { .. })) {
        add(Purpose::Addon, WRITE_CLUSTER, &cluster);
    }
    // As long as nobody reads, nobody is granted; in the next pass somebody will have to be.
    let later = !plan.complete
        && desired.access.mode == Mode::Ensure
        && seen.cluster.present().is_some()
        && grant::reader(&desired.access.identity, seen).is_none();
    let rbac = seen.vault.present().map(|vault| vault.rbac);
    let scopes = plan.steps.iter().filter_map(|step| match step {
        Step::AssignRole { scope, .. } => Some(scope.clone()),
        _ => None,
    });
    let mut scopes: Vec<String> = scopes.collect();
    if later && rbac == Some(true) {
        scopes.extend(grant::scopes(desired, true));
    }
    for scope in scopes {
        add(Purpose::Role, ASSIGN, &scope);
    }
    let policy = has(|step| matches!(step, Step::AddAccessPolicy { .. }));
    if policy || (later && rbac == Some(false)) {
        add(Purpose::Policy, WRITE_POLICY, &vault);
    }
    if let (Some(workload), true) = (
        desired.access.workload(),
        workload::trust_step(desired, seen).is_some(),
    ) {
        add(Purpose::Trust, TRUST, &workload.id.to_string());
    }
    if seen.objects.values().any(Seen::is_refused) {
        add(Purpose::Connect, CREDENTIAL, &cluster);
    }
    needs
}

fn cluster_needs(desired: &Desired, seen: &Observation, plan: &Plan) -> Vec<Right> {
    if !desired.apply_manifests {
        return Vec::new();
    }
    let namespace = Some(desired.namespace.clone());
    let mut rights = Vec::new();
    let mut add = |kind: Kind, verbs: &[&'static str]| {
        for verb in verbs {
            let right = Right {
                verb,
                kind: Some(kind),
                namespace: namespace.clone().filter(|_| kind.namespaced),
            };
            if !rights.contains(&right) {
                rights.push(right);
            }
        }
    };
    let applied = plan.steps.iter().filter_map(|step| match step {
        Step::Apply { object, .. } | Step::Finish { object, .. } => Some(object.clone()),
        _ => None,
    });
    let objects: Vec<_> = if plan.complete {
        applied.collect()
    } else {
        manifests::objects(desired)
            .into_iter()
            .chain(workload::account(desired))
            .collect()
    };
    if desired.create_namespace && seen.namespace == Seen::Known(false) {
        add(NAMESPACE, &["create", "patch"]);
    }
    for object in &objects {
        let is_there = seen.object(&object_key(object)).is_some();
        // Server-side apply patches, and creates what is not there.
        add(
            object.kind,
            if is_there {
                &["patch"]
            } else {
                &["create", "patch"]
            },
        );
    }
    for step in &plan.steps {
        if let Step::Delete { object, .. } = step {
            add(object.kind, &["delete"]);
        }
    }
    let watches = plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::AwaitSynced { .. }));
    if !objects.is_empty() && (watches || !plan.complete) {
        add(SECRET, &["get", "list", "watch"]);
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{bare, complete, desired, memory, with_addon};
    use super::super::plan::plan;
    use super::*;

    fn needed(seen: &Observation) -> Vec<String> {
        let desired = desired();
        let plan = plan(&desired, seen, &memory());
        let text = |need: Need| match need.right {
            Wanted::Action { action, .. } => {
                action.rsplit_once('.').map_or(action, |(_, end)| end).to_owned()
            }
            Wanted::Verb(right) => format!("{} {}", right.verb, right.kind.map_or("*", |it| it.plural)),
        };
        needs(&desired, seen, &plan).into_iter().map(text).collect()
    }

    #[test]
    fn what_a_later_pass_needs_is_counted_in() {
        let all = needed(&bare());
        for expected in [
            "ContainerService/managedClusters/write",
            "Authorization/roleAssignments/write",
            "create secretproviderclasses",
            "patch ingresses",
            "watch secrets",
        ] {
            assert!(all.iter().any(|it| it == expected), "{expected}: {all:?}");
        }
        let on = needed(&with_addon());
        assert!(
            !on.iter().any(|it| it.contains("managedClusters/write")),
            "{on:?}"
        );
    }

    #[test]
    fn a_complete_binding_needs_nothing() {
        assert_eq!(needed(&complete()), Vec::<String>::new());
    }

    #[test]
    fn an_object_that_is_there_is_not_created() {
        let mut seen = complete();
        if let Some(Seen::Known(Some(live))) = seen.objects.get_mut("Ingress/shop") {
            live["spec"]["rules"] = serde_json::json!([]);
        }
        assert_eq!(
            needed(&seen),
            ["patch ingresses", "get secrets", "list secrets", "watch secrets"]
        );
    }
}
