data "kvtls_certificate" "shop" {
  key_vault_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv-shop-prod"
  name         = "my-tls-cert"
}

output "ends" {
  value = data.kvtls_certificate.shop.not_after
}
