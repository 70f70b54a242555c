//! Names, labels and the rest of metadata.

use serde_json::Value;

use crate::sandbox::kubernetes::kinds::Kind;
use crate::sandbox::kubernetes::refusal::Cause;
use crate::sandbox::kubernetes::store::{at, meta};

pub(super) const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
pub(super) const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub(super) const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// `a`, `a-b`.
pub(super) fn is_label(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(|c| fine(c) || c == '-')
        && text.starts_with(fine)
        && text.ends_with(fine)
}

/// `a.b`.
pub(super) fn is_subdomain(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        part.chars().all(|c| fine(c) || c == '-') && part.starts_with(fine) && part.ends_with(fine)
    };
    !text.is_empty() && text.len() <= 253 && text.split('.').all(part)
}

/// A label that starts with a letter.
pub(super) fn is_dns_1035(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_label_value(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= 63
            && text.chars().all(|c| fine(c) || "-_.".contains(c))
            && text.starts_with(fine)
            && text.ends_with(fine)
}

fn is_qualified(text: &str) -> bool {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// Checks the metadata of an object.
pub(super) fn check_metadata(kind: &Kind, object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let name = meta(object, "name");
    let value = Value::from(name);
    let rbac = kind.group == "rbac.authorization.k8s.io";
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if rbac {
        if name.contains(['/', '%']) || name == "." || name == ".." {
            causes.push(Cause::invalid(
                "metadata.name",
                &value,
                "may not contain '/' or '%'",
            ));
        }
    } else if kind.is("", "namespaces") {
        if !is_label(name) {
            causes.push(Cause::invalid("metadata.name", &value, LABEL));
        }
    } else if kind.is("", "services") {
        if !is_dns_1035(name) {
            causes.push(Cause::invalid("metadata.name", &value, DNS_1035));
        }
    } else if !is_subdomain(name) {
        causes.push(Cause::invalid("metadata.name", &value, SUBDOMAIN));
    }
    check_labels(at(object, &["metadata", "labels"]), "metadata.labels", causes);
    let annotations = at(object, &["metadata", "annotations"]).and_then(Value::as_object);
    for key in annotations.into_iter().flatten().map(|(key, _)| key) {
        if !is_qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid(
                "metadata.annotations",
                &Value::from(key.as_str()),
                QUALIFIED,
            ));
        }
    }
    let Some(live) = live.filter(|live| !meta(live, "deletionTimestamp").is_empty()) else {
        return;
    };
    let finalizers = |object: &Value| {
        at(object, &["metadata", "finalizers"])
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let old = finalizers(live);
    let added: Vec<_> = finalizers(object)
        .into_iter()
        .filter(|one| !old.contains(one))
        .collect();
    if !added.is_empty() {
        let list: Vec<_> = added.iter().map(ToString::to_string).collect();
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            list.join(", ")
        );
        // Once for the object and once for its update, as in the original.
        causes.extend([0, 1].map(|_| Cause::forbidden("metadata.finalizers", &why)));
    }
}

/// Checks the keys and values of labels.
pub(super) fn check_labels(labels: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        if !is_qualified(key) {
            causes.push(Cause::invalid(path, &Value::from(key.as_str()), QUALIFIED));
        }
        if value.as_str().is_some_and(|value| !is_label_value(value)) {
            causes.push(Cause::invalid(path, value, LABEL_VALUE));
        }
    }
}
