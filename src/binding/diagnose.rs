//! Why a Secret does not appear: the driver's events, read like an operator would. Pure.
//!
//! The messages are nested (kubelet, driver, provider, Azure SDK) and cut at 1,024 bytes, so causes are told by the
//! shortest fragment that identifies them; reference: the failure table of the Secrets Store CSI research, section 2.7.

use crate::k8s::SecretCertificate;
use crate::tls::Leaf;

/// A cause, the line that proves it, and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What is wrong.
    pub cause: String,
    /// The proving line; empty if there is none.
    pub evidence: String,
    /// What to do.
    pub fix: String,
}

/// Fragment, cause, fix; the first match decides, so special cases stand before general ones.
const CAUSES: &[(&str, &str, &str)] = &[
    (
        "ForbiddenByRbac",
        "The add-on's identity has no role that reads secrets of the vault, or the role has not taken effect yet",
        "Wait up to ten minutes and apply again, or assign \"Key Vault Secrets User\" to the object ID in the message.",
    ),
    (
        "does not have secrets get permission",
        "The vault uses access policies and the add-on's identity is not in them",
        "Give it the secret permission \"get\", or let kvtls do so with  access = { mode = \"ensure\" }.",
    ),
    (
        "ForbiddenByFirewall",
        "The vault's firewall does not let the cluster in",
        "Allow the cluster's egress addresses or subnet in the vault's network settings.",
    ),
    (
        "ForbiddenByConnection",
        "The vault is private and the cluster reaches its public name",
        "Link the private DNS zone privatelink.vaultcore.azure.net to the cluster's network.",
    ),
    (
        "SecretDisabled",
        "The certificate's current version is disabled",
        "Enable or renew it in the vault.",
    ),
    (
        "SecretNotFound",
        "The vault has no such certificate, or it is deleted",
        "Check the certificate's name; recover it if it was deleted.",
    ),
    (
        "Identity not found",
        "The add-on's identity is not attached to the cluster's nodes",
        "Switch the add-on off and on, or run  az aks update  to repair the nodes' identities.",
    ),
    (
        "Multiple user assigned identities",
        "The nodes have several identities and none was chosen",
        "Plan and apply again, so that the SecretProviderClass names the add-on's identity.",
    ),
    (
        "not found in the list of registered CSI drivers",
        "The Secrets Store CSI driver does not run on the pod's node",
        "Check the DaemonSet aks-secrets-store-csi-driver in kube-system.",
    ),
    (
        "provider not found",
        "The driver's Azure provider does not run on the pod's node",
        "Check the DaemonSet aks-secrets-store-provider-azure in kube-system.",
    ),
    (
        "isn't configured to acquire tokens for tenant",
        "The vault belongs to another tenant than the identity",
        "Use a vault of the cluster's tenant.",
    ),
    (
        "unknown digest algorithm",
        "The certificate's PFX uses an encryption that the driver cannot read",
        "Import it into Key Vault again as a certificate.",
    ),
    (
        "error reading P12 data",
        "The certificate's private key cannot be exported",
        "Make the key exportable in the certificate's policy and renew it.",
    ),
    (
        "timed out waiting for the condition",
        "The Secret exists with another type or may not be written",
        "Delete the Secret of that name, or choose another  secret_name.",
    ),
    (
        "429",
        "Key Vault throttles the cluster",
        "Raise  addon.rotation_poll_interval.",
    ),
    (
        "context deadline exceeded",
        "The cluster cannot reach the vault or the sign-in service",
        "Open port 443 to the vault's host name and the authority from the cluster.",
    ),
];

/// What the evidence says, newest message first.
pub fn diagnose<'a>(messages: impl IntoIterator<Item = &'a str>) -> Diagnosis {
    let mut first = None;
    for message in messages {
        if let Some((_, cause, fix)) = CAUSES.iter().find(|(fragment, _, _)| message.contains(fragment)) {
            return Diagnosis {
                cause: (*cause).to_owned(),
                evidence: one_line(message),
                fix: (*fix).to_owned(),
            };
        }
        first = first.or(Some(message));
    }
    Diagnosis {
        cause: if first.is_some() {
            "The pods that mount the certificate do not start".to_owned()
        } else {
            "No event says why".to_owned()
        },
        evidence: first.map(one_line).unwrap_or_default(),
        fix:
            "Look at  kubectl describe pods -l app.kubernetes.io/name=kvtls-sync  in the binding's namespace."
                .to_owned(),
    }
}

/// What is wrong with a Secret that is there and was to hold the leaf with this thumbprint.
pub fn secret_flaw(name: &str, secret: &SecretCertificate, thumbprint: Option<&str>) -> Option<Diagnosis> {
    /// The type of the Secrets that a controller takes certificates from.
    const TLS: &str = "kubernetes.io/tls";
    let anew = format!(
        "kubectl delete secret {name}  and apply again; the edge serves its own certificate in between"
    );
    let told = |cause: String, fix: String| {
        let evidence = String::new();
        Some(Diagnosis { cause, evidence, fix })
    };
    let is_wanted = |leaf: &Leaf| thumbprint == Some(leaf.thumbprint.to_string().as_str());
    if secret.secret_type != TLS {
        return told(
            format!(
                "Secret {name} is of type {}, and no controller takes a certificate from one that is not {TLS}. The \
                 type of a Secret cannot be changed",
                secret.secret_type
            ),
            format!("Somebody else made it. If nobody needs it:  {anew}."),
        );
    }
    if secret.chain.iter().any(is_wanted) {
        return told(
            format!(
                "Secret {name} holds the vault's certificate, and not at the beginning of its chain, so servers send \
                 another one as their own"
            ),
            "Import the certificate into the vault with the leaf first, then its intermediates.".to_owned(),
        );
    }
    let leaf = secret.leaf.as_ref()?;
    if thumbprint.is_some() && !is_wanted(leaf) {
        return told(
            format!(
                "Secret {name} still holds another certificate (thumbprint {}). The driver renews an existing Secret \
                 only while rotation is on, once in a poll interval",
                leaf.thumbprint
            ),
            format!("Set  addon = {{ rotation_enabled = true }}  and wait, or  {anew}."),
        );
    }
    if !secret.has_key {
        return told(
            format!("Secret {name} holds the certificate and no key, so no server can use it"),
            format!("Somebody changed it, or the key is not exportable. If it is:  {anew}."),
        );
    }
    if secret.key_fits == Some(false) {
        return told(
            format!(
                "Secret {name} holds the certificate and the key of another one, so no server can use it. Somebody \
                 changed the Secret: the driver writes both from one answer of the vault"
            ),
            format!(
                "See who:  kubectl get secret {name} --show-managed-fields -o jsonpath='{{.metadata.managedFields[*].manager}}'. \
                 Then  {anew}."
            ),
        );
    }
    None
}

/// A multi-line message on one line, white space folded.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_code_decides_even_when_the_message_is_cut() {
        let message = "MountVolume.SetUp failed for volume \"certificates\" : rpc error: code = Unknown desc = \
                       failed to mount objects, error: RESPONSE 403: 403 Forbidden\nERROR CODE: Forbidden\n \
                       {\"error\":{\"innererror\":{\"code\":\"ForbiddenByRbac\"";
        let found = diagnose(["Back-off restarting", message]);
        assert!(found.cause.contains("no role"), "{found:?}");
        assert!(
            found.evidence.starts_with("MountVolume.SetUp failed"),
            "{found:?}"
        );
        assert!(!found.evidence.contains('\n'), "{found:?}");
    }

    #[test]
    fn without_a_known_fragment_the_newest_message_is_shown() {
        assert_eq!(diagnose(["a b", "c"]).evidence, "a b");
        assert_eq!(diagnose([]).evidence, "");
    }

    #[test]
    fn a_secret_says_itself_what_is_wrong_with_it() {
        use super::super::fixtures::{leaf, secret};
        type Change = fn(&mut SecretCertificate);
        let wanted = leaf("v1").thumbprint.to_string();
        let told = |change: Change| {
            let mut secret = secret("v1");
            change(&mut secret);
            secret_flaw("tls", &secret, Some(&wanted)).map(|flaw| flaw.cause)
        };
        assert_eq!(told(|_| {}), None);
        let rows: [(Change, &str); 5] = [
            (|it| it.secret_type = "Opaque".to_owned(), "of type Opaque"),
            (|it| it.leaf = Some(leaf("v0")), "still holds another certificate"),
            (
                |it| it.chain = vec![it.leaf.replace(leaf("ca")).unwrap()],
                "beginning of its chain",
            ),
            (|it| it.has_key = false, "no key"),
            (|it| it.key_fits = Some(false), "the key of another one"),
        ];
        for (change, words) in rows {
            let cause = told(change).unwrap();
            assert!(cause.contains(words), "{cause}");
        }
    }
}
