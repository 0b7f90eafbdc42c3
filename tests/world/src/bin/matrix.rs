//! Prints `docs/reliability.md` from what a run of the tests has said; see `tests/world/matrix`.

use std::error::Error;
use std::io::{self, Read};
use std::path::Path;

use flux_bearer_world::matrix::{outcomes, report, sources, tests};

fn main() -> Result<(), Box<dyn Error>> {
    let mut said = String::new();
    io::stdin().read_to_string(&mut said)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = sources(&root.join("crates"))?;
    found.extend(sources(&root.join("tests"))?);
    let tests = tests(found.iter().map(|(_, source)| source.as_str()));
    print!("{}", report(&tests, &outcomes(&said)));
    Ok(())
}
