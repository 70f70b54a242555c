//! User-assigned identities, and the federated credentials by which others may act as them.
//!
//! A credential takes effect some time after it was written and lasts some time after it was taken away, as role
//! assignments do. What counts now is told to the directory, which judges assertions.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::{Call, Reply};
use super::path::same;
use super::refusal::Refusal;
use super::staging::{items, text};
use super::tree;
use super::{Azure, State};
use crate::sandbox::core::{Effect, ManagedIdentity};
use crate::sandbox::entra::Federated;
use crate::sandbox::world::id_of;

const KIND: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
/// How many credentials an identity can have.
const MOST_CREDENTIALS: usize = 20;
/// How many credentials one page of a list holds.
const PAGE: usize = 20;
/// How long, really, a write of a credential keeps others from the same identity.
const WRITE: Duration = Duration::from_millis(25);
/// The audience Entra asks for, and writes where none is given.
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// A user-assigned identity.
#[derive(Clone, Debug)]
pub(super) struct UserIdentity {
    pub(super) name: String,
    pub(super) subscription: String,
    pub(super) group: String,
    pub(super) location: String,
    pub(super) tags: Value,
    pub(super) identity: ManagedIdentity,
    credentials: Vec<Credential>,
    /// Whether a credential is being written.
    is_written: bool,
}

/// A federated identity credential.
#[derive(Clone, Debug)]
struct Credential {
    name: String,
    federated: Federated,
    effective_at: OffsetDateTime,
    /// Set when it was deleted or overwritten: until when it still counts.
    ends_at: Option<OffsetDateTime>,
}

impl Credential {
    fn counts_at(&self, now: OffsetDateTime) -> bool {
        self.effective_at <= now && self.ends_at.is_none_or(|end| now < end)
    }
}

impl UserIdentity {
    fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourcegroups/{}/providers/{KIND}/{}",
            self.subscription, self.group, self.name
        )
    }

    fn body(&self, tenant: &str, version: &str) -> Value {
        let mut properties = json!({
            "tenantId": tenant,
            "principalId": self.identity.object_id,
            "clientId": self.identity.client_id,
        });
        if version >= "2024-11-30" {
            properties["isolationScope"] = json!("None");
        }
        json!({
            "id": self.id(),
            "name": self.name,
            "type": KIND,
            "location": self.location,
            "tags": self.tags,
            "properties": properties,
        })
    }

    fn credential_body(&self, credential: &Credential) -> Value {
        let Federated {
            issuer,
            subject,
            audience,
        } = &credential.federated;
        json!({
            "id": format!("{}/federatedIdentityCredentials/{}", self.id(), credential.name),
            "name": credential.name,
            "type": format!("{KIND}/federatedIdentityCredentials"),
            "properties": {"issuer": issuer, "subject": subject, "audiences": [audience]},
        })
    }

    /// The credentials that exist, whether they count already or not, in the order of their names.
    fn existing(&self) -> Vec<&Credential> {
        let all = self.credentials.iter();
        let mut existing: Vec<_> = all.filter(|each| each.ends_at.is_none()).collect();
        existing.sort_by_key(|each| each.name.to_ascii_lowercase());
        existing
    }

    fn existing_named(&self, name: &str) -> Option<&Credential> {
        self.existing().into_iter().find(|each| same(&each.name, name))
    }

    /// Takes the credential of this name away; it counts until `ends_at`.
    fn end(&mut self, name: &str, ends_at: OffsetDateTime) {
        let mut existing = self.credentials.iter_mut().filter(|each| each.ends_at.is_none());
        if let Some(found) = existing.find(|each| same(&each.name, name)) {
            found.ends_at = Some(ends_at);
        }
    }
}

impl State {
    fn identity_at(&mut self, call: &Call) -> Result<&mut UserIdentity, Refusal> {
        let mut all = self.identities.iter_mut();
        let found = all.find(|each| {
            same(&each.subscription, call.subscription())
                && same(&each.group, call.group())
                && same(&each.name, call.name(0))
        });
        found.ok_or_else(|| Refusal::resource_not_found(KIND, call.name(0), call.group()))
    }
}

impl Azure {
    /// An identity of the world file; it and its credentials are as old as the world.
    pub(super) fn staged_identity(&self, state: &State, name: &str, source: &Value) -> UserIdentity {
        let (subscription, group, location) = self.home(state, source);
        let own = |what: &str| {
            text(source, what).map_or_else(|| id_of(&format!("/identities/{name}/{what}")), str::to_owned)
        };
        let identity = ManagedIdentity {
            client_id: own("client_id"),
            object_id: own("object_id"),
        };
        let tenant = self.tenant_of(&subscription);
        let start = self.core.clock.now();
        let credentials = items(source, "federated")
            .enumerate()
            .map(|(index, credential)| Credential {
                name: format!("{name}-{index}"),
                federated: Federated {
                    issuer: text(credential, "issuer").unwrap_or_default().to_owned(),
                    subject: text(credential, "subject").unwrap_or_default().to_owned(),
                    audience: text(credential, "audience").unwrap_or(AUDIENCE).to_owned(),
                },
                effective_at: start,
                ends_at: None,
            });
        let groups: Vec<&str> = items(source, "groups").filter_map(Value::as_str).collect();
        UserIdentity {
            identity: self.core.directory.add_identity(name, &tenant, identity, &groups),
            credentials: credentials.collect(),
            name: name.to_owned(),
            subscription,
            group,
            location,
            tags: source.get("tags").cloned().unwrap_or(json!({})),
            is_written: false,
        }
    }

    /// Tells the directory which credentials count now.
    pub(super) fn publish_federations(&self, state: &mut State, now: OffsetDateTime) {
        for identity in &mut state.identities {
            identity
                .credentials
                .retain(|each| each.ends_at.is_none_or(|end| now < end));
            let counting = identity.credentials.iter().filter(|each| each.counts_at(now));
            let counting = counting.map(|each| each.federated.clone()).collect();
            self.core
                .directory
                .set_federated(&identity.identity.object_id, counting);
        }
    }

    /// Calls on user-assigned identities.
    pub(super) fn identity_call(&self, call: &Call) -> Result<Reply, Refusal> {
        match call.method {
            Method::GET if call.path.is_named() => {
                let tenant = self.tenant_of(call.subscription());
                let mut state = self.lock();
                Ok(Reply::ok(state.identity_at(call)?.body(&tenant, &call.version)))
            }
            Method::GET => Ok(self.list_identities(call)),
            Method::PUT | Method::PATCH => self.write_identity(call),
            Method::DELETE => Ok(self.delete_identity(call)),
            _ => Err(Refusal::unplayed("this method on a user-assigned identity")),
        }
    }

    fn list_identities(&self, call: &Call) -> Reply {
        let tenant = self.tenant_of(call.subscription());
        let state = self.lock();
        let all = state.identities.iter().filter(|each| {
            same(&each.subscription, call.subscription())
                && (call.group().is_empty() || same(&each.group, call.group()))
        });
        let value: Vec<_> = all.map(|each| each.body(&tenant, &call.version)).collect();
        Reply::ok(json!({"value": value}))
    }

    fn write_identity(&self, call: &Call) -> Result<Reply, Refusal> {
        let tenant = self.tenant_of(call.subscription());
        let mut state = self.lock();
        if let Ok(found) = state.identity_at(call) {
            if let Some(tags) = call.body.get("tags") {
                found.tags = tags.clone();
            }
            return Ok(Reply::ok(found.body(&tenant, &call.version)).effect(Effect::Updated));
        }
        if call.method == Method::PATCH {
            return Err(Refusal::resource_not_found(KIND, call.name(0), call.group()));
        }
        check_name(call.name(0), 3, 128)?;
        let location = call.location()?;
        let made = UserIdentity {
            identity: self.make_identity(call.name(0), call.subscription()),
            credentials: Vec::new(),
            name: call.name(0).to_owned(),
            subscription: call.subscription().to_owned(),
            group: call.group().to_owned(),
            location,
            tags: call.body.get("tags").cloned().unwrap_or(json!({})),
            is_written: false,
        };
        let body = made.body(&tenant, &call.version);
        state.identities.push(made);
        Ok(Reply::new(StatusCode::CREATED, body))
    }

    fn delete_identity(&self, call: &Call) -> Reply {
        let mut state = self.lock();
        let Ok(found) = state.identity_at(call) else {
            return Reply::empty(StatusCode::NO_CONTENT).effect(Effect::None);
        };
        let oid = found.identity.object_id.clone();
        state.identities.retain(|each| each.identity.object_id != oid);
        self.core.directory.remove(&oid);
        Reply::empty(StatusCode::OK).effect(Effect::Deleted)
    }

    /// Calls on the federated credentials of an identity.
    pub(super) async fn credential_of_identity_call(&self, call: &Call) -> Result<Reply, Refusal> {
        match call.method {
            Method::GET if call.path.is_named() => {
                let mut state = self.lock();
                let identity = state.identity_at(call)?;
                let found = identity.existing_named(call.name(1));
                let found = found.ok_or_else(|| {
                    let kind = format!("{KIND}/{}/federatedIdentityCredentials", call.name(0));
                    Refusal::resource_not_found(&kind, call.name(1), call.group())
                })?;
                Ok(Reply::ok(identity.credential_body(found)))
            }
            Method::GET => self.list_federated(call),
            Method::PUT => self.write_alone(call, Self::write_federated).await,
            Method::DELETE => self.write_alone(call, Self::delete_federated).await,
            _ => Err(Refusal::unplayed(
                "this method on a federated identity credential",
            )),
        }
    }

    fn list_federated(&self, call: &Call) -> Result<Reply, Refusal> {
        let number = |name: &str| call.query(name).and_then(|text| text.parse::<usize>().ok());
        let (top, skip) = (number("$top").unwrap_or(PAGE), number("$skiptoken").unwrap_or(0));
        let mut state = self.lock();
        let identity = state.identity_at(call)?;
        let all = identity.existing();
        let page = all.iter().skip(skip).take(top.max(1));
        let value: Vec<_> = page.map(|each| identity.credential_body(each)).collect();
        let mut body = json!({"value": value});
        if skip + value.len() < all.len() {
            let base = self.core.names.arm_base(&call.asked_as);
            let (path, version, next) = (call.path.id(), &call.version, skip + value.len());
            let next = format!("{base}{path}?api-version={version}&$top={top}&$skiptoken={next}");
            tree::set(&mut body, "nextLink", json!(next));
        }
        Ok(Reply::ok(body))
    }

    /// A write of a credential takes a while, and another one on the same identity is refused meanwhile.
    async fn write_alone(
        &self,
        call: &Call,
        write: fn(&Self, &Call) -> Result<Reply, Refusal>,
    ) -> Result<Reply, Refusal> {
        {
            let mut state = self.lock();
            let identity = match state.identity_at(call) {
                Ok(identity) => identity,
                Err(_) if call.method == Method::DELETE => {
                    return Ok(Reply::empty(StatusCode::NO_CONTENT).effect(Effect::None));
                }
                Err(refusal) => return Err(refusal),
            };
            if identity.is_written {
                return Err(parallel_write(&identity.id()));
            }
            identity.is_written = true;
        }
        tokio::time::sleep(WRITE).await;
        let written = write(self, call);
        let mut state = self.lock();
        if let Ok(identity) = state.identity_at(call) {
            identity.is_written = false;
        }
        written
    }

    fn write_federated(&self, call: &Call) -> Result<Reply, Refusal> {
        let name = call.name(1);
        check_name(name, 3, 120)?;
        let wanted = federated(&call.body)?;
        let effective_at = call.now + self.core.lags.get("federated_effect");
        let mut state = self.lock();
        let identity = state.identity_at(call)?;
        let existing = identity.existing();
        let twin = existing.iter().find(|each| {
            !same(&each.name, name)
                && each.federated.issuer == wanted.issuer
                && each.federated.subject == wanted.subject
        });
        if twin.is_some() {
            return Err(Refusal::provider(
                StatusCode::CONFLICT,
                "Conflict",
                "Issuer and subject combination already exists for this Managed Identity.",
            ));
        }
        let known = identity.existing_named(name).cloned();
        if known.is_none() && existing.len() >= MOST_CREDENTIALS {
            return Err(too_many(&identity.id()));
        }
        let unchanged = known.as_ref().is_some_and(|known| known.federated == wanted);
        let made = Credential {
            name: known
                .as_ref()
                .map_or_else(|| name.to_owned(), |known| known.name.clone()),
            federated: wanted,
            effective_at,
            ends_at: None,
        };
        let body = identity.credential_body(&made);
        if !unchanged {
            identity.end(name, effective_at);
            identity.credentials.push(made);
        }
        drop(state);
        self.wake_at(effective_at, format!("effect of federated credential {name}"));
        // The directory hears of it at once where there is no lag.
        drop(self.lock());
        Ok(match known {
            Some(_) => Reply::ok(body).effect(Effect::Updated),
            None => Reply::new(StatusCode::CREATED, body),
        })
    }

    fn delete_federated(&self, call: &Call) -> Result<Reply, Refusal> {
        let name = call.name(1);
        let ends_at = call.now + self.core.lags.get("federated_effect");
        let mut state = self.lock();
        let identity = state.identity_at(call)?;
        if identity.existing_named(name).is_none() {
            return Ok(Reply::empty(StatusCode::NO_CONTENT).effect(Effect::None));
        }
        identity.end(name, ends_at);
        drop(state);
        self.wake_at(ends_at, format!("end of federated credential {name}"));
        drop(self.lock());
        Ok(Reply::empty(StatusCode::OK).effect(Effect::Deleted))
    }
}

/// What a body asks for.
fn federated(body: &Value) -> Result<Federated, Refusal> {
    let bad = |message: String| Refusal::provider(StatusCode::BAD_REQUEST, "BadRequest", message);
    let needed = |member: &str| {
        let value = tree::text(body, &format!("properties.{member}"));
        let missing = || {
            bad(format!(
                "Federated Identity Credential property '{member}' cannot be null or empty."
            ))
        };
        (!value.is_empty()).then(|| value.to_owned()).ok_or_else(missing)
    };
    let (issuer, subject) = (needed("issuer")?, needed("subject")?);
    if !issuer.starts_with("https://") {
        return Err(bad(
            "Federated Identity Credential property 'issuer' must be an HTTPS URL.".to_owned(),
        ));
    }
    let audiences = tree::at(body, "properties.audiences").and_then(Value::as_array);
    match audiences.map(Vec::as_slice) {
        Some([Value::String(audience)]) => Ok(Federated {
            issuer,
            subject,
            audience: audience.clone(),
        }),
        _ => Err(bad(
            "Federated Identity Credential property 'audiences' must hold exactly one value.".to_owned(),
        )),
    }
}

/// Letters, digits, `-` and `_`, of which the first is a letter or digit.
fn check_name(name: &str, shortest: usize, longest: usize) -> Result<(), Refusal> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let starts = name
        .chars()
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric());
    if starts && (shortest..=longest).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(Refusal::provider(
        StatusCode::BAD_REQUEST,
        "InvalidResourceName",
        format!(
            "The resource name '{name}' is invalid: {shortest} to {longest} letters, digits, '-' and '_'."
        ),
    ))
}

/// 409: somebody else writes.
pub(super) fn parallel_write(identity: &str) -> Refusal {
    Refusal::provider(
        StatusCode::CONFLICT,
        "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
        format!(
            "Too many Federated Identity Credentials are written concurrently for the managed identity '{identity}'. \
             Concurrent Federated Identity Credentials writes under the same managed identity are not supported."
        ),
    )
}

/// 400: the limit. Which words Azure uses is not known; number and limit are.
pub(super) fn too_many(identity: &str) -> Refusal {
    Refusal::provider(
        StatusCode::BAD_REQUEST,
        "BadRequest",
        format!(
            "Too many Federated Identity Credentials for the managed identity '{identity}': the maximum is \
             {MOST_CREDENTIALS}."
        ),
    )
}
