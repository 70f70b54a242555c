//! `data.kvtls_certificate`: the public facts of a certificate in a vault. Its key is never asked for.

use async_trait::async_trait;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::azure::ids::VaultId;
use crate::azure::{Azure, CertificateBundle, Error};
use crate::framework::validate::text;
use crate::framework::{
    Attribute, DataSource, Deadline, Diagnostic, Diagnostics, Presence, ReadDataRequest, ReadDataResponse,
    Schema, Type, Value,
};
use crate::provider::Configured;
use crate::provider::explain::Changed;
use crate::provider::explain::vaults as explain;
use crate::provider::ids::vault_id;
use crate::provider::operation::within;

use Presence::{Computed, Optional, Required};

/// The data source.
pub struct CertificateData {
    schema: Schema,
    configured: Configured,
}

impl CertificateData {
    /// The data source, over the world that the provider block describes.
    pub fn new(configured: Configured) -> Self {
        Self {
            schema: schema(),
            configured,
        }
    }
}

fn schema() -> Schema {
    let computed = |description: &str| Attribute::string(Computed, description);
    Schema::new(
        "A certificate in a Key Vault: its public facts. Reading it needs `get` on certificates, never on secrets.",
        [
            (
                "key_vault_id",
                Attribute::string(Required, "The vault's resource ID.").valid(vault_id),
            ),
            (
                "name",
                Attribute::string(Required, "Its name in the vault.").valid(text(
                    "a certificate's name",
                    "\"my-tls-cert\"",
                    is_certificate_name,
                )),
            ),
            (
                "version",
                Attribute::string(Optional, "One version, 32 hex digits; the newest unless set.").valid(
                    text(
                        "a version, 32 lower-case hex digits",
                        "\"0123456789abcdef0123456789abcdef\"",
                        is_version,
                    ),
                ),
            ),
            ("id", computed("`{key_vault_id}/certificates/{name}`.")),
            ("latest_version", computed("The newest version.")),
            (
                "versionless_secret_id",
                computed("What a binding's `certificates.*.certificate` takes, for example."),
            ),
            (
                "hosts",
                Attribute::value(Type::list(Type::String), Computed, "The hosts it covers."),
            ),
            (
                "thumbprint",
                computed("SHA-1, upper-case hex, as the portal shows it."),
            ),
            ("not_before", computed("The start of its validity, RFC 3339.")),
            ("not_after", computed("The end of its validity, RFC 3339.")),
            (
                "enabled",
                Attribute::bool(Computed, "Whether the version may be used."),
            ),
            (
                "exportable",
                Attribute::bool(Computed, "Whether the secret holds the key, which TLS needs."),
            ),
            ("subject", computed("The subject's distinguished name.")),
            ("issuer", computed("The issuer's distinguished name.")),
            ("key_type", computed("`RSA` or `EC`.")),
            (
                "content_type",
                computed("In which form the secret holds it: `pem` or `pfx`."),
            ),
            (
                "tags",
                Attribute::value(Type::map(Type::String), Computed, "The version's tags."),
            ),
        ],
    )
    .faults_as("KVTLS-E002")
}

#[async_trait]
impl DataSource for CertificateData {
    fn type_name(&self) -> &'static str {
        "kvtls_certificate"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn read(&self, request: ReadDataRequest) -> ReadDataResponse {
        let (state, diagnostics) = match self.find(&request.config, &request.deadline).await {
            Ok(state) => (state, Diagnostics::new()),
            Err(diagnostic) => (Value::Null, Diagnostics::from(diagnostic)),
        };
        ReadDataResponse { state, diagnostics }
    }
}

/// What there is of a certificate.
enum Found {
    NoVault,
    Nothing,
    Certificate(Box<Bundles>),
}

struct Bundles {
    wanted: CertificateBundle,
    newest: CertificateBundle,
    uri: String,
}

impl CertificateData {
    async fn find(&self, config: &Value, deadline: &Deadline) -> Result<Value, Diagnostic> {
        let world = self.configured.need()?;
        let text = |name: &str| config.get(name).as_str();
        let (name, version) = (text("name").unwrap_or_default(), text("version"));
        let vault = VaultId::parse(text("key_vault_id").unwrap_or_default())
            .map_err(|error| Diagnostic::bug(error.to_string()))?;
        let found = within(deadline, find(world.azure(), &vault, name, version)).await;
        let found = found.map_err(|halt| {
            let mut diagnostic =
                explain::data_plane(&halt, &vault, "read the certificate", &Changed::nothing());
            if diagnostic.fix.contains("Certificates Officer") {
                diagnostic.fix = diagnostic
                    .fix
                    .replace("Key Vault Certificates Officer", "Key Vault Reader");
            }
            diagnostic
        })?;
        match found {
            Found::NoVault => Err(explain::no_vault(&vault)),
            Found::Nothing => Err(explain::no_certificate(&vault, name, version)),
            Found::Certificate(found) => Ok(shown(config, &vault, &found)),
        }
    }
}

async fn find(azure: &Azure, id: &VaultId, name: &str, version: Option<&str>) -> Result<Found, Error> {
    let Some(vault) = azure.key_vault(id).await? else {
        return Ok(Found::NoVault);
    };
    let Some(newest) = azure.certificate_bundle(&vault.uri, name, None).await? else {
        return Ok(Found::Nothing);
    };
    let wanted = match version {
        Some(version) if version != newest.certificate.version => {
            azure.certificate_bundle(&vault.uri, name, Some(version)).await?
        }
        _ => Some(newest.clone()),
    };
    Ok(match wanted {
        Some(wanted) => Found::Certificate(Box::new(Bundles {
            wanted,
            newest,
            uri: vault.uri,
        })),
        None => Found::Nothing,
    })
}

fn shown(config: &Value, vault: &VaultId, found: &Bundles) -> Value {
    let Bundles { wanted, newest, uri } = found;
    let name = config.get("name").as_str().unwrap_or_default();
    let leaf = &wanted.certificate.leaf;
    let mut state = config.clone();
    let set = |state: &mut Value, name: &str, value: Value| state.set(name, value);
    set(
        &mut state,
        "id",
        Value::from(format!("{vault}/certificates/{name}")),
    );
    set(
        &mut state,
        "version",
        Value::from(wanted.certificate.version.as_str()),
    );
    set(
        &mut state,
        "latest_version",
        Value::from(newest.certificate.version.as_str()),
    );
    let secret = format!("{}/secrets/{name}", uri.trim_end_matches('/'));
    set(&mut state, "versionless_secret_id", Value::from(secret));
    set(&mut state, "hosts", Value::from(leaf.hosts.clone()));
    set(&mut state, "thumbprint", Value::from(leaf.thumbprint.as_str()));
    set(&mut state, "not_before", Value::from(time(leaf.not_before)));
    set(&mut state, "not_after", Value::from(time(leaf.not_after)));
    set(&mut state, "enabled", Value::from(wanted.certificate.enabled));
    // Only the newest version's answer carries the policy, which all versions share.
    let exportable = newest.certificate.exportable.unwrap_or(true);
    set(&mut state, "exportable", Value::from(exportable));
    set(&mut state, "subject", Value::from(leaf.subject.as_str()));
    set(&mut state, "issuer", Value::from(leaf.issuer.as_str()));
    set(&mut state, "key_type", Value::from(newest.key_type.clone()));
    let content = newest.certificate.content_type.as_deref().map(content_word);
    set(
        &mut state,
        "content_type",
        Value::from(content.map(str::to_owned)),
    );
    set(&mut state, "tags", Value::from(wanted.tags.clone()));
    state
}

/// `pem` or `pfx`, of a content type.
pub(in crate::provider) fn content_word(content_type: &str) -> &'static str {
    if content_type.contains("pem") {
        "pem"
    } else {
        "pfx"
    }
}

/// RFC 3339.
pub(in crate::provider) fn time(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_else(|_| moment.to_string())
}

/// Whether a vault takes it as a certificate's name.
pub(in crate::provider) fn is_certificate_name(name: &str) -> bool {
    (1..=127).contains(&name.len()) && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
}

fn is_version(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_keeps_terraforms_rules() {
        assert_eq!(schema().check(), Vec::<String>::new());
    }

    #[test]
    fn a_version_is_thirty_two_hex_digits() {
        assert!(is_version("0123456789abcdef0123456789abcdef"));
        for bad in ["", "0123456789ABCDEF0123456789abcdef", "0123456789abcdef"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
