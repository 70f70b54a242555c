//! Azure's names for things: resource IDs, principals, roles. Pure.
//!
//! Azure compares IDs without case and answers in another case than it was asked in (`resourcegroups`), so equality,
//! order and hash here ignore case, while display keeps what was written.

use std::cmp::Ordering;
use std::fmt::{self, Debug, Display};
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The ID of an AKS cluster.
#[derive(Clone)]
pub struct ClusterId(Id);

/// The ID of a key vault.
#[derive(Clone)]
pub struct VaultId(Id);

/// The ID of a user-assigned managed identity.
#[derive(Clone)]
pub struct IdentityId(Id);

/// The object ID of a principal in Entra ID: what roles and access policies are given to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalId(pub String);

/// The client ID of an application or managed identity: what asks for tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub String);

/// The roles this provider assigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// May read secret values, a certificate's key among them. All that the add-on's pods need.
    KeyVaultSecretsUser,
    /// May make, change and remove certificates. For whoever runs Terraform.
    KeyVaultCertificatesOfficer,
}

/// Why a text is not the ID that was asked for. Reads as the second half of a sentence whose subject is the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was written.
    #[error("is empty; expected {expected}, such as {example}")]
    Empty {
        /// What is asked for, with its article.
        expected: &'static str,
        /// An ID of that kind.
        example: &'static str,
    },
    /// It is an ID, but of something else.
    #[error("is {found} ID, not {expected}; expected one such as {example}")]
    OtherKind {
        /// What it is, as a possessive with its article.
        found: String,
        /// What is asked for, as a possessive with its article.
        expected: &'static str,
        /// An ID of that kind.
        example: &'static str,
    },
    /// It has the wrong shape.
    #[error("is not {expected}: {reason}; expected one such as {example}")]
    Shape {
        /// What is asked for, with its article.
        expected: &'static str,
        /// What is wrong.
        reason: String,
        /// An ID of that kind.
        example: &'static str,
    },
}

/// Parts of an ID, and the text they were read from.
#[derive(Clone)]
struct Id {
    written: String,
    subscription: String,
    resource_group: String,
    name: String,
}

struct Pattern {
    expected: &'static str,
    possessive: &'static str,
    example: &'static str,
    namespace: &'static str,
    kind: &'static str,
}

const CLUSTER: Pattern = Pattern {
    expected: "an AKS cluster's resource ID",
    possessive: "a cluster's",
    example: "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/my-group/providers/Microsoft.ContainerService/managedClusters/my-cluster",
    namespace: "Microsoft.ContainerService",
    kind: "managedClusters",
};

const VAULT: Pattern = Pattern {
    expected: "a key vault's resource ID",
    possessive: "a vault's",
    example: "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/my-group/providers/Microsoft.KeyVault/vaults/my-vault",
    namespace: "Microsoft.KeyVault",
    kind: "vaults",
};

const IDENTITY: Pattern = Pattern {
    expected: "a user-assigned identity's resource ID",
    possessive: "a managed identity's",
    example: "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/my-group/providers/Microsoft.ManagedIdentity/userAssignedIdentities/my-identity",
    namespace: "Microsoft.ManagedIdentity",
    kind: "userAssignedIdentities",
};

impl Pattern {
    fn parse(&self, text: &str) -> Result<Id, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty {
                expected: self.expected,
                example: self.example,
            });
        }
        if text.contains("://") {
            return Err(self.shape("it is a URL"));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(self.shape("it does not start with \"/\""));
        };
        let segments: Vec<&str> = rest.split('/').collect();
        if text.ends_with('/') {
            return Err(self.shape("it ends with \"/\""));
        }
        if segments.iter().any(|segment| segment.is_empty()) {
            return Err(self.shape("it has an empty segment"));
        }
        self.read(text, &segments)
    }

    fn read(&self, text: &str, segments: &[&str]) -> Result<Id, IdError> {
        self.expect(segments, 0, "subscriptions")?;
        let subscription = self.value(segments, 1, "the subscription")?;
        if !is_guid(subscription) {
            return Err(self.shape(&format!("\"{subscription}\" is not a subscription's GUID")));
        }
        self.expect(segments, 2, "resourceGroups")?;
        let resource_group = self.value(segments, 3, "the resource group")?;
        self.expect(segments, 4, "providers")?;
        let namespace = self.value(segments, 5, "the resource provider")?;
        let kind = self.value(segments, 6, "the resource type")?;
        if !namespace.eq_ignore_ascii_case(self.namespace) || !kind.eq_ignore_ascii_case(self.kind) {
            let found = possessive(namespace, kind);
            return Err(IdError::OtherKind {
                found,
                expected: self.possessive,
                example: self.example,
            });
        }
        let name = self.value(segments, 7, "the name")?;
        if let Some(extra) = segments.get(8) {
            return Err(self.shape(&format!("it goes on after the name, with \"/{extra}\"")));
        }
        Ok(Id {
            written: text.to_owned(),
            subscription: subscription.to_owned(),
            resource_group: resource_group.to_owned(),
            name: name.to_owned(),
        })
    }

    fn expect(&self, segments: &[&str], index: usize, word: &str) -> Result<(), IdError> {
        match segments.get(index) {
            Some(segment) if segment.eq_ignore_ascii_case(word) => Ok(()),
            Some(segment) => Err(self.shape(&format!("it has \"{segment}\" where \"{word}\" belongs"))),
            None => Err(self.shape(&format!("it ends before \"{word}\""))),
        }
    }

    fn value<'a>(&self, segments: &[&'a str], index: usize, what: &str) -> Result<&'a str, IdError> {
        segments
            .get(index)
            .copied()
            .ok_or_else(|| self.shape(&format!("it ends before {what}")))
    }

    fn shape(&self, reason: &str) -> IdError {
        IdError::Shape {
            expected: self.expected,
            reason: reason.to_owned(),
            example: self.example,
        }
    }
}

/// What an ID's resource type is called, for the sentence "is … ID".
fn possessive(namespace: &str, kind: &str) -> String {
    let known = [
        ("Microsoft.ContainerService", "managedClusters", "a cluster's"),
        ("Microsoft.KeyVault", "vaults", "a vault's"),
        ("Microsoft.KeyVault", "managedHSMs", "a managed HSM's"),
        (
            "Microsoft.ManagedIdentity",
            "userAssignedIdentities",
            "a managed identity's",
        ),
    ];
    let found = known
        .iter()
        .find(|(n, k, _)| n.eq_ignore_ascii_case(namespace) && k.eq_ignore_ascii_case(kind))
        .map(|(_, _, words)| (*words).to_owned());
    found.unwrap_or_else(|| format!("a {namespace}/{kind}"))
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

macro_rules! id {
    ($name:ident, $pattern:ident, $what:literal) => {
        impl $name {
            #[doc = concat!("Reads ", $what, " ID.")]
            ///
            /// # Errors
            /// [`IdError`] says what was expected and what was found.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                $pattern.parse(text).map(Self)
            }

            /// The subscription's GUID, as written.
            pub fn subscription(&self) -> &str {
                &self.0.subscription
            }

            /// The resource group, as written.
            pub fn resource_group(&self) -> &str {
                &self.0.resource_group
            }

            /// The last segment, as written.
            pub fn name(&self) -> &str {
                &self.0.name
            }

            /// The whole ID, as written.
            pub fn as_str(&self) -> &str {
                &self.0.written
            }

            fn key(&self) -> String {
                self.0.written.to_ascii_lowercase()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.written)
            }
        }

        impl Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.written)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.written.eq_ignore_ascii_case(&other.0.written)
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.key().hash(state);
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.key().cmp(&other.key())
            }
        }
    };
}

id!(ClusterId, CLUSTER, "an AKS cluster's");
id!(VaultId, VAULT, "a key vault's");
id!(IdentityId, IDENTITY, "a user-assigned identity's");

impl Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Role {
    /// The GUID of the role's definition, the same in every tenant and cloud.
    pub fn guid(self) -> &'static str {
        match self {
            Self::KeyVaultSecretsUser => "4633458b-17de-408a-b874-0445c86b69e6",
            Self::KeyVaultCertificatesOfficer => "a4417e6f-fecd-4de8-b567-7b0420556985",
        }
    }

    /// The name the portal and the CLI show.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyVaultSecretsUser => "Key Vault Secrets User",
            Self::KeyVaultCertificatesOfficer => "Key Vault Certificates Officer",
        }
    }

    /// The role of a definition's GUID, if it is one of ours.
    pub fn of_guid(guid: &str) -> Option<Self> {
        [Self::KeyVaultSecretsUser, Self::KeyVaultCertificatesOfficer]
            .into_iter()
            .find(|role| role.guid().eq_ignore_ascii_case(guid))
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const CLUSTER_TEXT: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/Shop/providers/Microsoft.ContainerService/managedClusters/aks-prod";
    const VAULT_TEXT: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/Shop/providers/Microsoft.KeyVault/vaults/kv-prod";

    #[test]
    fn an_id_keeps_what_was_written_and_compares_without_case() {
        let id = ClusterId::parse(CLUSTER_TEXT).unwrap();
        assert_eq!(
            (id.resource_group(), id.name(), id.to_string().as_str()),
            ("Shop", "aks-prod", CLUSTER_TEXT)
        );
        let other =
            ClusterId::parse(&CLUSTER_TEXT.replace("resourceGroups/Shop", "resourcegroups/shop")).unwrap();
        assert_eq!(id, other);
        assert_eq!(id.cmp(&other), Ordering::Equal);
        assert!(HashSet::from([id]).contains(&other));
    }

    #[test]
    fn what_is_wrong_with_an_id_is_said() {
        let rows = [
            ("", "is empty"),
            ("aks-prod", "does not start with \"/\""),
            ("https://portal.azure.com/x", "it is a URL"),
            (VAULT_TEXT, "is a vault's ID, not a cluster's"),
            (
                "/subscriptions/abc/resourceGroups/x",
                "\"abc\" is not a subscription's GUID",
            ),
            (
                "/subscriptions/11111111-1111-1111-1111-111111111111/groups/x",
                "\"groups\" where \"resourceGroups\"",
            ),
            (
                "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/x",
                "ends before \"providers\"",
            ),
            ("/subscriptions//resourceGroups/x", "empty segment"),
            (&format!("{CLUSTER_TEXT}/"), "it ends with \"/\""),
        ];
        for (text, expected) in rows {
            let error = ClusterId::parse(text).expect_err(text).to_string();
            assert!(
                error.contains(expected) && error.contains("such as /subscriptions/"),
                "{text}: {error}"
            );
        }
        let nested = ClusterId::parse(&format!("{CLUSTER_TEXT}/agentPools/one"))
            .unwrap_err()
            .to_string();
        assert!(nested.contains("goes on after the name"), "{nested}");
        let swapped = VaultId::parse(CLUSTER_TEXT).unwrap_err().to_string();
        assert!(swapped.contains("is a cluster's ID, not a vault's"), "{swapped}");
        let other = VaultId::parse(&VAULT_TEXT.replace("Microsoft.KeyVault/vaults", "Microsoft.Web/sites"));
        assert!(
            other
                .unwrap_err()
                .to_string()
                .contains("is a Microsoft.Web/sites ID")
        );
    }

    #[test]
    fn a_role_is_found_by_its_guid() {
        assert_eq!(
            Role::of_guid("4633458B-17DE-408A-B874-0445C86B69E6"),
            Some(Role::KeyVaultSecretsUser)
        );
        assert_eq!(Role::of_guid("00000000-0000-0000-0000-000000000000"), None);
    }
}
