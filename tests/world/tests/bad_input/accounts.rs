//! `ServiceAccount`s that can't sign in: absent, out of reach, contradicted or unreadable.

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::kube::RequestInfo;
use flux_bearer_world::accounts::subject;
use flux_bearer_world::identities::{TENANT, client};
use flux_bearer_world::stage::NAMESPACE;
use serde_json::{Value, json};

use crate::support::pair::{CANARY, Pair, answers, fault, json_answer, page};
use crate::support::{Theatre, minutes, seconds};

const CLIENT: &str = "azure.workload.identity/client-id";
const TENANT_ID: &str = "azure.workload.identity/tenant-id";

/// What it is, the identity, the annotations of the account if there is one, the reason, and parts of what is said.
type Case = (&'static str, Value, Option<Value>, &'static str, [&'static str; 2]);

/// Whether the API refuses a request.
type Refuses = fn(&RequestInfo) -> bool;

/// A pair whose `bad` has this identity. Identity 0 trusts ServiceAccount `app`, which has these annotations.
fn pair(identity: &Value, annotations: Option<&Value>) -> Pair {
    let theatre = Theatre::with(&[3600, 3600]);
    theatre.stage.issue_tokens();
    theatre.stage.federate(0, &subject(NAMESPACE, "app")).unwrap();
    if let Some(annotations) = annotations {
        theatre.stage.service_account(NAMESPACE, "app", annotations);
    }
    let good = json!({"identity": {"clientId": client(1), "tenantId": "contoso.example"}});
    Pair::on(theatre, &json!({"identity": identity}), &good)
}

#[tokio::test(start_paused = true)]
async fn accounts_that_cannot_be_fill_nothing() {
    let app = json!({"serviceAccountName": "app"});
    let spec = json!({"serviceAccountName": "app", "clientId": client(0), "tenantId": TENANT});
    let own = json!({CLIENT: client(0)});
    let (contradicted, other) = (json!({CLIENT: client(1)}), json!({TENANT_ID: client(9)}));
    let missing = ["kubectl -n flux-system create serviceaccount app", "spec.identity.serviceAccountName"];
    let named = ["is not the name of a ServiceAccount", "BearerToken's own namespace"];
    let invalid = "InvalidIdentity";
    let cases: [Case; 10] = [
        ("no account", app.clone(), None, "ServiceAccountMissing", missing),
        ("another namespace's", json!({"serviceAccountName": "team-b/app"}), Some(own.clone()), invalid, named),
        ("a path", json!({"serviceAccountName": "../secrets/good"}), Some(own.clone()), invalid, named),
        (
            "another type",
            json!({"type": "ManagedIdentity", "serviceAccountName": "app"}),
            Some(own.clone()),
            invalid,
            ["belongs to type WorkloadIdentity", "remove serviceAccountName"],
        ),
        ("no client id", app.clone(), Some(json!({})), invalid, ["no client id is known", CLIENT]),
        ("a contradicted client", spec.clone(), Some(contradicted), invalid, ["spec.identity.clientId is", CLIENT]),
        ("a contradicted tenant", spec, Some(other), invalid, ["spec.identity.tenantId is", TENANT_ID]),
        ("a malformed client", app.clone(), Some(json!({CLIENT: CANARY})), invalid, ["is malformed", CLIENT]),
        ("an empty client", app.clone(), Some(json!({CLIENT: ""})), invalid, ["is malformed", CLIENT]),
        (
            "a malformed tenant",
            app,
            Some(json!({CLIENT: client(0), TENANT_ID: "../common"})),
            invalid,
            ["is malformed", TENANT_ID],
        ),
    ];
    for (what, identity, annotations, reason, parts) in cases {
        let pair = pair(&identity, annotations.as_ref());
        let _running = pair.start();
        minutes(70).await;
        pair.says(what, "Ready", &format!("False {reason}"), &parts);
        pair.says(what, "Stalled", &format!("True {reason}"), &parts);
        assert_eq!(pair.secret(), None, "{what}");
        let paths = pair
            .theatre
            .stage
            .kube
            .journal()
            .count_where(|entry| entry.request.resource == "serviceaccounts" && entry.request.name != "app");
        assert_eq!(paths, 0, "{what}: asked about another account");
        pair.good_is_unaffected(what);
        // Put right.
        pair.theatre.stage.service_account(NAMESPACE, "app", &json!({CLIENT: client(0)}));
        pair.theatre.stage.bearer_token("bad", &json!({"identity": {"serviceAccountName": "app"}}));
        minutes(6).await;
        pair.says(what, "Ready", "True Succeeded", &[]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_without_rights_is_told_with_the_commands_that_give_them() {
    let refused: [(&str, Refuses); 2] =
        [("reading it", |info| info.subresource.is_empty()), ("its tokens", |info| info.subresource == "token")];
    for (what, refused) in refused {
        let pair = pair(&json!({"serviceAccountName": "app", "clientId": client(0)}), Some(&json!({})));
        let allowed = move |info: &RequestInfo| info.resource != "serviceaccounts" || !refused(info);
        pair.theatre.stage.kube.set_authorizer(allowed);
        let _running = pair.start();
        minutes(10).await;
        let fix =
            "create role flux-bearer-account-app --verb=get,create --resource=serviceaccounts,serviceaccounts/token";
        pair.says(what, "Ready", "False ServiceAccountForbidden", &[fix, "--resource-name=app && kubectl"]);
        assert_eq!(pair.secret(), None, "{what}");
        pair.theatre.stage.kube.set_authorizer(|_| true);
        minutes(6).await;
        pair.says(what, "Ready", "True Succeeded", &[]);
        pair.theatre.stage.kube.set_authorizer(allowed);
        let filled = pair.secret();
        minutes(45).await;
        pair.says(what, "Ready", "True Succeeded", &[]);
        pair.says(what, "RefreshFailing", "True ServiceAccountForbidden", &[fix]);
        minutes(20).await;
        pair.says(what, "Ready", "False TokenExpired", &[fix]);
        assert_eq!(pair.secret(), filled, "{what}");
        pair.good_is_unaffected(what);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_api_says_of_an_account_may_make_no_sense() {
    let token = |token: &str| {
        let body = json!({"status": {"token": token}}).to_string();
        answers(201, "application/json", body)
    };
    let long = "x".repeat(16 * 1024 + 1);
    let anywhere = |method: &'static str| {
        let strange = [
            ("an empty reply", json_answer(""), "check the proxy"),
            ("a page", page(200), "check the proxy"),
            ("a page of a gateway", page(502), "Retried by itself"),
            ("a refused connection", fault(None, Some(Effect::Refuse)), "Check DNS"),
            ("no reply", fault(None, Some(Effect::Hang)), "check firewall and proxy"),
        ];
        let strange = strange.map(|(what, trouble, fix)| (method, what, trouble, "KubernetesUnavailable", fix));
        let refused = answers(422, "text/plain", CANARY);
        strange.into_iter().chain([(
            method,
            "a refusal in words",
            refused,
            "ServiceAccountRefused",
            "admission policy",
        )])
    };
    let tokens = [
        ("no token", token(""), "KubernetesUnavailable", "check the proxy"),
        ("a token in two lines", token("a\r\nX-Evil: 1"), "KubernetesUnavailable", "check the proxy"),
        ("a token that is too long", token(&long), "KubernetesUnavailable", "check the proxy"),
        ("a token that is none", token(CANARY), "RequestRejected", ""),
    ];
    let tokens = tokens.map(|(what, trouble, reason, fix)| ("POST", what, trouble, reason, fix));
    for (method, what, trouble, reason, fix) in anywhere("GET").chain(anywhere("POST")).chain(tokens) {
        let what = format!("{what} to {method}");
        let pair = pair(&json!({"serviceAccountName": "app"}), Some(&json!({CLIENT: client(0)})));
        let (method, path) = (Some(method.into()), Some("/serviceaccounts/app".into()));
        pair.theatre.stage.kube.faults().set(Fault { method, path, ..trouble });
        let _running = pair.start();
        minutes(30).await;
        pair.says(&what, "Ready", &format!("False {reason}"), &[fix]);
        assert_eq!(pair.secret(), None, "{what}");
        pair.good_is_unaffected(&what);
        pair.theatre.stage.kube.faults().clear_all();
        minutes(6).await;
        seconds(1).await;
        pair.says(&what, "Ready", "True Succeeded", &[]);
    }
}
