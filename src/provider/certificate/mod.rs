//! `kvtls_certificate`: a certificate in a vault, made by a policy or imported with its key, renewed in place.
//!
//! A new version never replaces the resource: whoever refers to the versionless secret ID follows by itself. Whether one
//! is due is judged when the certificate is read, by the vault's clock, so that a plan is a function of what was read.

mod apply;
mod patience;
mod pem;
mod plan;
mod schema;
mod state;

use std::time::Duration;

use async_trait::async_trait;

use self::plan::Reason;
use super::Configured;
use super::explain::certificates as explain;
use super::explain::{Changed, blind_spots, vaults};
use super::operation::{Halt, Unfinished, resuming, within};
use crate::azure::Error;
use crate::azure::ids::VaultId;
use crate::framework::resource::Private;
use crate::framework::{
    ApplyRequest, ApplyResponse, Deadline, Diagnostic, Diagnostics, ImportResponse, PlanRequest,
    PlanResponse, ReadRequest, ReadResponse, Resource, Schema, Value,
};

/// Private data: the vault's clock at the last read, in Unix seconds.
const SEEN_AT: &str = "seen_at";

/// The resource.
pub struct CertificateResource {
    schema: Schema,
    configured: Configured,
    unfinished: Unfinished,
}

impl CertificateResource {
    /// The resource, over the world that the provider block describes.
    pub fn new(configured: Configured) -> Self {
        Self {
            schema: schema::schema(),
            configured,
            unfinished: Unfinished::default(),
        }
    }
}

#[async_trait]
impl Resource for CertificateResource {
    fn type_name(&self) -> &'static str {
        "kvtls_certificate"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        schema::contradictions(config)
    }

    fn remember(&self, state: &Value) {
        self.unfinished
            .remember(state.get("id").as_str(), is_unfinished(state));
    }

    async fn read(&self, request: ReadRequest) -> ReadResponse {
        self.configured.refreshes();
        match self.read_now(&request).await {
            Ok((state, private)) => ReadResponse {
                state,
                private,
                diagnostics: Diagnostics::new(),
            },
            Err(diagnostics) => ReadResponse {
                state: request.state,
                private: request.private,
                diagnostics,
            },
        }
    }

    async fn plan(&self, request: PlanRequest) -> PlanResponse {
        if request.is_destroy() {
            return PlanResponse {
                private: Default::default(),
                ..request.as_proposed()
            };
        }
        if let Some(diagnostic) = self.configured.other_id(&request, "key_vault_id") {
            return request.refused(diagnostic);
        }
        let mut planned = request.proposed.clone();
        plan::fill(&request.config, &mut planned);
        let mut diagnostics = Diagnostics::new();
        if request.is_create() {
            plan::of_creation(&mut planned);
            let resumes = id(&planned).is_some_and(|id| self.unfinished.has(&id));
            return PlanResponse {
                planned,
                requires_replace: Vec::new(),
                private: resuming(resumes),
                diagnostics,
            };
        }
        if plan::of_update(&request, &mut planned) == Some(Reason::Due) {
            let text = |value: &Value, name: &str| value.get(name).as_str().unwrap_or_default().to_owned();
            diagnostics.push(explain::renewal_due(
                &text(&planned, "name"),
                &text(&request.prior, "not_after"),
                &text(&planned, "renew_before"),
            ));
        }
        PlanResponse {
            planned,
            requires_replace: Vec::new(),
            private: request.private,
            diagnostics,
        }
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        if request.planned.is_null() {
            apply::delete(self, request).await
        } else {
            apply::write(self, request).await
        }
    }

    async fn import(&self, id: &str, deadline: Deadline) -> ImportResponse {
        self.import_now(id, &deadline).await.into()
    }

    fn timeout(&self, operation: &str, value: &Value) -> Duration {
        schema::TIMEOUTS.of(operation, value)
    }
}

impl CertificateResource {
    async fn read_now(&self, request: &ReadRequest) -> Result<(Value, Private), Diagnostics> {
        let stored = &request.state;
        let as_it_was = || (stored.clone(), request.private.clone());
        let Some(world) = self.configured.world() else {
            return Ok(as_it_was());
        };
        let text = |name: &str| stored.get(name).as_str();
        let (Some(id), Some(name)) = (text("id"), text("name")) else {
            return Ok(as_it_was());
        };
        let Some(vault_id) = text("key_vault_id").and_then(|text| VaultId::parse(text).ok()) else {
            return Ok(as_it_was());
        };
        let azure = world.azure();
        let known_uri = text("versionless_secret_id").and_then(|it| it.split("/secrets/").next());
        let reading = async {
            let uri = match azure.key_vault(&vault_id).await {
                Ok(Some(vault)) => vault.uri,
                Ok(None) => return Ok(None),
                // Whoever may not look at the vault may still read its certificates.
                Err(error) => match known_uri {
                    Some(uri) if error.is_forbidden() => uri.to_owned(),
                    _ => return Err(error),
                },
            };
            let bundle = azure.certificate_bundle(&uri, name, None).await?;
            Ok(bundle.map(|bundle| (uri, bundle)))
        };
        match within(&request.deadline, reading).await {
            // The first version of an unfinished creation is still on its way, or was never asked for.
            Ok(None) if is_unfinished(stored) => Ok(as_it_was()),
            Ok(None) => Ok((Value::Null, Private::new())),
            Ok(Some(_)) if is_unfinished(stored) => Ok(as_it_was()),
            Ok(Some((uri, bundle))) => {
                let state = state::observed(stored, id, &uri, name, &bundle);
                let seen_at = bundle.certificate.seen_at.unix_timestamp();
                Ok((state, Private::from([(SEEN_AT.to_owned(), seen_at.into())])))
            }
            Err(Halt::Azure(error @ (Error::Forbidden { .. } | Error::Unreachable { .. }))) => {
                let spot = ("vault certificates".to_owned(), error.service_said());
                Err(Diagnostics::from(blind_spots(
                    &[spot],
                    self.configured.blind_plan_fails(),
                )))
            }
            Err(halt) => Err(Diagnostics::from(vaults::halted(
                &halt,
                "read the certificate",
                &Changed::nothing(),
            ))),
        }
    }

    async fn import_now(&self, id: &str, deadline: &Deadline) -> Result<Value, Diagnostic> {
        let world = self.configured.need()?;
        let bad = |why: &str| vaults::bad_import_id(id, "{key_vault_id}/certificates/{name}", why);
        let (vault, name) = id
            .rsplit_once("/certificates/")
            .ok_or_else(|| bad("has no \"/certificates/\""))?;
        let vault_id = VaultId::parse(vault).map_err(|error| bad(&error.to_string()))?;
        let azure = world.azure();
        let reading = async {
            let Some(vault) = azure.key_vault(&vault_id).await? else {
                return Ok(None);
            };
            let bundle = azure.certificate_bundle(&vault.uri, name, None).await?;
            Ok(bundle.map(|bundle| (vault.uri, bundle)))
        };
        let (uri, bundle) = within(deadline, reading)
            .await
            .map_err(|halt| {
                vaults::data_plane(&halt, &vault_id, "read the certificate", &Changed::nothing())
            })?
            .ok_or_else(|| vaults::nothing_to_import("Certificate", id))?;
        let empty = self.schema.nothing();
        Ok(state::imported(&empty, vault, &uri, name, &bundle))
    }
}

/// The certificate's ID, if what it is made of is known.
fn id(value: &Value) -> Option<String> {
    let vault = value.get("key_vault_id").as_str()?.trim_end_matches('/');
    let name = value.get("name").as_str()?;
    Some(format!("{vault}/certificates/{name}"))
}

/// Whether the creation that made this state did not come to its end.
fn is_unfinished(state: &Value) -> bool {
    state.get("version").is_null()
}
