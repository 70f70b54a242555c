//! Terraform's rules, one row each: an answer that keeps the rule passes, one that breaks it is refused with the path
//! and the reason. `docs/development/protocol-rules.md` is written from these rows (`UPDATE_EXPECT=1`).
//!
//! Three ways to keep a rule: a check ([`By::Check`]), a type that cannot say anything else ([`By::Shape`]), or a
//! behaviour that a test of its own shows ([`By::Test`]).

#![expect(clippy::needless_pass_by_value, reason = "rows of a table are values")]

use std::path::Path;
use std::sync::Arc;

use kvtls::framework::contract::{
    check_apply, check_data, check_final_plan, check_identity, check_import, check_open, check_plan,
    check_read, check_replacements, check_upgrade,
};
use kvtls::framework::identity::Maturity;
use kvtls::framework::{
    Attribute, AttributePath, Diagnostics, Function, FunctionError, IdentityAttribute, IdentitySchema,
    Nesting, Parameter, Presence, Schema, Signature, Type, Value,
};

use crate::garden::{Garden, Key, Weather};

use Presence::{Computed, Optional, OptionalComputed, Required};

/// What was found wrong: path and words.
type Faults = Vec<(String, String)>;

enum By {
    /// The first answer passes, the second is refused here, for this reason.
    Check(fn() -> Faults, fn() -> Faults, &'static str, &'static str),
    /// What rules it out.
    Shape(&'static str),
    /// Where it is tested: file and function.
    Test(&'static str, &'static str),
}

/// The section of the protocol's description, the rule, and how it is kept.
type Rule = (&'static str, &'static str, By);

fn thing() -> Schema {
    let children = || {
        [
            ("host", Attribute::string(Required, "x")),
            ("port", Attribute::number(OptionalComputed, "x")),
        ]
    };
    Schema::new(
        "x",
        [
            ("name", Attribute::string(Required, "x").requires_replace()),
            ("note", Attribute::string(Optional, "x")),
            ("mode", Attribute::string(OptionalComputed, "x")),
            ("id", Attribute::string(Computed, "x")),
            ("secret", Attribute::string(Optional, "x").write_only()),
            ("tags", Attribute::value(Type::map(Type::String), Optional, "x")),
            ("list", Attribute::value(Type::list(Type::String), Optional, "x")),
            ("any", Attribute::value(Type::Dynamic, Optional, "x")),
            ("set", Attribute::value(Type::set(Type::String), Optional, "x")),
            (
                "one",
                Attribute::nested(Nesting::Single, Optional, "x", children()),
            ),
            (
                "many",
                Attribute::nested(Nesting::List, Optional, "x", children()),
            ),
            (
                "keyed",
                Attribute::nested(Nesting::Map, Optional, "x", children()),
            ),
            (
                "loose",
                Attribute::nested(Nesting::Set, Optional, "x", children()),
            ),
            ("rule", Attribute::blocks(Nesting::List, "x", children())),
            ("zone", Attribute::blocks(Nesting::Map, "x", children())),
            ("peer", Attribute::blocks(Nesting::Set, "x", children())),
            ("only", Attribute::blocks(Nesting::Single, "x", children())),
        ],
    )
}

fn with(members: &[(&str, Value)]) -> Value {
    let mut value = thing().nothing();
    value.set("name", "a");
    for (name, member) in members {
        value.set(*name, member.clone());
    }
    value
}

fn text(text: &str) -> Value {
    text.into()
}

fn child(host: &str, port: impl Into<Value>) -> Value {
    Value::object([("host", text(host)), ("port", port.into())])
}

fn list(items: &[Value]) -> Value {
    Value::List(items.to_vec())
}

fn set(items: &[Value]) -> Value {
    Value::Set(items.to_vec())
}

fn map(members: &[(&str, Value)]) -> Value {
    Value::object(members.iter().cloned())
}

const N: Value = Value::Null;
const U: Value = Value::Unknown;

fn faults(diagnostics: Diagnostics) -> Faults {
    diagnostics
        .into_iter()
        .map(|it| (it.attribute.to_string(), it.detail))
        .collect()
}

/// A plan in which one attribute has this configuration, prior state and planned state.
fn plan(name: &str, config: Value, prior: Value, planned: Value) -> Faults {
    let of = |value| with(&[(name, value)]);
    faults(check_plan(&thing(), &of(config), &of(prior), &of(planned)))
}

fn apply(name: &str, planned: Value, new: Value) -> Faults {
    faults(check_apply(
        &thing(),
        &with(&[(name, planned)]),
        &with(&[(name, new)]),
    ))
}

fn again(name: &str, first: Value, second: Value) -> Faults {
    faults(check_final_plan(
        &thing(),
        &with(&[(name, first)]),
        &with(&[(name, second)]),
    ))
}

fn read(name: &str, new: Value) -> Faults {
    faults(check_read(&thing(), &with(&[(name, new)])))
}

/// The garden, with something about it changed.
fn provider(change: fn(&mut Garden)) -> Faults {
    let mut garden = Garden::new(&Arc::default());
    change(&mut garden);
    let faults = kvtls::framework::check(&garden);
    faults.into_iter().map(|fault| (String::new(), fault)).collect()
}

fn one_secret() -> Schema {
    Schema::new("x", [("secret", string().write_only())])
}

struct Named(&'static str, Signature);

impl Function for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn signature(&self) -> &Signature {
        &self.1
    }

    fn call(&self, _arguments: &[Value]) -> Result<Value, FunctionError> {
        Ok(true.into())
    }
}

fn named(name: &'static str) -> Arc<dyn Function> {
    Arc::new(Named(name, Signature::new("x", Vec::new(), Type::Bool)))
}

fn schema(name: &str, attribute: Attribute) -> Faults {
    let schema = Schema::new("x", [(name, attribute)]);
    schema
        .check()
        .into_iter()
        .map(|fault| (String::new(), fault))
        .collect()
}

fn signature(parameters: Vec<Parameter>, variadic: Option<Parameter>) -> Faults {
    let mut signature = Signature::new("x", parameters, Type::Bool);
    signature.variadic = variadic;
    signature
        .check()
        .into_iter()
        .map(|fault| (String::new(), fault))
        .collect()
}

fn parameter(name: &str) -> Parameter {
    Parameter::new(name, Type::Bool, "x")
}

fn identity(stored: Value, new: Value, maturity: Maturity) -> Faults {
    let schema = IdentitySchema::new([
        ("id", IdentityAttribute::required("x")),
        ("zone", IdentityAttribute::optional("x")),
    ]);
    faults(check_identity(&schema, &stored, &new, maturity))
}

fn id(id: Value) -> Value {
    Value::object([("id", id), ("zone", N)])
}

fn key(config: Value, result: Value) -> Faults {
    let schema = Schema::new(
        "x",
        [
            ("gate", Attribute::string(Required, "x")),
            ("token", Attribute::string(Computed, "x")),
        ],
    );
    faults(check_open(&schema, &config, &result))
}

fn gate(gate: &str, token: Value) -> Value {
    Value::object([("gate", text(gate)), ("token", token)])
}

fn string() -> Attribute {
    Attribute::string(Optional, "x")
}

fn block(nesting: Nesting) -> Attribute {
    Attribute::blocks(nesting, "x", [("host", string())])
}

const CONFIGURED_NULL: &str = "the configuration leaves it null";
const NEITHER: &str = "neither the configured nor the prior";
const NUMBER: &str = "another number of elements";

#[rustfmt::skip]
fn rules() -> Vec<Rule> {
    use By::{Check, Shape, Test};
    vec![
        // Schemas.
        ("4.1", "The provider has a schema, and every schema a block", Test("families", "everything_offered_is_in_schema_and_metadata")),
        ("4.1", "A function has a result type", Test("families", "everything_offered_is_in_schema_and_metadata")),
        ("4.1", "An action carries its schema", Test("families", "everything_offered_is_in_schema_and_metadata")),
        ("4.1", "An attribute is required, optional or computed, and not required and something else", Shape("`Presence` has four values")),
        ("4.1", "An attribute has a type or nested attributes, not both", Shape("`AttributeKind` is one of two")),
        ("4.1", "No attribute and block share a name", Shape("one map holds both")),
        ("4.1", "Names are lower-case identifiers", Check(|| schema("a_1", string()), || schema("A", string()), "", "lower-case letters")),
        ("4.1", "The names of meta-arguments are taken", Check(|| schema("counts", string()), || schema("count", string()), "", "Terraform's own")),
        ("4.1", "A provider block has `alias` and `version` already", Check(|| provider(|it| it.schema = Schema::new("x", [("versions", string())])), || provider(|it| it.schema = Schema::new("x", [("version", string())])), "", "version: the name is Terraform's own")),
        ("4.1", "Functions and types have identifiers for names", Check(|| provider(|it| it.functions = vec![named("a_b")]), || provider(|it| it.functions = vec![named("a b")]), "", "the name is an identifier")),
        ("4.1", "No two of a family share a name", Check(|| provider(|it| it.functions = vec![named("a"), named("b")]), || provider(|it| it.functions = vec![named("a"), named("a")]), "", "two of one name")),
        ("4.3", "A provider block holds nothing write-only", Check(|| provider(|_| {}), || provider(|it| it.schema = one_secret()), "", "provider block: write-only")),
        ("4.3", "A data source holds nothing write-only", Check(|| provider(|_| {}), || provider(|it| it.data_sources = vec![Arc::new(Weather { schema: one_secret(), world: Arc::default() })]), "", "garden_weather: write-only")),
        ("4.3", "An ephemeral resource holds nothing write-only", Check(|| provider(|_| {}), || provider(|it| it.ephemerals = vec![Arc::new(Key { schema: one_secret(), world: Arc::default() })]), "", "garden_key: write-only")),
        ("5.10", "A list resource needs a resource with an identity", Check(|| provider(|_| {}), || provider(|it| it.resources.clear()), "", "no resource of that name has an identity")),
        ("5.10", "The parts of an identity have identifiers for names", Check(|| IdentitySchema::new([("id", IdentityAttribute::required("x"))]).check().into_iter().map(|fault| (String::new(), fault)).collect(), || IdentitySchema::new([("i d", IdentityAttribute::required("x"))]).check().into_iter().map(|fault| (String::new(), fault)).collect(), "", "is an identifier")),
        ("4.1", "Nesting is one of the known kinds", Shape("`Nesting` has no invalid value")),
        ("4.1", "A list or set of blocks has at least not more than at most", Check(|| schema("a", block(Nesting::List).between(1, 2)), || schema("a", block(Nesting::Set).between(2, 1)), "", "at least more than at most")),
        ("4.1", "A single block is at most one", Check(|| schema("a", block(Nesting::Single).between(1, 1)), || schema("a", block(Nesting::Single).between(0, 2)), "", "more than one")),
        ("4.1", "Blocks of a map are not counted", Check(|| schema("a", block(Nesting::Map)), || schema("a", block(Nesting::Map).between(1, 0)), "", "blocks of a map")),
        ("4.1", "A group is not counted", Check(|| schema("a", Attribute::group("x", [("b", string())])), || schema("a", Attribute::group("x", [("b", string())]).between(1, 1)), "", "never counted")),
        ("4.1", "Counts are not negative", Shape("`Block` counts in `u32`")),
        ("4.1", "A set holds nothing dynamic", Check(|| schema("a", Attribute::nested(Nesting::Single, Optional, "x", [("b", Attribute::value(Type::Dynamic, Optional, "x"))])), || schema("a", Attribute::nested(Nesting::Set, Optional, "x", [("b", Attribute::value(Type::Dynamic, Optional, "x"))])), "", "makes Terraform panic")),
        ("4.1", "A set holds nothing write-only", Check(|| schema("a", Attribute::nested(Nesting::List, Optional, "x", [("b", string().write_only())])), || schema("a", Attribute::nested(Nesting::Set, Optional, "x", [("b", string().write_only())])), "", "cannot hold write-only")),
        ("3.2", "No collection of dynamic values", Check(|| schema("a", Attribute::value(Type::Dynamic, Optional, "x")), || schema("a", Attribute::value(Type::list(Type::Dynamic), Optional, "x")), "", "makes Terraform panic")),
        ("4.1", "A version is not negative", Check(|| schema("a", string()), || Schema { version: -1, ..Schema::default() }.check().into_iter().map(|fault| (String::new(), fault)).collect(), "", "version is negative")),
        ("4.1", "Parameters have identifiers for names", Check(|| signature(vec![parameter("a")], None), || signature(vec![parameter("1")], None), "", "is an identifier")),
        ("4.1", "No two parameters share a name, the variadic one included", Check(|| signature(vec![parameter("a")], Some(parameter("b"))), || signature(vec![parameter("a")], Some(parameter("a"))), "", "two parameters")),
        ("4.1", "The variadic parameter has a name", Check(|| signature(vec![], Some(parameter("a"))), || signature(vec![], Some(parameter(""))), "", "is an identifier")),
        ("4.1", "A deprecation message only on what is deprecated", Shape("the flag is made of the message")),
        ("4.1", "Inside a computed block all is computed", Check(|| schema("a", Attribute::blocks(Nesting::List, "x", [("b", Attribute::string(Computed, "x")), ("c", Attribute::blocks(Nesting::Set, "x", [("d", Attribute::string(Computed, "x"))]).computed())]).computed()), || schema("a", Attribute::blocks(Nesting::List, "x", [("b", Attribute::blocks(Nesting::Set, "x", [("d", Attribute::string(Computed, "x"))]))]).computed()), "", "computed only")),
        ("4.1", "A group is not computed", Check(|| schema("a", Attribute::group("x", [("b", string())])), || schema("a", Attribute::group("x", [("b", Attribute::string(Computed, "x"))]).computed()), "", "a group cannot be computed")),
        ("4.1", "A host that knows no computed blocks sees none", Test("families", "blocks_of_the_provider_are_filled_where_the_host_knows_them")),
        ("4.2", "A nested attribute holds no blocks", Check(|| schema("a", block(Nesting::List)), || schema("a", Attribute::nested(Nesting::Single, Optional, "x", [("b", block(Nesting::List))])), "", "cannot hold blocks")),
        ("4.2", "What is inside a computed object is computed", Check(|| schema("a", Attribute::nested(Nesting::Single, Computed, "x", [("b", Attribute::string(Computed, "x"))])), || schema("a", Attribute::nested(Nesting::Single, Computed, "x", [("b", string())])), "", "computed only")),
        ("4.3", "A write-only attribute is not computed", Check(|| schema("a", string().write_only()), || schema("a", Attribute::string(OptionalComputed, "x").write_only()), "", "exclude each other")),
        ("7.2", "A default needs optional and computed", Check(|| schema("a", Attribute::string(OptionalComputed, "x").default("y")), || schema("a", string().default("y")), "", "needs optional and computed")),
        ("3.4", "Types are well-formed JSON", Shape("they are written from `Type`")),
        // Plans.
        ("5.2", "1: what is configured is planned", Check(|| plan("note", text("b"), text("a"), text("b")), || plan("note", text("b"), text("a"), text("c")), "note", NEITHER)),
        ("5.2", "2: or the prior value, if both are set", Check(|| plan("note", text("A"), text("a"), text("a")), || plan("note", N, text("a"), text("a")), "note", CONFIGURED_NULL)),
        ("5.2", "3: a write-only value is null in the plan", Check(|| plan("secret", text("s"), N, N), || plan("secret", text("s"), N, text("s")), "secret", "write-only")),
        ("5.2", "4: a computed value is the provider's", Check(|| plan("id", N, text("a"), U), || plan("id", N, text("a"), true.into()), "id", "a bool was returned")),
        ("5.2", "5: so is an optional computed one that is not configured", Check(|| plan("mode", N, N, text("x")), || plan("mode", text("a"), N, text("x")), "mode", NEITHER)),
        ("5.2", "6: any other null stays null", Check(|| plan("note", N, N, N), || plan("note", N, N, text("x")), "note", CONFIGURED_NULL)),
        ("5.2", "7: nested objects are judged attribute by attribute", Check(|| plan("one", child("a", N), N, child("a", 1)), || plan("one", child("a", N), N, child("b", 1)), "one.host", NEITHER)),
        ("5.2", "7: no nested object becomes unknown as a whole", Check(|| plan("one", U, N, U), || plan("one", child("a", N), N, U), "one", "configuration is known here")),
        ("5.2", "7: a nested list keeps its length", Check(|| plan("many", list(&[child("a", N)]), N, list(&[child("a", 1)])), || plan("many", list(&[child("a", N)]), N, list(&[])), "many", NUMBER)),
        ("5.2", "7: a nested map keeps its keys", Check(|| plan("keyed", map(&[("k", child("a", N))]), N, map(&[("k", child("a", 1))])), || plan("keyed", map(&[("k", child("a", N))]), N, map(&[("l", child("a", 1))])), "keyed[\"l\"]", "not configured")),
        ("5.2", "7: a nested set keeps its elements", Check(|| plan("loose", set(&[child("a", N)]), N, set(&[child("a", 1)])), || plan("loose", set(&[child("a", N)]), N, set(&[child("b", 1)])), "loose", "planned set")),
        ("5.2", "8: what is known is not planned as unknown", Check(|| plan("note", U, N, U), || plan("note", text("a"), N, U), "note", "configuration is known here")),
        ("5.2", "8: what is unknown stays unknown", Check(|| plan("note", U, text("a"), U), || plan("note", U, text("a"), text("a")), "note", "configuration is unknown here")),
        ("5.2", "Blocks are never null", Check(|| plan("rule", list(&[]), list(&[]), list(&[])), || plan("rule", list(&[]), list(&[]), N), "rule", "the plan does not")),
        ("5.2", "Blocks are not unknown where the configuration is known", Check(|| plan("rule", U, list(&[]), U), || plan("rule", list(&[child("a", N)]), list(&[]), U), "rule", "configuration is known here")),
        ("5.2", "Unknown blocks stay unknown", Check(|| plan("rule", U, list(&[]), U), || plan("rule", U, list(&[]), list(&[])), "rule", "configuration is unknown here")),
        ("5.2", "The number of blocks is the configuration's, never the prior one", Check(|| plan("rule", list(&[child("a", N)]), list(&[child("a", 1)]), list(&[child("a", 1)])), || plan("rule", list(&[child("a", N), child("b", N)]), list(&[child("a", 1)]), list(&[child("a", 1)])), "rule", NUMBER)),
        ("5.2", "The keys of blocks are the configuration's", Check(|| plan("zone", map(&[("k", child("a", N))]), map(&[]), map(&[("k", child("a", 1))])), || plan("zone", map(&[("k", child("a", N))]), map(&[]), map(&[])), "zone[\"k\"]", "not in the plan")),
        ("5.2", "No single block becomes unknown", Check(|| plan("rule", list(&[child("a", N)]), list(&[]), list(&[child("a", U)])), || plan("rule", list(&[child("a", N)]), list(&[]), list(&[U])), "rule[0]", "configuration is known here")),
        ("5.2", "Blocks of a set are those of the configuration", Check(|| plan("peer", set(&[child("a", N)]), set(&[]), set(&[child("a", 1)])), || plan("peer", set(&[child("a", N)]), set(&[]), set(&[child("b", 1)])), "peer", "planned set")),
        ("5.2", "A single block that is not written is null", Check(|| plan("only", N, N, N), || plan("only", N, N, child("a", N)), "only", CONFIGURED_NULL)),
        ("5.2", "What is configured is planned to exist", Check(|| faults(check_plan(&thing(), &with(&[]), &N, &with(&[]))), || faults(check_plan(&thing(), &with(&[]), &N, &N)), "", "although the configuration wants")),
        ("5.2", "What is destroyed is planned to be gone", Check(|| faults(check_plan(&thing(), &N, &with(&[]), &N)), || faults(check_plan(&thing(), &N, &with(&[]), &with(&[]))), "", "destroy is not null")),
        ("5.2", "A replacement names an attribute that exists", Check(|| faults(check_replacements(&N, &with(&[]), &[AttributePath::of("name")])), || faults(check_replacements(&N, &with(&[]), &[AttributePath::of("nam")])), "nam", "does not exist")),
        ("5.2", "A plan has the schema's shape", Check(|| plan("tags", map(&[]), N, map(&[])), || plan("tags", map(&[]), N, map(&[("a", true.into())])), "tags[\"a\"]", "a bool was returned")),
        ("5.2", "Two plans of the same are the same", Test("families", "a_bed_with_blocks_lives_its_whole_life")),
        ("5.2", "Planned private data comes back", Test("rpcs", "a_thing_lives_its_whole_life")),
        ("5.2", "The legacy type system is never claimed", Shape("the flag is never set")),
        ("5.2", "Deferred only where it is allowed", Test("families", "what_cannot_be_decided_is_deferred_where_the_host_allows_it")),
        ("2.4", "Nothing is deferred during an apply", Test("cli", "nothing_is_deferred_during_an_apply")),
        // The plan made again during apply.
        ("5.3", "Known values stay", Check(|| again("note", text("a"), text("a")), || again("note", text("a"), text("b")), "note", "another one than planned")),
        ("5.3", "Unknown values may become known, known ones not unknown", Check(|| again("id", U, text("a")), || again("id", text("a"), U), "id", "became unknown")),
        // Applies.
        ("5.4", "A new state is wholly known", Check(|| apply("id", U, text("a")), || apply("id", U, U), "id", "still unknown")),
        ("5.4", "Known leaves are as planned", Check(|| apply("note", text("a"), text("a")), || apply("note", text("a"), text("b")), "note", "another one than planned")),
        ("5.4", "Null stays null", Check(|| apply("note", N, N), || apply("note", N, text("a")), "note", "planned as null and is set")),
        ("5.4", "What is planned does not become null", Check(|| apply("id", U, N), || apply("note", text("a"), N), "note", "planned with a value and is null")),
        ("5.4", "Empty is not null", Check(|| apply("tags", map(&[]), map(&[])), || apply("tags", map(&[]), N), "tags", "planned with a value and is null")),
        ("5.4", "A list keeps its length", Check(|| apply("list", list(&[U]), list(&[text("a")])), || apply("list", list(&[U]), list(&[])), "list", NUMBER)),
        ("5.4", "A map keeps its keys", Check(|| apply("tags", map(&[("a", U)]), map(&[("a", text("x"))])), || apply("tags", map(&[("a", U)]), map(&[("b", text("x"))])), "tags[\"a\"]", "is missing")),
        ("5.4", "Elements of a set pair up", Check(|| apply("set", set(&[text("a"), U]), set(&[text("a"), text("b")])), || apply("set", set(&[text("a"), text("b")]), set(&[text("a"), text("c")])), "set", "other elements")),
        ("5.4", "A set does not grow", Check(|| apply("set", set(&[U]), set(&[text("a")])), || apply("set", set(&[U]), set(&[text("a"), text("b")])), "set", "other elements")),
        ("5.4", "A dynamic value keeps its type", Check(|| apply("any", Value::Dynamic(Box::new(Type::Bool), Box::new(U)), Value::Dynamic(Box::new(Type::Bool), Box::new(true.into()))), || apply("any", Value::Dynamic(Box::new(Type::Bool), Box::new(U)), Value::Dynamic(Box::new(Type::String), Box::new(text("a")))), "any", "type of the value changed")),
        ("5.4", "A new state has the schema's types", Check(|| apply("id", U, text("a")), || apply("id", U, 1.into()), "id", "a number was returned")),
        ("5.4", "A new state has every attribute and no other", Check(|| read("id", text("a")), || read("more", text("a")), "more", "no such attribute")),
        ("5.4", "A write-only value is not stored", Check(|| apply("secret", N, N), || apply("secret", N, text("s")), "secret", "write-only")),
        ("5.4", "A create or update that succeeds returns a state", Check(|| faults(check_apply(&thing(), &with(&[]), &with(&[]))), || faults(check_apply(&thing(), &with(&[]), &N)), "", "no state after an apply")),
        ("5.5", "A delete that succeeds returns none", Check(|| faults(check_apply(&thing(), &N, &N)), || faults(check_apply(&thing(), &N, &with(&[]))), "", "still a state after a delete")),
        ("5.5", "A failed create stores what exists", Test("rpcs", "a_failed_create_keeps_what_exists_and_none_of_what_is_unknown_or_secret")),
        ("5.5", "A failed update or delete keeps state and private data", Test("rpcs", "a_failed_update_or_delete_without_a_state_keeps_the_stored_one")),
        ("5.5", "A panic is no gRPC status", Test("rpcs", "a_panic_is_a_bug_report_and_the_stored_state_stays")),
        ("5.5", "A panic does not orphan what was saved", Test("ends", "what_an_apply_had_saved_survives_its_panic")),
        ("1.6", "Who is told to stop answers within seconds", Test("ends", "whoever_does_not_listen_is_abandoned_five_seconds_after_a_stop")),
        ("5.5", "Nor does an identity that cannot be told", Test("ends", "an_object_is_kept_whose_identity_cannot_be_told")),
        // Reads.
        ("5.6", "A read state is wholly known; null is gone", Check(|| faults(check_read(&thing(), &N)), || read("id", U), "id", "still unknown")),
        ("5.6", "A read returns nothing write-only", Check(|| read("secret", N), || read("secret", text("s")), "secret", "write-only")),
        ("5.6", "A read that fails keeps state, private data and identity", Test("rpcs", "a_failed_read_keeps_state_and_private_data")),
        ("5.6", "Another spelling is no drift", Test("contract", "another_spelling_of_the_same_is_no_drift_and_no_fault")),
        ("5.6", "Null blocks are stored as empty ones", Test("families", "state_moves_here_from_what_is_known_and_from_nothing_else")),
        ("5.6", "A data source returns something", Check(|| faults(check_data(&thing(), &with(&[]))), || faults(check_data(&thing(), &N)), "", "returned nothing")),
        ("5.6", "What a data source returns is wholly known", Check(|| faults(check_data(&thing(), &with(&[]))), || faults(check_data(&thing(), &with(&[("id", U)]))), "id", "still unknown")),
        // Stored state.
        ("5.7", "State of the same version: what is missing is null, what is too much goes", Test("rpcs", "stored_state_of_this_version_is_read_leniently_and_remembered")),
        ("5.7", "State of an older version goes through its upgrade", Test("rpcs", "stored_state_of_an_older_version_is_upgraded")),
        ("5.7", "State of a newer version is refused", Test("families", "state_of_a_newer_version_is_refused_in_words")),
        ("5.7", "State in the form of Terraform before 0.12 is refused", Test("rpcs", "stored_state_that_cannot_be_read_is_refused")),
        ("5.7", "An upgraded state is there", Check(|| faults(check_upgrade(&thing(), &with(&[]))), || faults(check_upgrade(&thing(), &N)), "", "upgraded state is null")),
        ("5.7", "An upgraded state is wholly known", Check(|| faults(check_upgrade(&thing(), &with(&[]))), || faults(check_upgrade(&thing(), &with(&[("id", U)]))), "id", "still unknown")),
        ("5.7", "An upgraded state holds nothing write-only", Check(|| faults(check_upgrade(&thing(), &with(&[]))), || faults(check_upgrade(&thing(), &with(&[("secret", text("s"))]))), "secret", "write-only")),
        // Imports.
        ("5.8", "An import finds something or says why not", Check(|| faults(check_import(&thing(), &with(&[]))), || faults(check_import(&thing(), &N)), "", "found nothing")),
        ("5.8", "An imported state is wholly known", Check(|| faults(check_import(&thing(), &with(&[]))), || faults(check_import(&thing(), &with(&[("id", U)]))), "id", "still unknown")),
        ("5.8", "An imported state holds nothing write-only", Check(|| faults(check_import(&thing(), &with(&[]))), || faults(check_import(&thing(), &with(&[("secret", text("s"))]))), "secret", "write-only")),
        ("5.8", "Exactly one resource, of the type asked for", Test("rpcs", "an_import_finds_one_object_or_says_why_not")),
        ("5.8", "An import by identity returns the identity", Test("identities", "an_import_by_identity_finds_what_an_id_finds")),
        // Moves.
        ("5.9", "An unknown source is refused", Test("families", "state_moves_here_from_what_is_known_and_from_nothing_else")),
        ("5.9", "A moved state is wholly known and holds nothing write-only", Test("families", "state_moves_here_from_what_is_known_and_from_nothing_else")),
        ("5.9", "Another address of the same provider is the same type", Test("families", "another_address_of_the_same_provider_is_no_other_type")),
        // Identities.
        ("5.10", "An identity has its schema's shape", Check(|| identity(N, id(text("a")), Maturity::Known), || identity(N, id(true.into()), Maturity::Known), "id", "a bool was returned")),
        ("5.10", "An identity is wholly known, but in the plan of a create", Check(|| identity(N, id(U), Maturity::Planned), || identity(N, id(U), Maturity::Known), "id", "still unknown")),
        ("5.10", "An identity is not null in every part", Check(|| identity(N, id(text("a")), Maturity::Known), || identity(N, id(N), Maturity::Known), "", "null in every part")),
        ("5.10", "An identity does not change", Check(|| identity(id(text("a")), id(text("a")), Maturity::Known), || identity(id(text("a")), id(text("b")), Maturity::Known), "id", "identity of an object changed")),
        ("5.10", "An identity holds primitives and lists of them", Check(|| IdentitySchema::new([("id", IdentityAttribute::required("x"))]).check().into_iter().map(|fault| (String::new(), fault)).collect(), || IdentitySchema::new([("id", IdentityAttribute { ty: Type::map(Type::String), ..IdentityAttribute::required("x") })]).check().into_iter().map(|fault| (String::new(), fault)).collect(), "", "holds primitives")),
        ("5.10", "A part is required or optional for import, not both", Shape("one flag")),
        ("5.10", "An older host sends none and is answered all the same", Test("identities", "an_identity_is_planned_kept_and_never_changes")),
        // Ephemeral resources.
        ("5.11", "What is opened is as configured", Check(|| key(gate("a", N), gate("a", text("t"))), || key(gate("a", N), gate("b", text("t"))), "gate", NEITHER)),
        ("5.11", "Something is opened", Check(|| key(gate("a", N), gate("a", N)), || key(gate("a", N), N), "", "opened nothing")),
        ("5.11", "What is opened is wholly known", Check(|| key(gate("a", N), gate("a", N)), || key(gate("a", N), gate("a", U)), "token", "still unknown")),
        ("5.11", "No renewal is due in the past", Test("families", "an_ephemeral_resource_is_opened_renewed_and_closed")),
        ("5.11", "Close gets what open kept", Test("families", "an_ephemeral_resource_is_opened_renewed_and_closed")),
        ("5.11", "What is refused after it was opened is closed", Test("families", "what_an_ephemeral_resource_must_not_return_is_a_bug_and_closed_again")),
        ("5.11", "Nothing of it is stored", Test("cli", "an_ephemeral_value_is_opened_used_and_closed_and_stored_nowhere")),
        // Functions.
        ("5.12", "An argument is null only where that is allowed", Test("families", "a_function_is_called_and_says_which_argument_is_wrong")),
        ("5.12", "An unknown argument makes the result unknown, unless it is allowed", Test("families", "a_function_is_called_and_says_which_argument_is_wrong")),
        ("5.12", "An error says which argument", Test("families", "a_function_is_called_and_says_which_argument_is_wrong")),
        ("5.12", "A result is of the promised type", Test("function", "a_call_keeps_to_the_signature_both_ways")),
        ("5.12", "A function is pure", Test("families", "a_function_that_is_not_pure_is_found_at_its_second_call")),
        // Lists and actions.
        ("5.13", "What is listed has an identity", Test("families", "a_list_finds_at_most_what_is_wanted")),
        ("5.13", "A list ends at its limit", Test("families", "a_list_finds_at_most_what_is_wanted")),
        ("5.13", "A state is listed only if that is asked for", Test("families", "a_list_finds_at_most_what_is_wanted")),
        ("5.13", "An action ends exactly once, and no event is empty", Test("families", "an_action_is_planned_and_tells_how_it_goes")),
        ("5.13", "An action is deferred for the provider's sake only", Test("families", "what_cannot_be_decided_is_deferred_where_the_host_allows_it")),
        ("5.13", "A state store answers in chunks; who offers none says so at every call", Test("rpcs", "what_is_not_offered_is_refused_politely")),
        // Diagnostics.
        ("5.14", "A diagnostic has a severity", Shape("`Severity` has two values")),
        ("5.14", "A path ends at a set", Shape("`Step` has no element of a set")),
        ("5.14", "Validators pass unknown values", Test("families", "an_ephemeral_configuration_is_validated")),
        ("2.4", "A write-only value needs a host that knows of it", Test("rpcs", "a_write_only_value_needs_a_terraform_that_keeps_it_out_of_the_state")),
        ("2.3", "Nothing depends on the schema having been asked for", Test("rpcs", "a_data_source_is_validated_and_read")),
        ("5.8", "`provider_meta` is decoded", Test("cli", "what_a_module_says_of_itself_comes_with_every_request")),
    ]
}

/// The sources in which [`By::Test`] finds its tests.
const SOURCES: [(&str, &str, &str); 7] = [
    ("ends", "tests/protocol/ends.rs", include_str!("ends.rs")),
    (
        "identities",
        "tests/protocol/identities.rs",
        include_str!("identities.rs"),
    ),
    (
        "families",
        "tests/protocol/families.rs",
        include_str!("families.rs"),
    ),
    ("rpcs", "tests/protocol/rpcs.rs", include_str!("rpcs.rs")),
    (
        "contract",
        "tests/protocol/contract.rs",
        include_str!("contract.rs"),
    ),
    ("cli", "tests/protocol/cli.rs", include_str!("cli.rs")),
    (
        "function",
        "src/framework/function.rs",
        include_str!("../../src/framework/function.rs"),
    ),
];

#[test]
fn the_provider_itself_is_sound() {
    assert_eq!(
        kvtls::framework::check(&kvtls::provider::Kvtls::new()),
        Vec::<String>::new()
    );
}

#[test]
fn each_rule_passes_what_keeps_it_and_refuses_what_breaks_it() {
    let mut wrong = Vec::new();
    for (section, rule, by) in rules() {
        match by {
            By::Check(passes, refused, path, words) => {
                let found = passes();
                if !found.is_empty() {
                    wrong.push(format!("{section} {rule}: refused what keeps it: {found:?}"));
                }
                let found = refused();
                if !found.iter().any(|(at, why)| at == path && why.contains(words)) {
                    wrong.push(format!("{section} {rule}: no {path:?} {words:?} in {found:?}"));
                }
            }
            By::Test(source, test) => {
                let (.., text) = SOURCES.iter().find(|(name, ..)| *name == source).expect(source);
                if !text.contains(&format!("fn {test}(")) {
                    wrong.push(format!("{section} {rule}: no test {test}"));
                }
            }
            By::Shape(why) => assert!(!why.is_empty(), "{section} {rule}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_of_the_rules_is_this_table() {
    let all = rules();
    let mut page = format!(
        "# Terraform's rules\n\nWhat Terraform's core checks on a provider's answers, and how the framework keeps it: {} rules. \
         Written by `tests/protocol/rules.rs`; `UPDATE_EXPECT=1 cargo test --test protocol rules` writes it anew.\n\n\
         *check*: a row of that table, with an answer that passes and one that is refused. *cannot be said*: the types have no \
         way to break it. *test*: a test of its own.\n\n| # | Rule | Kept by |\n|---|---|---|\n",
        all.len()
    );
    for (position, (_, rule, by)) in all.iter().enumerate() {
        let how = match by {
            By::Check(_, _, "", words) => format!("check: “{words}”"),
            By::Check(_, _, path, words) => format!("check, at `{path}`: “{words}”"),
            By::Shape(why) => format!("cannot be said: {why}"),
            By::Test(source, test) => {
                let (_, file, _) = SOURCES.iter().find(|(name, ..)| name == source).expect(source);
                format!("test: `{file}`, `{test}`")
            }
        };
        page.push_str(&format!("| {} | {rule} | {how} |\n", position + 1));
    }
    is_the_page("docs/development/protocol-rules.md", &page);
}

/// Compares a generated page with the file, or writes it if asked to.
pub(crate) fn is_the_page(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::vars().any(|(name, _)| name == "UPDATE_EXPECT") {
        std::fs::write(&file, wanted).expect("the page is written");
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == wanted,
        "{path} is out of date; UPDATE_EXPECT=1 writes it"
    );
}
