//! What `proto/build.rs` makes of `proto/tfplugin6.proto`: messages, [`provider_server`] and, for tests,
//! [`provider_client`].

#![expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::doc_markdown,
    clippy::missing_errors_doc,
    reason = "generated code; the protocol documents it"
)]

use std::fmt;

tonic::include_proto!("tfplugin6");

/// Prints sizes only: the bytes are configuration or state.
impl fmt::Debug for DynamicValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DynamicValue({} bytes)", self.msgpack.len() + self.json.len())
    }
}

/// Prints sizes only: the bytes are state.
impl fmt::Debug for RawState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawState({} bytes)", self.json.len())
    }
}
