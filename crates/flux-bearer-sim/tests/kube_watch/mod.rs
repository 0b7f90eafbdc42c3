//! Watches, and the watcher that lives on them.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::kube::Verb;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use super::{NS, secret, secrets, token, world};

/// The next `count` events of a watch.
async fn events<K: Clone + serde::de::DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
    params: &WatchParams,
    from: &str,
    count: usize,
) -> Vec<WatchEvent<K>> {
    api.watch(params, from).await.unwrap().take(count).try_collect().await.unwrap()
}

fn told<K: ResourceExt>(event: &WatchEvent<K>) -> String {
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", object.name_any()),
        WatchEvent::Modified(object) => format!("MODIFIED {}", object.name_any()),
        WatchEvent::Deleted(object) => format!("DELETED {}", object.name_any()),
        WatchEvent::Bookmark(_) => "BOOKMARK".to_owned(),
        WatchEvent::Error(status) => format!("ERROR {} {}", status.code, status.reason),
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_stops_matching_is_deleted_for_its_watch() {
    let (kube, client) = world();
    let start = secrets(&client).list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut object = secret("s");
    for label in ["in", "out", "in"] {
        object["metadata"]["labels"] = json!({"where": label});
        kube.apply(object.clone());
    }
    kube.annotate("Secret", NS, "s", "a", "b");
    kube.delete("Secret", NS, "s");
    let seen = events(&secrets(&client), &WatchParams::default().labels("where=in"), &start, 5).await;
    let seen_told: Vec<String> = seen.iter().map(told).collect();
    assert_eq!(seen_told, ["ADDED s", "DELETED s", "ADDED s", "MODIFIED s", "DELETED s"]);
    let WatchEvent::Deleted(gone) = &seen[1] else { panic!() };
    assert_eq!(gone.labels()["where"], "in", "it is told as it was");
}

#[tokio::test(start_paused = true)]
async fn a_watch_has_bookmarks_each_minute_and_ends_in_time() {
    let (kube, client) = world();
    let started = tokio::time::Instant::now();
    let params = WatchParams::default().timeout(150);
    let api = secrets(&client);
    let mut seen = pin!(api.watch(&params, "0").await.unwrap());
    kube.apply(secret("s"));
    assert_eq!(told(&seen.next().await.unwrap().unwrap()), "ADDED s");
    kube.apply(token("unrelated", &json!({})));
    let Some(Ok(WatchEvent::Bookmark(bookmark))) = seen.next().await else { panic!("no bookmark") };
    assert_eq!(started.elapsed(), Duration::from_mins(1));
    assert!(bookmark.metadata.resource_version.parse::<u64>().unwrap() > 5, "bookmarks follow the whole store");
    for at in [120, 148] {
        assert_eq!(told(&seen.next().await.unwrap().unwrap()), "BOOKMARK");
        assert_eq!(started.elapsed(), Duration::from_secs(at));
    }
    assert!(seen.next().await.is_none());
    assert_eq!(started.elapsed(), Duration::from_secs(150));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_recovers_from_a_compaction_with_a_new_list() {
    let (kube, client) = world();
    kube.apply(secret("a"));
    let mut seen = pin!(watcher(secrets(&client), watcher::Config::default()));
    for wanted in ["Init", "InitApply(a)", "InitDone"] {
        assert_eq!(seen.next().await.unwrap().unwrap().to_string(), wanted);
    }
    kube.apply(secret("b"));
    assert_eq!(seen.next().await.unwrap().unwrap().to_string(), "Apply(b)");
    kube.close_watches();
    kube.apply(secret("c"));
    kube.delete("Secret", NS, "a");
    kube.compact();
    let expired = seen.next().await.unwrap();
    assert!(matches!(&expired, Err(watcher::Error::WatchError(status)) if status.code == 410), "{expired:?}");
    for wanted in ["Init", "InitApply(b)", "InitApply(c)", "InitDone"] {
        assert_eq!(seen.next().await.unwrap().unwrap().to_string(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_fallen_silent_tells_nothing_and_the_next_one_does() {
    let (kube, client) = world();
    let api = secrets(&client);
    let mut silent = pin!(api.watch(&WatchParams::default(), "0").await.unwrap());
    kube.silence_watches();
    kube.apply(secret("a"));
    let nothing = tokio::time::timeout(Duration::from_hours(24), silent.next()).await;
    assert!(nothing.is_err(), "not even its end: {nothing:?}");
    let mut next = pin!(api.watch(&WatchParams::default(), "0").await.unwrap());
    assert!(matches!(next.next().await.unwrap().unwrap(), WatchEvent::Added(_)));
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_with_its_bookmark() {
    let (kube, client) = world();
    kube.apply(secret("a"));
    let mut seen = pin!(watcher(secrets(&client), watcher::Config::default().streaming_lists()));
    for wanted in ["Init", "InitApply(a)", "InitDone"] {
        assert_eq!(seen.next().await.unwrap().unwrap().to_string(), wanted);
    }
    kube.apply(secret("b"));
    assert_eq!(seen.next().await.unwrap().unwrap().to_string(), "Apply(b)");
}

#[tokio::test(start_paused = true)]
async fn a_cut_watch_is_resumed_without_a_loss() {
    let (kube, client) = world();
    kube.apply(secret("a"));
    let cut = Effect::Cut { after: 40 };
    kube.faults().set(Fault {
        name: "cut".into(),
        path: Some("watch=true".into()),
        times: Some(1),
        effect: Some(cut),
        ..Fault::default()
    });
    let mut seen = pin!(watcher(secrets(&client), watcher::Config::default()));
    while !matches!(seen.next().await.unwrap(), Ok(Event::InitDone)) {}
    let writer = kube.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        writer.apply(secret("b"));
    });
    let applied = loop {
        if let Ok(Event::Apply(object)) = seen.next().await.unwrap() {
            break object.name_any();
        }
    };
    assert_eq!(applied, "b");
    assert_eq!(kube.journal().count(Verb::Watch, "secrets"), 2);
}

/// Ten thousand objects, each written three times, every later write seen by a watch: nothing may be lost on the way.
#[tokio::test(start_paused = true)]
async fn a_watch_keeps_up_with_ten_thousand_objects() {
    let (kube, client) = world();
    (0..10_000).for_each(|n| drop(kube.apply(secret(&format!("s{n}")))));
    let all: Api<PartialObjectMeta<Secret>> = Api::all(client);
    let listed = all.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items.len(), 10_000);
    let from = listed.metadata.resource_version.unwrap();
    let mut seen = pin!(all.watch(&WatchParams::default(), &from).await.unwrap());
    for round in 0..2 {
        for n in 0..10_000 {
            kube.annotate("Secret", NS, &format!("s{n}"), "round", &round.to_string()).unwrap();
        }
        for _ in 0..10_000 {
            assert!(matches!(seen.next().await, Some(Ok(WatchEvent::Modified(_)))));
        }
    }
}

/// Bookmarks carry a watch of a quiet resource over the compactions that the writes of others bring.
#[tokio::test(start_paused = true)]
async fn a_watcher_idles_through_thirty_days_without_a_second_list() {
    let (kube, client) = world();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (names, api) = (seen.clone(), secrets(&client));
    let watching = tokio::spawn(async move {
        let mut stream = pin!(watcher(api, watcher::Config::default()));
        while let Some(event) = stream.next().await {
            if let Event::Apply(object) = event.unwrap() {
                names.lock().unwrap().push(object.name_any());
            }
        }
    });
    // Never in the two seconds between the last bookmark of a watch and its successor.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for hour in 0..30 * 24 {
        tokio::time::sleep(Duration::from_hours(1)).await;
        kube.apply(token("t", &json!({"hour": hour})));
        kube.compact();
    }
    kube.apply(secret("last"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!watching.is_finished(), "no error on the way");
    assert_eq!(*seen.lock().unwrap(), ["last"]);
    assert_eq!(kube.journal().count(Verb::List, "secrets"), 1);
}
