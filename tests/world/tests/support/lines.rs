//! What the controller logs, line by line.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;

use flux_bearer_controller::logs::Verbosity;

thread_local! {
    // A test and its controllers run on one thread, so its lines are its own.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where log lines go.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to keep the lines of this test.
pub(crate) fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt().with_env_filter(Verbosity::Info.filter()).with_ansi(false);
        // For all threads at once: tracing remembers a line as unwanted that a thread without subscriber meets first.
        tracing::subscriber::set_global_default(lines.with_writer(|| Lines).finish()).unwrap();
    });
}

/// The lines of this test since it began to keep them, or last asked, that hold all of `parts`.
pub(crate) fn take(parts: &[&str]) -> Vec<String> {
    let logged = LOGGED.with_borrow_mut(std::mem::take);
    let logged = String::from_utf8(logged).unwrap();
    logged.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
}
