//! List resources: a stream of what is found.

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Call, Kind};
use super::*;
use crate::framework::{List, ListRequest, Listed, Resource, list};

/// How many a host means that says nothing.
const DEFAULT_LIMIT: u64 = 100;

/// Objects that are found and not yet taken.
const AHEAD: usize = 16;

fn find(provider: &dyn framework::Provider, type_name: &str) -> Result<Arc<dyn List>, Diagnostics> {
    let found = provider
        .list_resources()
        .iter()
        .find(|it| it.type_name() == type_name);
    found
        .cloned()
        .ok_or_else(|| unknown_type("list resource", type_name))
}

pub(super) async fn validate_list_resource_config(
    server: &Server,
    request: validate_list_resource_config::Request,
) -> Reply<validate_list_resource_config::Response> {
    let provider = server.provider();
    let call = Call::new("ValidateListResourceConfig", Kind::List, &request.type_name);
    server
        .answer(call, async move {
            let found = find(provider.as_ref(), &request.type_name)?;
            let config = decode::config(found.schema(), request.config.as_ref())?;
            let diagnostics = list::validate(found.as_ref(), &config).await;
            Ok(validate_list_resource_config::Response::default().with(diagnostics))
        })
        .await
}

pub(super) fn list_resource(
    server: &Server,
    request: list_resource::Request,
) -> Reply<BoxStream<list_resource::Event>> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::new("ListResource", Kind::List, &request.type_name);
    let (to, from) = mpsc::channel(AHEAD);
    let resource = resource::find(provider.as_ref(), &request.type_name).ok();
    let last = to.clone();
    let listed = resource.clone();
    let work = async move {
        let found = find(provider.as_ref(), &request.type_name).and_then(|found| {
            let config = decode::config(found.schema(), request.config.as_ref())?;
            Ok((found, config))
        });
        let (found, config) = match found {
            Ok(found) => found,
            Err(diagnostics) => return tell(to, diagnostics).await,
        };
        let limit = match u64::try_from(request.limit) {
            Ok(0) | Err(_) => DEFAULT_LIMIT,
            Ok(limit) => limit,
        };
        let asked = ListRequest {
            config,
            include_resource: request.include_resource_object,
            deadline: Deadline::after(found.timeout(), stop),
        };
        list::list(found.as_ref(), listed.as_deref(), asked, limit, to).await;
    };
    server.stream(&call, work, |crash| Box::pin(tell(last, crash.into())));
    let issues = server.provider().issues();
    let events = ReceiverStream::new(from).map(move |listed| {
        let mut event = event(resource.as_deref(), listed);
        encode::name_issues(&mut event.diagnostic, issues);
        Ok(event)
    });
    Ok(Response::new(Box::pin(events)))
}

async fn tell(to: mpsc::Sender<Listed>, diagnostics: Diagnostics) {
    let listed = Listed {
        diagnostics,
        ..Listed::default()
    };
    to.send(listed).await.ok(); // nobody listens any more
}

fn event(resource: Option<&dyn Resource>, listed: Listed) -> list_resource::Event {
    let encoded = || -> Result<list_resource::Event, Diagnostics> {
        let mut event = list_resource::Event {
            display_name: listed.name.clone(),
            ..Default::default()
        };
        if let Some((resource, identity)) = resource.and_then(|it| Some((it, it.identity()?))) {
            event.identity = encode::identity(identity.schema(), listed.identity.as_ref())?;
            if let Some(state) = &listed.resource {
                event.resource_object = encode::value(resource.schema(), state)?;
            }
        }
        Ok(event)
    };
    let (mut event, faults) = match encoded() {
        Ok(event) => (event, Diagnostics::new()),
        Err(faults) => (list_resource::Event::default(), faults),
    };
    event.diagnostic = encode::diagnostics(listed.diagnostics);
    event.diagnostic.extend(encode::diagnostics(faults));
    event
}
