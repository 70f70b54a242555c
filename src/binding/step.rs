//! One change to the world: what, on what, with which content.

use std::time::Duration;

use serde_json::Value;

use crate::azure::ids::{IdentityId, PrincipalId, VaultId};
use crate::k8s::ObjectRef;

/// A step carries every value it needs, so nothing is left to decide when it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// One update of the cluster's add-on profile.
    SwitchAddon {
        /// Whether rotation is to be on.
        rotation_enabled: bool,
        /// The poll interval to set; `None` keeps what is there.
        rotation_poll_interval: Option<String>,
    },
    /// Switches the add-on off, which nobody uses any more.
    DisableAddon,
    /// A role assignment at the vault or at one of its secrets.
    AssignRole {
        /// Where.
        scope: String,
        /// The identity that reads.
        principal: PrincipalId,
        /// Marks the assignment as ours.
        description: String,
    },
    /// An entry in the vault's access policies.
    AddAccessPolicy {
        /// The vault.
        vault: VaultId,
        /// The vault's tenant.
        tenant: String,
        /// The identity that reads.
        principal: PrincipalId,
    },
    /// Makes a user-assigned identity trust a service account.
    Trust {
        /// The identity.
        identity: IdentityId,
        /// The credential's name.
        name: String,
        /// Who issues the account's tokens.
        issuer: String,
        /// The account, as its tokens name it.
        subject: String,
    },
    /// Makes the namespace, which stays when the binding goes.
    CreateNamespace {
        /// Which.
        object: ObjectRef,
        /// Its manifest.
        manifest: Value,
    },
    /// Server-side apply of one of our objects.
    Apply {
        /// Which.
        object: ObjectRef,
        /// The fields we own.
        manifest: Value,
        /// Whether only bookkeeping differs: nothing that a plan would show.
        bookkeeping: bool,
        /// Whether nothing is there yet, so that nobody reads it before what follows.
        is_new: bool,
    },
    /// Wait until the Secrets hold the vault's certificates.
    AwaitSynced {
        /// Logical name, Secret, thumbprint of the leaf to wait for (any leaf if the vault could not be read).
        secrets: Vec<Awaited>,
        /// How much longer than usual it may take, because a Secret that exists is looked after only now and then.
        patience: Duration,
    },
    /// Wait until a handshake at the edge returns the vault's certificate.
    AwaitServed {
        /// The Ingress or Gateway that publishes the address.
        edge: ObjectRef,
        /// Whose it is to serve it, where that is known: what an Ingress class names as its controller, a Gateway's class.
        controller: Option<String>,
        /// Host, logical name of its certificate, Secret, thumbprint to wait for.
        hosts: Vec<(String, Awaited)>,
    },
    /// Writes on the SecretProviderClass that the binding is complete.
    Finish {
        /// The SecretProviderClass.
        object: ObjectRef,
        /// Its manifest with the mark.
        manifest: Value,
    },
    /// Deletes an object of ours and waits until it is gone.
    Delete {
        /// Which.
        object: ObjectRef,
        /// Only if it is still this one.
        uid: String,
    },
    /// Waits until an object that Kubernetes removes by itself is gone.
    AwaitGone {
        /// Which.
        object: ObjectRef,
    },
    /// Removes a role assignment that we made.
    RemoveRole {
        /// Its ID.
        id: String,
    },
    /// Removes a federated credential that we made.
    Distrust {
        /// The identity.
        identity: IdentityId,
        /// The credential's ID.
        credential: String,
    },
    /// Removes an access policy entry that we made.
    RemoveAccessPolicy {
        /// The vault.
        vault: VaultId,
        /// The vault's tenant.
        tenant: String,
        /// The identity it was for.
        principal: PrincipalId,
    },
}

/// A Secret and the leaf that it is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Logical name of the certificate.
    pub certificate: String,
    /// The Secret.
    pub secret_name: String,
    /// Its name in the vault.
    pub name: String,
    /// Its version in the vault; `None` if the vault could not be read.
    pub version: Option<String>,
    /// Upper-case SHA-1 hex of the leaf; `None` accepts any leaf, because the vault could not be read.
    pub thumbprint: Option<String>,
}

impl Step {
    /// The edge whose certificate is waited for, and whose it is to serve it.
    pub fn edge(&self) -> Option<(&ObjectRef, Option<&str>)> {
        match self {
            Self::AwaitServed { edge, controller, .. } => Some((edge, controller.as_deref())),
            _ => None,
        }
    }

    /// What it changes, as the guard compares it; `None` for steps that change nothing.
    pub fn target(&self) -> Option<String> {
        match self {
            Self::SwitchAddon { .. } => Some("addon".to_owned()),
            Self::AssignRole { .. } | Self::AddAccessPolicy { .. } | Self::Trust { .. } => {
                Some("grant".to_owned())
            }
            Self::Apply {
                object,
                bookkeeping: false,
                ..
            }
            | Self::Delete { object, .. }
            | Self::CreateNamespace { object, .. } => Some(object_key(object)),
            Self::RemoveRole { .. }
            | Self::RemoveAccessPolicy { .. }
            | Self::Distrust { .. }
            | Self::DisableAddon => Some("revoke".to_owned()),
            Self::Apply {
                bookkeeping: true, ..
            }
            | Self::Finish { .. }
            | Self::AwaitSynced { .. }
            | Self::AwaitServed { .. }
            | Self::AwaitGone { .. } => None,
        }
    }
}

/// `Kind/name`, the key of an object in `manifests`.
pub fn object_key(object: &ObjectRef) -> String {
    format!("{}/{}", object.kind.kind, object.name)
}
