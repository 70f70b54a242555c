//! Node and `CSINode` objects.

use std::net::SocketAddr;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::sandbox::actors::objects::stamp;

/// Name of the agent pool's `index`th node, as AKS builds it.
pub(super) fn name_of(index: usize) -> String {
    format!("aks-nodepool1-34567891-vmss{index:06}")
}

/// The node as it registers itself.
pub(super) fn node(cluster: &str, index: usize) -> Value {
    let name = name_of(index);
    json!({
        "metadata": {"name": name, "labels": {
            "agentpool": "nodepool1", "kubernetes.azure.com/agentpool": "nodepool1",
            "kubernetes.azure.com/cluster": format!("MC_myResourceGroup_{cluster}_eastus"),
            "kubernetes.azure.com/mode": "system", "kubernetes.azure.com/role": "agent",
            "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": "Standard_D2s_v3",
            "topology.kubernetes.io/region": "eastus", "topology.kubernetes.io/zone": "0",
        }},
        "spec": {
            "podCIDR": format!("10.244.{index}.0/24"), "podCIDRs": [format!("10.244.{index}.0/24")],
            "providerID": format!("azure:///subscriptions/sandbox/{cluster}/{name}"),
        },
    })
}

/// Its status: ready, or not. A real API server asks `kubelet` for logs and ports; the embedded one asks nobody.
pub(super) fn status(
    index: usize,
    is_ready: bool,
    kubelet: Option<SocketAddr>,
    now: OffsetDateTime,
) -> Value {
    let address = kubelet.map_or_else(
        || format!("10.224.0.{}", index + 4),
        |kubelet| kubelet.ip().to_string(),
    );
    let port = kubelet.map_or(10250, |kubelet| kubelet.port());
    let ready = if is_ready {
        ["True", "KubeletReady", "kubelet is posting ready status"]
    } else {
        [
            "False",
            "KubeletNotReady",
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin \
             returns error: cni plugin not initialized",
        ]
    };
    let resources =
        json!({"cpu": "2", "memory": "8148452Ki", "pods": "250", "ephemeral-storage": "129886128Ki"});
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": stamp(now), "lastTransitionTime": stamp(now)})
    };
    json!({"status": {
        "addresses": [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": name_of(index)},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "capacity": resources, "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", ready[0], ready[1], ready[2]),
        ],
        "nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "osImage": "Ubuntu 22.04.5 LTS",
            "kernelVersion": "5.15.0-1092-azure", "containerRuntimeVersion": "containerd://1.7.27-1",
            "kubeletVersion": "v1.34.2", "kubeProxyVersion": "v1.34.2",
            "machineID": "", "systemUUID": "", "bootID": "",
        },
    }})
}

/// The drivers of a node: Azure's own, and the secrets store's when its pod runs there.
pub(super) fn drivers(node: &str, secrets_store: bool) -> Value {
    let mut drivers = vec![
        json!({"name": "disk.csi.azure.com", "nodeID": node, "topologyKeys": ["topology.disk.csi.azure.com/zone"]}),
        json!({"name": "file.csi.azure.com", "nodeID": node, "topologyKeys": null}),
    ];
    if secrets_store {
        drivers.push(json!({"name": super::DRIVER, "nodeID": node, "topologyKeys": null}));
    }
    drivers.into()
}
