terraform {
  required_providers {
    kvtls = { source = "kvtls/kvtls" }
  }
}

# Everything can come from the environment, under the names that azurerm and azapi use:
# ARM_TENANT_ID, ARM_CLIENT_ID, ARM_CLIENT_SECRET, or a signed-in Azure CLI.
provider "kvtls" {}
