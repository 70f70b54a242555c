//! The service: one file for each family of RPCs, one short function per RPC: decode, call the framework, encode.
//!
//! Each call runs in a task of its own, so that a panic ends the task and not the answer, and so that a call outlives
//! a connection that breaks: what was begun in the world is finished. No answer is a gRPC status; see
//! [`crate::framework::lifecycle`] for what an answer without state means to Terraform.

mod action;
mod answer;
mod data_source;
mod ephemeral;
mod function;
mod identity;
mod list;
mod provider;
mod resource;
mod state_store;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::framework::lifecycle::Host;
use crate::framework::{self, Deadline, Deferral, Diagnostic, Diagnostics, StopSignal, Value};

use super::generated::*;
use super::{decode, encode};
use answer::{Answer, refuse, unknown_type};

/// Serves one provider.
pub struct Server {
    provider: Arc<dyn framework::Provider>,
    stop: Mutex<StopSignal>,
    host: Mutex<Host>,
    calls: AtomicU64,
    results: Arc<framework::function::Results>,
}

/// What every method returns.
type Reply<R> = Result<Response<R>, Status>;

impl Server {
    pub(super) fn new(provider: impl framework::Provider) -> Self {
        Self {
            provider: Arc::new(provider),
            stop: Mutex::new(StopSignal::new()),
            host: Mutex::default(),
            calls: AtomicU64::new(0),
            results: Arc::default(),
        }
    }

    fn provider(&self) -> Arc<dyn framework::Provider> {
        Arc::clone(&self.provider)
    }

    fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn stop_signal(&self) -> StopSignal {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the host that configured the provider can do.
    fn host(&self) -> Host {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn configured_by(&self, host: Host) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = host;
    }

    /// A provider that was stopped starts anew when it is configured again.
    fn renew_stop_signal(&self) {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.is_cancelled() {
            *stop = StopSignal::new();
        }
    }
}

/// What the module says of itself; null if it says nothing, or the provider does not listen.
fn meta(provider: &dyn framework::Provider, message: Option<&DynamicValue>) -> Result<Value, Diagnostics> {
    match provider.meta_schema() {
        Some(schema) => decode::value(schema, message),
        None => Ok(Value::Null),
    }
}

fn host(client: Option<&ClientCapabilities>) -> Host {
    Host {
        computed_blocks: client.is_some_and(|client| client.computed_blocks_allowed),
    }
}

/// Why the call is put off, if the host allows that: for the provider's sake, or else for its own.
fn deferral(
    provider: &dyn framework::Provider,
    client: Option<&ClientCapabilities>,
    own: impl FnOnce() -> Option<Deferral>,
) -> Option<Deferral> {
    if !client.is_some_and(|client| client.deferral_allowed) {
        return None;
    }
    provider.deferral().or_else(own)
}

#[async_trait]
impl provider_server::Provider for Server {
    async fn get_metadata(&self, request: Request<get_metadata::Request>) -> Reply<get_metadata::Response> {
        provider::get_metadata(self, request.into_inner()).await
    }

    async fn get_provider_schema(
        &self,
        request: Request<get_provider_schema::Request>,
    ) -> Reply<get_provider_schema::Response> {
        provider::get_provider_schema(self, request.into_inner()).await
    }

    async fn validate_provider_config(
        &self,
        request: Request<validate_provider_config::Request>,
    ) -> Reply<validate_provider_config::Response> {
        provider::validate_provider_config(self, request.into_inner()).await
    }

    async fn configure_provider(
        &self,
        request: Request<configure_provider::Request>,
    ) -> Reply<configure_provider::Response> {
        provider::configure_provider(self, request.into_inner()).await
    }

    async fn stop_provider(
        &self,
        request: Request<stop_provider::Request>,
    ) -> Reply<stop_provider::Response> {
        provider::stop_provider(self, request.into_inner())
    }

    async fn validate_resource_config(
        &self,
        request: Request<validate_resource_config::Request>,
    ) -> Reply<validate_resource_config::Response> {
        resource::validate_resource_config(self, request.into_inner()).await
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<upgrade_resource_state::Request>,
    ) -> Reply<upgrade_resource_state::Response> {
        resource::upgrade_resource_state(self, request.into_inner()).await
    }

    async fn read_resource(
        &self,
        request: Request<read_resource::Request>,
    ) -> Reply<read_resource::Response> {
        resource::read_resource(self, request.into_inner()).await
    }

    async fn plan_resource_change(
        &self,
        request: Request<plan_resource_change::Request>,
    ) -> Reply<plan_resource_change::Response> {
        resource::plan_resource_change(self, request.into_inner()).await
    }

    async fn apply_resource_change(
        &self,
        request: Request<apply_resource_change::Request>,
    ) -> Reply<apply_resource_change::Response> {
        resource::apply_resource_change(self, request.into_inner()).await
    }

    async fn import_resource_state(
        &self,
        request: Request<import_resource_state::Request>,
    ) -> Reply<import_resource_state::Response> {
        resource::import_resource_state(self, request.into_inner()).await
    }

    async fn move_resource_state(
        &self,
        request: Request<move_resource_state::Request>,
    ) -> Reply<move_resource_state::Response> {
        resource::move_resource_state(self, request.into_inner()).await
    }

    async fn generate_resource_config(
        &self,
        request: Request<generate_resource_config::Request>,
    ) -> Reply<generate_resource_config::Response> {
        resource::generate_resource_config(self, request.into_inner()).await
    }

    async fn get_resource_identity_schemas(
        &self,
        request: Request<get_resource_identity_schemas::Request>,
    ) -> Reply<get_resource_identity_schemas::Response> {
        identity::get_resource_identity_schemas(self, request.into_inner()).await
    }

    async fn upgrade_resource_identity(
        &self,
        request: Request<upgrade_resource_identity::Request>,
    ) -> Reply<upgrade_resource_identity::Response> {
        identity::upgrade_resource_identity(self, request.into_inner()).await
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<validate_data_resource_config::Request>,
    ) -> Reply<validate_data_resource_config::Response> {
        data_source::validate_data_resource_config(self, request.into_inner()).await
    }

    async fn read_data_source(
        &self,
        request: Request<read_data_source::Request>,
    ) -> Reply<read_data_source::Response> {
        data_source::read_data_source(self, request.into_inner()).await
    }

    async fn get_functions(
        &self,
        request: Request<get_functions::Request>,
    ) -> Reply<get_functions::Response> {
        function::get_functions(self, request.into_inner()).await
    }

    async fn call_function(
        &self,
        request: Request<call_function::Request>,
    ) -> Reply<call_function::Response> {
        function::call_function(self, request.into_inner()).await
    }

    async fn validate_ephemeral_resource_config(
        &self,
        request: Request<validate_ephemeral_resource_config::Request>,
    ) -> Reply<validate_ephemeral_resource_config::Response> {
        ephemeral::validate_ephemeral_resource_config(self, request.into_inner()).await
    }

    async fn open_ephemeral_resource(
        &self,
        request: Request<open_ephemeral_resource::Request>,
    ) -> Reply<open_ephemeral_resource::Response> {
        ephemeral::open_ephemeral_resource(self, request.into_inner()).await
    }

    async fn renew_ephemeral_resource(
        &self,
        request: Request<renew_ephemeral_resource::Request>,
    ) -> Reply<renew_ephemeral_resource::Response> {
        ephemeral::renew_ephemeral_resource(self, request.into_inner()).await
    }

    async fn close_ephemeral_resource(
        &self,
        request: Request<close_ephemeral_resource::Request>,
    ) -> Reply<close_ephemeral_resource::Response> {
        ephemeral::close_ephemeral_resource(self, request.into_inner()).await
    }

    async fn validate_list_resource_config(
        &self,
        request: Request<validate_list_resource_config::Request>,
    ) -> Reply<validate_list_resource_config::Response> {
        list::validate_list_resource_config(self, request.into_inner()).await
    }

    async fn list_resource(
        &self,
        request: Request<list_resource::Request>,
    ) -> Reply<BoxStream<list_resource::Event>> {
        list::list_resource(self, request.into_inner())
    }

    async fn validate_action_config(
        &self,
        request: Request<validate_action_config::Request>,
    ) -> Reply<validate_action_config::Response> {
        action::validate_action_config(self, request.into_inner()).await
    }

    async fn plan_action(&self, request: Request<plan_action::Request>) -> Reply<plan_action::Response> {
        action::plan_action(self, request.into_inner()).await
    }

    async fn invoke_action(
        &self,
        request: Request<invoke_action::Request>,
    ) -> Reply<BoxStream<invoke_action::Event>> {
        action::invoke_action(self, request.into_inner())
    }

    async fn validate_state_store_config(
        &self,
        request: Request<validate_state_store::Request>,
    ) -> Reply<validate_state_store::Response> {
        state_store::validate_state_store_config(self, request.into_inner())
    }

    async fn configure_state_store(
        &self,
        request: Request<configure_state_store::Request>,
    ) -> Reply<configure_state_store::Response> {
        state_store::configure_state_store(self, request.into_inner())
    }

    async fn read_state_bytes(
        &self,
        request: Request<read_state_bytes::Request>,
    ) -> Reply<BoxStream<read_state_bytes::Response>> {
        state_store::read_state_bytes(self, request.into_inner())
    }

    async fn write_state_bytes(
        &self,
        _: Request<Streaming<write_state_bytes::RequestChunk>>,
    ) -> Reply<write_state_bytes::Response> {
        state_store::write_state_bytes()
    }

    async fn lock_state(&self, request: Request<lock_state::Request>) -> Reply<lock_state::Response> {
        state_store::lock_state(self, request.into_inner())
    }

    async fn unlock_state(&self, request: Request<unlock_state::Request>) -> Reply<unlock_state::Response> {
        state_store::unlock_state(self, request.into_inner())
    }

    async fn get_states(&self, request: Request<get_states::Request>) -> Reply<get_states::Response> {
        state_store::get_states(self, request.into_inner())
    }

    async fn delete_state(&self, request: Request<delete_state::Request>) -> Reply<delete_state::Response> {
        state_store::delete_state(self, request.into_inner())
    }
}
