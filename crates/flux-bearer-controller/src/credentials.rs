//! What an identity signs in with: the pod's projected token, a token of a ServiceAccount, or a client secret or certificate
//! of a Secret.

use std::path::PathBuf;
use std::sync::Arc;

use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::Identity;
use flux_bearer_azure::certificate::Certificate;
use flux_bearer_azure::mint::Credential;
use flux_bearer_azure::workload::Assertion;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::index::Key;
use crate::kubernetes::Kubernetes;

/// Where credentials come from.
#[derive(Clone)]
pub struct Credentials {
    /// The pod's projected service account token, if it has one.
    pub assertion: Option<Arc<dyn Assertion>>,
    /// The API that holds client secrets and certificates, and hands out tokens of `ServiceAccount`s.
    pub kubernetes: Kubernetes,
}

impl Credentials {
    /// The credential of `identity` at `now`, read anew at every call: all of them are rotated behind our back.
    pub async fn of(&self, identity: &Identity, now: Timestamp) -> Result<Credential, Failure> {
        match identity {
            Identity::ManagedIdentity { .. } => Ok(Credential::None),
            Identity::WorkloadIdentity { .. } => match &self.assertion {
                Some(assertion) => Ok(Credential::Assertion(Arc::clone(assertion))),
                None => Err(missing(
                    "the pod has no projected service account token",
                    "Mount one with audience api://AzureADTokenExchange and name its file in AZURE_FEDERATED_TOKEN_FILE",
                )),
            },
            Identity::ServiceAccount { namespace, account, .. } => {
                let (kubernetes, account) = (self.kubernetes.clone(), Key::new(namespace, account));
                Ok(Credential::Assertion(Arc::new(Requested { kubernetes, account })))
            }
            Identity::ClientSecret { namespace, secret, .. } => self.client_secret(&Key::new(namespace, secret)).await,
            Identity::ClientCertificate { namespace, secret, .. } => {
                self.certificate(&Key::new(namespace, secret), now).await
            }
        }
    }

    async fn client_secret(&self, secret: &Key) -> Result<Credential, Failure> {
        let data = self.kubernetes.credential(secret).await?;
        let secret = data.and_then(|data| data.text("clientSecret")).ok_or_else(|| {
            missing(
                "the Secret of spec.identity.secretRef doesn't exist, or has no key clientSecret",
                "kubectl create secret generic NAME --from-file=clientSecret=FILE",
            )
        })?;
        Ok(Credential::ClientSecret(secret))
    }

    async fn certificate(&self, secret: &Key, now: Timestamp) -> Result<Credential, Failure> {
        let fix = "kubectl create secret tls NAME --cert=FILE --key=FILE";
        let data = self.kubernetes.credential(secret).await?;
        let data = data.ok_or_else(|| missing("the Secret of spec.identity.secretRef doesn't exist", fix))?;
        let no_certificate =
            || missing("the Secret of spec.identity.secretRef has no certificate in PEM (key tls.crt)", fix);
        let no_key =
            || missing("the Secret of spec.identity.secretRef has a certificate without its key in PEM (tls.key)", fix);
        let certificate = data.text("tls.crt").ok_or_else(no_certificate)?;
        let key = data.text("tls.key").ok_or_else(no_key)?;
        let certificate = Certificate::read(certificate.expose_secret(), &key, now)?;
        Ok(Credential::Certificate(Arc::new(certificate)))
    }
}

fn missing(cause: &'static str, fix: &'static str) -> Failure {
    Failure::new("CredentialMissing", Class::Permanent, "CredentialMissing", cause, fix)
}

/// A token of a ServiceAccount, asked for at every mint and kept nowhere.
struct Requested {
    kubernetes: Kubernetes,
    account: Key,
}

impl Assertion for Requested {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        self.kubernetes.account_token(&self.account).boxed()
    }
}

/// A projected service account token in a file, read at every mint: the kubelet replaces it.
pub struct TokenFile(pub PathBuf);

/// Longest file that is read. The wire refuses more than 16 KiB; one byte more tells that there is more.
const MAX_FILE: u64 = 16 * 1024 + 1;

impl Assertion for TokenFile {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        async move {
            use tokio::io::AsyncReadExt;
            let unreadable = || {
                missing(
                    "the file of the projected service account token can't be read",
                    "Check AZURE_FEDERATED_TOKEN_FILE and the pod's projected volume",
                )
            };
            let file = tokio::fs::File::open(&self.0).await.map_err(|_| unreadable())?;
            let mut text = String::new();
            file.take(MAX_FILE).read_to_string(&mut text).await.map_err(|_| unreadable())?;
            Ok(SecretString::from(text))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a file with these bytes.
    async fn read(name: &str, bytes: &[u8]) -> Result<SecretString, Failure> {
        let path = std::env::temp_dir().join(format!("flux-bearer-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let read = TokenFile(path.clone()).read().await;
        std::fs::remove_file(path).unwrap();
        read
    }

    #[tokio::test]
    async fn row_39_a_projected_token_is_read_whole_and_no_further_than_its_cap() {
        assert_eq!(read("good", b"a.b.c\n").await.unwrap().expose_secret(), "a.b.c\n");
        assert_eq!(read("empty", b"").await.unwrap().expose_secret(), "");
        let long = read("long", &vec![b'x'; 1024 * 1024]).await.unwrap();
        assert_eq!(long.expose_secret().len(), 16 * 1024 + 1, "one byte more than the wire sends");
    }

    #[tokio::test]
    async fn row_39_a_file_that_is_no_text_or_none_at_all_is_named_with_its_fix() {
        let missing = TokenFile("/nowhere/token".into()).read().await;
        let folder = TokenFile(std::env::temp_dir()).read().await;
        for failed in [missing, folder, read("bytes", b"\xff\xfe").await] {
            let failure = failed.err().unwrap();
            assert_eq!(failure.reason, "CredentialMissing");
            assert!(failure.fix.contains("AZURE_FEDERATED_TOKEN_FILE"), "{failure}");
        }
    }
}
