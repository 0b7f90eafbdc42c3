//! Measures the promise, and writes `docs/outages.csv` and `docs/outages.svg`: `cargo run -p flux-bearer-world --bin outages`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use flux_bearer_world::outages::plot::plot;
use flux_bearer_world::outages::{Error, measure, table};

fn main() -> Result<(), Error> {
    let endured = measure()?;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    fs::write(docs.join("outages.csv"), table(&endured))?;
    fs::write(docs.join("outages.svg"), plot(&endured)?)?;
    let slowest = endured.iter().map(|one| one.recovered).max().unwrap_or_default();
    writeln!(io::stdout(), "{} outages, the longest recovery took {slowest} s", endured.len())?;
    Ok(())
}
