//! A BearerToken in trouble, and one beside it that must not notice.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flux_bearer::token::AZURE_DEVOPS;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::identities::{TENANT, client, object};
use flux_bearer_world::stage::{NAMESPACE, Running};
use serde_json::{Value, json};

use super::{Theatre, minutes};

/// A text that hostile answers carry, and that nothing the controller says may repeat.
pub(crate) const CANARY: &str = "CANARY-7f3a91";

/// The path of the token endpoint that `bad` signs in at. `good` names the tenant by domain, so it has another.
pub(crate) fn token_path() -> String {
    format!("{TENANT}/oauth2/v2.0/token")
}

/// BearerToken and Secret `bad`, which the test gets into trouble, and `good`, which it must leave alone.
pub(crate) struct Pair {
    pub(crate) theatre: Theatre,
}

impl Pair {
    /// Both, not yet served. The spec of `bad` is the test's.
    pub(crate) fn new(bad: &Value) -> Self {
        let good = json!({"identity": {"clientId": client(1), "tenantId": "contoso.example"}});
        Self::on(Theatre::with(&[3600, 3600]), bad, &good)
    }

    /// Both on a stage of the test's own.
    pub(crate) fn on(theatre: Theatre, bad: &Value, good: &Value) -> Self {
        theatre.stage.bearer_token("bad", bad);
        theatre.stage.bearer_token("good", good);
        Self { theatre }
    }

    /// Serves both.
    pub(crate) fn start(&self) -> Running {
        self.theatre.stage.start()
    }

    /// The Secret `bad`, whole.
    pub(crate) fn secret(&self) -> Option<Value> {
        self.theatre.stage.kube.get("Secret", NAMESPACE, "bad")
    }

    /// That a condition of `bad` says `status reason`, with all of `parts` (what fixes it above all) in its message.
    #[track_caller]
    pub(crate) fn says(&self, what: &str, condition: &str, status_and_reason: &str, parts: &[&str]) {
        let found = self.theatre.stage.condition("bad", condition);
        let (status, reason, message) = found.unwrap_or_default();
        assert_eq!(format!("{status} {reason}"), status_and_reason, "{condition} after {what}: {message:?}");
        for part in parts {
            assert!(message.contains(part), "{what}: {part:?} is not in {message:?}");
        }
    }

    /// That `good` is Ready, was refreshed on time, and that nothing said anywhere repeats a canary.
    #[track_caller]
    pub(crate) fn good_is_unaffected(&self, what: &str) {
        let theatre = &self.theatre;
        assert_eq!(theatre.stage.says("good", "Ready"), "True Succeeded", "{what}");
        assert_eq!(theatre.stage.says("good", "RefreshFailing"), "", "{what}");
        assert_eq!(theatre.expired_seconds("good"), 0, "{what}");
        let age = theatre.record("good")["issuedAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let age = theatre.stage.world.clock().now().duration_since(age);
        assert!(age.as_mins() <= 27, "{what}: good was not refreshed on time: {age}");
        assert!(!theatre.said().contains(CANARY), "{what}");
    }
}

/// A token of nobody's signature with these claims in place of good ones.
pub(crate) fn forged(claims: &Value) -> String {
    let mut all = json!({"aud": AZURE_DEVOPS, "tid": TENANT, "appid": client(0), "oid": object(0)});
    for (name, value) in claims.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    format!("e30.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(all.to_string()))
}

/// A fault: its effect after a wait.
pub(crate) fn fault(delay_ms: Option<u64>, effect: Option<Effect>) -> Fault {
    Fault { name: "trouble".into(), delay_ms, effect, ..Fault::default() }
}

/// An answer with this body in place of the service's.
pub(crate) fn answers(status: u16, content_type: &str, body: impl Into<String>) -> Fault {
    let (content_type, body) = (Some(content_type.into()), body.into());
    fault(None, Some(Effect::Answer { status, retry_after: None, content_type, body }))
}

/// A JSON answer with status 200.
pub(crate) fn json_answer(body: impl Into<String>) -> Fault {
    answers(200, "application/json", body)
}

/// The sign-in page of something in between.
pub(crate) fn page(status: u16) -> Fault {
    answers(status, "text/html", format!("<html><title>{CANARY}</title></html>"))
}

/// Lets `bad` meet `trouble` from its start, then recover, then meet it again until its token has expired.
///
/// Shows: a condition names `reason` and every part of `fix`; while there is trouble nothing is written; it passes with the trouble;
/// the Secret that is filled stays as it is, to the byte, and Ready until its token expires; `good` notices nothing.
pub(crate) async fn withstands(spec: &Value, what: &str, trouble: &Fault, reason: &str, fix: &[&str]) {
    let pair = Pair::new(spec);
    let faults = pair.theatre.stage.world.faults().clone();
    faults.set(trouble.clone());
    let _running = pair.start();
    minutes(10).await;
    assert_eq!(pair.secret(), None, "{what}");
    pair.says(what, "Ready", &format!("False {reason}"), fix);
    faults.clear_all();
    minutes(6).await;
    pair.says(what, "Ready", "True Succeeded", &["bad"]);
    faults.set(trouble.clone());
    let filled = pair.secret();
    minutes(45).await;
    pair.says(what, "Ready", "True Succeeded", &["bad"]);
    pair.says(what, "RefreshFailing", &format!("True {reason}"), fix);
    minutes(20).await;
    pair.says(what, "Ready", "False TokenExpired", fix);
    assert_eq!(pair.secret(), filled, "{what}");
    pair.good_is_unaffected(what);
}
