//! Azure's official clients sign in at the simulated Entra ID and IMDS in every way they have, `git` uses their tokens, and
//! what goes wrong they report by Entra ID's own codes. So what our controller meets there is no fancy of ours.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::issuer::Issuer;
use flux_bearer_sim::state::{Application, Certificate, FederatedCredential, IssuerState, Kind, Secret, State};
use jiff::Timestamp;
use serde_json::json;

use crate::azure::{TENANT_ID, admit};
use crate::canary::VOLUMES;
use crate::clients::{Client, auth_options};
use crate::git::Repository;
use crate::story::Story;
use crate::world::{Run, STATE};

pub(super) const NAME: &str = "clients";

const APP: &str = "00000000-bbbb-4000-8000-000000000011";
const IDENTITY: &str = "00000000-bbbb-4000-8000-000000000012";
const SECRET: &str = "a~secret.of_an-app+reg/istration";
const ISSUER: &str = "https://oidc.example/cluster/";
const SUBJECT: &str = "system:serviceaccount:flux-system:source-controller";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const REPOSITORY: &str = "https://dev.azure.com/contoso/platform/_git/fleet";

/// Each way to sign in, and who has it.
const WAYS: [(&str, &str, &[Client]); 6] = [
    ("workload", APP, &Client::ALL),
    ("managed-identity", IDENTITY, &Client::ALL),
    ("secret", APP, &Client::ALL),
    ("certificate", APP, &[Client::Go, Client::Python, Client::JavaScript]),
    // fluxcd/pkg/auth and msal have one way each.
    ("flux", APP, &[Client::Go]),
    ("msal", APP, &[Client::Python]),
];

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let folder = run.folder.join(NAME);
    std::fs::create_dir_all(folder.join("logs"))?;
    let story = Story::begin(NAME);
    let party = Party { run, issuer: Issuer::new(ISSUER)?, files: Files::in_folder(&folder.join(VOLUMES))? };
    party.begin().await?;
    let repository = Repository::create(&run.folder.join("fleet.git"), folder.join("clone")).await?;
    repository.commit("first").await?;
    for (way, client_id, clients) in WAYS {
        for client in clients {
            let token = party.sign_in(*client, way, client_id).await?;
            let token = token.map_err(anyhow::Error::msg).with_context(|| format!("{client:?} {way}"))?;
            repository.look(REPOSITORY, &format!("Authorization: Bearer {token}")).await?;
        }
        story.tell(&format!("{way}: the tokens of {clients:?} open the repository for git"));
    }
    party.fail(&story).await?;
    read_by_flux(run).await?;
    story.tell("fluxcd/pkg/git reads each format of a Secret as it is meant");
    Ok(())
}

/// Who signs in, and what with.
struct Party<'a> {
    run: &'a Run,
    issuer: Issuer,
    files: Files,
}

/// Where a client finds what it signs in with.
struct Files {
    assertion: String,
    certificate: String,
}

impl Files {
    fn in_folder(folder: &std::path::Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = |name| folder.join(name).to_string_lossy().into_owned();
        Ok(Self { assertion: path("assertion"), certificate: path("certificate.pem") })
    }
}

/// What goes wrong, what is done to bring it about, and what each client's error must hold.
type Failure = (&'static str, &'static str, Cause, &'static str);

/// What is wrong.
#[derive(Clone, Copy)]
enum Cause {
    /// The state is.
    State(fn(&mut State)),
    /// The assertion is: its audience, and for how long it has been valid, in seconds.
    Assertion(&'static str, i64),
    /// Entra ID answers 429.
    Throttled,
}

const FAILURES: [Failure; 8] = [
    (
        "a subject in another case",
        "workload",
        Cause::State(|state| {
            credential(state).subject = SUBJECT.replace("flux-system", "Flux-System");
        }),
        "AADSTS7002138",
    ),
    (
        "another subject",
        "workload",
        Cause::State(|state| {
            credential(state).subject = SUBJECT.replace("flux-system", "default");
        }),
        "AADSTS700213",
    ),
    (
        "an issuer without its slash",
        "workload",
        Cause::State(|state| {
            ISSUER.trim_end_matches('/').clone_into(&mut credential(state).issuer);
        }),
        "AADSTS700211",
    ),
    ("an audience of its own", "workload", Cause::Assertion("https://kubernetes.default.svc", 0), "AADSTS700212"),
    ("an assertion that has expired", "workload", Cause::Assertion(AUDIENCE, 7200), "AADSTS700024"),
    (
        "a client that nobody knows",
        "workload",
        Cause::State(|state| {
            state.tenants.iter_mut().for_each(|tenant| tenant.applications.retain(|one| one.client_id != APP));
        }),
        "AADSTS700016",
    ),
    (
        "another secret",
        "secret",
        Cause::State(|state| {
            let applications = state.tenants.iter_mut().flat_map(|tenant| &mut tenant.applications);
            applications
                .for_each(|one| one.secrets.iter_mut().for_each(|secret| "another".clone_into(&mut secret.value)));
        }),
        "AADSTS7000215",
    ),
    ("too many requests", "workload", Cause::Throttled, "AADSTS90055"),
];

/// The app's one federated credential.
#[expect(clippy::unwrap_used, reason = "the state is the test's own")]
fn credential(state: &mut State) -> &mut FederatedCredential {
    let applications = state.tenants.iter_mut().flat_map(|tenant| &mut tenant.applications);
    applications.flat_map(|one| &mut one.federated_credentials).next().unwrap()
}

impl Party<'_> {
    /// An Azure that knows an app with everything to sign in with, and a managed identity of this machine.
    async fn begin(&self) -> anyhow::Result<()> {
        let azure = &self.run.azure;
        azure.reset(STATE).await?;
        let (certificate, with_key) = crate::pki::rsa_certificate(APP)?;
        std::fs::write(&self.files.certificate, with_key)?;
        self.assert(AUDIENCE, 0)?;
        let app = Application {
            name: "app".to_owned(),
            client_id: APP.to_owned(),
            object_id: APP.replace("bbbb", "cccc"),
            secrets: vec![Secret { value: SECRET.to_owned(), expires_at: None }],
            certificates: vec![Certificate { pem: certificate }],
            federated_credentials: vec![FederatedCredential {
                name: "cluster".to_owned(),
                issuer: ISSUER.to_owned(),
                subject: SUBJECT.to_owned(),
                audience: AUDIENCE.to_owned(),
                created_at: None,
            }],
            ..Application::default()
        };
        let identity = Application {
            name: "identity".to_owned(),
            kind: Kind::ManagedIdentity,
            client_id: IDENTITY.to_owned(),
            object_id: IDENTITY.replace("bbbb", "cccc"),
            ..Application::default()
        };
        let jwks = self.issuer.jwks();
        azure
            .edit(|state| {
                state.issuers.push(IssuerState { issuer: ISSUER.to_owned(), jwks: Some(jwks), ca_file: None });
                state.imds.user_assigned.push(IDENTITY.to_owned());
                for one in [app, identity] {
                    state.organizations.iter_mut().for_each(|organization| admit(organization, &one.object_id));
                    state.tenants.iter_mut().for_each(|tenant| tenant.applications.push(one.clone()));
                }
            })
            .await
    }

    /// Writes the assertion: for this audience, signed so many seconds ago.
    #[expect(clippy::disallowed_methods, reason = "the clients are real, and so is their time")]
    fn assert(&self, audience: &str, ago: i64) -> anyhow::Result<()> {
        let signed = Timestamp::now() - jiff::SignedDuration::from_secs(ago);
        let assertion = self.issuer.sign(SUBJECT, audience, Duration::from_secs(3600), signed);
        Ok(std::fs::write(&self.files.assertion, assertion)?)
    }

    async fn sign_in(&self, client: Client, way: &str, client_id: &str) -> anyhow::Result<Result<String, String>> {
        let mut variables = vec![("AZURE_TENANT_ID", TENANT_ID), ("AZURE_CLIENT_ID", client_id)];
        // Nothing else: some clients go by whichever they find.
        if way == "flux" {
            // AKS's webhook sets it, and without it Flux goes by the machine's identity.
            variables.push(("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"));
        }
        variables.extend(match way {
            "workload" | "flux" => Some(("AZURE_FEDERATED_TOKEN_FILE", self.files.assertion.as_str())),
            "secret" | "msal" => Some(("AZURE_CLIENT_SECRET", SECRET)),
            "certificate" => Some(("AZURE_CLIENT_CERTIFICATE_PATH", self.files.certificate.as_str())),
            _ => None,
        });
        client.token(&self.run.tools, way, &variables).await
    }

    /// Everything that may go wrong, at every client.
    async fn fail(&self, story: &Story) -> anyhow::Result<()> {
        for (name, way, cause, code) in FAILURES {
            self.begin().await?;
            match cause {
                Cause::State(spoil) => self.run.azure.edit(spoil).await?,
                Cause::Assertion(audience, ago) => self.assert(audience, ago)?,
                Cause::Throttled => self.run.azure.set_fault(&throttled()).await?,
            }
            for client in Client::ALL {
                match self.sign_in(client, way, APP).await? {
                    Ok(_) => bail!("{name}: {client:?} got a token"),
                    Err(error) => ensure!(error.contains(code), "{name}: {client:?} does not say {code}: {error}"),
                }
            }
            story.tell(&format!("{name}: all say {code}"));
        }
        Ok(())
    }
}

fn throttled() -> Fault {
    let body = json!({"error": "temporarily_unavailable", "error_description": "AADSTS90055: too many requests"});
    let content_type = Some("application/json".to_owned());
    Fault {
        name: "throttled".to_owned(),
        path: Some("/oauth2/v2.0/token".to_owned()),
        effect: Some(Effect::Answer { status: 429, retry_after: Some(1), content_type, body: body.to_string() }),
        ..Fault::default()
    }
}

/// What Flux signs in with, for each format of a Secret: by Flux's own code.
async fn read_by_flux(run: &Run) -> anyhow::Result<()> {
    let (bearer, username, password) = ("YmVhcmVy", "Z2l0", "cGFzc3dvcmQ=");
    for (data, wanted) in [
        (json!({"bearerToken": bearer}), json!({"username": "", "password": "", "bearerToken": "bearer"})),
        (
            json!({"username": username, "password": password}),
            json!({"username": "git", "password": "password", "bearerToken": ""}),
        ),
        // Both: the token wins, and no user goes along.
        (
            json!({"bearerToken": bearer, "username": username, "password": password}),
            json!({"username": "", "password": "", "bearerToken": "bearer"}),
        ),
    ] {
        let mut wanted = wanted;
        if let Some(fields) = wanted.as_object_mut() {
            fields.insert("transport".to_owned(), json!("https"));
            fields.insert("ca".to_owned(), json!(false));
        }
        let read = auth_options(&run.tools, REPOSITORY, &data.to_string()).await?;
        ensure!(read == wanted, "of {data} Flux reads {read}");
    }
    Ok(())
}
