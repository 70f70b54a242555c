resource "kvtls_key_vault" "main" {
  name              = "kv-shop-prod"
  resource_group_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop"
  location          = "eastus"

  # Owner may assign roles and has none on what the vault holds.
  grant_caller = true
}
