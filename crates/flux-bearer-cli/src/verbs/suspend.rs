//! `suspend` and `resume`: ends the renewal of tokens, and takes it up again.

use serde_json::{Value, json};

use super::refresh::filled;
use crate::age::expires_in;
use crate::args::{Global, Resume, Targets};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::tokens::{self, Token};

pub(super) async fn suspend(wanted: &Targets, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let cluster = edge.clusters.connect(&global.which()).await?;
    for token in tokens::chosen(&cluster, &global.namespace, &wanted.names).await? {
        edge.out.action(&format!("suspending BearerToken {} in {} namespace", token.name, token.namespace));
        cluster.merge(token.at(), &spec_suspend(&json!(true))).await?;
        edge.out.success("BearerToken suspended");
        if let Some(time) = &token.status.expires_at {
            let left = expires_in(time.0, edge.now());
            edge.out.warning(&format!("Secret {} is no longer renewed; its token expires in {left}", token.secret()));
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn resume(wanted: &Resume, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let cluster = edge.clusters.connect(&global.which()).await?;
    let mut tokens = tokens::chosen(&cluster, &global.namespace, &wanted.targets.names).await?;
    for token in &mut tokens {
        edge.out.action(&format!("resuming BearerToken {} in {} namespace", token.name, token.namespace));
        // The field goes, so that the object is again what Git says.
        *token = Token::of(&cluster.merge(token.at(), &spec_suspend(&Value::Null)).await?);
        edge.out.success("BearerToken resumed");
    }
    let mut exit = Exit::Done;
    for token in tokens.iter().filter(|_| !wanted.no_wait) {
        let what = format!("waiting for BearerToken {}", token.name);
        let ended = tokens::wait(edge, &cluster, token, &what, |now| Some((now.outcome()?, now.clone())));
        match ended.await? {
            (Ok(()), now) => edge.out.success(&filled(&now, edge)),
            (Err(message), _) => {
                edge.out.failure(&format!("BearerToken {} is not ready: {message}", token.name));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

fn spec_suspend(value: &Value) -> Value {
    json!({"spec": {"suspend": value}})
}
