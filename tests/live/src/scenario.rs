//! What both are asked: all that flux-bearer asks of Azure, and the refusals that it has to understand.
//!
//! A step has a name, under which its answers are compared. The clients of flux-bearer ask wherever they can; a request
//! of our own is one whose refusal is the point. What takes time at Azure is asked again until it is there.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use flux_bearer_azure::arm::{FederatedCredential, Tags, UserAssigned};
use flux_bearer_azure::devops::{Entitlement, EntitlementRefused, Member, Namespace, NotAdded, bits, discover_tenant};
use flux_bearer_azure::operator::Resource;
use flux_bearer_sim::issuer::Issuer;
use http::{Method, Response};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::azure::{As, Azure, Body, url};
use crate::clean::{PREFIX, TAG, tokens};

/// Nobody's id: of an application, of a tenant, of a member.
const NOBODY: &str = "b2a5c9e1-7d34-4f0e-9a51-6c0de1f0a9b3";

const DEVOPS_SCOPE: &str = "499b84ac-1321-427f-aa17-267ca6975798/.default";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const SUPPRESS: (&str, &str) = ("X-TFS-FedAuthRedirect", "Suppress");

const LOGIN: &str = "login.microsoftonline.com";
const ARM: &str = "management.azure.com";
const CORE: &str = "dev.azure.com";
const GRAPH: &str = "vssps.dev.azure.com";
const ENTITLEMENTS: &str = "vsaex.dev.azure.com";
const PREVIEW: (&str, &str) = ("api-version", "7.1-preview.1");

/// Federated credentials that an identity may have.
const MOST_CREDENTIALS: usize = 20;

/// Between two attempts at what takes time, and how many there are: ten minutes.
const AGAIN: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 60;

/// One run, and what has to be known of it to clean up.
#[derive(Debug)]
pub struct Run {
    /// Its id: lower-case letters and digits.
    pub id: String,
    member: Mutex<Option<String>>,
}

impl Run {
    /// A run that has made nothing yet.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), member: Mutex::default() }
    }

    /// The name of its resource group, and of the identity in it.
    pub fn name(&self) -> String {
        format!("{PREFIX}{}", self.id)
    }

    /// The storage key of the member that it has added.
    pub fn member(&self) -> Option<String> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn added(&self, member: &Entitlement) {
        *self.member.lock().unwrap_or_else(PoisonError::into_inner) = Some(member.id.clone());
    }
}

/// Plays all of it, and leaves what it made to [`crate::clean`].
///
/// # Errors
/// What kept it from going on.
pub async fn play(azure: &Azure, run: &Run) -> anyhow::Result<()> {
    sign_in(azure).await?;
    strangers(azure, run).await?;
    caller(azure).await?;
    git(azure).await?;
    let identity = identity(azure, run).await?;
    credentials(azure, run, &identity).await?;
    assertions(azure, run, &identity).await?;
    let member = member(azure, run, &identity).await?;
    group(azure, &member).await?;
    rights(azure, &member).await?;
    removal(azure, run, &identity).await
}

/// Posts a form to the token endpoint of a tenant.
async fn token(azure: &Azure, step: &str, tenant: &str, fields: &[(&str, &str)]) -> anyhow::Result<Response<Bytes>> {
    azure.recorder.step(step);
    let url = url(LOGIN, &[tenant, "oauth2", "v2.0", "token"], &[])?;
    azure.send(Method::POST, &url, As::Nobody, &[], Body::Form(fields)).await
}

/// Refusals that need no right, and no application.
async fn sign_in(azure: &Azure) -> anyhow::Result<()> {
    let tenant = &azure.settings.tenant;
    let fields = |proof: [(&'static str, &'static str); 2], scope: &'static str| {
        let grant = [("grant_type", "client_credentials"), ("client_id", NOBODY), ("scope", scope)];
        [grant.as_slice(), proof.as_slice()].concat()
    };
    let secret = [("client_secret", "flux-bearer"), ("client_info", "1")];
    let assertion = [("client_assertion_type", JWT_BEARER), ("client_assertion", "flux-bearer")];
    let bare_scope = "499b84ac-1321-427f-aa17-267ca6975798";
    token(azure, "sign-in/unknown-client", tenant, &fields(secret, DEVOPS_SCOPE)).await?;
    token(azure, "sign-in/unknown-tenant", NOBODY, &fields(secret, DEVOPS_SCOPE)).await?;
    token(azure, "sign-in/no-default", tenant, &fields(secret, bare_scope)).await?;
    token(azure, "sign-in/malformed-assertion", tenant, &fields(assertion, DEVOPS_SCOPE)).await?;
    let nothing = [("client_info", "1"), ("x-client-sku", "flux-bearer")];
    token(azure, "sign-in/no-proof", tenant, &fields(nothing, DEVOPS_SCOPE)).await?;
    token(azure, "sign-in/no-grant", tenant, &[("client_id", NOBODY)]).await?;
    Ok(())
}

/// What those get who are not signed in: from Azure Resource Manager, and from an organisation that is not there.
async fn strangers(azure: &Azure, run: &Run) -> anyhow::Result<()> {
    let subscription = url(ARM, &["subscriptions", &azure.settings.subscription], &[("api-version", "2022-12-01")])?;
    for (step, sender) in [("arm/no-token", As::Nobody), ("arm/garbage", As::Garbage)] {
        azure.recorder.step(step);
        azure.send(Method::GET, &subscription, sender, &[], Body::Nothing).await?;
    }
    azure.recorder.step("tenant/organization");
    discover_tenant(azure.http(), &azure.settings.organization).await?;
    azure.recorder.step("tenant/no-such-organization");
    // Its name is not taken: nobody else has the prefix.
    discover_tenant(azure.http(), &run.name()).await?;
    Ok(())
}

/// Whom Azure DevOps takes somebody for, and what it says of its interfaces.
async fn caller(azure: &Azure) -> anyhow::Result<()> {
    let organization = azure.settings.organization.as_str();
    let data = url(CORE, &[organization, "_apis", "connectionData"], &[PREVIEW])?;
    let plain: &[(&str, &str)] = &[];
    for (step, sender, headers) in [
        ("caller/no-token", As::Nobody, plain),
        ("caller/no-token-suppressed", As::Nobody, &[SUPPRESS]),
        ("caller/garbage", As::Garbage, plain),
        ("caller/garbage-suppressed", As::Garbage, &[SUPPRESS]),
    ] {
        azure.recorder.step(step);
        azure.send(Method::GET, &data, sender, headers, Body::Nothing).await?;
    }
    azure.recorder.step("caller/who-am-i");
    azure.devops.who_am_i().await?;
    for host in [CORE, GRAPH, ENTITLEMENTS] {
        let interfaces = url(host, &[organization, "_apis"], &[])?;
        azure.recorder.step("caller/interfaces-no-token");
        azure.send(Method::OPTIONS, &interfaces, As::Nobody, &[], Body::Nothing).await?;
        azure.recorder.step("caller/interfaces");
        azure.send(Method::OPTIONS, &interfaces, As::Operator(Resource::AzureDevOps), &[], Body::Nothing).await?;
    }
    Ok(())
}

/// What Git is answered first.
async fn git(azure: &Azure) -> anyhow::Result<()> {
    let settings = &azure.settings;
    let refs = |repository: &str| {
        let segments = [&settings.organization, &settings.project, "_git", repository, "info", "refs"];
        url(CORE, &segments, &[("service", "git-upload-pack")])
    };
    let (known, unknown) = (refs(&settings.repository)?, refs("flux-bearer-live-no-repository")?);
    let operator = As::Operator(Resource::AzureDevOps);
    let plain: &[(&str, &str)] = &[];
    for (step, url, sender, headers) in [
        ("git/no-token", &known, As::Nobody, plain),
        ("git/no-token-suppressed", &known, As::Nobody, &[SUPPRESS]),
        ("git/garbage", &known, As::Garbage, plain),
        ("git/garbage-suppressed", &known, As::Garbage, &[SUPPRESS]),
        ("git/token", &known, operator, plain),
        ("git/token-suppressed", &known, operator, &[SUPPRESS]),
        ("git/no-repository", &unknown, operator, &[SUPPRESS]),
    ] {
        azure.recorder.step(step);
        azure.send(Method::GET, url, sender, headers, Body::Nothing).await?;
    }
    Ok(())
}

/// A resource group with an identity, and what is not there yet.
async fn identity(azure: &Azure, run: &Run) -> anyhow::Result<UserAssigned> {
    let (arm, name, location) = (&azure.arm, run.name(), &azure.settings.location);
    let tags = Tags::from([(TAG.to_owned(), run.id.clone())]);
    azure.recorder.step("subscription/read");
    arm.subscription().await?;
    azure.recorder.step("group/none");
    anyhow::ensure!(arm.resource_group(&name).await?.is_none(), "there is a resource group {name} already");
    azure.recorder.step("group/create");
    arm.put_resource_group(&name, location, &tags).await?;
    azure.recorder.step("group/read");
    arm.resource_group(&name).await?;
    azure.recorder.step("identity/none");
    arm.identity(&name, &name).await?;
    azure.recorder.step("identity/create");
    let made = arm.put_identity(&name, &name, location, &tags).await?;
    azure.recorder.step("identity/create-again");
    arm.put_identity(&name, &name, location, &tags).await?;
    azure.recorder.step("identity/read");
    arm.identity(&name, &name).await?.context("the identity that was made is not there")?;
    Ok(made)
}

/// The issuer that the identity trusts. Nobody can reach it: such names lead nowhere, by RFC 6761.
fn issuer(run: &Run) -> String {
    format!("https://flux-bearer-live.invalid/{}/", run.id)
}

fn subject(number: usize) -> String {
    format!("system:serviceaccount:flux-system:live-{number}")
}

/// Federated credentials: as many as there may be, and every refusal.
async fn credentials(azure: &Azure, run: &Run, identity: &UserAssigned) -> anyhow::Result<()> {
    let name = &identity.name;
    let credential = |number: usize| FederatedCredential {
        name: format!("live-{number:02}"),
        issuer: issuer(run),
        subject: subject(number),
        audiences: vec![AUDIENCE.to_owned()],
    };
    let write = async |step: &str, credential: &FederatedCredential| {
        azure.recorder.step(step);
        let written = azure.arm.put_federated_credential(name, name, credential).await;
        sleep(azure.pace).await;
        written
    };
    // A refusal is what is asked for here; were it none, the answers would differ.
    let refused = async |step: &str, credential: FederatedCredential| drop(write(step, &credential).await);

    azure.recorder.step("credential/none");
    azure.arm.federated_credentials(name, name).await?;
    write("credential/create", &credential(1)).await?;
    write("credential/create-again", &credential(1)).await?;
    let two = vec![AUDIENCE.to_owned(), "api://other".to_owned()];
    refused("credential/two-audiences", FederatedCredential { audiences: two, ..credential(2) }).await;
    refused("credential/no-audience", FederatedCredential { audiences: Vec::new(), ..credential(2) }).await;
    refused("credential/same-pair", FederatedCredential { name: "live-twin".to_owned(), ..credential(1) }).await;
    refused("credential/bad-name", FederatedCredential { name: "a b".to_owned(), ..credential(2) }).await;
    for number in 2..=MOST_CREDENTIALS {
        write("credential/up-to-twenty", &credential(number)).await?;
    }
    refused("credential/twenty-first", credential(MOST_CREDENTIALS + 1)).await;
    azure.recorder.step("credential/list");
    azure.arm.federated_credentials(name, name).await?;
    Ok(())
}

/// Assertions that the identity refuses: none of them can sign in, for nobody can fetch the issuer's keys.
async fn assertions(azure: &Azure, run: &Run, identity: &UserAssigned) -> anyhow::Result<()> {
    let hour = Duration::from_secs(3600);
    let cases = [
        ("assertion/other-issuer", issuer(run).to_uppercase(), subject(1), AUDIENCE, hour),
        ("assertion/other-subject", issuer(run), subject(99), AUDIENCE, hour),
        ("assertion/subject-in-capitals", issuer(run), subject(1).to_uppercase(), AUDIENCE, hour),
        ("assertion/other-audience", issuer(run), subject(1), "api://AKSIdentityBinding", hour),
        ("assertion/too-long", issuer(run), subject(1), AUDIENCE, 30 * hour),
        ("assertion/issuer-away", issuer(run), subject(1), AUDIENCE, hour),
    ];
    for (step, issuer, subject, audience, lifetime) in cases {
        let assertion = Issuer::new(issuer)?.sign(&subject, audience, lifetime, (azure.now)());
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", &identity.client_id),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", &assertion),
            ("scope", DEVOPS_SCOPE),
        ];
        for _ in 0..ATTEMPTS {
            let answer = token(azure, step, &azure.settings.tenant, &fields).await?;
            if !is_unknown_yet(&answer) {
                break;
            }
            sleep(AGAIN).await;
        }
    }
    Ok(())
}

/// Whether Entra ID knows neither the identity nor its credentials yet: AADSTS700016 and 70025.
fn is_unknown_yet(answer: &Response<Bytes>) -> bool {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let code = body.pointer("/error_codes/0").and_then(Value::as_u64);
    matches!(code, Some(700_016 | 70_025))
}

/// Makes the identity a member of the organisation, and waits until it is found there.
async fn member(azure: &Azure, run: &Run, identity: &UserAssigned) -> anyhow::Result<Member> {
    let devops = &azure.devops;
    azure.recorder.step("member/nobody");
    drop(devops.add_entitlement(NOBODY).await);
    azure.recorder.step("member/add");
    let added = added(azure, &identity.principal_id).await?;
    run.added(&added);
    azure.recorder.step("member/read");
    devops.entitlement(&added.id).await?;
    azure.recorder.step("member/add-again");
    drop(devops.add_entitlement(&identity.principal_id).await);
    azure.recorder.step("member/update");
    drop(devops.update_licence(&added.id).await);
    azure.recorder.step("member/find");
    for _ in 0..ATTEMPTS {
        if let Some(member) = devops.service_principal(&identity.principal_id).await? {
            return Ok(member);
        }
        sleep(AGAIN).await;
    }
    anyhow::bail!("the new member is in no list")
}

async fn added(azure: &Azure, object_id: &str) -> anyhow::Result<Entitlement> {
    for _ in 0..ATTEMPTS {
        match azure.devops.add_entitlement(object_id).await {
            Ok(added) => return Ok(added),
            Err(NotAdded::Refused(EntitlementRefused::NotYet)) => sleep(AGAIN).await,
            Err(not_added) => return Err(flux_bearer::failure::Failure::from(not_added).into()),
        }
    }
    anyhow::bail!("Azure DevOps doesn't find the new identity")
}

/// Puts the member into the project's Readers, and takes it out.
async fn group(azure: &Azure, member: &Member) -> anyhow::Result<()> {
    let (settings, operator) = (&azure.settings, As::Operator(Resource::AzureDevOps));
    let graph = |segments: &[&str], query: &[(&str, &str)]| {
        let segments = [&[settings.organization.as_str(), "_apis", "graph"], segments].concat();
        url(GRAPH, &segments, &[query, &[PREVIEW]].concat())
    };
    azure.recorder.step("group-of-devops/find");
    let project = azure.devops.project(&settings.project).await?;
    let project = project.with_context(|| format!("there is no project {}", settings.project))?;
    // The only interface of Graph that is no preview.
    let scope =
        url(GRAPH, &[&settings.organization, "_apis", "graph", "descriptors", &project.id], &[("api-version", "7.1")])?;
    let scope = azure.send(Method::GET, &scope, operator, &[], Body::Nothing).await?;
    let scope: Value = serde_json::from_slice(scope.body()).unwrap_or_default();
    let scope = scope.get("value").and_then(Value::as_str).context("the project has no descriptor")?;
    let groups = azure.list(Resource::AzureDevOps, &graph(&["groups"], &[("scopeDescriptor", scope)])?).await?;
    let readers = groups.iter().find(|group| group.get("displayName") == Some(&json!("Readers")));
    let readers = readers.and_then(|group| group.get("descriptor")?.as_str()).context("the project has no Readers")?;
    let membership = graph(&["memberships", &member.descriptor, readers], &[])?;
    azure.recorder.step("group-of-devops/join");
    azure.send(Method::PUT, &membership, operator, &[], Body::Nothing).await?;
    azure.recorder.step("group-of-devops/groups");
    azure.devops.groups(&member.descriptor).await?;
    for step in ["group-of-devops/leave", "group-of-devops/leave-again"] {
        azure.recorder.step(step);
        azure.send(Method::DELETE, &membership, operator, &[], Body::Nothing).await?;
    }
    Ok(())
}

/// Lets the member see the project and fetch the repository, and takes that back.
async fn rights(azure: &Azure, member: &Member) -> anyhow::Result<()> {
    let devops = &azure.devops;
    azure.recorder.step("rights/find");
    let descriptor = devops.identity_descriptor(&member.descriptor).await?;
    let descriptor = descriptor.context("the new member has no identity descriptor")?;
    let bit = |namespace| if namespace == Namespace::PROJECT { bits::PROJECT_READ } else { bits::GIT_READ };
    for ((namespace, token), name) in tokens(azure).await?.into_iter().zip(["project", "repository"]) {
        let step = |what: &str| azure.recorder.step(&format!("rights/{name}-{what}"));
        step("mine");
        devops.has_permission(namespace, bit(namespace), &token).await?;
        step("none");
        devops.access(namespace, &token, &descriptor).await?;
        step("grant");
        devops.grant(namespace, &token, &descriptor, bit(namespace)).await?;
        step("read");
        until(async || Ok(devops.access(namespace, &token, &descriptor).await?.allow == bit(namespace))).await?;
        step("revoke");
        devops.revoke(namespace, &token, &descriptor).await?;
        step("revoked");
        until(async || Ok(devops.access(namespace, &token, &descriptor).await?.allow == 0)).await?;
    }
    Ok(())
}

/// Asks until it is so.
async fn until(is_so: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        if is_so().await? {
            return Ok(());
        }
        sleep(AGAIN).await;
    }
    anyhow::bail!("a right that was changed is not read back")
}

/// Deletes what can be deleted by itself, and once more.
async fn removal(azure: &Azure, run: &Run, identity: &UserAssigned) -> anyhow::Result<()> {
    let (devops, arm, name) = (&azure.devops, &azure.arm, &identity.name);
    if let Some(key) = run.member() {
        for step in ["removal/member", "removal/member-again"] {
            azure.recorder.step(step);
            devops.delete_entitlement(&key).await?;
        }
        azure.recorder.step("removal/member-read");
        devops.entitlement(&key).await?;
    }
    for step in ["removal/credential", "removal/credential-again"] {
        azure.recorder.step(step);
        arm.delete_federated_credential(name, name, "live-01").await?;
        sleep(azure.pace).await;
    }
    for step in ["removal/identity", "removal/identity-again"] {
        azure.recorder.step(step);
        arm.delete_identity(name, name).await?;
    }
    Ok(())
}
