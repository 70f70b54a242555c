use super::*;

#[tokio::test]
async fn objects_are_created_read_listed_and_refused_twice() {
    let world = World::new();
    let made = world.post(MAPS, &map("a", json!({"k": "v"}))).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let made = made.body;
    assert_eq!(made["kind"], "ConfigMap");
    let read = world.get(&format!("{MAPS}/a")).await.ok();
    assert_eq!(read, made);
    let list = world.get(MAPS).await.ok();
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert_eq!(
        list["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let again = world.post(MAPS, &map("a", json!({}))).await.refused(409);
    assert_eq!(again, "configmaps \"a\" already exists");
    let missing = world.get(&format!("{MAPS}/b")).await.refused(404);
    assert_eq!(missing, "configmaps \"b\" not found");
    assert_eq!(
        world.get("/apis/nobody.io/v1/things").await.text,
        "404 page not found\n"
    );
    assert_eq!(world.put(MAPS, &map("a", json!({}))).await.code, 405);
}

#[tokio::test]
async fn a_watch_tells_every_change_from_a_revision() {
    let world = World::new();
    let start = world.revision();
    world.post(MAPS, &map("a", json!({}))).await.ok();
    let mut events = Events::of(&world, &format!("{MAPS}?watch=true&resourceVersion={start}")).await;
    assert_eq!(events.word().await, "ADDED a");
    world
        .merge(&format!("{MAPS}/a"), &json!({"data": {"x": "y"}}))
        .await
        .ok();
    assert_eq!(events.word().await, "MODIFIED a");
    world.delete(&format!("{MAPS}/a"), &Value::Null).await.ok();
    assert_eq!(events.word().await, "DELETED a");
}

#[tokio::test]
async fn a_watch_from_nothing_begins_with_what_is_there_and_a_bookmark_ends_it() {
    let world = World::new();
    world.post(MAPS, &map("a", json!({}))).await.ok();
    let mut events = Events::of(&world, &format!("{MAPS}?watch=1")).await;
    assert_eq!(events.word().await, "ADDED a");
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let mut events = Events::of(&world, &path).await;
    assert_eq!(events.word().await, "ADDED a");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test]
async fn an_object_that_leaves_the_selection_is_deleted_for_the_watch() {
    let world = World::new();
    let start = world.revision();
    let path = format!("{MAPS}?watch=1&labelSelector=app%3Dx&resourceVersion={start}");
    let mut events = Events::of(&world, &path).await;
    let mut object = map("a", json!({}));
    world.post(MAPS, &object).await.ok();
    object["metadata"]["labels"] = json!({"app": "x"});
    world.put(&format!("{MAPS}/a"), &object).await.ok();
    assert_eq!(events.word().await, "ADDED a");
    object["metadata"]["labels"] = json!({"app": "y"});
    world.put(&format!("{MAPS}/a"), &object).await.ok();
    assert_eq!(events.word().await, "DELETED a");
}

#[tokio::test]
async fn a_revision_that_is_forgotten_is_gone() {
    let world = World::new();
    let start = world.revision();
    world.post(MAPS, &map("a", json!({}))).await.ok();
    world.server.compact();
    let mut events = Events::of(&world, &format!("{MAPS}?watch=1&resourceVersion={start}")).await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (event["type"].as_str(), event["object"]["code"].as_u64()),
        (Some("ERROR"), Some(410))
    );
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(events.next().await, None);
    let list = world
        .get(&format!(
            "{MAPS}?resourceVersion={start}&resourceVersionMatch=Exact"
        ))
        .await;
    list.refused(410);
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over() {
    let world = World::new();
    let mut events = Events::of(
        &world,
        &format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=1"),
    )
    .await;
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn long_lists_come_in_pieces_of_one_revision() {
    let world = World::new();
    for name in ["a", "b", "c", "d", "e"] {
        world.post(MAPS, &map(name, json!({}))).await.ok();
    }
    let first = world.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    world.delete(&format!("{MAPS}/d"), &Value::Null).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = world.get(&format!("{MAPS}?limit=10&continue={token}")).await.ok();
    let names: Vec<_> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["metadata"]["name"])
        .collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn selectors_restrict_lists() {
    let world = World::new();
    world
        .post("/api/v1/namespaces/default/pods", &pod("a"))
        .await
        .ok();
    world
        .post("/api/v1/namespaces/default/pods", &pod("b"))
        .await
        .ok();
    let patch = json!({"spec": {"nodeName": "n1"}});
    world
        .merge("/api/v1/namespaces/default/pods/a", &patch)
        .await
        .ok();
    for (query, wanted) in [
        ("labelSelector=app+in+(a,x)", vec!["a"]),
        ("labelSelector=app!%3Da", vec!["b"]),
        ("fieldSelector=spec.nodeName%3Dn1", vec!["a"]),
        ("fieldSelector=status.phase%3DPending", vec!["a", "b"]),
        ("fieldSelector=metadata.name%3Db,spec.nodeName%3D", vec!["b"]),
    ] {
        let list = world.get(&format!("/api/v1/pods?{query}")).await.ok();
        let names: Vec<_> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, wanted, "{query}");
    }
    let refusal = world
        .get("/api/v1/pods?fieldSelector=spec.image%3Dx")
        .await
        .refused(400);
    assert_eq!(refusal, "field label not supported: spec.image");
}

#[tokio::test]
async fn metadata_alone_can_be_asked_for() {
    let world = World::new();
    world.post(MAPS, &map("a", json!({"k": "v"}))).await.ok();
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )];
    let list = world
        .send(MASTERS, Method::GET, MAPS, &accept, Bytes::new())
        .await
        .ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    assert_eq!(list["items"][0].get("data"), None);
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    )];
    let one = world
        .send(MASTERS, Method::GET, &format!("{MAPS}/a"), &accept, Bytes::new())
        .await
        .ok();
    assert_eq!(
        (one["kind"].as_str(), one.get("data")),
        (Some("PartialObjectMetadata"), None)
    );
}

#[tokio::test]
async fn metadata_in_the_wrong_number_is_not_acceptable() {
    let world = World::new();
    world.post(MAPS, &map("a", json!({"k": "v"}))).await.ok();
    let (one, many) = (format!("{MAPS}/a"), MAPS.to_owned());
    for (path, form, said) in [
        (&many, "PartialObjectMetadata", "is a list (*core.ConfigMapList)"),
        (
            &one,
            "PartialObjectMetadataList",
            "is not a list (*core.ConfigMap)",
        ),
    ] {
        let form = format!("application/json;as={form};g=meta.k8s.io;v=v1,application/json");
        let accept = [("accept", form.as_str())];
        let refusal = world
            .send(MASTERS, Method::GET, path, &accept, Bytes::new())
            .await
            .refused(406);
        assert!(refusal.contains(said), "{refusal}");
    }
}

#[tokio::test]
async fn discovery_names_what_is_served() {
    let world = World::new();
    assert_eq!(world.get("/version").await.ok()["gitVersion"], "v1.34.2");
    assert_eq!(world.get("/api").await.ok()["versions"], json!(["v1"]));
    let groups = world.get("/apis").await.ok();
    assert!(
        groups["groups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|group| group["name"] == "apps")
    );
    let apps = world.get("/apis/apps/v1").await.ok();
    let names: Vec<_> = apps["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"deployments/scale") && names.contains(&"daemonsets/status"),
        "{names:?}"
    );
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    )];
    let all = world
        .send(MASTERS, Method::GET, "/apis", &accept, Bytes::new())
        .await
        .ok();
    assert_eq!(all["kind"], "APIGroupDiscoveryList");
    let index = world.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let document = world.get(url).await.ok();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
}
