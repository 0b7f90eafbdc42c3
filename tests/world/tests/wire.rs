//! The wire of the set-up in the simulated Azure: from nothing to a repository that opens, and back to nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::Operation;
use flux_bearer::repository::Repository;
use flux_bearer_azure::arm::{
    Arm, FederatedCredential, MANAGED_IDENTITY, ProviderState, Scope, TAG, Tags, UserAssigned,
};
use flux_bearer_azure::devops::{
    Access, Backing, DevOps, EntitlementRefused, Licence, Namespace, NotAdded, bits, discover_tenant, project_token,
    repository_token,
};
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::operator::{ClientSecret, DeviceCode, Prompt, Resource, Session, SignIn, Workload};
use flux_bearer_azure::probe::probe;
use flux_bearer_azure::workload::Assertion;
use flux_bearer_sim::clock::Clock;
use flux_bearer_sim::issuer::Issuer;
use flux_bearer_sim::state::State;
use flux_bearer_sim::world::World;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use secrecy::SecretString;
use tower::{ServiceExt, service_fn};

const TENANT: &str = "22222222-0000-4000-8000-000000000001";
const SUBSCRIPTION: &str = "44444444-0000-4000-8000-000000000001";
const APP: &str = "11111111-0000-4000-8000-000000000001";
const READER: &str = "11111111-0000-4000-8000-000000000002";
const ISSUER: &str = "https://oidc.example/cluster/";
const SUBJECT: &str = "system:serviceaccount:flux-system:flux-bearer-controller";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const LOCATION: &str = "westeurope";

/// A subscription with one cluster, an organisation with one repository, a person who may do all and a pipeline, and a
/// pipeline that may only look.
const STATE: &str = r#"
issuers: [{issuer: "https://oidc.example/cluster/"}]
tenants:
  - id: 22222222-0000-4000-8000-000000000001
    domains: [contoso.example]
    applications:
      - name: pipeline
        clientId: 11111111-0000-4000-8000-000000000001
        objectId: 11111111-0000-4000-8000-00000000000a
        secrets: [{value: a-secret}]
      - name: reader
        clientId: 11111111-0000-4000-8000-000000000002
        objectId: 11111111-0000-4000-8000-00000000000b
        secrets: [{value: a-secret}]
    users:
      - {objectId: 11111111-0000-4000-8000-00000000000c, userPrincipalName: ada@contoso.example, displayName: Ada}
    deviceCode: {user: ada@contoso.example, afterPolls: 2}
subscriptions:
  - id: 44444444-0000-4000-8000-000000000001
    tenantId: 22222222-0000-4000-8000-000000000001
    displayName: Platform
    resourceGroups: [{name: aks, location: westeurope}]
    managedClusters:
      - resourceGroup: aks
        name: production
        location: westeurope
        issuerUrl: https://oidc.example/cluster/
    roleAssignments:
      - {objectId: 11111111-0000-4000-8000-00000000000a, role: Contributor}
      - {objectId: 11111111-0000-4000-8000-00000000000b, role: Reader}
      - {objectId: 11111111-0000-4000-8000-00000000000c, role: Owner}
organizations:
  - name: contoso
    tenantId: 22222222-0000-4000-8000-000000000001
    entitlementDelaySeconds: 30
    aclDelaySeconds: 20
    principalDelaySeconds: 10
    members:
      - {objectId: 11111111-0000-4000-8000-00000000000a}
      - {objectId: 11111111-0000-4000-8000-00000000000b}
      - {objectId: 11111111-0000-4000-8000-00000000000c}
    administrators: [11111111-0000-4000-8000-00000000000a, 11111111-0000-4000-8000-00000000000c]
    projects:
      - name: My Fleet
        readers: [11111111-0000-4000-8000-00000000000b]
        repositories:
          - {name: clusters, head: 8843d7f92416211de9ebb963ff4ce28125932878}
          - {name: secrets, head: 8843d7f92416211de9ebb963ff4ce28125932878}
"#;

struct Azure {
    world: World,
    issuer: Issuer,
}

impl Azure {
    fn new() -> Self {
        let issuer = Issuer::new(ISSUER).unwrap();
        let clock = Clock::starting_at("2026-11-22T10:00:00Z".parse().unwrap());
        let world = World::new(State::from_yaml(STATE).unwrap(), clock).unwrap().with_issuer_client(issuer.service());
        Self { world, issuer }
    }

    fn http(&self) -> Http {
        let world = self.world.service();
        Http::new(service_fn(move |request: Request<Full<bytes::Bytes>>| {
            let world = world.clone();
            world.oneshot(request.map(Body::new))
        }))
    }

    fn session(&self, way: impl SignIn + 'static) -> Session {
        let clock = self.world.clock().clone();
        Session::new(self.http(), Arc::new(way), Some(TENANT.into()), move || clock.now())
    }

    /// A pipeline with a client secret.
    fn pipeline(&self, client_id: &str) -> Session {
        let secret = SecretString::from("a-secret");
        self.session(ClientSecret::new(self.http(), Authority::default(), TENANT.into(), client_id.into(), secret))
    }

    /// The controller's own identity, by a service account token of the cluster.
    fn controller(&self, identity: &UserAssigned) -> Session {
        let token = self.issuer.sign(SUBJECT, AUDIENCE, Duration::from_hours(1), self.world.clock().now());
        let (http, client_id) = (self.http(), identity.client_id.clone());
        self.session(Workload::new(http, Authority::default(), TENANT.into(), client_id, Arc::new(Projected(token))))
    }
}

struct Projected(String);

impl Assertion for Projected {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        std::future::ready(Ok(self.0.clone().into())).boxed()
    }
}

fn tags() -> Tags {
    Tags::from([(TAG.to_owned(), "production".to_owned())])
}

fn credential() -> FederatedCredential {
    FederatedCredential {
        name: "flux-bearer-controller".into(),
        issuer: ISSUER.into(),
        subject: SUBJECT.into(),
        audiences: vec![AUDIENCE.into()],
    }
}

/// Asks each second until there is an answer, for five minutes at most.
async fn awaited<T, E: std::fmt::Debug>(what: &str, ask: impl AsyncFn() -> Result<Option<T>, E>) -> T {
    for _ in 0..300 {
        if let Some(found) = ask().await.unwrap() {
            return found;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{what}: nothing in five minutes");
}

/// Makes everything, looks whether it opens, and takes everything back.
async fn there_and_back(azure: &Azure, session: Session) {
    let before = azure.world.state();
    assert_eq!(discover_tenant(&azure.http(), "contoso").await.unwrap(), Backing::Entra(TENANT.into()));
    let (arm, devops) = (Arm::new(session.clone(), SUBSCRIPTION), DevOps::new(session.clone(), "contoso"));

    let subscriptions = Arm::subscriptions(&session).await.unwrap();
    assert_eq!(subscriptions, [arm.subscription().await.unwrap()]);
    let cluster = arm.managed_cluster("aks", "production").await.unwrap().unwrap();
    assert_eq!(arm.managed_clusters().await.unwrap(), std::slice::from_ref(&cluster));
    assert_eq!((cluster.issuer.as_deref(), cluster.oidc_enabled), (Some(ISSUER), true));
    assert!(arm.permissions(Scope::Group("aks")).await.unwrap().allows(&Operation::WriteFederation.action()));
    assert_eq!(arm.provider_state(MANAGED_IDENTITY).await.unwrap(), ProviderState::Registered);
    assert_eq!(arm.resource_group("flux").await.unwrap(), None);
    assert_eq!(arm.identity("aks", "flux").await.unwrap(), None);

    let identity = arm.put_identity("aks", "flux", LOCATION, &tags()).await.unwrap();
    assert_eq!(arm.identity("aks", "flux").await.unwrap().as_ref(), Some(&identity));
    assert_eq!(arm.identities().await.unwrap(), std::slice::from_ref(&identity));
    assert_eq!((&identity.tags, identity.group.as_str()), (&tags(), "aks"));
    arm.put_federated_credential("aks", "flux", &credential()).await.unwrap();
    assert_eq!(arm.federated_credentials("aks", "flux").await.unwrap(), [credential()]);

    let url = Repository::parse("https://dev.azure.com/contoso/My%20Fleet/_git/clusters").unwrap();
    let repository = devops.repository(&url.project(), &url.repository()).await.unwrap().unwrap();
    assert_eq!(devops.project("my fleet").await.unwrap().as_ref(), Some(&repository.project));
    assert_eq!(Repository::parse(&repository.remote_url).unwrap().canonical(), url.canonical());
    assert!(
        devops
            .has_permission(Namespace::COLLECTION, bits::COLLECTION_WRITE, Namespace::COLLECTION_TOKEN)
            .await
            .unwrap()
    );
    let (project, git) =
        (project_token(&repository.project.id), repository_token(&repository.project.id, &repository.id));
    assert!(devops.has_permission(Namespace::GIT_REPOSITORIES, bits::GIT_MANAGE_PERMISSIONS, &git).await.unwrap());

    assert_eq!(devops.service_principal(&identity.principal_id).await.unwrap(), None);
    let added = awaited("the licence", async || match devops.add_entitlement(&identity.principal_id).await {
        Ok(added) => Ok(Some(added)),
        Err(NotAdded::Refused(EntitlementRefused::NotYet)) => Ok(None),
        Err(other) => Err(other),
    })
    .await;
    assert_eq!((added.licence, added.licence.opens_repositories()), (Licence::Basic, true));
    let member = awaited("the member", async || devops.service_principal(&identity.principal_id).await).await;
    assert_eq!(member.storage_key, added.id);
    assert_eq!(devops.entitlement(&member.storage_key).await.unwrap().unwrap().licence, Licence::Basic);
    let descriptor = awaited("the descriptor", async || devops.identity_descriptor(&member.descriptor).await).await;

    let controller = azure.controller(&identity);
    let token = controller.token(Resource::AzureDevOps).await.unwrap();
    assert_eq!(probe(&azure.http(), &url, &token.secret).await.unwrap_err().reason, "RepositoryNotFound");
    devops.grant(Namespace::PROJECT, &project, &descriptor, bits::PROJECT_READ).await.unwrap();
    devops.grant(Namespace::GIT_REPOSITORIES, &git, &descriptor, bits::GIT_READ).await.unwrap();
    let read = awaited("the right", async || {
        let access = devops.access(Namespace::GIT_REPOSITORIES, &git, &descriptor).await?;
        Ok::<_, Failure>((access != Access::default()).then_some(access))
    })
    .await;
    assert_eq!(read, Access { allow: bits::GIT_READ, deny: 0, effective_allow: bits::GIT_READ });
    assert_eq!(devops.access(Namespace::PROJECT, &project, &descriptor).await.unwrap().allow, bits::PROJECT_READ);

    let own = DevOps::new(controller.clone(), "contoso");
    assert_eq!(own.who_am_i().await.unwrap().id, member.storage_key);
    probe(&azure.http(), &url, &token.secret).await.unwrap();
    let other = Repository::parse("https://dev.azure.com/contoso/My%20Fleet/_git/secrets").unwrap();
    assert_eq!(probe(&azure.http(), &other, &token.secret).await.unwrap_err().reason, "RepositoryNotFound");

    devops.set_access(Namespace::GIT_REPOSITORIES, &git, &descriptor, 0, 0).await.unwrap();
    devops.revoke(Namespace::GIT_REPOSITORIES, &git, &descriptor).await.unwrap();
    devops.revoke(Namespace::PROJECT, &project, &descriptor).await.unwrap();
    devops.delete_entitlement(&member.storage_key).await.unwrap();
    arm.delete_federated_credential("aks", "flux", "flux-bearer-controller").await.unwrap();
    arm.delete_identity("aks", "flux").await.unwrap();
    arm.delete_identity("aks", "flux").await.unwrap();
    assert_eq!(azure.world.state(), before, "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_sets_up_and_takes_back() {
    let azure = Azure::new();
    there_and_back(&azure, azure.pipeline(APP)).await;
}

#[tokio::test(start_paused = true)]
async fn a_person_sets_up_after_one_code() {
    let azure = Azure::new();
    let shown: Arc<Mutex<Vec<Prompt>>> = Arc::default();
    let seen = Arc::clone(&shown);
    let way =
        DeviceCode::new(azure.http(), Authority::default(), move |prompt| seen.lock().unwrap().push(prompt.clone()));
    let session = azure.session(way);
    let me = session.token(Resource::Arm).await.unwrap().holder.clone();
    assert_eq!((me.tenant_id.as_deref(), me.name.as_deref()), (Some(TENANT), Some("ada@contoso.example")));
    there_and_back(&azure, session).await;
    assert_eq!(shown.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn row_52_who_may_not_is_told_what_is_missing() {
    let azure = Azure::new();
    let before = azure.world.state();
    let session = azure.pipeline(READER);
    let (arm, devops) = (Arm::new(session.clone(), SUBSCRIPTION), DevOps::new(session, "contoso"));
    assert!(!arm.permissions(Scope::Subscription).await.unwrap().allows(&Operation::WriteIdentity.action()));
    let failure = arm.put_identity("aks", "flux", LOCATION, &tags()).await.unwrap_err();
    assert_eq!((failure.reason, &*failure.code), ("Forbidden", "AuthorizationFailed"));
    assert!(failure.trace.is_some());

    let repository = devops.repository("My Fleet", "clusters").await.unwrap();
    assert_eq!(repository, None, "a reader of the project sees no repository that it may not read");
    let project = devops.project("My Fleet").await.unwrap().unwrap();
    let failure = devops.grant(Namespace::PROJECT, &project_token(&project.id), "x", 1).await.unwrap_err();
    assert_eq!(failure.reason, "Forbidden", "{failure:?}");
    let refused = Failure::from(devops.add_entitlement("11111111-0000-4000-8000-00000000000d").await.unwrap_err());
    assert_eq!(refused.reason, "Forbidden", "{refused:?}");
    assert_eq!(azure.world.state(), before);
}

#[tokio::test(start_paused = true)]
async fn an_organisation_that_is_not_there_is_told() {
    let azure = Azure::new();
    assert_eq!(discover_tenant(&azure.http(), "nobody").await.unwrap(), Backing::NoSuchOrganization);
    let failure = DevOps::new(azure.pipeline(APP), "nobody").project("p").await.unwrap_err();
    assert_eq!(failure.reason, "OrganizationNotFound", "{failure:?}");
}
