terraform import kvtls_cluster_addon.main /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.ContainerService/managedClusters/aks-shop
