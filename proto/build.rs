//! Compiles the files of this folder to Rust, with protox: no `protoc` to install.
//!
//! The client side is generated too, because the tests play Terraform with it; the linker drops it from the
//! binaries. Maps are ordered, so that the same answer is always the same bytes.

use std::error::Error;

const FILES: [&str; 5] = [
    "tfplugin6.proto",
    "grpc_broker.proto",
    "grpc_controller.proto",
    "grpc_health.proto",
    "grpc_stdio.proto",
];

/// Messages that carry configuration or state. Their `Debug` is written by hand and prints no content.
const HOLDS_VALUES: [&str; 2] = [".tfplugin6.DynamicValue", ".tfplugin6.RawState"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    tonic_prost_build::configure()
        .build_client(true)
        .build_transport(false)
        .generate_default_stubs(true)
        .btree_map(".")
        .skip_debug(HOLDS_VALUES)
        .compile_fds(protox::compile(FILES, ["proto"])?)?;
    Ok(())
}
