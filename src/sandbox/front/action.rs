//! What a request would do, in the words of the plane's own permissions: computed from method and path alone, before
//! the plane sees it, so that a fault can match it and act before any effect.

use http::Method;

/// ARM: the resource type at the end of the path, and the verb.
///
/// `PUT …/providers/Microsoft.ContainerService/managedClusters/a` is `Microsoft.ContainerService/managedClusters/write`,
/// `POST …/managedClusters/a/listClusterUserCredential` ends in `/listClusterUserCredential/action`.
pub(crate) fn arm(method: &Method, path: &str) -> Option<String> {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut kind = match segments
        .iter()
        .rposition(|segment| segment.eq_ignore_ascii_case("providers"))
    {
        Some(at) => {
            let (namespace, rest) = segments.get(at + 1..)?.split_first()?;
            let types = rest.iter().step_by(2);
            types.fold((*namespace).to_owned(), |kind, segment| {
                format!("{kind}/{segment}")
            })
        }
        None => {
            let types = segments.iter().step_by(2);
            types.fold("Microsoft.Resources".to_owned(), |kind, segment| {
                format!("{kind}/{segment}")
            })
        }
    };
    kind.push_str(match *method {
        Method::GET | Method::HEAD => "/read",
        Method::PUT | Method::PATCH => "/write",
        Method::DELETE => "/delete",
        Method::POST => "/action",
        _ => return None,
    });
    Some(kind)
}

/// A vault: its data actions.
pub(crate) fn vault(method: &Method, path: &str) -> Option<String> {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let kind = match segments.first()? {
        deleted if deleted.starts_with("deleted") => match *deleted {
            "deletedcertificates" => "certificates",
            "deletedsecrets" => "secrets",
            "deletedkeys" => "keys",
            _ => return None,
        },
        kind => kind,
    };
    let last = *segments.last()?;
    let verb = match (method, kind) {
        (&Method::GET, "secrets") if segments.len() == 1 || last == "versions" => "readMetadata/action",
        (&Method::GET, "secrets") => "getSecret/action",
        (&Method::PUT, "secrets") => "setSecret/action",
        (&Method::GET, _) => "read",
        (&Method::DELETE, _) if segments.first().is_some_and(|first| first.starts_with("deleted")) => {
            "purge/action"
        }
        (&Method::DELETE, _) => "delete",
        (&Method::PATCH, _) => "update/action",
        (&Method::POST, _) => match last {
            "create" => "create/action",
            "import" => "import/action",
            "recover" => "recover/action",
            _ => "update/action",
        },
        _ => "write",
    };
    Some(format!("Microsoft.KeyVault/vaults/{kind}/{verb}"))
}

/// Kubernetes: group (left out for the core), resource, verb: `networking.k8s.io/ingresses/patch`, `pods/status/update`.
pub(crate) fn kubernetes(method: &Method, path: &str, query: &str) -> Option<String> {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, rest) = match segments.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] if !rest.is_empty() && !matches!(*rest, ["status" | "finalize"]) => rest,
        rest => rest,
    };
    let (resource, name, below) = match rest {
        [resource] => (*resource, None, None),
        [resource, name] => (*resource, Some(*name), None),
        [resource, name, below, ..] => (*resource, Some(*name), Some(*below)),
        [] => return None,
    };
    let watches = query
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"));
    let verb = match *method {
        Method::GET if watches => "watch",
        Method::GET if name.is_some() => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_some() => "delete",
        Method::DELETE => "deletecollection",
        _ => return None,
    };
    let parts = [
        Some(group).filter(|group| !group.is_empty()),
        Some(resource),
        below,
        Some(verb),
    ];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_read_from_method_and_path() {
        const CLUSTER: &str =
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/a";
        let credential = format!("{CLUSTER}/listClusterUserCredential");
        let assignment = format!("{CLUSTER}/providers/Microsoft.Authorization/roleAssignments/r");
        for (method, path, expected) in [
            (
                Method::PUT,
                CLUSTER,
                "Microsoft.ContainerService/managedClusters/write",
            ),
            (
                Method::POST,
                &credential,
                "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action",
            ),
            (
                Method::DELETE,
                &assignment,
                "Microsoft.Authorization/roleAssignments/delete",
            ),
            (
                Method::GET,
                "/subscriptions/s/resourceGroups/g",
                "Microsoft.Resources/subscriptions/resourceGroups/read",
            ),
        ] {
            assert_eq!(arm(&method, path).as_deref(), Some(expected));
        }
        let certificate = vault(&Method::GET, "/certificates/c/v");
        assert_eq!(
            certificate.as_deref(),
            Some("Microsoft.KeyVault/vaults/certificates/read")
        );
        let secret = vault(&Method::GET, "/secrets/c");
        assert_eq!(
            secret.as_deref(),
            Some("Microsoft.KeyVault/vaults/secrets/getSecret/action")
        );
        for (method, path, query, expected) in [
            (
                Method::PATCH,
                "/apis/networking.k8s.io/v1/namespaces/d/ingresses/i",
                "",
                "networking.k8s.io/ingresses/patch",
            ),
            (Method::GET, "/api/v1/namespaces/d", "", "namespaces/get"),
            (Method::GET, "/api/v1/pods", "watch=true", "pods/watch"),
            (Method::GET, "/api/v1/namespaces/d/pods", "", "pods/list"),
            (
                Method::PUT,
                "/api/v1/namespaces/d/pods/p/status",
                "",
                "pods/status/update",
            ),
        ] {
            assert_eq!(kubernetes(&method, path, query).as_deref(), Some(expected));
        }
    }
}
