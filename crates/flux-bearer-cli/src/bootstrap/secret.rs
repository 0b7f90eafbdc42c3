//! The Secret that Flux pulls with: filled before, and holding nothing else afterwards.

use std::time::Duration;

use flux_bearer::secret::{Held, cleaning};
use tokio::time::sleep;

use super::Job;
use crate::cluster::{At, Cluster};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::SECRET;
use crate::tokens::chosen;

/// Pause between two looks at it.
const EVERY: Duration = Duration::from_secs(1);

fn at<'a>(job: &'a Job<'_>) -> At<'a> {
    At { kind: SECRET, namespace: &job.global.namespace, name: job.secret }
}

/// What it is to the BearerToken.
async fn held(job: &Job<'_>, cluster: &Cluster) -> Result<Held, Trouble> {
    let tokens = chosen(cluster, &job.global.namespace, &[]).await?;
    let lives = |name: &str| tokens.iter().any(|token| token.name == name);
    let found = cluster.metadata(at(job)).await?;
    Ok(Held::read(found.as_ref().map(|found| &found.metadata), job.bearer_token, lives))
}

/// Only a Secret that is filled keeps the token that pushes out of the cluster.
pub(super) async fn check_filled(job: &Job<'_>, cluster: &Cluster, edge: &Edge) -> Result<(), Trouble> {
    let held = held(job, cluster).await?;
    if held.record().is_some_and(|record| record.expires_at > edge.now()) {
        return Ok(());
    }
    let namespace = &job.global.namespace;
    Err(Trouble::new(
        Exit::NotFound,
        format!("{} holds no working token of BearerToken {}: Flux could not pull with it", at(job), job.bearer_token),
        format!("flux-bearer check -n {namespace}; flux-bearer setup --repository {} makes it", job.repository),
    ))
}

/// Takes out what `flux` has put in, and waits until the controller's own token stands.
pub(super) async fn settle(job: &Job<'_>, cluster: &Cluster, edge: &Edge) -> Result<(), Trouble> {
    let mut waits = false;
    loop {
        match held(job, cluster).await? {
            Held::Ours { version, record: Some(record), leftovers: Some(_), .. } => {
                edge.out.action(&format!("removing what else {} holds", at(job)));
                match cluster.merge_secret(at(job), &cleaning(&version, record.formats, false)).await {
                    // Somebody has changed it meanwhile: what it is now counts.
                    Err(trouble) if trouble.exit == Exit::Taken => sleep(EVERY).await,
                    done => done?,
                }
                continue;
            }
            Held::Ours { record: Some(_), drift: None, .. } => break,
            _ => {}
        }
        if !waits {
            edge.out.waiting(&format!("waiting for the controller to put its token back into {}", at(job)));
            waits = true;
        }
        sleep(EVERY).await;
    }
    edge.out.success(&format!("{} holds the identity's token, and no other credential", at(job)));
    Ok(())
}
