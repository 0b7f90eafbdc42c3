//! The controller's account, signed in with a token of its own.

use anyhow::Context;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cluster::{Cluster, NAMESPACE};

/// Name of the account.
pub(super) const NAME: &str = "flux-bearer-controller";

/// A client that is the controller, as far as the API server can tell.
pub(super) struct Account {
    client: Client,
}

impl Account {
    /// Signs in with a token that the administrator asks for, as the kubelet does.
    pub(super) async fn sign_in(cluster: &Cluster) -> anyhow::Result<Self> {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), NAMESPACE);
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let answer = accounts.create_token_request(NAME, &PostParams::default(), &request).await?;
        let token = answer.status.context("the TokenRequest was answered without a token")?.token;
        let mut kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
        for user in kubeconfig.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut()) {
            *user = kube::config::AuthInfo { token: Some(token.clone().into()), ..Default::default() };
        }
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)? })
    }

    /// Sends a request, whatever comes of it; returns status and body.
    pub(super) async fn send(&self, request: Request<String>) -> anyhow::Result<(StatusCode, String)> {
        let response = self.client.send(request.map(|body| Body::from(body.into_bytes()))).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}
