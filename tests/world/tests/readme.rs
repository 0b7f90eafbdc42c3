//! What the README shows of the command line is what the command line says.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use flux_bearer_sim::state::State;
use flux_bearer_world::company;
use flux_bearer_world::life::live;
use flux_bearer_world::shell::Shell;
use flux_bearer_world::stage::Stage;

const README: &str = include_str!("../../../README.md");

/// What stands above the transcript, and what ends it.
const BEGIN: &str = "```console\n$ flux-bearer setup";
const END: &str = "\n```";

/// The commands of a transcript: lines that begin with `$`, and those that they go on in.
fn commands(transcript: &str) -> Vec<String> {
    let one_line = transcript.replace("\\\n", "");
    one_line.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// Ids are made anew each time.
fn without_ids(text: &str) -> String {
    let hex = |word: &str| word.chars().all(|letter| letter.is_ascii_hexdigit());
    let id =
        |word: &str| word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && word.split('-').all(hex);
    let words = text.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    words
        .map(|word| {
            let bare = word.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
            if id(bare) { word.replace(bare, "ID") } else { word.to_owned() }
        })
        .collect()
}

/// What the transcript's one command of Azure CLI does.
fn remove_federated_credentials(state: &mut State) {
    let applications = state.tenants.iter_mut().flat_map(|tenant| &mut tenant.applications);
    applications.for_each(|application| application.federated_credentials.clear());
}

#[tokio::test(start_paused = true)]
async fn the_transcript_of_the_readme_is_what_is_said() {
    let from = README.find(BEGIN).unwrap();
    let shown = &README[from + "```console\n".len()..];
    let shown = &shown[..shown.find(END).unwrap()];
    let stage = Stage::bare(company::state().unwrap()).unwrap();
    let life = live(&stage);
    let mut said = String::new();
    for command in commands(shown) {
        said.extend(["$ ", &command, "\n"]);
        if command.starts_with("az identity federated-credential delete ") {
            stage.world.edit(remove_federated_credentials).unwrap();
            continue;
        }
        let ended = Shell::new(&stage).signed_in().run(&command).await;
        said.extend([ended.stdout, ended.stderr]);
    }
    life.end().await;
    let shown = shown.replace("\\\n", "");
    assert_eq!(without_ids(&shown), without_ids(said.trim_end()), "the README should have:\n{said}");
}
