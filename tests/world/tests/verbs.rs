//! The verbs of the command line that look at BearerTokens and change them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::state::State;
use flux_bearer_world::shell::Shell;
use flux_bearer_world::stage::Stage;

fn shell() -> Shell {
    Shell::new(&Stage::new(State::default()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_version_is_that_of_the_program_and_of_the_cluster() {
    let said = shell().run("flux-bearer version").await;
    assert_eq!((said.exit, said.stderr.as_str()), (Exit::Done, ""));
    assert_eq!(said.stdout, format!("flux-bearer: v{}\n", env!("CARGO_PKG_VERSION")));
}
