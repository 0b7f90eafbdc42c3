//! The controller in a Pod that reaches the API server and notification-controller over IPv6, and is asked there itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::controller;
use crate::http_client;
use crate::wait::wait_for;
use crate::world::{Run, World};

pub(super) const NAME: &str = "ipv6";

const LIFETIME: u32 = 3600;

/// Where the API server is for the Pod: its own address is IPv4.
const SERVER: &str = "[::1]:6443";

/// Where notification-controller is for the Pod.
const EVENTS: &str = "[::1]:19093";

/// Time for an event to be posted.
const POSTED: Duration = Duration::from_secs(30);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    let (server, events) = (Relay::start().await?, Events::start().await?);
    let deployment = world.deployment.clone().replicas(1).variable("KUBERNETES_SERVICE_HOST", "::1");
    deployment.flags(&[format!("--events-addr=http://{EVENTS}/")]).roll_out(&world.cluster).await?;
    ensure!(server.connections() > 0, "nobody came to {SERVER}");
    world.story.tell(&format!(
        "the Deployment is available; its Pod has made {} connections to {SERVER}",
        server.connections()
    ));

    // Nobody knows the identity yet: a failure, which is an event.
    world.cluster.apply(controller::MANIFEST).await?;
    wait_for("an event to be posted", POSTED, async || {
        ensure!(events.posts() > 0, "nothing came to {EVENTS}");
        Ok(())
    })
    .await?;
    world.story.tell(&format!("its failure was posted to http://{EVENTS}/"));
    world.set_up_azure(LIFETIME).await?;
    world.fill_secret().await?;

    let pod = world.kubelet.pod()?;
    for url in pod.over_ipv6() {
        http_client::get(&url).await?;
    }
    pod.metric("flux_bearer_leader").await?;
    world.story.tell("`:PORT` answers at ::1 and at 127.0.0.1");
    Ok(())
}

/// What a listener has seen. Dropped, it ends.
struct Seen {
    count: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The way from [`SERVER`] to the API server.
struct Relay(Seen);

impl Relay {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(SERVER).await.context("there is no IPv6 here")?;
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        let task = tokio::spawn(async move {
            while let Ok((mut theirs, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut ours = TcpStream::connect("127.0.0.1:6443").await?;
                    copy_bidirectional(&mut theirs, &mut ours).await
                });
            }
        });
        Ok(Self(Seen { count, task }))
    }

    fn connections(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }
}

/// Takes whatever is posted to [`EVENTS`].
struct Events(Seen);

impl Events {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(EVENTS).await?;
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 64 * 1024];
                if stream.read(&mut request).await.is_ok() && request.starts_with(b"POST ") {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                // Whoever hung up is not told.
                drop(stream.write_all(answer).await);
            }
        });
        Ok(Self(Seen { count, task }))
    }

    fn posts(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }
}
