//! What a person does in Azure's portal, done through the simulator's admin API; and what the simulator saw.

use anyhow::Context;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::journal::{Counts, Endpoint, TokenVerdict};
use flux_bearer_sim::state::{
    Application, FederatedCredential, Kind, Member, Organization, PersonalAccessToken, State,
};
use http::Method;
use serde::Deserialize;

use crate::http_client;

/// The tenant of `state.yaml`.
pub(crate) const TENANT_ID: &str = "00000000-aaaa-4000-8000-000000000001";
/// Client id of the managed identity that is made.
pub(crate) const CLIENT_ID: &str = "00000000-bbbb-4000-8000-000000000001";
const OBJECT_ID: &str = "00000000-cccc-4000-8000-000000000001";
/// How the operator of `state.yaml` signs in: by the environment.
pub(crate) const OPERATOR: [(&str, &str); 3] = [
    ("AZURE_TENANT_ID", TENANT_ID),
    ("AZURE_CLIENT_ID", "00000000-dddd-4000-8000-000000000001"),
    ("AZURE_CLIENT_SECRET", OPERATOR_SECRET),
];

/// That operator's secret.
pub(crate) const OPERATOR_SECRET: &str = "0perator~secret";

/// The personal access token that [`Azure::create_pat`] makes. The simulator takes for one what it is told.
pub(crate) const PAT: &str = "personal-access-token-of-a-person";

/// Object id of that operator.
pub(crate) const OPERATOR_OBJECT: &str = "00000000-dddd-4000-8000-000000000002";

/// Object id of a person.
const PERSON: &str = "00000000-eeee-4000-8000-000000000001";

/// Who the API server says that our controller is.
pub(crate) const ISSUER: &str = "https://127.0.0.1:6443";
/// The controller's service account, as the API server's tokens name it.
pub(crate) const SUBJECT: &str = "system:serviceaccount:flux-system:flux-bearer-controller";

/// The simulated Azure.
#[derive(Clone, Debug)]
pub(crate) struct Azure {
    admin: String,
}

/// What the simulator has seen since it was last asked to forget.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seen {
    /// Requests, mints and verdicts.
    pub(crate) counts: Counts,
    /// Requests that carried a token nobody accepts.
    pub(crate) dead_tokens_seen: u64,
}

impl Seen {
    /// Times that a Git client asked for the references: the beginning of every fetch and every probe.
    pub(crate) fn looks(&self) -> u64 {
        self.counts.requests.get(&Endpoint::GitRefs).copied().unwrap_or_default()
    }

    /// Requests whose token opened nothing, for whichever reason.
    pub(crate) fn refused(&self) -> u64 {
        let opened = [TokenVerdict::None, TokenVerdict::Valid];
        self.counts.verdicts.iter().filter(|(verdict, _)| !opened.contains(verdict)).map(|(_, count)| count).sum()
    }

    /// Tokens made for our identity.
    pub(crate) fn mints(&self) -> u64 {
        self.mints_of(CLIENT_ID)
    }

    /// Tokens made for this client.
    pub(crate) fn mints_of(&self, client_id: &str) -> u64 {
        self.counts.mints.get(client_id).copied().unwrap_or_default()
    }
}

impl Azure {
    /// The Azure whose admin API is at this URL.
    pub(crate) fn at(admin: &str) -> Self {
        Self { admin: admin.trim_end_matches('/').to_owned() }
    }

    /// The URL of its admin API.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Takes it back to `state`, without faults and memories.
    pub(crate) async fn reset(&self, state: &str) -> anyhow::Result<()> {
        self.send(Method::PUT, "/state", state.to_owned()).await?;
        self.send(Method::DELETE, "/faults", String::new()).await?;
        self.forget().await
    }

    /// Creates the managed identity, whose tokens live this many seconds.
    pub(crate) async fn create_identity(&self, lifetime: u32) -> anyhow::Result<()> {
        let identity = Application {
            name: "flux-bearer".to_owned(),
            kind: Kind::ManagedIdentity,
            client_id: CLIENT_ID.to_owned(),
            object_id: OBJECT_ID.to_owned(),
            token_lifetime_seconds: Some(lifetime),
            ..Application::default()
        };
        self.edit(|state| state.tenants.iter_mut().for_each(|tenant| tenant.applications.push(identity.clone()))).await
    }

    /// Adds the identity to the organisation, and lets it read project and repository.
    pub(crate) async fn grant_read(&self) -> anyhow::Result<()> {
        self.edit(|state| state.organizations.iter_mut().for_each(|organization| admit(organization, OBJECT_ID))).await
    }

    /// Makes a personal access token of a person who may read the repository.
    pub(crate) async fn create_pat(&self) -> anyhow::Result<()> {
        let pat = PersonalAccessToken { value: PAT.to_owned(), object_id: PERSON.to_owned(), expires_at: None };
        self.edit(|state| {
            for organization in &mut state.organizations {
                admit(organization, PERSON);
                organization.personal_access_tokens.push(pat.clone());
            }
        })
        .await
    }

    /// Lets the person with the personal access token push.
    pub(crate) async fn grant_push(&self) -> anyhow::Result<()> {
        self.make_contributor(PERSON).await
    }

    /// Lets the identity push.
    pub(crate) async fn grant_contribute(&self) -> anyhow::Result<()> {
        self.make_contributor(OBJECT_ID).await
    }

    async fn make_contributor(&self, object_id: &str) -> anyhow::Result<()> {
        self.edit(|state| {
            let projects = state.organizations.iter_mut().flat_map(|organization| &mut organization.projects);
            let repositories = projects.flat_map(|project| &mut project.repositories);
            repositories.for_each(|repository| repository.contributors.push(object_id.to_owned()));
        })
        .await
    }

    /// Lets the controller's service account sign in as the identity.
    pub(crate) async fn federate(&self) -> anyhow::Result<()> {
        let credential = credential(SUBJECT);
        self.edit(|state| {
            let applications = state.tenants.iter_mut().flat_map(|tenant| &mut tenant.applications);
            applications
                .filter(|one| one.kind == Kind::ManagedIdentity)
                .for_each(|application| application.federated_credentials.push(credential.clone()));
        })
        .await
    }

    /// Creates one more managed identity, which may read all that is there and which this account signs in as.
    pub(crate) async fn create_reader(&self, client_id: &str, lifetime: u32, subject: &str) -> anyhow::Result<()> {
        let object_id = client_id.replace("bbbb", "cccc");
        let identity = Application {
            name: "reader".to_owned(),
            kind: Kind::ManagedIdentity,
            client_id: client_id.to_owned(),
            object_id: object_id.clone(),
            token_lifetime_seconds: Some(lifetime),
            federated_credentials: vec![credential(subject)],
            ..Application::default()
        };
        self.edit(|state| {
            state.tenants.iter_mut().for_each(|tenant| tenant.applications.push(identity.clone()));
            state.organizations.iter_mut().for_each(|organization| admit(organization, &object_id));
        })
        .await
    }

    /// From now on Entra ID answers 503.
    pub(crate) async fn begin_outage(&self) -> anyhow::Result<()> {
        let effect = Effect::Answer { status: 503, retry_after: None, content_type: None, body: String::new() };
        let fault = Fault {
            name: "outage".to_owned(),
            host: Some("login.microsoftonline.com".to_owned()),
            effect: Some(effect),
            ..Fault::default()
        };
        self.set_fault(&fault).await
    }

    /// From now on requests meet this fault, too.
    pub(crate) async fn set_fault(&self, fault: &Fault) -> anyhow::Result<()> {
        self.send(Method::PUT, "/faults", serde_json::to_string(fault)?).await.map(drop)
    }

    /// This fault is over.
    pub(crate) async fn end_fault(&self, name: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, &format!("/faults/{name}"), String::new()).await.map(drop)
    }

    /// Entra ID works again.
    pub(crate) async fn end_outage(&self) -> anyhow::Result<()> {
        self.end_fault("outage").await
    }

    /// All that Azure knows.
    pub(crate) async fn state(&self) -> anyhow::Result<State> {
        let answer = self.send(Method::GET, "/state", String::new()).await?;
        serde_json::from_slice(&answer).context("the state can't be read")
    }

    /// What was seen since [`Self::forget`].
    pub(crate) async fn seen(&self) -> anyhow::Result<Seen> {
        let answer = self.send(Method::GET, "/journal?last=0", String::new()).await?;
        serde_json::from_slice(&answer).context("the journal can't be read")
    }

    /// Counts from nothing again.
    pub(crate) async fn forget(&self) -> anyhow::Result<()> {
        self.send(Method::DELETE, "/journal", String::new()).await.map(drop)
    }

    /// Changes what it knows.
    pub(crate) async fn edit(&self, change: impl FnOnce(&mut State)) -> anyhow::Result<()> {
        let mut state = self.state().await?;
        change(&mut state);
        self.send(Method::PUT, "/state", serde_json::to_string_pretty(&state)?).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str, body: String) -> anyhow::Result<bytes::Bytes> {
        http_client::send(method, &format!("{}{path}", self.admin), body).await
    }
}

/// What lets a service account of the cluster sign in.
pub(crate) fn credential(subject: &str) -> FederatedCredential {
    FederatedCredential {
        name: subject.rsplit(':').next().unwrap_or_default().to_owned(),
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        audience: crate::controller::AUDIENCE.to_owned(),
        created_at: None,
    }
}

/// Adds somebody to an organisation, with the right to read all that is in it.
pub(crate) fn admit(organization: &mut Organization, object_id: &str) {
    organization.members.push(Member { object_id: object_id.to_owned(), ..Member::default() });
    for project in &mut organization.projects {
        project.readers.push(object_id.to_owned());
        project.repositories.iter_mut().for_each(|repository| repository.readers.push(object_id.to_owned()));
    }
}
