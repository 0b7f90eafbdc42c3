//! A session keeps tokens, and knows whose they are.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::failure::{Class, Failure};
use flux_bearer::token::Grant;
use flux_bearer_azure::operator::{Resource, Session, SignIn};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::time::sleep;

use crate::server::{TENANT, refusing};

const START: i64 = 1_800_000_000;

/// A way of signing in that counts, and fails while `down`.
#[derive(Default)]
struct Counting {
    times: AtomicUsize,
    down: Mutex<Option<Failure>>,
}

impl Counting {
    fn grant(&self) -> Result<Grant, Failure> {
        let number = self.times.fetch_add(1, Ordering::Relaxed) + 1;
        self.down.lock().unwrap().clone().map_or(Ok(()), Err)?;
        Ok(Grant {
            secret: format!("token-{number}").into(),
            expires_in: Some(Duration::from_hours(1)),
            expires_on: None,
            refresh_in: None,
            server_time: None,
        })
    }
}

impl SignIn for Counting {
    fn token<'a>(&'a self, _: Resource, _: Option<&'a str>) -> BoxFuture<'a, Result<Grant, Failure>> {
        async {
            sleep(Duration::from_secs(1)).await;
            self.grant()
        }
        .boxed()
    }

    fn describe(&self) -> String {
        "a test".to_owned()
    }
}

struct World {
    session: Session,
    way: Arc<Counting>,
    clock: Arc<AtomicI64>,
}

fn world() -> World {
    let (way, clock) = (Arc::new(Counting::default()), Arc::new(AtomicI64::new(START)));
    let seconds = clock.clone();
    let now = move || Timestamp::from_second(seconds.load(Ordering::Relaxed)).unwrap();
    World { session: Session::new(refusing(), way.clone(), Some(TENANT.into()), now), way, clock }
}

impl World {
    async fn token(&self, resource: Resource) -> Result<String, Failure> {
        self.session.token(resource).await.map(|token| token.secret.expose_secret().to_owned())
    }

    fn set(&self, seconds: i64) {
        self.clock.store(START + seconds, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_kept_for_its_resource_until_five_minutes_before_its_end() {
    let world = world();
    for (at, token) in [(0, "token-1"), (3299, "token-1"), (3300, "token-2"), (3301, "token-2")] {
        world.set(at);
        assert_eq!(world.token(Resource::Arm).await.unwrap(), token, "{at} s");
    }
    assert_eq!(world.token(Resource::AzureDevOps).await.unwrap(), "token-3");
    assert_eq!(world.token(Resource::Arm).await.unwrap(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn many_callers_sign_in_once() {
    let world = world();
    let tokens = join_all((0..20).map(|_| world.token(Resource::Arm))).await;
    assert!(tokens.into_iter().all(|token| token.unwrap() == "token-1"));
    assert_eq!(world.way.times.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_still_works_outlasts_a_sign_in_that_fails() {
    let world = world();
    world.token(Resource::Arm).await.unwrap();
    let away = Failure::new("EntraUnavailable", Class::Transient, "HTTP 503", "away", "wait");
    *world.way.down.lock().unwrap() = Some(away.clone());
    world.set(3599);
    assert_eq!(world.token(Resource::Arm).await.unwrap(), "token-1");
    world.set(3600);
    assert_eq!(world.token(Resource::Arm).await.unwrap_err(), away);
    *world.way.down.lock().unwrap() = None;
    assert!(world.token(Resource::Arm).await.unwrap().starts_with("token-"));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_token_is_printed() {
    let world = world();
    let token = world.session.token(Resource::Arm).await.unwrap();
    let shown = format!("{token:?} {:?}", world.session);
    assert!(!shown.contains("token-1") && shown.contains("a test") && shown.contains(TENANT), "{shown}");
}
