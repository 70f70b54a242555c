//! OpenAPI documents: what `kubectl explain` and typed clients of any kind read.
//!
//! Made of the same types that everything is checked against, so they have no descriptions, and no kind that is not
//! served. Custom kinds show the schema of their definition. Strategic merge is not described: kubectl knows it of
//! every built-in kind by itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::discovery::versions_of;
use super::kinds::{Kind, Version};
use super::schema::{self, Listing, Shape, Type};
use super::store::{Store, meta};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_TEXT: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// Types that stand for several of the original's share a name; here they have one of those.
const SAID: &[(&str, &str)] = &[
    ("AccessReview", "SubjectAccessReview"),
    ("CrdColumn", "CustomResourceColumnDefinition"),
    ("CrdConversion", "CustomResourceConversion"),
    ("CrdNames", "CustomResourceDefinitionNames"),
    ("CrdScale", "CustomResourceSubresourceScale"),
    ("CrdSpec", "CustomResourceDefinitionSpec"),
    ("CrdStatus", "CustomResourceDefinitionStatus"),
    ("CrdSubresources", "CustomResourceSubresources"),
    ("CrdValidation", "CustomResourceValidation"),
    ("CrdVersion", "CustomResourceDefinitionVersion"),
    ("EnvFromReference", "ConfigMapEnvSource"),
    ("IngressClassParameters", "IngressClassParametersReference"),
    ("ObjectCondition", "Condition"),
    ("RbacSubject", "Subject"),
    ("TokenRequestOfDriver", "TokenRequest"),
    ("WindowsOptions", "WindowsSecurityContextOptions"),
];

/// Of `k8s.io/apimachinery`, whoever uses them.
const SHARED: &[&str] = &[
    "Condition",
    "LabelSelector",
    "LabelSelectorRequirement",
    "ListMeta",
    "ObjectCondition",
    "ObjectMeta",
    "OwnerReference",
];

/// How a document writes a type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edition {
    /// Swagger.
    V2,
    V3,
}

/// `/openapi/v2`, `/openapi/v3` and the documents below that; `None` if there is none of that name.
pub(super) fn answer(store: &Store, path: &str) -> Option<Value> {
    if path == "/openapi/v2" {
        return Some(second(store));
    }
    let rest = path.strip_prefix("/openapi/v3")?.trim_matches('/');
    if rest.is_empty() {
        return Some(index(store));
    }
    let parts: Vec<_> = rest.split('/').collect();
    let (group, version) = match parts.as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    let known = group.is_empty() && version == "v1"
        || versions_of(&store.kinds)
            .iter()
            .any(|(name, versions)| name == group && versions.iter().any(|one| one == version));
    known.then(|| third(store, group, version))
}

fn index(store: &Store) -> Value {
    let mut names = vec!["api/v1".to_owned()];
    for (group, versions) in versions_of(&store.kinds) {
        names.extend(versions.iter().map(|version| format!("apis/{group}/{version}")));
    }
    let paths: BTreeMap<_, _> = names
        .into_iter()
        .map(|name| {
            let url = format!("/openapi/v3/{name}");
            (name, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({ "paths": paths })
}

fn third(store: &Store, group: &str, version: &str) -> Value {
    let mut writer = Writer::new(store, Edition::V3);
    let mut paths = Map::new();
    for kind in store.kinds.of(group, version) {
        writer.kind(kind, version);
        paths_of(kind, version, Edition::V3, &mut paths);
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "unversioned"}, "paths": paths,
        "components": {"schemas": writer.finish()},
    })
}

fn second(store: &Store) -> Value {
    let mut writer = Writer::new(store, Edition::V2);
    let mut paths = Map::new();
    for kind in store.kinds.iter() {
        for version in &kind.versions {
            writer.kind(kind, &version.name);
            paths_of(kind, &version.name, Edition::V2, &mut paths);
        }
    }
    json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": "unversioned"}, "paths": paths,
        "definitions": writer.finish(),
    })
}

/// The operations on a kind: what clients look up to know whether an object can be applied.
fn paths_of(kind: &Kind, version: &str, edition: Edition, paths: &mut Map<String, Value>) {
    let own = json!({"group": kind.group, "version": version, "kind": kind.kind});
    let prefix = if kind.group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{}/{version}", kind.group)
    };
    let place = if kind.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let parameter = |name: &str| match edition {
        Edition::V3 => {
            json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}})
        }
        Edition::V2 => json!({"name": name, "in": "query", "type": "string", "uniqueItems": true}),
    };
    let operation = |action: &str, parameters: &[&str]| {
        let parameters: Vec<_> = parameters.iter().map(|name| parameter(name)).collect();
        json!({
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": own, "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
        })
    };
    let writes = ["dryRun", "fieldManager", "fieldValidation"];
    let changes = ["dryRun", "fieldManager", "fieldValidation", "force"];
    let collection = format!("{prefix}{place}/{}", kind.plural);
    let all = json!({
        "get": operation("list", &["limit", "labelSelector", "fieldSelector"]), "post": operation("post", &writes),
    });
    let one = json!({
        "get": operation("get", &[]), "put": operation("put", &writes), "delete": operation("delete", &["dryRun"]),
        "patch": operation("patch", &changes),
    });
    paths.insert(format!("{collection}/{{name}}"), one);
    paths.insert(collection, all);
}

/// Writes types, each once, under the original's names.
struct Writer<'a> {
    store: &'a Store,
    edition: Edition,
    /// The package of types that are met for the first time.
    package: String,
    names: BTreeMap<String, String>,
    written: Map<String, Value>,
}

impl<'a> Writer<'a> {
    fn new(store: &'a Store, edition: Edition) -> Self {
        let mut writer = Self {
            store,
            edition,
            package: "io.k8s.api.core.v1".to_owned(),
            names: BTreeMap::new(),
            written: Map::new(),
        };
        // Whatever kinds of other groups are made of, pods and references belong to core.
        for name in ["Pod", "ObjectReference"] {
            writer.name(name);
        }
        writer.written.clear();
        writer
    }

    fn kind(&mut self, kind: &Kind, version: &str) {
        let Some(found) = kind.version(version) else {
            return;
        };
        let name = if kind.custom {
            self.custom(kind, found)
        } else {
            self.package = match kind.group.split('.').next().unwrap_or_default() {
                "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1".to_owned(),
                "" => "io.k8s.api.core.v1".to_owned(),
                group => format!("io.k8s.api.{group}.{version}"),
            };
            self.name(&kind.kind)
        };
        if let Some(written) = self.written.get_mut(&name) {
            written["x-kubernetes-group-version-kind"] =
                json!([{"group": kind.group, "version": version, "kind": kind.kind}]);
        }
    }

    /// The schema of a custom kind, as its definition has it, with the metadata that every object has.
    fn custom(&mut self, kind: &Kind, version: &Version) -> String {
        let definition = self
            .store
            .all("apiextensions.k8s.io", "customresourcedefinitions")
            .find(|(_, one)| meta(one, "name") == format!("{}.{}", kind.plural, kind.group));
        let versions = definition.and_then(|(_, one)| one["spec"]["versions"].as_array());
        let mut versions = versions.into_iter().flatten();
        let schema = versions
            .find(|one| one["name"] == version.name.as_str())
            .map(|one| one["schema"]["openAPIV3Schema"].clone())
            .filter(Value::is_object);
        let mut schema = schema.unwrap_or_else(|| json!({"type": "object"}));
        schema["properties"]["apiVersion"] = json!({"type": "string"});
        schema["properties"]["kind"] = json!({"type": "string"});
        let metadata = self.name("ObjectMeta");
        schema["properties"]["metadata"] = self.reference(&metadata);
        let mut words: Vec<_> = kind.group.split('.').collect();
        words.reverse();
        let name = format!("{}.{}.{}", words.join("."), version.name, kind.kind);
        self.written.insert(name.clone(), schema);
        name
    }

    /// The full name of a type of the schema, which is written if it is not yet.
    fn name(&mut self, short: &str) -> String {
        let said = SAID.iter().find(|(own, _)| *own == short);
        let said = said.map_or(short, |(_, said)| said);
        let name = match self.names.get(short) {
            Some(name) => name.clone(),
            None => {
                let package = if SHARED.contains(&short) {
                    META
                } else {
                    &self.package
                };
                let name = format!("{package}.{said}");
                self.names.insert(short.to_owned(), name.clone());
                name
            }
        };
        if !self.written.contains_key(&name) {
            // Types that contain themselves end here.
            self.written.insert(name.clone(), Value::Null);
            let of =
                schema::fields(short).map_or_else(|| json!({"type": "object"}), |fields| self.object(fields));
            self.written.insert(name.clone(), of);
        }
        name
    }

    fn object(&mut self, fields: &BTreeMap<String, Type>) -> Value {
        let mut properties = Map::new();
        for (name, of) in fields {
            properties.insert(name.clone(), self.schema(of));
        }
        let required: Vec<_> = fields
            .iter()
            .filter(|(_, of)| of.required)
            .map(|(name, _)| name)
            .collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }

    fn schema(&mut self, of: &Type) -> Value {
        let mut schema = match &of.shape {
            Shape::Text => json!({"type": "string"}),
            Shape::Integer => json!({"type": "integer", "format": "int32"}),
            Shape::Number => json!({"type": "number", "format": "double"}),
            Shape::Boolean => json!({"type": "boolean"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Any => json!({"type": "object"}),
            Shape::Quantity => self.plain(QUANTITY, "number", None),
            Shape::IntOrText => self.plain(INT_OR_TEXT, "integer", Some("int-or-string")),
            Shape::Struct(inner) => self.object(&inner.fields),
            Shape::Map(of) => json!({"type": "object", "additionalProperties": self.schema(of)}),
            Shape::List(of, listing) => {
                let mut schema = json!({"type": "array", "items": self.schema(of)});
                let (word, keys) = match listing {
                    Listing::Atomic => ("atomic", None),
                    Listing::Set => ("set", None),
                    Listing::Keyed(keys) => ("map", Some(keys)),
                };
                schema["x-kubernetes-list-type"] = Value::from(word);
                if let Some(keys) = keys {
                    schema["x-kubernetes-list-map-keys"] = json!(keys);
                }
                schema
            }
            Shape::Named(short) => {
                let name = self.name(short);
                self.reference(&name)
            }
        };
        if let Some(default) = &of.default {
            schema["default"] = default.clone();
        }
        if !of.words.is_empty() {
            schema["enum"] = json!(of.words);
        }
        if of.atomic && !matches!(of.shape, Shape::List(..)) {
            schema["x-kubernetes-map-type"] = Value::from("atomic");
        }
        schema
    }

    /// A text that may be something else, too.
    fn plain(&mut self, name: &str, other: &str, format: Option<&str>) -> Value {
        let mut of = match self.edition {
            Edition::V2 => json!({"type": "string"}),
            Edition::V3 => json!({"oneOf": [{"type": other}, {"type": "string"}]}),
        };
        if let Some(format) = format {
            of["format"] = Value::from(format);
        }
        self.written.entry(name.to_owned()).or_insert(of);
        self.reference(name)
    }

    fn reference(&self, name: &str) -> Value {
        match self.edition {
            Edition::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Edition::V3 => json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]}),
        }
    }

    fn finish(self) -> Map<String, Value> {
        self.written
    }
}
