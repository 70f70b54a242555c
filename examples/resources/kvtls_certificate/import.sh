# {key_vault_id}/certificates/{name}
terraform import kvtls_certificate.shop /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv-shop-prod/certificates/shop
