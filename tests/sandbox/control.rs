//! The control API: world, journal, clock, lags; and that it refuses what it does not know.

use std::time::Duration;

use kvtls::sandbox::Options;
use serde_json::json;

use super::client::{control, direct, front, world, world_with};

#[tokio::test(flavor = "multi_thread")]
async fn unknown_members_parameters_and_paths_are_refused() {
    let world = world().await;
    for (method, path, body, status) in [
        (
            "POST",
            "/clock",
            Some(json!({"advance": "10m", "fast": true})),
            400,
        ),
        ("POST", "/clock", Some(json!({"advance": "soon"})), 400),
        ("GET", "/journal?plain=arm", None, 400),
        ("PUT", "/lag", Some(json!({"aks_upgrade": "1s"})), 400),
        (
            "POST",
            "/faults",
            Some(json!({"match": {}, "do": {"lose": "face"}})),
            400,
        ),
        ("GET", "/faults/f9", None, 404),
        (
            "PATCH",
            "/world",
            Some(json!({"clusters": {"myAKSCluster": {"nodes": 9}}})),
            409,
        ),
        ("PATCH", "/edges/nowhere", Some(json!({"reachable": false})), 404),
        ("POST", "/explode", None, 404),
    ] {
        let (answered, body) = control(&world, method, path, body).await;
        assert_eq!(answered, status, "{method} {path}: {body}");
        assert!(body["error"]["message"].is_string(), "{body}");
    }
    let patch = json!({"clusters": {"myAKSCluster": {"nodes": 9}}});
    let (_, body) = control(&world, "PATCH", "/world", Some(patch)).await;
    assert_eq!(body["error"]["pointer"], "/clusters/myAKSCluster/nodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn advancing_wakes_in_order_and_says_who() {
    let world = world().await;
    let clock = world.clock();
    for (seconds, what) in [(120, "second"), (60, "first")] {
        let at = clock.now() + Duration::from_secs(seconds);
        clock.spawn_at(at, what, async {});
    }
    while !["first", "second"]
        .iter()
        .all(|what| clock.due().iter().any(|due| due.what == *what))
    {
        tokio::task::yield_now().await;
    }
    let before = clock.now();
    let (status, moved) = control(&world, "POST", "/clock", Some(json!({"advance": "10m"}))).await;
    assert_eq!(status, 200, "{moved}");
    let fired = moved["fired"].as_array().unwrap();
    let fired: Vec<_> = fired.iter().map(|due| due["what"].as_str().unwrap()).collect();
    let position = |what: &str| fired.iter().position(|fired| *fired == what).unwrap();
    assert!(position("first") < position("second"), "{fired:?}");
    assert!(clock.now() >= before + Duration::from_secs(600));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_live() {
    let world = world().await;
    let (_, moved) = control(
        &world,
        "POST",
        "/clock",
        Some(json!({"rate": 3600, "settle": false})),
    )
    .await;
    assert_eq!(moved["rate"], 3600.0);
    let before = world.clock().now();
    while world.clock().now() < before + Duration::from_secs(60) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lags_are_read_and_set_as_text() {
    let world = world().await;
    let (_, before) = control(&world, "GET", "/lag", None).await;
    assert_eq!(before["aks_update"], "2s");
    let (_, after) = control(&world, "PUT", "/lag", Some(json!({"role_effect": "3m"}))).await;
    assert_eq!(after["role_effect"], "3m");
    let (_, unchanged) = control(
        &world,
        "PUT",
        "/lag",
        Some(json!({"role_effect": "1s", "x": "1s"})),
    )
    .await;
    assert_eq!(unchanged["error"]["pointer"], "/x");
    let (_, after) = control(&world, "GET", "/lag", None).await;
    assert_eq!(after["role_effect"], "3m", "a refused change changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_can_be_waited_for_and_filtered() {
    let world = world().await;
    let waiting = control(
        &world,
        "GET",
        "/journal?plane=arm&path=/subscriptions/*&wait=10000",
        None,
    );
    let asking = async {
        let client = direct(&world);
        for path in ["/providers", "/subscriptions/a"] {
            client
                .get(format!("{}{path}", front(&world)))
                .send()
                .await
                .unwrap();
        }
    };
    let ((status, journal), ()) = tokio::join!(waiting, asking);
    assert_eq!(status, 200);
    assert_eq!(journal["entries"][0]["url"], "/subscriptions/a");
    let next = journal["next"].as_u64().unwrap();
    let (_, rest) = control(&world, "GET", &format!("/journal?after={next}&plane=arm"), None).await;
    assert_eq!(rest["entries"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_can_be_read_and_its_live_members_changed() {
    let world = world().await;
    let patch = json!({"resource_groups": {"myResourceGroup": {"lock": "CanNotDelete"}}});
    let (status, changed) = control(&world, "PATCH", "/world", Some(patch)).await;
    assert_eq!(status, 200, "{changed}");
    let pointer = "/world?pointer=/resource_groups/myResourceGroup/lock";
    let (_, lock) = control(&world, "GET", pointer, None).await;
    assert_eq!(lock, "CanNotDelete");
    let (_, rss) = control(&world, "GET", "/world?pointer=/rss_bytes", None).await;
    assert!(rss.as_u64().unwrap() > 1_000_000, "{rss}");
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_appear_nowhere_in_the_journal() {
    let world = world().await;
    super::client::token(&world, "deployer", "https://management.azure.com/.default").await;
    let markers = world.markers();
    assert!(markers.len() > 10, "{markers:?}");
    let journal = std::fs::read_to_string(world.dir().join("journal.jsonl")).unwrap();
    assert!(journal.contains("oauth2/v2.0/token"), "{journal}");
    for marker in markers {
        assert!(!journal.contains(&marker), "{marker}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_with_mistakes_does_not_start() {
    let options = Options {
        world: json!({"version": 1, "extends": "default", "vaults": {"v": {"rbac": "yes"}}, "moon": 1}),
        ..Options::default()
    };
    let refused = kvtls::sandbox::Sandbox::start(options).await.err().unwrap();
    let kvtls::sandbox::StartError::World(errors) = refused else {
        unreachable!("{refused}");
    };
    let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/moon", "/vaults/v/rbac"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_world_leaves_only_ports_nobody_listens_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        dir: Some(dir.path().to_owned()),
        ..Options::default()
    };
    let world = world_with(options).await;
    let (front, client) = (front(&world), direct(&world));
    world.stop().await;
    client
        .get(format!("{front}/sandbox/world"))
        .send()
        .await
        .unwrap_err();
    let mut left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["journal.jsonl", "lock"]);
}
