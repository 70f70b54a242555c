//! Pod Security: the standards `baseline` and `restricted`, as the labels of a namespace ask for them.
//!
//! `enforce` is judged on pods, `warn` also on the templates of what makes pods, so a Deployment is taken and its
//! ReplicaSet fails. Judged are the newest rules, whichever version a label pins, and the words name that version.

use std::collections::BTreeSet;

use serde_json::Value;

use super::kinds::Kind;
use super::refusal::{Cause, Outcome, Refusal};
use super::store::{Store, at, meta, text_at};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How much a pod may do, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level, and the version of its rules as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standard {
    level: Level,
    version: String,
}

/// What a namespace asks for.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    enforce: Standard,
    warn: Standard,
}

/// Judges an object that is created or changed; what it is warned about is the answer.
///
/// # Errors
/// A pod that violates what its namespace enforces; a namespace whose labels are no policy.
pub(super) fn judge(
    store: &Store,
    kind: &Kind,
    object: &Value,
    live: Option<&Value>,
) -> Outcome<Vec<String>> {
    if kind.is("", "namespaces") {
        return judge_namespace(store, object, live);
    }
    let Some((metadata, spec)) = template(kind, object) else {
        return Ok(Vec::new());
    };
    let is_pod = kind.is("", "pods");
    if is_pod && live.is_some_and(|live| images(live) == images(object)) {
        return Ok(Vec::new());
    }
    let Some(namespace) = store.get_at("", "namespaces", "", meta(object, "namespace")) else {
        return Ok(Vec::new());
    };
    let (policy, _) = Policy::of(&namespace);
    if is_pod && let Some(violations) = policy.enforce.violations(metadata, spec) {
        let why = format!(
            "violates PodSecurity {:?}: {violations}",
            policy.enforce.to_string()
        );
        return Err(Refusal::forbidden("pods", meta(object, "name"), &why));
    }
    let violations = policy.warn.violations(metadata, spec);
    Ok(violations
        .map(|violations| {
            format!(
                "would violate PodSecurity {:?}: {violations}",
                policy.warn.to_string()
            )
        })
        .into_iter()
        .collect())
}

/// Labels that are no policy are refused when they come; a stricter one is held against the pods that are there.
fn judge_namespace(store: &Store, object: &Value, live: Option<&Value>) -> Outcome<Vec<String>> {
    let (policy, errors) = Policy::of(object);
    let (before, known) = live.map(Policy::of).unzip();
    if !errors.is_empty() && known.as_ref() != Some(&errors) {
        return Err(Refusal::invalid("Namespace", meta(object, "name"), &errors));
    }
    let Some(before) = before else {
        return Ok(Vec::new());
    };
    let (new, old) = (&policy.enforce, &before.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new.level == Level::Privileged || relaxed {
        return Ok(Vec::new());
    }
    let name = meta(object, "name");
    let mut found = std::collections::BTreeMap::<String, BTreeSet<String>>::new();
    for ((namespace, pod), object) in store.all("", "pods") {
        if namespace == name {
            let reasons: Vec<_> = violations(new.level, &object["metadata"], &object["spec"])
                .into_iter()
                .map(|(reason, _)| reason)
                .collect();
            if !reasons.is_empty() {
                found.entry(reasons.join(", ")).or_default().insert(pod.clone());
            }
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines: Vec<_> = found
        .iter()
        .map(|(reasons, pods)| {
            let others = match pods.len() - 1 {
                0 => String::new(),
                1 => " (and 1 other pod)".to_owned(),
                more => format!(" (and {more} other pods)"),
            };
            let first = pods.first().map_or("", String::as_str);
            format!("{first}{others}: {reasons}")
        })
        .collect();
    lines.sort();
    let head = format!(
        "existing pods in namespace {name:?} violate the new PodSecurity enforce level {:?}",
        new.to_string()
    );
    lines.insert(0, head);
    Ok(lines)
}

/// Metadata and specification of the pods that an object is, or makes.
fn template<'a>(kind: &Kind, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let of = match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => object,
        ("apps", "deployments" | "replicasets" | "daemonsets") => &object["spec"]["template"],
        _ => return None,
    };
    of["spec"].is_object().then_some((&of["metadata"], &of["spec"]))
}

/// What of an existing pod can change and matters.
fn images(pod: &Value) -> Vec<&str> {
    containers(&pod["spec"])
        .map(|one| text_at(one, &["image"]))
        .collect()
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        write!(f, "{level}:{}", self.version)
    }
}

impl Standard {
    fn violations(&self, metadata: &Value, spec: &Value) -> Option<String> {
        let all = violations(self.level, metadata, spec);
        let all: Vec<_> = all
            .into_iter()
            .map(|(reason, detail)| format!("{reason} ({detail})"))
            .collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

impl Policy {
    /// The policy in a namespace's labels, and what is wrong with them.
    fn of(namespace: &Value) -> (Self, Vec<Cause>) {
        let label = |name: &str| {
            let label = format!("{PREFIX}{name}");
            let value = at(namespace, &["metadata", "labels", &label])?.as_str()?;
            Some((format!("metadata.labels[{label}]"), value))
        };
        let mut errors = Vec::new();
        let mut level = |name: &str, broken: Level| {
            let (field, value) = label(name)?;
            let known = match value {
                "privileged" => Some(Level::Privileged),
                "baseline" => Some(Level::Baseline),
                "restricted" => Some(Level::Restricted),
                _ => None,
            };
            if known.is_none() {
                let why = "must be one of privileged, baseline, restricted";
                errors.push(Cause::invalid(field, &Value::from(value), why));
            }
            Some((known.unwrap_or(broken), known.is_some()))
        };
        let enforced = level("enforce", Level::Restricted);
        level("audit", Level::Privileged);
        let warned = level("warn", Level::Privileged);
        let mut version = |name: &str| {
            let (field, value) = label(name)?;
            let minor = value
                .strip_prefix("v1.")
                .and_then(|minor| minor.parse::<u8>().ok());
            if value != "latest" && minor.is_none() {
                let why = "must be \"latest\" or \"v1.x\"";
                errors.push(Cause::invalid(field, &Value::from(value), why));
                return Some("latest".to_owned());
            }
            Some(value.to_owned())
        };
        let enforced_version = version("enforce-version");
        version("audit-version");
        let warned_version = version("warn-version");
        let enforce = Standard {
            level: enforced.map_or(Level::Privileged, |(level, _)| level),
            version: enforced_version.unwrap_or_else(|| "latest".to_owned()),
        };
        let mut warn = Standard {
            level: warned.map_or(Level::Privileged, |(level, _)| level),
            version: warned_version.clone().unwrap_or_else(|| "latest".to_owned()),
        };
        let is_meant = enforced.is_some_and(|(_, is_meant)| is_meant);
        if warned.is_none() && is_meant && enforce.level > warn.level {
            warn.level = enforce.level;
            if warned_version.is_none() {
                warn.version.clone_from(&enforce.version);
            }
        }
        (Self { enforce, warn }, errors)
    }
}

/// First, ordinary and ephemeral containers.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten())
}

/// What a level forbids, with where it is: reason and detail.
fn violations(level: Level, metadata: &Value, spec: &Value) -> Vec<(String, String)> {
    let subject = Subject { metadata, spec };
    if level == Level::Privileged {
        return Vec::new();
    }
    let restricted = level == Level::Restricted;
    // In the order of their names in the original, baseline first; some restricted rules stand for baseline ones.
    let mut found = vec![
        subject.app_armor(),
        (!restricted).then(|| subject.capabilities_added()).flatten(),
        subject.host_namespaces(),
        (!restricted).then(|| subject.host_paths()).flatten(),
        subject.host_ports(),
        subject.probe_hosts(),
        subject.privileged(),
        subject.proc_mounts(),
        subject.selinux(),
        (!restricted).then(|| subject.seccomp(false)).flatten(),
        subject.sysctls(),
        subject.host_process(),
    ];
    if restricted {
        let windows = text_at(spec, &["os", "name"]) == "windows";
        found.extend([
            (!windows).then(|| subject.escalation()).flatten(),
            (!windows).then(|| subject.capabilities()).flatten(),
            subject.volumes(),
            subject.non_root(),
            subject.root(),
            (!windows).then(|| subject.seccomp(true)).flatten(),
        ]);
    }
    found.into_iter().flatten().collect()
}

type Violation = Option<(String, String)>;

/// A pod as the rules see it.
struct Subject<'a> {
    metadata: &'a Value,
    spec: &'a Value,
}

impl Subject<'_> {
    /// The names of the containers that a rule is true of.
    fn named(&self, is: impl Fn(&Value) -> bool) -> Vec<String> {
        containers(self.spec)
            .filter(|one| is(one))
            .map(|one| text_at(one, &["name"]).to_owned())
            .collect()
    }

    /// `pod and container "a"`, of those who set something; nothing if nobody does.
    fn setters(&self, is: impl Fn(&Value) -> bool) -> Vec<String> {
        let mut all = Vec::new();
        if self.spec["securityContext"].is_object() && is(&self.spec["securityContext"]) {
            all.push("pod".to_owned());
        }
        let named = self.named(|one| one["securityContext"].is_object() && is(&one["securityContext"]));
        if !named.is_empty() {
            all.push(of_containers(&named));
        }
        all
    }

    /// The values that security contexts of pod and containers have at a path.
    fn values(&self, path: &[&str]) -> BTreeSet<String> {
        let contexts = containers(self.spec).map(|one| &one["securityContext"]);
        std::iter::once(&self.spec["securityContext"])
            .chain(contexts)
            .filter_map(|context| at(context, path)?.as_str().map(str::to_owned))
            .collect()
    }

    fn app_armor(&self) -> Violation {
        const KEY: &str = "container.apparmor.security.beta.kubernetes.io/";
        let path = &["appArmorProfile", "type"];
        let is_bad = |word: &str| !matches!(word, "RuntimeDefault" | "Localhost");
        let mut setters =
            self.setters(|context| at(context, path).and_then(Value::as_str).is_some_and(is_bad));
        let mut values: Vec<_> = self
            .values(path)
            .into_iter()
            .filter(|word| is_bad(word))
            .collect();
        let annotations = self.metadata["annotations"].as_object();
        let mut bad: Vec<_> = annotations
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.strip_prefix(KEY)?, value.as_str()?)))
            .filter(|(_, value)| {
                !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/"))
            })
            .map(|(name, value)| format!("{KEY}{name}={value:?}"))
            .collect();
        if !bad.is_empty() {
            setters.push(plural("annotation", "annotations", bad.len()).to_owned());
            bad.sort();
            values.append(&mut bad);
        }
        let reason = plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        );
        violation(!setters.is_empty(), reason, || {
            format!(
                "{} must not set AppArmor profile type to {}",
                setters.join(" and "),
                quoted(&values)
            )
        })
    }

    fn capabilities_added(&self) -> Violation {
        const ALLOWED: &[&str] = &[
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "MKNOD",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        self.adding(|word| !ALLOWED.contains(&word))
            .map(|detail| ("non-default capabilities".to_owned(), detail))
    }

    /// Who adds capabilities of this kind.
    fn adding(&self, is_bad: impl Fn(&str) -> bool) -> Option<String> {
        let added = |one: &Value| -> Vec<String> {
            let list = at(one, &["securityContext", "capabilities", "add"]).and_then(Value::as_array);
            let words = list.into_iter().flatten().filter_map(Value::as_str);
            words.filter(|word| is_bad(word)).map(str::to_owned).collect()
        };
        let named = self.named(|one| !added(one).is_empty());
        let values: BTreeSet<_> = containers(self.spec).flat_map(added).collect();
        (!named.is_empty()).then(|| {
            let values: Vec<_> = values.into_iter().collect();
            let (who, what) = (of_containers(&named), quoted(&values));
            format!("{who} must not include {what} in securityContext.capabilities.add")
        })
    }

    fn host_namespaces(&self) -> Violation {
        let set: Vec<_> = ["hostNetwork", "hostPID", "hostIPC"]
            .into_iter()
            .filter(|member| self.spec[*member] == true)
            .map(|member| format!("{member}=true"))
            .collect();
        violation(!set.is_empty(), "host namespaces", || set.join(", "))
    }

    fn host_paths(&self) -> Violation {
        let named: Vec<_> = volumes(self.spec)
            .filter(|volume| volume.get("hostPath").is_some())
            .map(|volume| text_at(volume, &["name"]).to_owned())
            .collect();
        violation(!named.is_empty(), "hostPath volumes", || {
            format!("{} {}", plural("volume", "volumes", named.len()), quoted(&named))
        })
    }

    fn host_ports(&self) -> Violation {
        let of = |one: &Value| -> Vec<i64> {
            let ports = one["ports"].as_array().into_iter().flatten();
            let ports = ports.filter_map(|port| port["hostPort"].as_i64());
            ports.filter(|port| *port != 0).collect()
        };
        let named = self.named(|one| !of(one).is_empty());
        let ports: BTreeSet<_> = containers(self.spec)
            .flat_map(of)
            .map(|port| port.to_string())
            .collect();
        violation(!named.is_empty(), "hostPort", || {
            let ports: Vec<_> = ports.into_iter().collect();
            format!(
                "{} {} {} {}",
                of_containers(&named),
                plural("uses", "use", named.len()),
                plural("hostPort", "hostPorts", ports.len()),
                ports.join(", ")
            )
        })
    }

    fn probe_hosts(&self) -> Violation {
        let of = |one: &Value| -> Vec<String> {
            let handlers = [
                &one["livenessProbe"],
                &one["readinessProbe"],
                &one["startupProbe"],
                &one["lifecycle"]["postStart"],
                &one["lifecycle"]["preStop"],
            ];
            let hosts = handlers.into_iter().flat_map(|handler| {
                [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]]
                    .into_iter()
                    .filter_map(Value::as_str)
            });
            hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect()
        };
        let named: BTreeSet<_> = self.named(|one| !of(one).is_empty()).into_iter().collect();
        let named: Vec<_> = named.into_iter().collect();
        let hosts: BTreeSet<_> = containers(self.spec).flat_map(of).collect();
        violation(!named.is_empty(), "probe or lifecycle host", || {
            let hosts: Vec<_> = hosts.into_iter().collect();
            format!(
                "{} {} {} {}",
                of_containers(&named),
                plural("uses", "use", named.len()),
                plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
                quoted(&hosts)
            )
        })
    }

    fn privileged(&self) -> Violation {
        let named = self.named(|one| one["securityContext"]["privileged"] == true);
        violation(!named.is_empty(), "privileged", || {
            format!(
                "{} must not set securityContext.privileged=true",
                of_containers(&named)
            )
        })
    }

    fn proc_mounts(&self) -> Violation {
        let path = &["procMount"];
        let is_bad = |word: &str| word != "Default";
        let bad = |one: &Value| {
            at(&one["securityContext"], path)
                .and_then(Value::as_str)
                .is_some_and(is_bad)
        };
        let named = self.named(bad);
        violation(!named.is_empty(), "procMount", || {
            let values: Vec<_> = self
                .values(path)
                .into_iter()
                .filter(|word| is_bad(word))
                .collect();
            format!(
                "{} must not set securityContext.procMount to {}",
                of_containers(&named),
                quoted(&values)
            )
        })
    }

    fn selinux(&self) -> Violation {
        const ALLOWED: &[&str] = &[
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ];
        let word = |context: &Value, member: &str| text_at(context, &["seLinuxOptions", member]).to_owned();
        let setters = self.setters(|context| {
            !ALLOWED.contains(&word(context, "type").as_str())
                || !word(context, "user").is_empty()
                || !word(context, "role").is_empty()
        });
        violation(!setters.is_empty(), "seLinuxOptions", || {
            let types: Vec<_> = self
                .values(&["seLinuxOptions", "type"])
                .into_iter()
                .filter(|word| !ALLOWED.contains(&word.as_str()))
                .collect();
            let mut what = Vec::new();
            if !types.is_empty() {
                what.push(format!(
                    "{} {}",
                    plural("type", "types", types.len()),
                    quoted(&types)
                ));
            }
            for member in ["user", "role"] {
                if self
                    .values(&["seLinuxOptions", member])
                    .iter()
                    .any(|word| !word.is_empty())
                {
                    what.push(format!("{member} may not be set"));
                }
            }
            let who = setters.join(" and ");
            format!(
                "{who} set forbidden securityContext.seLinuxOptions: {}",
                what.join("; ")
            )
        })
    }

    /// Whoever sets a profile sets a good one; `required`: somebody sets one for every container.
    fn seccomp(&self, required: bool) -> Violation {
        let path = &["seccompProfile", "type"];
        let of = |context: &Value| at(context, path).and_then(Value::as_str).map(str::to_owned);
        let is_bad = |word: &str| !matches!(word, "RuntimeDefault" | "Localhost");
        let setters = self.setters(|context| of(context).is_some_and(|word| is_bad(&word)));
        if !setters.is_empty() {
            let values: Vec<_> = self
                .values(path)
                .into_iter()
                .filter(|word| is_bad(word))
                .collect();
            let (who, what) = (setters.join(" and "), quoted(&values));
            let detail = format!("{who} must not set securityContext.seccompProfile.type to {what}");
            return Some(("seccompProfile".to_owned(), detail));
        }
        if !required || of(&self.spec["securityContext"]).is_some() {
            return None;
        }
        let named = self.named(|one| of(&one["securityContext"]).is_none());
        violation(!named.is_empty(), "seccompProfile", || {
            format!(
                "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
                of_containers(&named)
            )
        })
    }

    fn sysctls(&self) -> Violation {
        const ALLOWED: &[&str] = &[
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range",
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.ip_local_reserved_ports",
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
            "net.ipv4.tcp_rmem",
            "net.ipv4.tcp_wmem",
        ];
        let set = at(self.spec, &["securityContext", "sysctls"]).and_then(Value::as_array);
        let names = set.into_iter().flatten().filter_map(|one| one["name"].as_str());
        let bad: Vec<_> = names.filter(|name| !ALLOWED.contains(name)).collect();
        violation(!bad.is_empty(), "forbidden sysctls", || bad.join(", "))
    }

    fn host_process(&self) -> Violation {
        let setters = self.setters(|context| context["windowsOptions"]["hostProcess"] == true);
        violation(!setters.is_empty(), "hostProcess", || {
            let who = setters.join(" and ");
            format!("{who} must not set securityContext.windowsOptions.hostProcess=true")
        })
    }

    fn escalation(&self) -> Violation {
        let named = self.named(|one| one["securityContext"]["allowPrivilegeEscalation"] != false);
        violation(!named.is_empty(), "allowPrivilegeEscalation != false", || {
            let who = of_containers(&named);
            format!("{who} must set securityContext.allowPrivilegeEscalation=false")
        })
    }

    fn capabilities(&self) -> Violation {
        let named = self.named(|one| {
            let dropped = at(one, &["securityContext", "capabilities", "drop"]).and_then(Value::as_array);
            !dropped.is_some_and(|all| all.iter().any(|word| word == "ALL"))
        });
        let mut details = Vec::new();
        if !named.is_empty() {
            let who = of_containers(&named);
            details.push(format!(
                "{who} must set securityContext.capabilities.drop=[\"ALL\"]"
            ));
        }
        details.extend(self.adding(|word| word != "NET_BIND_SERVICE"));
        violation(!details.is_empty(), "unrestricted capabilities", || {
            details.join("; ")
        })
    }

    fn volumes(&self) -> Violation {
        const ALLOWED: &[&str] = &[
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "image",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let source = |volume: &Value| {
            let mut members = volume.as_object().into_iter().flatten();
            members
                .find(|(member, _)| *member != "name")
                .map(|(member, _)| member.clone())
        };
        let bad: Vec<_> = volumes(self.spec)
            .map(|volume| {
                (
                    text_at(volume, &["name"]).to_owned(),
                    source(volume).unwrap_or("unknown".to_owned()),
                )
            })
            .filter(|(_, source)| !ALLOWED.contains(&source.as_str()))
            .collect();
        let names: Vec<_> = bad.iter().map(|(name, _)| name.clone()).collect();
        let sources: BTreeSet<_> = bad.into_iter().map(|(_, source)| source).collect();
        violation(!names.is_empty(), "restricted volume types", || {
            let sources: Vec<_> = sources.into_iter().collect();
            format!(
                "{} {} {} {} {}",
                plural("volume", "volumes", names.len()),
                quoted(&names),
                plural("uses", "use", names.len()),
                plural("restricted volume type", "restricted volume types", sources.len()),
                quoted(&sources)
            )
        })
    }

    fn non_root(&self) -> Violation {
        const REASON: &str = "runAsNonRoot != true";
        let setters = self.setters(|context| context["runAsNonRoot"] == false);
        if !setters.is_empty() {
            let who = setters.join(" and ");
            let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
            return Some((REASON.to_owned(), detail));
        }
        if self.spec["securityContext"]["runAsNonRoot"] == true {
            return None;
        }
        let named = self.named(|one| !one["securityContext"]["runAsNonRoot"].is_boolean());
        violation(!named.is_empty(), REASON, || {
            let who = of_containers(&named);
            format!("pod or {who} must set securityContext.runAsNonRoot=true")
        })
    }

    fn root(&self) -> Violation {
        let setters = self.setters(|context| context["runAsUser"] == 0);
        violation(!setters.is_empty(), "runAsUser=0", || {
            format!("{} must not set runAsUser=0", setters.join(" and "))
        })
    }
}

fn volumes(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["volumes"].as_array().into_iter().flatten()
}

fn violation(is: bool, reason: &str, detail: impl FnOnce() -> String) -> Violation {
    is.then(|| (reason.to_owned(), detail()))
}

fn plural(one: &'static str, many: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { many }
}

fn quoted(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    words.join(", ")
}

fn of_containers(names: &[String]) -> String {
    format!(
        "{} {}",
        plural("container", "containers", names.len()),
        quoted(names)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(level: Level, spec: &Value) -> String {
        let standard = Standard {
            level,
            version: "latest".to_owned(),
        };
        standard.violations(&Value::Null, spec).unwrap_or_default()
    }

    #[test]
    fn a_plain_pod_is_baseline_and_not_restricted() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(said(Level::Baseline, &spec), "");
        assert_eq!(
            said(Level::Restricted, &spec),
            "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn a_hardened_pod_is_restricted() {
        let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        let spec = json!({
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": context}],
            "volumes": [{"name": "v", "csi": {"driver": "secrets-store.csi.k8s.io"}}],
        });
        assert_eq!(said(Level::Restricted, &spec), "");
        let mut root = spec.clone();
        root["containers"][0]["securityContext"]["runAsUser"] = json!(0);
        assert_eq!(
            said(Level::Restricted, &root),
            "runAsUser=0 (container \"a\" must not set runAsUser=0)"
        );
    }

    #[test]
    fn what_reaches_the_host_is_not_baseline() {
        let spec = json!({
            "hostNetwork": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
            "containers": [{"name": "a", "ports": [{"hostPort": 80}],
                "securityContext": {"privileged": true, "capabilities": {"add": ["NET_ADMIN"]}}}],
        });
        assert_eq!(
            said(Level::Baseline, &spec),
            "non-default capabilities (container \"a\" must not include \"NET_ADMIN\" in securityContext.capabilities.add), \
             host namespaces (hostNetwork=true), hostPath volumes (volume \"v\"), hostPort (container \"a\" uses hostPort 80), \
             privileged (container \"a\" must not set securityContext.privileged=true)"
        );
    }

    #[test]
    fn labels_become_a_policy() {
        let policy = |labels: Value| Policy::of(&json!({"metadata": {"labels": labels}}));
        let (asked, errors) = policy(json!({"pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/enforce-version": "v1.34"}));
        assert!(errors.is_empty());
        assert_eq!(asked.enforce.to_string(), "baseline:v1.34");
        assert_eq!(
            asked.warn.to_string(),
            "baseline:v1.34",
            "who is refused is warned before"
        );
        let (asked, errors) = policy(json!({"pod-security.kubernetes.io/enforce": "strict",
            "pod-security.kubernetes.io/warn-version": "2"}));
        assert_eq!(
            asked.enforce.level,
            Level::Restricted,
            "a level that is none is the strictest"
        );
        assert_eq!(asked.warn.level, Level::Privileged);
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]",
                "metadata.labels[pod-security.kubernetes.io/warn-version]"
            ]
        );
    }
}
