# With the cluster's owner:
resource "kvtls_cluster_addon" "main" {
  cluster_id             = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.ContainerService/managedClusters/aks-shop"
  rotation_poll_interval = "2m"
}

# With everybody who serves from it:
resource "kvtls_ingress_binding" "shop" {
  name         = "shop"
  cluster_id   = kvtls_cluster_addon.main.id
  key_vault_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv-shop-prod"
  addon        = { mode = "require" }
  certificates = {
    shop = { hosts = ["shop.example.com"] }
  }
}
