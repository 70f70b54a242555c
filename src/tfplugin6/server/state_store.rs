//! State stores: none is offered, and each call says so in words. The protocol of them is not final.

use futures_util::stream;

use super::*;

fn not_offered() -> Diagnostic {
    Diagnostic::error(
        "Not offered by this provider",
        "This version of the provider does not offer state stores.",
        "Use a backend, or a newer version of the provider if one does.",
    )
}

pub(super) fn validate_state_store_config(
    _: &Server,
    _: validate_state_store::Request,
) -> Reply<validate_state_store::Response> {
    refuse(not_offered())
}

pub(super) fn configure_state_store(
    _: &Server,
    _: configure_state_store::Request,
) -> Reply<configure_state_store::Response> {
    refuse(not_offered())
}

pub(super) fn read_state_bytes(
    _: &Server,
    _: read_state_bytes::Request,
) -> Reply<BoxStream<read_state_bytes::Response>> {
    let only = read_state_bytes::Response::default().with(not_offered().into());
    Ok(Response::new(Box::pin(stream::iter([Ok(only)]))))
}

pub(super) fn write_state_bytes() -> Reply<write_state_bytes::Response> {
    refuse(not_offered())
}

pub(super) fn lock_state(_: &Server, _: lock_state::Request) -> Reply<lock_state::Response> {
    refuse(not_offered())
}

pub(super) fn unlock_state(_: &Server, _: unlock_state::Request) -> Reply<unlock_state::Response> {
    refuse(not_offered())
}

pub(super) fn get_states(_: &Server, _: get_states::Request) -> Reply<get_states::Response> {
    refuse(not_offered())
}

pub(super) fn delete_state(_: &Server, _: delete_state::Request) -> Reply<delete_state::Response> {
    refuse(not_offered())
}
