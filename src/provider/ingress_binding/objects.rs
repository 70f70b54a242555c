//! What is said about the cluster's objects and about reaching it: attributes, and what is wanted by them.

use crate::binding::desired::{Connection, Credential, ReadSecret, Resources, Sync, Toleration};
use serde_json::Value as Json;

use crate::binding::manifests::{BOOKKEEPING, MANAGED_BY};
use crate::framework::object::{Known, Reader};
use crate::framework::validate::{length_between, one_of, text, unexpected, whole_number_between};
use crate::framework::{Attribute, AttributePath, Diagnostic, Diagnostics, Nesting, Presence, Type, Value};
use crate::provider::Defaults;

use Presence::{Optional, OptionalComputed};

/// Small, has a shell for the probes, and is the successor of the image the AKS guide used.
const IMAGE: &str = "mcr.microsoft.com/azurelinux/busybox:1.36";
/// Enough for a shell that sleeps and for the probe that runs beside it.
const REQUESTS: (&str, &str) = ("10m", "16Mi");
const LIMITS: (&str, &str) = ("20m", "32Mi");
const NODES: (&str, &str) = ("kubernetes.io/os", "linux");

/// The sync Deployment.
pub(super) fn sync() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        OptionalComputed,
        "The pods that mount the certificates: without a mount the driver never writes a Secret. They run as nobody, on \
         a read-only root, without capabilities and without a token.",
        [
            (
                "image",
                Attribute::string(
                    OptionalComputed,
                    format!(
                        "The image; it needs a shell and `test`, and a tag other than `latest` or a digest. `{IMAGE}` \
                         unless set."
                    ),
                )
                .default(IMAGE)
                .valid(image),
            ),
            (
                "replicas",
                Attribute::number(
                    OptionalComputed,
                    "How many; with two, a node that is drained does not hold up a renewal. 1 unless set, at most 3. The \
                     number of an autoscaler is left alone as long as there is one.",
                )
                .default(1)
                .valid(whole_number_between(1, 3)),
            ),
            ("resources", resources()),
            (
                "node_selector",
                Attribute::value(
                    Type::map(Type::String),
                    OptionalComputed,
                    "Labels of the nodes they may run on; `kubernetes.io/os = linux` unless set.",
                )
                .default(Value::object([(NODES.0, Value::from(NODES.1))])),
            ),
            ("tolerations", tolerations()),
            (
                "priority_class_name",
                Attribute::string(Optional, "Their priority class."),
            ),
            (
                "image_pull_secrets",
                Attribute::value(
                    Type::list(Type::String),
                    Optional,
                    "Secrets of the namespace for the image's registry.",
                ),
            ),
            (
                "labels",
                Attribute::value(Type::map(Type::String), Optional, "Labels of Deployment and pods.")
                    .valid(super::schema::labels)
                    .valid(selected),
            ),
            (
                "annotations",
                Attribute::value(Type::map(Type::String), Optional, "Annotations of Deployment and pods.")
                    .valid(super::schema::annotations),
            ),
        ],
    )
}

fn resources() -> Attribute {
    let quantity = |what: &str, default: &str| {
        Attribute::string(OptionalComputed, format!("{what} `{default}` unless set."))
            .default(default)
            .valid(text("a Kubernetes quantity", "\"10m\"", is_quantity))
    };
    Attribute::nested(
        Nesting::Single,
        OptionalComputed,
        "What each may use.",
        [
            ("cpu_request", quantity("Requested processor time;", REQUESTS.0)),
            ("memory_request", quantity("Requested memory;", REQUESTS.1)),
            ("cpu_limit", quantity("The most processor time;", LIMITS.0)),
            ("memory_limit", quantity("The most memory;", LIMITS.1)),
        ],
    )
}

fn tolerations() -> Attribute {
    Attribute::nested(
        Nesting::List,
        Optional,
        "Taints they bear.",
        [
            (
                "key",
                Attribute::string(Optional, "The taint's key; every key unless set."),
            ),
            (
                "operator",
                Attribute::string(OptionalComputed, "`Equal` or `Exists`; `Equal` unless set.")
                    .default("Equal")
                    .valid(one_of(&["Equal", "Exists"])),
            ),
            (
                "value",
                Attribute::string(Optional, "The taint's value, with `Equal`."),
            ),
            (
                "effect",
                Attribute::string(
                    Optional,
                    "`NoSchedule`, `PreferNoSchedule` or `NoExecute`; every effect unless set.",
                )
                .valid(one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"])),
            ),
            (
                "toleration_seconds",
                Attribute::number(
                    Optional,
                    "How long a `NoExecute` taint is borne; forever unless set.",
                )
                .valid(whole_number_between(0, i64::from(u32::MAX))),
            ),
        ],
    )
    .valid(length_between(0, 50))
}

/// How the cluster's API is reached. `server` and its name belong to one cluster, so only a binding has them.
pub(in crate::provider) fn kubernetes() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Optional,
        "How the cluster's API is reached; what is not set is taken from the provider block.",
        [
            ("credential", credential()),
            ("proxy_url", proxy_url()),
            (
                "server",
                Attribute::string(
                    Optional,
                    "A URL to dial instead of the cluster's own, for example of a tunnel.",
                )
                .valid(text("an https URL", "\"https://127.0.0.1:6443\"", is_https)),
            ),
            (
                "tls_server_name",
                Attribute::string(
                    Optional,
                    "The name that the API server's certificate must hold; the dialled one unless set.",
                ),
            ),
        ],
    )
}

/// The provider block's own words about reaching clusters.
pub(in crate::provider) fn provider_kubernetes() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Optional,
        "How the API servers of clusters are reached.",
        [("credential", credential()), ("proxy_url", proxy_url())],
    )
}

fn credential() -> Attribute {
    Attribute::string(
        Optional,
        "`auto`: a token of this provider's own identity where the cluster has Entra ID, else the cluster's user \
         credential. `entra`, `user`: that one. `admin`: the cluster's local administrator. kubelogin is never needed. \
         `auto` unless set.",
    )
    .valid(one_of(&["auto", "entra", "user", "admin"]))
}

fn proxy_url() -> Attribute {
    Attribute::string(
        Optional,
        "An HTTP proxy on the way to the API server, for example of a private cluster; `HTTPS_PROXY` unless set.",
    )
    .valid(text("an http URL", "\"http://proxy.internal:3128\"", |it| {
        it.starts_with("http://") || it.starts_with("https://")
    }))
}

/// When Secrets are read.
pub(super) fn read_secret() -> Attribute {
    Attribute::string(
        OptionalComputed,
        "When a Secret is read to compare its certificate: `apply`, `always` (by a refresh, too) or `never`. Kubernetes \
         cannot answer with a part of a Secret, so its key passes through this process's memory: it is not parsed, and \
         the memory is wiped. Otherwise the Secret's metadata and the driver's records must do. `apply` unless set.",
    )
    .default("apply")
    .valid(one_of(&["apply", "always", "never"]))
}

fn image(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    let is_pinned = |text: &str| {
        let name = text.rsplit('/').next().unwrap_or_default();
        match name.split_once('@') {
            Some((_, digest)) => digest.contains(':'),
            None => name
                .split_once(':')
                .is_some_and(|(_, tag)| !tag.is_empty() && tag != "latest"),
        }
    };
    let wrong = value
        .as_str()
        .is_some_and(|text| text.contains(' ') || !is_pinned(text));
    let expected = "an image with a tag other than \"latest\", or with a digest";
    let error = wrong.then(|| unexpected(path, expected, &format!("\"{IMAGE}\""), value));
    error.into_iter().collect()
}

/// The labels by which the Deployment finds its pods are its own.
fn selected(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    let keys = value.as_map().into_iter().flat_map(|members| members.keys());
    let ours = ["app.kubernetes.io/name", "app.kubernetes.io/instance"];
    keys.filter(|key| ours.contains(&key.as_str()))
        .map(|key| {
            let detail =
                format!("The key \"{key}\" cannot be used here: the Deployment finds its pods by it.");
            Diagnostic::error("Key is reserved", detail, format!("Remove it from {path}.")).at(path.key(key))
        })
        .collect()
}

fn is_quantity(text: &str) -> bool {
    amount(text).is_some()
}

/// How much a Kubernetes quantity is, if it is one and more than nothing.
fn amount(text: &str) -> Option<f64> {
    const THOUSANDS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let end = text
        .find(|it: char| !it.is_ascii_digit() && it != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = |units: &[&str], base: f64| {
        let power = units.iter().position(|known| *known == unit)?;
        Some(base.powi(i32::try_from(power).ok()?))
    };
    let milli = || (unit == "m").then_some(0.001);
    let factor = factor(&THOUSANDS, 1000.0)
        .or_else(|| factor(&BINARY, 1024.0))
        .or_else(milli)?;
    let number: f64 = number.parse().ok()?;
    (number > 0.0).then_some(number * factor)
}

/// A container may not ask for more than it may use: the API server refuses it.
pub(super) fn contradictions(root: &Reader<'_>, diagnostics: &mut Diagnostics) {
    let sync = root.known_object("sync").known();
    let Some(resources) = sync.and_then(|sync| sync.known_object("resources").known()) else {
        return;
    };
    for (name, request, limit) in [("cpu", REQUESTS.0, LIMITS.0), ("memory", REQUESTS.1, LIMITS.1)] {
        let (asks, may) = (format!("{name}_request"), format!("{name}_limit"));
        let of = |name: &str, default: &'static str| match resources.known_string(name) {
            Known::Known(text) => Some(text.to_owned()),
            Known::Null => Some(default.to_owned()),
            Known::Unknown => None,
        };
        let (Some(request), Some(limit)) = (of(&asks, request), of(&may, limit)) else {
            continue;
        };
        if amount(&request)
            .zip(amount(&limit))
            .is_some_and(|(asked, most)| asked > most)
        {
            let path = resources.path().attribute(&asks);
            diagnostics.push(
                Diagnostic::error(
                    "Request is above its limit",
                    format!("{path} is {request}, and {may} is {limit}: a cluster refuses such a container."),
                    format!("Raise {may}, or lower {asks}."),
                )
                .at(path)
                .code("KVTLS-E002"),
            );
        }
    }
}

fn is_https(text: &str) -> bool {
    text.strip_prefix("https://")
        .is_some_and(|rest| !rest.is_empty() && !rest.contains([' ', '@']))
}

/// The wished pods. Members that a state of an earlier version does not have are as if nobody had written them.
pub(super) fn read_sync(root: &Reader<'_>) -> Result<Sync, Diagnostic> {
    let sync = root.opt_object("sync")?;
    let text = |name: &str| sync.as_ref().map(|it| it.opt_string(name)).transpose();
    let resources = sync
        .as_ref()
        .map(|it| it.opt_object("resources"))
        .transpose()?
        .flatten();
    let quantity = |name: &str, default: &str| {
        let written = resources
            .as_ref()
            .map(|it| it.opt_string(name))
            .transpose()?
            .flatten();
        Ok::<_, Diagnostic>(written.unwrap_or(default).to_owned())
    };
    let map = |name: &str| {
        let map = sync.as_ref().filter(|it| !it.at(name).is_null());
        map.map(|it| it.string_map(name)).transpose()
    };
    let mut tolerations = Vec::new();
    if let Some(sync) = sync.as_ref().filter(|it| !it.at("tolerations").is_null()) {
        for it in sync.list("tolerations")? {
            tolerations.push(Toleration {
                key: it.opt_string("key")?.map(str::to_owned),
                operator: it.opt_string("operator")?.unwrap_or("Equal").to_owned(),
                value: it.opt_string("value")?.map(str::to_owned),
                effect: it.opt_string("effect")?.map(str::to_owned),
                toleration_seconds: it.opt_whole("toleration_seconds")?,
            });
        }
    }
    let pull_secrets = sync.as_ref().filter(|it| !it.at("image_pull_secrets").is_null());
    let replicas = sync
        .as_ref()
        .map(|it| it.opt_whole("replicas"))
        .transpose()?
        .flatten();
    Ok(Sync {
        image: text("image")?.flatten().unwrap_or(IMAGE).to_owned(),
        replicas: replicas.and_then(|it| u8::try_from(it).ok()).unwrap_or(1),
        resources: Resources {
            cpu_request: quantity("cpu_request", REQUESTS.0)?,
            memory_request: quantity("memory_request", REQUESTS.1)?,
            cpu_limit: quantity("cpu_limit", LIMITS.0)?,
            memory_limit: quantity("memory_limit", LIMITS.1)?,
        },
        node_selector: map("node_selector")?
            .unwrap_or_else(|| [(NODES.0.to_owned(), NODES.1.to_owned())].into()),
        tolerations,
        priority_class_name: text("priority_class_name")?.flatten().map(str::to_owned),
        image_pull_secrets: pull_secrets
            .map(|it| it.strings("image_pull_secrets"))
            .transpose()?
            .unwrap_or_default(),
        labels: map("labels")?.unwrap_or_default(),
        annotations: map("annotations")?.unwrap_or_default(),
    })
}

/// The `sync` attribute of a Deployment that is there, or its defaults.
pub(super) fn sync_value(deployment: Option<&Json>, defaults: &Defaults) -> Value {
    let none = Json::Null;
    let live = deployment.unwrap_or(&none);
    let pod = &live["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let or = |value: &Json, default: &str| Value::from(value.as_str().unwrap_or(default));
    let strings = |value: &Json, keep: &dyn Fn(&str, &str) -> bool| {
        let members = value.as_object().into_iter().flatten();
        let kept = members.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let kept: Vec<(&str, Value)> = kept
            .filter(|(name, value)| keep(name, value))
            .map(|(name, value)| (name, Value::from(value)))
            .collect();
        if kept.is_empty() {
            Value::Null
        } else {
            Value::object(kept)
        }
    };
    let selector = match strings(&pod["nodeSelector"], &|_, _| true) {
        Value::Null => Value::object([(NODES.0, Value::from(NODES.1))]),
        selector => selector,
    };
    let tolerations = pod["tolerations"].as_array().map(|all| {
        let each = all.iter().map(|it| {
            Value::object([
                ("key", Value::from(it["key"].as_str())),
                ("operator", or(&it["operator"], "Equal")),
                ("value", Value::from(it["value"].as_str())),
                ("effect", Value::from(it["effect"].as_str())),
                (
                    "toleration_seconds",
                    it["tolerationSeconds"].as_i64().map_or(Value::Null, Value::from),
                ),
            ])
        });
        Value::List(each.collect())
    });
    let pull_secrets = pod["imagePullSecrets"].as_array().map(|all| {
        let names = all.iter().filter_map(|it| it["name"].as_str());
        Value::List(names.map(Value::from).collect())
    });
    let is_own = |name: &str, value: &str| {
        name != MANAGED_BY.0 && defaults.labels.get(name).is_none_or(|it| it != value)
    };
    let is_written = |name: &str, _: &str| {
        !name.starts_with(BOOKKEEPING) && !name.starts_with("deployment.kubernetes.io/")
    };
    let resources = &container["resources"];
    Value::object([
        ("image", or(&container["image"], IMAGE)),
        (
            "replicas",
            Value::from(live["spec"]["replicas"].as_i64().unwrap_or(1)),
        ),
        (
            "resources",
            Value::object([
                ("cpu_request", or(&resources["requests"]["cpu"], REQUESTS.0)),
                ("memory_request", or(&resources["requests"]["memory"], REQUESTS.1)),
                ("cpu_limit", or(&resources["limits"]["cpu"], LIMITS.0)),
                ("memory_limit", or(&resources["limits"]["memory"], LIMITS.1)),
            ]),
        ),
        ("node_selector", selector),
        ("tolerations", tolerations.unwrap_or(Value::Null)),
        (
            "priority_class_name",
            Value::from(pod["priorityClassName"].as_str()),
        ),
        ("image_pull_secrets", pull_secrets.unwrap_or(Value::Null)),
        ("labels", strings(&live["metadata"]["labels"], &is_own)),
        (
            "annotations",
            strings(&live["metadata"]["annotations"], &is_written),
        ),
    ])
}

/// How the cluster's API is reached, over what the provider block says.
pub(in crate::provider) fn read_kubernetes(
    block: Option<&Reader<'_>>,
    default: &Connection,
) -> Result<Connection, Diagnostic> {
    let Some(block) = block else {
        return Ok(default.clone());
    };
    let text = |name: &str| Ok::<_, Diagnostic>(block.opt_string(name)?.map(str::to_owned));
    let credential = match block.opt_string("credential")? {
        None => default.credential,
        Some("entra") => Credential::Entra,
        Some("user") => Credential::User,
        Some("admin") => Credential::Admin,
        Some(_) => Credential::Auto,
    };
    Ok(Connection {
        credential,
        proxy_url: text("proxy_url")?.or_else(|| default.proxy_url.clone()),
        server: text("server")?,
        tls_server_name: text("tls_server_name")?,
    })
}

/// When Secrets are read.
pub(super) fn read_read_secret(verify: &Reader<'_>) -> Result<ReadSecret, Diagnostic> {
    Ok(match verify.opt_string("read_secret")? {
        Some("always") => ReadSecret::Always,
        Some("never") => ReadSecret::Never,
        _ => ReadSecret::Apply,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pinned_by_tag_or_digest() {
        let rows = [
            (IMAGE, true),
            ("registry:5000/busybox:1.36", true),
            ("busybox@sha256:0123", true),
            ("registry:5000/busybox", false),
            ("busybox:latest", false),
            ("busybox", false),
            ("busybox:", false),
        ];
        for (text, is_good) in rows {
            let found = image(&Value::from(text), &AttributePath::of("image"));
            assert_eq!(found.is_empty(), is_good, "{text}");
        }
    }

    #[test]
    fn quantities_are_numbers_with_a_unit() {
        for good in ["10m", "0.5", "1", "16Mi", "1G"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "m", "0", "-1", "16mi", "1 Mi"] {
            assert!(!is_quantity(bad), "{bad}");
        }
        for (less, more) in [("50m", "0.1"), ("1000k", "1Mi"), ("1Gi", "2G"), ("16Mi", "32Mi")] {
            assert!(amount(less) < amount(more), "{less} {more}");
        }
    }
}
