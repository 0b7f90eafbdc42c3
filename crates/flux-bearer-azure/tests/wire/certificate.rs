//! Entra ID's token endpoint, through a certificate.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flux_bearer::identity::{Identity, is_guid};
use flux_bearer_azure::certificate::Certificate;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::mint::{Azure, Credential};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, PublicKeyData};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::server::{CLIENT, TENANT, json as answer, refusing, server};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

pub(crate) fn identity() -> Identity {
    Identity::ClientCertificate {
        tenant_id: TENANT.into(),
        client_id: CLIENT.into(),
        namespace: "team-a".into(),
        secret: "azure".into(),
    }
}

/// A certificate without an end, and its key.
fn pair() -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    (params.self_signed(&key).unwrap(), key)
}

/// A certificate that can sign in.
pub(crate) fn readable() -> Certificate {
    let (certificate, key) = pair();
    Certificate::read(&certificate.pem(), &key.serialize_pem().into(), NOW).unwrap()
}

/// The fields of the one request of a mint with `certificate`.
async fn sent(certificate: Certificate) -> Vec<(String, String)> {
    let (entra, log) = server(|_| answer(200, json!({"expires_in": 3599, "access_token": "the-token"})));
    let azure = Azure::new(entra, refusing(), Authority::default());
    azure.mint(&identity(), Credential::Certificate(Arc::new(certificate))).await.unwrap();
    let mut log = log.lock().unwrap();
    assert_eq!(log.len(), 1);
    let request = log.remove(0).1;
    assert_eq!(request.uri(), format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token").as_str());
    form_urlencoded::parse(request.body()).into_owned().collect()
}

fn part(assertion: &str, number: usize) -> Value {
    let part = assertion.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_certificate_signs_an_assertion_as_the_protocol_says() {
    let (certificate, key) = pair();
    let read = Certificate::read(&certificate.pem(), &key.serialize_pem().into(), NOW).unwrap();
    let fields = sent(read).await;
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grant_type", "client_id", "client_assertion_type", "client_assertion", "scope"]);
    assert_eq!(fields[0].1, "client_credentials");
    assert_eq!(fields[2].1, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let assertion = &fields[3].1;
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate.der()));
    assert_eq!(part(assertion, 0), json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));
    let mut claims = part(assertion, 1);
    assert!(is_guid(claims["jti"].take().as_str().unwrap()));
    let audience = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    let now = NOW.as_second();
    let expected =
        json!({"aud": audience, "iss": CLIENT, "sub": CLIENT, "jti": null, "nbf": now, "iat": now, "exp": now + 600});
    assert_eq!(claims, expected);
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.der_bytes());
    public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
}

#[test]
fn a_key_may_be_pkcs_1_and_a_certificate_may_come_with_its_chain() {
    let (certificate, key) = pair();
    // What PKCS #8 wraps around an RSA key of 2048 bits has 26 bytes.
    let inner = STANDARD.encode(&key.serialize_der()[26..]);
    let pkcs1 = format!("-----BEGIN RSA PRIVATE KEY-----\n{inner}\n-----END RSA PRIVATE KEY-----\n");
    let chain = format!("words before\n{}{}", certificate.pem(), pair().0.pem());
    let read = Certificate::read(&chain, &pkcs1.into(), NOW).unwrap();
    assert_eq!(read.expires_at().to_string(), "9999-12-30T22:00:00.999999999Z", "the end of our calendar");
}

#[test]
fn a_certificate_with_a_byte_of_another_is_read_or_refused_in_our_own_words() {
    let (certificate, key) = pair();
    let key = key.serialize_pem().into();
    for at in 0..certificate.der().len() {
        let mut der = certificate.der().to_vec();
        der[at] ^= 0xff;
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&der));
        if let Err(failure) = Certificate::read(&pem, &key, NOW) {
            assert_eq!(failure.reason, "CredentialRejected", "{at}: {failure}");
        }
        let cut = STANDARD.encode(&der[..at]);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{cut}\n-----END CERTIFICATE-----\n");
        assert!(Certificate::read(&pem, &key, NOW).is_err(), "{at}");
    }
}
