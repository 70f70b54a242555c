//! Actions: a stream of progress that ends with how it went.

use futures_util::stream;
use tokio::sync::mpsc;

use super::answer::{Call, Kind};
use super::*;
use crate::framework::{Action, Progress, action};

fn find(provider: &dyn framework::Provider, type_name: &str) -> Result<Arc<dyn Action>, Diagnostics> {
    let found = provider.actions().iter().find(|it| it.type_name() == type_name);
    found.cloned().ok_or_else(|| unknown_type("action", type_name))
}

pub(super) async fn validate_action_config(
    server: &Server,
    request: validate_action_config::Request,
) -> Reply<validate_action_config::Response> {
    let provider = server.provider();
    let call = Call::new("ValidateActionConfig", Kind::Action, &request.type_name);
    server
        .answer(call, async move {
            let found = find(provider.as_ref(), &request.type_name)?;
            let config = decode::config(found.schema(), request.config.as_ref())?;
            let diagnostics = action::validate(found.as_ref(), &config).await;
            Ok(validate_action_config::Response::default().with(diagnostics))
        })
        .await
}

pub(super) async fn plan_action(
    server: &Server,
    request: plan_action::Request,
) -> Reply<plan_action::Response> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::new("PlanAction", Kind::Action, &request.action_type);
    server
        .answer(call, async move {
            let found = find(provider.as_ref(), &request.action_type)?;
            let config = decode::config(found.schema(), request.config.as_ref())?;
            // The one reason that a host accepts for an action is the provider's.
            let put_off = deferral(provider.as_ref(), request.client_capabilities.as_ref(), || None);
            if put_off.is_some() {
                return Ok(plan_action::Response {
                    deferred: Some(encode::deferred(Deferral::ProviderConfigUnknown)),
                    diagnostics: Vec::new(),
                });
            }
            let deadline = Deadline::after(found.timeout(), stop);
            let diagnostics = action::plan(found.as_ref(), &config, deadline).await;
            Ok(plan_action::Response::default().with(diagnostics))
        })
        .await
}

/// What happens while an action runs.
enum Step {
    Said(String),
    Over(Diagnostics),
}

pub(super) fn invoke_action(
    server: &Server,
    request: invoke_action::Request,
) -> Reply<BoxStream<invoke_action::Event>> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::new("InvokeAction", Kind::Action, &request.action_type);
    let (to, from) = mpsc::unbounded_channel();
    let (last, said) = (to.clone(), to.clone());
    let work = async move {
        let progress = Progress::new(move |sentence| {
            said.send(Step::Said(sentence)).ok(); // nobody listens any more
        });
        let run = async {
            let found = find(provider.as_ref(), &request.action_type)?;
            let config = decode::config(found.schema(), request.config.as_ref())?;
            let deadline = Deadline::after(found.timeout(), stop);
            Ok(action::invoke(found.as_ref(), config, progress, deadline).await)
        };
        let diagnostics = run.await.unwrap_or_else(|diagnostics: Diagnostics| diagnostics);
        to.send(Step::Over(diagnostics)).ok(); // nobody listens any more
    };
    server.stream(&call, work, |crash| {
        Box::pin(async move {
            last.send(Step::Over(crash.into())).ok(); // nobody listens any more
        })
    });
    // The end is the end, even if somebody keeps a clone of the progress.
    let issues = server.provider().issues();
    let events = stream::unfold(Some(from), move |from| async move {
        let mut from = from?;
        let step = from.recv().await?;
        let next = (!matches!(step, Step::Over(_))).then_some(from);
        Some((Ok(event(step, issues)), next))
    });
    Ok(Response::new(Box::pin(events)))
}

fn event(step: Step, issues: &str) -> invoke_action::Event {
    use invoke_action::event::{Completed, Progress, Type};
    let event = match step {
        Step::Said(message) => Type::Progress(Progress { message }),
        Step::Over(diagnostics) => {
            let mut diagnostics = encode::diagnostics(diagnostics);
            encode::name_issues(&mut diagnostics, issues);
            Type::Completed(Completed { diagnostics })
        }
    };
    invoke_action::Event { r#type: Some(event) }
}
