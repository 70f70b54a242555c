//! Recorded answers of Azure, against ours to the same requests in a world staged alike: status, member set, types.

use std::path::Path;

use super::*;

/// A recorded exchange.
struct Exchange {
    request: Value,
    status: u64,
    headers: Value,
    body: Value,
}

fn recording(name: &str) -> Vec<Exchange> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sandbox/recordings")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: Value = serde_json::from_str(&text).unwrap();
    let all = file["interactions"].as_array().unwrap().iter();
    all.map(|each| Exchange {
        request: each["request"].clone(),
        status: each["response"]["status"].as_u64().unwrap(),
        headers: each["response"]["headers"].clone(),
        body: each["response"]["body"].clone(),
    })
    .collect()
}

/// Every member of `recorded` has to be in `ours`, with a value of the same type, unless it is listed.
fn same_shape(recorded: &Value, ours: &Value, at: &str, but: &[&str], found: &mut Vec<String>) {
    if but.contains(&at) {
        return;
    }
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (name, value) in recorded {
                let below = format!("{at}.{name}");
                match ours.get(name) {
                    Some(own) => same_shape(value, own, &below, but, found),
                    None if but.contains(&below.as_str()) => {}
                    None => found.push(format!("{below} is missing")),
                }
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            if let (Some(recorded), Some(ours)) = (recorded.first(), ours.first()) {
                same_shape(recorded, ours, &format!("{at}[]"), but, found);
            }
        }
        (recorded, ours) => {
            let kind = |value: &Value| match value {
                Value::Null => "null",
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                Value::Array(_) => "list",
                Value::Object(_) => "object",
            };
            if kind(recorded) != kind(ours) {
                found.push(format!("{at} is {} and not {}", kind(ours), kind(recorded)));
            }
        }
    }
}

/// Members that must not be in ours because they are not in the recorded one.
fn nothing_more(recorded: &Value, ours: &Value, at: &str, allowed: &[&str], found: &mut Vec<String>) {
    if let (Value::Object(recorded), Value::Object(ours)) = (recorded, ours) {
        for (name, value) in ours {
            let below = format!("{at}.{name}");
            match recorded.get(name) {
                Some(old) => nothing_more(old, value, &below, allowed, found),
                None if allowed.contains(&below.as_str()) => {}
                None => found.push(format!("{below} is too much")),
            }
        }
    }
}

fn compare(recorded: &Exchange, ours: &Answered, but: &[&str], more: &[&str]) {
    let what = format!("{} {}", recorded.request["method"], recorded.request["url"]);
    assert_eq!(u64::from(ours.status), recorded.status, "{what}: {}", ours.body);
    let mut found = Vec::new();
    same_shape(&recorded.body, &ours.body, "", but, &mut found);
    nothing_more(&recorded.body, &ours.body, "", more, &mut found);
    for name in recorded
        .headers
        .as_object()
        .into_iter()
        .flat_map(serde_json::Map::keys)
    {
        // The front writes these.
        let elsewhere = ["date", "content-length"].contains(&name.as_str());
        if !elsewhere && ours.headers.get(name).is_none() {
            found.push(format!("header {name} is missing"));
        }
    }
    assert_eq!(found, Vec::<String>::new(), "{what}");
}

/// A world in which a cluster's document is the recorded one.
fn staged(recorded: &Value, pace: Pace) -> Scene {
    let mut world = world();
    world["accept_retired"] = json!(true);
    let scene = Scene::of(&world, pace);
    {
        let mut state = scene.azure.raw_lock();
        let cluster = state.clusters.values_mut().next().unwrap();
        let mut document = recorded.clone();
        for name in ["id", "name", "type", "eTag"] {
            document.as_object_mut().unwrap().remove(name);
        }
        let properties = document["properties"].as_object_mut().unwrap();
        properties.remove("provisioningState");
        for pool in properties["agentPoolProfiles"].as_array_mut().unwrap() {
            pool.as_object_mut().unwrap().remove("provisioningState");
            pool.as_object_mut().unwrap().remove("eTag");
        }
        cluster.document = document;
        cluster.extra = Value::Null;
        cluster.addon = None;
        cluster.show_kubelet();
        cluster.retag();
        scene.azure.reconcile(cluster);
    }
    scene
}

/// GET, PUT, polls, GET.
async fn replay_cluster(name: &str, pace: Pace, seconds: u64) {
    let all = recording(name);
    let scene = staged(&all[0].body, pace);
    let mut operation = String::new();
    for exchange in &all {
        let url = exchange.request["url"].as_str().unwrap();
        let is_poll = url.contains("/operations/");
        if is_poll && exchange.body["status"] == "Succeeded" {
            scene.advance(seconds);
        }
        let query = url.split_once('?').unwrap().1;
        let target = if is_poll {
            operation.clone()
        } else {
            format!("{}?{query}", scene.path(AKS))
        };
        let method = exchange.request["method"].as_str().unwrap();
        let ours = scene
            .send("owner", method, &target, &[], &exchange.request["body"])
            .await;
        // Labels come with answers during a change in newer traffic only.
        compare(
            exchange,
            &ours,
            &[],
            &[".properties.agentPoolProfiles[].nodeLabels"],
        );
        if method == "PUT" {
            operation = poll_of(&ours);
        }
    }
}

#[tokio::test]
async fn enabling_the_addon_looks_as_recorded() {
    replay_cluster("aks-enable-addon.json", Pace::Real, 121).await;
}

#[tokio::test]
async fn rotation_looks_as_recorded() {
    replay_cluster("aks-enable-rotation.json", Pace::Real, 105).await;
}

#[tokio::test]
async fn disabling_the_addon_looks_as_recorded() {
    replay_cluster("aks-disable-addon.json", Pace::Real, 108).await;
}

#[tokio::test]
async fn an_update_of_2026_looks_as_recorded() {
    replay_cluster("aks-update-2026-with-etag.json", Pace::Real, 105).await;
}

#[tokio::test]
async fn a_creation_of_2026_looks_as_recorded() {
    let all = recording("aks-create-2026.json");
    let scene = Scene::new(Pace::Real);
    let target = scene
        .cluster()
        .replace("myAKSCluster", "fresh")
        .replace("2026-04-01", "2026-02-01");
    compare(&all[0], &scene.get("owner", &target).await, &[], &[]);
    let made = scene.put("owner", &target, all[1].request["body"].clone()).await;
    let but = [
        ".properties.serviceMeshProfile",
        ".identity.userAssignedIdentities",
        ".properties.ingressProfile.webAppRouting.dnsZoneResourceIds",
        ".properties.ingressProfile.webAppRouting.nginx",
    ];
    compare(&all[1], &made, &but, &[]);
    let poll = poll_of(&made);
    compare(&all[2], &scene.get("owner", &poll).await, &[], &[]);
}

/// Where the operation that an answer began is asked after.
fn poll_of(answer: &Answered) -> String {
    answer
        .header("azure-asyncoperation")
        .replacen("https://management.azure.com", "", 1)
}

#[tokio::test]
async fn a_creation_of_2023_with_the_addon_looks_as_recorded() {
    let all = recording("aks-create-addon-rotation.json");
    let mut world = world();
    world["accept_retired"] = json!(true);
    let scene = Scene::of(&world, Pace::Real);
    let target = scene
        .cluster()
        .replace("myAKSCluster", "fresh")
        .replace("2026-04-01", "2024-02-01");
    compare(&all[0], &scene.get("owner", &target).await, &[], &[]);
    let made = scene.put("owner", &target, all[1].request["body"].clone()).await;
    // A cluster made today looks as one made today, in every version: see the creation of 2026.
    let more = TODAYS_CLUSTER;
    compare(&all[1], &made, &[], more);
    let poll = poll_of(&made);
    compare(&all[2], &scene.get("owner", &poll).await, &[], &[]);
    scene.advance(361);
    compare(&all[3], &scene.get("owner", &poll).await, &[], &[]);
    compare(&all[4], &scene.get("owner", &target).await, &[], more);
}

/// What a new cluster of 2023 did not have.
const TODAYS_CLUSTER: &[&str] = &[
    ".kind",
    ".eTag",
    ".properties.autoUpgradeProfile",
    ".properties.bootstrapProfile",
    ".properties.metricsProfile",
    ".properties.networkProfile.loadBalancerProfile.backendPoolType",
    ".properties.networkProfile.networkDataplane",
    ".properties.networkProfile.networkPluginMode",
    ".properties.networkProfile.networkPolicy",
    ".properties.nodeProvisioningProfile",
    ".properties.oidcIssuerProfile.issuerURL",
    ".properties.resourceUID",
];

#[tokio::test]
async fn role_assignments_look_as_recorded() {
    let all = recording("role-assignment-put-get-delete.json");
    let scene = Scene::new(Pace::Fast);
    for exchange in &all {
        let base = scene.path("x").replace("/providers/x", "");
        let target = format!(
            "{base}/providers/Microsoft.Authorization/roleAssignments/88888888-7000-0000-0000-000000000003?api-version=2018-01-01-preview"
        );
        let mut body = exchange.request["body"].clone();
        if body.is_object() {
            body["properties"]["principalId"] = json!(scene.oid("stranger"));
            body["properties"]["roleDefinitionId"] = json!("/x/4633458b-17de-408a-b874-0445c86b69e6");
        }
        let method = exchange.request["method"].as_str().unwrap();
        let ours = scene.send("owner", method, &target, &[], &body).await;
        compare(exchange, &ours, &[], &[]);
    }
    let list = recording("role-assignment-list-at-scope.json");
    let base = scene.path("x").replace("/providers/x", "");
    let at = format!("{base}/providers/Microsoft.Authorization/roleAssignments");
    let target = format!("{at}/88888888-0000-0000-0000-000000000001?api-version=2020-04-01-preview");
    let mut body = list[0].request["body"].clone();
    body["properties"]["principalId"] = json!(scene.oid("stranger"));
    body["properties"]["principalType"] = json!("ServicePrincipal");
    let made = scene.send("owner", "PUT", &target, &[], &body).await;
    compare(&list[0], &made, &[], &[]);
    let target = format!("{at}?$filter=atScope%28%29&api-version=2020-04-01-preview");
    compare(&list[1], &scene.get("owner", &target).await, &[], &[]);
}

#[tokio::test]
async fn vaults_look_as_recorded() {
    let all = recording("kv-create-rbac.json");
    let scene = Scene::new(Pace::Real);
    let target = format!(
        "{}?api-version=2023-02-01",
        scene.path("Microsoft.KeyVault/vaults/cliakstestkv2")
    );
    for (index, exchange) in all.iter().enumerate() {
        if index == 3 {
            scene.advance(37);
        }
        let method = exchange.request["method"].as_str().unwrap();
        let ours = scene
            .send("owner", method, &target, &[], &exchange.request["body"])
            .await;
        compare(exchange, &ours, &[], &[]);
    }
    let policies = recording("kv-access-policy-add.json");
    let vault = scene.path("Microsoft.KeyVault/vaults/myValtZikfikxz");
    for exchange in &policies {
        let tail = if exchange.request["url"]
            .as_str()
            .unwrap()
            .contains("/accessPolicies/add")
        {
            "/accessPolicies/add"
        } else {
            ""
        };
        if exchange.request["method"] == "GET" {
            scene.advance(37);
        }
        let target = format!("{vault}{tail}?api-version=2022-07-01");
        let method = exchange.request["method"].as_str().unwrap();
        let ours = scene
            .send("owner", method, &target, &[], &exchange.request["body"])
            .await;
        compare(exchange, &ours, &[], &[]);
    }
}

#[tokio::test]
async fn certificates_look_as_recorded() {
    let all = recording("kv-certificate-get-and-versions.json");
    let scene = Scene::new(Pace::Fast);
    let policy = json!({"policy": {"key_props": {"exportable": true, "kty": "EC", "crv": "P-256", "reuse_key": false},
        "secret_props": {"contentType": "application/x-pkcs12"},
        "x509_props": {"subject": "CN=www.mytestdomain.com", "validity_months": 60}, "issuer": {"name": "Self"}}});
    scene.azure.patch(&json!({})).unwrap();
    scene
        .data(
            "owner",
            "POST",
            "old",
            "/certificates/x/create?api-version=7.0",
            &policy,
        )
        .await;
    for _ in 0..2 {
        let begun = scene
            .data(
                "owner",
                "POST",
                "myAKSKeyVault",
                "/certificates/cert1/create?api-version=7.0",
                &policy,
            )
            .await;
        assert_eq!(begun.status, 202, "{}", begun.body);
    }
    for exchange in &all {
        let url = exchange.request["url"].as_str().unwrap();
        let mut target = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap();
        if let Some(version) = exchange.body["id"].as_str().and_then(|id| id.rsplit('/').next())
            && target.contains(version)
        {
            let list = scene
                .data(
                    "owner",
                    "GET",
                    "myAKSKeyVault",
                    "/certificates/cert1/versions?api-version=7.0",
                    &Value::Null,
                )
                .await;
            let own = list.body["value"][0]["id"]
                .as_str()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned();
            target = target.replace(version, &own);
        }
        let ours = scene
            .data("owner", "GET", "myAKSKeyVault", &target, &Value::Null)
            .await;
        compare(exchange, &ours, &[], &[".policy.key_props.crv"]);
    }
}

#[tokio::test]
async fn the_end_of_a_cluster_looks_as_recorded() {
    let all = recording("aks-delete.json");
    let scene = Scene::new(Pace::Real);
    let ours = scene
        .send("owner", "DELETE", &scene.cluster(), &[], &Value::Null)
        .await;
    compare(&all[0], &ours, &[], &[]);
}

#[tokio::test]
async fn the_end_of_a_vault_looks_as_recorded() {
    let all = recording("kv-update-name-check-delete-purge.json");
    let scene = Scene::new(Pace::Real);
    let made = recording("kv-access-policy-add.json");
    let vault = format!(
        "{}?api-version=2022-07-01",
        scene.path("Microsoft.KeyVault/vaults/myValtZikfikxz")
    );
    scene.put("owner", &vault, made[0].request["body"].clone()).await;
    scene.advance(37);
    let mut poll = String::new();
    for exchange in &all {
        let url = exchange.request["url"].as_str().unwrap();
        let below = url.splitn(6, '/').nth(5).unwrap();
        let target = match url {
            _ if url.contains("/operationResults/") => poll.clone(),
            _ if url.contains("/resourceGroups/") => vault.clone(),
            _ => format!("/subscriptions/{}/{below}", id_of("/subscriptions/main")),
        };
        if exchange.body["status"] == "Succeeded" {
            scene.advance(37);
        }
        let mut body = exchange.request["body"].clone();
        if body["name"] == "sample-vault" {
            body["name"] = json!("old");
        }
        let method = exchange.request["method"].as_str().unwrap();
        let ours = scene.send("owner", method, &target, &[], &body).await;
        compare(exchange, &ours, &[], &[]);
        if ours.header("location").contains("/operationResults/") {
            poll = ours
                .header("location")
                .replacen("https://management.azure.com", "", 1);
        }
    }
}

/// Replays calls on a vault's data, with keys that are made quickly.
async fn replay_data(scene: &Scene, name: &str, skip: usize, more: &[&str]) {
    for exchange in recording(name).iter().skip(skip) {
        let url = exchange.request["url"].as_str().unwrap();
        let target = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap();
        let mut body = exchange.request["body"].clone();
        if body["policy"].is_object() {
            body["policy"]["key_props"] =
                json!({"exportable": true, "kty": "EC", "crv": "P-256", "reuse_key": false});
        }
        if exchange.body["status"] == "completed" || target.contains("deletedcertificates") {
            scene.advance(if exchange.body["value"] == json!([]) {
                0
            } else {
                11
            });
        }
        let method = exchange.request["method"].as_str().unwrap();
        let who = if exchange.status == 401 { "" } else { "owner" };
        let ours = scene.data(who, method, "myAKSKeyVault", &target, &body).await;
        compare(exchange, &ours, &[], more);
    }
}

#[tokio::test]
async fn the_creation_of_a_certificate_looks_as_recorded() {
    let scene = Scene::new(Pace::Real);
    replay_data(&scene, "kv-certificate-create-and-pending.json", 0, &[]).await;
}

#[tokio::test]
async fn the_end_of_a_certificate_looks_as_recorded() {
    let scene = Scene::new(Pace::Real);
    let policy = json!({"policy": {"key_props": {"kty": "EC", "crv": "P-256"}, "issuer": {"name": "Self"},
        "x509_props": {"subject": "CN=www.mytestdomain.com"}}});
    scene
        .data(
            "owner",
            "POST",
            "myAKSKeyVault",
            "/certificates/cert1/create?api-version=7.0",
            &policy,
        )
        .await;
    scene.advance(5);
    replay_data(
        &scene,
        "kv-certificate-soft-delete.json",
        0,
        &[".policy.key_props.crv"],
    )
    .await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_issuer_looks_as_recorded() {
    let mut world = world();
    world["vaults"]["myAKSKeyVault"]["certificates"] = json!({"pending-cert": {"hosts": ["a.example.com"], "key": "P-256", "issuer": "Unknown", "pending": true}});
    let scene = Scene::of(&world, Pace::Real);
    replay_data(&scene, "kv-certificate-pending-merge-errors.json", 0, &[]).await;
}

#[tokio::test]
async fn an_unknown_role_looks_as_recorded() {
    let all = recording("role-definition-not-found.json");
    let scene = Scene::new(Pace::Fast);
    let path = "providers/Microsoft.Authorization/roleDefinitions/7b266cd7-0bba-4ae2-8423-90ede5e1e898";
    let target = format!(
        "/subscriptions/{}/{path}?api-version=2015-07-01",
        id_of("/subscriptions/main")
    );
    compare(&all[0], &scene.get("owner", &target).await, &[], &[]);
}

/// The path of a recorded address.
fn path_of(exchange: &Exchange) -> String {
    let url = exchange.request["url"].as_str().unwrap();
    url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap()
}

/// What a certificate's secret holds: PEM, or a PFX in base64.
async fn secret_value(scene: &Scene, name: &str) -> Value {
    let target = format!("/secrets/{name}?api-version=7.0");
    let secret = scene
        .data("owner", "GET", "myAKSKeyVault", &target, &Value::Null)
        .await;
    assert_eq!(secret.status, 200, "{}", secret.body);
    secret.body["value"].clone()
}

/// An import as it was recorded, with a key that is made quickly and a value that was not trimmed.
fn import_body(exchange: &Exchange, value: Value) -> Value {
    let mut body = exchange.request["body"].clone();
    body["value"] = value;
    body["policy"]["key_props"] =
        json!({"exportable": true, "kty": "EC", "crv": "P-256", "reuse_key": false});
    body
}

#[tokio::test]
async fn the_import_of_a_pem_looks_as_recorded() {
    let all = recording("kv-certificate-import-pem.json");
    let scene = Scene::new(Pace::Fast);
    let challenge = scene
        .data("", "POST", "myAKSKeyVault", &path_of(&all[0]), &Value::Null)
        .await;
    compare(&all[0], &challenge, &[], &[]);
    let body = import_body(&all[1], secret_value(&scene, "in-pem").await);
    let ours = scene
        .data("owner", "POST", "myAKSKeyVault", &path_of(&all[1]), &body)
        .await;
    let more = [
        ".policy.key_props.crv",
        ".policy.x509_props.sans",
        ".attributes.recoverableDays",
    ];
    compare(&all[1], &ours, &[".policy.key_props.key_size"], &more);
}

#[tokio::test]
async fn secret_import_and_end_of_a_pfx_look_as_recorded() {
    let all = recording("kv-certificate-secret-and-import-pfx.json");
    let scene = Scene::new(Pace::Fast);
    let policy = json!({"policy": {"key_props": {"exportable": true, "kty": "EC", "crv": "P-256", "reuse_key": false},
        "secret_props": {"contentType": "application/x-pkcs12"}, "issuer": {"name": "Self"},
        "x509_props": {"subject": "CN=www.mytestdomain.com", "validity_months": 60}}});
    let create = "/certificates/cert2/create?api-version=7.0";
    scene
        .data("owner", "POST", "myAKSKeyVault", create, &policy)
        .await;
    let pfx = secret_value(&scene, "cert2").await;
    for exchange in &all {
        let method = exchange.request["method"].as_str().unwrap();
        let body = if method == "POST" {
            import_body(exchange, pfx.clone())
        } else {
            Value::Null
        };
        let ours = scene
            .data("owner", method, "myAKSKeyVault", &path_of(exchange), &body)
            .await;
        let more = [".policy.key_props.crv", ".policy.x509_props.sans"];
        compare(exchange, &ours, &[".policy.key_props.key_size"], &more);
    }
}

#[tokio::test]
async fn a_role_assignment_without_a_type_looks_as_recorded() {
    let all = recording("role-assignment-create.json");
    let scene = Scene::new(Pace::Fast);
    let vault = scene.path("Microsoft.KeyVault/vaults/myAKSKeyVault");
    let read = scene
        .get("owner", &format!("{vault}?api-version=2023-02-01"))
        .await;
    compare(&all[0], &read, &[], &[]);
    for exchange in &all[1..] {
        let url = exchange.request["url"].as_str().unwrap();
        let below = url.split("/providers/Microsoft.Authorization/").nth(1).unwrap();
        let target = format!("{vault}/providers/Microsoft.Authorization/{below}");
        let mut body = exchange.request["body"].clone();
        if body.is_object() {
            body["properties"]["principalId"] = json!(scene.oid("stranger"));
        }
        let method = exchange.request["method"].as_str().unwrap();
        let ours = scene.send("owner", method, &target, &[], &body).await;
        compare(exchange, &ours, &[], &[]);
    }
}

#[tokio::test]
async fn an_overtaken_operation_looks_as_recorded() {
    let all = recording("aks-approuting-and-addon-operation-succeeded-with-error.json");
    let scene = staged(&all[1].body, Pace::Real);
    let mut body = scene.get("owner", &scene.cluster()).await.body;
    body["properties"]["addonProfiles"] = json!({"azureKeyvaultSecretsProvider": {"enabled": true,
        "config": {"enableSecretRotation": "false", "rotationPollInterval": "2m"}}});
    let mut request = scene.request("PUT", &scene.cluster(), &[], &body);
    request
        .extensions_mut()
        .insert(crate::sandbox::core::StagedOutcome {
            status: "NotLatestOperation".to_owned(),
            error: None,
        });
    let caller = Ok(scene.caller("owner"));
    let begun = read(scene.azure.answer_arm(request, caller).await).await;
    assert_eq!(begun.status, 200, "{}", begun.body);
    let poll = poll_of(&begun);
    scene.advance(121);
    compare(&all[0], &scene.get("owner", &poll).await, &[], &[]);
    let target = scene.cluster().replace("2026-04-01", "2024-08-01");
    compare(&all[1], &scene.get("owner", &target).await, &[], &[]);
}
