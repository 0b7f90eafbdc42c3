//! A service principal with a certificate: it signs an assertion of its own.
//!
//! Wire format: <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>.

mod x509;

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flux_bearer::failure::{Class, Failure};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::entra::Form;
use crate::http::{request_id, unsendable};
use crate::resource::Resource;

/// How long an assertion lives. Entra ID recommends five to ten minutes and sets no limit.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(600);

/// A certificate that is valid and its own key, as they were read at one moment. It holds a key, so it has no `Debug`.
///
/// Entra ID finds it by its SHA-256 and compares it with those of the application; its issuer doesn't count.
pub struct Certificate {
    key: KeyPair,
    thumbprint: String,
    expires_at: Timestamp,
    read_at: Timestamp,
}

impl Certificate {
    /// The first certificate in `certificate` with the key in `key`, both in PEM, read at `now`.
    ///
    /// # Errors
    /// What is wrong with one of them, or with the two together, and the command that makes it right.
    pub fn read(certificate: &str, key: &SecretString, now: Timestamp) -> Result<Self, Failure> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| no_certificate())?;
        let fields = x509::read(&der).ok_or_else(no_certificate)?;
        let public = fields.rsa_key.ok_or_else(|| not_rsa("the certificate in tls.crt has a key that is not RSA"))?;
        let key = key_pair(key.expose_secret())?;
        if key.public_key().as_ref() != public {
            return Err(other_key());
        }
        check_validity(&fields, now)?;
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &der));
        Ok(Self { key, thumbprint, expires_at: fields.not_after, read_at: now })
    }

    /// Until when it is valid.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The form that asks for a token for `resource` as `client_id`, at the token endpoint `audience`.
    ///
    /// # Errors
    /// Where the system has no random numbers, without which nothing is signed.
    pub(crate) fn form(&self, resource: Resource, audience: &str, client_id: &str) -> Result<Form, Failure> {
        Ok(Form::asserted(resource, client_id, &self.assertion(audience, client_id)?))
    }

    fn assertion(&self, audience: &str, client_id: &str) -> Result<String, Failure> {
        let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint});
        let (from, until) = (self.read_at.as_second(), (self.read_at + ASSERTION_LIFETIME).as_second());
        let claims = json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": request_id().ok_or_else(unsendable)?,
            "nbf": from, "iat": from, "exp": until,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let sign = self.key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        sign.map_err(|_| unsendable())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn key_pair(pem: &str) -> Result<KeyPair, Failure> {
    // Both ways of OpenSSL to say so: PKCS #8, and the older header inside of the section.
    if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        let fix = "Decrypt it and put that into the Secret: openssl pkey -in tls.key -out FILE";
        return Err(unusable("the key in tls.key is encrypted", fix));
    }
    let no_key = |_| unusable("tls.key holds no private key in PEM", "Put the certificate's key there, in PEM");
    let der = Zeroizing::new(PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(no_key)?);
    let key = match &*der {
        PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()).ok(),
        PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()).ok(),
        _ => None,
    };
    key.ok_or_else(|| not_rsa("the key in tls.key is not an RSA key of 2048 to 8192 bits"))
}

fn check_validity(fields: &x509::Fields<'_>, now: Timestamp) -> Result<(), Failure> {
    let fault = |code, cause, fix| Err(Failure::new("CredentialRejected", Class::Permanent, code, cause, fix));
    if now < fields.not_before {
        let cause = format!("the certificate in tls.crt is not valid before {}", fields.not_before);
        return fault(
            "CertificateNotYetValid",
            cause,
            "Wait until then, or compare the clock of the node with real time",
        );
    }
    if now > fields.not_after {
        let cause = format!("the certificate in tls.crt has expired at {}", fields.not_after);
        let fix = "Register a new one with the application (az ad app credential reset --append --id CLIENT_ID --cert @FILE), \
                   and put it and its key into the Secret";
        return fault("CertificateExpired", cause, fix);
    }
    Ok(())
}

fn no_certificate() -> Failure {
    unusable(
        "tls.crt holds no certificate in PEM",
        "Put the certificate there that is registered with the application, in PEM",
    )
}

fn other_key() -> Failure {
    let cause = "the key in tls.key is not that of the first certificate in tls.crt";
    unusable(cause, "Put both of one pair into the Secret, the application's own certificate first")
}

fn not_rsa(cause: &'static str) -> Failure {
    let fix = "Make an RSA one, and register it with the application: openssl req -x509 -newkey rsa:2048 -nodes -days 365 \
               -subj /CN=flux-bearer -keyout tls.key -out tls.crt";
    unusable(cause, fix)
}

fn unusable(cause: &'static str, fix: &'static str) -> Failure {
    Failure::new("CredentialRejected", Class::Permanent, "CertificateUnusable", cause, fix)
}
