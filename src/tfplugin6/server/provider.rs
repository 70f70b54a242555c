//! What a provider offers, its settings, and its end.

use super::answer::Call;
use super::*;
use crate::framework::lifecycle;

pub(super) async fn get_metadata(server: &Server, _: get_metadata::Request) -> Reply<get_metadata::Response> {
    let provider = server.provider();
    server
        .answer(Call::plain("GetMetadata"), async move {
            let named = |name: &str| name.to_owned();
            Ok(get_metadata::Response {
                server_capabilities: Some(capabilities(provider.as_ref())),
                resources: (provider.resources().iter())
                    .map(|it| get_metadata::ResourceMetadata {
                        type_name: named(it.type_name()),
                    })
                    .collect(),
                data_sources: (provider.data_sources().iter())
                    .map(|it| get_metadata::DataSourceMetadata {
                        type_name: named(it.type_name()),
                    })
                    .collect(),
                functions: (provider.functions().iter())
                    .map(|it| get_metadata::FunctionMetadata {
                        name: named(it.name()),
                    })
                    .collect(),
                ephemeral_resources: (provider.ephemeral_resources().iter())
                    .map(|it| get_metadata::EphemeralMetadata {
                        type_name: named(it.type_name()),
                    })
                    .collect(),
                list_resources: (provider.list_resources().iter())
                    .map(|it| get_metadata::ListResourceMetadata {
                        type_name: named(it.type_name()),
                    })
                    .collect(),
                actions: (provider.actions().iter())
                    .map(|it| get_metadata::ActionMetadata {
                        type_name: named(it.type_name()),
                    })
                    .collect(),
                state_stores: Vec::new(),
                diagnostics: Vec::new(),
            })
        })
        .await
}

pub(super) async fn get_provider_schema(
    server: &Server,
    _: get_provider_schema::Request,
) -> Reply<get_provider_schema::Response> {
    let provider = server.provider();
    server
        .answer(Call::plain("GetProviderSchema"), async move {
            Ok(get_provider_schema::Response {
                provider: Some(encode::schema(provider.schema())),
                provider_meta: provider.meta_schema().map(encode::schema),
                resource_schemas: (provider.resources().iter())
                    .map(|it| (it.type_name().to_owned(), encode::schema(it.schema())))
                    .collect(),
                data_source_schemas: (provider.data_sources().iter())
                    .map(|it| (it.type_name().to_owned(), encode::schema(it.schema())))
                    .collect(),
                functions: function::all(provider.as_ref()),
                ephemeral_resource_schemas: (provider.ephemeral_resources().iter())
                    .map(|it| (it.type_name().to_owned(), encode::schema(it.schema())))
                    .collect(),
                list_resource_schemas: (provider.list_resources().iter())
                    .map(|it| (it.type_name().to_owned(), encode::schema(it.schema())))
                    .collect(),
                action_schemas: (provider.actions().iter())
                    .map(|it| {
                        let schema = Some(encode::schema(it.schema()));
                        (it.type_name().to_owned(), ActionSchema { schema })
                    })
                    .collect(),
                server_capabilities: Some(capabilities(provider.as_ref())),
                ..Default::default()
            })
        })
        .await
}

/// Deletes are planned, and no call depends on the schema having been asked for. Moves are offered where a resource
/// takes over others; configuration is generated from any state.
fn capabilities(provider: &dyn framework::Provider) -> ServerCapabilities {
    ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: provider.resources().iter().any(|it| it.mover().is_some()),
        generate_resource_config: true,
    }
}

pub(super) async fn validate_provider_config(
    server: &Server,
    request: validate_provider_config::Request,
) -> Reply<validate_provider_config::Response> {
    let provider = server.provider();
    server
        .answer(Call::plain("ValidateProviderConfig"), async move {
            let config = decode::config(provider.schema(), request.config.as_ref())?;
            let diagnostics = lifecycle::validate_provider(provider.as_ref(), &config).await;
            Ok(validate_provider_config::Response::default().with(diagnostics))
        })
        .await
}

pub(super) async fn configure_provider(
    server: &Server,
    request: configure_provider::Request,
) -> Reply<configure_provider::Response> {
    server.renew_stop_signal();
    server.configured_by(host(request.client_capabilities.as_ref()));
    let provider = server.provider();
    server
        .answer(Call::plain("ConfigureProvider"), async move {
            let config = decode::config(provider.schema(), request.config.as_ref())?;
            let diagnostics = provider.configure(config, &request.terraform_version).await;
            Ok(configure_provider::Response::default().with(diagnostics))
        })
        .await
}

pub(super) fn stop_provider(server: &Server, _: stop_provider::Request) -> Reply<stop_provider::Response> {
    tracing::debug!(tf_rpc = "StopProvider", "asked to stop");
    server.stop_signal().cancel();
    Ok(Response::new(stop_provider::Response::default()))
}
