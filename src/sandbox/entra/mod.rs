//! Entra ID: tenants, principals, and the tokens that say who asks.
//!
//! Tokens are ES256 JWTs with the claims of version 1. They expire in sandbox time; they live an hour times the
//! clock's rate, so that `expires_in` is always 3599 and no SDK refreshes more often than it would on Azure.

mod federation;
mod login;
mod machine;
mod registered;
mod token;
mod vouching;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::certificates::CertificateError;
use super::clock::Clock;
use super::core::{Caller, ManagedIdentity, Markers, TokenFault, WorldError};
use super::world::{id_of, made_at};
pub(crate) use login::{Refusal, imds_body};
pub(crate) use machine::{APP_SERVICE, METADATA_SERVICE, identity_header};
pub(crate) use registered::Registered;
pub(crate) use token::{Keys, claims_of, token_id};
pub(crate) use vouching::{Voucher, request_path, request_token, service_connection};

/// What `expires_in` always says.
const LIFETIME: u32 = 3599;
/// ARM's audiences, the old one too.
pub(crate) const ARM_AUDIENCES: &[&str] = &[
    "https://management.azure.com",
    "https://management.azure.com/",
    "https://management.core.windows.net",
    "https://management.core.windows.net/",
];
/// The audience of AKS clusters: Microsoft's server application, the same in all clouds.
pub(crate) const AKS_AUDIENCE: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";

/// The directory; clones share it.
#[derive(Clone)]
pub(crate) struct Directory(Arc<Shared>);

struct Shared {
    clock: Clock,
    markers: Markers,
    keys: Keys,
    issuers: federation::Issuers,
    tenants: Vec<Tenant>,
    principals: RwLock<Vec<Principal>>,
    /// How many managed identities were made.
    made: AtomicU64,
}

/// A tenant.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    /// In the world file.
    pub(crate) name: String,
    pub(crate) id: String,
}

/// Somebody who can hold rights.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    /// In the world file.
    pub(crate) name: String,
    pub(crate) kind: PrincipalKind,
    /// The tenant's ID.
    pub(crate) tenant: String,
    /// Absent for users and groups.
    pub(crate) client_id: Option<String>,
    pub(crate) object_id: String,
    /// Object IDs of its groups.
    pub(crate) groups: Vec<String>,
    pub(crate) secret: Option<String>,
    /// A certificate whose key stands in for a secret.
    pub(crate) certificate: Option<Registered>,
    pub(crate) federated: Vec<Federated>,
    /// Who gives out assertions for it.
    pub(crate) voucher: Option<Voucher>,
    /// IDs of other tenants that know this application.
    pub(crate) also_in: Vec<String>,
    /// Whether it is an identity of the machine that commands run on.
    pub(crate) on_machine: bool,
    pub(crate) created: OffsetDateTime,
}

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrincipalKind {
    App,
    Managed,
    User,
    Group,
}

impl PrincipalKind {
    /// ARM's `principalType`.
    pub(crate) fn arm(self) -> &'static str {
        match self {
            Self::App | Self::Managed => "ServicePrincipal",
            Self::User => "User",
            Self::Group => "Group",
        }
    }
}

/// A federated identity credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Federated {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
}

impl Directory {
    /// The directory of a merged world file.
    pub(crate) fn new(world: &Value, clock: Clock, markers: Markers) -> Result<Self, Vec<WorldError>> {
        let start = clock.now();
        let keys = Keys::generate()
            .map_err(|error: CertificateError| vec![WorldError::new("", error.to_string())])?;
        let mut errors = Vec::new();
        let tenants: Vec<_> = members(world, "/tenants")
            .map(|(name, tenant)| Tenant {
                id: text(tenant, "id").unwrap_or_else(|| id_of(&format!("/tenants/{name}"))),
                name: name.clone(),
            })
            .collect();
        let principals: Vec<_> = members(world, "/principals")
            .filter_map(
                |(name, source)| match principal(name, source, &tenants, world, start) {
                    Ok(principal) => Some(principal),
                    Err(error) => {
                        errors.push(error);
                        None
                    }
                },
            )
            .collect();
        if tenants.is_empty() {
            errors.push(WorldError::new("/tenants", "must hold at least one tenant"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for principal in &principals {
            if let Some(secret) = &principal.secret {
                markers.secret(secret);
            }
            if let Some(certificate) = &principal.certificate {
                markers.private_key(certificate.key_pkcs8());
            }
            if principal.voucher.is_some() {
                markers.secret(&request_token(&principal.name));
            }
        }
        markers.secret(&identity_header());
        Ok(Self(Arc::new(Shared {
            clock,
            markers,
            keys,
            issuers: federation::Issuers::default(),
            tenants,
            principals: RwLock::new(principals),
            made: AtomicU64::new(0),
        })))
    }

    /// All tenants.
    pub(crate) fn tenants(&self) -> &[Tenant] {
        &self.0.tenants
    }

    /// The tenant of this ID or name.
    pub(crate) fn tenant(&self, id: &str) -> Option<&Tenant> {
        let mut tenants = self.0.tenants.iter();
        tenants.find(|tenant| tenant.id.eq_ignore_ascii_case(id) || tenant.name == id)
    }

    /// Everybody.
    pub(crate) fn principals(&self) -> Vec<Principal> {
        self.0
            .principals
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The principal of this object ID.
    pub(crate) fn principal_by_oid(&self, oid: &str) -> Option<Principal> {
        self.find(|principal| principal.object_id.eq_ignore_ascii_case(oid))
    }

    /// The principal of this client ID.
    pub(crate) fn principal_by_client_id(&self, client_id: &str) -> Option<Principal> {
        self.find(|principal| {
            let own = principal.client_id.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(client_id))
        })
    }

    /// The principal of this name in the world file.
    pub(crate) fn principal_by_name(&self, name: &str) -> Option<Principal> {
        self.find(|principal| principal.name == name)
    }

    /// ARM's `principalType` of an object ID.
    pub(crate) fn kind(&self, oid: &str) -> Option<&'static str> {
        Some(self.principal_by_oid(oid)?.kind.arm())
    }

    /// How old a principal is; young ones are not found everywhere yet.
    pub(crate) fn age(&self, oid: &str, now: OffsetDateTime) -> Option<time::Duration> {
        Some(now - self.principal_by_oid(oid)?.created)
    }

    /// A new managed identity in this tenant; another one with every call, as Azure makes them.
    pub(crate) fn add_managed_identity(&self, name: &str, tenant: &str) -> ManagedIdentity {
        // Not the length of the list: identities go as well.
        let made = self.0.made.fetch_add(1, Ordering::Relaxed);
        let path = format!("/identities/{tenant}/{name}/{made}");
        let identity = ManagedIdentity {
            client_id: id_of(&format!("{path}/client_id")),
            object_id: id_of(&format!("{path}/object_id")),
        };
        self.add_identity(name, tenant, identity, &[])
    }

    /// A managed identity whose ids are known, in the groups of these names.
    pub(crate) fn add_identity(
        &self,
        name: &str,
        tenant: &str,
        identity: ManagedIdentity,
        groups: &[&str],
    ) -> ManagedIdentity {
        let mut principals = self.0.principals.write().unwrap_or_else(PoisonError::into_inner);
        let named = principals.iter().filter(|it| groups.contains(&it.name.as_str()));
        let groups = named.map(|group| group.object_id.clone()).collect();
        principals.push(Principal {
            name: name.to_owned(),
            kind: PrincipalKind::Managed,
            tenant: tenant.to_owned(),
            client_id: Some(identity.client_id.clone()),
            object_id: identity.object_id.clone(),
            groups,
            secret: None,
            certificate: None,
            federated: Vec::new(),
            voucher: None,
            also_in: Vec::new(),
            on_machine: false,
            created: self.0.clock.now(),
        });
        identity
    }

    /// Forgets a principal; tokens it holds are no longer good.
    pub(crate) fn remove(&self, oid: &str) {
        let mut principals = self.0.principals.write().unwrap_or_else(PoisonError::into_inner);
        principals.retain(|principal| principal.object_id != oid);
    }

    /// A token for this principal and audience; empty if the principal is unknown.
    pub(crate) fn issue(&self, oid: &str, audience: &str, now: OffsetDateTime) -> String {
        match self.principal_by_oid(oid) {
            Some(principal) => self.issue_in(&principal.tenant, &principal, audience, now),
            None => String::new(),
        }
    }

    /// A token of one of the tenants that know this principal.
    fn issue_in(&self, tenant: &str, principal: &Principal, audience: &str, now: OffsetDateTime) -> String {
        let life = time::Duration::seconds(LIFETIME.into()) * self.0.clock.rate();
        let mut claims = json!({
            "aud": audience,
            "iss": format!("https://sts.windows.net/{tenant}/"),
            "iat": now.unix_timestamp(),
            "nbf": now.unix_timestamp(),
            "exp": (now + life).unix_timestamp(),
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": tenant,
            "uti": token::random_id(),
            "ver": "1.0",
        });
        if let Some(app) = &principal.client_id {
            claims["appid"] = json!(app);
            claims["appidacr"] = json!(if principal.secret.is_some() { "1" } else { "2" });
            claims["idp"] = claims["iss"].clone();
            claims["idtyp"] = json!("app");
        }
        if !principal.groups.is_empty() {
            claims["groups"] = json!(principal.groups);
        }
        let token = self.0.keys.sign(&claims);
        self.0.markers.secret(&token);
        token
    }

    /// Who holds this token, if it is good here and now.
    pub(crate) fn judge(
        &self,
        token: &str,
        audience_ok: impl Fn(&str) -> bool,
        now: OffsetDateTime,
    ) -> Result<Caller, TokenFault> {
        if token.is_empty() {
            return Err(TokenFault::Missing);
        }
        let claims = claims_of(token).ok_or(TokenFault::Malformed)?;
        if !self.0.keys.verifies(token) {
            return Err(TokenFault::Signature);
        }
        let expires = claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
        if now.unix_timestamp() >= expires {
            return Err(TokenFault::Expired(expires));
        }
        let audience = claims.get("aud").and_then(Value::as_str).unwrap_or_default();
        if !audience_ok(audience) {
            return Err(TokenFault::Audience(audience.to_owned()));
        }
        self.caller(&claims).ok_or(TokenFault::Unknown)
    }

    /// Whose token this is, good or not: for the journal and for faults.
    pub(crate) fn holder(&self, token: &str) -> Option<Caller> {
        self.caller(&claims_of(token)?)
    }

    fn caller(&self, claims: &Value) -> Option<Caller> {
        let principal = self.principal_by_oid(claims.get("oid")?.as_str()?)?;
        Some(Caller {
            name: principal.name,
            oid: principal.object_id,
            app_id: principal.client_id,
            tenant: text(claims, "tid").unwrap_or(principal.tenant),
            groups: principal.groups,
        })
    }

    /// An assertion of one of the world's own issuers (`https://127.0.0.1:P/oidc/…`), five minutes of sandbox time.
    pub(crate) fn assertion(&self, issuer: &str, subject: &str, audience: &str) -> String {
        self.assertion_of_life(issuer, subject, audience, time::Duration::minutes(5))
    }

    /// The same of another life, which is stretched by the clock's rate as that of tokens.
    fn assertion_of_life(&self, issuer: &str, subject: &str, audience: &str, life: time::Duration) -> String {
        let now = self.0.clock.now();
        let claims = json!({
            "iss": issuer,
            "sub": subject,
            "aud": audience,
            "iat": now.unix_timestamp(),
            "nbf": now.unix_timestamp(),
            "exp": (now + life * self.0.clock.rate()).unix_timestamp(),
            "jti": token::random_id(),
        });
        let assertion = self.0.keys.sign(&claims);
        self.0.markers.secret(&assertion);
        assertion
    }

    /// The public key, for JWKS documents.
    pub(crate) fn jwks(&self) -> Value {
        self.0.keys.jwks()
    }

    fn find(&self, is: impl Fn(&Principal) -> bool) -> Option<Principal> {
        let principals = self.0.principals.read().unwrap_or_else(PoisonError::into_inner);
        principals.iter().find(|principal| is(principal)).cloned()
    }
}

/// The members of an object in the world, in their order.
fn members<'a>(world: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let object = world.pointer(pointer).and_then(Value::as_object);
    object.into_iter().flatten()
}

fn text(source: &Value, name: &str) -> Option<String> {
    source.get(name)?.as_str().map(str::to_owned)
}

fn principal(
    name: &str,
    source: &Value,
    tenants: &[Tenant],
    world: &Value,
    start: OffsetDateTime,
) -> Result<Principal, WorldError> {
    let here = format!("/principals/{name}");
    let tenant = match text(source, "tenant") {
        Some(named) => tenants
            .iter()
            .find(|tenant| tenant.name == named)
            .ok_or_else(|| WorldError::new(format!("{here}/tenant"), "names no tenant of this world"))?,
        None => tenants
            .first()
            .ok_or_else(|| WorldError::new("/tenants", "must hold at least one tenant"))?,
    };
    let word = source.get("type").and_then(Value::as_str).unwrap_or("app");
    let voucher = Voucher::of_type(word);
    let kind = match word {
        "managed" => PrincipalKind::Managed,
        "user" => PrincipalKind::User,
        "group" => PrincipalKind::Group,
        _ => PrincipalKind::App,
    };
    let is_app = matches!(kind, PrincipalKind::App | PrincipalKind::Managed);
    let own_id = |what: &str| text(source, what).unwrap_or_else(|| id_of(&format!("{here}/{what}")));
    let groups = source
        .get("groups")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let groups = groups.enumerate().map(|(index, group)| {
        let group = group.as_str().unwrap_or_default();
        let known = world.get("principals").and_then(|all| all.get(group));
        let known =
            known.ok_or_else(|| WorldError::new(format!("{here}/groups/{index}"), "names no principal"))?;
        Ok(text(known, "object_id").unwrap_or_else(|| id_of(&format!("/principals/{group}/object_id"))))
    });
    let federated = source.get("federated").and_then(Value::as_array);
    let federated: Vec<_> = match (federated, voucher) {
        (Some(given), _) => given.iter().map(federated_credential).collect(),
        (None, Some(voucher)) => vec![voucher.usual(name, &tenant.id)],
        (None, None) => Vec::new(),
    };
    let has_certificate = source.get("certificate").and_then(Value::as_bool) == Some(true);
    let password = format!("kvt-{}", id_of(&format!("{here}/certificate_password")));
    let certificate = has_certificate
        .then(|| Registered::make(name, &password, start))
        .transpose();
    let certificate =
        certificate.map_err(|error| WorldError::new(format!("{here}/certificate"), error.to_string()))?;
    let secret = (kind == PrincipalKind::App).then(|| match source.get("secret") {
        Some(Value::String(secret)) => Some(secret.clone()),
        // A merge takes a null away, so whoever has something else has a secret only where the file gives one.
        _ if !federated.is_empty() || has_certificate => None,
        // Looks like one of Entra's, and is the same in every run.
        _ => Some(format!(
            "kvt8Q~{}",
            id_of(&format!("{here}/secret")).replace('-', "_")
        )),
    });
    Ok(Principal {
        name: name.to_owned(),
        kind,
        tenant: tenant.id.clone(),
        client_id: is_app.then(|| own_id("client_id")),
        object_id: own_id("object_id"),
        groups: groups.collect::<Result<_, WorldError>>()?,
        secret: secret.flatten(),
        certificate,
        federated,
        voucher,
        also_in: source
            .get("also_in")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|named| {
                let named = named.as_str().unwrap_or_default();
                let known = tenants.iter().find(|tenant| tenant.name == named);
                let known = known.ok_or_else(|| {
                    WorldError::new(format!("{here}/also_in"), "names no tenant of this world")
                })?;
                Ok(known.id.clone())
            })
            .collect::<Result<_, WorldError>>()?,
        on_machine: kind == PrincipalKind::Managed,
        created: made_at(source, start, 90),
    })
}

fn federated_credential(source: &Value) -> Federated {
    Federated {
        issuer: text(source, "issuer").unwrap_or_default(),
        subject: text(source, "subject").unwrap_or_default(),
        audience: text(source, "audience").unwrap_or_else(|| vouching::AUDIENCE.to_owned()),
    }
}
