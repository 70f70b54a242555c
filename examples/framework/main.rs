//! A small, complete provider: notes, each a file in one folder.
//!
//! It shows what every resource needs, and what most forget: an error about one attribute, a plan in which only what
//! the provider computes is unknown, a read that tells "gone" from "unreadable", a delete of what is gone already, an
//! import, and a state that is saved as soon as there is something to lose.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use kvtls::framework::resource::Private;
use kvtls::framework::validate::text;
use kvtls::framework::{
    ApplyRequest, ApplyResponse, Attribute, AttributePath, Deadline, Diagnostic, Diagnostics, ImportResponse,
    PlanRequest, PlanResponse, Presence, Provider, ReadRequest, ReadResponse, Resource, Schema, Value,
};
use kvtls::go_plugin::{self, Plugin, logging};
use kvtls::tfplugin6;

fn main() -> ExitCode {
    logging::start_for("notes", &["notes"], &["file"]);
    go_plugin::serve(Plugin {
        name: "notes",
        address: "example.test/acme/notes",
        version: "0.1.0",
        service: tfplugin6::service(Notes::new()),
    })
}

/// Where notes are kept; set by the provider block.
type Folder = Arc<RwLock<Option<PathBuf>>>;

struct Notes {
    schema: Schema,
    resources: Vec<Arc<dyn Resource>>,
    folder: Folder,
}

impl Notes {
    fn new() -> Self {
        let folder = Folder::default();
        Self {
            schema: Schema::new(
                "Keeps notes in a folder.",
                [(
                    "folder",
                    Attribute::string(Presence::Required, "Where notes are kept."),
                )],
            ),
            resources: vec![Arc::new(Note {
                schema: note_schema(),
                folder: Arc::clone(&folder),
            })],
            folder,
        }
    }
}

#[async_trait]
impl Provider for Notes {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn resources(&self) -> &[Arc<dyn Resource>] {
        &self.resources
    }

    async fn configure(&self, config: Value, _terraform_version: &str) -> Diagnostics {
        // May be unknown in a plan: then the first note that needs it says so.
        let folder = config.get("folder").as_str().map(PathBuf::from);
        *self.folder.write().unwrap_or_else(PoisonError::into_inner) = folder;
        Diagnostics::new()
    }
}

fn note_schema() -> Schema {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    Schema::new(
        "A note.",
        [
            (
                "name",
                Attribute::string(Presence::Required, "The name of its file.")
                    .replaces_because("A note is its file.")
                    .valid(text("letters and digits", "\"shopping\"", is_name)),
            ),
            (
                "text",
                Attribute::string(Presence::OptionalComputed, "What it says.").default("(empty)"),
            ),
            (
                "length",
                Attribute::number(Presence::Computed, "Its length in bytes.").computed_from(&["text"]),
            ),
        ],
    )
}

struct Note {
    schema: Schema,
    folder: Folder,
}

impl Note {
    fn file(&self, name: &Value) -> Result<PathBuf, Diagnostic> {
        let folder = self.folder.read().unwrap_or_else(PoisonError::into_inner).clone();
        match (folder, name.as_str()) {
            (Some(folder), Some(name)) => Ok(folder.join(name)),
            _ => Err(Diagnostic::error(
                "Provider is not configured",
                "The folder of the notes is not known yet.",
                "Write `folder` as a literal or a variable.",
            )),
        }
    }

    fn state(&self, name: &Value, text: &str) -> Value {
        let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
        Value::object([
            ("name", name.clone()),
            ("text", text.into()),
            ("length", length.into()),
        ])
    }

    /// What is there: the state, or null if there is no such note.
    fn look(&self, name: &Value) -> Result<Value, Diagnostic> {
        let file = self.file(name)?;
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(self.state(name, &text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Value::Null),
            // Not gone: an error keeps the stored state, null would plan the note anew.
            Err(error) => Err(failed("read", &file, &error, "Nothing was changed.")),
        }
    }
}

fn failed(verb: &str, file: &std::path::Path, error: &std::io::Error, changed: &str) -> Diagnostic {
    tracing::warn!(file = %file.display(), error = %error, "a note could not be used");
    Diagnostic::error(
        format!("Note could not be {verb}"),
        format!("{}: {error}. {changed}", file.display()),
        "Check that the folder exists and may be written.",
    )
    .at(AttributePath::of("name"))
}

#[async_trait]
impl Resource for Note {
    fn type_name(&self) -> &'static str {
        "notes_note"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn read(&self, request: ReadRequest) -> ReadResponse {
        let found = self.look(request.state.get("name"));
        let mut response = request.unchanged();
        match found {
            Ok(state) => response.state = state,
            Err(error) => response.diagnostics.push(error),
        }
        response
    }

    async fn plan(&self, request: PlanRequest) -> PlanResponse {
        request.as_proposed() // defaults are filled and `length` is unknown where `text` changes
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        let is_delete = request.is_destroy();
        let name = if is_delete {
            &request.prior
        } else {
            &request.planned
        }
        .get("name")
        .clone();
        let text = request
            .planned
            .get("text")
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let done = self.file(&name).and_then(|file| {
            let done = if is_delete {
                std::fs::remove_file(&file)
            } else {
                std::fs::write(&file, &text)
            };
            match done {
                Err(error) if is_delete && error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(failed("written", &file, &error, "The note is as it was.")),
                Ok(()) => Ok(()),
            }
        });
        let mut response = ApplyResponse {
            // With an error, null keeps what is stored; after a delete, it is what is true.
            state: Value::Null,
            private: Private::new(),
            diagnostics: Diagnostics::new(),
        };
        match done {
            Err(error) => response.diagnostics.push(error),
            Ok(()) if is_delete => {}
            Ok(()) => {
                response.state = self.state(&name, &text);
                // From here on there is something to lose.
                request.checkpoint.save(response.state.clone(), Private::new());
                assert_ne!(text, "PANIC", "this note is explosive");
            }
        }
        response
    }

    async fn import(&self, id: &str, _deadline: Deadline) -> ImportResponse {
        let mut response = ImportResponse {
            state: Value::Null,
            private: Private::new(),
            diagnostics: Diagnostics::new(),
        };
        match self.look(&id.into()) {
            Ok(Value::Null) => response.diagnostics.push(Diagnostic::error(
                "Note not found",
                format!("There is no note {id:?}."),
                "Import the name of a file in the folder.",
            )),
            Ok(state) => response.state = state,
            Err(error) => response.diagnostics.push(error),
        }
        response
    }
}
