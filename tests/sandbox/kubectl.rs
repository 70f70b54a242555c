//! kubectl against the embedded API: it says what it says against a real kube-apiserver.

use kvtls::sandbox::ControlPlaneKind;

#[path = "../support/transcripts.rs"]
mod transcripts;

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_says_what_it_says_elsewhere() {
    let found = transcripts::differences(ControlPlaneKind::Embedded).await;
    let found = found.unwrap_or_default();
    assert!(found.is_empty(), "{found}");
}
