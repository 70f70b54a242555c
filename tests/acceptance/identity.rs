//! Who the provider is, and in which cloud: every kind of credential, and what is said when none will do.

use std::os::unix::fs::PermissionsExt as _;

use kvtls::sandbox::demo::QUICKSTART;
use kvtls::sandbox::demo::visitor::Visitor;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::terraform::{SHOP, Terraform};
use crate::world::{VAULT, World, is_write};

const FABRIKAM: &str = "22222222-3333-4444-5555-666666666666";

/// A principal of this type that may what the deployer may.
fn deployer(members: &Value) -> Value {
    let mut principal = json!({
        "assignments": [
            { "role": "Owner", "scope": "/subscriptions/main" },
            { "role": "Key Vault Certificates Officer", "scope": "/vaults/myAKSKeyVault" }
        ],
        "kubernetes": [{ "cluster": "myAKSCluster", "cluster_role": "cluster-admin" }],
    });
    for (name, member) in members.as_object().into_iter().flatten() {
        principal[name] = member.clone();
    }
    principal
}

fn client(visitor: &Visitor) -> (Client, String) {
    let bundle = std::fs::read(visitor.variable("SSL_CERT_FILE").expect("a bundle")).expect("the bundle");
    let roots = Certificate::from_pem_bundle(&bundle).expect("certificates");
    let client = Client::builder()
        .tls_certs_only(roots)
        .no_proxy()
        .http1_only()
        .build();
    let control = visitor.variable("KVTLS_SANDBOX").expect("the control API");
    let front = control.trim_end_matches("/sandbox").to_owned();
    (client.expect("a client"), front)
}

async fn json_of(request: reqwest::RequestBuilder) -> Value {
    let text = request
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("JSON, not {text}"))
}

/// A token of the deployer, for whoever plays the Azure CLI.
async fn token(visitor: &Visitor, scope: &str) -> String {
    let (client, front) = client(visitor);
    let variable = |name| visitor.variable(name).expect("a variable");
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", variable("ARM_CLIENT_ID"))
        .append_pair("client_secret", variable("ARM_CLIENT_SECRET"))
        .append_pair("scope", scope)
        .finish();
    let url = format!("{front}/{}/oauth2/v2.0/token", variable("ARM_TENANT_ID"));
    let body = json_of(client.post(url).body(form)).await;
    body["access_token"].as_str().expect("a token").to_owned()
}

/// Entries of one plane whose URL contains this.
fn asked<'a>(journal: &'a [Value], plane: &str, part: &str) -> Vec<&'a Value> {
    let is_asked = |entry: &&Value| {
        entry["plane"] == plane && entry["url"].as_str().is_some_and(|url| url.contains(part))
    };
    journal.iter().filter(is_asked).collect()
}

/// Each plans with nothing but the variables of its kind, and every request is its own.
#[tokio::test(flavor = "multi_thread")]
async fn s15_every_kind_of_credential_plans() {
    let world = World::with(json!({"principals": {
        "certified": deployer(&json!({"type": "app", "certificate": true})),
        "github": deployer(&json!({"type": "github"})),
        "machine": deployer(&json!({"type": "managed"})),
        "pipelines": deployer(&json!({"type": "pipelines"})),
        "workload": deployer(&json!({"type": "workload"})),
    }}))
    .await;
    for (name, plane, place) in [
        ("certified", "login", "/oauth2/v2.0/token"),
        ("github", "login", "/oidc/github/github/token"),
        ("pipelines", "login", "/oidc/pipelines/pipelines/oidctoken"),
        ("workload", "login", "/oauth2/v2.0/token"),
        ("machine", "imds", "/metadata/identity/oauth2/token"),
    ] {
        println!("── {name}");
        let visitor = world.visitor(name);
        assert!(
            visitor.variable("ARM_CLIENT_SECRET").is_err(),
            "{name} has no secret"
        );
        let terraform = Terraform::new(&visitor, QUICKSTART);
        let before = world.now_in_journal().await;
        let plan = terraform.plan().await;
        assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
        plan.warning(&["KVTLS-W101"]);
        let journal = world.journal_after(before).await;
        assert!(
            !asked(&journal, plane, place).is_empty(),
            "{name} asks at {place}\n{}",
            plan.evidence()
        );
        let arm: Vec<&Value> = journal.iter().filter(|entry| entry["plane"] == "arm").collect();
        assert!(
            !arm.is_empty() && arm.iter().all(|entry| entry["as"]["name"] == name),
            "{arm:#?}"
        );
    }
}

/// App Service gives tokens at a place of its own; a PFX may be in a variable; a secret in a file.
#[tokio::test(flavor = "multi_thread")]
async fn s15_other_forms_of_the_same_kinds_plan() {
    let world = World::with(json!({"principals": {
        "certified": deployer(&json!({"type": "app", "certificate": true})),
        "machine": deployer(&json!({"type": "managed"})),
    }}))
    .await;
    let machine = world.visitor("machine");
    let before = world.now_in_journal().await;
    let app_service = Terraform::new(&machine, QUICKSTART)
        .without("ARM_MSI_ENDPOINT")
        .without("ARM_CLIENT_ID");
    let plan = app_service.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let journal = world.journal_after(before).await;
    let asked = asked(&journal, "imds", "/msi/token");
    assert!(
        !asked.is_empty()
            && asked
                .iter()
                .all(|entry| entry["url"].as_str().unwrap_or_default().contains("2019-08-01"))
    );

    use base64::Engine as _;
    let certified = world.visitor("certified");
    let pfx =
        std::fs::read(certified.variable("ARM_CLIENT_CERTIFICATE_PATH").expect("a path")).expect("the PFX");
    let inline = Terraform::new(&certified, QUICKSTART)
        .without("ARM_CLIENT_CERTIFICATE_PATH")
        .with(
            "ARM_CLIENT_CERTIFICATE",
            &base64::engine::general_purpose::STANDARD.encode(pfx),
        );
    let plan = inline.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());

    let from_file = world.quickstart().without("ARM_CLIENT_SECRET");
    let file = from_file.beside().join("secret");
    std::fs::write(
        &file,
        world.deployer.variable("ARM_CLIENT_SECRET").expect("a secret"),
    )
    .expect("a file");
    let from_file = from_file.with("ARM_CLIENT_SECRET_FILE_PATH", &file.display().to_string());
    let plan = from_file.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
}

#[tokio::test(flavor = "multi_thread")]
async fn s15_github_in_an_entra_only_cluster_serves_without_local_accounts_or_kubelogin() {
    let world = World::with(json!({
        "principals": {"github": deployer(&json!({"type": "github"}))},
        "clusters": {"myAKSCluster": {"entra": true, "azure_rbac": true, "local_accounts": false}},
    }))
    .await;
    let terraform = Terraform::new(&world.visitor("github"), QUICKSTART);
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
    let journal = world.journal_after(before).await;
    let tokens: Vec<&Value> = asked(&journal, "login", "/oauth2/v2.0/token")
        .into_iter()
        .filter(|entry| entry["as"]["name"] == "github")
        .collect();
    let assertions = asked(&journal, "login", "/oidc/github/");
    assert_eq!(assertions.len(), tokens.len(), "a fresh assertion for each token");
    assert!(asked(&journal, "arm", "listClusterAdminCredential").is_empty());
}

/// By the document of a host, or by endpoints in the block: no address of the public cloud is asked.
#[tokio::test(flavor = "multi_thread")]
async fn s15_a_custom_cloud_is_found_by_its_document_or_its_endpoints() {
    let world = World::start().await;
    let (_, front) = client(&world.deployer);
    let by_endpoints = QUICKSTART.replace(
        "provider \"kvtls\" {}",
        &format!(
            "provider \"kvtls\" {{\n  environment = \"custom\"\n  endpoint = {{\n    active_directory_authority_host = \
             \"{front}\"\n    resource_manager_endpoint = \"{front}\"\n    resource_manager_audience = \
             \"https://management.azure.com\"\n    key_vault_dns_suffix = \"vault.azure.net\"\n  }}\n}}"
        ),
    );
    let host = front.trim_start_matches("https://");
    let rows = [
        ("document", world.quickstart().with("ARM_METADATA_HOSTNAME", host)),
        ("endpoints", Terraform::new(&world.deployer, &by_endpoints)),
    ];
    for (way, terraform) in rows {
        println!("── {way}");
        let before = world.now_in_journal().await;
        let plan = terraform.plan().await;
        assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
        let journal = world.journal_after(before).await;
        let azure = journal.iter().filter(|entry| {
            ["arm", "login", "vault"]
                .iter()
                .any(|plane| entry["plane"] == *plane)
        });
        let hosts: Vec<&str> = azure.filter_map(|entry| entry["host"].as_str()).collect();
        assert!(
            !hosts.is_empty() && hosts.iter().all(|host| host.starts_with("127.0.0.1")),
            "{hosts:?}"
        );
        assert_eq!(
            !asked(&journal, "arm", "/metadata/endpoints").is_empty(),
            way == "document"
        );
    }
    let plain = by_endpoints.replace(
        &format!("resource_manager_endpoint = \"{front}\""),
        "resource_manager_endpoint = \"http://arm.local\"",
    );
    let plan = Terraform::new(&world.deployer, &plain).plan().await;
    plan.fails_with(&["KVTLS-E012", "http://arm.local", "no https URL"]);
}

/// A shell script is `az` as far as anybody can tell.
fn azure_cli(terraform: &Terraform, script: &str) -> String {
    let folder = terraform.beside().join("bin");
    std::fs::create_dir_all(&folder).expect("a folder");
    let az = folder.join("az");
    std::fs::write(&az, format!("#!/bin/sh\n{script}\n")).expect("a script");
    std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    folder.display().to_string()
}

/// Runs as whoever is logged in; its local time, long past in the wrong zone, counts for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn s15_the_azure_cli_is_used_and_its_tokens_are_kept() {
    const SCRIPT: &str = r#"here=$(dirname "$0")
while [ $# -gt 0 ]; do
  case "$1" in
    --scope) scope=$2; shift ;;
    --tenant) tenant=$2; shift ;;
  esac
  shift
done
echo "$scope $tenant" >> "$here/asked"
name=$(printf '%s' "$scope" | tr -c 'a-zA-Z0-9' '_')
printf '{"accessToken":"%s","expiresOn":"2001-01-01 00:00:00.000000","expires_on":%s,"tokenType":"Bearer"}' \
  "$(cat "$here/$name")" "$(($(date +%s) + 3600))""#;
    let world = World::start().await;
    let terraform = world.quickstart();
    let bin = azure_cli(&terraform, SCRIPT);
    for scope in [
        "https://management.azure.com/.default",
        "https://vault.azure.net/.default",
    ] {
        let name: String = scope
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let path = std::path::Path::new(&bin).join(name);
        std::fs::write(path, token(&world.deployer, scope).await).expect("a token");
    }
    let terraform = terraform
        .without("ARM_CLIENT_SECRET")
        .with("ARM_USE_CLI", "true")
        .with("PATH", &format!("{bin}:/usr/bin:/bin"));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-W101"]);
    let asked = std::fs::read_to_string(std::path::Path::new(&bin).join("asked")).expect("the CLI was asked");
    let tenant = world.deployer.variable("ARM_TENANT_ID").expect("a tenant");
    let mut lines: Vec<&str> = asked.lines().collect();
    lines.sort_unstable();
    let wanted = [
        "https://management.azure.com/.default",
        "https://vault.azure.net/.default",
    ];
    assert_eq!(
        lines,
        wanted.map(|scope| format!("{scope} {tenant}")),
        "each token once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn b_what_the_azure_cli_says_is_passed_on() {
    let world = World::start().await;
    let terraform = world.quickstart();
    let bin = azure_cli(
        &terraform,
        "echo \"ERROR: Please run 'az login' to setup account.\" >&2\nexit 1",
    );
    let terraform = terraform
        .without("ARM_CLIENT_SECRET")
        .with("ARM_USE_CLI", "true")
        .with("PATH", &format!("{bin}:/usr/bin:/bin"));
    let apply = terraform.apply().await;
    apply.fails_with(&["KVTLS-E011", "Azure CLI: Please run 'az login' to setup account"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b_without_any_credential_each_kind_says_what_it_lacks() {
    let world = World::start().await;
    let terraform = world.quickstart().without("ARM_CLIENT_SECRET");
    let before = world.now_in_journal().await;
    let apply = terraform.apply().await.fails_with(&["KVTLS-E011"]);
    let detail = &apply.error(&["KVTLS-E011"]).detail;
    let wanted = [
        "client certificate: not set up; to use it, set client_certificate or client_certificate_path",
        "client secret: not set up; to use it, set client_secret (ARM_CLIENT_SECRET)",
        "OIDC token: switched off; to use it, set use_oidc = true (ARM_USE_OIDC)",
        "Azure Pipelines OIDC: switched off",
        "GitHub Actions OIDC: switched off",
        "managed identity: switched off; to use it, set use_msi = true (ARM_USE_MSI)",
        "Azure CLI: switched off; to use it, set use_cli = true (ARM_USE_CLI)",
    ];
    // The CLI wraps long lines where a word ends.
    let flat = detail.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = flat.as_str();
    for line in wanted {
        let at = rest
            .find(line)
            .unwrap_or_else(|| panic!("\"{line}\" in this order\n{}", apply.evidence()));
        rest = &rest[at + line.len()..];
    }
    let writes = world.journal_after(before).await;
    assert!(!writes.iter().any(is_write), "nothing was written");
}

/// What GitHub says of a job.
async fn assertion(github: &Visitor) -> String {
    let (http, _) = client(github);
    let variable = |name| github.variable(name).expect("a variable");
    let url = format!(
        "{}&audience=api%3A%2F%2FAzureADTokenExchange",
        variable("ACTIONS_ID_TOKEN_REQUEST_URL")
    );
    let asking = http
        .get(url)
        .bearer_auth(variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
    let answer = json_of(asking).await;
    answer["value"].as_str().expect("an assertion").to_owned()
}

/// A job that brings its own assertion in a file is no pod, and asks nobody else for one.
#[tokio::test(flavor = "multi_thread")]
async fn s15_an_assertion_in_a_file_is_read_outside_of_a_pod() {
    let world = World::with(json!({"principals": {"github": deployer(&json!({"type": "github"}))}})).await;
    let github = world.visitor("github");
    let terraform = Terraform::new(&github, QUICKSTART)
        .without("ACTIONS_ID_TOKEN_REQUEST_URL")
        .without("ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    let file = terraform.beside().join("assertion");
    let terraform = terraform.with("ARM_OIDC_TOKEN_FILE_PATH", &file.display().to_string());
    let apply = terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E011", "oidc_token_file_path cannot be read"]);
    apply.error(&["OIDC token:"]);
    std::fs::write(&file, assertion(&github).await).expect("a file");
    let before = world.now_in_journal().await;
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let journal = world.journal_after(before).await;
    assert!(
        asked(&journal, "login", "/oidc/github/").is_empty(),
        "nobody else is asked"
    );
    assert!(
        journal
            .iter()
            .any(|entry| entry["plane"] == "vault" && entry["as"]["name"] == "github"),
        "{journal:#?}"
    );
}

/// The vault says which tenant it trusts, and gets a token of that one. The add-on's identity cannot be had from there.
#[tokio::test(flavor = "multi_thread")]
async fn s15_a_vault_of_another_tenant_is_read_with_a_token_of_that_tenant() {
    let world = World::with(json!({
        "tenants": {"fabrikam": {"id": FABRIKAM}},
        "principals": {"deployer": {"also_in": ["fabrikam"]}},
        "vaults": {VAULT: {"tenant": "fabrikam"}},
    }))
    .await;
    let data = format!(
        "terraform {{\n  required_providers {{\n    kvtls = {{ source = \"kvtls/kvtls\" }}\n  }}\n}}\n\
         data \"kvtls_certificate\" \"tls\" {{\n  key_vault_id = \"{}\"\n  name = \"my-tls-cert\"\n}}\n\
         output \"thumbprint\" {{\n  value = data.kvtls_certificate.tls.thumbprint\n}}\n",
        world.vault_id()
    );
    let terraform = Terraform::new(&world.deployer, &data);
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    let journal = world.journal_after(before).await;
    assert!(!asked(&journal, "login", FABRIKAM).is_empty(), "{journal:#?}");
    let statuses: Vec<&Value> = journal
        .iter()
        .filter(|entry| entry["plane"] == "vault")
        .map(|entry| &entry["response"]["status"])
        .collect();
    assert_eq!(statuses.last(), Some(&&json!(200)), "{statuses:?}");
    let plan = world.quickstart().plan().await;
    plan.fails_with(&["KVTLS-E202", FABRIKAM]);
}

/// An assertion that has expired, one of somebody else, a certificate whose password is wrong: the kind that was set up
/// fails with the service's words, and no other is tried.
#[tokio::test(flavor = "multi_thread")]
async fn b_a_credential_that_fails_is_not_replaced_by_another() {
    let world = World::with(json!({"principals": {
        "github": deployer(&json!({"type": "github"})),
        "pipelines": deployer(&json!({"type": "pipelines"})),
        "certified": deployer(&json!({"type": "app", "certificate": true})),
    }}))
    .await;
    let github = world.visitor("github");
    let assertion = assertion(&github).await;

    let of_another =
        Terraform::new(&world.visitor("pipelines"), QUICKSTART).with("ARM_OIDC_TOKEN", &assertion);
    let apply = of_another
        .apply()
        .await
        .fails_with(&["KVTLS-E011", "AADSTS700211"]);
    apply.error(&["the application is not federated with whoever signed this assertion"]);
    apply.error(&["Azure CLI: not tried, because OIDC token is set up and comes first"]);
    assert!(
        !apply.run.output().contains(&assertion),
        "the assertion is not shown"
    );

    world.advance("6h").await;
    let late = Terraform::new(&github, QUICKSTART).with("ARM_OIDC_TOKEN", &assertion);
    late.apply()
        .await
        .fails_with(&["KVTLS-E011", "AADSTS700024", "the assertion is not valid now"]);

    let wrong = Terraform::new(&world.visitor("certified"), QUICKSTART)
        .with("ARM_CLIENT_CERTIFICATE_PASSWORD", "wrong");
    let apply = wrong.apply().await;
    apply.fails_with(&["client certificate:", "ARM_CLIENT_CERTIFICATE_PASSWORD"]);

    let refused = Terraform::new(&github, QUICKSTART).with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "stale");
    refused.apply().await.fails_with(&["GitHub Actions OIDC:", "401"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b_contradictory_settings_are_told_on_their_attribute() {
    let world = World::start().await;
    for (block, attribute, words) in [
        (
            "client_certificate = \"QQ==\"\n  client_certificate_path = \"/a.pfx\"",
            "client_certificate_path",
            "both set",
        ),
        (
            "client_id_file_path = \"/nowhere\"",
            "client_id_file_path",
            "cannot be read",
        ),
        (
            "auxiliary_tenant_ids = [\"a\", \"b\", \"c\", \"d\"]",
            "auxiliary_tenant_ids",
            "Azure takes three",
        ),
        ("use_oidc = true", "use_oidc", "id-token: write"),
        (
            "disable_instance_discovery = false",
            "disable_instance_discovery",
            "never",
        ),
        ("partner_id = \"contoso\"", "partner_id", "GUID"),
    ] {
        let configuration = QUICKSTART.replace(
            "provider \"kvtls\" {}",
            &format!("provider \"kvtls\" {{\n  {block}\n}}"),
        );
        let terraform = Terraform::new(&world.deployer, &configuration).without("ARM_CLIENT_SECRET");
        let plan = terraform.plan().await;
        let error = plan.error(&[words]);
        assert!(
            error.code.contains(attribute),
            "on {attribute}\n{}",
            plan.evidence()
        );
    }
}

/// Tokens of auxiliary tenants go along to Resource Manager and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn s15_auxiliary_tenants_show_their_tokens_to_resource_manager() {
    let world = World::with(json!({
        "tenants": {"fabrikam": {"id": FABRIKAM}},
        "principals": {"deployer": {"also_in": ["fabrikam"]}},
    }))
    .await;
    let terraform = world.quickstart().with("ARM_AUXILIARY_TENANT_IDS", FABRIKAM);
    let before = world.now_in_journal().await;
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let journal = world.journal_after(before).await;
    assert_eq!(
        asked(&journal, "login", FABRIKAM).len(),
        1,
        "one token of the other tenant"
    );
    let auxiliary = |entry: &Value| entry["request"]["headers"]["x-ms-authorization-auxiliary"].is_string();
    let of = |plane: &str| {
        journal
            .iter()
            .filter(|entry| entry["plane"] == plane)
            .map(auxiliary)
            .collect::<Vec<_>>()
    };
    let (arm, vault) = (of("arm"), of("vault"));
    assert!(!arm.is_empty() && arm.iter().all(|has| *has), "{arm:?}");
    assert!(!vault.is_empty() && vault.iter().all(|has| !*has), "{vault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_requests_show_whose_they_are() {
    const CORRELATION: &str = "99999999-8888-7777-6666-555555555555";
    const PARTNER: &str = "11111111-2222-3333-4444-555555555555";
    let world = World::start().await;
    let terraform = world
        .quickstart()
        .with("ARM_CORRELATION_REQUEST_ID", CORRELATION)
        .with("ARM_PARTNER_ID", PARTNER)
        .with("AZURE_HTTP_USER_AGENT", "contoso-ci/7");
    let requests = async |terraform: &Terraform| {
        let before = world.now_in_journal().await;
        let plan = terraform.plan().await;
        assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
        let mut journal = world.journal_after(before).await;
        journal.retain(|entry| entry["plane"] == "arm");
        assert!(!journal.is_empty());
        journal
    };
    for entry in requests(&terraform).await {
        let agent = entry["agent"].as_str().unwrap_or_default();
        assert!(agent.starts_with("terraform-provider-kvtls/"), "{agent}");
        assert!(agent.ends_with(&format!("contoso-ci/7 pid-{PARTNER}")), "{agent}");
        let headers = &entry["request"]["headers"];
        assert_eq!(headers["x-ms-correlation-request-id"], CORRELATION);
        assert!(headers["x-ms-client-request-id"].is_string(), "{headers}");
    }
    let quiet = terraform.with("ARM_DISABLE_CORRELATION_REQUEST_ID", "true");
    for entry in requests(&quiet).await {
        assert_eq!(
            entry["request"]["headers"]["x-ms-correlation-request-id"],
            Value::Null
        );
    }
}

/// Azure lets a few requests in and refuses the others until a span is over: all wait together, and all succeed.
#[tokio::test(flavor = "multi_thread")]
async fn s22_a_throttled_subscription_is_waited_for_together() {
    let world = World::start().await;
    let fault = json!({
        "match": { "plane": "arm", "as": "deployer" },
        "do": { "throttle": { "after": 3, "code": "SubscriptionRequestsThrottled", "retry_after": 180 } },
    });
    let many = QUICKSTART
        .replace(
            "resource \"kvtls_ingress_binding\" \"shop\" {",
            "resource \"kvtls_ingress_binding\" \"shop\" {\n  count = 6",
        )
        .replace("name         = \"shop\"", "name = \"shop-${count.index}\"")
        .replace(
            "kvtls_ingress_binding.shop.addresses",
            "kvtls_ingress_binding.shop[0].addresses",
        );
    let id = world.fault(fault).await;
    let before = world.now_in_journal().await;
    let terraform = Terraform::new(&world.deployer, &many);
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    assert!(world.hits(&id).await > 0, "nothing was refused");
    // After a refusal nobody asks again before the span is over; what was on its way already comes in at once.
    let asked: Vec<(OffsetDateTime, bool)> = world
        .journal_after(before)
        .await
        .iter()
        .filter(|entry| entry["plane"] == "arm")
        .map(|entry| {
            let at = entry["at"].as_str().unwrap_or_default();
            let at = OffsetDateTime::parse(at, &Rfc3339).expect("a time");
            (at, entry["response"]["status"] == 429)
        })
        .collect();
    for (refused, _) in asked.iter().filter(|(_, refused)| *refused) {
        let early = asked
            .iter()
            .find(|(at, _)| (60..150).contains(&(*at - *refused).whole_seconds()));
        assert_eq!(early, None, "somebody did not wait: {asked:#?}");
    }
}

/// Nothing is done twice and nothing is left undone, whichever way each write of Azure's goes wrong.
#[tokio::test(flavor = "multi_thread")]
async fn s22_each_write_of_azure_survives_a_lost_request_a_lost_answer_and_a_broken_gateway() {
    let trouble = [
        json!({"lose": "answer"}),
        json!({"lose": "request"}),
        json!({"named": "html_502"}),
    ];
    let policy = json!([{
        "principal": "deployer", "certificates": ["get", "list"],
    }]);
    for (model, vault, writes) in [
        (
            "rbac",
            json!({}),
            &[
                ("PUT", "**/managedClusters/*"),
                ("PUT", "**/roleAssignments/*"),
                ("DELETE", "**/roleAssignments/*"),
            ][..],
        ),
        (
            "policies",
            json!({"rbac": false, "policies": policy}),
            &[
                ("PUT", "**/accessPolicies/add"),
                ("PUT", "**/accessPolicies/remove"),
            ][..],
        ),
    ] {
        let world = World::with(json!({"vaults": {"myAKSKeyVault": vault}})).await;
        for happening in &trouble {
            println!("── {model}: {happening}");
            let mut faults = Vec::new();
            for (method, path) in writes {
                let fault = json!({
                    "match": { "plane": "arm", "method": method, "path": path, "as": "deployer" },
                    "do": happening,
                });
                faults.push((path, world.fault(fault).await));
            }
            let terraform = world.quickstart();
            let apply = terraform.apply().await.succeeds();
            let state = terraform.state(SHOP).await.expect("a state");
            assert_eq!(
                state["grants"].as_array().map(Vec::len),
                Some(1),
                "{state:#}\n{}",
                apply.evidence()
            );
            assert_eq!(world.served().await, world.in_vault().await);
            terraform.destroy().await.succeeds();
            let inventory = world.inventory().await;
            assert!(inventory.our_grants.is_empty(), "{:?}", inventory.our_grants);
            if model == "policies" {
                assert_eq!(world.policy_holders().await.len(), 1, "the deployer's own stays");
            }
            for (path, fault) in faults {
                // The add-on stays on after the first time, so only the first apply writes the cluster.
                let is_cluster = path.contains("managedClusters");
                assert!(is_cluster || world.hits(&fault).await == 1, "{path} was hit");
                world.release(&fault).await;
            }
        }
    }
}
