//! JSON Web Tokens signed with RS256: making them, taking them apart, and the key sets that verify them.
//!
//! Nothing here looks at a clock. Whether a token is within its validity window is the question of who reads it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Signing failed inside the cryptographic library.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the cryptographic library could not make a key or a signature")]
pub struct SigningError;

/// A set of public keys, as an issuer's `jwks_uri` answers it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Jwks {
    /// The keys. Entra keeps only the first 100 of an external issuer.
    pub keys: Vec<Jwk>,
}

/// One public key. Members that RS256 does not need are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Jwk {
    /// Key type; only `RSA` verifies anything here.
    pub kty: String,
    /// What the key is for: `sig`.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// Name of the key, which a token's header repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Thumbprint, which Entra's keys have and which equals their `kid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x5t: Option<String>,
    /// Algorithm, for example `RS256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// RSA modulus, big-endian, base64url without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// RSA public exponent, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
}

impl Jwks {
    /// The key of this name.
    pub fn key(&self, kid: &str) -> Option<&Jwk> {
        self.keys.iter().find(|key| key.kid.as_deref() == Some(kid))
    }
}

/// Keys that no one holds any more. Making one takes a fifth of a second in a debug build, and a suite makes hundreds of
/// worlds: so each key is used again once its holder is gone. No two holders ever share one.
static SPARE: Mutex<Vec<KeyParts>> = Mutex::new(Vec::new());

#[derive(Clone)]
struct KeyParts {
    pair: Arc<KeyPair>,
    public: Jwk,
}

/// An RSA key of 2048 bits that signs.
pub(crate) struct SigningKey {
    parts: KeyParts,
}

impl SigningKey {
    /// A key that no one else holds, named by its thumbprint.
    pub(crate) fn new() -> Result<Self, SigningError> {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let parts = spare.map_or_else(KeyParts::generate, Ok)?;
        Ok(Self { parts })
    }

    /// The public half.
    pub(crate) fn jwk(&self) -> &Jwk {
        &self.parts.public
    }

    /// The name of the key.
    pub(crate) fn kid(&self) -> &str {
        self.parts.public.kid.as_deref().unwrap_or_default()
    }

    /// The token with this header (as JSON text, whose order is kept) and these claims.
    pub(crate) fn sign(&self, header: &str, claims: &Value) -> Result<String, SigningError> {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let pair = &self.parts.pair;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| SigningError)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(self.parts.clone());
    }
}

impl KeyParts {
    fn generate() -> Result<Self, SigningError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| SigningError)?;
        let public = public_half(&pair)?;
        Ok(Self { pair: Arc::new(pair), public })
    }
}

fn public_half(pair: &KeyPair) -> Result<Jwk, SigningError> {
    let der = pair.public_key().as_ref();
    let public = aws_lc_rs::rsa::PublicKey::from_der(der).map_err(|_| SigningError)?;
    let modulus = public.modulus().big_endian_without_leading_zero();
    let exponent = public.exponent().big_endian_without_leading_zero();
    // Twenty bytes, as the SHA-1 thumbprints are that Entra's key names look like.
    let thumbprint = digest(&SHA256, modulus).as_ref().iter().copied().take(20).collect::<Vec<u8>>();
    Ok(Jwk {
        kty: "RSA".to_owned(),
        usage: Some("sig".to_owned()),
        kid: Some(URL_SAFE_NO_PAD.encode(thumbprint)),
        x5t: None,
        alg: Some("RS256".to_owned()),
        n: Some(URL_SAFE_NO_PAD.encode(modulus)),
        e: Some(URL_SAFE_NO_PAD.encode(exponent)),
    })
}

/// A token taken apart. Its signature has not been looked at until [`Jwt::is_signed_by`] says yes.
#[derive(Clone, Debug)]
pub struct Jwt {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Jwt {
    /// Takes a compact token apart; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Self {
            header: json_part(header)?,
            claims: json_part(claims)?,
            signed: signed.to_owned(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// The claims.
    pub fn claims(&self) -> &Value {
        &self.claims
    }

    /// The header.
    pub fn header(&self) -> &Value {
        &self.header
    }

    /// What was signed, and the signature.
    pub(crate) fn signed(&self) -> (&[u8], &[u8]) {
        (self.signed.as_bytes(), &self.signature)
    }

    /// The name of the key that signed, as the header says.
    pub fn kid(&self) -> &str {
        self.header.get("kid").and_then(Value::as_str).unwrap_or_default()
    }

    /// A claim that is text; empty when it is absent.
    pub fn text(&self, claim: &str) -> &str {
        self.claims.get(claim).and_then(Value::as_str).unwrap_or_default()
    }

    /// A claim that counts seconds since 1970.
    pub fn seconds(&self, claim: &str) -> Option<i64> {
        let value = self.claims.get(claim)?;
        // Kubernetes writes integers; RFC 7519 also allows fractions, which count as the second they are in.
        #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970 fit, and fractions are to go")]
        value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
    }

    /// The audiences, whether the claim is one text or a list.
    pub fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::Array(audiences)) => audiences.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(audience)) => vec![audience],
            _ => Vec::new(),
        }
    }

    /// Whether the signature is RS256 by this key.
    pub fn is_signed_by(&self, key: &Jwk) -> bool {
        self.header.get("alg") == Some(&json!("RS256")) && self.verify(key).is_some()
    }

    fn verify(&self, key: &Jwk) -> Option<()> {
        let n = URL_SAFE_NO_PAD.decode(key.n.as_deref()?).ok()?;
        let e = URL_SAFE_NO_PAD.decode(key.e.as_deref()?).ok()?;
        let public = PublicKeyComponents { n, e };
        public.verify(&RSA_PKCS1_2048_8192_SHA256, self.signed.as_bytes(), &self.signature).ok()
    }
}

fn json_part(part: &str) -> Option<Value> {
    let value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
    value.is_object().then_some(value)
}
