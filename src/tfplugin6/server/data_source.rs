//! Data sources.

use super::answer::{Call, Kind};
use super::*;
use crate::framework::{DataSource, ReadDataRequest, lifecycle};

fn find(provider: &dyn framework::Provider, type_name: &str) -> Result<Arc<dyn DataSource>, Diagnostics> {
    let found = provider
        .data_sources()
        .iter()
        .find(|source| source.type_name() == type_name);
    found
        .cloned()
        .ok_or_else(|| unknown_type("data source", type_name))
}

pub(super) async fn validate_data_resource_config(
    server: &Server,
    request: validate_data_resource_config::Request,
) -> Reply<validate_data_resource_config::Response> {
    let provider = server.provider();
    let call = Call::new("ValidateDataResourceConfig", Kind::DataSource, &request.type_name);
    server
        .answer(call, async move {
            let source = find(provider.as_ref(), &request.type_name)?;
            let config = decode::config(source.schema(), request.config.as_ref())?;
            let diagnostics = lifecycle::validate_data(source.as_ref(), &config).await;
            Ok(validate_data_resource_config::Response::default().with(diagnostics))
        })
        .await
}

pub(super) async fn read_data_source(
    server: &Server,
    request: read_data_source::Request,
) -> Reply<read_data_source::Response> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::new("ReadDataSource", Kind::DataSource, &request.type_name);
    server
        .answer(call, async move {
            let source = find(provider.as_ref(), &request.type_name)?;
            let config = decode::config(source.schema(), request.config.as_ref())?;
            let own = || source.deferral(&config);
            if let Some(reason) = deferral(provider.as_ref(), request.client_capabilities.as_ref(), own) {
                return Ok(read_data_source::Response {
                    state: encode::value(source.schema(), &Value::Unknown)?,
                    deferred: Some(encode::deferred(reason)),
                    ..Default::default()
                });
            }
            let host = host(request.client_capabilities.as_ref());
            let deadline = Deadline::after(source.timeout(&config), stop);
            let request = ReadDataRequest {
                config,
                meta: meta(provider.as_ref(), request.provider_meta.as_ref())?,
                deadline,
            };
            let response = lifecycle::read_data(source.as_ref(), request, host).await;
            let answer = read_data_source::Response {
                state: encode::value(source.schema(), &response.state)?,
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
}
