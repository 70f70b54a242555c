# {cluster_id}/namespaces/{namespace}/bindings/{name}
terraform import kvtls_ingress_binding.shop /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/myResourceGroup/providers/Microsoft.ContainerService/managedClusters/myAKSCluster/namespaces/shop/bindings/shop
