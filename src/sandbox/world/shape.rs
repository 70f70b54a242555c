//! The shape of a world file: which members there are, what they hold, and which of them may change while it runs.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::super::actors::MOUNT_ERRORS;
use super::super::core::WorldError;
use super::{duration, moment};

/// What a member holds.
enum Shape {
    Text,
    Bool,
    Count,
    /// A duration, `10m`.
    Span,
    /// A moment: relative to the start, `-22d`, or RFC 3339.
    Moment,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these numbers.
    Number(&'static [u64]),
    Anything,
    Nullable(&'static Shape),
    List(&'static Shape),
    /// Members by free names.
    Map(&'static Shape),
    Object(&'static [Member]),
    /// Anything that one of these takes.
    Or(&'static [Shape]),
}

struct Member {
    name: &'static str,
    shape: Shape,
    /// Whether it may be changed while the world runs.
    live: bool,
}

const fn fixed(name: &'static str, shape: Shape) -> Member {
    Member {
        name,
        shape,
        live: false,
    }
}

const fn live(name: &'static str, shape: Shape) -> Member {
    Member {
        name,
        shape,
        live: true,
    }
}

use Shape::{Anything, Bool, Count, List, Map as ByName, Nullable, Object, Or, Span, Text, Word};

const WORLD: Shape = Object(&[
    fixed("version", Count),
    fixed("extends", Text),
    fixed("tenants", ByName(&TENANT)),
    fixed("subscriptions", ByName(&SUBSCRIPTION)),
    fixed("principals", ByName(&PRINCIPAL)),
    fixed("roles", ByName(&ROLE)),
    live("deny_assignments", ByName(&Nullable(&DENIAL))),
    fixed("resource_groups", ByName(&GROUP)),
    fixed("clusters", ByName(&CLUSTER)),
    fixed("vaults", ByName(&VAULT)),
    fixed("identities", ByName(&IDENTITY)),
    // Whether api-versions pass that AKS no longer speaks.
    fixed("accept_retired", Bool),
    live("dns", ByName(&Nullable(&Text))),
]);

const TENANT: Shape = Object(&[fixed("id", Text)]);

const SUBSCRIPTION: Shape = Object(&[
    fixed("id", Text),
    fixed("tenant", Text),
    fixed("registered", List(&Text)),
]);

const PRINCIPAL: Shape = Object(&[
    fixed(
        "type",
        Word(&[
            "app",
            "managed",
            "user",
            "group",
            "workload",
            "github",
            "pipelines",
        ]),
    ),
    fixed("tenant", Text),
    fixed("client_id", Text),
    fixed("object_id", Text),
    fixed("age", Shape::Moment),
    fixed("secret", Nullable(&Text)),
    // A certificate whose key stands in for a secret, made at the start.
    fixed("certificate", Bool),
    // Other tenants that know the application.
    fixed("also_in", List(&Text)),
    fixed("federated", List(&FEDERATED)),
    fixed("groups", List(&Text)),
    live("assignments", List(&ASSIGNMENT)),
    live("kubernetes", List(&KUBERNETES_GRANT)),
]);

const FEDERATED: Shape = Object(&[
    fixed("issuer", Text),
    fixed("subject", Text),
    fixed("audience", Text),
]);

const ASSIGNMENT: Shape = Object(&[fixed("role", Text), fixed("scope", Text)]);

const KUBERNETES_GRANT: Shape = Object(&[
    fixed("cluster", Text),
    fixed("cluster_role", Text),
    fixed("namespace", Text),
]);

const ROLE: Shape = Object(&[
    fixed("id", Text),
    fixed("actions", List(&Text)),
    fixed("not_actions", List(&Text)),
    fixed("data_actions", List(&Text)),
    fixed("not_data_actions", List(&Text)),
]);

const DENIAL: Shape = Object(&[
    fixed("scope", Text),
    // Names of principals; without the member, everybody.
    fixed("principals", List(&Text)),
    fixed("excluded", List(&Text)),
    fixed("actions", List(&Text)),
    fixed("not_actions", List(&Text)),
    fixed("data_actions", List(&Text)),
    fixed("not_data_actions", List(&Text)),
]);

const GROUP: Shape = Object(&[
    fixed("location", Text),
    fixed("subscription", Text),
    fixed("tags", ByName(&Text)),
    live(
        "lock",
        Nullable(&Or(&[Bool, Word(&["CanNotDelete", "ReadOnly"])])),
    ),
    live("policy_deny", Nullable(&Or(&[Bool, Text, List(&Text)]))),
]);

const CLUSTER: Shape = Object(&[
    fixed("resource_group", Text),
    fixed("location", Text),
    fixed("kubernetes", Text),
    fixed("entra", Bool),
    fixed("azure_rbac", Bool),
    fixed("local_accounts", Bool),
    fixed("private", Bool),
    fixed("unreachable", Bool),
    fixed("oidc", Bool),
    fixed("workload_identity", Bool),
    fixed("age", Shape::Moment),
    fixed("nodes", Count),
    fixed("driver", Word(&["1.5.6", "1.6.0", "1.6.1"])),
    fixed("gateway_api", Nullable(&Word(&["1.3.0", "1.5.1"]))),
    live("power", Word(&["Running", "Stopped"])),
    live("state", Text),
    fixed("addon", Nullable(&ADDON)),
    fixed("approuting", Anything),
    fixed("linked", List(&Text)),
    fixed("tags", ByName(&Text)),
    fixed("extra", ByName(&Anything)),
    fixed("objects", List(&MANIFEST)),
    live(
        "admission",
        List(&Or(&[Word(&["safeguards", "ingress-nginx"]), ADMISSION])),
    ),
    fixed("edges", List(&EDGE)),
    live("staged", STAGED),
]);

const ADDON: Shape = Object(&[
    fixed("key", Text),
    fixed("enabled", Bool),
    fixed("config", Nullable(&ByName(&Text))),
]);

const MANIFEST: Shape = Object(&[fixed("as", Text), fixed("object", ByName(&Anything))]);

const ADMISSION: Shape = Object(&[
    fixed("kinds", List(&Text)),
    fixed("namespaces", List(&Text)),
    fixed("patch", List(&CHANGE)),
    fixed("deny", Text),
]);

/// One operation of a JSON patch.
const CHANGE: Shape = Object(&[
    fixed("op", Word(&["add", "remove", "replace", "move", "copy", "test"])),
    fixed("path", Text),
    fixed("from", Text),
    fixed("value", Anything),
]);

const EDGE: Shape = Object(&[
    fixed("name", Text),
    fixed("kind", Word(&["ingress", "gateway"])),
    fixed("class", Text),
    fixed("controller", Text),
    fixed("profile", Word(&["nginx", "traefik", "agic"])),
    fixed("default", Bool),
    fixed("address", Text),
    fixed("reachable", Bool),
    fixed("publish_address", Bool),
    fixed("accepts_listener_sets", Bool),
    fixed("reload_lag", Span),
]);

const STAGED: Shape = Object(&[
    fixed("missing_images", List(&Text)),
    fixed("unschedulable", Or(&[Bool, Text])),
    fixed("node_not_ready", Bool),
    fixed("mount_error", Nullable(&Shape::Number(MOUNT_ERRORS))),
    fixed("no_driver_on_node", Bool),
]);

const VAULT: Shape = Object(&[
    fixed("resource_group", Text),
    fixed("location", Text),
    fixed("tenant", Text),
    fixed("rbac", Nullable(&Bool)),
    live("firewall", Nullable(&FIREWALL)),
    live("public_network", Bool),
    fixed("purge_protection", Bool),
    fixed("state", Word(&["ready", "soft_deleted"])),
    fixed("policies", List(&POLICY)),
    live("throttle", Nullable(&Anything)),
    fixed("tags", ByName(&Text)),
    fixed("certificates", ByName(&CERTIFICATE)),
]);

const FIREWALL: Shape = Object(&[fixed("caller", Bool), fixed("cluster", Bool)]);

const POLICY: Shape = Object(&[
    fixed("principal", Text),
    fixed("object_id", Text),
    fixed("certificates", List(&Text)),
    fixed("secrets", List(&Text)),
    fixed("keys", List(&Text)),
]);

const CERTIFICATE: Shape = Object(&[
    fixed("common_name", Text),
    fixed("hosts", List(&Text)),
    fixed(
        "key",
        Word(&["RSA-2048", "RSA-3072", "RSA-4096", "P-256", "P-384", "P-521"]),
    ),
    fixed("content", Word(&["pem", "pfx", "pfx-modern"])),
    fixed("exportable", Bool),
    fixed("chain", Word(&["self", "full", "leaf_only", "reversed"])),
    fixed("issuer", Text),
    fixed("versions", List(&VERSION)),
    fixed("deleted", Bool),
    fixed("pending", Anything),
    fixed("tags", ByName(&Text)),
]);

const VERSION: Shape = Object(&[
    fixed("from", Shape::Moment),
    fixed("until", Shape::Moment),
    fixed("enabled", Bool),
]);

const IDENTITY: Shape = Object(&[
    fixed("resource_group", Text),
    fixed("location", Text),
    fixed("client_id", Text),
    fixed("object_id", Text),
    fixed("federated", List(&FEDERATED)),
    // Names of principals.
    fixed("groups", List(&Text)),
    fixed("tags", ByName(&Text)),
]);

/// Everything that is wrong with the shape of this world.
pub(super) fn mistakes(world: &Value) -> Vec<WorldError> {
    let mut errors = Vec::new();
    check(&WORLD, world, "", &mut errors);
    errors
}

/// The pointer of a member of this patch that may not change while the world runs.
pub(super) fn not_live(patch: &Value) -> Option<String> {
    find_not_live(&WORLD, patch, "")
}

/// The members of a running world that may change, as far as they are set.
pub(super) fn live_members(world: &Value) -> Value {
    live_below(&WORLD, world).unwrap_or_else(|| Value::Object(Map::new()))
}

fn check(shape: &Shape, value: &Value, pointer: &str, errors: &mut Vec<WorldError>) {
    let mut wrong = |message: String| errors.push(WorldError::new(pointer, message));
    match (shape, value) {
        (Text, Value::String(_)) | (Bool, Value::Bool(_)) | (Anything, _) | (Nullable(_), Value::Null) => {}
        (Count, value) if value.is_u64() => {}
        (Span, Value::String(text)) if duration(text).is_some() => {}
        (Shape::Moment, Value::String(text)) if moment(text, OffsetDateTime::UNIX_EPOCH).is_some() => {}
        (Word(words), Value::String(text)) if words.contains(&text.as_str()) => {}
        (Shape::Number(numbers), value) if value.as_u64().is_some_and(|own| numbers.contains(&own)) => {}
        (Nullable(inner), value) => check(inner, value, pointer, errors),
        (List(inner), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                check(inner, item, &format!("{pointer}/{index}"), errors);
            }
        }
        (ByName(inner), Value::Object(members)) => {
            for (name, member) in members {
                check(inner, member, &below(pointer, name), errors);
            }
        }
        (Object(known), Value::Object(members)) => {
            for (name, member) in members {
                match find(known, name) {
                    Some(found) => check(&found.shape, member, &below(pointer, name), errors),
                    None => errors.push(WorldError::new(below(pointer, name), "is not known")),
                }
            }
        }
        (Or(shapes), value) => {
            let takes = |shape: &Shape| {
                let mut errors = Vec::new();
                check(shape, value, pointer, &mut errors);
                errors.is_empty()
            };
            if !shapes.iter().any(takes) {
                let ways: Vec<_> = shapes.iter().map(words).collect();
                wrong(format!("must be {}", ways.join(", or ")));
            }
        }
        (shape, _) => wrong(format!("must be {}", words(shape))),
    }
}

fn words(shape: &Shape) -> String {
    match shape {
        Text => "text".to_owned(),
        Bool => "true or false".to_owned(),
        Count => "a whole number".to_owned(),
        Span => "a duration like 10m".to_owned(),
        Shape::Moment => "a moment: -22d, +90d or 2026-01-31T12:00:00Z".to_owned(),
        Word(words) => format!("one of {}", words.join(", ")),
        Shape::Number(numbers) => {
            let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
            format!("one of {}", numbers.join(", "))
        }
        Anything => "anything".to_owned(),
        Nullable(inner) => format!("null or {}", words(inner)),
        List(_) => "a list".to_owned(),
        ByName(_) | Object(_) => "an object".to_owned(),
        Or(shapes) => shapes.iter().map(words).collect::<Vec<_>>().join(", or "),
    }
}

fn find_not_live(shape: &Shape, patch: &Value, pointer: &str) -> Option<String> {
    let Value::Object(members) = patch else {
        return Some(pointer.to_owned());
    };
    match shape {
        ByName(inner) => members
            .iter()
            .find_map(|(name, member)| find_not_live(inner, member, &below(pointer, name))),
        Object(known) => members.iter().find_map(|(name, member)| {
            let pointer = below(pointer, name);
            match find(known, name) {
                Some(found) if found.live => None,
                Some(found) => find_not_live(&found.shape, member, &pointer),
                None => Some(pointer),
            }
        }),
        _ => Some(pointer.to_owned()),
    }
}

fn live_below(shape: &Shape, value: &Value) -> Option<Value> {
    let members = value.as_object()?;
    let kept: Map<_, _> = match shape {
        ByName(inner) => members
            .iter()
            .filter_map(|(name, member)| Some((name.clone(), live_below(inner, member)?)))
            .collect(),
        Object(known) => members
            .iter()
            .filter_map(|(name, member)| {
                let found = find(known, name)?;
                let kept = if found.live {
                    member.clone()
                } else {
                    live_below(&found.shape, member)?
                };
                Some((name.clone(), kept))
            })
            .collect(),
        _ => return None,
    };
    (!kept.is_empty()).then_some(Value::Object(kept))
}

fn find<'a>(known: &'a [Member], name: &str) -> Option<&'a Member> {
    known.iter().find(|member| member.name == name)
}

fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}
