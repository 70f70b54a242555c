use std::path::PathBuf;

use azure_core::http::Transport;

use super::*;
use crate::azure::sender::Signature;
use crate::azure::settings::ClientCertificate;

fn credentials(settings: &CredentialSettings) -> Credentials {
    let signature = Signature {
        user_agent: "test".to_owned(),
        correlation_id: None,
    };
    let sender = Arc::new(Sender::new(Transport::default(), signature));
    Credentials::new(settings, &sender, &sender)
}

fn cloud() -> Cloud {
    Cloud {
        authority_host: "https://login.local".into(),
        resource_manager: "https://arm.local".into(),
        resource_manager_audience: "https://arm.local".into(),
        key_vault_suffix: "vault.local".into(),
        provider_cloud_name: None,
    }
}

/// Everything that any kind could want.
fn everything() -> CredentialSettings {
    CredentialSettings {
        tenant_id: Some("tenant".into()),
        client_id: Some("app".into()),
        client_secret: Some(Secret::new("secret")),
        client_certificate: Some(ClientCertificate::File(PathBuf::from("/nowhere"))),
        use_oidc: true,
        oidc_token: Some(Secret::new("assertion")),
        oidc_request_url: Some("https://ci.local/oidc".into()),
        oidc_request_token: Some(Secret::new("token")),
        ado_pipeline_service_connection_id: Some("connection".into()),
        use_msi: true,
        use_cli: true,
        ..CredentialSettings::default()
    }
}

fn first(settings: &CredentialSettings) -> Option<&'static str> {
    let credentials = credentials(settings);
    let found = credentials.kinds.iter().find(|kind| kind.setup.is_ok());
    found.map(|kind| kind.name)
}

#[test]
fn the_first_kind_that_is_complete_is_used() {
    type Take = fn(&mut CredentialSettings);
    let steps: [(Take, Option<&str>); 8] = [
        (|_| {}, Some("client certificate")),
        (
            |settings| settings.client_certificate = None,
            Some("client secret"),
        ),
        (|settings| settings.client_secret = None, Some("OIDC token")),
        (
            |settings| settings.oidc_token = None,
            Some("Azure Pipelines OIDC"),
        ),
        (
            |settings| settings.ado_pipeline_service_connection_id = None,
            Some("GitHub Actions OIDC"),
        ),
        (
            |settings| settings.oidc_request_token = None,
            Some("managed identity"),
        ),
        (|settings| settings.use_msi = false, Some("Azure CLI")),
        (|settings| settings.use_cli = false, None),
    ];
    let mut settings = everything();
    for (take, expected) in steps {
        take(&mut settings);
        assert_eq!(first(&settings), expected, "{settings:?}");
    }
}

#[test]
fn what_needs_an_application_needs_its_tenant_and_id() {
    for take in [
        (|settings| settings.tenant_id = None) as fn(&mut CredentialSettings),
        |settings| settings.client_id = None,
    ] {
        let mut settings = everything();
        take(&mut settings);
        assert_eq!(first(&settings), Some("managed identity"));
    }
    let off = CredentialSettings {
        use_oidc: false,
        client_certificate: None,
        client_secret: None,
        ..everything()
    };
    assert_eq!(
        first(&off),
        Some("managed identity"),
        "use_oidc switches all three"
    );
}

#[tokio::test]
async fn a_failure_lists_every_kind_in_order_and_what_to_set() {
    let settings = CredentialSettings {
        client_id: Some("app".into()),
        ..CredentialSettings::default()
    };
    let error = credentials(&settings)
        .token(&cloud(), "scope", None)
        .await
        .unwrap_err();
    let said = error.service_said();
    let wanted = [
        "client certificate: not set up; to use it, set client_certificate or client_certificate_path",
        "client secret: not set up; to use it, set client_secret (ARM_CLIENT_SECRET), tenant_id (ARM_TENANT_ID)",
        "OIDC token: switched off; to use it, set use_oidc = true (ARM_USE_OIDC)",
        "Azure Pipelines OIDC: switched off",
        "GitHub Actions OIDC: switched off",
        "managed identity: switched off; to use it, set use_msi = true (ARM_USE_MSI)",
        "Azure CLI: switched off",
    ];
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), wanted.len(), "{said}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted), "{line}\nshould start with {wanted}");
    }
}

#[tokio::test]
async fn whoever_fails_is_not_replaced_by_the_next() {
    let error = credentials(&everything())
        .token(&cloud(), "scope", None)
        .await
        .unwrap_err();
    let said = error.service_said();
    assert!(
        said.contains("client certificate: the file /nowhere of client_certificate_path cannot be read"),
        "{said}"
    );
    let skipped = "not tried, because client certificate is set up and comes first";
    assert_eq!(said.matches(skipped).count(), 6, "{said}");
}

#[test]
fn a_token_is_renewed_before_it_ends_and_a_short_one_at_half_its_life() {
    let rows = [(3600, 300), (300, 150), (0, 0)];
    for (life, early) in rows {
        let token = Token::of_life("t", Duration::from_secs(life));
        assert_eq!(
            token.ends_at - token.renew_at,
            time::Duration::seconds(early),
            "{life}"
        );
    }
}

#[test]
fn the_caller_is_read_from_the_token() {
    let claims = URL_SAFE_NO_PAD.encode(r#"{"oid":"o","appid":"a","tid":"t"}"#);
    let caller = caller_of(&format!("h.{claims}.s")).unwrap();
    assert_eq!(
        (
            caller.object_id.as_str(),
            caller.name.as_str(),
            caller.tenant.as_str()
        ),
        ("o", "a", "t")
    );
    assert_eq!(caller_of("opaque"), None);
}
