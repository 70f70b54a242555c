use super::*;

type Variables = &'static [(&'static str, &'static str)];

fn config(members: &[(&str, Value)]) -> Value {
    Value::object(
        members
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    )
}

fn settings(members: &[(&str, Value)], variables: Variables) -> CredentialSettings {
    read(&config(members), &variables.iter().copied().collect()).unwrap()
}

/// The attribute an error is on, and its text.
fn refused(members: &[(&str, Value)], variables: Variables) -> (String, String) {
    let error = read(&config(members), &variables.iter().copied().collect()).unwrap_err();
    let error = error.iter().next().unwrap().clone();
    let attribute = error.attribute.to_string();
    (attribute, error.text())
}

#[test]
fn every_setting_has_its_variables_in_order() {
    type Get = fn(&CredentialSettings) -> Option<String>;
    let rows: &[(Variables, Get, &str)] = &[
        (&[("ARM_TENANT_ID", "t")], |s| s.tenant_id.clone(), "t"),
        (
            &[("ARM_SUBSCRIPTION_ID", "s")],
            |s| s.subscription_id.clone(),
            "s",
        ),
        (&[("ARM_CLIENT_ID", "c")], |s| s.client_id.clone(), "c"),
        (
            &[("ARM_CLIENT_SECRET", "x")],
            |s| s.client_secret.as_ref().map(|s| s.expose().to_owned()),
            "x",
        ),
        (
            &[("ARM_CLIENT_CERTIFICATE_PASSWORD", "p")],
            |s| {
                s.client_certificate_password
                    .as_ref()
                    .map(|s| s.expose().to_owned())
            },
            "p",
        ),
        (
            &[
                ("SYSTEM_OIDCREQUESTURI", "3"),
                ("ACTIONS_ID_TOKEN_REQUEST_URL", "2"),
            ],
            |s| s.oidc_request_url.clone(),
            "2",
        ),
        (
            &[
                ("ACTIONS_ID_TOKEN_REQUEST_URL", "2"),
                ("ARM_OIDC_REQUEST_URL", "1"),
            ],
            |s| s.oidc_request_url.clone(),
            "1",
        ),
        (
            &[("SYSTEM_ACCESSTOKEN", "3")],
            |s| s.oidc_request_token.as_ref().map(|s| s.expose().to_owned()),
            "3",
        ),
        (
            &[
                ("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "3"),
                ("ARM_OIDC_AZURE_SERVICE_CONNECTION_ID", "2"),
            ],
            |s| s.ado_pipeline_service_connection_id.clone(),
            "2",
        ),
        (&[("ARM_MSI_ENDPOINT", "m")], |s| s.msi_endpoint.clone(), "m"),
        (
            &[("ARM_MSI_API_VERSION", "v")],
            |s| s.msi_api_version.clone(),
            "v",
        ),
        (
            &[("IDENTITY_ENDPOINT", "i")],
            |s| s.identity_endpoint.clone(),
            "i",
        ),
        (
            &[("ARM_AUXILIARY_TENANT_IDS", "a; b")],
            |s| Some(s.auxiliary_tenant_ids.join(",")),
            "a,b",
        ),
    ];
    for (variables, get, expected) in rows {
        let read = settings(&[], variables);
        assert_eq!(get(&read).as_deref(), Some(*expected), "{variables:?}");
    }
    let on = settings(
        &[],
        &[
            ("ARM_USE_OIDC", "true"),
            ("ARM_USE_MSI", "1"),
            ("ARM_USE_CLI", "false"),
        ],
    );
    assert!(on.use_oidc && on.use_msi && !on.use_cli);
    let unset = settings(&[], &[]);
    assert!(
        !unset.use_oidc && !unset.use_msi && unset.use_cli,
        "only the CLI is on by itself"
    );
}

#[test]
fn the_block_wins_over_variables_and_over_the_other_form_s_variable() {
    let rows = [
        settings(
            &[("client_id", Value::from("written"))],
            &[("ARM_CLIENT_ID", "variable")],
        ),
        settings(
            &[("client_id", Value::from("written"))],
            &[("ARM_CLIENT_ID_FILE_PATH", "/nowhere")],
        ),
    ];
    for row in rows {
        assert_eq!(row.client_id.as_deref(), Some("written"));
    }
    let certificate = settings(
        &[("client_certificate_path", Value::from("/a.pfx"))],
        &[("ARM_CLIENT_CERTIFICATE", "QQ==")],
    );
    assert_eq!(
        certificate.client_certificate,
        Some(ClientCertificate::File(PathBuf::from("/a.pfx")))
    );
    let cli = settings(&[("use_cli", Value::from(true))], &[("ARM_USE_CLI", "false")]);
    assert!(cli.use_cli);
}

#[test]
fn files_are_read_and_must_agree() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Value::from(path.display().to_string())
    };
    let read = settings(
        &[
            ("client_id_file_path", file("id", "app\n")),
            ("client_secret_file_path", file("secret", " hunter2 \n")),
        ],
        &[],
    );
    assert_eq!(read.client_id.as_deref(), Some("app"));
    assert_eq!(read.client_secret, Some(Secret::new("hunter2")));
    let (attribute, text) = refused(
        &[
            ("client_secret", Value::from("other")),
            ("client_secret_file_path", file("secret", "hunter2")),
        ],
        &[],
    );
    assert_eq!(attribute, "client_secret_file_path");
    assert!(
        text.contains("something else") && !text.contains("hunter2"),
        "{text}"
    );
    let (attribute, text) = refused(&[("client_id_file_path", Value::from("/nowhere"))], &[]);
    assert_eq!(attribute, "client_id_file_path");
    assert!(text.contains("/nowhere"), "{text}");
    let (_, text) = refused(&[("client_id_file_path", file("empty", "\n"))], &[]);
    assert!(text.contains("is empty"), "{text}");
}

#[test]
fn contradictions_are_told_on_their_attribute() {
    let tenants: Vec<Value> = ["a", "b", "c", "d"].into_iter().map(Value::from).collect();
    type Row<'a> = (&'a [(&'a str, Value)], Variables, &'a str, &'a str);
    let rows: [Row<'_>; 6] = [
        (
            &[
                ("client_certificate", Value::from("QQ==")),
                ("client_certificate_path", Value::from("/a.pfx")),
            ],
            &[],
            "client_certificate_path",
            "both set",
        ),
        (
            &[],
            &[
                ("ARM_CLIENT_CERTIFICATE", "QQ=="),
                ("ARM_CLIENT_CERTIFICATE_PATH", "/a.pfx"),
            ],
            "client_certificate_path",
            "both set",
        ),
        (
            &[("use_oidc", Value::from(true)), ("use_cli", Value::from(false))],
            &[],
            "use_oidc",
            "id-token: write",
        ),
        (
            &[("use_aks_workload_identity", Value::from(true))],
            &[("ARM_USE_CLI", "false")],
            "use_aks_workload_identity",
            "AZURE_FEDERATED_TOKEN_FILE",
        ),
        (
            &[
                ("client_id", Value::from("app")),
                ("use_aks_workload_identity", Value::from(true)),
            ],
            &[
                ("AZURE_CLIENT_ID", "pod"),
                ("AZURE_FEDERATED_TOKEN_FILE", "/token"),
            ],
            "client_id",
            "AZURE_CLIENT_ID",
        ),
        (
            &[("auxiliary_tenant_ids", Value::List(tenants))],
            &[],
            "auxiliary_tenant_ids",
            "4 tenants",
        ),
    ];
    for (members, variables, attribute, words) in rows {
        let (at, text) = refused(members, variables);
        assert_eq!(at, attribute, "{text}");
        assert!(text.contains(words) && text.contains("KVTLS-E012"), "{text}");
    }
}

#[test]
fn a_pod_s_variables_count_only_with_workload_identity() {
    const POD: Variables = &[
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"),
    ];
    let without = settings(&[], POD);
    assert_eq!(
        (without.client_id, without.tenant_id, without.oidc_token_file),
        (None, None, None)
    );
    let with = settings(&[("use_aks_workload_identity", Value::from(true))], POD);
    assert!(with.use_oidc);
    assert_eq!(
        (with.client_id.as_deref(), with.tenant_id.as_deref()),
        (Some("app"), Some("tenant"))
    );
    assert_eq!(with.oidc_token_file, Some(PathBuf::from("/var/run/token")));
}

#[test]
fn federation_without_a_source_leaves_room_for_whoever_else_is_set_up() {
    let cli = settings(&[("use_oidc", Value::from(true))], &[]);
    assert!(cli.use_oidc && cli.use_cli, "a developer with the same block");
}
