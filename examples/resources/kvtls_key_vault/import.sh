terraform import kvtls_key_vault.main /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv-shop-prod
