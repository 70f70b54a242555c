//! ARM resource paths, compared without regard to case and remembered as they were written.

/// What a path of ARM points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArmPath {
    /// What stands before the last `/providers/`, or the whole path without one; no slash at the end.
    pub(super) scope: String,
    /// The subscription, as written.
    pub(super) subscription: Option<String>,
    /// The resource group, as written.
    pub(super) group: Option<String>,
    /// The last `/providers/NAMESPACE`, as written; empty without one.
    pub(super) namespace: String,
    /// What follows the namespace: type, name, type, name…, as written.
    pub(super) rest: Vec<String>,
}

impl ArmPath {
    /// Takes a URL path apart. `None` if it is not under ARM's grammar at all.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<String> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(decode)
            .collect();
        let is = |index: usize, word: &str| {
            segments
                .get(index)
                .is_some_and(|segment| segment.eq_ignore_ascii_case(word))
        };
        let named = |index: usize, word: &str| {
            is(index, word)
                .then(|| segments.get(index + 1).cloned())
                .flatten()
        };
        let subscription = named(0, "subscriptions");
        let group = subscription.as_ref().and_then(|_| named(2, "resourceGroups"));
        let providers = (0..segments.len()).rev().find(|index| is(*index, "providers"));
        let (scope, namespace, rest) = match providers {
            Some(index) => (
                &segments[..index],
                segments.get(index + 1).cloned().unwrap_or_default(),
                segments.get(index + 2..).unwrap_or_default().to_vec(),
            ),
            None => (&segments[..], String::new(), Vec::new()),
        };
        let known = scope.is_empty() || is(0, "subscriptions") || is(0, "providers") || is(0, "tenants");
        known.then(|| Self {
            scope: scope.iter().map(|segment| format!("/{segment}")).collect(),
            subscription,
            group,
            namespace,
            rest,
        })
    }

    /// The types below the namespace, joined and in lower case: `vaults/accesspolicies`.
    pub(super) fn kind(&self) -> String {
        let kinds: Vec<_> = self
            .rest
            .iter()
            .step_by(2)
            .map(|kind| kind.to_ascii_lowercase())
            .collect();
        format!("{}/{}", self.namespace.to_ascii_lowercase(), kinds.join("/"))
    }

    /// The names below the namespace, in order.
    pub(super) fn names(&self) -> Vec<&str> {
        self.rest.iter().skip(1).step_by(2).map(String::as_str).collect()
    }

    /// True if the path ends with a name, false if it ends with a type.
    pub(super) fn is_named(&self) -> bool {
        self.rest.len().is_multiple_of(2)
    }

    /// The whole path, as written.
    pub(super) fn id(&self) -> String {
        let mut id = self.scope.clone();
        if !self.namespace.is_empty() {
            id.push_str("/providers/");
            id.push_str(&self.namespace);
            for segment in &self.rest {
                id.push('/');
                id.push_str(segment);
            }
        }
        id
    }
}

/// True if `scope` is `id` or stands above it.
pub(super) fn is_at_or_above(scope: &str, id: &str) -> bool {
    let scope = scope.trim_end_matches('/').to_ascii_lowercase();
    let id = id.trim_end_matches('/').to_ascii_lowercase();
    id.strip_prefix(&scope)
        .is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// True if both name the same thing.
pub(super) fn same(left: &str, right: &str) -> bool {
    left.trim_end_matches('/')
        .eq_ignore_ascii_case(right.trim_end_matches('/'))
}

/// The last segment of an id.
pub(super) fn last_segment(id: &str) -> &str {
    id.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Percent-decoding, once.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A member of a query string, decoded; names are compared without regard to case, as ARM does.
pub(super) fn query(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        decode(key)
            .eq_ignore_ascii_case(name)
            .then(|| decode(&value.replace('+', " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_path_is_taken_apart_whatever_its_case() {
        let path = ArmPath::parse("/subscriptions/S/resourcegroups/G/providers/microsoft.keyvault/Vaults/V")
            .unwrap();
        assert_eq!(path.subscription.as_deref(), Some("S"));
        assert_eq!(path.group.as_deref(), Some("G"));
        assert_eq!(path.kind(), "microsoft.keyvault/vaults");
        assert_eq!(path.names(), ["V"]);
        assert!(path.is_named());
    }

    #[test]
    fn an_extension_resource_has_a_resource_as_its_scope() {
        let vault = "/subscriptions/S/resourceGroups/G/providers/Microsoft.KeyVault/vaults/V";
        let path = ArmPath::parse(&format!(
            "{vault}/providers/Microsoft.Authorization/roleAssignments/N"
        ))
        .unwrap();
        assert_eq!(path.scope, vault);
        assert_eq!(path.kind(), "microsoft.authorization/roleassignments");
    }

    #[test]
    fn a_scope_covers_what_is_below_it_and_nothing_that_only_begins_alike() {
        assert!(is_at_or_above("/", "/subscriptions/s"));
        assert!(is_at_or_above(
            "/subscriptions/S/",
            "/subscriptions/s/resourceGroups/g"
        ));
        assert!(!is_at_or_above(
            "/subscriptions/s/resourceGroups/g",
            "/subscriptions/s/resourceGroups/g2"
        ));
    }

    #[test]
    fn query_members_are_decoded() {
        let text = Some("$filter=principalId%20eq%20%27a%27&API-version=1");
        assert_eq!(query(text, "$filter").as_deref(), Some("principalId eq 'a'"));
        assert_eq!(query(text, "api-version").as_deref(), Some("1"));
    }
}
