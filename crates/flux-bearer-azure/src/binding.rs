//! AKS identity bindings: a proxy of the cluster stands in for Entra ID, for the pod's own identity and nobody else.
//!
//! The webhook of AKS tells a pod by environment variables where the proxy is and how it is recognised. The request for
//! a token goes there with path, body and headers as Entra ID would get it, and the answer is read as Entra ID's.
//!
//! The rules are those of Azure's own clients, for nothing else has them in writing: `customtokenproxy` of azidentity for
//! Go, `custom_token_proxy` of `azure_identity` for Rust. One differs: no `HTTPS_PROXY` leads to the proxy, which is in the
//! cluster.
//! <https://learn.microsoft.com/azure/aks/identity-bindings-concepts>

use std::path::PathBuf;

use bytes::Bytes;
use flux_bearer::failure::{Failure, token_proxy};
use flux_bearer::token::Grant;
use http::{Request, Uri};
use http_body_util::Full;
use rustls::pki_types::ServerName;
use url::{Position, Url};

use crate::entra::{self, Authority, Endpoint, Form};
use crate::http::{Http, request_id, unsendable};

/// The audience that the proxy demands of a service account token. Entra ID refuses one that has it.
pub const AUDIENCE: &str = "api://AKSIdentityBinding";

/// The variables of the pod. One that is empty is not set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variables<'a> {
    /// `AZURE_KUBERNETES_TOKEN_PROXY`: an https URL, whose path goes before that of the request.
    pub token_proxy: Option<&'a str>,
    /// `AZURE_KUBERNETES_SNI_NAME`: the name that TLS asks for in place of the URL's host.
    pub sni_name: Option<&'a str>,
    /// `AZURE_KUBERNETES_CA_FILE`: the file of the CA certificates that vouch for the proxy.
    pub ca_file: Option<&'a str>,
    /// `AZURE_KUBERNETES_CA_DATA`: the same as text, in its place.
    pub ca_data: Option<&'a str>,
}

/// Why the variables can't be meant. Nothing of a value is in it: an address may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariablesError {
    /// Something is said of a proxy, and there is none.
    #[error("{0} is set and AZURE_KUBERNETES_TOKEN_PROXY is not: set both, as the webhook of AKS does, or neither")]
    NoProxy(&'static str),
    /// The address is not one.
    #[error("AZURE_KUBERNETES_TOKEN_PROXY {0}: write https://HOST[:PORT][/PATH]")]
    Address(&'static str),
    /// The name is not one.
    #[error("AZURE_KUBERNETES_SNI_NAME is no host name: write the name in the proxy's certificate")]
    ServerName,
    /// The CA is given twice.
    #[error("AZURE_KUBERNETES_CA_FILE and AZURE_KUBERNETES_CA_DATA are both set: unset one of them")]
    TwoCas,
}

/// What the variables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Where the proxy is.
    pub address: Address,
    /// The name that its certificate has to bear, where it is not the address's host.
    pub server_name: Option<ServerName<'static>>,
    /// Who vouches for it.
    pub ca: Ca,
}

/// The CA certificates that vouch for the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ca {
    /// The system's.
    System,
    /// Those in this file alone, which may change.
    File(PathBuf),
    /// These alone, in PEM.
    Pem(Vec<u8>),
}

impl Binding {
    /// What `variables` mean; nothing where none of them is set.
    ///
    /// # Errors
    /// Variables that contradict each other, or that can't be read.
    pub fn read(variables: Variables<'_>) -> Result<Option<Self>, VariablesError> {
        let [proxy, sni_name, ca_file, ca_data] =
            [variables.token_proxy, variables.sni_name, variables.ca_file, variables.ca_data]
                .map(|value| value.filter(|value| !value.is_empty()));
        let Some(proxy) = proxy else {
            let about = [
                ("AZURE_KUBERNETES_SNI_NAME", sni_name),
                ("AZURE_KUBERNETES_CA_FILE", ca_file),
                ("AZURE_KUBERNETES_CA_DATA", ca_data),
            ];
            let lonely = about.into_iter().find(|(_, value)| value.is_some());
            return lonely.map_or(Ok(None), |(name, _)| Err(VariablesError::NoProxy(name)));
        };
        let server_name = sni_name.map(|name| ServerName::try_from(name.to_owned())).transpose();
        let ca = match (ca_file, ca_data) {
            (Some(_), Some(_)) => return Err(VariablesError::TwoCas),
            (Some(file), None) => Ca::File(file.into()),
            (None, Some(data)) => Ca::Pem(data.into()),
            (None, None) => Ca::System,
        };
        Ok(Some(Self {
            address: Address::parse(proxy)?,
            server_name: server_name.map_err(|_| VariablesError::ServerName)?,
            ca,
        }))
    }
}

/// Where the proxy is: an https URL as far as its path, without the slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    fn parse(text: &str) -> Result<Self, VariablesError> {
        let url = Url::parse(text).map_err(|_| VariablesError::Address("is no URL"))?;
        let fault = match &url {
            url if url.scheme() != "https" => Some("is not https"),
            url if !url.username().is_empty() || url.password().is_some() => Some("has a user in it"),
            url if url.query().is_some() => Some("has a query"),
            url if url.fragment().is_some() => Some("has a fragment"),
            _ => None,
        };
        let address = Self(url[..Position::AfterPath].trim_end_matches('/').to_owned());
        let fault = fault.or_else(|| address.uri("/").is_err().then_some("is no URL"));
        fault.map_or(Ok(address), |fault| Err(VariablesError::Address(fault)))
    }

    /// Where a request for `path`, which begins with a slash, is sent to.
    fn uri(&self, path: &str) -> Result<Uri, http::uri::InvalidUri> {
        format!("{}{path}", self.0).parse()
    }
}

/// The proxy, where the pod's own identity signs in. Clones share connections.
#[derive(Clone)]
pub struct TokenProxy {
    http: Http,
    address: Address,
}

impl TokenProxy {
    /// The proxy at `address`, which `http` reaches and recognises.
    pub fn new(http: Http, address: Address) -> Self {
        Self { http, address }
    }

    /// Sends `form` once and reads what comes back. Of `authority` only the path of its token endpoint is used.
    pub(crate) async fn mint(&self, authority: &Authority, tenant_id: &str, form: Form) -> Result<Grant, Failure> {
        let request_id = request_id();
        let request = entra::request(authority, tenant_id, Endpoint::Token, form, request_id.as_deref())?;
        let answer = entra::exchange(&self.http, self.redirected(request)?, request_id).await;
        let answer = answer.map_err(token_proxy::unreachable)?;
        answer.grant().ok_or_else(|| answer.refusal().of_the_token_proxy())
    }

    fn redirected(&self, mut request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, Failure> {
        *request.uri_mut() = self.address.uri(request.uri().path()).map_err(|_| unsendable())?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: Variables<'_> =
        Variables { token_proxy: Some("https://proxy.example"), sni_name: None, ca_file: None, ca_data: None };

    fn refused(variables: Variables<'_>) -> String {
        Binding::read(variables).unwrap_err().to_string()
    }

    #[test]
    fn without_variables_or_with_empty_ones_there_is_no_binding() {
        let empty = Some("");
        for variables in
            [Variables::default(), Variables { token_proxy: empty, sni_name: empty, ca_file: empty, ca_data: empty }]
        {
            assert_eq!(Binding::read(variables), Ok(None));
        }
    }

    #[test]
    fn the_variables_of_the_webhook_are_read() {
        let variables = Variables {
            token_proxy: Some("https://10.0.0.1:8443/a/"),
            sni_name: Some("cluster.ests.example"),
            ca_file: Some("/var/run/secrets/azure/wi/ca-cert/ca.crt"),
            ca_data: Some(""),
        };
        let binding = Binding::read(variables).unwrap().unwrap();
        assert_eq!(binding.server_name, Some("cluster.ests.example".try_into().unwrap()));
        assert_eq!(binding.ca, Ca::File("/var/run/secrets/azure/wi/ca-cert/ca.crt".into()));
        let ca = |variables| Binding::read(variables).unwrap().unwrap().ca;
        assert_eq!(ca(Variables { ca_data: Some("PEM"), ..PROXY }), Ca::Pem(b"PEM".to_vec()));
        assert_eq!(ca(PROXY), Ca::System);
    }

    #[test]
    fn the_path_of_the_proxy_goes_before_that_of_the_request() {
        for (proxy, uri) in [
            ("https://p.local/a/", "https://p.local/a/T/oauth2/v2.0/token"),
            ("https://p.local/a/b", "https://p.local/a/b/T/oauth2/v2.0/token"),
            ("https://p.local", "https://p.local/T/oauth2/v2.0/token"),
            ("https://p.local:8443/", "https://p.local:8443/T/oauth2/v2.0/token"),
            ("https://[2001:db8::1]:443", "https://[2001:db8::1]/T/oauth2/v2.0/token"),
        ] {
            assert_eq!(Address::parse(proxy).unwrap().uri("/T/oauth2/v2.0/token").unwrap(), uri, "{proxy}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_a_word_of_it() {
        for (proxy, fault) in [
            ("canary", "is no URL"),
            ("https://", "is no URL"),
            ("http://canary.example", "is not https"),
            ("https://canary@proxy.example", "has a user"),
            ("https://:canary@proxy.example", "has a user"),
            ("https://proxy.example/?canary", "has a query"),
            ("https://proxy.example?", "has a query"),
            ("https://proxy.example/#canary", "has a fragment"),
        ] {
            let told = refused(Variables { token_proxy: Some(proxy), ..PROXY });
            assert!(told.starts_with(&format!("AZURE_KUBERNETES_TOKEN_PROXY {fault}")), "{proxy}: {told}");
            assert!(told.contains("https://HOST") && !told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn a_contradiction_is_refused_with_the_variables_name() {
        let some = Some("x");
        let alone = [
            (Variables { sni_name: some, ..Variables::default() }, "AZURE_KUBERNETES_SNI_NAME is set"),
            (Variables { ca_file: some, ..Variables::default() }, "AZURE_KUBERNETES_CA_FILE is set"),
            (Variables { ca_data: some, ..Variables::default() }, "AZURE_KUBERNETES_CA_DATA is set"),
        ];
        for (variables, told) in alone {
            assert!(refused(variables).starts_with(told) && refused(variables).contains("TOKEN_PROXY is not"));
        }
        let twice = refused(Variables { ca_file: some, ca_data: some, ..PROXY });
        assert!(twice.contains("CA_FILE and AZURE_KUBERNETES_CA_DATA are both set"), "{twice}");
        let name = refused(Variables { sni_name: Some("not a name"), ..PROXY });
        assert!(name.starts_with("AZURE_KUBERNETES_SNI_NAME is no host name"), "{name}");
    }
}
