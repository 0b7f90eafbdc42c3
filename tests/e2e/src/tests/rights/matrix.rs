//! Every verb on every kind, asked of the API server, against a list of what is granted.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::Client;
use kube::api::{Api, PostParams};

use super::{TENANT, account};
use crate::cluster::NAMESPACE;

/// The verbs of requests, those that RBAC itself asks about, and that of the token proxy of AKS.
const VERBS: [&str; 12] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "impersonate",
    "bind",
    "escalate",
    "use-managed-identity",
];

/// Names that are asked about of every kind: none, one that no right names, and that of our Secret.
const NAMES: [&str; 3] = ["", "other", "flux-system"];

/// Where a kind with namespaces is asked about: in all of them at once, in ours, and in one that is none of our business.
const PLACES: [&str; 3] = ["", NAMESPACE, TENANT];

/// Questions that are on their way at a time.
const AT_A_TIME: usize = 32;

/// A right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    verbs: &'static str,
    resource: &'static str,
    namespace: Option<&'static str>,
    names: &'static [&'static str],
}

/// The right to these verbs, with blanks between, on all objects of `group/resource`; the core group has no name.
pub(super) fn may(verbs: &'static str, resource: &'static str) -> Grant {
    Grant { verbs, resource, namespace: None, names: &[] }
}

impl Grant {
    /// In this namespace alone.
    pub(super) fn within(self, namespace: &'static str) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    /// On objects of these names alone.
    pub(super) fn named(self, names: &'static [&'static str]) -> Self {
        Self { names, ..self }
    }

    fn covers(&self, question: &Question<'_>) -> bool {
        self.verbs.split(' ').any(|verb| verb == question.verb)
            && self.resource == question.kind.full()
            && self.namespace.is_none_or(|namespace| namespace == question.namespace)
            && (self.names.is_empty() || self.names.contains(&question.name))
    }
}

/// Whose rights they are.
#[derive(Clone, Debug)]
pub(super) struct User {
    name: String,
    groups: Vec<String>,
}

impl User {
    /// The controller's account.
    pub(super) fn controller() -> Self {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:flux-system", "system:authenticated"];
        Self {
            name: format!("system:serviceaccount:{NAMESPACE}:{}", account::NAME),
            groups: groups.map(str::to_owned).to_vec(),
        }
    }

    /// Somebody who has signed in.
    pub(super) fn person(name: &str) -> Self {
        Self { name: name.to_owned(), groups: vec!["system:authenticated".to_owned()] }
    }
}

/// A kind that rights can be had on, with its subresource.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Kind {
    group: String,
    resource: String,
    namespaced: bool,
}

impl Kind {
    /// Whether it is of our own group.
    pub(super) fn is_ours(&self) -> bool {
        self.group == "flux-bearer.dev"
    }

    fn full(&self) -> String {
        if self.group.is_empty() { self.resource.clone() } else { format!("{}/{}", self.group, self.resource) }
    }
}

/// Every kind that the API server serves, and those that only RBAC knows.
pub(super) async fn kinds(client: &Client) -> anyhow::Result<Vec<Kind>> {
    let mut lists = vec![(String::new(), client.list_core_api_resources("v1").await?)];
    for group in client.list_api_groups().await?.groups {
        for version in &group.versions {
            lists.push((group.name.clone(), client.list_api_group_resources(&version.group_version).await?));
        }
    }
    let served = lists.into_iter().flat_map(|(group, list)| {
        let kind = move |resource: APIResource| Kind {
            group: group.clone(),
            resource: resource.name,
            namespaced: resource.namespaced,
        };
        list.resources.into_iter().map(kind)
    });
    let unserved = [
        ("", "users"),
        ("", "groups"),
        ("cid.wi.aks.azure.com", "00000000-0000-0000-0000-000000000000"),
        ("cid.wi.aks.azure.com", "00000000-0000-0000-0000-000000000001"),
    ];
    let unserved = unserved.map(|(group, resource)| Kind {
        group: group.to_owned(),
        resource: resource.to_owned(),
        namespaced: false,
    });
    let all: BTreeSet<Kind> = served.chain(unserved).collect();
    Ok(all.into_iter().collect())
}

/// One question: may he do this with the object of this name, or with any if there is none?
#[derive(Clone, Copy, Debug)]
struct Question<'a> {
    verb: &'static str,
    kind: &'a Kind,
    namespace: &'static str,
    name: &'static str,
}

impl fmt::Display for Question<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {:?} in namespace {:?}", self.verb, self.kind.full(), self.name, self.namespace)
    }
}

/// How many questions were asked, and how many were answered with yes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) questions: usize,
    pub(super) allowed: usize,
}

/// Asks whether `user` may do each verb on each of `kinds`. Fails unless each answer is that of `grants`.
pub(super) async fn ask(client: &Client, user: &User, kinds: &[Kind], grants: &[Grant]) -> anyhow::Result<Asked> {
    let questions: Vec<Question<'_>> = kinds.iter().flat_map(|kind| questions(kind, grants)).collect();
    let answers = stream::iter(&questions).map(|question| answer(client, user, question));
    let answers: Vec<bool> = answers.buffered(AT_A_TIME).try_collect().await?;
    let expected = |question: &Question<'_>| grants.iter().any(|grant| grant.covers(question));
    let wrong: Vec<String> = questions
        .iter()
        .zip(&answers)
        .filter(|(question, allowed)| expected(question) != **allowed)
        .map(|(question, allowed)| format!("{question}: {}", if *allowed { "allowed" } else { "refused" }))
        .collect();
    ensure!(wrong.is_empty(), "{} answers are not as written:\n{}", wrong.len(), wrong.join("\n"));
    let unasked = grants.iter().find(|grant| !questions.iter().any(|question| grant.covers(question)));
    ensure!(unasked.is_none(), "nothing was asked about {unasked:?}");
    Ok(Asked { questions: questions.len(), allowed: answers.into_iter().filter(|allowed| *allowed).count() })
}

/// Every verb, in every place, on every name that matters for this kind.
fn questions<'a>(kind: &'a Kind, grants: &[Grant]) -> Vec<Question<'a>> {
    let granted = grants.iter().filter(|grant| grant.resource == kind.full()).flat_map(|grant| grant.names);
    let names: BTreeSet<&'static str> = NAMES.iter().chain(granted).copied().collect();
    let places = if kind.namespaced { &PLACES[..] } else { &[""] };
    let mut questions = Vec::new();
    for verb in VERBS {
        for namespace in places {
            questions.extend(names.iter().map(|name| Question { verb, kind, namespace, name }));
        }
    }
    questions
}

async fn answer(client: &Client, user: &User, question: &Question<'_>) -> anyhow::Result<bool> {
    let (resource, subresource) = match question.kind.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (question.kind.resource.as_str(), None),
    };
    let attributes = ResourceAttributes {
        verb: Some(question.verb.to_owned()),
        group: Some(question.kind.group.clone()),
        resource: Some(resource.to_owned()),
        subresource,
        namespace: Some(question.namespace.to_owned()),
        name: Some(question.name.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        groups: Some(user.groups.clone()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.with_context(|| format!("no answer to {question}"))?.allowed)
}
