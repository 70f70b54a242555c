//! Label and field selectors.

use serde_json::{Map, Value};

use super::kinds::Kind;
use super::refusal::{Outcome, Refusal};
use super::store::{at, text_at};

/// Kinds that select by more than name and namespace.
const OWN_SELECTORS: &[&str] = &["pods", "nodes", "events", "secrets", "namespaces", "services"];

/// What a list or watch is restricted to.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Requirement {
    fn holds(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels
            .and_then(|labels| labels.get(&self.key))
            .and_then(Value::as_str);
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
        }
    }
}

impl Selector {
    /// Parses the two query parameters.
    pub(super) fn parse(kind: &Kind, labels: &str, fields: &str) -> Outcome<Self> {
        let labels = parse_labels(labels).map_err(Refusal::bad_request)?;
        let mut parsed = Vec::new();
        for term in fields.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let (key, equal, value) = parse_field(term).ok_or_else(|| {
                Refusal::bad_request(format!("invalid selector: '{term}'; can't understand '{term}'"))
            })?;
            if !supports(kind, key) {
                // Kinds with selectors of their own say it in their own words.
                let message = if OWN_SELECTORS.contains(&kind.plural.as_str()) {
                    format!("field label not supported: {key}")
                } else {
                    format!(
                        "{key:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    )
                };
                return Err(Refusal::bad_request(message));
            }
            parsed.push((key.to_owned(), equal, value.to_owned()));
        }
        Ok(Self {
            labels,
            fields: parsed,
        })
    }

    /// Everything, restricted to one name.
    pub(super) fn name(name: &str) -> Self {
        Self {
            labels: Vec::new(),
            fields: vec![("metadata.name".to_owned(), true, name.to_owned())],
        }
    }

    /// Whether an object is selected.
    pub(super) fn covers(&self, object: &Value) -> bool {
        let labels = at(object, &["metadata", "labels"]).and_then(Value::as_object);
        self.labels.iter().all(|requirement| requirement.holds(labels))
            && self
                .fields
                .iter()
                .all(|(key, equal, value)| (field(object, key) == *value) == *equal)
    }
}

fn field(object: &Value, key: &str) -> String {
    let path: Vec<_> = key.split('.').collect();
    match at(object, &path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        // The original's own defaults, which its selectors see.
        _ if key == "spec.unschedulable" || key == "spec.hostNetwork" => "false".to_owned(),
        _ if key == "source" => text_at(object, &["source", "component"]).to_owned(),
        _ => String::new(),
    }
}

fn supports(kind: &Kind, key: &str) -> bool {
    let more: &[&str] = match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("apps", "replicasets") => &["status.replicas"],
        _ => &[],
    };
    key == "metadata.name" || (key == "metadata.namespace" && kind.namespaced) || more.contains(&key)
}

fn parse_field(term: &str) -> Option<(&str, bool, &str)> {
    if let Some((key, value)) = term.split_once("!=") {
        return Some((key.trim(), false, value.trim()));
    }
    let (key, value) = term.split_once("==").or_else(|| term.split_once('='))?;
    Some((key.trim(), true, value.trim()))
}

/// Splits at commas outside parentheses.
fn terms(text: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.extend(text.get(start..));
    found.into_iter().map(str::trim).collect()
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let terms = terms(text);
    let last = terms.len() - 1;
    let parse = |(index, term): (usize, &str)| match term {
        "" if index == 0 => Err("found ',', expected: !, identifier, or 'end of string'".to_owned()),
        "" if index == last => Err("found '', expected: identifier after ','".to_owned()),
        "" => Err("found ',', expected: identifier after ','".to_owned()),
        term => parse_label(term).map_err(|why| format!("unable to parse requirement: {why}")),
    };
    terms.into_iter().enumerate().map(parse).collect()
}

fn parse_label(term: &str) -> Result<Requirement, String> {
    let requirement = |key: &str, test| {
        let key = key.trim().to_owned();
        if let Some((_, second)) = key.split_once(char::is_whitespace) {
            let second = second.trim();
            return Err(format!(
                "found '{second}', expected: in, notin, =, ==, !=, gt, lt"
            ));
        }
        if key.is_empty() {
            return Err(format!("<nil>: Invalid value: {key:?}"));
        }
        Ok(Requirement { key, test })
    };
    if let Some((left, values)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let left = left.trim();
        return if let Some(key) = left.strip_suffix(" notin") {
            requirement(key, Test::NotIn(values))
        } else if let Some(key) = left.strip_suffix(" in") {
            requirement(key, Test::In(values))
        } else {
            Err(format!("found '(', expected: identifier in {term:?}"))
        };
    }
    if let Some(key) = term.strip_prefix('!') {
        requirement(key, Test::Absent)
    } else if let Some((key, value)) = term.split_once("!=") {
        requirement(key, Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        requirement(key, Test::In(vec![value.trim().to_owned()]))
    } else {
        requirement(term, Test::Exists)
    }
}

/// Whether a `LabelSelector` object selects these labels; an empty one selects everything.
pub(super) fn matches(selector: &Value, labels: Option<&Map<String, Value>>) -> bool {
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let equal = wanted
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    equal
        && expressions.into_iter().flatten().all(|expression| {
            let values = expression.get("values").and_then(Value::as_array);
            let values = values
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect::<Vec<_>>();
            let test = match text_at(expression, &["operator"]) {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" => Test::Exists,
                _ => Test::Absent,
            };
            Requirement {
                key: text_at(expression, &["key"]).to_owned(),
                test,
            }
            .holds(labels)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::kubernetes::kinds::Kinds;

    fn selected(labels: &str, object: &Value) -> bool {
        let kind = Kinds::built_in().find("", "pods").unwrap();
        Selector::parse(&kind, labels, "").unwrap().covers(object)
    }

    #[test]
    fn label_selectors_know_equality_and_sets() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        for text in [
            "app=web",
            "app==web,tier in (front,back)",
            "app,!gone",
            "tier notin (back)",
            "x!=y",
            "",
        ] {
            assert!(selected(text, &object), "{text}");
        }
        for text in [
            "app=other",
            "app in (a,b)",
            "!app",
            "gone",
            "app!=web",
            "app notin (web)",
        ] {
            assert!(!selected(text, &object), "{text}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let kind = Kinds::built_in().find("", "pods").unwrap();
        assert!(Selector::parse(&kind, "", "spec.nodeName=n1,status.phase!=Failed").is_ok());
        let refusal = Selector::parse(&kind, "", "spec.image=x").unwrap_err();
        assert_eq!(
            refusal.status()["message"],
            "field label not supported: spec.image"
        );
    }
}
