resource "kvtls_ingress_binding" "shop" {
  name         = "shop"
  cluster_id   = azurerm_kubernetes_cluster.main.id
  key_vault_id = azurerm_key_vault.main.id
  namespace    = "shop"

  certificates = { my-tls-cert = {} }

  ingress = {
    class_name = "nginx"
    rules = [{
      host  = "myapp.example.com"
      paths = [{ path = "/", service = "my-app", port = 80 }]
    }]
  }
}
