//! What Terraform sees: settings, resources, and every error in a practitioner's words.

pub mod certificate;
pub mod cluster_addon;
pub mod data;
pub mod environment;
pub mod explain;
mod identity;
mod ids;
pub mod ingress_binding;
pub mod key_vault;
mod operation;
mod requests;
pub mod settings;
mod wishes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use self::certificate::CertificateResource;
use self::cluster_addon::ClusterAddonResource;
use self::data::certificate::CertificateData;
use self::data::cluster::ClusterData;
use self::environment::Environment;
use self::ingress_binding::IngressBinding;
use self::key_vault::KeyVaultResource;
use self::wishes::Wishes;
use crate::azure::Azure;
use crate::binding::desired::Connection;
use crate::binding::world::{Freshness, World};
use crate::framework::{DataSource, Diagnostic, Diagnostics, PlanRequest, Provider, Resource, Schema, Value};

/// The provider `kvtls`.
pub struct Kvtls {
    schema: Schema,
    resources: Vec<Arc<dyn Resource>>,
    data_sources: Vec<Arc<dyn DataSource>>,
    environment: Environment,
    configured: Configured,
}

/// The world as the provider block describes it; replaced as a whole by every configuration.
#[derive(Clone, Default)]
pub struct Configured(Arc<RwLock<State>>, Arc<AtomicUsize>, Arc<AtomicUsize>);

#[derive(Clone, Default)]
enum State {
    /// Nothing yet.
    #[default]
    Not,
    /// The block holds values that are known only after apply; what it says about objects, if that is known.
    Undecided(Option<Defaults>),
    /// Ready.
    Ready(World, Defaults),
}

/// What the provider block says for all bindings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// Labels of every object.
    pub labels: BTreeMap<String, String>,
    /// How clusters are reached.
    pub connection: Connection,
    /// Whether a plan that cannot see everything fails.
    pub blind_plan_fails: bool,
}

impl Configured {
    /// The world, if the provider block is known.
    pub fn world(&self) -> Option<World> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            State::Ready(world, _) => Some(world.clone()),
            State::Not | State::Undecided(_) => None,
        }
    }

    /// What the provider block says for all bindings; nothing if that is not known yet.
    pub fn defaults(&self) -> Option<Defaults> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            State::Ready(_, defaults) => Some(defaults.clone()),
            State::Undecided(defaults) => defaults.clone(),
            State::Not => None,
        }
    }

    /// Whether a plan that cannot see everything fails.
    pub fn blind_plan_fails(&self) -> bool {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        matches!(&*state, State::Ready(_, defaults) if defaults.blind_plan_fails)
    }

    /// Whether the block holds values that are known only after apply.
    pub fn is_undecided(&self) -> bool {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Undecided(_))
    }

    /// The world, where nothing can be done without it.
    ///
    /// # Errors
    /// If the provider block holds values that are not known yet.
    pub fn need(&self) -> Result<World, Diagnostic> {
        self.world().ok_or_else(|| {
            Diagnostic::error(
                "Provider settings are not known yet",
                "The provider block refers to values that are known only after apply, and they are needed now. \
                 Nothing was changed.",
                "Apply what they come from first (terraform apply -target=…), or write them as literals or variables.",
            )
            .code("KVTLS-E013")
        })
    }

    /// Which configuration this is, counted from one; none before the first.
    fn run(&self) -> Option<usize> {
        Some(self.1.load(Ordering::Relaxed)).filter(|run| *run > 0)
    }

    /// Takes note that this run reads what is stored. Terraform does so before it plans, and never while it applies.
    fn refreshes(&self) {
        self.2.store(self.1.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether an answer of this run will do for a data source: while what is stored is refreshed. What is read during
    /// apply comes after changes.
    fn freshness(&self) -> Freshness {
        match self.has_refreshed() {
            true => Freshness::Shared,
            false => Freshness::Fresh,
        }
    }

    fn has_refreshed(&self) -> bool {
        self.2.load(Ordering::Relaxed) == self.1.load(Ordering::Relaxed)
    }

    /// An ID of which the plan knew nothing, and which turns out during apply to be another object's. Terraform then
    /// plans again, and takes a replacement in place of the update it announced for a fault of the provider's.
    fn other_id(&self, request: &PlanRequest, name: &str) -> Option<Diagnostic> {
        let (before, after) = (
            request.prior.get(name).as_str()?,
            request.proposed.get(name).as_str()?,
        );
        (!self.has_refreshed() && !before.eq_ignore_ascii_case(after))
            .then(|| explain::other_id(name, before, after))
    }

    fn set(&self, state: State) {
        self.1.fetch_add(1, Ordering::Relaxed);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Kvtls {
    /// The provider, with the variables of this process.
    pub fn new() -> Self {
        Self::with_environment(Environment::of_process())
    }

    /// The provider with these variables.
    pub fn with_environment(environment: Environment) -> Self {
        let configured = Configured::default();
        let wishes = Wishes::default();
        let resources: Vec<Arc<dyn Resource>> = vec![
            Arc::new(IngressBinding::new(configured.clone(), wishes.clone())),
            Arc::new(ClusterAddonResource::new(configured.clone(), wishes)),
            Arc::new(KeyVaultResource::new(configured.clone())),
            Arc::new(CertificateResource::new(configured.clone())),
        ];
        let data_sources: Vec<Arc<dyn DataSource>> = vec![
            Arc::new(CertificateData::new(configured.clone())),
            Arc::new(ClusterData::new(configured.clone())),
        ];
        Self {
            schema: settings::schema(),
            resources,
            data_sources,
            environment,
            configured,
        }
    }
}

impl Default for Kvtls {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Provider for Kvtls {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn resources(&self) -> &[Arc<dyn Resource>] {
        &self.resources
    }

    fn data_sources(&self) -> &[Arc<dyn DataSource>] {
        &self.data_sources
    }

    fn issues(&self) -> &'static str {
        concat!(env!("CARGO_PKG_REPOSITORY"), "/issues")
    }

    async fn configure(&self, config: Value, terraform_version: &str) -> Diagnostics {
        let settings = match settings::read(&config, &self.environment) {
            Ok(Some(settings)) => settings,
            Ok(None) => {
                let defaults = settings::defaults(&config).ok();
                self.configured.set(State::Undecided(defaults.flatten()));
                return Diagnostics::new();
            }
            Err(diagnostics) => return diagnostics,
        };
        let mut defaults = match settings::defaults(&config) {
            Ok(defaults) => defaults.unwrap_or_default(),
            Err(diagnostic) => return Diagnostics::from(diagnostic),
        };
        defaults.blind_plan_fails = match settings::blind_plan_fails(&config, &self.environment) {
            Ok(fails) => fails,
            Err(diagnostics) => return diagnostics,
        };
        let user_agent = format!(
            "kvtls/{} (Terraform {terraform_version})",
            env!("CARGO_PKG_VERSION")
        );
        match Azure::new(settings) {
            Ok(azure) => {
                let world = World::new(azure, user_agent, settings::proxy(&self.environment));
                self.configured.set(State::Ready(world, defaults));
                Diagnostics::new()
            }
            Err(error) => Diagnostics::from(explain::azure_error(&error, &explain::Changed::nothing())),
        }
    }
}
