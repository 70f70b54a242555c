//! What `proto/build.rs` makes of go-plugin's services and of gRPC health.

#![expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::doc_markdown,
    clippy::missing_errors_doc,
    reason = "generated code; the protocol documents it"
)]

/// go-plugin's package: broker, controller, stdio.
pub mod plugin {
    tonic::include_proto!("plugin");
}

/// `grpc.health.v1`.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
