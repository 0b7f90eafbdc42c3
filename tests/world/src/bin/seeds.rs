//! Plays as many seeds as wanted: `cargo run -p flux-bearer-world --bin seeds -- --seeds 10000`.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use flux_bearer_world::seeds::{Plan, hunt, play};

/// Plays the controllers through schedules of faults that seeds draw, and prints the story of each seed with which something
/// happens that must never happen
#[derive(Parser)]
struct Args {
    /// How many seeds to play
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,

    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,

    /// Play this one alone, and print its story whatever happens
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
}

#[allow(clippy::disallowed_methods, reason = "how long it really took is what is told")]
fn main() -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        let plan = Plan::draw(seed);
        let outcome = play(&plan)?;
        println!("{plan}{}\n{}", outcome.story.join("\n"), outcome.broken.as_deref().unwrap_or("all is well"));
    }
    let began = Instant::now();
    let seeds = args.seed.map_or(args.from..args.from.saturating_add(args.seeds), |seed| seed..seed.saturating_add(1));
    let hunt = hunt(seeds)?;
    for found in &hunt.found {
        println!("{found}");
    }
    println!(
        "{} runs, {} incidents, {} simulated hours in {} s: {} found",
        hunt.runs,
        hunt.incidents,
        hunt.seconds / 3600,
        began.elapsed().as_secs(),
        hunt.found.len()
    );
    Ok(if hunt.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
