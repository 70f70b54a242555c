//! `kvtls_certificate` against the real CLI: made by policy, imported with its key, renewed, recovered, removed; and with
//! vault and binding in one configuration.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::terraform::Terraform;
use crate::world::{HOST, VAULT, World, is_write};

const WEB: &str = "kvtls_certificate.web";
const SHOP: &str = "kvtls_ingress_binding.shop";
/// The configuration of the examples: vault, certificate and binding, with nothing given but a cluster.
const COMPLETE: &str = include_str!("../../examples/complete/main.tf");

const HEAD: &str = "terraform {\n  required_providers {\n    kvtls = { source = \"kvtls/kvtls\" }\n  }\n}\n\
                    provider \"kvtls\" {}\n";
const POLICY: &str = "policy = { hosts = [\"web.example.com\"], key_type = \"EC\" }";

/// A configuration with these lines in the certificate's block.
fn configuration(world: &World, lines: &str) -> String {
    format!(
        "{HEAD}resource \"kvtls_certificate\" \"web\" {{\n  key_vault_id = \"{}\"\n  name = \"web\"\n  {lines}\n}}\n",
        world.vault_id()
    )
}

fn terraform(world: &World, lines: &str) -> Terraform {
    Terraform::new(&world.deployer, &configuration(world, lines))
}

/// Asks the vault's data plane as the deployer.
async fn vault(world: &World, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let reply = world.deployer.vault(VAULT, method, path, body.as_ref()).await;
    let reply = reply.expect("the vault answers");
    (reply.status.as_u16(), reply.body)
}

/// The versions of the certificate, by the control API.
async fn versions(world: &World) -> Vec<Value> {
    let all = world.look("/world?pointer=/vaults").await;
    let found = &all[VAULT]["certificates"]["web"];
    found.as_array().cloned().unwrap_or_default()
}

async fn state(terraform: &Terraform) -> Value {
    terraform
        .state(WEB)
        .await
        .expect("the certificate is in the state")
}

/// Methods and paths of the writes to the vault since then.
async fn writes_since(world: &World, number: u64) -> Vec<String> {
    let entries = world.journal_after(number).await;
    let writes = entries
        .iter()
        .filter(|entry| is_write(entry) && entry["plane"] == "vault");
    writes
        .map(|entry| {
            let url = entry["url"].as_str().unwrap_or_default();
            let path = url.split('?').next().unwrap_or_default();
            let path = path.split("/certificates/").nth(1).unwrap_or(path);
            // Versions differ from run to run.
            let path = path
                .split('/')
                .map(|it| if it.len() == 32 { "VERSION" } else { it });
            let path = path.collect::<Vec<_>>().join("/");
            format!("{} {path}", entry["method"].as_str().unwrap_or_default())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_made_by_policy_and_another_policy_makes_another_version() {
    let world = World::start().await;
    world
        .control(Method::PUT, "/lag", json!({ "certificate_issue": "60s" }))
        .await;
    let terraform = terraform(&world, POLICY);
    terraform.apply().await.succeeds().says_nothing();
    let first = state(&terraform).await;
    let live = versions(&world).await;
    assert_eq!(live.len(), 1);
    assert_eq!(first["version"], live[0]["version"]);
    assert_eq!(first["thumbprint"], live[0]["thumbprint"]);
    assert_eq!(first["id"], format!("{}/certificates/web", world.vault_id()));
    assert_eq!(first["hosts"], json!(["web.example.com"]));
    assert_eq!(first["exportable"], true);
    let policy = &first["policy"];
    assert_eq!(
        (&policy["curve"], &policy["key_size"]),
        (&json!("P-256"), &Value::Null)
    );
    assert_eq!(policy["subject"], "CN=web.example.com");
    terraform.plan_is_empty().await;

    // What is no part of a version changes without one.
    let before = world.now_in_journal().await;
    terraform.write(&configuration(
        &world,
        &format!("{POLICY}\n  enabled = false\n  tags = {{ team = \"shop\" }}"),
    ));
    terraform.plan_shows(&["enabled", "tags"]).await;
    terraform.apply().await.succeeds();
    assert_eq!(writes_since(&world, before).await, ["PATCH web/VERSION"]);
    terraform.plan_is_empty().await;

    let longer = "policy = { hosts = [\"web.example.com\", \"www.example.com\"], key_type = \"EC\" }";
    terraform.write(&configuration(&world, longer));
    let of_a_version = ["hosts", "not_after", "not_before", "thumbprint", "version"];
    let plan = terraform
        .plan_shows(&[&["enabled", "policy.hosts", "tags"][..], &of_a_version[..]].concat())
        .await;
    plan.says_nothing();
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    assert_eq!(writes_since(&world, before).await, ["POST web/create"]);
    let second = state(&terraform).await;
    assert_eq!(second["versionless_secret_id"], first["versionless_secret_id"]);
    assert_ne!(second["version"], first["version"]);
    assert_eq!(second["hosts"], json!(["web.example.com", "www.example.com"]));
    assert_eq!(versions(&world).await.len(), 2);
    terraform.plan_is_empty().await;

    terraform.write(&configuration(
        &world,
        &format!("{longer}\n  renew_trigger = \"2\""),
    ));
    terraform
        .plan_shows(&[&["renew_trigger"][..], &of_a_version[..]].concat())
        .await;
    terraform.apply().await.succeeds();
    assert_eq!(versions(&world).await.len(), 3);
    terraform.plan_is_empty().await;

    terraform.destroy().await.succeeds();
    assert!(versions(&world).await.is_empty());
    let (status, _) = vault(&world, Method::GET, "/deletedcertificates/web", None).await;
    assert_eq!(status, 200, "it can be recovered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_to_a_certificate_is_seen() {
    let world = World::start().await;
    let terraform = terraform(&world, &format!("{POLICY}\n  tags = {{ team = \"shop\" }}"));
    terraform.apply().await.succeeds();
    let version = state(&terraform).await["version"]
        .as_str()
        .expect("a version")
        .to_owned();
    let change = json!({ "attributes": { "enabled": false }, "tags": { "team": "other", "cost": "7" } });
    let path = format!("/certificates/web/{version}");
    let (status, answer) = vault(&world, Method::PATCH, &path, Some(change)).await;
    assert_eq!(status, 200, "{answer}");
    terraform.plan_shows(&["enabled", "tags.team"]).await;
    terraform.apply().await.succeeds();
    let (_, bundle) = vault(&world, Method::GET, "/certificates/web", None).await;
    assert_eq!(bundle["tags"], json!({ "team": "shop", "cost": "7" }));
    terraform.plan_is_empty().await;

    // A version that somebody else had made is the certificate's newest, and no difference.
    world
        .control(
            Method::POST,
            &format!("/vaults/{VAULT}/certificates/web/renew"),
            json!({}),
        )
        .await;
    let plan = terraform.plan().await;
    assert_ne!(plan.run.status, Some(1), "{}", plan.evidence());
    // Its policy, however, is a difference.
    let policy = json!({ "x509_props": { "validity_months": 3 } });
    let (status, answer) = vault(&world, Method::PATCH, "/certificates/web/policy", Some(policy)).await;
    assert_eq!(status, 200, "{answer}");
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let paths = terraform.changes().await.remove(0).paths;
    assert!(
        paths.iter().any(|path| path == "policy.validity_months"),
        "{paths:?}"
    );
    terraform.apply().await.succeeds();
    assert_eq!(versions(&world).await.len(), 3);
    terraform.plan_is_empty().await;
    // Gone is gone.
    let (status, _) = vault(&world, Method::DELETE, "/certificates/web", None).await;
    assert_eq!(status, 200);
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    terraform.apply().await.succeeds().warning(&["KVTLS-W322"]);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_soon_is_renewed_and_the_plan_says_so() {
    let world = World::start().await;
    let terraform = terraform(&world, &format!("{POLICY}\n  renew_before = \"10d\""));
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    let path = format!("/vaults/{VAULT}/certificates/web/renew");
    world
        .control(Method::POST, &path, json!({ "until": "+5d" }))
        .await;
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-W323", "renew_before = \"10d\""]);
    terraform.apply().await.succeeds();
    assert_eq!(versions(&world).await.len(), 3);
    terraform.plan_is_empty().await;
    // Renewed by somebody else between plan and apply: then there is nothing to do.
    world
        .control(Method::POST, &path, json!({ "until": "+5d" }))
        .await;
    terraform.plan().await;
    world
        .control(Method::POST, &path, json!({ "until": "+200d" }))
        .await;
    terraform
        .command(&["apply", "-json", "last.plan"])
        .await
        .succeeds();
    assert_eq!(versions(&world).await.len(), 5);
    terraform.plan_is_empty().await;
}

/// What the issuer makes ends before it would have to be renewed, so the renewal never ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_due_again_at_once_is_a_warning() {
    let world = World::start().await;
    let terraform = terraform(&world, &format!("{POLICY}\n  renew_before = \"10d\""));
    terraform.apply().await.succeeds();
    let path = format!("/vaults/{VAULT}/certificates/web/renew");
    let ends_soon = json!({ "until": "+5d" });
    world.control(Method::POST, &path, ends_soon.clone()).await;
    let asked = json!({ "plane": "vault", "method": "POST", "path": "**/certificates/web/create" });
    let fault = world
        .fault(json!({ "match": asked, "times": 1, "do": { "hold": "after" } }))
        .await;
    let running = terraform.start(&["apply", "-json", "-auto-approve"]);
    world.hit(&fault).await;
    world.control(Method::POST, &path, ends_soon).await;
    world.release(&fault).await;
    let apply = terraform.outcome(running).await.succeeds();
    apply.warning(&["KVTLS-W324", "renew_before = \"10d\"", "every apply"]);
}

/// A certificate with its key, in PEM: key last, as many tools write it.
fn material(host: &str, rsa: bool) -> (String, rcgen::KeyPair, rcgen::Certificate) {
    let key = if rsa {
        rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
    } else {
        rcgen::KeyPair::generate()
    };
    let key = key.expect("a key");
    let params = rcgen::CertificateParams::new(vec![host.to_owned()]).expect("a host");
    let certificate = params.self_signed(&key).expect("a certificate");
    (
        format!("{}{}", certificate.pem(), key.serialize_pem()),
        key,
        certificate,
    )
}

fn pfx(host: &str, rsa: bool, password: &str) -> String {
    let (_, key, certificate) = material(host, rsa);
    let key = p12_keystore::PrivateKey::from_der(&key.serialize_der()).expect("a key");
    let leaf = p12_keystore::Certificate::from_der(certificate.der()).expect("a certificate");
    let chain = p12_keystore::PrivateKeyChain::new("1", key, [leaf]);
    let mut store = p12_keystore::KeyStore::new();
    store.add_entry("1", p12_keystore::KeyStoreEntry::PrivateKeyChain(chain));
    STANDARD.encode(store.writer(password).write().expect("a PFX"))
}

/// A configuration that brings what the variables hold; their names become those of the write-only attributes.
fn bringing(world: &World, version: i64, attributes: &[&str]) -> String {
    let mut text = String::new();
    let mut lines = String::new();
    for name in attributes {
        text.push_str(&format!(
            "variable \"{name}\" {{\n  type      = string\n  ephemeral = true\n}}\n"
        ));
        lines.push_str(&format!("    {name}_wo = var.{name}\n"));
    }
    let import = format!("import = {{\n{lines}    wo_version = {version}\n  }}");
    configuration(world, &import) + &text
}

#[tokio::test(flavor = "multi_thread")]
async fn s23_a_pfx_and_its_password_are_in_the_vault_and_nowhere_else() {
    let world = World::start().await;
    let password = "hunter2-\"quoted\"-passphrase";
    let (first, second) = (
        pfx("rsa.example.com", true, password),
        pfx("ec.example.com", false, password),
    );
    let start = Terraform::new(&world.deployer, &bringing(&world, 1, &["pfx", "password"]));
    let log = start.beside().join("trace.log");
    let terraform = start
        .with("TF_LOG", "trace")
        .with("TF_LOG_PATH", &log.display().to_string())
        .with("TF_VAR_pfx", &first)
        .with("TF_VAR_password", password);
    let mut printed = String::new();
    // An error on the way, so that errors are searched, too.
    let fault = json!({
        "match": { "plane": "vault", "method": "POST", "path": "**/import" }, "times": 1,
        "do": { "status": 400, "body": { "error": { "code": "BadParameter", "message": "staged" } } },
    });
    world.fault(fault).await;
    printed.push_str(&terraform.plan().await.run.output());
    printed.push_str(&terraform.show(&["last.plan"]).await.to_string());
    printed.push_str(
        &terraform
            .apply()
            .await
            .fails_with(&["KVTLS-E327", "staged"])
            .run
            .output(),
    );
    assert_eq!(terraform.state(WEB).await, None);
    printed.push_str(&terraform.apply().await.succeeds().run.output());
    let made = state(&terraform).await;
    assert_eq!(made["hosts"], json!(["rsa.example.com"]));
    assert_eq!(made["import"]["wo_version"], 1);
    assert_eq!(made["thumbprint"], versions(&world).await[0]["thumbprint"]);
    terraform.plan_is_empty().await;

    // Other material alone changes nothing; another number brings it.
    let terraform = terraform.with("TF_VAR_pfx", &second);
    terraform.plan_is_empty().await;
    terraform.write(&bringing(&world, 2, &["pfx", "password"]));
    terraform
        .plan_shows(&[
            "hosts",
            "import.wo_version",
            "not_after",
            "not_before",
            "thumbprint",
            "version",
        ])
        .await;
    printed.push_str(&terraform.apply().await.succeeds().run.output());
    assert_eq!(state(&terraform).await["hosts"], json!(["ec.example.com"]));
    terraform.plan_is_empty().await;
    printed.push_str(&terraform.show(&[]).await.to_string());

    // A wrong password is the vault's to find out.
    let terraform = terraform.with("TF_VAR_password", "wrong-passphrase");
    terraform.write(&bringing(&world, 3, &["pfx", "password"]));
    let apply = terraform.apply().await.fails_with(&["KVTLS-E327", "filebase64"]);
    printed.push_str(&apply.run.output());
    assert_eq!(
        state(&terraform).await["import"]["wo_version"],
        2,
        "it is still to be done"
    );

    let read = |path: &std::path::Path| std::fs::read_to_string(path).expect("a file");
    let stored = read(&terraform.directory().join("terraform.tfstate"));
    let log = read(&log);
    let journal = world.look("/journal").await.to_string();
    let markers = world.look("/markers").await;
    let mut needles: Vec<String> = [&first, &second]
        .iter()
        .flat_map(|text| {
            [
                text[200..260].to_owned(),
                text[text.len() / 2..text.len() / 2 + 60].to_owned(),
            ]
        })
        .collect();
    needles.extend(["hunter2".to_owned(), "wrong-passphrase".to_owned()]);
    needles.extend(strings(&markers));
    let plan = std::fs::read(terraform.directory().join("last.plan")).expect("the plan");
    assert!(log.contains("kvtls_certificate"), "the log holds the run");
    for (place, text) in [
        ("output", printed.as_bytes()),
        ("state", stored.as_bytes()),
        ("log", log.as_bytes()),
        ("journal", journal.as_bytes()),
        ("plan", plan.as_slice()),
    ] {
        let text = String::from_utf8_lossy(text);
        let found: Vec<_> = needles
            .iter()
            .filter(|needle| text.contains(needle.as_str()))
            .collect();
        assert!(found.is_empty(), "{} secrets in the {place}", found.len());
    }
}

/// All strings of a JSON value.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        Value::Object(members) => members.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pem_is_imported_with_both_kinds_of_key_and_judged_before() {
    let world = World::start().await;
    let mut terraform = Terraform::new(&world.deployer, &bringing(&world, 1, &["pem"]));
    for (version, rsa) in [(1, true), (2, false)] {
        let (text, _, _) = material("pem.example.com", rsa);
        terraform = terraform.with("TF_VAR_pem", &text);
        terraform.write(&bringing(&world, version, &["pem"]));
        terraform.apply().await.succeeds();
        terraform.plan_is_empty().await;
        let (_, bundle) = vault(&world, Method::GET, "/certificates/web", None).await;
        let kind = if rsa { "RSA" } else { "EC" };
        assert_eq!(bundle["policy"]["key_props"]["kty"], kind);
        assert_eq!(
            bundle["policy"]["secret_props"]["contentType"],
            "application/x-pem-file"
        );
    }
    let (text, _, _) = material("pem.example.com", true);
    let old = text.replace("PRIVATE KEY", "RSA PRIVATE KEY");
    terraform = terraform.with("TF_VAR_pem", &old);
    let plan = terraform
        .plan()
        .await
        .fails_with(&["\"RSA PRIVATE KEY\"", "openssl pkcs8"]);
    assert!(
        !plan.run.output().contains(&text[100..140]),
        "the key is not shown"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_certificate_is_recovered_or_named_or_purged() {
    let world = World::start().await;
    let terraform = terraform(&world, POLICY);
    terraform.apply().await.succeeds();
    terraform.destroy().await.succeeds();

    terraform.write(&configuration(
        &world,
        &format!("{POLICY}\n  recover_soft_deleted = false"),
    ));
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E321", "az keyvault certificate purge"]);
    assert_eq!(terraform.state(WEB).await, None);
    assert!(versions(&world).await.is_empty(), "nothing was changed");

    terraform.write(&configuration(&world, POLICY));
    terraform.apply().await.succeeds().warning(&["KVTLS-W322"]);
    assert_eq!(versions(&world).await.len(), 2, "the old version and a new one");
    terraform.plan_is_empty().await;

    terraform.write(&configuration(
        &world,
        &format!("{POLICY}\n  on_destroy = \"leave\""),
    ));
    terraform.apply().await.succeeds();
    terraform.destroy().await.succeeds();
    assert_eq!(versions(&world).await.len(), 2, "left alone");

    // It exists, and this state does not know it.
    let purge = format!("{POLICY}\n  on_destroy = \"purge\"");
    terraform.write(&configuration(&world, &purge));
    let id = format!("{}/certificates/web", world.vault_id());
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E320", "import {", &id]);
    terraform.import(WEB, &id).await.succeeds();
    terraform.plan_shows(&["on_destroy"]).await;
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds().says_nothing();
    let (status, _) = vault(&world, Method::GET, "/deletedcertificates/web", None).await;
    assert_eq!(status, 404, "it is gone for good");
}

/// Every fault of the vault's plane on the way to a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn s22_faults_on_the_vaults_plane_leave_a_state_that_is_true() {
    let world = World::start().await;
    let envelope = |status: u16, code: &str, inner: &str| {
        let body = json!({ "error": { "code": code, "message": "staged", "innererror": { "code": inner } } });
        json!({ "status": status, "body": body })
    };
    let failed = json!({ "status": 200, "body": {
        "id": "https://x/certificates/web/pending", "status": "failed", "request_id": "r", "issuer": { "name": "Self" },
        "error": { "code": "IssuerRefused", "message": "staged" },
    }});
    let create = ("POST", "**/certificates/web/create");
    let rows = [
        (
            create,
            envelope(403, "Forbidden", "ForbiddenByRbac"),
            Some("KVTLS-E501"),
        ),
        (
            create,
            envelope(403, "Forbidden", "ForbiddenByFirewall"),
            Some("KVTLS-E017"),
        ),
        (
            create,
            envelope(409, "Conflict", "CertificateRequestPending"),
            Some("KVTLS-E322"),
        ),
        (create, envelope(409, "Conflict", "ObjectIsBeingDeleted"), None),
        (create, json!({ "status": 429 }), None),
        (create, json!({ "status": 503 }), None),
        (create, json!({ "lose": "answer" }), None),
        (create, json!({ "lose": "request" }), None),
        (
            ("GET", "**/certificates/web/pending"),
            json!({ "lose": "answer" }),
            None,
        ),
        (("GET", "**/certificates/web/pending"), failed, Some("KVTLS-E323")),
    ];
    for ((method, path), what, code) in rows {
        println!("── {method} {path}: {what}");
        let terraform = terraform(&world, &format!("{POLICY}\n  on_destroy = \"purge\""));
        // The first look at the operation is before the certificate is asked for.
        let nth = if code == Some("KVTLS-E323") { 3 } else { 1 };
        let fault = json!({
            "match": { "plane": "vault", "method": method, "path": path }, "nth": nth, "times": 1, "do": what,
        });
        let fault = world.fault(fault).await;
        let apply = terraform.apply().await;
        assert_eq!(world.hits(&fault).await, 1, "the fault hit\n{}", apply.evidence());
        world.release(&fault).await;
        match code {
            Some(code) => {
                let apply = apply.fails_with(&[code, "KVTLS"]);
                let told = terraform
                    .state(WEB)
                    .await
                    .is_some_and(|state| state["version"].is_string());
                let there = !versions(&world).await.is_empty();
                assert!(!told || there, "state and world agree\n{}", apply.evidence());
                if code == "KVTLS-E323" {
                    // The staged answer lied: what the vault made is taken out of the next apply's way by hand.
                    vault(&world, Method::DELETE, "/certificates/web", None).await;
                }
                terraform.apply().await.succeeds();
            }
            None => {
                apply.succeeds();
            }
        }
        terraform.plan_is_empty().await;
        terraform.destroy().await.succeeds();
        assert!(versions(&world).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_request_is_named_and_left_alone() {
    let world = World::start().await;
    let policy = json!({ "policy": {
        "issuer": { "name": "Unknown" }, "x509_props": { "subject": "CN=web.example.com" },
    }});
    let (status, answer) = vault(&world, Method::POST, "/certificates/web/create", Some(policy)).await;
    assert_eq!(status, 202, "{answer}");
    let terraform = terraform(&world, POLICY);
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E322", "az keyvault certificate pending delete"]);
    assert_eq!(terraform.state(WEB).await, None);
    let (status, pending) = vault(&world, Method::GET, "/certificates/web/pending", None).await;
    assert_eq!((status, &pending["request_id"]), (200, &answer["request_id"]));
}

/// Ctrl-C while the issuer takes its time: the next apply waits for the same request and makes nothing anew.
#[tokio::test(flavor = "multi_thread")]
async fn s05_an_unfinished_certificate_is_completed_and_not_made_anew() {
    let world = World::start().await;
    world
        .control(Method::PUT, "/lag", json!({ "certificate_issue": "4h" }))
        .await;
    let terraform = terraform(&world, POLICY);
    let running = terraform.start(&["apply", "-json", "-auto-approve"]);
    let entry = "/journal?plane=vault&method=POST&path=**/create&wait=30000";
    world.look(entry).await;
    running.interrupt().await.expect("the signal is sent");
    terraform.outcome(running).await.fails_with(&["KVTLS-E604"]);
    let resource = terraform.resource(WEB).await.expect("it is in the state");
    assert_eq!(
        (&resource["tainted"], &resource["values"]["version"]),
        (&json!(true), &Value::Null)
    );
    world.advance("5h").await;
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    assert_eq!(writes_since(&world, before).await, Vec::<String>::new());
    assert_eq!(versions(&world).await.len(), 1);
    terraform.plan_is_empty().await;
}

/// The whole guide in one configuration: nothing given but a cluster, and an identity that owns the subscription.
fn complete(world: &World) -> Terraform {
    let cluster = world.binding_id();
    let cluster = cluster
        .split("/namespaces/")
        .next()
        .expect("a cluster")
        .to_owned();
    Terraform::new(&world.owner, COMPLETE)
        .with("TF_VAR_cluster_id", &cluster)
        .with("TF_VAR_vault_name", "kv-complete-test")
        .with("TF_VAR_service", "my-app-service")
        .with("TF_VAR_host", HOST)
}

/// The thumbprint that the edge serves, by the control API: nobody trusts a certificate that signs itself.
async fn served(world: &World) -> String {
    let edges = world.look("/edges").await;
    let all = strings_by_host(&edges);
    let found = all.into_iter().find(|(host, _)| host == HOST);
    found
        .map(|(_, thumbprint)| thumbprint)
        .unwrap_or_else(|| panic!("{HOST} is not served: {edges:#}"))
}

/// Every object with a host and a thumbprint, wherever it stands.
fn strings_by_host(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Array(list) => list.iter().flat_map(strings_by_host).collect(),
        Value::Object(members) => match (&value["host"], &value["thumbprint"]) {
            (Value::String(host), Value::String(thumbprint)) => vec![(host.clone(), thumbprint.clone())],
            _ => members.values().flat_map(strings_by_host).collect(),
        },
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s02_vault_certificate_and_binding_in_one_apply() {
    let world = World::start().await;
    // A role takes its time, as on Azure, and a vault's name too.
    world
        .control(
            Method::PUT,
            "/lag",
            json!({ "vault_dns": "36s", "role_effect": "3m", "certificate_issue": "10s" }),
        )
        .await;
    let terraform = complete(&world);
    let plan = terraform.plan().await;
    assert_eq!(
        plan.run.status,
        Some(2),
        "the first plan succeeds\n{}",
        plan.evidence()
    );
    terraform.apply().await.succeeds();
    let certificate = terraform
        .state("kvtls_certificate.shop")
        .await
        .expect("a certificate");
    assert_eq!(
        served(&world).await,
        certificate["thumbprint"].as_str().expect("a thumbprint")
    );
    let binding = terraform.state(SHOP).await.expect("a binding");
    assert_eq!(binding["status"]["phase"], "served", "{binding:#}");
    terraform.plan_is_empty().await;

    // Another policy: a new version in place, which reaches the edge by rotation, and no difference in the binding.
    let longer = COMPLETE.replace("hosts = [var.host]", "hosts = [var.host], validity_months = 6");
    assert_ne!(longer, COMPLETE);
    terraform.write(&longer);
    terraform.apply().await.succeeds();
    let renewed = terraform
        .state("kvtls_certificate.shop")
        .await
        .expect("a certificate");
    assert_ne!(renewed["version"], certificate["version"]);
    world.advance("3m").await;
    assert_eq!(
        served(&world).await,
        renewed["thumbprint"].as_str().expect("a thumbprint")
    );
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
}

/// A binding that names a certificate of the same apply, with an edge of the dependency graph and without one.
fn sibling(world: &World, edge: &str) -> String {
    let quickstart = kvtls::sandbox::demo::QUICKSTART;
    let binding = quickstart
        .replace(
            "certificates = { my-tls-cert = {} }",
            "certificates = { web = {} }",
        )
        .replace("  ingress = {", &format!("  {edge}\n  ingress = {{"));
    let certificate = format!(
        "resource \"kvtls_certificate\" \"web\" {{\n  key_vault_id = \"{}\"\n  name = \"web\"\n  \
         policy = {{ hosts = [\"{HOST}\"] }}\n}}\n",
        world.vault_id()
    );
    binding + &certificate
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_a_sibling_certificate_is_waited_for_where_terraform_knows_the_order() {
    let world = World::start().await;
    let ordered = sibling(&world, "depends_on = [kvtls_certificate.web]");
    let terraform = Terraform::new(&world.deployer, &ordered);
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-E301", "\"web\""]);
    terraform.apply().await.succeeds();
    assert_eq!(served(&world).await, versions(&world).await[0]["thumbprint"]);
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_without_an_edge_apply_fails_before_the_first_write_and_names_it() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &sibling(&world, ""));
    // The certificate takes longer than the binding's look at the world.
    let hold = json!({ "match": { "plane": "vault", "method": "POST", "path": "**/create" }, "do": { "delay": "5s" } });
    let fault = world.fault(hold).await;
    let before = world.now_in_journal().await;
    let apply = terraform.apply().await.fails_with(&["KVTLS-E301"]);
    apply.error(&[
        "certificate = kvtls_certificate.NAME.versionless_secret_id",
        "Nothing was changed",
    ]);
    world.release(&fault).await;
    let entries = world.journal_after(before).await;
    let writes: Vec<_> = entries
        .iter()
        .filter(|entry| is_write(entry) && entry["plane"] != "vault")
        // A plan rehearses its objects, which changes nothing.
        .filter(|entry| !entry["url"].as_str().unwrap_or_default().contains("dryRun"))
        .collect();
    assert!(writes.is_empty(), "{writes:#?}");
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}
