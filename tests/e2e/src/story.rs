//! What is told while a test runs.

use tokio::time::Instant;

/// Lines about one test, with the seconds since it began.
pub(crate) struct Story {
    name: &'static str,
    began: Instant,
}

impl Story {
    /// Begins now.
    pub(crate) fn begin(name: &'static str) -> Self {
        Self { name, began: Instant::now() }
    }

    /// Tells a line.
    pub(crate) fn tell(&self, line: &str) {
        println!("{:7.1} s  {}: {line}", self.began.elapsed().as_secs_f64(), self.name);
    }
}
