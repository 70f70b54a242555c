//! The beginning: who called, on which terms, and the one line that answers.
//!
//! A host tells its terms in environment variables and reads one line from stdout. A person gets words instead. Both
//! are decided here as pure functions of arguments and variables.

use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::listener::{Address, SocketWish};

/// Says "you were started by a host that speaks Terraform's plugin protocol". It is not a secret.
const COOKIE: (&str, &str) = (
    "TF_PLUGIN_MAGIC_COOKIE",
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
);

/// go-plugin's own version, the only one there ever was.
const CORE_PROTOCOL: u32 = 1;

/// Terraform's provider protocol. If the host did not offer it, it is printed all the same, because hosts explain the
/// mismatch to practitioners better than a plugin can.
const APP_PROTOCOL: u32 = 6;

/// The range Terraform gives; used if a host gives none.
const PORTS: RangeInclusive<u16> = 10_000..=25_000;

/// Who this plugin is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) name: &'static str,
    pub(super) address: &'static str,
    pub(super) version: &'static str,
}

/// What the caller wants of this process.
#[derive(Debug)]
pub(super) enum Call {
    /// Print this on stdout; all is well.
    Inform(String),
    /// Print this on stderr; a person started a plugin.
    Refuse(String),
    /// Serve on these terms.
    Serve(Terms),
}

/// How to serve.
#[derive(Debug)]
pub(super) struct Terms {
    /// For a person with a debugger: no TLS, no handshake line, no end but a signal.
    pub(super) is_debug: bool,
    /// The certificate the host will present, PEM. Absent: no TLS.
    pub(super) client_certificate: Option<String>,
    /// Where to listen.
    pub(super) socket: SocketWish,
    /// Whether the host knows the seventh field; older ones fail on it.
    pub(super) knows_multiplexing: bool,
}

/// Decides what to do. Options come before the cookie, so that they work inside a host's environment too.
pub(super) fn answer_the_call(
    identity: &Identity,
    mut arguments: impl Iterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<String>,
) -> Call {
    let option = arguments.next();
    match option.as_ref().and_then(|option| option.to_str()) {
        Some("--version" | "-version" | "-V") => Call::Inform(version(identity)),
        Some("--help" | "-help" | "-h") => Call::Inform(help(identity)),
        Some("--debug" | "-debug") => Call::Serve(terms(variable, true)),
        _ if variable(COOKIE.0).as_deref() == Some(COOKIE.1) => Call::Serve(terms(variable, false)),
        _ => Call::Refuse(refusal(identity)),
    }
}

fn terms(variable: impl Fn(&str) -> Option<String>, is_debug: bool) -> Terms {
    let port = |name, otherwise| {
        variable(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(otherwise)
    };
    Terms {
        is_debug,
        client_certificate: variable("PLUGIN_CLIENT_CERT").filter(|_| !is_debug),
        socket: SocketWish {
            directory: variable("PLUGIN_UNIX_SOCKET_DIR").map_or_else(std::env::temp_dir, PathBuf::from),
            group: variable("PLUGIN_UNIX_SOCKET_GROUP"),
            ports: port("PLUGIN_MIN_PORT", *PORTS.start())..=port("PLUGIN_MAX_PORT", *PORTS.end()),
        },
        knows_multiplexing: variable("PLUGIN_MULTIPLEX_GRPC").is_some(),
    }
}

/// The handshake line: `1|6|unix|/tmp/plugin…|grpc|<certificate>`.
///
/// Go decodes the certificate without padding and fails on it. The seventh field says that the broker is not
/// multiplexed; it is only for hosts that know it.
pub(super) fn line(terms: &Terms, address: &Address, certificate: Option<&CertificateDer<'_>>) -> String {
    let certificate = certificate.map_or_else(String::new, |der| STANDARD_NO_PAD.encode(der));
    let multiplexed = if terms.knows_multiplexing { "|false" } else { "" };
    let Address { network, text } = address;
    format!("{CORE_PROTOCOL}|{APP_PROTOCOL}|{network}|{text}|grpc|{certificate}{multiplexed}\n")
}

/// The assignment that makes a host in another shell use this very process.
///
/// `Test` is what tells it neither to stop nor to kill us; without it Terraform 1.11 crashes on protocol 6.
pub(super) fn reattach_line(identity: &Identity, address: &Address) -> String {
    let entry = json!({
        "Protocol": "grpc",
        "ProtocolVersion": APP_PROTOCOL,
        "Pid": std::process::id(),
        "Test": true,
        "Addr": { "Network": address.network, "String": address.text },
    });
    // Inside single quotes a shell takes everything literally but the quote itself.
    let providers = json!({ identity.address: entry })
        .to_string()
        .replace('\'', r"'\''");
    format!("TF_REATTACH_PROVIDERS='{providers}'\n")
}

/// Prints `line` on stdout, at once.
pub(super) fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

fn version(identity: &Identity) -> String {
    format!("terraform-provider-{} {}\n", identity.name, identity.version)
}

fn help(identity: &Identity) -> String {
    let Identity { name, address, .. } = identity;
    let version = version(identity);
    format!(
        "{version}\
         The provider {address} for Terraform and OpenTofu, which start it themselves.\n\
         \n\
         Usage: terraform-provider-{name} [OPTION]\n\
         \n\
         \x20 --debug    serve until Ctrl-C and print the TF_REATTACH_PROVIDERS assignment with which\n\
         \x20            Terraform, run in another shell, uses this process\n\
         \x20 --version  print the version\n\
         \x20 --help     print this\n"
    )
}

fn refusal(identity: &Identity) -> String {
    let Identity { name, address, .. } = identity;
    let version = version(identity);
    format!(
        "{version}\
         This is a plugin: Terraform or OpenTofu starts it, not a person. Name {address} under\n\
         `required_providers` and run `terraform init`.\n\
         \n\
         Try `terraform-provider-{name} --help` for what a person can do with it.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Identity = Identity {
        name: "thing",
        address: "example.test/it's/thing",
        version: "1.2.3",
    };

    fn call(arguments: &[&str], variables: &[(&str, &str)]) -> Call {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        answer_the_call(&WHO, arguments.iter().map(OsString::from), lookup)
    }

    fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Terms {
        match call(arguments, variables) {
            Call::Serve(terms) => terms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_right_cookie_starts_serving() {
        assert!(matches!(call(&[], &[]), Call::Refuse(_)));
        assert!(matches!(call(&[], &[(COOKIE.0, "cake")]), Call::Refuse(_)));
        assert!(matches!(call(&["serve"], &[]), Call::Refuse(_)));
        assert!(!serve(&[], &[COOKIE]).is_debug);
        assert!(!serve(&["serve"], &[COOKIE]).is_debug);
    }

    #[test]
    fn options_work_without_and_despite_the_cookie() {
        for option in ["--version", "-version", "--help", "-help", "-h"] {
            assert!(matches!(call(&[option], &[]), Call::Inform(_)), "{option}");
            assert!(matches!(call(&[option], &[COOKIE]), Call::Inform(_)), "{option}");
        }
        assert!(serve(&["--debug"], &[]).is_debug);
        assert!(serve(&["-debug"], &[COOKIE]).is_debug);
    }

    #[test]
    fn the_port_range_is_the_hosts_and_junk_in_it_is_skipped() {
        let given = serve(&[], &[COOKIE, ("PLUGIN_MIN_PORT", "7"), ("PLUGIN_MAX_PORT", "9")]);
        assert_eq!(given.socket.ports, 7..=9);
        let junk = serve(
            &[],
            &[COOKIE, ("PLUGIN_MIN_PORT", "-7"), ("PLUGIN_MAX_PORT", "70000")],
        );
        assert_eq!(junk.socket.ports, PORTS);
    }

    #[test]
    fn debug_never_speaks_tls() {
        let pem = ("PLUGIN_CLIENT_CERT", "anything");
        assert!(serve(&["--debug"], &[pem]).client_certificate.is_none());
        assert!(serve(&[], &[COOKIE, pem]).client_certificate.is_some());
    }

    #[test]
    fn the_line_has_six_fields_and_a_seventh_only_on_demand() {
        let address = Address {
            network: "unix",
            text: "/tmp/plugin1".to_owned(),
        };
        let der = CertificateDer::from(vec![1, 2, 3, 4]);
        let plain = serve(&[], &[COOKIE]);
        let multiplexing = serve(&[], &[COOKIE, ("PLUGIN_MULTIPLEX_GRPC", "true")]);
        assert_eq!(line(&plain, &address, None), "1|6|unix|/tmp/plugin1|grpc|\n");
        assert_eq!(
            line(&plain, &address, Some(&der)),
            "1|6|unix|/tmp/plugin1|grpc|AQIDBA\n"
        );
        assert_eq!(
            line(&multiplexing, &address, Some(&der)),
            "1|6|unix|/tmp/plugin1|grpc|AQIDBA|false\n"
        );
    }

    #[test]
    fn the_reattach_line_survives_a_shell() {
        let address = Address {
            network: "unix",
            text: "/tmp/it's here".to_owned(),
        };
        let line = reattach_line(&WHO, &address);
        let json = line
            .strip_prefix("TF_REATTACH_PROVIDERS='")
            .and_then(|rest| rest.strip_suffix("'\n"))
            .unwrap()
            .replace(r"'\''", "'");
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed[WHO.address]["Addr"]["String"], "/tmp/it's here");
        assert_eq!(parsed[WHO.address]["Test"], true);
    }
}
