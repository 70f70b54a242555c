//! Placeholder of ARM and the vaults: the room `azuresim` owns this file.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::core::{AddonState, Caller, Core, PatchError, TokenFault, WorldError};
use super::http::{Answer, Incoming, json as json_answer};

/// ARM and the vaults.
pub(crate) struct Azure {
    core: Arc<Core>,
}

impl Azure {
    pub(crate) fn new(_world: &Value, core: Arc<Core>) -> Result<Arc<Self>, Vec<WorldError>> {
        Ok(Arc::new(Self { core }))
    }

    pub(crate) async fn answer_arm(&self, request: Incoming, caller: Result<Caller, TokenFault>) -> Answer {
        let body = json!({
            "caller": caller.map(|caller| caller.name).map_err(|fault| format!("{fault:?}")),
            "path": request.uri().path(),
        });
        json_answer(StatusCode::OK, &body)
    }

    pub(crate) async fn answer_vault(&self, vault: &str, request: Incoming) -> Answer {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
        let uri = self.core.names.vault_uri(vault, host.unwrap_or_default());
        json_answer(StatusCode::OK, &json!({"vault": vault, "uri": uri}))
    }

    pub(crate) async fn answer_identity(&self, cluster: &str, request: Incoming) -> Answer {
        json_answer(
            StatusCode::OK,
            &json!({"cluster": cluster, "path": request.uri().path()}),
        )
    }

    pub(crate) fn addon_state(&self, _cluster: &str) -> AddonState {
        AddonState::default()
    }

    pub(crate) fn describe(&self) -> Value {
        json!({})
    }

    pub(crate) fn patch(&self, _merge: &Value) -> Result<(), PatchError> {
        Ok(())
    }

    pub(crate) async fn renew(&self, vault: &str, certificate: &str, _how: &Value) -> Result<Value, String> {
        Err(format!("{vault} holds no {certificate}"))
    }
}
