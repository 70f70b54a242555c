//! A binding and a world around it, for tests of the pure middle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::macros::datetime;

use super::desired::{
    Access, AddonPolicy, Certificate, Connection, Desired, Expiry, GrantScope, Identity, Ingress, Mode,
    PathRule, Port, ReadSecret, Resources, Rule, Sync, Verify, VerifyLevel, Via,
};
use super::gateway::{Gateway, Listener, Parent};
use super::observation::{Observation, Seen};
use super::plan::Memory;
use super::step::{Step, object_key};
use crate::azure::ids::{ClientId, ClusterId, PrincipalId, VaultId};
use crate::azure::{Addon, AddonIdentity, Cluster, RoleAssignment, Vault, VaultCertificate};
use crate::k8s::SecretCertificate;
use crate::k8s::edge::Served;
use crate::tls::{Fingerprint, Leaf, Thumbprint};

pub(super) const INSTANCE: &str = "11111111-1111-1111-1111-111111111111";
pub(super) const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

pub(super) fn desired() -> Desired {
    let cluster = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/aks-prod";
    let vault = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv-prod";
    let certificate = Certificate {
        certificate: "my-tls-cert".to_owned(),
        hosts: vec!["myapp.example.com".to_owned()],
        secret_name: "shop-web".to_owned(),
        version: None,
    };
    let path = PathRule {
        path: "/".to_owned(),
        path_type: "Prefix".to_owned(),
        service: "my-app".to_owned(),
        port: Port::Number(80),
    };
    Desired {
        name: "shop".to_owned(),
        cluster: ClusterId::parse(cluster).unwrap(),
        vault: VaultId::parse(vault).unwrap(),
        namespace: "shop".to_owned(),
        certificates: BTreeMap::from([("web".to_owned(), certificate)]),
        addon: AddonPolicy {
            mode: Mode::Ensure,
            rotation_enabled: true,
            rotation_poll_interval: None,
            disable_if_unused: false,
        },
        access: Access {
            mode: Mode::Ensure,
            rbac: None,
            scope: GrantScope::Vault,
            propagation: Duration::from_secs(600),
            identity: Identity::Addon,
        },
        ingress: Some(Ingress {
            name: "shop".to_owned(),
            class_name: Some("nginx".to_owned()),
            rules: vec![Rule {
                host: "myapp.example.com".to_owned(),
                paths: vec![path],
            }],
            extra_tls: Vec::new(),
            ssl_redirect: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        }),
        gateway: None,
        verify: Verify {
            level: VerifyLevel::Auto,
            via: Via::Auto,
            endpoint: None,
            on_refresh: true,
            timeout: Duration::from_secs(300),
            read_secret: ReadSecret::Apply,
        },
        expiry: Expiry {
            warn: Duration::from_secs(30 * 24 * 3600),
            fail: None,
        },
        create_namespace: false,
        sync: sync(),
        default_labels: BTreeMap::new(),
        apply_manifests: true,
        force_conflicts: false,
        connection: Connection::default(),
    }
}

/// A Gateway of one's own with a listener for the host, and no rules yet.
pub(super) fn own_gateway() -> Gateway {
    let host = "myapp.example.com".to_owned();
    let listener = Listener {
        host: host.clone(),
        certificate: "web".to_owned(),
        port: 443,
        allowed_routes: "Same".to_owned(),
    };
    Gateway {
        name: "shop".to_owned(),
        parent: Parent::Own {
            class: "approuting-istio".to_owned(),
        },
        listeners: BTreeMap::from([(host, listener)]),
        rules: Vec::new(),
        ssl_redirect: true,
        infrastructure_labels: BTreeMap::new(),
        infrastructure_annotations: BTreeMap::new(),
        addresses: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        grants_from: BTreeSet::new(),
    }
}

fn sync() -> Sync {
    Sync {
        image: "mcr.microsoft.com/azurelinux/busybox:1.36".to_owned(),
        replicas: 1,
        resources: Resources {
            cpu_request: "10m".to_owned(),
            memory_request: "16Mi".to_owned(),
            cpu_limit: "20m".to_owned(),
            memory_limit: "32Mi".to_owned(),
        },
        node_selector: BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]),
        tolerations: Vec::new(),
        priority_class_name: None,
        image_pull_secrets: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

pub(super) fn memory() -> Memory {
    Memory {
        instance: INSTANCE.to_owned(),
        ..Memory::default()
    }
}

/// A leaf whose thumbprint is that of `name`.
pub(super) fn leaf(name: &str) -> Leaf {
    Leaf {
        subject: "CN=myapp.example.com".to_owned(),
        issuer: "CN=issuer".to_owned(),
        hosts: vec!["myapp.example.com".to_owned()],
        not_before: datetime!(2026-11-01 0:00 UTC),
        not_after: datetime!(2027-11-01 0:00 UTC),
        thumbprint: Thumbprint::of_der(name.as_bytes()),
        fingerprint: Fingerprint::of_der(name.as_bytes()),
        self_signed: false,
        serial: "01".to_owned(),
    }
}

/// A world in which nothing of the binding exists, and all that it needs does.
pub(super) fn bare() -> Observation {
    let desired = desired();
    let mut seen = Observation::blind(NOW);
    seen.cluster = Seen::Known(Some(Cluster {
        id: desired.cluster.clone(),
        location: "eastus".to_owned(),
        provisioning_state: "Succeeded".to_owned(),
        power: Some("Running".to_owned()),
        server: Some("aks.example".to_owned()),
        private: false,
        entra: false,
        azure_rbac: false,
        local_accounts_disabled: false,
        kubernetes_version: Some("1.34.2".to_owned()),
        tenant_id: Some("tenant".to_owned()),
        oidc_issuer: None,
        etag: Some("1".to_owned()),
        addon: Addon::default(),
    }));
    seen.vault = Seen::Known(Some(Vault {
        id: desired.vault.clone(),
        uri: "https://kv-prod.vault.azure.net/".to_owned(),
        tenant_id: "tenant".to_owned(),
        rbac: true,
        provisioning_state: "Succeeded".to_owned(),
        policies: Vec::new(),
    }));
    seen.certificates
        .insert("web".to_owned(), Seen::Known(Some(vault_certificate("v1"))));
    seen.namespace = Seen::Known(true);
    for key in ["SecretProviderClass/shop", "Deployment/shop", "Ingress/shop"] {
        seen.objects.insert(key.to_owned(), Seen::Known(None));
    }
    seen.secrets.insert("shop-web".to_owned(), Seen::Known(None));
    seen
}

pub(super) fn vault_certificate(name: &str) -> VaultCertificate {
    VaultCertificate {
        name: "my-tls-cert".to_owned(),
        version: name.to_owned(),
        leaf: leaf(name),
        enabled: true,
        exportable: Some(true),
        content_type: None,
        seen_at: NOW,
        created_at: Some(datetime!(2026-11-01 0:00 UTC)),
    }
}

/// The same, with the add-on on as wished.
pub(super) fn with_addon() -> Observation {
    let mut seen = bare();
    if let Seen::Known(Some(cluster)) = &mut seen.cluster {
        cluster.addon = Addon {
            enabled: true,
            rotation_enabled: true,
            rotation_poll_interval: Some("2m".to_owned()),
            identity: Some(AddonIdentity {
                client_id: ClientId("client".to_owned()),
                object_id: PrincipalId("object".to_owned()),
                resource_id: "resource".to_owned(),
            }),
        };
    }
    seen.assignments = Seen::Known(Vec::new());
    seen
}

/// The same, with everything in place and served.
pub(super) fn complete() -> Observation {
    let mut seen = with_addon();
    seen.assignments = Seen::Known(vec![RoleAssignment {
        id: "assignment".to_owned(),
        scope: desired().vault.to_string(),
        role_guid: "4633458b-17de-408a-b874-0445c86b69e6".to_owned(),
        reads_secrets: true,
        principal: PrincipalId("object".to_owned()),
        description: Some(format!("kvtls: {}", desired().cluster)),
    }]);
    for step in super::plan::plan(&desired(), &seen, &memory()).steps {
        let (Step::Apply { object, manifest, .. } | Step::Finish { object, manifest }) = step else {
            continue;
        };
        seen.objects
            .insert(object_key(&object), Seen::Known(Some(defaulted(manifest))));
    }
    seen.secrets
        .insert("shop-web".to_owned(), Seen::Known(Some(secret("v1"))));
    let served = Served {
        leaf: leaf("v1"),
        chain_length: 1,
    };
    seen.served
        .insert("myapp.example.com".to_owned(), Seen::Known(served));
    seen
}

pub(super) fn secret(name: &str) -> SecretCertificate {
    SecretCertificate {
        leaf: Some(leaf(name)),
        chain: Vec::new(),
        secret_type: "kubernetes.io/tls".to_owned(),
        managed: true,
        has_key: true,
        key_fits: Some(true),
    }
}

/// A manifest as the server returns it.
fn defaulted(mut manifest: Value) -> Value {
    manifest["metadata"]["uid"] = Value::from("uid");
    manifest["metadata"]["resourceVersion"] = Value::from("7");
    manifest["status"] = serde_json::json!({});
    manifest
}
