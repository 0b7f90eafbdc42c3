//! A tenant with as many managed identities as wanted, and an organisation whose repository they may read.

use flux_bearer_sim::state::{State, StateError};

/// The tenant.
pub const TENANT: &str = "72f988bf-0000-4000-8000-000000000001";

/// The issuer of the cluster's service account tokens.
pub const ISSUER: &str = "https://oidc.example/cluster/";

/// The controller's service account, as the subject of its tokens.
pub const SUBJECT: &str = "system:serviceaccount:flux-system:flux-bearer-controller";

/// The repository that every identity of [`state`] may read.
pub const REPOSITORY: &str = "https://dev.azure.com/contoso/platform/_git/fleet";

/// Client id of the `number`-th identity.
pub fn client(number: usize) -> String {
    format!("00000000-bbbb-4000-8000-{number:012}")
}

/// Object id of the `number`-th identity.
pub fn object(number: usize) -> String {
    format!("00000000-cccc-4000-8000-{number:012}")
}

/// Number of the one application, which signs in with [`SECRET`].
pub const APPLICATION: usize = 900;

/// The client secret of the application.
pub const SECRET: &str = "s3cret~with/+chars";

/// A state with one managed identity a lifetime (in seconds), and one application whose tokens live as long as the first.
pub fn state(lifetimes: &[u32]) -> Result<State, StateError> {
    let identity = |(number, lifetime): (usize, &u32)| {
        format!(
            r#"
      - name: identity-{number}
        kind: ManagedIdentity
        clientId: {client}
        objectId: {object}
        tokenLifetimeSeconds: {lifetime}
        federatedCredentials: [{{name: cluster, issuer: "{ISSUER}", subject: "{SUBJECT}"}}]"#,
            client = client(number),
            object = object(number),
        )
    };
    let identities: String = lifetimes.iter().enumerate().map(identity).collect();
    let objects: Vec<String> = (0..lifetimes.len()).chain([APPLICATION]).map(object).collect();
    let members: Vec<String> = objects.iter().map(|id| format!("{{objectId: {id}}}")).collect();
    State::from_yaml(&format!(
        r#"
issuers: [{{issuer: "{ISSUER}"}}]
tenants:
  - id: {TENANT}
    domains: [contoso.example]
    applications:{identities}
      - name: application
        clientId: {application}
        objectId: {application_object}
        tokenLifetimeSeconds: {application_lifetime}
        secrets: [{{value: "{SECRET}"}}]
imds: {{userAssigned: [{first}], cache: false}}
organizations:
  - name: contoso
    tenantId: {TENANT}
    members: [{members}]
    projects:
      - name: platform
        readers: [{readers}]
        repositories:
          - {{name: fleet, readers: [{readers}], head: 8843d7f92416211de9ebb963ff4ce28125932878}}
          - {{name: closed, head: 8843d7f92416211de9ebb963ff4ce28125932878}}
"#,
        first = client(0),
        application = client(APPLICATION),
        application_lifetime = lifetimes.first().unwrap_or(&3600),
        application_object = object(APPLICATION),
        members = members.join(", "),
        readers = objects.join(", "),
    ))
}
