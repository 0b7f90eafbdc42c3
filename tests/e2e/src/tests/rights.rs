//! What the controller's account may do: what `deploy/` says, every verb on every kind, what that means in real requests,
//! and the policies.

mod account;
mod matrix;
mod policies;
mod rendered;
mod requests;

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use self::account::Account;
use self::matrix::{Grant, Kind, User, may};
use crate::cluster::NAMESPACE;
use crate::controller;
use crate::flux;
use crate::wait::wait_for;
use crate::world::{Run, World};

pub(super) const NAME: &str = "rights";

/// A namespace in which the controller has no Role.
const TENANT: &str = "tenant";

/// Time for a right or a policy to take effect. The API server looks for new kinds of parameters twice a minute.
const EFFECT: Duration = Duration::from_secs(60);

const BEARER_TOKENS: &str = "flux-bearer.dev/bearertokens";
const LEASES: &str = "coordination.k8s.io/leases";
const POLICIES: &[&str] =
    &["flux-bearer-gitrepository-metadata", "flux-bearer-gitrepository-host", "flux-bearer-tokenrequest-audience"];

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    rendered::check(&world, &run.tools.kubectl, &run.tools.install).await?;
    flux::define(&run.tools, &world.cluster).await?;
    let tenant = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TENANT}});
    world.cluster.apply(&tenant.to_string()).await?;
    let account = Account::sign_in(&world.cluster).await?;

    let kinds = matrix::kinds(&world.cluster.client()).await?;
    check(&world, "the installation", &User::controller(), &kinds, &base()).await?;
    ports(&world).await?;
    requests::check(&world, &account).await?;
    components(run, &world, &kinds).await?;
    policies::check(&world, &account).await?;
    people(&world, &kinds).await
}

/// What the cluster role `flux-bearer-controller` grants.
fn cluster_role() -> Vec<Grant> {
    vec![
        may("get list watch", BEARER_TOKENS),
        may("patch", "flux-bearer.dev/bearertokens/status"),
        may("list watch patch", "source.toolkit.fluxcd.io/gitrepositories"),
        may("create", "events"),
    ]
}

/// What the installation grants besides, and what every account may.
fn others() -> Vec<Grant> {
    vec![
        may("get list watch create patch", "secrets").within(NAMESPACE).named(&["flux-system", "fleet"]),
        may("create", LEASES).within(NAMESPACE),
        may("get update", LEASES).within(NAMESPACE).named(&["flux-bearer-controller-leader-election"]),
        may("get", "apiextensions.k8s.io/customresourcedefinitions").named(&["bearertokens.flux-bearer.dev"]),
        may("get", "admissionregistration.k8s.io/validatingadmissionpolicies").named(POLICIES),
        may("get", "admissionregistration.k8s.io/validatingadmissionpolicybindings").named(POLICIES),
        // Every account may read whom the cluster trusts, and ask who it is and what it may.
        may("get list watch", "certificates.k8s.io/clustertrustbundles"),
        may("create", "authentication.k8s.io/selfsubjectreviews"),
        may("create", "authorization.k8s.io/selfsubjectaccessreviews"),
        may("create", "authorization.k8s.io/selfsubjectrulesreviews"),
    ]
}

fn base() -> Vec<Grant> {
    [cluster_role(), others()].concat()
}

/// The network policy opens single ports: a rule without any would open all of them.
async fn ports(world: &World<'_>) -> anyhow::Result<()> {
    let path = "/apis/networking.k8s.io/v1/namespaces/flux-system/networkpolicies/flux-bearer-controller";
    let policy = world.cluster.get(path).await?;
    for direction in ["/spec/ingress", "/spec/egress"] {
        let rules = policy.pointer(direction).and_then(Value::as_array).with_context(|| format!("no {direction}"))?;
        let numbered = |port: &Value| port.get("port").is_some_and(Value::is_u64);
        let named =
            |rule: &Value| rule.get("ports").and_then(Value::as_array).is_some_and(|all| all.iter().all(numbered));
        ensure!(!rules.is_empty() && rules.iter().all(named), "{direction} opens more than single ports: {rules:?}");
    }
    Ok(())
}

/// Each component alone, over the installation.
async fn components(run: &Run, world: &World<'_>, kinds: &[Kind]) -> anyhow::Result<()> {
    const OF_CLUSTER: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    const OF_NAMESPACE: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/flux-system/rolebindings";

    // That it becomes available shows that the controller knows the component's flag.
    let apply = async |name: &str, grants: Vec<Grant>| {
        let folder = run.tools.install.with_file_name("components").join(name);
        let deployment = controller::install(&run.tools.kubectl, &folder, &world.cluster).await?.replicas(1);
        deployment.roll_out(&world.cluster).await?;
        check(world, &format!("component {name}"), &User::controller(), kinds, &grants).await?;
        deployment.replicas(0).roll_out(&world.cluster).await
    };
    let credential = may("get", "secrets").within(NAMESPACE).named(&["flux-bearer-credentials"]);
    apply("credential-secrets", [base(), vec![credential]].concat()).await?;
    world.cluster.delete(&format!("{OF_NAMESPACE}/flux-bearer-controller-credentials")).await?;

    let account = |verb, resource| may(verb, resource).within(NAMESPACE).named(&["flux-bearer-identity"]);
    let accounts = vec![account("get", "serviceaccounts"), account("create", "serviceaccounts/token")];
    apply("token-request", [base(), accounts].concat()).await?;
    world.cluster.delete(&format!("{OF_NAMESPACE}/flux-bearer-controller-accounts")).await?;

    let proxy = may("use-managed-identity", "cid.wi.aks.azure.com/00000000-0000-0000-0000-000000000000");
    apply("identity-binding", [base(), vec![proxy]].concat()).await?;
    world.cluster.delete(&format!("{OF_CLUSTER}/flux-bearer-controller-identity-binding")).await?;

    let any = may("get list watch create patch", "secrets");
    apply("open", [base(), vec![any]].concat()).await?;
    world.cluster.delete(&format!("{OF_CLUSTER}/flux-bearer-controller-open")).await?;

    // kubectl takes nothing away that a new version of the manifests no longer has.
    world.cluster.delete(&format!("{OF_CLUSTER}/flux-bearer-controller")).await?;
    let narrowed: Vec<Grant> = cluster_role().into_iter().map(|grant| grant.within(NAMESPACE)).collect();
    apply("one-namespace", [narrowed, others()].concat()).await
}

/// What Kubernetes' own roles for people get in their namespace.
async fn people(world: &World<'_>, kinds: &[Kind]) -> anyhow::Result<()> {
    let ours: Vec<Kind> = kinds.iter().filter(|kind| kind.is_ours()).cloned().collect();
    let read = may("get list watch", BEARER_TOKENS).within(TENANT);
    let write = may("create delete deletecollection patch update", BEARER_TOKENS).within(TENANT);
    for (role, grants) in [("view", vec![read]), ("edit", vec![read, write]), ("admin", vec![read, write])] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": TENANT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
        });
        world.cluster.apply(&binding.to_string()).await?;
        check(world, &format!("role {role} and our kind"), &User::person(role), &ours, &grants).await?;
    }
    Ok(())
}

/// Waits until `user` may do with `kinds` what `grants` say, and nothing else.
async fn check(world: &World<'_>, what: &str, user: &User, kinds: &[Kind], grants: &[Grant]) -> anyhow::Result<()> {
    let client = world.cluster.client();
    let look = async || matrix::ask(&client, user, kinds, grants).await;
    let asked = wait_for(&format!("the rights of {what}"), EFFECT, look).await?;
    world.story.tell(&format!("{what}: {} questions, {} times yes, as written", asked.questions, asked.allowed));
    Ok(())
}
