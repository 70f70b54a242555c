//! What every call has in common: a task and a span of its own, and an answer whatever happens.

use std::any::Any;
use std::future::Future;

use tokio::task::JoinError;
use tokio::time::Instant;
use tonic::Response;
use tracing::Instrument;

use super::{Reply, Server};
use crate::framework::{Diagnostic, Diagnostics};
use crate::tfplugin6::encode;
use crate::tfplugin6::generated as wire;

/// The protocol that is spoken, for the log; nothing on the wire tells its minor version.
const PROTOCOL: &str = "6.11";

/// Which call this is, for the log.
pub(super) struct Call {
    rpc: &'static str,
    kind: Kind,
    name: String,
}

/// What a call is about.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Provider,
    Resource,
    DataSource,
    Ephemeral,
    Function,
    List,
    Action,
}

impl Call {
    pub(super) fn new(rpc: &'static str, kind: Kind, name: &str) -> Self {
        Self {
            rpc,
            kind,
            name: name.to_owned(),
        }
    }

    /// About a resource type.
    pub(super) fn of(rpc: &'static str, type_name: &str) -> Self {
        Self::new(rpc, Kind::Resource, type_name)
    }

    /// About the provider.
    pub(super) fn plain(rpc: &'static str) -> Self {
        Self::new(rpc, Kind::Provider, "")
    }

    fn span(&self, id: u64) -> tracing::Span {
        use tracing::field::Empty;
        let span = tracing::debug_span!(
            "rpc",
            tf_rpc = self.rpc,
            tf_req_id = id,
            tf_proto_version = PROTOCOL,
            tf_resource_type = Empty,
            tf_data_source_type = Empty,
            tf_ephemeral_resource_type = Empty,
            tf_function = Empty,
            tf_list_resource_type = Empty,
            tf_action_type = Empty,
        );
        let field = match self.kind {
            Kind::Provider => return span,
            Kind::Resource => "tf_resource_type",
            Kind::DataSource => "tf_data_source_type",
            Kind::Ephemeral => "tf_ephemeral_resource_type",
            Kind::Function => "tf_function",
            Kind::List => "tf_list_resource_type",
            Kind::Action => "tf_action_type",
        };
        span.record(field, self.name.as_str());
        span
    }
}

impl Server {
    /// The answer of `work`; whatever keeps it from answering becomes diagnostics in an otherwise empty answer.
    pub(super) async fn answer<R: Answer>(
        &self,
        call: Call,
        work: impl Future<Output = Result<R, Diagnostics>> + Send + 'static,
    ) -> Reply<R> {
        self.answer_or(call, R::default, work).await
    }

    /// The answer of `work`; whatever keeps it from answering becomes diagnostics in what `otherwise` makes then.
    pub(super) async fn answer_or<R: Answer>(
        &self,
        call: Call,
        otherwise: impl FnOnce() -> R + Send,
        work: impl Future<Output = Result<R, Diagnostics>> + Send + 'static,
    ) -> Reply<R> {
        let (begun, span, rpc) = (Instant::now(), call.span(self.next_call()), call.rpc);
        tracing::trace!(parent: &span, "received request");
        let mut answer = match tokio::spawn(work.instrument(span.clone())).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(diagnostics)) => otherwise().with(diagnostics),
            Err(failure) => otherwise().with(crashed(rpc, failure).into()),
        };
        encode::name_issues(answer.diagnostics(), self.provider.issues());
        served(&span, begun, answer.diagnostics());
        Ok(Response::new(answer))
    }

    /// Runs `work` in a task and a span of its own, for an answer that is a stream. What ends it without an end of its
    /// own goes to `crash`.
    pub(super) fn stream(
        &self,
        call: &Call,
        work: impl Future<Output = ()> + Send + 'static,
        crash: impl FnOnce(Diagnostic) -> BoxedFuture + Send + 'static,
    ) {
        let (begun, span, rpc) = (Instant::now(), call.span(self.next_call()), call.rpc);
        tracing::trace!(parent: &span, "received request");
        tokio::spawn(async move {
            if let Err(failure) = tokio::spawn(work.instrument(span.clone())).await {
                crash(crashed(rpc, failure)).await;
            }
            served(&span, begun, &[]);
        });
    }
}

/// What is still to do.
pub(super) type BoxedFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn served(span: &tracing::Span, begun: Instant, diagnostics: &[wire::Diagnostic]) {
    let errors = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity() == wire::diagnostic::Severity::Error)
        .count();
    tracing::debug!(
        parent: span,
        tf_req_duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        diagnostic_error_count = errors,
        "served request"
    );
}

fn crashed(rpc: &str, failure: JoinError) -> Diagnostic {
    let words = match failure.try_into_panic() {
        Ok(panic) => panic_words(panic.as_ref()),
        Err(_) => "the call was cancelled".to_owned(),
    };
    let left = match rpc {
        "ApplyResourceChange" => {
            "What it had saved until then is stored; without that, what was stored before. What it changed since is not in \
             the state."
        }
        _ => "What was stored before is stored still.",
    };
    Diagnostic::bug(format!("{rpc} ended without an answer: {words}. {left}"))
}

fn panic_words(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// The error that there is no such type.
pub(super) fn unknown_type(what: &str, type_name: &str) -> Diagnostics {
    Diagnostic::error(
        format!("Unknown {what} type"),
        format!("This version of the provider has no {what} {type_name:?}."),
        "Check the name, or use a newer version of the provider.",
    )
    .into()
}

/// An answer that is only this diagnostic.
pub(super) fn refuse<R: Answer>(diagnostic: Diagnostic) -> Reply<R> {
    Ok(Response::new(R::default().with(diagnostic.into())))
}

/// An answer that can carry diagnostics.
pub(super) trait Answer: Default + Send + 'static {
    fn diagnostics(&mut self) -> &mut Vec<wire::Diagnostic>;

    fn with(mut self, diagnostics: Diagnostics) -> Self {
        self.diagnostics().extend(encode::diagnostics(diagnostics));
        self
    }
}

macro_rules! answers {
    ($($rpc:ident),* $(,)?) => {
        $(impl Answer for wire::$rpc::Response {
            fn diagnostics(&mut self) -> &mut Vec<wire::Diagnostic> {
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
    get_functions,
    get_metadata,
    get_provider_schema,
    get_resource_identity_schemas,
    get_states,
    import_resource_state,
    lock_state,
    move_resource_state,
    open_ephemeral_resource,
    plan_action,
    plan_resource_change,
    read_data_source,
    read_resource,
    read_state_bytes,
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
    write_state_bytes,
);
