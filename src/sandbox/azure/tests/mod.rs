//! The whole room in process: calls as they arrive from the front, on a clock that tests move.

mod arm;
mod recordings;
mod roles;
mod vault;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Azure;
use crate::sandbox::certificates::{Authority, Issuers};
use crate::sandbox::clock::Clock;
use crate::sandbox::core::{Caller, Clusters, Core, Markers, TokenFault};
use crate::sandbox::entra::{ARM_AUDIENCES, Directory};
use crate::sandbox::faults::Faults;
use crate::sandbox::front::names::{Names, PortPlan};
use crate::sandbox::journal::Journal;
use crate::sandbox::lag::{Lags, Pace};
use crate::sandbox::world::id_of;

const GROUP: &str = "resourceGroups/myResourceGroup";
const AKS: &str = "Microsoft.ContainerService/managedClusters/myAKSCluster";
const VAULT: &str = "Microsoft.KeyVault/vaults/myAKSKeyVault";

/// A small world: a cluster, a vault, somebody of each kind.
fn world() -> Value {
    json!({
        "version": 1,
        "tenants": {"contoso": {}},
        "subscriptions": {"main": {"tenant": "contoso"}},
        "resource_groups": {"myResourceGroup": {"location": "eastus", "subscription": "main"}},
        "principals": {
            "owner": {"assignments": [
                {"role": "Owner", "scope": "/subscriptions/main"},
                {"role": "Key Vault Administrator", "scope": "/vaults/myAKSKeyVault"},
            ]},
            "contributor": {"assignments": [{"role": "Contributor", "scope": "/subscriptions/main"}]},
            "reader": {"assignments": [
                {"role": "Reader", "scope": "/subscriptions/main"},
                {"role": "Key Vault Reader", "scope": "/vaults/myAKSKeyVault"},
            ]},
            "granter": {"assignments": [
                {"role": "Key Vault Data Access Administrator", "scope": "/vaults/myAKSKeyVault"},
            ]},
            "member": {"groups": ["team"]},
            "team": {"type": "group", "assignments": [{"role": "Reader", "scope": "/resource_groups/myResourceGroup"}]},
            "custom": {"assignments": [{"role": "Add-on switch", "scope": "/clusters/myAKSCluster"}]},
            "stranger": {},
        },
        "roles": {"Add-on switch": {"actions": ["Microsoft.ContainerService/managedClusters/read",
                                                "Microsoft.ContainerService/managedClusters/write"]}},
        "clusters": {"myAKSCluster": {
            "resource_group": "myResourceGroup",
            "nodes": 3,
            "oidc": true,
            "extra": {"futureProfile": {"mode": "On"}},
        }},
        "vaults": {
            "myAKSKeyVault": {
                "resource_group": "myResourceGroup",
                "rbac": true,
                "certificates": {
                    "my-tls-cert": {"hosts": ["myapp.example.com"], "key": "P-256", "issuer": "DigiCert", "versions": [
                        {"from": "-22d", "until": "+68d"}, {"from": "-2d", "until": "+88d"}]},
                    "in-pem": {"hosts": ["myapp.example.com"], "key": "P-256", "content": "pem", "issuer": "DigiCert"},
                    "no-key": {"hosts": ["myapp.example.com"], "key": "P-256", "content": "pem", "exportable": false},
                    "disabled": {"hosts": ["a.example.com"], "key": "P-256", "versions": [{"enabled": false}]},
                },
            },
            "old": {
                "resource_group": "myResourceGroup",
                "rbac": null,
                "policies": [{"principal": "reader", "certificates": ["get"]}],
                "certificates": {"c": {"hosts": ["b.example.com"], "key": "P-256", "chain": "self"}},
            },
        },
    })
}

/// A running world.
struct Scene {
    azure: Arc<Azure>,
}

/// An answer, read.
#[derive(Debug)]
struct Answered {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    fn code(&self) -> &str {
        let code = self.body["error"]["code"].as_str().or(self.body["code"].as_str());
        code.unwrap_or_default()
    }
}

impl Scene {
    fn new(pace: Pace) -> Self {
        Self::of(&world(), pace)
    }

    fn of(world: &Value, pace: Pace) -> Self {
        let clock = Clock::start(1.0);
        let now = clock.now();
        let markers = Markers::default();
        let (names, opened) = Names::new(PortPlan::Auto, ".vault.azure.net", 18000, 18001);
        // Ports are opened in tests of the front; here nobody serves them.
        drop(opened);
        let core = Core {
            lags: Lags::of(pace),
            pace,
            journal: Journal::new(None),
            faults: Faults::default(),
            authority: Arc::new(Authority::new("test", now).unwrap()),
            issuers: Issuers::new(now).unwrap(),
            directory: Directory::new(world, clock.clone(), markers.clone()).unwrap(),
            names,
            clusters: Clusters::default(),
            markers,
            clock,
        };
        Self {
            azure: Azure::new(world, Arc::new(core)).unwrap(),
        }
    }

    fn now(&self) -> OffsetDateTime {
        self.azure.core.clock.now()
    }

    fn caller(&self, name: &str) -> Caller {
        let principal = self.azure.core.directory.principal_by_name(name).unwrap();
        let token = self
            .azure
            .core
            .directory
            .issue(&principal.object_id, ARM_AUDIENCES[0], self.now());
        self.azure
            .core
            .directory
            .judge(&token, |_| true, self.now())
            .unwrap()
    }

    fn oid(&self, name: &str) -> String {
        self.caller(name).oid
    }

    /// `…/resourceGroups/myResourceGroup/providers/…` of the world's subscription.
    fn path(&self, below: &str) -> String {
        format!(
            "/subscriptions/{}/{GROUP}/providers/{below}",
            id_of("/subscriptions/main")
        )
    }

    async fn send(
        &self,
        name: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answered {
        let request = self.request(method, target, headers, body);
        let caller = if name.is_empty() {
            Err(TokenFault::Missing)
        } else {
            Ok(self.caller(name))
        };
        read(self.azure.answer_arm(request, caller).await).await
    }

    fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &Value) -> Request<Bytes> {
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(body.to_string())
        };
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(target)
            .header("host", "management.azure.com");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(bytes).unwrap()
    }

    async fn get(&self, name: &str, target: &str) -> Answered {
        self.send(name, "GET", target, &[], &Value::Null).await
    }

    async fn put(&self, name: &str, target: &str, body: Value) -> Answered {
        self.send(name, "PUT", target, &[], &body).await
    }

    /// The cluster, in the version the provider pins.
    fn cluster(&self) -> String {
        format!("{}?api-version=2026-04-01", self.path(AKS))
    }

    /// A call on a vault's data as somebody with a token for vaults.
    async fn data(&self, name: &str, method: &str, vault: &str, target: &str, body: &Value) -> Answered {
        let mut headers = vec![("host", format!("{}.vault.azure.net", vault.to_lowercase()))];
        if !name.is_empty() {
            let token =
                self.azure
                    .core
                    .directory
                    .issue(&self.oid(name), "https://vault.azure.net", self.now());
            headers.push(("authorization", format!("Bearer {token}")));
        }
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut request = self.request(method, target, &[], body);
        request.headers_mut().clear();
        for (name, value) in headers {
            request.headers_mut().insert(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        read(self.azure.answer_vault(vault, request).await).await
    }

    /// Moves the clock by this many seconds.
    fn advance(&self, seconds: u64) {
        let until = self.now() + std::time::Duration::from_secs(seconds);
        while !self.azure.core.clock.advance_towards(until).is_empty() {}
    }
}

async fn read(answer: crate::sandbox::http::Answer) -> Answered {
    let (head, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answered {
        status: head.status.as_u16(),
        headers: head.headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}
