data "kvtls_cluster" "main" {
  cluster_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.ContainerService/managedClusters/aks-prod"
}

# Ingress classes whose controller nobody maintains any more.
output "retired" {
  value = [for class in data.kvtls_cluster.main.ingress_classes : class.name if class.retired_on != null]
}
