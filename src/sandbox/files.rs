//! The directory of a run: what strangers source and read, the lock that keeps a second run out, the journal.
//!
//! The lock belongs to the process, not to the file: after SIGKILL the next start gets it at once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::core::Core;
use super::entra::Principal;

/// What is removed at the end: everything but the journal.
const WRITTEN: &[&str] = &[
    "ca.pem",
    "ca-bundle.pem",
    "env",
    "env.ports",
    "kubeconfig",
    "terraform.rc",
    "sandbox.json",
];

/// The folder of a real control plane, which removes it itself.
pub(crate) const CONTROL_PLANE: &str = "control-plane";

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirError {
    /// Another run has it.
    #[error("another sandbox runs in {}: stop it, or choose another --dir", .0.display())]
    Locked(PathBuf),
    /// A file cannot be written.
    #[error("{} cannot be written", .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The locked directory. At the end it is cleared of everything that is worthless or dangerous afterwards.
pub(crate) struct Dir {
    path: PathBuf,
    /// Whether it was made for this run only.
    temporary: bool,
    _lock: File,
}

impl Dir {
    /// Makes and locks this directory; without one, a new temporary one.
    pub(crate) fn lock(path: Option<&Path>) -> Result<Self, DirError> {
        let (path, temporary) = match path {
            Some(path) => (path.to_owned(), false),
            None => {
                let name = format!("kvtls-sandbox-{}", super::world::random_uuid());
                (std::env::temp_dir().join(name), true)
            }
        };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DirError::Io { path, source }
        };
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path);
        made.map_err(failed(&path))?;
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&path, private).map_err(failed(&path))?;
        let path = path.canonicalize().map_err(failed(&path))?;
        let lock = private_file(&path.join("lock"), false).map_err(failed(&path.join("lock")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirError::Locked(path)),
            Err(TryLockError::Error(source)) => return Err(failed(&path.join("lock"))(source)),
        }
        Ok(Self {
            path,
            temporary,
            _lock: lock,
        })
    }

    /// Where it is, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new, empty file for the journal.
    pub(crate) fn journal(&self) -> Result<File, DirError> {
        let path = self.path.join("journal.jsonl");
        private_file(&path, true).map_err(|source| DirError::Io { path, source })
    }

    /// Writes a file of the contract.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<(), DirError> {
        let path = self.path.join(name);
        let write = || private_file(&path, true)?.write_all(content.as_ref());
        write().map_err(|source| DirError::Io {
            path: path.clone(),
            source,
        })
    }
}

impl Dir {
    /// Removes everything but the journal and the lock.
    pub(crate) fn clear(&self) {
        // Whatever cannot be removed is worthless without the process anyway.
        for name in WRITTEN {
            let _removed = std::fs::remove_file(self.path.join(name)).is_ok();
        }
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_credential) {
                let _removed = std::fs::remove_file(entry.path()).is_ok();
            }
        }
        if self.temporary {
            let _removed = std::fs::remove_dir_all(&self.path).is_ok();
        }
    }
}

/// Where the certificate and key of a principal are: `client.pfx` is the deployer's.
pub(crate) fn pfx_name(principal: &Principal) -> String {
    match principal.name.as_str() {
        "deployer" => "client.pfx".to_owned(),
        name => format!("client-{name}.pfx"),
    }
}

/// Where a node puts the token of a principal's pod: `federated-token` is the deployer's.
pub(crate) fn federated_token_name(principal: &Principal) -> String {
    match principal.name.as_str() {
        "deployer" => "federated-token".to_owned(),
        name => format!("federated-token-{name}"),
    }
}

fn is_credential(name: &str) -> bool {
    name.starts_with("federated-token") || (name.starts_with("client") && name.ends_with(".pfx"))
}

impl Drop for Dir {
    fn drop(&mut self) {
        self.clear();
    }
}

fn private_file(path: &Path, empty: bool) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(empty)
        .mode(0o600)
        .open(path)
}

/// System roots, the run's authority, the root of staged chains: `SSL_CERT_FILE` replaces the default file, so a
/// bundle is needed.
pub(crate) fn ca_bundle(core: &Core) -> String {
    let system = rustls_native_certs::load_native_certs().certs;
    let system = system.iter().map(|certificate| pem(certificate));
    let mut bundle: String = system.collect();
    bundle.push_str(core.authority.pem());
    bundle.push_str(core.issuers.root_pem());
    bundle
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body = lines.fold(String::new(), |body, line| format!("{body}{line}\n"));
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

/// Terraform's configuration: the provider beside this binary, everything else from its registry.
pub(crate) fn terraform_rc(provider_dir: &Path) -> String {
    let dir = provider_dir
        .display()
        .to_string()
        .replace('\\', r"\\")
        .replace('"', "\\\"");
    format!(
        "provider_installation {{\n  dev_overrides {{\n    \"registry.terraform.io/kvtls/kvtls\" = \"{dir}\"\n    \
         \"registry.opentofu.org/kvtls/kvtls\" = \"{dir}\"\n  }}\n  direct {{}}\n}}\n"
    )
}

/// Where the provider's binary is expected: beside this one, or for a test beside its directory.
pub(crate) fn provider_dir() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let dir = own.parent().unwrap_or(Path::new("."));
    match dir.file_name() {
        Some(name) if name == "deps" => dir.parent().unwrap_or(dir).to_owned(),
        _ => dir.to_owned(),
    }
}

/// A kubeconfig of all clusters, in JSON, which is YAML. Context `NAME` is `deployer` with its Entra token where the
/// cluster knows Entra, and the cluster's user otherwise; `NAME-admin` is the administrator's client certificate.
pub(crate) fn kubeconfig(core: &Core) -> String {
    let (mut clusters, mut users, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
    let base64 = |text: &str| STANDARD.encode(text);
    for cluster in core.clusters.all() {
        let name = &cluster.settings.name;
        clusters.push(json!({"name": name, "cluster": {
            "server": core.names.cluster_server(name, "127.0.0.1"),
            "certificate-authority-data": base64(&cluster.ca_pem),
        }}));
        let mut add = |context: String, user: Value| {
            users.push(json!({"name": context, "user": user}));
            contexts.push(json!({"name": context, "context": {"cluster": name, "user": context}}));
        };
        let deployer = core.directory.principal_by_name("deployer");
        match deployer.filter(|_| cluster.settings.entra_tenant.is_some()) {
            Some(deployer) => {
                let audience = super::entra::AKS_AUDIENCE;
                let token = core
                    .directory
                    .issue(&deployer.object_id, audience, core.clock.now());
                add(name.clone(), json!({"token": token}));
            }
            None => add(name.clone(), json!({"token": cluster.user.token})),
        }
        if cluster.has_local_accounts() {
            let certificate = &cluster.admin.certificate;
            let user = json!({
                "client-certificate-data": base64(&certificate.certificate_pem),
                "client-key-data": base64(&certificate.key_pem),
            });
            add(format!("{name}-admin"), user);
        }
    }
    let current = contexts.first().and_then(|context| context.get("name")).cloned();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {},
        "clusters": clusters, "users": users, "contexts": contexts, "current-context": current,
    });
    format!("{config:#}\n")
}
