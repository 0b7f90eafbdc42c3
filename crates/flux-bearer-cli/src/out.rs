//! The terminal: data on standard output, progress on standard error in Flux's glyphs, colour where it is wanted.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use crate::args::Format;
use crate::exit::{Exit, Trouble};

/// Where text goes to. Tests read it back.
pub type Stream = Arc<Mutex<dyn Write + Send>>;

/// The terminal, or what stands in for it.
#[derive(Clone)]
pub struct Out {
    stdout: Stream,
    stderr: Stream,
    colour: bool,
    /// Whether a person looks at standard error: then a wait is one line that counts the seconds.
    live: bool,
}

/// The glyphs of Flux's own command line.
#[derive(Clone, Copy)]
enum Glyph {
    Action,
    Waiting,
    Success,
    Warning,
    Failure,
}

impl Glyph {
    fn text(self) -> &'static str {
        match self {
            Self::Action => "►",
            Self::Waiting => "◎",
            Self::Success => "✔",
            Self::Warning => "⚠️",
            Self::Failure => "✗",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Action | Self::Waiting => Style::new(),
            Self::Success => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Failure => AnsiColor::Red.on_default(),
        }
    }
}

impl Out {
    /// Writes to these streams; `live` if a person watches standard error.
    pub fn new(stdout: Stream, stderr: Stream, colour: bool, live: bool) -> Self {
        Self { stdout, stderr, colour, live }
    }

    /// The process's own streams. Colour as [`anstream`] decides: a terminal, and neither `NO_COLOR` nor `TERM=dumb`.
    pub fn process() -> Self {
        let colour = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
        let live = io::IsTerminal::is_terminal(&io::stderr());
        Self::new(Arc::new(Mutex::new(io::stdout())), Arc::new(Mutex::new(io::stderr())), colour, live)
    }

    /// Something is being done.
    pub fn action(&self, text: &str) {
        self.line(Glyph::Action, text);
    }

    /// Something is waited for.
    pub fn waiting(&self, text: &str) {
        self.line(Glyph::Waiting, text);
    }

    /// The same wait goes on: a person sees the seconds count, a log stays as it is.
    pub fn still_waiting(&self, text: &str, seconds: u64) {
        if self.live {
            write(&self.stderr, &format!("\r{} {text} ({seconds} s)\x1b[K", Glyph::Waiting.text()));
        }
    }

    /// A wait that was shown is over: the next line begins at the left.
    pub fn waited(&self) {
        if self.live {
            write(&self.stderr, "\r\x1b[K");
        }
    }

    /// Something was done, or is as it should be.
    pub fn success(&self, text: &str) {
        self.line(Glyph::Success, text);
    }

    /// Something that a person should know, and that stops nothing.
    pub fn warning(&self, text: &str) {
        self.line(Glyph::Warning, text);
    }

    /// Something is not as it should be.
    pub fn failure(&self, text: &str) {
        self.line(Glyph::Failure, text);
    }

    /// A line that belongs to the one before.
    pub fn detail(&self, text: &str) {
        write(&self.stderr, &format!("    {text}\n"));
    }

    /// Tells a trouble and its fix; returns how to end.
    pub fn trouble(&self, trouble: &Trouble) -> Exit {
        self.failure(&trouble.cause);
        if !trouble.fix.is_empty() {
            self.detail(&format!("fix: {}", trouble.fix));
        }
        trouble.exit
    }

    /// What clap has to say: help and version are data, the rest is an error of usage.
    pub fn usage(&self, error: &clap::Error) -> Exit {
        let text = if self.colour { error.render().ansi().to_string() } else { error.render().to_string() };
        if error.use_stderr() {
            write(&self.stderr, &text);
            return Exit::Usage;
        }
        self.data(&text);
        Exit::Done
    }

    /// Data, as it is.
    pub fn data(&self, text: &str) {
        write(&self.stdout, text);
    }

    /// A document, as JSON or YAML.
    pub fn document(&self, format: Format, document: &Value) {
        let json = format!("{document:#}\n");
        // JSON is YAML, should there be a value that has no other form.
        let text = if format == Format::Yaml { serde_saphyr::to_string(document).unwrap_or(json) } else { json };
        self.data(&text);
    }

    /// A table in kubectl's look.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_style(NOTHING);
        if !header.is_empty() {
            table.set_header(header.to_vec());
        }
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
        self.data(&lines.collect::<String>());
    }

    fn line(&self, glyph: Glyph, text: &str) {
        let style = if self.colour { glyph.style() } else { Style::new() };
        write(&self.stderr, &format!("{style}{}{style:#} {text}\n", glyph.text()));
    }
}

fn write(stream: &Stream, text: &str) {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    // A reader that went away (`| head`) is no failure of the verb.
    drop(stream.write_all(text.as_bytes()).and_then(|()| stream.flush()));
}
