//! A request as the API understands it: what it is about, with which parameters, by whom.

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::refusal::{Outcome, Refusal};
use super::server::Identity;
use super::{kinds, protobuf};

/// What typed clients send.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What a resource path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: String,
    pub(super) resource: String,
    pub(super) name: String,
    pub(super) subresource: String,
    /// What follows the subresource.
    pub(super) rest: String,
}

impl Target {
    /// Reads a path below `/api/` or `/apis/`; `None` if it does not name a resource.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/').filter(|part| !part.is_empty()).map(decoded);
        let mut target = Self::default();
        match parts.next()?.as_str() {
            "api" => {}
            "apis" => target.group = parts.next()?,
            _ => return None,
        }
        target.version = parts.next()?;
        let first = parts.next()?;
        if first != "namespaces" {
            target.resource = first;
            target.name = parts.next().unwrap_or_default();
            target.subresource = parts.next().unwrap_or_default();
        } else if let Some(namespace) = parts.next() {
            match parts.next() {
                Some(word) if !(target.group.is_empty() && (word == "status" || word == "finalize")) => {
                    target.namespace = namespace;
                    target.resource = word;
                    target.name = parts.next().unwrap_or_default();
                    target.subresource = parts.next().unwrap_or_default();
                }
                subresource => {
                    target.resource = "namespaces".to_owned();
                    target.name.clone_from(&namespace);
                    target.namespace = namespace;
                    target.subresource = subresource.unwrap_or_default();
                }
            }
        } else {
            target.resource = "namespaces".to_owned();
        }
        target.rest = parts.collect::<Vec<_>>().join("/");
        Some(target)
    }

    /// `deployments.apps`.
    pub(super) fn dotted(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// Where the object lives: empty for cluster scope, also for a namespace itself.
    pub(super) fn place(&self) -> &str {
        if self.group.is_empty() && self.resource == "namespaces" {
            ""
        } else {
            &self.namespace
        }
    }
}

fn decoded(part: &str) -> String {
    // Only `%3A` and the like occur in names of RBAC objects; a form decoder must not turn `+` into a blank.
    let escaped = part.replace('+', "%2B");
    url::form_urlencoded::parse(escaped.as_bytes())
        .next()
        .map_or_else(String::new, |(key, _)| key.into_owned())
}

/// Query parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the query of a URI.
    pub(super) fn parse(text: &str) -> Self {
        Self(
            url::form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The value of a parameter; empty if absent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// Whether a parameter is there and not false.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(key, value)| key == name && !matches!(value.as_str(), "false" | "0"))
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What an answer's objects are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Themselves.
    Whole,
    /// `PartialObjectMetadata`, which stands for one object.
    Metadata,
    /// `PartialObjectMetadataList`, which stands for a list.
    MetadataList,
    /// `Table`, rows for people.
    Table,
}

/// A request, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) target: Target,
    pub(super) query: Query,
    pub(super) user: Identity,
    /// The field manager: as asked, else the first word of the user agent.
    pub(super) manager: String,
    pub(super) content_type: String,
    pub(super) accept: String,
    pub(super) body: Bytes,
    pub(super) now: OffsetDateTime,
}

impl Call {
    /// Takes a request apart; `target` is what its path names.
    pub(super) fn new(
        method: &Method,
        path: &str,
        query: Query,
        headers: &HeaderMap,
        body: Bytes,
        user: Identity,
        now: OffsetDateTime,
    ) -> Self {
        let word = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let agent = word(header::USER_AGENT);
        let manager = match query.get("fieldManager") {
            "" => agent.split('/').next().unwrap_or_default().to_owned(),
            manager => manager.to_owned(),
        };
        let manager = if manager.is_empty() {
            "unknown".to_owned()
        } else {
            manager
        };
        Self {
            method: method.clone(),
            path: path.to_owned(),
            target: Target::parse(path).unwrap_or_default(),
            manager: manager.chars().take(128).collect(),
            content_type: word(header::CONTENT_TYPE),
            accept: word(header::ACCEPT),
            query,
            user,
            body,
            now,
        }
    }

    /// The verb of authorization.
    pub(super) fn verb(&self) -> &'static str {
        let named = !self.target.name.is_empty();
        match (self.method.as_str(), named) {
            ("GET" | "HEAD", true) => "get",
            ("GET" | "HEAD", false) if self.query.flag("watch") => "watch",
            ("GET" | "HEAD", false) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => "unknown",
        }
    }

    /// Whether nothing may be stored.
    pub(super) fn dry_run(&self) -> bool {
        self.query.get("dryRun") == "All"
    }

    /// Now, as Kubernetes writes it.
    pub(super) fn stamp(&self) -> String {
        stamp(self.now)
    }

    /// The form of the answer: the first of those asked for that there is.
    pub(super) fn form(&self) -> Form {
        let mut clauses = self
            .accept
            .split(',')
            .map(|clause| clause.split(';').map(str::trim));
        let found = clauses.find_map(|mut clause| {
            if !matches!(clause.next()?, "application/json" | "*/*" | "application/*") {
                return None;
            }
            match clause.find_map(|parameter| parameter.strip_prefix("as=")) {
                None => Some(Form::Whole),
                Some("PartialObjectMetadata") => Some(Form::Metadata),
                Some("PartialObjectMetadataList") => Some(Form::MetadataList),
                Some("Table") => Some(Form::Table),
                Some(_) => None,
            }
        });
        found.unwrap_or(Form::Whole)
    }

    /// Whether only metadata is wanted.
    pub(super) fn partial(&self) -> bool {
        matches!(self.form(), Form::Metadata | Form::MetadataList)
    }

    /// The body as JSON (or YAML, where a client may send it).
    pub(super) fn json(&self) -> Outcome<Value> {
        let media = self.content_type.split(';').next().unwrap_or_default().trim();
        match media {
            "" | "application/json" | "*/*" => serde_json::from_slice(&self.body).map_err(|error| {
                Refusal::bad_request(format!("the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {error}", self.target.resource))
            }),
            "application/yaml" => self.yaml(),
            PROTOBUF => {
                let read = protobuf::decode(&self.body).map_err(Refusal::bad_request)?;
                read.ok_or_else(|| self.unsupported())
            }
            _ => Err(self.unsupported()),
        }
    }

    /// 415 with what is taken instead.
    fn unsupported(&self) -> Refusal {
        Refusal::unsupported_media_type(&self.formats())
    }

    /// The formats of the original, of which it takes all and answers all.
    pub(super) fn formats(&self) -> String {
        const TEXTS: &str = "application/json, application/yaml";
        if kinds::is_own(&self.target.group) {
            format!("{TEXTS}, {PROTOBUF}")
        } else {
            TEXTS.to_owned()
        }
    }

    /// Whether JSON is among what is asked for; who asks for nothing takes it.
    pub(super) fn takes_json(&self) -> bool {
        let mut media = self.media();
        self.accept.trim().is_empty()
            || media.any(|one| matches!(one, "application/json" | "*/*" | "application/*"))
    }

    /// Whether the original could answer: with JSON or with another of its formats. Here it is JSON then, too.
    pub(super) fn takes_what_there_is(&self) -> bool {
        self.takes_json()
            || self
                .media()
                .any(|one| matches!(one, "application/yaml" | PROTOBUF))
    }

    /// The media types asked for.
    fn media(&self) -> impl Iterator<Item = &str> {
        let clauses = self.accept.split(',');
        clauses.map(|clause| clause.split(';').next().unwrap_or_default().trim())
    }

    /// The body as YAML; JSON is YAML.
    pub(super) fn yaml(&self) -> Outcome<Value> {
        if let Ok(value) = serde_json::from_slice(&self.body) {
            return Ok(value);
        }
        let text = std::str::from_utf8(&self.body)
            .map_err(|error| Refusal::bad_request(format!("error decoding YAML: {error}")))?;
        serde_saphyr::from_str(text)
            .map_err(|error| Refusal::bad_request(format!("error decoding YAML: {error}")))
    }
}

/// A moment as Kubernetes writes it.
pub(super) fn stamp(moment: OffsetDateTime) -> String {
    let whole = moment
        .replace_nanosecond(0)
        .unwrap_or(moment)
        .to_offset(time::UtcOffset::UTC);
    whole.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_collections_objects_and_subresources() {
        let parsed = |path: &str| {
            let t = Target::parse(path).unwrap();
            format!(
                "{}|{}|{}|{}|{}|{}",
                t.group, t.version, t.namespace, t.resource, t.name, t.subresource
            )
        };
        assert_eq!(parsed("/api/v1/pods"), "|v1||pods||");
        assert_eq!(parsed("/api/v1/namespaces"), "|v1||namespaces||");
        assert_eq!(parsed("/api/v1/namespaces/x"), "|v1|x|namespaces|x|");
        assert_eq!(
            parsed("/api/v1/namespaces/x/finalize"),
            "|v1|x|namespaces|x|finalize"
        );
        assert_eq!(
            parsed("/apis/apps/v1/namespaces/x/deployments/d/scale"),
            "apps|v1|x|deployments|d|scale"
        );
        assert_eq!(
            parsed("/apis/r.io/v1/clusterroles/system%3Aa"),
            "r.io|v1||clusterroles|system:a|"
        );
        assert!(Target::parse("/apis/apps/v1").is_none());
    }
}
