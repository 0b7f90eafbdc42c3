//! `refresh`: asks the controller for a fresh token now, as `flux reconcile` asks Flux.

use flux_bearer::flux::REQUESTED_AT;

use crate::age::expires_in;
use crate::args::{Global, Refresh};
use crate::cluster::Cluster;
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::tokens::{self, Token};

pub(super) async fn run(wanted: &Refresh, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let cluster = edge.clusters.connect(&global.which()).await?;
    let tokens = tokens::chosen(&cluster, &global.namespace, &wanted.targets.names).await?;
    // One that was named is refused; among all of them, those that are suspended are passed over.
    let (asleep, mut awake): (Vec<Token>, Vec<Token>) = tokens.into_iter().partition(Token::is_suspended);
    for token in &asleep {
        if !wanted.targets.all {
            return Err(suspended(token));
        }
        edge.out.warning(&format!("BearerToken {} is suspended", token.name));
    }
    let request = edge.now().to_string();
    for token in &mut awake {
        edge.out.action(&format!("annotating BearerToken {} in {} namespace", token.name, token.namespace));
        token.version = cluster.annotate(token.at(), REQUESTED_AT, Some(&request)).await?;
        edge.out.success("BearerToken annotated");
    }
    let mut exit = Exit::Done;
    for token in awake.iter().filter(|_| !wanted.no_wait) {
        if let Err(message) = refreshed(edge, &cluster, token, &request).await? {
            edge.out.failure(&format!("BearerToken {} was not refreshed: {message}", token.name));
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

fn suspended(token: &Token) -> Trouble {
    let cause = format!("BearerToken {} is suspended", token.name);
    Trouble::new(Exit::Taken, cause, format!("flux-bearer resume {} -n {}", token.name, token.namespace))
}

/// Waits until the request has been acted on; an error is what kept the token from coming.
async fn refreshed(
    edge: &Edge,
    cluster: &Cluster,
    token: &Token,
    request: &str,
) -> Result<Result<(), String>, Trouble> {
    let what = format!("waiting for the refresh of BearerToken {}", token.name);
    let handled = tokens::wait(edge, cluster, token, &what, |now| {
        let handled = now.status.last_handled_reconcile_at.as_deref() == Some(request);
        handled.then(|| now.clone())
    });
    let now = handled.await?;
    if let Some(message) = now.failing().or_else(|| now.unready()) {
        return Ok(Err(message.to_owned()));
    }
    edge.out.success(&filled(&now, edge));
    Ok(Ok(()))
}

/// What the Secret holds now.
pub(super) fn filled(token: &Token, edge: &Edge) -> String {
    let secret = token.status.secret.as_deref().unwrap_or_else(|| token.secret());
    match &token.status.expires_at {
        Some(time) => {
            format!("Secret {secret} holds a token until {} (expires in {})", time.0, expires_in(time.0, edge.now()))
        }
        None => format!("Secret {secret} holds a token"),
    }
}
