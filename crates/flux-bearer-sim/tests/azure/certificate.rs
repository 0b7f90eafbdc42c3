//! Sign-in with a certificate.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaSignatureEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flux_bearer_sim::state::Certificate;
use serde_json::{Value, json};

use super::support::*;

/// A certificate with its key.
struct Client {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Client {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        Self { certificate, key: KeyPair::from_pkcs8(&key.serialize_der()).unwrap() }
    }

    fn modern(&self) -> (Value, &'static RsaSignatureEncoding) {
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, self.certificate.der()));
        (json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}), &RSA_PSS_SHA256)
    }

    /// As MSAL for Go writes it.
    fn gos(&self) -> (Value, &'static RsaSignatureEncoding) {
        let thumbprint = STANDARD.encode(digest(&SHA256, self.certificate.der()));
        (json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}), &RSA_PSS_SHA256)
    }

    fn legacy(&self) -> (Value, &'static RsaSignatureEncoding) {
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, self.certificate.der()));
        (json!({"alg": "RS256", "typ": "JWT", "x5t": thumbprint}), &RSA_PKCS1_SHA256)
    }

    fn sign(&self, (header, encoding): (Value, &'static RsaSignatureEncoding), claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(encoding, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn claims(azure: &Azure) -> Value {
    let now = azure.now().as_second();
    let audience = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    json!({"aud": audience, "iss": APP, "sub": APP, "jti": "1", "nbf": now, "iat": now, "exp": now + 600})
}

/// A world whose application signs in with the client's certificate.
fn world_of(client: &Client) -> Azure {
    let azure = Azure::new();
    let pem = client.certificate.pem();
    azure.world.edit(|state| state.tenants[0].applications[1].certificates = vec![Certificate { pem }]).unwrap();
    azure
}

async fn sign_in(azure: &Azure, assertion: &str) -> Answer {
    let mut fields = federated(assertion, SCOPE);
    fields[1].1 = APP;
    azure.token(&fields).await
}

#[tokio::test(start_paused = true)]
async fn takes_modern_and_legacy_assertions() {
    let client = Client::new();
    let azure = world_of(&client);
    for kind in [client.modern(), client.gos(), client.legacy()] {
        let answer = sign_in(&azure, &client.sign(kind, &claims(&azure))).await;
        let jwt = azure.verified(answer.json()["access_token"].as_str().unwrap()).await;
        assert_eq!((jwt.text("appid"), jwt.text("appidacr")), (APP, "2"));
    }
}

#[tokio::test(start_paused = true)]
async fn takes_a_beginning_that_was_rounded_up() {
    let client = Client::new();
    let azure = world_of(&client);
    let mut claims = claims(&azure);
    claims["nbf"] = json!(azure.now().as_second() + 1);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let answer = sign_in(&azure, &client.sign(client.modern(), &claims)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn refuses_assertions_that_are_not_the_clients() {
    let (client, stranger) = (Client::new(), Client::new());
    let azure = world_of(&client);
    let good = claims(&azure);
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        claims
    };
    let now = azure.now().as_second();
    let table = [
        (700_021, client.sign(client.modern(), &with("sub", json!(FLUX)))),
        (
            700_023,
            client.sign(
                client.modern(),
                &with("aud", json!("https://login.microsoftonline.com/other/oauth2/v2.0/token")),
            ),
        ),
        (700_024, client.sign(client.modern(), &with("exp", json!(now)))),
        (700_024, client.sign(client.modern(), &with("nbf", json!(now + 1)))),
        (700_027, stranger.sign(stranger.modern(), &good)),
        (700_027, stranger.sign(client.modern(), &good)),
        (700_027, client.sign((client.modern().0, client.legacy().1), &good)),
    ];
    for (code, assertion) in table {
        let answer = sign_in(&azure, &assertion).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, code), "{}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_a_state_with_what_is_no_certificate() {
    let azure = Azure::new();
    let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned();
    let edited = azure.world.edit(|state| state.tenants[0].applications[1].certificates = vec![Certificate { pem }]);
    let error = edited.unwrap_err().to_string();
    assert!(error.starts_with("tenants[0].applications[1].certificates[0].pem: "), "{error}");
}
