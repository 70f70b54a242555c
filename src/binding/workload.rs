//! Workload identity: the sync pods read the vault as a user-assigned identity that trusts their service account. Pure.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::desired::{Desired, Mode, Workload};
use super::manifests::{self, MANAGED_BY};
use super::observation::{Observation, Seen};
use super::step::Step;
use crate::azure::FederatedCredential;
use crate::azure::ids::ClusterId;
use crate::k8s::{ObjectRef, SERVICE_ACCOUNT};

/// Names the identity on a service account, for people and for the webhook; the mount itself does not need it.
const CLIENT_ID: &str = "azure.workload.identity/client-id";
/// Marks pods that use workload identity.
const USE: &str = "azure.workload.identity/use";

/// The service account of the sync pods, if they read as a workload identity.
pub fn account(desired: &Desired) -> Option<ObjectRef> {
    let workload = desired.access.workload()?;
    Some(SERVICE_ACCOUNT.named(&desired.namespace, &workload.service_account))
}

/// The service account's manifest, without stamps.
pub fn account_manifest(desired: &Desired, workload: &Workload, client_id: &str) -> Value {
    json!({
        "apiVersion": SERVICE_ACCOUNT.api_version(),
        "kind": SERVICE_ACCOUNT.kind,
        "metadata": {
            "name": workload.service_account,
            "namespace": desired.namespace,
            "labels": { MANAGED_BY.0: MANAGED_BY.1 },
            "annotations": { CLIENT_ID: client_id },
        },
    })
}

/// Whether a service account that is there is this binding's own. Any other one is used as it is.
pub fn is_own(desired: &Desired, live: &Value) -> bool {
    manifests::annotation(live, manifests::BINDING).is_some_and(|it| it.eq_ignore_ascii_case(&desired.id()))
}

/// Makes the sync pods run as the service account.
pub fn adapt(desired: &Desired, deployment: &mut Value) {
    let Some(workload) = desired.access.workload() else {
        return;
    };
    let template = &mut deployment["spec"]["template"];
    template["metadata"]["labels"][USE] = json!("true");
    template["spec"]["serviceAccountName"] = json!(workload.service_account);
}

/// The parameters of a SecretProviderClass by which the pods' own identity reads.
pub fn parameters(parameters: &mut Map<String, Value>, client_id: &str) {
    parameters.insert("useVMManagedIdentity".to_owned(), json!("false"));
    parameters.insert("clientID".to_owned(), json!(client_id));
}

/// Whom the identity has to trust.
pub fn subject(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// The name of a credential that we make: the same for the same account of the same cluster, at most 120 characters.
pub fn credential_name(cluster: &ClusterId, subject: &str) -> String {
    let content = format!("{cluster}|{subject}").to_ascii_lowercase();
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, content.as_bytes()).simple();
    let name = cluster.name();
    format!("kvtls-{}-{}", &name[..name.len().min(60)], hash)
}

/// The credential by which the identity trusts the service account, if it does.
pub fn trust<'a>(desired: &Desired, seen: &'a Observation) -> Option<&'a FederatedCredential> {
    let workload = desired.access.workload()?;
    let issuer = seen.cluster.present()?.oidc_issuer.as_deref()?;
    let subject = subject(&desired.namespace, &workload.service_account);
    let all = seen.federated.known()?;
    all.iter().find(|credential| credential.trusts(issuer, &subject))
}

/// Whether kvtls made a credential for this binding's service account.
pub fn is_own_trust(desired: &Desired, credential: &FederatedCredential) -> bool {
    let Some(workload) = desired.access.workload() else {
        return false;
    };
    let subject = subject(&desired.namespace, &workload.service_account);
    let name = credential_name(&desired.cluster, &subject);
    let last = credential.id.rsplit('/').next().unwrap_or_default();
    last.eq_ignore_ascii_case(&name)
}

/// The step that makes the identity trust the service account; none if it does, or if that is somebody else's to do.
pub fn trust_step(desired: &Desired, seen: &Observation) -> Option<Step> {
    let workload = desired.access.workload()?;
    if workload.federated != Mode::Ensure
        || trust(desired, seen).is_some()
        || !matches!(seen.federated, Seen::Known(_))
    {
        return None;
    }
    let issuer = seen.cluster.present()?.oidc_issuer.clone()?;
    let subject = subject(&desired.namespace, &workload.service_account);
    Some(Step::Trust {
        identity: workload.id.clone(),
        name: credential_name(&desired.cluster, &subject),
        issuer,
        subject,
    })
}
