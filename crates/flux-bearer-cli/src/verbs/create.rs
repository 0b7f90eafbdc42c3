//! `create bearertoken`: makes or changes one, or prints it for Git with `--export`.

use flux_bearer::failure::Failure;
use flux_bearer::identity::{Claims, Identity, Pod};
use flux_bearer::repository::Repository;
use flux_bearer::resource::{BearerTokenSpec, DeletionPolicy, Format as Keys, IdentityKind, IdentitySpec};
use serde_json::{Map, Value, json};

use super::refresh::filled;
use crate::args::{CreateBearerToken, Format, Global};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::{BEARER_TOKEN, is_name};
use crate::tokens::{self, Token};

pub(super) async fn run(wanted: &CreateBearerToken, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let spec = spec(wanted);
    check(&wanted.name, &spec)?;
    let manifest = json!({
        "apiVersion": BEARER_TOKEN.api_version(),
        "kind": BEARER_TOKEN.kind,
        "metadata": {"name": wanted.name, "namespace": global.namespace},
        "spec": spec,
    });
    if wanted.export {
        edge.out.data("---\n");
        edge.out.document(Format::Yaml, &manifest);
        return Ok(Exit::Done);
    }
    let cluster = edge.clusters.connect(&global.which()).await?;
    edge.out.action(&format!("applying BearerToken {} in {} namespace", wanted.name, global.namespace));
    let token = Token::of(&cluster.apply(&manifest, false).await?);
    edge.out.success("BearerToken applied");
    if wanted.no_wait {
        return Ok(Exit::Done);
    }
    let what = format!("waiting for BearerToken {}", token.name);
    let ended = tokens::wait(edge, &cluster, &token, &what, |now| Some((now.outcome()?, now.clone())));
    match ended.await? {
        (Ok(()), now) => edge.out.success(&filled(&now, edge)),
        (Err(message), _) => {
            let fix = format!("flux-bearer get {} -n {}; the BearerToken stays", token.name, token.namespace);
            return Err(Trouble::new(Exit::Failed, message, fix));
        }
    }
    Ok(Exit::Done)
}

/// The spec with what was given and nothing else, so that defaults stay the controller's and the YAML is short.
fn spec(wanted: &CreateBearerToken) -> Value {
    let text = |value: &Option<String>| value.clone().map(Value::from);
    let identity = object([
        ("type", wanted.identity_type.map(|kind| json!(IdentityKind::from(kind)))),
        ("tenantId", text(&wanted.tenant_id)),
        ("clientId", text(&wanted.client_id)),
        ("objectId", text(&wanted.object_id)),
        ("resourceId", text(&wanted.resource_id)),
        ("serviceAccountName", text(&wanted.service_account)),
        ("secretRef", wanted.secret_ref.as_ref().map(|name| json!({"name": name}))),
    ]);
    let formats: Vec<Keys> = wanted.formats.iter().copied().map(Keys::from).collect();
    let secret = object([
        ("name", text(&wanted.secret)),
        ("formats", (!formats.is_empty()).then(|| json!(formats))),
        ("adopt", wanted.adopt.then(|| true.into())),
        ("deletionPolicy", wanted.deletion_policy.map(|policy| json!(DeletionPolicy::from(policy)))),
    ]);
    let repositories = (!wanted.repositories.is_empty()).then(|| json!(wanted.repositories));
    json!(object([("identity", filled_in(identity)), ("repositories", repositories), ("secret", filled_in(secret))]))
}

fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn filled_in(object: Map<String, Value>) -> Option<Value> {
    (!object.is_empty()).then_some(Value::Object(object))
}

/// What the API server or the controller would refuse, before anything is touched.
fn check(name: &str, spec: &Value) -> Result<(), Trouble> {
    let spec: BearerTokenSpec = serde_json::from_value(spec.clone()).map_err(|_| {
        Trouble::usage("the flags make no spec that can be read", "flux-bearer create bearertoken --help")
    })?;
    let identity = &spec.identity;
    let referred = [identity.service_account_name.as_deref(), identity.secret_ref.as_ref().map(|at| at.name.as_str())];
    for name in [Some(name), spec.secret.name.as_deref()].into_iter().chain(referred).flatten() {
        check_name(name)?;
    }
    check_identity(&spec.identity)?;
    for url in &spec.repositories {
        let checked = Repository::parse(url).and_then(|repository| repository.check_formats(&spec.secret.formats));
        checked.map_err(usage)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Trouble> {
    if is_name(name) {
        return Ok(());
    }
    let fix = "use lower-case letters, digits, - and ., for example flux-system";
    Err(Trouble::usage(format!("{name:?} can't be the name of an object"), fix))
}

/// The CRD's rules about what goes with what, in the words of the flags; then what the controller itself would say.
fn check_identity(identity: &IdentitySpec) -> Result<(), Trouble> {
    use IdentityKind::{ClientCertificate, ClientSecret, ManagedIdentity, WorkloadIdentity};
    let of_machine = identity.kind == ManagedIdentity;
    if !of_machine && (identity.object_id.is_some() || identity.resource_id.is_some()) {
        let cause = "--object-id and --resource-id select a managed identity";
        return Err(Trouble::usage(cause, "add --identity-type managed-identity, or use --client-id"));
    }
    if of_machine && identity.tenant_id.is_some() {
        let cause = "a managed identity is always of its machine's own tenant";
        return Err(Trouble::usage(cause, "leave --tenant-id out"));
    }
    let whole = identity.tenant_id.is_some() && identity.client_id.is_some() && identity.secret_ref.is_some();
    let by_secret = matches!(identity.kind, ClientSecret | ClientCertificate);
    if by_secret && !whole {
        let cause = "a client secret or certificate needs its tenant, its client id and its Secret";
        return Err(Trouble::usage(cause, "give --tenant-id, --client-id and --secret-ref"));
    }
    if !by_secret && identity.secret_ref.is_some() {
        let cause = "--secret-ref names the Secret with a client secret or a certificate";
        let fix = "add --identity-type client-secret or client-certificate, or leave --secret-ref out";
        return Err(Trouble::usage(cause, fix));
    }
    if identity.kind != WorkloadIdentity && identity.service_account_name.is_some() {
        let cause = "--service-account belongs to --identity-type workload-identity";
        return Err(Trouble::usage(cause, "leave one of the two out"));
    }
    // What the pod or a ServiceAccount may bring along is the controller's to know: here it counts as there.
    let nobody = "00000000-0000-0000-0000-000000000000".to_owned();
    let pod = Pod { tenant_id: Some(nobody.clone()), ..Pod::default() };
    let mut identity = identity.clone();
    if identity.kind == WorkloadIdentity {
        identity.client_id.get_or_insert(nobody);
    }
    Identity::resolve(&identity, "", &pod, &Claims::default()).map(drop).map_err(usage)
}

fn usage(failure: Failure) -> Trouble {
    Trouble::usage(failure.cause, failure.fix)
}
