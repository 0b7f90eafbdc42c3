//! Certificates that the application signs in with, valid when a test wants them to be.

use flux_bearer_sim::state;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, date_time_ymd};
use serde_json::{Value, json};

use crate::stage::{NAMESPACE, Stage};

/// A day: year, month, day of the month. It means its first moment.
pub type Day = (i32, u8, u8);

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key, as PKCS #8.
    pub key: String,
}

impl Pair {
    /// A new one with an RSA key, valid between these days.
    pub fn rsa(from: Day, until: Day) -> Result<Self, rcgen::Error> {
        Self::of(&KeyPair::generate_for(&PKCS_RSA_SHA256)?, from, until)
    }

    /// A new one with a key on an elliptic curve.
    pub fn elliptic(from: Day, until: Day) -> Result<Self, rcgen::Error> {
        Self::of(&KeyPair::generate()?, from, until)
    }

    fn of(key: &KeyPair, from: Day, until: Day) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        Ok(Self { certificate: params.self_signed(key)?.pem(), key: key.serialize_pem() })
    }

    /// The data of a Secret of type `kubernetes.io/tls`.
    pub fn data(&self) -> Value {
        json!({"tls.crt": self.certificate, "tls.key": self.key})
    }

    /// As the application's registration has it.
    pub fn registered(&self) -> state::Certificate {
        state::Certificate { pem: self.certificate.clone() }
    }
}

impl Stage {
    /// Registers these with the application, in place of those that were registered.
    pub fn register(&self, pairs: &[&Pair]) -> Result<(), state::StateError> {
        self.world.edit(|state| {
            let applications = state.tenants.iter_mut().flat_map(|tenant| &mut tenant.applications);
            if let Some(application) = applications.filter(|one| one.name == "application").last() {
                application.certificates = pairs.iter().map(|pair| pair.registered()).collect();
            }
        })
    }

    /// Puts `data` into Secret `credential`, in place of what is there.
    pub fn credential(&self, data: &Value) {
        self.kube.delete("Secret", NAMESPACE, "credential");
        self.kube.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credential", "namespace": NAMESPACE},
            "stringData": data,
        }));
    }
}
