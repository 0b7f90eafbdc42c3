//! The way from git to the simulated Azure under its real names: a proxy on a loopback port that ends every tunnel itself
//! and forwards nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use flux_bearer_sim::edge::listen;
use flux_bearer_sim::edge::tls::Authority;
use flux_bearer_sim::service::Service;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longest head of a CONNECT that is read. git's has a few hundred bytes.
const LONGEST_HEAD: usize = 8 * 1024;

/// A proxy that runs until it is dropped, with the connections it has.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The certificate of its authority, in PEM.
    pub(crate) ca_pem: String,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Serves `service` under whatever name a client asks for.
    pub(crate) async fn start(service: Service) -> anyhow::Result<Self> {
        let authority = Arc::new(Authority::generate()?);
        let tls = authority.server_config(Ipv4Addr::LOCALHOST.into())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("can't listen on loopback")?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, tls, service));
        Ok(Self { address, ca_pem: authority.pem(), _accepting: accepting })
    }
}

async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, service: Service) {
    let mut tunnels = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        tunnels.spawn(tunnel(stream, Arc::clone(&tls), service.clone()));
        while tunnels.try_join_next().is_some() {}
    }
}

/// Answers a CONNECT, then speaks TLS as the host that the client asks for. Anything else gets no answer: only git is here.
async fn tunnel(mut stream: TcpStream, tls: Arc<ServerConfig>, service: Service) {
    let connected = matches!(head(&mut stream).await, Ok(head) if head.starts_with(b"CONNECT "));
    if connected && stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
        listen::tls_connection(stream, tls, service).await;
    }
}

/// The head of a request. The client says nothing more until it is answered, so no byte of what follows can be lost.
async fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}
