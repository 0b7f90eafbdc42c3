//! The one place that prints: lines with the seconds since the start, in colour where there is a terminal.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use tokio::time::Instant;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const NOTE: Style = AnsiColor::Cyan.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Tells the story. Clones tell the same one.
#[derive(Clone)]
pub(crate) struct Tell {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    start: Instant,
}

impl Tell {
    /// Tells it on standard output, or on standard error where that is kept for a program.
    pub(crate) fn new(on_stderr: bool) -> Self {
        let out: Box<dyn Write + Send> = if on_stderr {
            Box::new(AutoStream::auto(std::io::stderr()))
        } else {
            Box::new(AutoStream::auto(std::io::stdout()))
        };
        Self { out: Arc::new(Mutex::new(out)), start: Instant::now() }
    }

    /// Opens an act.
    pub(crate) fn headline(&self, text: impl Display) {
        self.print(format_args!("\n{BOLD}{text}{BOLD:#}"));
    }

    /// Something is done from outside.
    pub(crate) fn act(&self, text: impl Display) {
        self.line(NOTE, "►", text);
    }

    /// A promise is kept.
    pub(crate) fn good(&self, text: impl Display) {
        self.line(GOOD, "✔", text);
    }

    /// The controller says that something is wrong, as it should.
    pub(crate) fn warning(&self, text: impl Display) {
        self.line(WARNING, "⚠", text);
    }

    /// A promise is broken.
    pub(crate) fn bad(&self, text: impl Display) {
        self.line(BAD, "✗", text);
    }

    /// What everything else is: no mark.
    pub(crate) fn plain(&self, text: impl Display) {
        self.print(text);
    }

    fn line(&self, style: Style, mark: &str, text: impl Display) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.print(format_args!("{DIM}{seconds:6.2}s{DIM:#} {style}{mark}{style:#} {text}"));
    }

    fn print(&self, text: impl Display) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody listens any more (`| head`): the counts and the exit status stay what they are.
        writeln!(out, "{text}").and_then(|()| out.flush()).ok();
    }
}

/// Prints what a program reads, as the last line of standard output.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string(value)?)?;
    Ok(())
}
