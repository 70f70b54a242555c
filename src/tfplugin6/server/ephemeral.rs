//! Ephemeral resources.

use std::time::Duration;

use prost_types::Timestamp;
use time::OffsetDateTime;

use super::answer::{Call, Kind};
use super::*;
use crate::framework::{CloseRequest, Ephemeral, OpenRequest, RenewRequest, ephemeral, resource::Private};

fn find(provider: &dyn framework::Provider, type_name: &str) -> Result<Arc<dyn Ephemeral>, Diagnostics> {
    let found = provider
        .ephemeral_resources()
        .iter()
        .find(|it| it.type_name() == type_name);
    found
        .cloned()
        .ok_or_else(|| unknown_type("ephemeral resource", type_name))
}

pub(super) async fn validate_ephemeral_resource_config(
    server: &Server,
    request: validate_ephemeral_resource_config::Request,
) -> Reply<validate_ephemeral_resource_config::Response> {
    let provider = server.provider();
    let call = Call::new(
        "ValidateEphemeralResourceConfig",
        Kind::Ephemeral,
        &request.type_name,
    );
    server
        .answer(call, async move {
            let found = find(provider.as_ref(), &request.type_name)?;
            let config = decode::config(found.schema(), request.config.as_ref())?;
            let diagnostics = ephemeral::validate(found.as_ref(), &config).await;
            Ok(validate_ephemeral_resource_config::Response::default().with(diagnostics))
        })
        .await
}

pub(super) async fn open_ephemeral_resource(
    server: &Server,
    request: open_ephemeral_resource::Request,
) -> Reply<open_ephemeral_resource::Response> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::new("OpenEphemeralResource", Kind::Ephemeral, &request.type_name);
    server
        .answer(call, async move {
            let found = find(provider.as_ref(), &request.type_name)?;
            let schema = found.schema();
            let config = decode::config(schema, request.config.as_ref())?;
            let own = || found.deferral(&config);
            if let Some(reason) = deferral(provider.as_ref(), request.client_capabilities.as_ref(), own) {
                return Ok(open_ephemeral_resource::Response {
                    result: encode::value(schema, &Value::Unknown)?,
                    deferred: Some(encode::deferred(reason)),
                    ..Default::default()
                });
            }
            let deadline = Deadline::after(found.timeout(), stop);
            let response = ephemeral::open(found.as_ref(), OpenRequest { config, deadline }).await;
            let answer = open_ephemeral_resource::Response {
                result: encode::value(schema, &response.result)?,
                renew_at: response.renew_after.and_then(from_now),
                private: kept(&response.private),
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
}

pub(super) async fn renew_ephemeral_resource(
    server: &Server,
    request: renew_ephemeral_resource::Request,
) -> Reply<renew_ephemeral_resource::Response> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::new("RenewEphemeralResource", Kind::Ephemeral, &request.type_name);
    server
        .answer(call, async move {
            let found = find(provider.as_ref(), &request.type_name)?;
            let request = RenewRequest {
                private: decode::private(&request.private.unwrap_or_default()),
                deadline: Deadline::after(found.timeout(), stop),
            };
            let response = ephemeral::renew(found.as_ref(), request).await;
            let answer = renew_ephemeral_resource::Response {
                renew_at: response.renew_after.and_then(from_now),
                private: kept(&response.private),
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
}

pub(super) async fn close_ephemeral_resource(
    server: &Server,
    request: close_ephemeral_resource::Request,
) -> Reply<close_ephemeral_resource::Response> {
    // Whatever was opened is closed, also after a stop: the signal is not for this one.
    let (provider, stop) = (server.provider(), StopSignal::new());
    let call = Call::new("CloseEphemeralResource", Kind::Ephemeral, &request.type_name);
    server
        .answer(call, async move {
            let found = find(provider.as_ref(), &request.type_name)?;
            let request = CloseRequest {
                private: decode::private(&request.private.unwrap_or_default()),
                deadline: Deadline::after(found.timeout(), stop),
            };
            let diagnostics = ephemeral::close(found.as_ref(), request).await;
            Ok(close_ephemeral_resource::Response::default().with(diagnostics))
        })
        .await
}

fn kept(private: &Private) -> Option<Vec<u8>> {
    (!private.is_empty()).then(|| encode::private(private))
}

/// The moment that is this far from now; `None` if no calendar holds it, which is as good as never.
fn from_now(after: Duration) -> Option<Timestamp> {
    let at = OffsetDateTime::now_utc().checked_add(time::Duration::try_from(after).ok()?)?;
    Some(Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).ok()?,
    })
}
