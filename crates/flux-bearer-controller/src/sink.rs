//! Where log lines go: into a queue, which a thread of its own writes to standard error.
//!
//! Guarantees: whoever logs never waits, so a log that nobody reads (a full pipe, a stopped collector) keeps no token waiting.
//! What then does not fit into the queue is dropped, and counted.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// Lines that wait at most: some hundred KiB.
const WAITING: usize = 1024;

/// How long the last lines of a process are waited for.
const FLUSH: Duration = Duration::from_secs(1);

/// A queue of lines. Clones share it; each write is a line.
#[derive(Clone)]
pub struct Sink {
    queue: SyncSender<Queued>,
    dropped: Counter,
}

enum Queued {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Sink {
    /// A queue that is written to `out`. What does not fit is counted in `dropped`.
    ///
    /// # Errors
    /// When the system has no room for one more thread.
    pub fn new(out: impl Write + Send + 'static, dropped: Counter) -> io::Result<Self> {
        let (queue, lines) = sync_channel(WAITING);
        thread::Builder::new().name("log".into()).spawn(move || write(&lines, out))?;
        Ok(Self { queue, dropped })
    }

    /// Waits until every line is written, for a second at most: before the process ends.
    pub fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        // Where the queue is full, its reader is stuck: there is nothing to wait for.
        if self.queue.try_send(Queued::Flush(done)).is_ok() {
            is_done.recv_timeout(FLUSH).unwrap_or_default();
        }
    }
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Queued::Line(line.to_vec())).is_err() {
            self.dropped.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines until nobody can send one any more. One that can't be written is lost: there is nowhere to say so.
fn write(lines: &Receiver<Queued>, mut out: impl Write) {
    for queued in lines {
        match queued {
            Queued::Line(line) => drop(out.write_all(&line)),
            Queued::Flush(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A pipe whose reader takes a line each time it is told to.
    struct Pipe(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.0.recv().map_err(closed)?;
            self.1.send(line.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn row_50_a_log_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted() {
        let (take, taken) = channel();
        let (read, lines) = channel();
        let dropped = Counter::default();
        let sink = Sink::new(Pipe(taken, read), dropped.clone()).unwrap();
        let mut log = sink.clone();
        let (logged, is_logged) = channel();
        thread::spawn(move || {
            (0..2 * WAITING).for_each(|number| log.write_all(format!("{number}\n").as_bytes()).unwrap());
            logged.send(log).unwrap();
        });
        let mut log = is_logged.recv_timeout(Duration::from_secs(10)).expect("whoever logs is held up");
        // One more than waits may be in the hand of the writer.
        let lost = dropped.get();
        assert!((WAITING as u64 - 1..=WAITING as u64).contains(&lost), "{lost}");
        (0..2 * WAITING).for_each(|_| take.send(()).unwrap());
        let kept: Vec<Vec<u8>> = (lost..2 * WAITING as u64).map(|_| lines.recv().unwrap()).collect();
        assert_eq!(kept.first().unwrap(), b"0\n");
        log.write_all(b"read again\n").unwrap();
        sink.flush();
        assert_eq!((lines.try_recv().unwrap(), dropped.get()), (b"read again\n".to_vec(), lost));
    }
}
