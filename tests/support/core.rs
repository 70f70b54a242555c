//! Plays Terraform's core against a provider service: proposes states, plans, applies, refreshes, and holds every
//! answer against the rules that Terraform enforces.
//!
//! A step that a provider refuses is returned as its diagnostics; an answer that breaks a rule fails the test.

use kvtls::framework::{AttributeKind, Nesting, Schema, Value, contract};
use kvtls::tfplugin6::dynamic_value;
use kvtls::tfplugin6::generated::{
    ClientCapabilities, Diagnostic, DynamicValue, RawState, apply_resource_change, attribute_path,
    diagnostic, plan_resource_change, provider_client::ProviderClient, read_resource, upgrade_resource_state,
};

use crate::host::Channel;

/// One resource type of a provider, seen from Terraform.
pub(crate) struct Core {
    client: ProviderClient<Channel>,
    type_name: &'static str,
    schema: Schema,
    /// What it says that it can do.
    pub(crate) capabilities: Option<ClientCapabilities>,
}

/// What Terraform stores.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) value: Value,
    pub(crate) private: Vec<u8>,
}

/// What Terraform shows before an apply.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) planned: Value,
    pub(crate) private: Vec<u8>,
    pub(crate) replaces: Vec<String>,
}

/// The outcome of an apply: what Terraform would store now, and what the provider said.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) state: State,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Core {
    pub(crate) fn new(client: ProviderClient<Channel>, type_name: &'static str, schema: &Schema) -> Self {
        Self {
            client,
            type_name,
            schema: schema.clone(),
            capabilities: None,
        }
    }

    /// Plans `config` on top of what is stored; null destroys.
    pub(crate) async fn plan(&mut self, config: &Value, stored: &State) -> Result<Plan, Vec<Diagnostic>> {
        let proposed = match config {
            Value::Null => Value::Null,
            config => proposed_new_state(&self.schema, config, &stored.value),
        };
        let request = plan_resource_change::Request {
            type_name: self.type_name.to_owned(),
            prior_state: self.message(&stored.value),
            proposed_new_state: self.message(&proposed),
            config: self.message(config),
            prior_private: stored.private.clone(),
            client_capabilities: self.capabilities,
            ..Default::default()
        };
        let answer = self
            .client
            .plan_resource_change(request)
            .await
            .expect("no status");
        let answer = answer.into_inner();
        if has_errors(&answer.diagnostics) {
            return Err(answer.diagnostics);
        }
        let planned = self.value(answer.planned_state.as_ref());
        let faults = contract::check_plan(&self.schema, config, &stored.value, &planned);
        assert!(faults.is_empty(), "the plan breaks a rule: {faults:?}");
        let replaces = answer.requires_replace.iter().map(path_text).collect();
        Ok(Plan {
            planned,
            private: answer.planned_private,
            replaces,
        })
    }

    /// Applies a plan. A failed update or delete without a state keeps what is stored, as Terraform does.
    pub(crate) async fn apply(&mut self, config: &Value, stored: &State, plan: &Plan) -> Applied {
        let request = apply_resource_change::Request {
            type_name: self.type_name.to_owned(),
            prior_state: self.message(&stored.value),
            planned_state: self.message(&plan.planned),
            config: self.message(config),
            planned_private: plan.private.clone(),
            ..Default::default()
        };
        let answer = self
            .client
            .apply_resource_change(request)
            .await
            .expect("no status");
        let answer = answer.into_inner();
        let value = self.value(answer.new_state.as_ref());
        assert!(
            value.is_wholly_known(),
            "an unknown value would be stored: {value:?}"
        );
        let failed = has_errors(&answer.diagnostics);
        if !failed {
            let faults = contract::check_apply(&self.schema, &plan.planned, &value);
            assert!(faults.is_empty(), "the new state breaks a rule: {faults:?}");
        }
        let state = if failed && value.is_null() {
            stored.clone()
        } else {
            State {
                value,
                private: answer.private,
            }
        };
        Applied {
            state,
            diagnostics: answer.diagnostics,
        }
    }

    /// Plans and applies, and expects both to succeed; what is planned again must be what was planned.
    pub(crate) async fn run(&mut self, config: &Value, stored: &State) -> State {
        let plan = self.plan(config, stored).await.expect("a plan");
        let again = self.plan(config, stored).await.expect("a plan");
        let faults = contract::check_final_plan(&self.schema, &plan.planned, &again.planned);
        assert!(faults.is_empty(), "two plans of the same differ: {faults:?}");
        let applied = self.apply(config, stored, &plan).await;
        assert!(!has_errors(&applied.diagnostics), "{:?}", applied.diagnostics);
        applied.state
    }

    /// Reads what is there.
    pub(crate) async fn refresh(&mut self, stored: &State) -> Result<State, Vec<Diagnostic>> {
        let request = read_resource::Request {
            type_name: self.type_name.to_owned(),
            current_state: self.message(&stored.value),
            private: stored.private.clone(),
            client_capabilities: self.capabilities,
            ..Default::default()
        };
        let answer = self.client.read_resource(request).await.expect("no status");
        let answer = answer.into_inner();
        let state = State {
            value: self.value(answer.new_state.as_ref()),
            private: answer.private,
        };
        if has_errors(&answer.diagnostics) {
            assert_eq!(&state, stored, "an error keeps the stored state");
            return Err(answer.diagnostics);
        }
        let faults = contract::check_read(&self.schema, &state.value);
        assert!(faults.is_empty(), "the read state breaks a rule: {faults:?}");
        Ok(state)
    }

    /// Loads stored JSON.
    pub(crate) async fn upgrade(&mut self, version: i64, json: &str) -> Result<Value, Vec<Diagnostic>> {
        let request = upgrade_resource_state::Request {
            type_name: self.type_name.to_owned(),
            version,
            raw_state: Some(RawState {
                json: json.as_bytes().to_vec(),
                ..Default::default()
            }),
        };
        let answer = self
            .client
            .upgrade_resource_state(request)
            .await
            .expect("no status");
        let answer = answer.into_inner();
        if has_errors(&answer.diagnostics) {
            return Err(answer.diagnostics);
        }
        Ok(self.value(answer.upgraded_state.as_ref()))
    }

    /// A value as a message.
    pub(crate) fn message(&self, value: &Value) -> Option<DynamicValue> {
        let msgpack = dynamic_value::encode(&self.schema.ty(), value).expect("a value of the schema");
        Some(DynamicValue {
            msgpack,
            json: Vec::new(),
        })
    }

    /// A message as a value.
    pub(crate) fn value(&self, message: Option<&DynamicValue>) -> Value {
        let bytes = message
            .map(|message| message.msgpack.as_slice())
            .unwrap_or_default();
        dynamic_value::decode(&self.schema.ty(), bytes).expect("a value of the schema")
    }
}

impl State {
    /// Nothing is stored.
    pub(crate) fn none() -> Self {
        Self {
            value: Value::Null,
            private: Vec::new(),
        }
    }
}

/// Whether any is an error.
pub(crate) fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity() == diagnostic::Severity::Error)
}

/// Summary and path of each, for comparison.
pub(crate) fn summaries(diagnostics: &[Diagnostic]) -> Vec<(String, String)> {
    diagnostics
        .iter()
        .map(|diagnostic| {
            let path = diagnostic.attribute.as_ref().map(path_text);
            (diagnostic.summary.clone(), path.unwrap_or_default())
        })
        .collect()
}

/// What a new Terraform can do.
pub(crate) fn capable() -> Option<ClientCapabilities> {
    Some(ClientCapabilities {
        write_only_attributes_allowed: true,
        ..Default::default()
    })
}

fn path_text(path: &kvtls::tfplugin6::generated::AttributePath) -> String {
    use attribute_path::step::Selector;
    path.steps
        .iter()
        .map(
            |step| match step.selector.as_ref().expect("a step has a selector") {
                Selector::AttributeName(name) => format!(".{name}"),
                Selector::ElementKeyString(key) => format!("[{key}]"),
                Selector::ElementKeyInt(index) => format!("[{index}]"),
            },
        )
        .collect()
}

/// What Terraform proposes: computed and null in the configuration is prior, all else is as configured.
fn proposed_new_state(schema: &Schema, config: &Value, prior: &Value) -> Value {
    proposed_object(&schema.attributes, config, prior)
}

fn proposed_object(
    attributes: &std::collections::BTreeMap<String, kvtls::framework::Attribute>,
    config: &Value,
    prior: &Value,
) -> Value {
    Value::object(attributes.iter().map(|(name, attribute)| {
        let (config, prior) = (config.get(name), prior.get(name));
        let value = match (&attribute.kind, config) {
            (_, Value::Null) if attribute.is_computed() => prior.clone(),
            (AttributeKind::Nested(Nesting::Single, children), Value::Map(_)) => {
                proposed_object(children, config, prior)
            }
            (AttributeKind::Nested(Nesting::Map, children), Value::Map(members)) => Value::object(
                members
                    .iter()
                    .map(|(key, value)| (key.as_str(), proposed_object(children, value, prior.get(key)))),
            ),
            (AttributeKind::Nested(Nesting::List, children), Value::List(items)) => Value::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, value)| {
                        let before = prior.as_list().and_then(|items| items.get(index));
                        proposed_object(children, value, before.unwrap_or(&Value::Null))
                    })
                    .collect(),
            ),
            _ => config.clone(),
        };
        (name.as_str(), value)
    }))
}
