//! A certificate authority made at the start, and leaves minted by name when a client first asks for one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Leaves kept at most. Far above the handful of names the world has; it bounds what a client that makes up names costs.
const LEAVES: usize = 256;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The name is no DNS name, or the signing failed.
    #[error("can't make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// rustls refuses the key or the settings.
    #[error("can't set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The simulator's certificate authority.
///
/// Its key lives in memory only and dies with the process. Certificates are valid from 1975 to 4096 (rcgen's default), so
/// that a client whose clock a test has moved still accepts them.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Authority {
    /// A new authority with a fresh ECDSA P-256 key.
    pub fn generate() -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "flux-bearer-sim CA");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer, leaves: Mutex::default() })
    }

    /// The authority's certificate, for a client's trust bundle.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's settings: the leaf by SNI, or for the address `without_sni` where the client sends none, and HTTP/1.1.
    pub fn server_config(self: &Arc<Self>, without_sni: IpAddr) -> Result<Arc<ServerConfig>, TlsError> {
        let resolver = Resolver { authority: self.clone(), without_sni: without_sni.to_string() };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The leaf for `name` (a DNS name or an address), minted on first use.
    fn leaf(&self, name: &str) -> Result<Arc<CertifiedKey>, TlsError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(name) {
            return Ok(leaf.clone());
        }
        let leaf = Arc::new(self.mint(name)?);
        if leaves.len() >= LEAVES {
            leaves.clear();
        }
        leaves.insert(name.to_owned(), leaf.clone());
        Ok(leaf)
    }

    fn mint(&self, name: &str) -> Result<CertifiedKey, TlsError> {
        let key = KeyPair::generate()?;
        let leaf = leaf_params(name)?.signed_by(&key, &self.issuer)?;
        let private =
            PrivateKeyDer::try_from(key.serialize_der()).map_err(|text| rustls::Error::General(text.into()))?;
        Ok(CertifiedKey::from_der(vec![leaf.der().clone()], private, &aws_lc_rs::default_provider())?)
    }
}

fn leaf_params(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "flux-bearer-sim");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python 3.13 and later refuse a leaf without it (ssl.VERIFY_X509_STRICT is on by default there).
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Picks the leaf for a connection.
#[derive(Debug)]
struct Resolver {
    authority: Arc<Authority>,
    without_sni: String,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or(&self.without_sni);
        self.authority.leaf(name).inspect_err(|error| tracing::warn!(name, %error, "no certificate")).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A client that trusts the first certificate of `pem` and nothing else.
    pub(in crate::edge) fn client(pem: &str) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// Shakes hands as a client that asks for `name` and trusts `trusted`; the protocol agreed on and the leaf.
    async fn shake(
        server: &Arc<Authority>,
        trusted: &Authority,
        name: &str,
    ) -> std::io::Result<(Vec<u8>, CertificateDer<'static>)> {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let acceptor = TlsAcceptor::from(server.server_config([127, 0, 77, 1].into()).unwrap());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = client(&trusted.pem());
        let (client, _server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
        let stream = client?;
        let (_, connection) = stream.get_ref();
        let leaf = connection.peer_certificates().unwrap()[0].clone().into_owned();
        Ok((connection.alpn_protocol().unwrap().to_vec(), leaf))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trusts_the_authority_reaches_every_name() {
        let authority = Arc::new(Authority::generate().unwrap());
        for name in ["login.microsoftonline.com", "contoso.visualstudio.com"] {
            let (protocol, _) = shake(&authority, &authority, name).await.unwrap();
            assert_eq!(protocol, b"http/1.1");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_sni_gets_a_leaf_for_the_listeners_address() {
        let authority = Arc::new(Authority::generate().unwrap());
        assert!(shake(&authority, &authority, "127.0.77.1").await.is_ok());
        assert!(shake(&authority, &authority, "127.0.77.2").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn another_authority_is_not_trusted() {
        let authority = Arc::new(Authority::generate().unwrap());
        let other = Authority::generate().unwrap();
        assert!(shake(&authority, &other, "dev.azure.com").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaf_is_minted_once_and_names_its_authoritys_key() {
        /// The DER of the object identifier 2.5.29.35, authorityKeyIdentifier.
        const AUTHORITY_KEY_IDENTIFIER: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x23];
        let authority = Arc::new(Authority::generate().unwrap());
        let (_, first) = shake(&authority, &authority, "dev.azure.com").await.unwrap();
        let (_, second) = shake(&authority, &authority, "dev.azure.com").await.unwrap();
        assert_eq!(first, second);
        assert!(first.windows(5).any(|window| window == AUTHORITY_KEY_IDENTIFIER));
    }

    #[test]
    fn made_up_names_do_not_fill_the_memory() {
        let authority = Authority::generate().unwrap();
        for number in 0..=LEAVES {
            authority.leaf(&format!("host-{number}.example")).unwrap();
        }
        assert!(authority.leaves.lock().unwrap().len() <= LEAVES);
    }
}
