//! A world on loopback, for everybody who has no Azure subscription at hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvtls::sandbox::process::main()
}
