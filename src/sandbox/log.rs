//! Warnings and errors of the world, on standard error, one line each.

use std::fmt::Write as _;
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging. A second call changes nothing.
pub(crate) fn start() {
    let _first = tracing_subscriber::registry().with(Lines).try_init().is_ok();
}

struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || !metadata.target().starts_with("kvtls") {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let level = metadata.level().as_str().to_ascii_lowercase();
        // Whoever closed standard error does not want to know.
        let _said = writeln!(
            std::io::stderr(),
            "kvtls-sandbox: {level}: {}{}",
            line.message,
            line.fields
        )
        .is_ok();
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a string cannot fail.
        let _written = if field.name() == "message" {
            write!(self.message, "{value:?}").is_ok()
        } else {
            write!(self.fields, " {}={value:?}", field.name()).is_ok()
        };
    }
}
