//! Pushing with the token that the controller keeps in the Secret: by git, and by the code of Flux's image automation. Whoever
//! may only read is refused.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::clients;
use crate::flux::URL;
use crate::world::{Run, World};

pub(super) const NAME: &str = "push";

const LIFETIME: u32 = 3600;

/// Time for a commit to reach the cluster.
const ARRIVAL: Duration = Duration::from_secs(20);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let (world, flux, _pod) = World::pulling(run, NAME, LIFETIME, &[]).await?;
    let secret = world.cluster.get("/api/v1/namespaces/flux-system/secrets/fleet").await?;
    let data = secret.pointer("/data").context("the Secret has no data")?;
    let header = format!("Authorization: Bearer {}", bearer_token(data)?);
    let clone = world.repository.clone_over(URL, &header, world.folder().join("clone-over-https")).await?;

    let Err(refused) = clone.commit("refused").await else { bail!("a reader's push by git was taken") };
    let refused = format!("{refused:#}");
    ensure!(refused.contains("403") && refused.contains("TF401027"), "git says {refused}");
    let taken = clients::push(&run.tools, URL, "refused", &data.to_string()).await?;
    let Err(refused) = taken else { bail!("a reader's push by fluxcd/pkg/git was taken") };
    ensure!(refused.contains("authorization failed"), "fluxcd/pkg/git says {refused}");
    world.story.tell("a reader's push is refused: git by TF401027, fluxcd/pkg/git by: authorization failed");

    world.azure().grant_contribute().await?;
    world.azure().forget().await?;
    clone.commit("by git").await?;
    world.wait_for_commit("by git", ARRIVAL).await?;
    world.story.tell("the identity got Contribute: a commit that git pushed with the same token is in the cluster");
    let pushed = clients::push(&run.tools, URL, "by Flux\n", &data.to_string()).await?.map_err(anyhow::Error::msg)?;
    let newest = world.repository.pull().await?;
    ensure!(newest == pushed, "fluxcd/pkg/git pushed {pushed}, main is at {newest}");
    let file = std::fs::read_to_string(world.repository.clone_folder().join("flux.txt"))?;
    ensure!(file == "by Flux\n", "the commit holds {file:?}");
    world.story.tell("so is one that fluxcd/pkg/git/gogit pushed, with what it read of the Secret");

    let seen = world.azure().seen().await?;
    ensure!(seen.mints() == 0, "{} tokens were made to push", seen.mints());
    world.check_pulls(&flux).await?;
    Ok(())
}

fn bearer_token(data: &Value) -> anyhow::Result<String> {
    let encoded = data.get("bearerToken").and_then(Value::as_str).context("the Secret has no bearerToken")?;
    Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
}
