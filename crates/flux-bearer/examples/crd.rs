//! Prints the CustomResourceDefinition: `cargo run -p flux-bearer --example crd > deploy/crd/bearertokens.yaml`.

use std::error::Error;
use std::io::{Write, stdout};

fn main() -> Result<(), Box<dyn Error>> {
    let definition = serde_saphyr::to_string(&flux_bearer::resource::definition())?;
    write!(
        stdout(),
        "# Generated from crates/flux-bearer/src/resource.rs: cargo run -p flux-bearer --example crd\n{definition}"
    )?;
    Ok(())
}
