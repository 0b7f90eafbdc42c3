//! `get`: the BearerTokens and how long their tokens still live.

use std::collections::HashSet;
use std::time::Duration;

use flux_bearer::repository::Repository;
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::age::{age, expires_in, until};
use crate::args::{Format, Get, Global};
use crate::cluster::Cluster;
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::BEARER_TOKEN;
use crate::tokens::{self, Token};

/// How often `--watch` looks.
const AGAIN: Duration = Duration::from_secs(2);

/// Names of the kind, which kubectl's and Flux's users put before those of the objects.
const KIND: [&str; 3] = ["bearertokens", "bearertoken", "bt"];

const HEADER: [&str; 6] = ["NAME", "READY", "EXPIRES-IN", "IDENTITY", "SECRET", "MESSAGE"];
const WIDE: [&str; 9] =
    ["NAME", "READY", "EXPIRES-IN", "IDENTITY", "SECRET", "NEXT-REFRESH", "SUSPENDED", "REPOSITORIES", "MESSAGE"];

pub(super) async fn run(wanted: &Get, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let cluster = edge.clusters.connect(&global.which()).await?;
    let names = match wanted.names.split_first() {
        Some((first, rest)) if KIND.contains(&first.as_str()) => rest,
        _ => &wanted.names,
    };
    let mut objects = find(wanted, names, global, &cluster).await?;
    if objects.is_empty() && !matches!(global.output, Format::Json | Format::Yaml) {
        edge.out.failure(&nothing(wanted, global));
    }
    show(&objects, names, &View { header: !wanted.no_header, ..View::of(wanted, global, edge) }, edge);
    if !wanted.watch {
        return Ok(Exit::Done);
    }
    loop {
        sleep(AGAIN).await;
        let before: HashSet<_> = objects.iter().map(version).collect();
        objects = find(wanted, names, global, &cluster).await?;
        let changed: Vec<_> = objects.iter().filter(|object| !before.contains(&version(object))).cloned().collect();
        if !changed.is_empty() {
            show(&changed, names, &View::of(wanted, global, edge), edge);
        }
    }
}

async fn find(
    wanted: &Get,
    names: &[String],
    global: &Global,
    cluster: &Cluster,
) -> Result<Vec<DynamicObject>, Trouble> {
    if names.is_empty() {
        let namespace = (!wanted.all_namespaces).then_some(global.namespace.as_str());
        return cluster.list_labelled(BEARER_TOKEN, namespace, wanted.selector.as_deref()).await;
    }
    let mut found = Vec::new();
    for name in names {
        found.push(tokens::named(cluster, &global.namespace, name).await?);
    }
    Ok(found)
}

fn nothing(wanted: &Get, global: &Global) -> String {
    if wanted.all_namespaces {
        return "no BearerToken objects found".to_owned();
    }
    format!("no BearerToken objects found in \"{}\" namespace", global.namespace)
}

fn version(object: &DynamicObject) -> (Option<String>, Option<String>) {
    (object.metadata.uid.clone(), object.metadata.resource_version.clone())
}

/// How they are shown.
struct View {
    format: Format,
    namespaces: bool,
    header: bool,
    now: Timestamp,
}

impl View {
    fn of(wanted: &Get, global: &Global, edge: &Edge) -> Self {
        Self { format: global.output, namespaces: wanted.all_namespaces, header: false, now: edge.now() }
    }
}

fn show(objects: &[DynamicObject], names: &[String], view: &View, edge: &Edge) {
    match view.format {
        Format::Json | Format::Yaml => edge.out.document(view.format, &document(objects, names)),
        Format::Name => {
            let line = |token: Token| format!("bearertoken.{}/{}\n", BEARER_TOKEN.group, token.name);
            edge.out.data(&objects.iter().map(Token::of).map(line).collect::<String>());
        }
        Format::Table | Format::Wide | Format::Short => table(objects, view, edge),
    }
}

/// One that was named is itself, everything else is a list: as kubectl does.
fn document(objects: &[DynamicObject], names: &[String]) -> Value {
    let plain = |object: &DynamicObject| {
        let mut object = object.clone();
        object.metadata.managed_fields = None;
        json!(object)
    };
    if let ([one], [_]) = (objects, names) {
        return plain(one);
    }
    let items: Vec<Value> = objects.iter().map(plain).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn table(objects: &[DynamicObject], view: &View, edge: &Edge) {
    if objects.is_empty() {
        return;
    }
    let wide = view.format == Format::Wide;
    let mut header = if wide { WIDE.to_vec() } else { HEADER.to_vec() };
    if view.namespaces {
        header.insert(0, "NAMESPACE");
    }
    if !view.header {
        header.clear();
    }
    let rows = objects.iter().map(|object| row(&Token::of(object), wide, view));
    edge.out.table(&header, rows.collect());
}

fn row(token: &Token, wide: bool, view: &View) -> Vec<String> {
    let status = &token.status;
    let holder = status.identity.as_ref().and_then(|identity| identity.client_id.clone());
    let named = token.spec.as_ref().and_then(|spec| spec.identity.client_id.clone());
    let mut row = vec![
        token.name.clone(),
        truth(token.is_ready()),
        status.expires_at.as_ref().map_or_else(nobody, |time| expires_in(time.0, view.now)),
        holder.or(named).unwrap_or_else(nobody),
        status.secret.clone().unwrap_or_else(|| token.secret().to_owned()),
    ];
    if wide {
        let due = |left: i64| if left > 0 { age(left) } else { format!("due {} ago", age(left.saturating_neg())) };
        row.push(status.refresh_at.as_ref().map_or_else(nobody, |time| due(until(time.0, view.now))));
        row.push(truth(token.is_suspended()));
        row.push(repositories(token));
    }
    row.push(token.message().to_owned());
    if view.namespaces {
        row.insert(0, token.namespace.clone());
    }
    row
}

fn nobody() -> String {
    "-".to_owned()
}

/// As Flux writes it.
fn truth(is: bool) -> String {
    if is { "True" } else { "False" }.to_owned()
}

/// The repositories that are probed: those of the GitRepositories, and those that the spec names, without any user that stands
/// in a URL.
fn repositories(token: &Token) -> String {
    let named = token.spec.iter().flat_map(|spec| &spec.repositories);
    let named = named.map(|url| Repository::parse(url).map_or_else(|_| "invalid".to_owned(), |good| good.to_string()));
    std::iter::once("of the GitRepositories".to_owned()).chain(named).collect::<Vec<_>>().join(",")
}
