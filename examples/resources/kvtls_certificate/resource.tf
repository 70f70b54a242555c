resource "kvtls_certificate" "shop" {
  key_vault_id = kvtls_key_vault.main.id
  name         = "shop"
  policy       = { hosts = ["myapp.example.com"] }
  renew_before = "30d"
}

# One that exists, with its key, which is stored in the vault only.
variable "pfx_password" {
  type      = string
  ephemeral = true
}

resource "kvtls_certificate" "bought" {
  key_vault_id = kvtls_key_vault.main.id
  name         = "bought"
  import = {
    pfx_wo      = filebase64("bought.pfx")
    password_wo = var.pfx_password
    wo_version  = 1
  }
}
