//! Log lines in Flux's field names, so that `flux logs` and every dashboard made for Flux can read them.

use std::fmt::{self, Write};
use std::io::{self, IsTerminal};

use flux_bearer::{GROUP, NAME};
use prometheus_client::metrics::counter::Counter;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;
use crate::sink::Sink;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoding {
    /// One JSON object a line.
    Json,
    /// For people.
    Console,
}

/// From which level on lines are written, in Flux's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Verbosity {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happens.
    Info,
    /// What fails.
    Error,
}

impl Verbosity {
    /// Which lines are written. Other people's crates are heard from `warn` on only: at lower levels they tell of headers
    /// and bodies.
    pub fn filter(self) -> EnvFilter {
        let own = match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Error => "error",
        };
        // kube's client logs whole replies that it can't parse, and a reply may be a Secret; its watcher logs what a
        // server says in a refusal.
        EnvFilter::new(format!(
            "warn,kube_client=off,kube_runtime=off,flux_bearer={own},flux_bearer_azure={own},flux_bearer_controller={own}"
        ))
    }
}

/// Writes log lines to standard error from now on, through the queue that is returned; a second call changes nothing.
///
/// # Errors
/// When the queue's thread can't be started.
pub fn init(encoding: Encoding, verbosity: Verbosity, clock: Clock, dropped: Counter) -> io::Result<Sink> {
    let sink = Sink::new(io::stderr(), dropped)?;
    let writer = sink.clone();
    let builder = tracing_subscriber::fmt().with_env_filter(verbosity.filter()).with_writer(move || writer.clone());
    // A second subscriber is refused: whoever came first keeps the lines.
    let set = match encoding {
        Encoding::Json => builder.event_format(FluxJson { clock }).try_init().is_ok(),
        Encoding::Console => builder.with_target(false).with_ansi(io::stderr().is_terminal()).try_init().is_ok(),
    };
    if !set {
        tracing::debug!("log lines are already written");
    }
    Ok(sink)
}

/// Formats an event as Flux's controllers do.
pub struct FluxJson {
    clock: Clock,
}

impl<S, N> FormatEvent<S, N> for FluxJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writeln!(out, "{}", self.line(event))
    }
}

impl FluxJson {
    fn line(&self, event: &Event<'_>) -> Value {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = fields.0;
        let message = line.remove("message").unwrap_or_default();
        line.insert("level".into(), level(*event.metadata().level()).into());
        line.insert("ts".into(), format!("{:.3}", self.clock.now()).into());
        line.insert("logger".into(), NAME.into());
        line.insert("msg".into(), message);
        line.insert("controller".into(), "bearertoken".into());
        line.insert("controllerGroup".into(), GROUP.into());
        line.insert("controllerKind".into(), "BearerToken".into());
        if let (Some(namespace), Some(name)) = (line.get("namespace").cloned(), line.get("name").cloned()) {
            line.insert("BearerToken".into(), json!({"namespace": namespace, "name": name}));
        }
        Value::Object(line)
    }
}

fn level(level: Level) -> &'static str {
    // Flux knows no warnings: what has to be noticed is an error.
    match level {
        Level::ERROR => "error",
        Level::WARN | Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The fields of an event. `flux logs` stops at a field that is not what it expects, so texts stay texts.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        if write!(text, "{value:?}").is_ok() {
            self.0.insert(field.name().into(), text.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_fields_that_flux_logs_reads() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let clock = Clock::new(|| "2026-11-22T03:45:00.123456Z".parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let subscriber =
            tracing_subscriber::fmt().event_format(FluxJson { clock }).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(namespace = "ns", name = "n", error = %"AADSTS90033: x", "no token");
        });
        let line: Value = serde_json::from_slice(&buffer.0.lock().unwrap()).unwrap();
        for (field, value) in [
            ("level", "error"),
            ("logger", "flux-bearer"),
            ("msg", "no token"),
            ("error", "AADSTS90033: x"),
            ("controllerKind", "BearerToken"),
            ("name", "n"),
            ("namespace", "ns"),
        ] {
            assert_eq!(line[field], value);
        }
        assert!(line["ts"].as_str().unwrap().starts_with("2026-11-22T03:45:00.12"), "{line}");
        assert_eq!(line["BearerToken"], json!({"namespace": "ns", "name": "n"}));
    }
}
