//! One short method per RPC: decode, call the framework, encode.
//!
//! Each call runs in a task of its own, so that a panic ends the task and not the answer, and so that a call outlives
//! a connection that breaks: what was begun in the world is finished. No answer is a gRPC status; see
//! [`crate::framework::lifecycle`] for what an answer without state means to Terraform.

use std::any::Any;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming, async_trait};
use tracing::Instrument;

use crate::framework::{
    self, ApplyRequest, DataSource, Deadline, Diagnostic, Diagnostics, PlanRequest, ReadRequest, Resource,
    StopSignal, Value, lifecycle,
};

use super::generated::*;
use super::{decode, encode};

/// Serves one provider.
pub struct Server {
    provider: Arc<dyn framework::Provider>,
    stop: Mutex<StopSignal>,
    calls: AtomicU64,
}

/// What every method returns.
type Reply<R> = Result<Response<R>, Status>;

/// Which call this is, for the log.
struct Call {
    rpc: &'static str,
    type_name: String,
}

impl Call {
    fn of(rpc: &'static str, type_name: &str) -> Self {
        let type_name = type_name.to_owned();
        Self { rpc, type_name }
    }
}

impl Server {
    pub(super) fn new(provider: impl framework::Provider) -> Self {
        Self {
            provider: Arc::new(provider),
            stop: Mutex::new(StopSignal::new()),
            calls: AtomicU64::new(0),
        }
    }

    fn stop_signal(&self) -> StopSignal {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A provider that was stopped starts anew when it is configured again.
    fn renew_stop_signal(&self) {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.is_cancelled() {
            *stop = StopSignal::new();
        }
    }

    /// The answer of `work`; whatever keeps it from answering becomes diagnostics in an otherwise empty answer.
    async fn answer<R: Answer>(
        &self,
        call: Call,
        work: impl Future<Output = Result<R, Diagnostics>> + Send + 'static,
    ) -> Reply<R> {
        self.answer_or(call, R::default(), work).await
    }

    /// The answer of `work`; whatever keeps it from answering becomes diagnostics in `otherwise`.
    async fn answer_or<R: Answer>(
        &self,
        call: Call,
        otherwise: R,
        work: impl Future<Output = Result<R, Diagnostics>> + Send + 'static,
    ) -> Reply<R> {
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        let span = tracing::debug_span!(
            "rpc",
            tf_rpc = call.rpc,
            tf_resource_type = call.type_name,
            tf_req_id = id
        );
        let begun = Instant::now();
        tracing::trace!(parent: &span, "received request");
        let ended = tokio::spawn(work.instrument(span.clone())).await;
        let mut answer = match ended {
            Ok(Ok(answer)) => answer,
            Ok(Err(diagnostics)) => otherwise.with(diagnostics),
            Err(failure) => otherwise.with(crashed(call.rpc, failure).into()),
        };
        let errors = answer
            .diagnostics()
            .iter()
            .filter(|diagnostic| diagnostic.severity() == diagnostic::Severity::Error)
            .count();
        tracing::debug!(
            parent: &span,
            tf_req_duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            diagnostic_error_count = errors,
            "served request"
        );
        Ok(Response::new(answer))
    }
}

fn resource(provider: &dyn framework::Provider, type_name: &str) -> Result<Arc<dyn Resource>, Diagnostics> {
    let found = provider
        .resources()
        .iter()
        .find(|resource| resource.type_name() == type_name);
    found.cloned().ok_or_else(|| unknown_type("resource", type_name))
}

fn data_source(
    provider: &dyn framework::Provider,
    type_name: &str,
) -> Result<Arc<dyn DataSource>, Diagnostics> {
    let found = provider
        .data_sources()
        .iter()
        .find(|source| source.type_name() == type_name);
    found
        .cloned()
        .ok_or_else(|| unknown_type("data source", type_name))
}

fn unknown_type(what: &str, type_name: &str) -> Diagnostics {
    Diagnostic::error(
        format!("Unknown {what} type"),
        format!("This version of the provider has no {what} {type_name:?}."),
        "Check the name, or use a newer version of the provider.",
    )
    .into()
}

fn crashed(rpc: &str, failure: tokio::task::JoinError) -> Diagnostic {
    let words = match failure.try_into_panic() {
        Ok(panic) => panic_words(panic.as_ref()),
        Err(_) => "the call was cancelled".to_owned(),
    };
    tracing::error!(tf_rpc = rpc, "handler ended without an answer: {words}");
    Diagnostic::bug(format!(
        "{rpc} ended without an answer: {words}. The stored state is what it was before; what the call changed until \
         then is not in it."
    ))
}

fn panic_words(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// An answer that can carry diagnostics.
trait Answer: Default + Send + 'static {
    fn diagnostics(&mut self) -> &mut Vec<super::generated::Diagnostic>;

    fn with(mut self, diagnostics: Diagnostics) -> Self {
        self.diagnostics().extend(encode::diagnostics(diagnostics));
        self
    }
}

macro_rules! answers {
    ($($rpc:ident),* $(,)?) => {
        $(impl Answer for $rpc::Response {
            fn diagnostics(&mut self) -> &mut Vec<super::generated::Diagnostic> {
                &mut self.diagnostics
            }
        })*
    };
}

answers!(
    apply_resource_change,
    close_ephemeral_resource,
    configure_provider,
    configure_state_store,
    delete_state,
    generate_resource_config,
    get_metadata,
    get_provider_schema,
    get_states,
    import_resource_state,
    lock_state,
    move_resource_state,
    open_ephemeral_resource,
    plan_action,
    plan_resource_change,
    read_data_source,
    read_resource,
    renew_ephemeral_resource,
    unlock_state,
    upgrade_resource_identity,
    upgrade_resource_state,
    validate_action_config,
    validate_data_resource_config,
    validate_ephemeral_resource_config,
    validate_list_resource_config,
    validate_provider_config,
    validate_resource_config,
    validate_state_store,
);

#[async_trait]
impl provider_server::Provider for Server {
    async fn get_metadata(&self, _: Request<get_metadata::Request>) -> Reply<get_metadata::Response> {
        let provider = Arc::clone(&self.provider);
        self.answer(Call::of("GetMetadata", ""), async move {
            let resources = provider.resources().iter();
            let data_sources = provider.data_sources().iter();
            Ok(get_metadata::Response {
                server_capabilities: Some(capabilities()),
                resources: resources
                    .map(|resource| get_metadata::ResourceMetadata {
                        type_name: resource.type_name().to_owned(),
                    })
                    .collect(),
                data_sources: data_sources
                    .map(|source| get_metadata::DataSourceMetadata {
                        type_name: source.type_name().to_owned(),
                    })
                    .collect(),
                ..Default::default()
            })
        })
        .await
    }

    async fn get_provider_schema(
        &self,
        _: Request<get_provider_schema::Request>,
    ) -> Reply<get_provider_schema::Response> {
        let provider = Arc::clone(&self.provider);
        self.answer(Call::of("GetProviderSchema", ""), async move {
            let resources = provider.resources().iter();
            let data_sources = provider.data_sources().iter();
            Ok(get_provider_schema::Response {
                provider: Some(encode::schema(provider.schema())),
                resource_schemas: resources
                    .map(|resource| (resource.type_name().to_owned(), encode::schema(resource.schema())))
                    .collect(),
                data_source_schemas: data_sources
                    .map(|source| (source.type_name().to_owned(), encode::schema(source.schema())))
                    .collect(),
                server_capabilities: Some(capabilities()),
                ..Default::default()
            })
        })
        .await
    }

    async fn validate_provider_config(
        &self,
        request: Request<validate_provider_config::Request>,
    ) -> Reply<validate_provider_config::Response> {
        let (request, provider) = (request.into_inner(), Arc::clone(&self.provider));
        self.answer(Call::of("ValidateProviderConfig", ""), async move {
            let config = decode::config(provider.schema(), request.config.as_ref())?;
            let diagnostics = lifecycle::validate_provider(provider.as_ref(), &config).await;
            Ok(validate_provider_config::Response::default().with(diagnostics))
        })
        .await
    }

    async fn configure_provider(
        &self,
        request: Request<configure_provider::Request>,
    ) -> Reply<configure_provider::Response> {
        self.renew_stop_signal();
        let (request, provider) = (request.into_inner(), Arc::clone(&self.provider));
        self.answer(Call::of("ConfigureProvider", ""), async move {
            let config = decode::config(provider.schema(), request.config.as_ref())?;
            let diagnostics = provider.configure(config, &request.terraform_version).await;
            Ok(configure_provider::Response::default().with(diagnostics))
        })
        .await
    }

    async fn validate_resource_config(
        &self,
        request: Request<validate_resource_config::Request>,
    ) -> Reply<validate_resource_config::Response> {
        let (request, provider) = (request.into_inner(), Arc::clone(&self.provider));
        let call = Call::of("ValidateResourceConfig", &request.type_name);
        self.answer(call, async move {
            let resource = resource(provider.as_ref(), &request.type_name)?;
            let config = decode::config(resource.schema(), request.config.as_ref())?;
            let capabilities = request.client_capabilities.unwrap_or_default();
            let write_only = capabilities.write_only_attributes_allowed;
            let diagnostics = lifecycle::validate(resource.as_ref(), &config, write_only).await;
            Ok(validate_resource_config::Response::default().with(diagnostics))
        })
        .await
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<validate_data_resource_config::Request>,
    ) -> Reply<validate_data_resource_config::Response> {
        let (request, provider) = (request.into_inner(), Arc::clone(&self.provider));
        let call = Call::of("ValidateDataResourceConfig", &request.type_name);
        self.answer(call, async move {
            let source = data_source(provider.as_ref(), &request.type_name)?;
            let config = decode::config(source.schema(), request.config.as_ref())?;
            let diagnostics = lifecycle::validate_data(source.as_ref(), &config).await;
            Ok(validate_data_resource_config::Response::default().with(diagnostics))
        })
        .await
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<upgrade_resource_state::Request>,
    ) -> Reply<upgrade_resource_state::Response> {
        let (request, provider) = (request.into_inner(), Arc::clone(&self.provider));
        let call = Call::of("UpgradeResourceState", &request.type_name);
        self.answer(call, async move {
            let resource = resource(provider.as_ref(), &request.type_name)?;
            let json = decode::stored_state(request.raw_state.as_ref())?;
            let state = lifecycle::upgrade(resource.as_ref(), request.version, json)?;
            Ok(upgrade_resource_state::Response {
                upgraded_state: encode::value(resource.schema(), &state)?,
                ..Default::default()
            })
        })
        .await
    }

    async fn read_resource(
        &self,
        request: Request<read_resource::Request>,
    ) -> Reply<read_resource::Response> {
        let (request, stop) = (request.into_inner(), self.stop_signal());
        let provider = Arc::clone(&self.provider);
        let call = Call::of("ReadResource", &request.type_name);
        let as_before = read_resource::Response {
            new_state: request.current_state.clone(),
            private: request.private.clone(),
            ..Default::default()
        };
        self.answer_or(call, as_before, async move {
            let resource = resource(provider.as_ref(), &request.type_name)?;
            let state = decode::value(resource.schema(), request.current_state.as_ref())?;
            let response = lifecycle::read(
                resource.as_ref(),
                ReadRequest {
                    deadline: Deadline::after(resource.timeout("read", &state), stop),
                    state,
                    private: decode::private(&request.private),
                },
            )
            .await;
            if response.diagnostics.has_errors() {
                return Err(response.diagnostics);
            }
            let answer = read_resource::Response {
                new_state: encode::value(resource.schema(), &response.state)?,
                private: encode::private(&response.private),
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
    }

    async fn plan_resource_change(
        &self,
        request: Request<plan_resource_change::Request>,
    ) -> Reply<plan_resource_change::Response> {
        let (request, stop) = (request.into_inner(), self.stop_signal());
        let provider = Arc::clone(&self.provider);
        self.answer(Call::of("PlanResourceChange", &request.type_name), async move {
            let resource = resource(provider.as_ref(), &request.type_name)?;
            let schema = resource.schema();
            let prior = decode::value(schema, request.prior_state.as_ref())?;
            let proposed = decode::value(schema, request.proposed_new_state.as_ref())?;
            let subject = if proposed.is_null() { &prior } else { &proposed };
            let response = lifecycle::plan(
                resource.as_ref(),
                PlanRequest {
                    config: decode::value(schema, request.config.as_ref())?,
                    deadline: Deadline::after(resource.timeout("read", subject), stop),
                    prior,
                    proposed,
                    private: decode::private(&request.prior_private),
                },
            )
            .await;
            let answer = plan_resource_change::Response {
                planned_state: encode::value(schema, &response.planned)?,
                requires_replace: response.requires_replace.iter().map(encode::path).collect(),
                planned_private: encode::private(&response.private),
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
    }

    async fn apply_resource_change(
        &self,
        request: Request<apply_resource_change::Request>,
    ) -> Reply<apply_resource_change::Response> {
        let (request, stop) = (request.into_inner(), self.stop_signal());
        let provider = Arc::clone(&self.provider);
        self.answer(Call::of("ApplyResourceChange", &request.type_name), async move {
            let resource = resource(provider.as_ref(), &request.type_name)?;
            let schema = resource.schema();
            let prior = decode::value(schema, request.prior_state.as_ref())?;
            let planned = decode::value(schema, request.planned_state.as_ref())?;
            let (operation, subject) = match (&prior, &planned) {
                (Value::Null, _) => ("create", &planned),
                (_, Value::Null) => ("delete", &prior),
                _ => ("update", &planned),
            };
            let response = lifecycle::apply(
                resource.as_ref(),
                ApplyRequest {
                    config: decode::value(schema, request.config.as_ref())?,
                    deadline: Deadline::after(resource.timeout(operation, subject), stop),
                    prior,
                    planned,
                    private: decode::private(&request.planned_private),
                },
            )
            .await;
            let answer = apply_resource_change::Response {
                new_state: encode::value(schema, &response.state)?,
                private: encode::private(&response.private),
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
    }

    async fn import_resource_state(
        &self,
        request: Request<import_resource_state::Request>,
    ) -> Reply<import_resource_state::Response> {
        let (request, stop) = (request.into_inner(), self.stop_signal());
        let provider = Arc::clone(&self.provider);
        let call = Call::of("ImportResourceState", &request.type_name);
        self.answer(call, async move {
            let resource = resource(provider.as_ref(), &request.type_name)?;
            if request.id.is_empty() {
                return Err(no_id().into());
            }
            let deadline = Deadline::after(resource.timeout("read", &Value::Null), stop);
            let response = lifecycle::import(resource.as_ref(), &request.id, deadline).await;
            let mut answer = import_resource_state::Response::default();
            if !response.state.is_null() {
                answer
                    .imported_resources
                    .push(import_resource_state::ImportedResource {
                        type_name: request.type_name,
                        state: encode::value(resource.schema(), &response.state)?,
                        private: encode::private(&response.private),
                        ..Default::default()
                    });
            }
            Ok(answer.with(response.diagnostics))
        })
        .await
    }

    async fn read_data_source(
        &self,
        request: Request<read_data_source::Request>,
    ) -> Reply<read_data_source::Response> {
        let (request, stop) = (request.into_inner(), self.stop_signal());
        let provider = Arc::clone(&self.provider);
        let call = Call::of("ReadDataSource", &request.type_name);
        self.answer(call, async move {
            let source = data_source(provider.as_ref(), &request.type_name)?;
            let config = decode::config(source.schema(), request.config.as_ref())?;
            let deadline = Deadline::after(source.timeout(&config), stop);
            let response = lifecycle::read_data(source.as_ref(), config, deadline).await;
            let answer = read_data_source::Response {
                state: encode::value(source.schema(), &response.state)?,
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
    }

    async fn stop_provider(&self, _: Request<stop_provider::Request>) -> Reply<stop_provider::Response> {
        tracing::debug!(tf_rpc = "StopProvider", "asked to stop");
        self.stop_signal().cancel();
        Ok(Response::new(stop_provider::Response::default()))
    }

    async fn get_functions(&self, _: Request<get_functions::Request>) -> Reply<get_functions::Response> {
        Ok(Response::new(get_functions::Response::default()))
    }

    async fn get_resource_identity_schemas(
        &self,
        _: Request<get_resource_identity_schemas::Request>,
    ) -> Reply<get_resource_identity_schemas::Response> {
        Ok(Response::new(get_resource_identity_schemas::Response::default()))
    }

    async fn move_resource_state(
        &self,
        request: Request<move_resource_state::Request>,
    ) -> Reply<move_resource_state::Response> {
        let request = request.into_inner();
        refuse(Diagnostic::error(
            "Move between resource types is not possible",
            format!(
                "State of a {} from {} cannot become state of a {}.",
                request.source_type_name, request.source_provider_address, request.target_type_name
            ),
            "Instead of `moved`, write a `removed` block with `destroy = false` for the old resource and an `import` block \
             for the new one.",
        ))
    }

    async fn upgrade_resource_identity(
        &self,
        _: Request<upgrade_resource_identity::Request>,
    ) -> Reply<upgrade_resource_identity::Response> {
        refuse(not_offered("resource identity"))
    }

    async fn generate_resource_config(
        &self,
        _: Request<generate_resource_config::Request>,
    ) -> Reply<generate_resource_config::Response> {
        refuse(not_offered("generated configuration"))
    }

    async fn call_function(
        &self,
        request: Request<call_function::Request>,
    ) -> Reply<call_function::Response> {
        Ok(Response::new(call_function::Response {
            error: Some(FunctionError {
                text: format!("this provider has no function {:?}", request.into_inner().name),
                function_argument: None,
            }),
            ..Default::default()
        }))
    }

    async fn validate_ephemeral_resource_config(
        &self,
        _: Request<validate_ephemeral_resource_config::Request>,
    ) -> Reply<validate_ephemeral_resource_config::Response> {
        refuse(not_offered("ephemeral resources"))
    }

    async fn open_ephemeral_resource(
        &self,
        _: Request<open_ephemeral_resource::Request>,
    ) -> Reply<open_ephemeral_resource::Response> {
        refuse(not_offered("ephemeral resources"))
    }

    async fn renew_ephemeral_resource(
        &self,
        _: Request<renew_ephemeral_resource::Request>,
    ) -> Reply<renew_ephemeral_resource::Response> {
        refuse(not_offered("ephemeral resources"))
    }

    async fn close_ephemeral_resource(
        &self,
        _: Request<close_ephemeral_resource::Request>,
    ) -> Reply<close_ephemeral_resource::Response> {
        refuse(not_offered("ephemeral resources"))
    }

    async fn list_resource(
        &self,
        _: Request<list_resource::Request>,
    ) -> Reply<BoxStream<list_resource::Event>> {
        Err(Status::unimplemented(
            "this provider does not offer list resources",
        ))
    }

    async fn validate_list_resource_config(
        &self,
        _: Request<validate_list_resource_config::Request>,
    ) -> Reply<validate_list_resource_config::Response> {
        refuse(not_offered("list resources"))
    }

    async fn plan_action(&self, _: Request<plan_action::Request>) -> Reply<plan_action::Response> {
        refuse(not_offered("actions"))
    }

    async fn invoke_action(
        &self,
        _: Request<invoke_action::Request>,
    ) -> Reply<BoxStream<invoke_action::Event>> {
        Err(Status::unimplemented("this provider does not offer actions"))
    }

    async fn validate_action_config(
        &self,
        _: Request<validate_action_config::Request>,
    ) -> Reply<validate_action_config::Response> {
        refuse(not_offered("actions"))
    }

    async fn validate_state_store_config(
        &self,
        _: Request<validate_state_store::Request>,
    ) -> Reply<validate_state_store::Response> {
        refuse(not_offered("state stores"))
    }

    async fn configure_state_store(
        &self,
        _: Request<configure_state_store::Request>,
    ) -> Reply<configure_state_store::Response> {
        refuse(not_offered("state stores"))
    }

    async fn read_state_bytes(
        &self,
        _: Request<read_state_bytes::Request>,
    ) -> Reply<BoxStream<read_state_bytes::Response>> {
        Err(Status::unimplemented("this provider does not offer state stores"))
    }

    async fn write_state_bytes(
        &self,
        _: Request<Streaming<write_state_bytes::RequestChunk>>,
    ) -> Reply<write_state_bytes::Response> {
        Err(Status::unimplemented("this provider does not offer state stores"))
    }

    async fn lock_state(&self, _: Request<lock_state::Request>) -> Reply<lock_state::Response> {
        refuse(not_offered("state stores"))
    }

    async fn unlock_state(&self, _: Request<unlock_state::Request>) -> Reply<unlock_state::Response> {
        refuse(not_offered("state stores"))
    }

    async fn get_states(&self, _: Request<get_states::Request>) -> Reply<get_states::Response> {
        refuse(not_offered("state stores"))
    }

    async fn delete_state(&self, _: Request<delete_state::Request>) -> Reply<delete_state::Response> {
        refuse(not_offered("state stores"))
    }
}

/// Deletes are planned, and no call depends on the schema having been asked for.
fn capabilities() -> ServerCapabilities {
    ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        ..Default::default()
    }
}

fn refuse<R: Answer>(diagnostic: Diagnostic) -> Reply<R> {
    Ok(Response::new(R::default().with(diagnostic.into())))
}

fn not_offered(what: &str) -> Diagnostic {
    Diagnostic::error(
        "Not offered by this provider",
        format!("This version of the provider does not offer {what}."),
        "Use a newer version of the provider if one does.",
    )
}

fn no_id() -> Diagnostic {
    Diagnostic::error(
        "Import needs an ID",
        "This provider imports by ID, and none was given.",
        "Set `id` in the `import` block.",
    )
}
