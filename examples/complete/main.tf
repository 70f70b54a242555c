# The whole way from an AKS cluster to HTTPS with a certificate that lives in Key Vault, with one provider and one apply.
# Given: the cluster, a Service in it, and an Ingress controller. The identity that runs this owns the resource group.

terraform {
  required_providers {
    kvtls = { source = "kvtls/kvtls" }
  }
}

provider "kvtls" {}

variable "cluster_id" {
  type        = string
  description = "The AKS cluster's resource ID."
}

variable "vault_name" {
  type        = string
  description = "A name for the vault, unique in the whole cloud."
}

variable "host" {
  type    = string
  default = "myapp.example.com"
}

variable "service" {
  type    = string
  default = "my-app"
}

data "kvtls_cluster" "main" {
  cluster_id = var.cluster_id
}

# Step 1: the vault. Owner may assign roles and has none on what a vault holds, hence grant_caller.
resource "kvtls_key_vault" "main" {
  name              = var.vault_name
  resource_group_id = data.kvtls_cluster.main.resource_group_id
  location          = data.kvtls_cluster.main.location
  grant_caller      = true
}

# Step 2: the certificate. Another policy makes a new version, and so does its end coming near.
resource "kvtls_certificate" "shop" {
  key_vault_id = kvtls_key_vault.main.id
  name         = "shop"
  policy       = { hosts = [var.host] }
  renew_before = "30d"
}

# Steps 3 to 6: add-on with rotation, the grant for its identity, the objects in the cluster, and the proof of what the
# edge serves.
resource "kvtls_ingress_binding" "shop" {
  name         = "shop"
  cluster_id   = var.cluster_id
  key_vault_id = kvtls_key_vault.main.id

  # By its ID and not by its name, so that Terraform knows the order.
  certificates = { shop = { certificate = kvtls_certificate.shop.versionless_secret_id } }

  ingress = {
    class_name = "nginx"
    rules      = [{ host = var.host, paths = [{ service = var.service, port = 80 }] }]
  }
}

# For a DNS record.
output "address" {
  value = kvtls_ingress_binding.shop.addresses.ingress
}
