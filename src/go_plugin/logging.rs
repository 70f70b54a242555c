//! The log: JSON lines on stderr which the host files under the right level.
//!
//! The host reads every line. `@level`, `@message` and `@timestamp` must be strings (Terraform crashes on anything
//! else) and the timestamp must have exactly six fractional digits (or the line counts as plain text).
//!
//! **Nothing secret gets here**, by three rules that need no judgement where a line is written:
//! 1. only our own crate is heard: HTTP and TLS libraries trace headers, addresses and bodies;
//! 2. numbers and booleans are printed; text only if its field's name was declared at [`start`], else `(redacted)`;
//! 3. types that hold a secret have no `Debug` or `Display` that shows it. The message itself is printed as written,
//!    so a message is a sentence, and what varies is a field.
//!
//! Off is free: without a level no subscriber exists and no event is ever formatted.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::panic::PanicHookInfo;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// RFC 3339 as the host's logger reads it: six digits, no more, no fewer.
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// The names under which providers of all makers log what the protocol knows; always printed.
const PROTOCOL_FIELDS: [&str; 14] = [
    "error",
    "tf_rpc",
    "tf_req_id",
    "tf_proto_version",
    "tf_provider_addr",
    "tf_resource_type",
    "tf_data_source_type",
    "tf_ephemeral_resource_type",
    "tf_function",
    "tf_list_resource_type",
    "tf_action_type",
    "tf_replace_reason",
    "tf_attribute_path",
    "diagnostic_error_count",
];

/// What stands in the log for the text of a field that was not declared.
const REDACTED: &str = "(redacted)";

/// The longest text printed of one field or message. The host cuts lines at 64 KiB and then loses their level.
const TEXT_LIMIT: usize = 8 << 10;

/// The longest line, a little below the host's limit.
const LINE_LIMIT: usize = 60 << 10;

/// A backtrace longer than this is cut by the host, which keeps 100 lines of a panic.
const BACKTRACE_LINES: usize = 90;

/// Starts the log of the provider called `name`, if the practitioner asked for one: the level is the value of
/// `TF_LOG_PROVIDER_` and the name in capitals, else `TF_LOG_PROVIDER`, else `TF_LOG`, else off.
///
/// `fields` names the fields whose text may be printed. Call it once; a second log is never started.
pub fn start(name: &str, fields: &'static [&'static str]) {
    start_for(name, &[], fields);
}

/// As [`start`], and hears these crates beside this one: those of a provider that is not in this crate.
pub fn start_for(name: &str, crates: &'static [&'static str], fields: &'static [&'static str]) {
    let levels = Levels {
        otherwise: level(name, super::variable).unwrap_or(LevelFilter::OFF),
        rooms: levels_of_rooms(name, std::env::vars_os()),
    };
    if levels.highest() == LevelFilter::OFF {
        return;
    }
    let lines = Lines {
        name: name.to_owned(),
        levels,
        crates,
        fields,
        write: write_to_stderr,
    };
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines)).ok(); // already started
}

/// How much is to be heard of whom.
#[derive(Debug)]
struct Levels {
    /// Of everybody else.
    otherwise: LevelFilter,
    /// By the name of the module below the crate.
    rooms: Vec<(String, LevelFilter)>,
}

impl Levels {
    fn highest(&self) -> LevelFilter {
        let rooms = self.rooms.iter().map(|(_, level)| *level);
        rooms
            .max()
            .map_or(self.otherwise, |level| level.max(self.otherwise))
    }

    fn of(&self, target: &str) -> LevelFilter {
        let room = target.split("::").nth(1).unwrap_or_default();
        let own = self.rooms.iter().find(|(name, _)| name == room);
        own.map_or(self.otherwise, |(_, level)| *level)
    }
}

/// Levels of single rooms, from variables such as `TF_LOG_PROVIDER_NOTES_GO_PLUGIN`. A variable may be no text: none of
/// ours is.
fn levels_of_rooms(
    name: &str,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(String, LevelFilter)> {
    let own = format!("{}_", own_variable(name));
    variables
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(key, value)| {
            let room = key.to_str()?.strip_prefix(&own)?.to_lowercase();
            Some((room, level_named(value.to_str()?).unwrap_or(LevelFilter::OFF)))
        })
        .collect()
}

fn own_variable(name: &str) -> String {
    format!("TF_LOG_PROVIDER_{}", name.to_uppercase().replace('-', "_"))
}

/// The level asked for; `None` is off. As the host sees it, `JSON` and misspelt levels mean everything.
fn level(name: &str, variable: impl Fn(&str) -> Option<String>) -> Option<LevelFilter> {
    let own = own_variable(name);
    let wanted = [own.as_str(), "TF_LOG_PROVIDER", "TF_LOG"]
        .into_iter()
        .find_map(variable)?;
    level_named(&wanted)
}

fn level_named(wanted: &str) -> Option<LevelFilter> {
    match wanted.to_uppercase().as_str() {
        "OFF" => None,
        "ERROR" => Some(LevelFilter::ERROR),
        "WARN" => Some(LevelFilter::WARN),
        "INFO" => Some(LevelFilter::INFO),
        "DEBUG" => Some(LevelFilter::DEBUG),
        _ => Some(LevelFilter::TRACE),
    }
}

fn write_to_stderr(line: &str) {
    io::stderr().write_all(line.as_bytes()).ok(); // a host that does not listen must not stop us
}

/// Writes every event as one line, with the fields of the spans it happened in.
struct Lines<W> {
    /// The provider's, under which this crate speaks.
    name: String,
    levels: Levels,
    crates: &'static [&'static str],
    fields: &'static [&'static str],
    write: W,
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.levels.of(metadata.target()) && is_heard(self.crates, metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.levels.highest())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut recorded = Recorded::new(self.fields);
            attributes.record(&mut recorded);
            span.extensions_mut().insert(recorded);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(recorded) = span.extensions_mut().get_mut::<Recorded>()
        {
            values.record(recorded);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Recorded::new(self.fields);
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(recorded) = span.extensions().get::<Recorded>() {
                all.fields.extend(recorded.fields.clone());
            }
        }
        event.record(&mut all);
        let module = module(&self.name, event.metadata().target());
        (self.write)(&line(event.metadata(), &module, all, OffsetDateTime::now_utc()));
    }
}

/// Whether the code that speaks is this crate's, or one of these.
fn is_heard(crates: &[&str], target: &str) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    root == env!("CARGO_CRATE_NAME") || crates.contains(&root)
}

/// Who speaks. What this crate says, it says for the provider called `name`.
fn module(name: &str, target: &str) -> String {
    let module = target.replace("::", ".");
    match module.strip_prefix(env!("CARGO_CRATE_NAME")) {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => format!("{name}{rest}"),
        _ => module,
    }
}

fn line(metadata: &Metadata<'_>, module: &str, recorded: Recorded, at: OffsetDateTime) -> String {
    let mut head = Map::new();
    head.insert(
        "@level".to_owned(),
        json!(metadata.level().as_str().to_lowercase()),
    );
    head.insert("@message".to_owned(), json!(recorded.message));
    head.insert("@module".to_owned(), json!(module));
    if let Ok(timestamp) = at.format(TIMESTAMP) {
        head.insert("@timestamp".to_owned(), json!(timestamp));
    }
    let mut whole = recorded.fields;
    whole.extend(head.clone());
    let line = Value::Object(whole).to_string();
    match line.len() {
        0..=LINE_LIMIT => line + "\n",
        _ => Value::Object(head).to_string() + "\n",
    }
}

/// The message and fields of an event or a span, with what may not be printed already replaced.
struct Recorded {
    printed: &'static [&'static str],
    message: String,
    fields: Map<String, Value>,
}

impl Recorded {
    fn new(printed: &'static [&'static str]) -> Self {
        Self {
            printed,
            message: String::new(),
            fields: Map::new(),
        }
    }

    fn keep(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        // Names with @ are the line's own, and must be strings.
        if name != "message" && !name.starts_with('@') {
            self.fields.insert(name.to_owned(), value.into());
        }
    }

    fn keep_text(&mut self, field: &Field, text: impl FnOnce(&mut Clipped)) {
        let name = field.name();
        if name == "message" {
            self.message = Clipped::of(text);
        } else if self.printed.contains(&name) || PROTOCOL_FIELDS.contains(&name) {
            self.keep(field, Clipped::of(text));
        } else {
            self.keep(field, REDACTED); // and never formatted
        }
    }
}

impl Visit for Recorded {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep_text(field, |text| text.write_str(value).unwrap_or(()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep_text(field, |text| write!(text, "{value:?}").unwrap_or(()));
    }
}

/// Text up to [`TEXT_LIMIT`]. Refuses the rest, which also stops whoever is formatting it.
struct Clipped(String);

impl Clipped {
    fn of(write: impl FnOnce(&mut Self)) -> String {
        let mut clipped = Self(String::new());
        write(&mut clipped);
        clipped.0
    }
}

impl fmt::Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_LIMIT.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let cut = (0..=room)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        self.0.push_str(&text[..cut]);
        self.0.push('…');
        Err(fmt::Error)
    }
}

/// From now on a panic that ends the process is printed in the form that the host recognises, keeps, and shows to the
/// practitioner when the command fails; one that is caught is a line of the log.
///
/// Only the main thread takes the process with it. A panic elsewhere ends a task, and the call is answered with a
/// diagnostic; in the first form the host would print "plugin crashed" below that.
pub(super) fn report_panics(name: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        let backtrace = std::backtrace::Backtrace::force_capture().to_string();
        let is_the_end = std::thread::current().name() == Some("main");
        let text = match is_the_end {
            true => panic_text(panic, &backtrace),
            false => caught_text(name, panic, &backtrace, OffsetDateTime::now_utc()),
        };
        io::stderr().write_all(text.as_bytes()).ok(); // in one go, nothing in between
    }));
}

fn panic_words(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    (payload.downcast_ref::<&str>().map(|words| (*words).to_owned()))
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "of unknown kind".to_owned())
}

/// A line of the log, whatever its level: who asked for none does not see it. It must not begin as a panic does.
fn caught_text(name: &str, panic: &PanicHookInfo<'_>, backtrace: &str, at: OffsetDateTime) -> String {
    let clipped = |text: &str| Clipped::of(|clipped| clipped.write_str(text).unwrap_or(()));
    let mut line = json!({
        "@level": "error",
        "@message": "a call panicked; it is answered with a diagnostic",
        "@module": format!("{name}.go_plugin"),
        "panic": clipped(&panic_words(panic)),
        "at": panic.location().map(ToString::to_string).unwrap_or_default(),
        "backtrace": clipped(backtrace),
    });
    if let (Ok(timestamp), Some(line)) = (at.format(TIMESTAMP), line.as_object_mut()) {
        line.insert("@timestamp".to_owned(), json!(timestamp));
    }
    format!("{line}\n")
}

/// The host recognises `panic: ` at the start of a line, and takes the plain lines after it as belonging to it.
fn panic_text(panic: &PanicHookInfo<'_>, backtrace: &str) -> String {
    let message = panic_words(panic);
    let mut text = format!("panic: {message}\n");
    if let Some(location) = panic.location() {
        text.push_str(&format!("at {location}\n"));
    }
    for line in backtrace
        .lines()
        .filter(|line| !line.ends_with("<unknown>"))
        .take(BACKTRACE_LINES)
    {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The lines written while `speak` runs, parsed.
    fn lines_of(level: LevelFilter, speak: impl FnOnce()) -> Vec<Value> {
        let written = Arc::new(Mutex::new(String::new()));
        let writer = Arc::clone(&written);
        let lines = Lines {
            name: "some-thing".to_owned(),
            levels: Levels {
                otherwise: level,
                rooms: vec![("quiet".to_owned(), LevelFilter::ERROR)],
            },
            crates: &["another"],
            fields: &["cluster"],
            write: move |line: &str| writer.lock().unwrap().push_str(line),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), speak);
        let text = written.lock().unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn the_most_specific_variable_decides_and_unset_is_off() {
        let of = |variables: &'static [(&str, &str)]| {
            level("some-thing", |name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("TF_LOG", "info")]), Some(LevelFilter::INFO));
        assert_eq!(of(&[("TF_LOG", "info"), ("TF_LOG_PROVIDER", "off")]), None);
        assert_eq!(
            of(&[("TF_LOG_PROVIDER", "off"), ("TF_LOG_PROVIDER_SOME_THING", "WARN")]),
            Some(LevelFilter::WARN)
        );
        assert_eq!(of(&[("TF_LOG", "JSON")]), Some(LevelFilter::TRACE));
        assert_eq!(of(&[("TF_LOG", "verbose")]), Some(LevelFilter::TRACE));
        assert_eq!(of(&[("TF_LOG_CORE", "trace")]), None);
    }

    #[test]
    fn a_room_has_a_level_of_its_own() {
        let variables = [
            ("TF_LOG_PROVIDER_SOME_THING_LOUD", "TRACE"),
            ("TF_LOG_PROVIDER_SOME_THING_MUTE", "OFF"),
            ("TF_LOG_PROVIDER_SOME_THING_PLAIN", ""),
            ("TF_LOG_PROVIDER_SOME_THING", "INFO"),
            ("TF_LOG_PROVIDER", "WARN"),
        ];
        let levels = Levels {
            otherwise: LevelFilter::INFO,
            rooms: levels_of_rooms(
                "some-thing",
                variables.iter().map(|(key, value)| (key.into(), value.into())),
            ),
        };
        assert_eq!(levels.of("any::loud::inner"), LevelFilter::TRACE);
        assert_eq!(levels.of("any::mute"), LevelFilter::OFF);
        assert_eq!(levels.of("any::plain"), LevelFilter::INFO);
        assert_eq!(levels.of("any"), LevelFilter::INFO);
        assert_eq!(levels.highest(), LevelFilter::TRACE);
    }

    #[test]
    fn a_line_holds_what_the_host_reads() {
        let lines = lines_of(LevelFilter::INFO, || {
            tracing::info!(attempt = 2, ok = true, "looked \"twice\"")
        });
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(line["@level"], "info");
        assert_eq!(line["@message"], "looked \"twice\"");
        assert_eq!(line["@module"], "some-thing.go_plugin.logging.tests");
        assert_eq!(line["attempt"], 2);
        assert_eq!(line["ok"], true);
        let timestamp = line["@timestamp"].as_str().unwrap();
        let fraction = timestamp.rsplit_once('.').unwrap().1;
        assert_eq!(fraction.len(), "000000Z".len(), "{timestamp}");
    }

    #[test]
    fn text_is_printed_only_under_a_declared_name() {
        struct Unprintable;
        impl fmt::Debug for Unprintable {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("formatted")
            }
        }
        let lines = lines_of(LevelFilter::INFO, || {
            tracing::info!(cluster = "aks", tf_rpc = "Plan", password = "hunter2", token = ?Unprintable, "x");
        });
        assert_eq!(lines[0]["cluster"], "aks");
        assert_eq!(lines[0]["tf_rpc"], "Plan");
        assert_eq!(lines[0]["password"], REDACTED);
        assert_eq!(lines[0]["token"], REDACTED);
    }

    #[test]
    fn the_lines_own_fields_cannot_be_replaced() {
        let lines = lines_of(LevelFilter::INFO, || {
            tracing::info!("@level" = 7, "@timestamp" = 7, "@message" = 7, "said");
        });
        assert_eq!(lines[0]["@level"], "info");
        assert_eq!(lines[0]["@message"], "said");
        assert!(lines[0]["@timestamp"].is_string());
    }

    #[test]
    fn an_event_carries_the_fields_of_its_spans_and_wins_over_them() {
        let lines = lines_of(LevelFilter::INFO, || {
            let outer =
                tracing::info_span!("rpc", tf_rpc = "Apply", step = 1, attempt = tracing::field::Empty);
            outer.record("attempt", 3);
            let _outer = outer.entered();
            let _inner = tracing::info_span!("step", step = 2).entered();
            tracing::info!(step = 9, "x");
        });
        assert_eq!(lines[0]["tf_rpc"], "Apply");
        assert_eq!(lines[0]["attempt"], 3);
        assert_eq!(lines[0]["step"], 9);
    }

    #[test]
    fn quieter_levels_and_other_crates_are_not_heard() {
        let lines = lines_of(LevelFilter::WARN, || {
            tracing::info!("too quiet");
            tracing::error!(target: "h2::codec", "a header");
            tracing::error!(target: concat!(env!("CARGO_CRATE_NAME"), "_other"), "a neighbour");
            tracing::warn!("heard");
            tracing::warn!(target: "another::quiet::place", "too quiet for its room");
            tracing::error!(target: "another::quiet::place", "heard in its room");
            tracing::warn!(target: "another::place", "heard of another crate");
        });
        let heard: Vec<_> = lines.iter().map(|line| &line["@message"]).collect();
        assert_eq!(heard, ["heard", "heard in its room", "heard of another crate"]);
        assert_eq!(lines[2]["@module"], "another.place");
    }

    #[test]
    fn no_line_reaches_the_hosts_limit() {
        let long = "ä\u{1}".repeat(LINE_LIMIT);
        let lines = lines_of(LevelFilter::INFO, || {
            tracing::info!("{long}");
            tracing::info!(cluster = long, tf_rpc = long, error = long, "many");
        });
        assert_eq!(lines.len(), 2);
        for line in &lines {
            assert!(line.to_string().len() <= LINE_LIMIT, "{}", line.to_string().len());
            assert!(!line["@message"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn a_panic_reads_as_the_host_expects_and_fits_into_what_it_keeps() {
        let written = Arc::new(Mutex::new(String::new()));
        let writer = Arc::clone(&written);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic_text(panic, &"somewhere\n  42: <unknown>\n".repeat(200));
            // Hooks are the whole process's: other tests may panic meanwhile.
            if text.starts_with("panic: lost my keys\n") {
                *writer.lock().unwrap() = text;
            }
        }));
        std::panic::catch_unwind(|| panic!("lost my keys")).unwrap_err();
        std::panic::set_hook(before);
        let text = written.lock().unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "panic: lost my keys");
        assert!(
            lines[1].starts_with("at src/go_plugin/logging.rs:"),
            "{}",
            lines[1]
        );
        assert_eq!(lines[2], "somewhere");
        assert!((50..=100).contains(&lines.len()), "{}", lines.len());
        assert!(!text.contains("<unknown>"));
    }
}
