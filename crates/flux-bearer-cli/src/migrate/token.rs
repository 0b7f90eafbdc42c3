//! The BearerToken of a move: whose token, in which keys, and what an existing one lacks.

use flux_bearer::repository::Repository;
use flux_bearer::resource::Format as Keys;
use flux_bearer::secret::Held;
use serde_json::{Map, Value, json};

use super::facts::{Facts, SecretFacts, names_secret};
use super::plan::{Move, Source, Step, taken};
use crate::args::Migrate;
use crate::exit::Trouble;
use crate::kinds::{BEARER_TOKEN, INPUT_PROVIDER};
use crate::manifests::PART_OF;
use crate::tokens::Token;

/// A field that changes: its name, what it will be, and what it was.
type Field = (&'static str, Value, Value);

/// The step that makes the BearerToken ask for what is wanted; nothing where it does.
pub(super) fn token_step(
    found: &mut Move,
    held: &SecretFacts,
    flags: &Migrate,
    facts: &Facts,
) -> Result<Option<Step>, Trouble> {
    let format = format(found, held, facts);
    if let Some(token) = facts.tokens.iter().find(|token| token.secret() == found.secret) {
        found.token.clone_from(&token.name);
        return change(found, held, token, format);
    }
    if facts.tokens.iter().any(|token| token.name == found.secret) {
        let fix =
            format!("flux-bearer create bearertoken NAME --secret {} --adopt -n {}", found.secret, facts.namespace);
        return Err(taken(&found.secret, "the BearerToken of this name keeps another Secret", &fix));
    }
    make(found, format, flags, facts).map(Some)
}

/// The keys to write: `bearerToken`, unless somebody needs a user name and a password.
fn format(found: &Move, held: &SecretFacts, facts: &Facts) -> Keys {
    let mut inputs = facts.readers.iter().filter(|(kind, _)| *kind == INPUT_PROVIDER);
    let basic = held.basic_auth
        || found.sources.iter().any(|source| source.user)
        || inputs.any(|(_, one)| names_secret(one, &found.secret));
    if basic { Keys::Basic } else { Keys::Bearer }
}

fn make(found: &Move, format: Keys, flags: &Migrate, facts: &Facts) -> Result<Step, Trouble> {
    let (label, value) = PART_OF;
    // Where no GitRepository uses the Secret yet, none could tell.
    let native = found.sources.iter().any(|source| source.native);
    let repositories = if native { urls(found) } else { json!([]) };
    Ok(Step::Make(json!({
        "apiVersion": BEARER_TOKEN.api_version(),
        "kind": BEARER_TOKEN.kind,
        "metadata": {"name": found.token, "namespace": facts.namespace, "labels": {label: value}},
        "spec": {
            "identity": identity(flags, facts)?,
            "repositories": repositories,
            "secret": {"adopt": true, "formats": [format]},
        },
    })))
}

fn urls(found: &Move) -> Value {
    found.sources.iter().map(|source| Value::from(source.url.canonical())).collect()
}

/// Whose token it is to be: that which was named, that of the other BearerTokens, or that of the controller's pod.
fn identity(flags: &Migrate, facts: &Facts) -> Result<Value, Trouble> {
    if let (Some(tenant), Some(client)) = (&flags.tenant_id, &flags.client_id) {
        return Ok(json!({"tenantId": tenant, "clientId": client}));
    }
    let specs = facts.tokens.iter().filter_map(|token| token.spec.as_ref());
    let mut known: Vec<Value> = specs.map(|spec| json!(spec.identity)).collect();
    known.dedup();
    match known.as_slice() {
        [only] => Ok(only.clone()),
        [] if facts.pod_identity && facts.home == facts.namespace => Ok(json!({})),
        several => {
            let cause = if several.is_empty() {
                "there is no BearerToken whose identity could be used, and the controller's pod brings none along"
            } else {
                "the BearerTokens there are have several identities"
            };
            Err(Trouble::usage(cause, "choose one with --tenant-id and --client-id"))
        }
    }
}

/// What an existing BearerToken lacks.
fn change(found: &Move, held: &SecretFacts, token: &Token, format: Keys) -> Result<Option<Step>, Trouble> {
    let Some(spec) = &token.spec else {
        let fix = format!("flux-bearer check -n {}", token.namespace);
        return Err(taken(&found.secret, &format!("the spec of BearerToken {} can't be read", token.name), &fix));
    };
    if token.is_suspended() {
        let fix = format!("flux-bearer resume {} -n {}", token.name, token.namespace);
        return Err(taken(&found.secret, &format!("BearerToken {} is suspended", token.name), &fix));
    }
    let adopts = !matches!(held.held, Held::Foreign { .. }) || spec.secret.adopt;
    let adopt: Option<Field> = (!adopts).then_some(("adopt", json!(true), Value::Null));
    let writes = spec.secret.formats.contains(&format);
    // What a GitRepository never reads is for somebody else, and stays.
    let others = spec.secret.formats.iter().copied().filter(|kept| *kept == Keys::Token);
    let formats: Vec<Keys> = std::iter::once(format).chain(others).collect();
    let formats: Option<Field> = (!writes).then(|| ("formats", json!(formats), json!(spec.secret.formats)));
    let secret: Vec<Field> = adopt.into_iter().chain(formats).collect();
    let tried = |source: &Source| {
        let wanted = source.url.canonical();
        spec.repositories.iter().any(|url| Repository::parse(url).is_ok_and(|url| url.canonical() == wanted))
    };
    let untried = found.sources.iter().any(|source| source.native && !tried(source));
    let repositories: Option<Field> = untried.then(|| ("repositories", urls(found), json!(spec.repositories)));
    let secret = (!secret.is_empty()).then(|| both("secret", &secret));
    let fields: Vec<Field> = secret.into_iter().chain(repositories).collect();
    if fields.is_empty() {
        return Ok(None);
    }
    let (_, change, before) = both("spec", &fields);
    Ok(Some(Step::Change(json!({"spec": change}), json!({"spec": before}))))
}

/// Some fields as one object, after and before.
fn both(name: &'static str, fields: &[Field]) -> Field {
    let side = |of: fn(&Field) -> &Value| -> Map<String, Value> {
        fields.iter().map(|field| (field.0.to_owned(), of(field).clone())).collect()
    };
    (name, Value::Object(side(|field| &field.1)), Value::Object(side(|field| &field.2)))
}
