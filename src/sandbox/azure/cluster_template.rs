//! A managed cluster and a node pool as AKS fills them in when nothing is asked for.

use serde_json::{Value, json};

use super::tree;

/// What a new cluster is made from.
#[derive(Clone, Debug)]
pub(super) struct Birth<'a> {
    pub(super) name: &'a str,
    pub(super) subscription: &'a str,
    pub(super) group: &'a str,
    pub(super) location: &'a str,
    /// Full Kubernetes version, `1.34.2`.
    pub(super) kubernetes: &'a str,
    pub(super) nodes: u64,
    /// Eight letters that make host names unique.
    pub(super) suffix: &'a str,
    pub(super) kubelet: Value,
}

/// A cluster as AKS fills it in when nothing is asked for.
pub(super) fn fresh(birth: &Birth<'_>) -> Value {
    let Birth {
        name,
        location,
        group,
        subscription,
        kubernetes,
        suffix,
        ..
    } = birth;
    let minor = kubernetes
        .rsplit_once('.')
        .map_or(*kubernetes, |(minor, _)| minor);
    let dns_prefix = format!("{name}-dns").to_ascii_lowercase();
    let host = format!("{dns_prefix}-{suffix}");
    let node_group = format!("MC_{group}_{name}_{location}");
    json!({
        "location": location,
        "kind": "Base",
        "properties": {
            "powerState": {"code": "Running"},
            "kubernetesVersion": minor,
            "currentKubernetesVersion": kubernetes,
            "dnsPrefix": dns_prefix,
            "fqdn": format!("{host}.hcp.{location}.azmk8s.io"),
            "azurePortalFQDN": format!("{host}.portal.hcp.{location}.azmk8s.io"),
            "agentPoolProfiles": [pool(&json!({"name": "nodepool1", "count": birth.nodes}), kubernetes)],
            "servicePrincipalProfile": {"clientId": "msi"},
            "nodeResourceGroup": node_group,
            "enableRBAC": true,
            "supportPlan": "KubernetesOfficial",
            "networkProfile": {
                "networkPlugin": "azure",
                "networkPluginMode": "overlay",
                "networkPolicy": "none",
                "networkDataplane": "azure",
                "loadBalancerSku": "standard",
                "loadBalancerProfile": {
                    "managedOutboundIPs": {"count": 1},
                    "effectiveOutboundIPs": [{"id": format!(
                        "/subscriptions/{subscription}/resourceGroups/{node_group}/providers/Microsoft.Network/\
                         publicIPAddresses/{suffix}")}],
                    "backendPoolType": "nodeIPConfiguration",
                },
                "podCidr": "10.244.0.0/16",
                "serviceCidr": "10.0.0.0/16",
                "dnsServiceIP": "10.0.0.10",
                "outboundType": "loadBalancer",
                "podCidrs": ["10.244.0.0/16"],
                "serviceCidrs": ["10.0.0.0/16"],
                "ipFamilies": ["IPv4"],
            },
            "maxAgentPools": 100,
            "identityProfile": {"kubeletidentity": birth.kubelet},
            "autoUpgradeProfile": {"nodeOSUpgradeChannel": "NodeImage"},
            "disableLocalAccounts": false,
            "securityProfile": {},
            "storageProfile": {
                "diskCSIDriver": {"enabled": true},
                "fileCSIDriver": {"enabled": true},
                "snapshotController": {"enabled": true},
            },
            "oidcIssuerProfile": {"enabled": true},
            "workloadAutoScalerProfile": {},
            "resourceUID": format!("69ead85117c5{suffix:0<12.12}"),
            "metricsProfile": {"costAnalysis": {"enabled": false}},
            "nodeProvisioningProfile": {"mode": "Manual", "defaultNodePools": "Auto"},
            "bootstrapProfile": {"artifactSource": "Direct"},
        },
        "identity": {"type": "SystemAssigned"},
        "sku": {"name": "Base", "tier": "Free"},
    })
}

/// A node pool as AKS fills it in.
pub(super) fn pool(asked: &Value, kubernetes: &str) -> Value {
    let minor = kubernetes.rsplit_once('.').map_or(kubernetes, |(minor, _)| minor);
    let mut pool = json!({
        "name": "nodepool1",
        "count": 1,
        "vmSize": "Standard_D4ds_v5",
        "osDiskSizeGB": 128,
        "osDiskType": "Managed",
        "kubeletDiskType": "OS",
        "maxPods": 250,
        "type": "VirtualMachineScaleSets",
        "enableAutoScaling": false,
        "scaleDownMode": "Delete",
        "powerState": {"code": "Running"},
        "orchestratorVersion": minor,
        "currentOrchestratorVersion": kubernetes,
        "enableNodePublicIP": false,
        "mode": "System",
        "enableEncryptionAtHost": false,
        "enableUltraSSD": false,
        "osType": "Linux",
        "osSKU": "Ubuntu",
        "nodeImageVersion": "AKSUbuntu-2204gen2containerd-202604.13.0",
        "upgradeSettings": {"maxSurge": "10%", "maxUnavailable": "0"},
        "enableFIPS": false,
        "securityProfile": {"enableVTPM": false, "enableSecureBoot": false},
    });
    tree::merge(&mut pool, asked);
    // An empty version means: that of the control plane.
    if tree::text(&pool, "orchestratorVersion").is_empty() {
        tree::set(&mut pool, "orchestratorVersion", json!(minor));
    }
    pool
}
