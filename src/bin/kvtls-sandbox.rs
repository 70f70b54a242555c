//! A world on loopback, for everybody who has no Azure subscription at hand.

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    kvtls::sandbox::process::main()
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    eprintln!("the sandbox runs on Linux and macOS");
    ExitCode::FAILURE
}
