//! Resource identity.

use super::answer::Call;
use super::*;

pub(super) async fn get_resource_identity_schemas(
    server: &Server,
    _: get_resource_identity_schemas::Request,
) -> Reply<get_resource_identity_schemas::Response> {
    let provider = server.provider();
    server
        .answer(Call::plain("GetResourceIdentitySchemas"), async move {
            let identities = provider.resources().iter().filter_map(|resource| {
                let schema = encode::identity_schema(resource.identity()?.schema());
                Some((resource.type_name().to_owned(), schema))
            });
            Ok(get_resource_identity_schemas::Response {
                identity_schemas: identities.collect(),
                diagnostics: Vec::new(),
            })
        })
        .await
}

pub(super) async fn upgrade_resource_identity(
    server: &Server,
    request: upgrade_resource_identity::Request,
) -> Reply<upgrade_resource_identity::Response> {
    let provider = server.provider();
    let call = Call::of("UpgradeResourceIdentity", &request.type_name);
    server
        .answer(call, async move {
            let resource = resource::find(provider.as_ref(), &request.type_name)?;
            let json = decode::stored_state(request.raw_identity.as_ref())?;
            let upgraded = framework::identity::upgrade(resource.as_ref(), request.version, json)?;
            let Some(identity) = resource.identity() else {
                return Ok(upgrade_resource_identity::Response::default());
            };
            Ok(upgrade_resource_identity::Response {
                upgraded_identity: encode::identity(identity.schema(), Some(&upgraded))?,
                diagnostics: Vec::new(),
            })
        })
        .await
}
