//! kubectl against a real kube-apiserver: what the transcripts say, which the embedded API is judged by.

use kvtls::sandbox::ControlPlaneKind;

#[path = "../support/transcripts.rs"]
mod transcripts;

#[tokio::test(flavor = "multi_thread")]
async fn transcripts_are_what_kubectl_says() {
    let found = transcripts::differences(ControlPlaneKind::Real).await;
    let found = found.unwrap_or_default();
    assert!(found.is_empty(), "{found}");
}
