//! A configuration with many bindings.

use std::fmt::Write as _;

/// So many bindings of one cluster and one vault, by `for_each`, with what is written in `more` in each.
pub(crate) fn bindings(count: usize, more: &str) -> String {
    let mut hosts = String::new();
    for index in 0..count {
        write!(hosts, "\"b{index:02}\", ").expect("text grows");
    }
    format!(
        r#"
terraform {{
  required_providers {{
    kvtls = {{ source = "kvtls/kvtls" }}
  }}
}}

variable "subscription_id" {{
  type = string
}}

locals {{
  group = "/subscriptions/${{var.subscription_id}}/resourceGroups/myResourceGroup/providers"
}}

resource "kvtls_ingress_binding" "all" {{
  for_each     = toset([{hosts}])
  name         = each.key
  cluster_id   = "${{local.group}}/Microsoft.ContainerService/managedClusters/myAKSCluster"
  key_vault_id = "${{local.group}}/Microsoft.KeyVault/vaults/myAKSKeyVault"
  certificates = {{ my-tls-cert = {{ hosts = ["myapp.example.com"] }} }}
  verify       = {{ level = "synced" }}
{more}
}}
"#
    )
}
