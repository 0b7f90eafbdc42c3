//! Specs that can't work: repositories, identities, and objects that can't be read at all.

use flux_bearer_world::identities::{REPOSITORY, TENANT, client};
use flux_bearer_world::stage::NAMESPACE;
use serde_json::{Value, json};

use crate::support::pair::Pair;
use crate::support::{Theatre, minutes, seconds};

/// URLs that can't work, with a part of what is said of them.
const URLS: [(&str, &str); 8] = [
    ("https://org@dev.azure.com/contoso/platform/_git/fleet", "[Basic]"),
    ("https://user:word@dev.azure.com/contoso/platform/_git/fleet", "[Basic]"),
    ("https://github.com/contoso/fleet", "https://dev.azure.com/ORG/PROJECT/_git/REPOSITORY"),
    ("https://dev.azure.com.evil.example/contoso/platform/_git/fleet", "the token is sent nowhere else"),
    ("git@ssh.dev.azure.com:v3/contoso/platform/fleet", "a token works over HTTPS only"),
    ("ssh://git@ssh.dev.azure.com/v3/contoso/platform/fleet", "a token works over HTTPS only"),
    ("https://dev.azure.com/contoso/my platform/_git/fleet", "%20"),
    ("http://dev.azure.com/contoso/platform/_git/fleet", "not https"),
];

#[tokio::test(start_paused = true)]
async fn a_bad_repository_in_the_spec_fills_nothing_and_ends_no_renewal() {
    for (url, fix) in URLS {
        let bad = json!({"repositories": [REPOSITORY, url]});
        let pair = Pair::new(&bad);
        let _running = pair.start();
        minutes(30).await;
        pair.says(url, "Ready", "False InvalidRepository", &[fix, "Use https://dev.azure.com/"]);
        pair.says(url, "Stalled", "True InvalidRepository", &[fix]);
        assert_eq!(pair.secret(), None, "{url}");
        pair.theatre.stage.bearer_token("bad", &json!({"repositories": [REPOSITORY]}));
        minutes(1).await;
        pair.says(url, "Ready", "True Succeeded", &[]);
        pair.theatre.stage.bearer_token("bad", &bad);
        minutes(130).await;
        pair.says(url, "Ready", "True Succeeded", &[]);
        pair.says(url, "Stalled", "True InvalidRepository", &[fix]);
        assert_eq!(pair.theatre.expired_seconds("bad"), 0, "{url}");
        pair.good_is_unaffected(url);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_git_repository_keeps_the_secret_from_being_filled_and_not_from_being_renewed() {
    for (url, fix) in URLS {
        let pair = Pair::new(&json!({}));
        pair.theatre.stage.git_repository("theirs", "bad", url);
        let _running = pair.start();
        minutes(30).await;
        pair.says(url, "Ready", "False InvalidRepository", &["GitRepository theirs", fix]);
        assert_eq!(pair.secret(), None, "{url}");
        pair.theatre.stage.git_repository("theirs", "bad", REPOSITORY);
        seconds(5).await;
        pair.says(url, "Ready", "True Succeeded", &[]);
        pair.theatre.stage.git_repository("theirs", "bad", url);
        minutes(130).await;
        pair.says(url, "Ready", "True Succeeded", &[]);
        pair.says(url, "Accessible", "False InvalidRepository", &["GitRepository theirs", fix]);
        assert_eq!(pair.theatre.expired_seconds("bad"), 0, "{url}");
        pair.good_is_unaffected(url);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_in_the_url_is_fine_with_basic() {
    let pair = Pair::new(&json!({"secret": {"formats": ["Basic"]}}));
    pair.theatre.stage.git_repository("theirs", "bad", "https://contoso@dev.azure.com/contoso/platform/_git/fleet");
    let _running = pair.start();
    minutes(70).await;
    pair.says("a user", "Ready", "True Succeeded", &[]);
    pair.says("a user", "Accessible", "True RepositoriesOpen", &[]);
    pair.good_is_unaffected("a user");
}

#[tokio::test(start_paused = true)]
async fn identities_that_cannot_be_fill_nothing() {
    let cases = [
        (json!({"tenantId": "../common"}), "az account show"),
        (json!({"clientId": "not-a-guid"}), "az identity show"),
        (json!({"clientId": "x\r\nX-Evil: 1"}), "az identity show"),
        (json!({"type": "ManagedIdentity", "clientId": client(0), "objectId": client(0)}), "Keep one of"),
        (json!({"type": "ClientSecret", "clientId": client(0), "tenantId": TENANT}), "Name the Secret"),
    ];
    for (identity, fix) in cases {
        let what = identity.to_string();
        let pair = Pair::new(&json!({"identity": identity}));
        let _running = pair.start();
        minutes(70).await;
        pair.says(&what, "Ready", "False InvalidIdentity", &[fix]);
        assert_eq!(pair.secret(), None, "{what}");
        pair.good_is_unaffected(&what);
    }
}

#[tokio::test(start_paused = true)]
async fn another_namespace_uses_the_pods_identity_only_where_it_is_allowed() {
    let pair = Pair::new(&json!({}));
    let in_team = |name: &str, client_id: &str| {
        pair.theatre.stage.kube.apply(json!({
            "apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken",
            "metadata": {"name": name, "namespace": "team-a"}, "spec": {"identity": {"clientId": client_id}},
        }))
    };
    in_team("fleet", &client(0));
    in_team("other", &client(1));
    let ready = |name: &str| {
        let object = pair.theatre.stage.kube.get("BearerToken", "team-a", name).unwrap();
        let conditions = object["status"]["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap()
    };
    let running = pair.start();
    minutes(70).await;
    for name in ["fleet", "other"] {
        let said = ready(name);
        assert_eq!((&said["status"], &said["reason"]), (&json!("False"), &json!("IdentityNotAllowed")));
        assert!(said["message"].as_str().unwrap().contains("--allow-identity namespace=tenantId/clientId"), "{said}");
        assert_eq!(pair.theatre.stage.kube.get("Secret", "team-a", name), None);
    }
    pair.good_is_unaffected("another namespace");
    assert!(running.stop().await.is_some());
    let grant = format!("team-a={TENANT}/{}", client(0)).parse().unwrap();
    let _running = pair.theatre.stage.start_with(|settings| settings.pod.allowed = vec![grant]);
    seconds(5).await;
    assert_eq!(ready("fleet")["reason"], "Succeeded");
    assert_eq!(ready("other")["reason"], "IdentityNotAllowed", "the grant is exact");
    assert_eq!(pair.theatre.stage.kube.get("Secret", "team-a", "other"), None);
}

#[tokio::test(start_paused = true)]
async fn row_33_an_object_that_cannot_be_read_is_told_so_and_takes_nobody_down() {
    let poison: [Value; 8] = [
        json!({"identity": 7}),
        json!({"secret": []}),
        json!({"identity": {"type": "Certificate"}}),
        json!({"repositories": "https://dev.azure.com"}),
        json!({"suspend": "yes"}),
        json!({"secret": {"formats": [{"Bearer": 1}]}}),
        json!("a text"),
        json!(null),
    ];
    let theatre = Theatre::with(&[3600]);
    for number in 0..50 {
        theatre.stage.bearer_token(&format!("good-{number}"), &json!({}));
    }
    for (number, spec) in poison.iter().enumerate() {
        theatre.stage.bearer_token(&format!("poison-{number}"), spec);
    }
    let _running = theatre.stage.start();
    for time in ["at the start", "hours later"] {
        seconds(10).await;
        for (number, spec) in poison.iter().enumerate() {
            let name = format!("poison-{number}");
            let (status, reason, message) = theatre.stage.condition(&name, "Stalled").unwrap_or_default();
            assert_eq!((&*status, &*reason), ("True", "InvalidSpec"), "{time}: {spec}");
            assert!(message.contains("kubectl explain bearertoken.spec"), "{time}: {message}");
            assert_eq!(theatre.stage.kube.get("Secret", NAMESPACE, &name), None, "{spec}");
        }
        for number in 0..50 {
            let name = format!("good-{number}");
            assert_eq!(theatre.stage.says(&name, "Ready"), "True Succeeded", "{time}");
            assert_eq!(theatre.expired_seconds(&name), 0, "{time}");
        }
        minutes(180).await;
    }
    theatre.stage.bearer_token("good-0", &json!({"identity": 7}));
    minutes(130).await;
    assert_eq!(theatre.stage.says("good-0", "Stalled"), "True InvalidSpec");
    assert_eq!(theatre.stage.says("good-0", "Ready"), "True Succeeded", "the last working identity goes on");
    assert_eq!(theatre.expired_seconds("good-0"), 0);
}
