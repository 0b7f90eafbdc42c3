//! A tenant's namespace is deleted while tokens are written into it: it goes, and the controller is quiet.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::audit;
use crate::azure::{CLIENT_ID, TENANT_ID};
use crate::controller::{self, BEARER_TOKEN};
use crate::flux::Retries;
use crate::kubelet::Running;
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "namespace";

/// The tenant's namespace, as a path of the API.
const TENANT: &str = "/api/v1/namespaces/tenant";

/// Its BearerTokens.
const COUNT: usize = 20;

/// Seconds that a token lives: short, so that refreshes fall into the deletion.
const LIFETIME: u32 = 20;

/// Time for the namespace to go.
const GONE: Duration = Duration::from_secs(60);

/// How long it is listened for noise: a lifetime.
const QUIET: Duration = Duration::from_secs(LIFETIME as u64);

/// Requests that are made for the one BearerToken that is left: two writes for each of three refreshes, and for two more: a
/// token that was minted for the tenant may be almost due when it is written.
const OF_ONE: usize = 10;

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    let _flux = world.start_flux(Retries::Quick).await?;
    let names: Vec<String> = (0..COUNT).map(|number| format!("token-{number}")).collect();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant"}});
    world.cluster.apply(&namespace.to_string()).await?;
    controller::name_secrets(&world.cluster, "tenant", &names).await?;
    let pod = world.start_controller(&[&format!("--allow-identity=tenant={TENANT_ID}/{CLIENT_ID}")]).await?;
    world.set_up_azure(LIFETIME).await?;
    world.fill_secret().await?;
    for name in &names {
        world.cluster.apply(&token(name).to_string()).await?;
    }
    for name in &names {
        world.cluster.wait_ready(&path(name), READY).await?;
    }
    world.story.tell(&format!("{COUNT} BearerTokens of another namespace are Ready"));
    delete_while_writing(&world, &pod, &names).await?;
    stay_quiet(&world, &pod).await?;
    Ok(())
}

fn token(name: &str) -> serde_json::Value {
    controller::bearer_token("tenant", name, &json!({"identity": {"tenantId": TENANT_ID, "clientId": CLIENT_ID}}))
}

fn path(name: &str) -> String {
    format!("/apis/flux-bearer.dev/v1alpha1/namespaces/tenant/bearertokens/{name}")
}

async fn delete_while_writing(world: &World<'_>, pod: &Running, names: &[String]) -> anyhow::Result<()> {
    let (mark, lines) = (audit::mark(&world.cluster.audit_log())?, complaints(pod)?);
    let now = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
    let (before, after) = names.split_at(names.len() / 2);
    for name in before {
        world.cluster.merge(&path(name), &now).await?;
    }
    let began = Instant::now();
    world.cluster.delete(TENANT).await?;
    for name in after {
        // An error means that the BearerToken is gone already.
        drop(world.cluster.merge(&path(name), &now).await);
    }
    wait_for("the namespace to go", GONE, async || match world.cluster.get(TENANT).await {
        Ok(namespace) => Err(anyhow!("it is {}", namespace.pointer("/status/conditions").unwrap_or(&namespace))),
        Err(error) if error.to_string().contains("NotFound") => Ok(()),
        Err(error) => Err(error),
    })
    .await?;
    let asked = audit::since(&world.cluster.audit_log(), mark)?;
    world.story.tell(&format!(
        "the namespace was gone after {:.1} s; meanwhile the controller complained {} times and asked {asked:?}",
        began.elapsed().as_secs_f64(),
        complaints(pod)? - lines
    ));
    ensure!(asked.secret_writes > 0, "no token was written meanwhile");
    ensure!(
        complaints(pod)? - lines <= 2 * COUNT,
        "{} complaints about {COUNT} BearerTokens",
        complaints(pod)? - lines
    );
    Ok(())
}

async fn stay_quiet(world: &World<'_>, pod: &Running) -> anyhow::Result<()> {
    let (mark, lines) = (audit::mark(&world.cluster.audit_log())?, complaints(pod)?);
    sleep(QUIET).await;
    let (asked, said) = (audit::since(&world.cluster.audit_log(), mark)?, complaints(pod)? - lines);
    world.story.tell(&format!("{} s later: {said} complaints, {asked:?}", QUIET.as_secs()));
    ensure!(said == 0, "{said} complaints about a namespace that is gone:\n{}", pod.log()?);
    ensure!(asked.forbidden == 0, "{} requests were refused", asked.forbidden);
    ensure!(asked.writes() + asked.secret_reads + asked.others <= OF_ONE, "too many requests: {asked:?}");
    world.cluster.wait_ready(BEARER_TOKEN, READY).await
}

/// Lines of errors and warnings in its log.
fn complaints(pod: &Running) -> anyhow::Result<usize> {
    let is_complaint = |line: &&str| {
        line.contains(r#""level":"error""#) || line.contains("not written") || line.contains("interrupted")
    };
    Ok(pod.log()?.lines().filter(is_complaint).count())
}
