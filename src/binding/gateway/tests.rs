use super::*;
use crate::binding::desired::Certificate;
use crate::binding::fixtures;

fn wished(parent: Parent) -> Desired {
    let mut desired = fixtures::desired();
    let mut rules = desired.ingress.take().unwrap().rules;
    let by_reference = matches!(
        parent,
        Parent::Foreign {
            attach: Attach::Reference,
            ..
        }
    );
    rules.truncate(1);
    let own = fixtures::own_gateway();
    desired.gateway = Some(Gateway {
        parent,
        listeners: if by_reference {
            BTreeMap::new()
        } else {
            own.listeners.clone()
        },
        rules,
        ..own
    });
    desired
}

fn own() -> Parent {
    Parent::Own {
        class: "approuting-istio".to_owned(),
    }
}

fn foreign(attach: Attach) -> Parent {
    Parent::Foreign {
        namespace: "infra".to_owned(),
        name: "shared".to_owned(),
        attach,
    }
}

fn keys(desired: &Desired) -> Vec<String> {
    objects(desired)
        .iter()
        .map(|(object, _)| object.to_string())
        .collect()
}

#[test]
fn a_gateway_of_ones_own_terminates_tls_and_redirects() {
    let desired = wished(own());
    assert_eq!(
        keys(&desired),
        [
            "Gateway shop/shop",
            "HTTPRoute shop/shop",
            "HTTPRoute shop/shop-redirect"
        ]
    );
    let all = objects(&desired);
    let listeners = &all[0].1["spec"]["listeners"];
    assert_eq!(listeners[0]["hostname"], "myapp.example.com");
    assert_eq!(listeners[0]["tls"]["certificateRefs"][0]["name"], "shop-web");
    assert_eq!(
        (&listeners[1]["name"], &listeners[1]["port"]),
        (&json!("http"), &json!(80))
    );
    let parents = |index: usize| all[index].1["spec"]["parentRefs"].clone();
    assert_eq!(parents(1)[0]["sectionName"], "myapp.example.com");
    assert_eq!(parents(2)[0]["sectionName"], "http");
    assert_eq!(
        all[2].1["spec"]["rules"][0]["filters"][0]["requestRedirect"]["statusCode"],
        301
    );
}

#[test]
fn plain_http_is_served_as_it_is_if_no_redirect_is_wished() {
    let mut desired = wished(own());
    desired.gateway.as_mut().unwrap().ssl_redirect = false;
    let all = objects(&desired);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].1["spec"]["parentRefs"][1]["sectionName"], "http");
}

#[test]
fn nothing_of_ours_is_in_a_foreign_gateway() {
    let set = wished(foreign(Attach::ListenerSet));
    assert_eq!(
        keys(&set),
        [
            "ListenerSet shop/shop",
            "HTTPRoute shop/shop",
            "HTTPRoute shop/shop-redirect"
        ]
    );
    let all = objects(&set);
    assert_eq!(all[0].1["spec"]["parentRef"]["namespace"], "infra");
    assert_eq!(all[0].1["spec"]["listeners"][1]["hostname"], "myapp.example.com");
    assert_eq!(all[1].1["spec"]["parentRefs"][0]["kind"], "ListenerSet");

    let reference = wished(foreign(Attach::Reference));
    assert_eq!(
        keys(&reference),
        ["ReferenceGrant shop/shop", "HTTPRoute shop/shop"]
    );
    let all = objects(&reference);
    assert_eq!(
        all[0].1["spec"],
        json!({ "from": [{ "group": GROUP, "kind": "Gateway", "namespace": "infra" }],
            "to": [{ "group": "", "kind": "Secret", "name": "shop-web" }] })
    );
    assert_eq!(all[1].1["spec"]["parentRefs"][0]["name"], "shared");
}

#[test]
fn each_rule_is_a_route_of_its_own() {
    let mut desired = wished(own());
    let gateway = desired.gateway.as_mut().unwrap();
    let mut wild = gateway.rules[0].clone();
    wild.host = "*.example.org".to_owned();
    gateway.rules.push(wild);
    let listener = Listener {
        host: "*.example.org".to_owned(),
        certificate: "wild".to_owned(),
        port: 8443,
        allowed_routes: "All".to_owned(),
    };
    gateway.listeners.insert(listener_name("*.example.org"), listener);
    let certificate = Certificate {
        secret_name: "shop-wild".to_owned(),
        ..desired.certificates["web"].clone()
    };
    desired.certificates.insert("wild".to_owned(), certificate);
    let all = objects(&desired);
    let names: Vec<&str> = all.iter().map(|(object, _)| object.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "shop",
            "shop-myapp.example.com",
            "shop-wildcard.example.org",
            "shop-redirect"
        ]
    );
    assert_eq!(
        all[2].1["spec"]["parentRefs"],
        json!([{ "group": GROUP, "kind": "Gateway", "name": "shop", "sectionName": "wildcard.example.org" }])
    );
}

fn condition(kind: &str, status: &str, reason: &str, generation: i64) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": "as said", "observedGeneration": generation })
}

#[test]
fn conditions_are_read_for_the_newest_generation_and_the_cause_comes_first() {
    let desired = wished(own());
    let live = |generation: i64, conditions: Value| {
        json!({ "metadata": { "generation": generation }, "status": {
            "conditions": [condition("Accepted", "False", "ListenersNotValid", generation)],
            "listeners": [{ "name": "web", "conditions": conditions }] } })
    };
    let found = |gateway: Value| {
        let reference = GATEWAY.named("shop", "shop");
        problems(&desired, None, &[(reference, Some(gateway))])
    };
    let refused = found(live(
        2,
        json!([
            condition("Programmed", "False", "Invalid", 2),
            condition("ResolvedRefs", "False", "RefNotPermitted", 2)
        ]),
    ));
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].subject, "listener web of Gateway shop/shop");
    assert_eq!(refused[0].condition, "ResolvedRefs=False, RefNotPermitted");
    assert!(refused[0].fix.contains("reference_grants_from"), "{refused:?}");
    let old = found(live(
        2,
        json!([condition("ResolvedRefs", "False", "RefNotPermitted", 1)]),
    ));
    assert!(old[0].why.contains("newest generation"), "{old:?}");
    let well = json!({ "metadata": { "generation": 1 }, "status": {
        "conditions": [condition("Accepted", "True", "Accepted", 1)],
        "listeners": [{ "name": "web", "conditions": [condition("Conflicted", "False", "NoConflicts", 1)] }] } });
    assert_eq!(found(well), []);
}

#[test]
fn an_object_that_nobody_looked_at_is_a_problem_and_a_missing_backend_keeps_no_certificate_away() {
    let desired = wished(own());
    let route = HTTP_ROUTE.named("shop", "shop");
    let silent = json!({ "metadata": { "generation": 1 } });
    let found = problems(&desired, None, &[(route.clone(), Some(silent))]);
    assert!(found[0].why.contains("No controller"), "{found:?}");
    let missing = json!({ "metadata": { "generation": 1 }, "status": { "parents": [
        { "conditions": [condition("ResolvedRefs", "False", "BackendNotFound", 1)] }] } });
    let found = problems(&desired, None, &[(route, Some(missing))]);
    assert!(!found[0].concerns_tls, "{found:?}");
}

#[test]
fn an_owner_who_does_not_reference_our_secret_is_told_what_to_write() {
    let desired = wished(foreign(Attach::Reference));
    let owners = json!({ "metadata": { "generation": 1 }, "spec": { "listeners": [
        { "name": "a", "tls": { "certificateRefs": [{ "name": "shop-web" }] } }] } });
    let found = problems(&desired, Some(&owners), &[]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].fix.contains("name: shop-web, namespace: shop"),
        "{found:?}"
    );
}
