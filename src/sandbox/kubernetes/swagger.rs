//! A Swagger document in the bytes of gnostic's messages: the only form in which kubectl reads it, for lists of objects.
//!
//! Written is what kubectl looks for: types, and which operations take which parameters. The field numbers are those of
//! gnostic-models v0.7.0, `OpenAPIv2.proto`.

use serde_json::Value;

/// What it is answered as. Who asks for it writes `@v1.0`, which is no media type.
pub(super) const MEDIA: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A message on its way.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(&mut self, number: u8, content: &[u8]) {
        self.number((usize::from(number) << 3) | 2);
        self.number(content.len());
        self.0.extend_from_slice(content);
    }

    fn number(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.0
                .push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or_default());
    }

    fn text(&mut self, number: u8, text: &Value) {
        if let Some(text) = text.as_str() {
            self.bytes(number, text.as_bytes());
        }
    }

    fn inner(&mut self, number: u8, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }

    /// Any value: its JSON, which is YAML.
    fn any(&mut self, number: u8, value: &Value) {
        self.inner(number, |any| any.bytes(2, value.to_string().as_bytes()));
    }

    /// What is not of Swagger itself.
    fn extensions(&mut self, number: u8, object: &Value) {
        for (name, value) in members(object).filter(|(name, _)| name.starts_with("x-")) {
            self.inner(number, |named| {
                named.bytes(1, name.as_bytes());
                named.any(2, value);
            });
        }
    }

    /// A name and what it stands for.
    fn named(&mut self, number: u8, name: &str, write: impl FnOnce(&mut Self)) {
        self.inner(number, |named| {
            named.bytes(1, name.as_bytes());
            named.inner(2, write);
        });
    }

    fn schema(&mut self, schema: &Value) {
        self.text(1, &schema["$ref"]);
        self.text(2, &schema["format"]);
        if let Some(default) = schema.get("default") {
            self.any(5, default);
        }
        for name in items(&schema["required"]) {
            self.text(19, name);
        }
        for word in items(&schema["enum"]) {
            self.any(20, word);
        }
        if schema["additionalProperties"].is_object() {
            self.inner(21, |of| {
                of.inner(1, |of| of.schema(&schema["additionalProperties"]))
            });
        }
        if schema["type"].is_string() {
            self.inner(22, |of| of.text(1, &schema["type"]));
        }
        if schema["items"].is_object() {
            self.inner(23, |of| of.inner(1, |of| of.schema(&schema["items"])));
        }
        if schema["properties"].is_object() {
            self.inner(25, |all| {
                for (name, of) in members(&schema["properties"]) {
                    all.named(1, name, |message| message.schema(of));
                }
            });
        }
        self.extensions(31, schema);
    }

    fn operation(&mut self, operation: &Value) {
        for parameter in items(&operation["parameters"]) {
            self.inner(8, |item| {
                item.inner(1, |one| {
                    one.inner(2, |one| {
                        one.inner(3, |query| {
                            query.text(2, &parameter["in"]);
                            query.text(4, &parameter["name"]);
                            query.text(6, &parameter["type"]);
                        });
                    });
                });
            });
        }
        self.extensions(13, operation);
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The document in bytes.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    const METHODS: &[(&str, u8)] = &[("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)];
    let mut message = Message::default();
    message.text(1, &document["swagger"]);
    message.inner(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    message.inner(8, |paths| {
        for (path, item) in members(&document["paths"]) {
            paths.named(2, path, |message| {
                for (method, number) in METHODS {
                    if let Some(operation) = item.get(*method) {
                        message.inner(*number, |message| message.operation(operation));
                    }
                }
            });
        }
    });
    message.inner(9, |definitions| {
        for (name, schema) in members(&document["definitions"]) {
            definitions.named(1, name, |message| message.schema(schema));
        }
    });
    message.0
}
