//! The controller's binary: flags and environment in, the loop running until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use flux_bearer::identity::Pod;
use flux_bearer_azure::binding::{Binding, Ca, TokenProxy};
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::{AGENT, Direct, Http, Network};
use flux_bearer_azure::mint::Azure;
use flux_bearer_azure::workload::Assertion;
use flux_bearer_controller::args::Args;
use flux_bearer_controller::ca_file::CaFile;
use flux_bearer_controller::clock::Clock;
use flux_bearer_controller::credentials::TokenFile;
use flux_bearer_controller::metrics::Metrics;
use flux_bearer_controller::notifications::Receiver;
use flux_bearer_controller::run::{End, Parts, Settings, run};
use flux_bearer_controller::sink::Sink;
use flux_bearer_controller::watch::Scope;
use flux_bearer_controller::{lease, logs, notifications, server};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

// One thread. It does several times the refreshes that an API server takes; a second one would have memory of its own, and
// each step of a request would wake the other. What would block it is elsewhere: files and names are read on tokio's own
// threads for that, and no lock is held across a wait. It does little at a time, so a renewal of the lease is never far off:
// the longest is the text of a scrape, some milliseconds with ten thousand BearerTokens.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        bail!("another crypto library was installed first");
    }
    let args = Args::parse();
    keep_from_dumps()?;
    let clock = Clock::system();
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let log = logs::init(args.log_encoding, args.log_level, clock.clone(), metrics.log_lines_dropped())?;
    end_on_panic(log.clone());
    let ended = control(args, clock, metrics, registry).await;
    log.flush();
    ended
}

/// Keeps tokens from core dumps, which a node may store where `core_pattern` says, and from debuggers of the same user.
fn keep_from_dumps() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("core dumps can't be turned off (PR_SET_DUMPABLE)")?;
    Ok(())
}

/// Runs until it is told to stop, or must not go on.
async fn control(args: Args, clock: Clock, metrics: Metrics, registry: Registry) -> anyhow::Result<ExitCode> {
    args.check().map_err(anyhow::Error::msg)?;
    let parts = parts(&args, clock, metrics).await?;
    let stop = stop_signal()?;
    let (ready, is_ready) = watch::channel(false);
    for (address, router) in
        [(&args.metrics_addr, server::metrics(Arc::new(registry))), (&args.health_addr, server::health(is_ready))]
    {
        serve(address, router, stop.clone()).await?;
    }
    match run(settings(&args), parts, ready, stop).await {
        End::Stopped => Ok(ExitCode::SUCCESS),
        End::LeaseLost => {
            tracing::error!("the lease was lost; ending, to be started anew");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Lets a panic in any task end the process, to be started anew: half alive, it would look well while tokens die.
fn end_on_panic(log: Sink) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        log.flush();
        std::process::abort();
    }));
}

async fn parts(args: &Args, clock: Clock, metrics: Metrics) -> anyhow::Result<Parts> {
    let https = https(args, metrics.clone()).await.context("HTTPS can't be set up; check --ca-file and HTTPS_PROXY")?;
    let token_proxy = token_proxy(args, metrics.clone());
    let token_proxy = token_proxy
        .await
        .context("the token proxy of AKS can't be used; compare its variables with what the webhook sets")?;
    let address = notifications::address(&args.events_addr).map_err(anyhow::Error::msg)?;
    let authority = Authority::parse(&args.authority_host).context("AZURE_AUTHORITY_HOST")?;
    let assertion = args.federated_token_file.clone().map(|path| Arc::new(TokenFile(path)) as Arc<dyn Assertion>);
    let azure = Azure::new(https.clone(), Http::plain(), authority);
    Ok(Parts {
        client: kubernetes().await?,
        azure: match token_proxy {
            Some(proxy) => azure.with_token_proxy(proxy),
            None => azure,
        },
        azure_devops: https,
        assertion,
        receiver: address.map(|address| Receiver { http: Http::plain(), address }),
        clock,
        metrics,
    })
}

/// The way to Azure, which follows the file of `--ca-file` where there is one.
async fn https(args: &Args, metrics: Metrics) -> anyhow::Result<Http> {
    let network =
        Network { https_proxy: args.https_proxy.clone(), no_proxy: args.no_proxy.clone(), extra_ca_pem: None };
    let Some(path) = args.ca_file.clone() else { return Ok(Http::network(&network)?) };
    let trusting = move |pem| Http::network(&Network { extra_ca_pem: Some(pem), ..network.clone() });
    Ok(following(CaFile::open("--ca-file", path, trusting, metrics).await?))
}

/// The token proxy of AKS, where the pod is bound to one, recognised by what the file of its CA holds at the time.
async fn token_proxy(args: &Args, metrics: Metrics) -> anyhow::Result<Option<TokenProxy>> {
    let Some(Binding { address, server_name, ca }) = args.binding()? else { return Ok(None) };
    let trusting = move |only_ca_pem| Http::direct(&Direct { server_name: server_name.clone(), only_ca_pem });
    let http = match ca {
        Ca::File(path) => {
            let trusting = move |pem| trusting(Some(pem));
            following(CaFile::open("AZURE_KUBERNETES_CA_FILE", path, trusting, metrics).await?)
        }
        Ca::Pem(pem) => trusting(Some(pem)).context("AZURE_KUBERNETES_CA_DATA")?,
        Ca::System => trusting(None).context("AZURE_KUBERNETES_TOKEN_PROXY without a CA of its own")?,
    };
    Ok(Some(TokenProxy::new(http, address)))
}

/// The way that follows `file` from now on.
fn following(file: CaFile) -> Http {
    let http = file.http();
    tokio::spawn(file.watch());
    http
}

async fn kubernetes() -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context("neither a pod's service account nor a kubeconfig was found")?;
    // kube's own limits (30 s, 295 s) would outlive a lease.
    config.connect_timeout = Some(Duration::from_secs(5));
    // What kube's client would send anew by itself could start after the lease is lost. The loop tries again on its own.
    config.default_retry = false;
    // So that the audit log of an API server tells who asked.
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Client::try_from(config).context("the Kubernetes client can't be set up")
}

fn settings(args: &Args) -> Settings {
    let namespace = (!args.watch_all_namespaces).then(|| args.runtime_namespace.clone());
    Settings {
        pod: Pod {
            namespace: args.runtime_namespace.clone(),
            tenant_id: args.tenant_id.clone(),
            client_id: args.client_id.clone(),
            allowed: args.allow_identity.clone(),
        },
        instance: args.instance.clone(),
        scope: Scope { namespace, selector: args.watch_label_selector.clone(), secrets: args.watch_secrets },
        concurrent: args.concurrent.into(),
        longest: args.max_refresh_interval,
        lease: args.enable_leader_election.then(|| lease::Settings {
            name: lease_name(args.watch_label_selector.as_deref()),
            holder: format!("{}_{}", args.instance, std::process::id()),
            duration: args.leader_election_lease_duration,
            renew_deadline: args.leader_election_renew_deadline,
            retry_period: args.leader_election_retry_period,
            release: args.leader_election_release_on_cancel,
        }),
    }
}

/// One lease a shard, so that shards don't wait for each other.
fn lease_name(selector: Option<&str>) -> String {
    let name = "flux-bearer-controller-leader-election";
    match selector {
        None => name.to_owned(),
        Some(selector) => format!("{name}-{}", flux_bearer::token::fingerprint(selector)),
    }
}

/// Goes up at SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(receiver)
}

/// Serves `router` at a Go-style address (`:8080` is every interface); 0 turns it off.
async fn serve(address: &str, router: axum::Router, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    if address == "0" {
        return Ok(());
    }
    let address = if address.starts_with(':') { format!("[::]{address}") } else { address.to_owned() };
    let listener = match (TcpListener::bind(&address).await, address.strip_prefix("[::]")) {
        // A kernel without IPv6 knows no [::].
        (Err(_), Some(port)) => TcpListener::bind(format!("0.0.0.0{port}")).await,
        (bound, _) => bound,
    };
    let listener = listener.with_context(|| format!("can't listen on {address}"))?;
    let stopped = async move {
        // An error means that the signal handler is gone, and the process with it.
        drop(stop.wait_for(|stop| *stop).await);
    };
    tokio::spawn(server::serve(listener, router, stopped));
    Ok(())
}
