terraform {
  required_providers {
    kvtls = { source = "kvtls/kvtls" }
  }
}

provider "kvtls" {}

variable "subscription_id" {
  type        = string
  description = "The subscription that holds the cluster and the vault."
}

locals {
  group = "/subscriptions/${var.subscription_id}/resourceGroups/myResourceGroup/providers"
}

resource "kvtls_ingress_binding" "shop" {
  name         = "shop"
  cluster_id   = "${local.group}/Microsoft.ContainerService/managedClusters/myAKSCluster"
  key_vault_id = "${local.group}/Microsoft.KeyVault/vaults/myAKSKeyVault"
  certificates = { my-tls-cert = {} }
  gateway = {
    class_name = "approuting-istio"
    rules      = [{ host = "myapp.example.com", paths = [{ service = "my-app-service", port = 80 }] }]
  }
}

output "address" {
  value = kvtls_ingress_binding.shop.addresses.gateway
}
