use super::*;
use crate::framework::planning;
use crate::provider::ingress_binding::schema::schema;

const CLUSTER: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/aks-prod";
const VAULT: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv-prod";

/// A whole configuration, of which `changes` are set.
fn config(changes: &[(&str, Value)]) -> Value {
    let mut members: BTreeMap<String, Value> = schema()
        .attributes
        .keys()
        .map(|name| (name.clone(), Value::Null))
        .collect();
    let written = [
        ("name", Value::from("shop")),
        ("cluster_id", Value::from(CLUSTER)),
        ("key_vault_id", Value::from(VAULT)),
        ("certificates", certificates(&[("web", &[])])),
        ("ingress", ingress(&["a.example.com", "b.example.com"])),
    ];
    members.extend(
        written
            .iter()
            .chain(changes)
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    Value::Map(members)
}

/// Certificates by key, with their hosts; no hosts means that none are written.
fn certificates(all: &[(&str, &[&str])]) -> Value {
    Value::object(all.iter().map(|(key, hosts)| {
        let hosts = if hosts.is_empty() {
            Value::Null
        } else {
            Value::List(hosts.iter().map(|it| Value::from(*it)).collect())
        };
        (
            *key,
            Value::object([
                ("certificate", Value::Null),
                ("hosts", hosts),
                ("secret_name", Value::Null),
            ]),
        )
    }))
}

fn ingress(hosts: &[&str]) -> Value {
    let path = Value::object([
        ("path", Value::Null),
        ("path_type", Value::Null),
        ("service", Value::from("app")),
        ("port", Value::from("80")),
    ]);
    let rules = hosts.iter().map(|host| {
        Value::object([
            ("host", Value::from(*host)),
            ("paths", Value::List(vec![path.clone()])),
        ])
    });
    Value::object([
        ("name", Value::Null),
        ("class_name", Value::from("nginx")),
        ("rules", Value::List(rules.collect())),
        ("ssl_redirect", Value::Null),
        ("annotations", Value::Null),
        ("labels", Value::Null),
    ])
}

/// What the framework and [`fill`] make of a configuration on creation.
fn planned(config: &Value) -> Value {
    let mut planned = planning::propose(&schema(), config, &Value::Null, config);
    fill(config, &mut planned);
    planned
}

fn errors(config: &Value) -> Vec<(String, String)> {
    contradictions(config)
        .iter()
        .map(|it| (it.attribute.to_string(), it.summary.clone()))
        .collect()
}

#[test]
fn ten_lines_of_configuration_are_enough() {
    let desired = parse(&planned(&config(&[])), &Defaults::default())
        .unwrap()
        .unwrap();
    assert_eq!(desired.namespace, "default");
    assert_eq!(desired.addon.mode, Mode::Ensure);
    assert!(desired.addon.rotation_enabled);
    assert_eq!(desired.verify.level, VerifyLevel::Auto);
    assert_eq!(desired.verify.timeout, Duration::from_secs(300));
    let web = &desired.certificates["web"];
    assert_eq!(
        (web.certificate.as_str(), web.secret_name.as_str()),
        ("web", "shop-web")
    );
    assert_eq!(web.hosts, ["a.example.com", "b.example.com"]);
    let ingress = desired.ingress.unwrap();
    assert_eq!(ingress.name, "shop");
    assert_eq!(ingress.rules[0].paths[0].port, Port::Number(80));
    assert_eq!(ingress.rules[0].paths[0].path_type, "Prefix");
}

#[test]
fn what_is_unknown_leaves_the_binding_undecided_and_is_no_error() {
    for name in ["name", "cluster_id", "key_vault_id", "certificates", "ingress"] {
        let planned = planned(&config(&[(name, Value::Unknown)]));
        assert_eq!(parse(&planned, &Defaults::default()), Ok(None), "{name}");
    }
    let planned = planned(&config(&[("name", Value::Unknown)]));
    assert_eq!(
        planned.get("certificates").get("web").get("secret_name"),
        &Value::Unknown
    );
    assert_eq!(
        planned.get("certificates").get("web").get("certificate"),
        &Value::from("web")
    );
}

#[test]
fn two_certificates_need_hosts_of_their_own_secrets_and_hosts() {
    let both = certificates(&[("web", &["a.example.com"]), ("api", &[])]);
    let found = errors(&config(&[("certificates", both)]));
    assert_eq!(
        found[0],
        (
            "certificates[\"api\"].hosts".to_owned(),
            "Hosts are needed".to_owned()
        )
    );

    let twice = certificates(&[
        ("web", &["a.example.com"]),
        ("api", &["b.example.com", "a.example.com"]),
    ]);
    let found = errors(&config(&[("certificates", twice)]));
    assert_eq!(
        found,
        [(
            "certificates[\"web\"].hosts[0]".to_owned(),
            "Host has two certificates".to_owned()
        )]
    );

    let mut clash = certificates(&[("web", &["a.example.com"]), ("api", &["b.example.com"])]);
    let api = clash.as_map_mut().unwrap().get_mut("api").unwrap();
    api.as_map_mut()
        .unwrap()
        .insert("secret_name".to_owned(), Value::from("shop-web"));
    let found = errors(&config(&[("certificates", clash)]));
    assert_eq!(
        found,
        [(
            "certificates[\"web\"].secret_name".to_owned(),
            "Secret name is used twice".to_owned()
        )]
    );
}

#[test]
fn a_rule_without_a_certificate_is_an_error_on_its_host() {
    let one = certificates(&[("web", &["a.example.com"])]);
    let found = errors(&config(&[("certificates", one)]));
    assert_eq!(
        found,
        [(
            "ingress.rules[1].host".to_owned(),
            "Host has no certificate".to_owned()
        )]
    );
}

#[test]
fn a_certificate_of_another_vault_is_refused() {
    let mut other = certificates(&[("web", &[])]);
    let web = other.as_map_mut().unwrap().get_mut("web").unwrap();
    let id = Value::from("https://kv-test.vault.azure.net/certificates/web");
    web.as_map_mut().unwrap().insert("certificate".to_owned(), id);
    let found = errors(&config(&[("certificates", other)]));
    assert_eq!(
        found,
        [(
            "certificates[\"web\"].certificate".to_owned(),
            "Certificate is in another vault".to_owned()
        )]
    );
}
