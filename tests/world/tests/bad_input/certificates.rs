//! Certificates that can't sign in.

use flux_bearer_world::certificates::Pair as Certified;
use flux_bearer_world::identities::{APPLICATION, TENANT, client};
use serde_json::{Value, json};

use crate::support::minutes;
use crate::support::pair::Pair;

/// What is wrong, a Secret's data, and what is said of it: a code, a part of the cause and a part of the fix.
type Case<'a> = (&'a str, Value, [&'a str; 3]);

/// Whose it would be, were it not for its dates.
fn good() -> Certified {
    Certified::rsa((2026, 1, 1), (2028, 1, 1)).unwrap()
}

fn with(certificate: &str, key: &str) -> Value {
    json!({"tls.crt": certificate, "tls.key": key})
}

/// That each of `cases` fills nothing, for `reason`, until the Secret holds `good`. All of `others` are registered, too.
async fn fills_nothing(reason: &str, cases: &[Case<'_>], good: &Certified, others: &[&Certified]) {
    for (what, data, parts) in cases {
        let identity = json!({
            "type": "ClientCertificate", "clientId": client(APPLICATION), "tenantId": TENANT,
            "secretRef": {"name": "credential"},
        });
        let pair = Pair::new(&json!({"identity": identity}));
        let stage = &pair.theatre.stage;
        stage.register(&[&[good], others].concat()).unwrap();
        stage.credential(data);
        let _running = pair.start();
        minutes(70).await;
        pair.says(what, "Ready", &format!("False {reason}"), parts);
        pair.says(what, "Stalled", &format!("True {reason}"), parts);
        assert_eq!(pair.secret(), None, "{what}");
        stage.credential(&good.data());
        minutes(6).await;
        pair.says(what, "Ready", "True Succeeded", &[]);
        pair.good_is_unaffected(what);
    }
}

#[tokio::test(start_paused = true)]
async fn half_of_a_pair_signs_in_nobody() {
    let (good, code, fix) = (good(), "CredentialMissing", "kubectl create secret tls");
    let cases = [
        ("nothing", json!({}), [code, "no certificate in PEM (key tls.crt)", fix]),
        ("a certificate alone", json!({"tls.crt": good.certificate}), [code, "without its key in PEM (tls.key)", fix]),
        ("a key alone", json!({"tls.key": good.key}), [code, "no certificate in PEM (key tls.crt)", fix]),
    ];
    fills_nothing("CredentialMissing", &cases, &good, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_valid_signs_in_nobody() {
    let good = good();
    let expired = Certified::rsa((2025, 1, 1), (2026, 12, 1)).unwrap();
    let early = Certified::rsa((2026, 12, 2), (2028, 1, 1)).unwrap();
    let ended = ["CertificateExpired", "2026-12-01T00:00:00Z", "az ad app credential reset"];
    let unborn = ["CertificateNotYetValid", "2026-12-02T00:00:00Z", "Wait until then"];
    let cases = [("one that has expired", expired.data(), ended), ("one of tomorrow", early.data(), unborn)];
    fills_nothing("CredentialRejected", &cases, &good, &[&expired, &early]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_certificate_signs_in_nobody() {
    let good = good();
    let elliptic = Certified::elliptic((2026, 1, 1), (2028, 1, 1)).unwrap();
    let hollow = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let none = ["CertificateUnusable", "no certificate in PEM", "Put the certificate there"];
    let cases = [
        ("an elliptic one", elliptic.data(), ["CertificateUnusable", "not RSA", "-newkey rsa:2048"]),
        ("words", with("a certificate", &good.key), none),
        ("half of one", with(&good.certificate[..200], &good.key), none),
        ("a hollow one", with(hollow, &good.key), none),
    ];
    fills_nothing("CredentialRejected", &cases, &good, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_signs_in_nobody() {
    let good = good();
    let other = Certified::rsa((2026, 1, 1), (2028, 1, 1)).unwrap();
    let elliptic = Certified::elliptic((2026, 1, 1), (2028, 1, 1)).unwrap();
    let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFNTBf\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIIF\n\
                 -----END RSA PRIVATE KEY-----\n";
    let sec1 = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n";
    let foreign = ["CertificateUnusable", "is not that of", "Put both of one pair"];
    let encrypted = ["CertificateUnusable", "encrypted", "openssl pkey"];
    let not_rsa = ["CertificateUnusable", "not an RSA key", "-newkey rsa:2048"];
    let none = ["CertificateUnusable", "no private key in PEM", "Put the certificate's key there"];
    let keys = [
        ("another's key", other.key.as_str(), foreign),
        ("an encrypted key", pkcs8, encrypted),
        ("a key encrypted as once", older, encrypted),
        ("an elliptic key", &elliptic.key, not_rsa),
        ("an elliptic key as once", sec1, not_rsa),
        ("words", "a key", none),
        ("nothing", "", none),
    ];
    let cases = keys.map(|(what, key, parts)| (what, with(&good.certificate, key), parts));
    fills_nothing("CredentialRejected", &cases, &good, &[&other]).await;
}
