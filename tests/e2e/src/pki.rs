//! Certificates and keys of a test cluster.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256,
};

/// A folder with the files that kube-apiserver and its administrator need.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes a CA, the API server's certificate, the administrator's, and the key that signs service account tokens.
    pub(crate) fn create(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let pki = Self { folder: folder.to_owned() };
        let authority_key = KeyPair::generate()?;
        let authority = authority()?;
        std::fs::write(pki.file("ca.crt"), authority.self_signed(&authority_key)?.pem())?;
        let issuer = Issuer::new(authority, authority_key);
        pki.leaf("server", &server()?, &issuer)?;
        pki.leaf("admin", &administrator()?, &issuer)?;
        // RSA: Entra ID accepts RS256 alone.
        let tokens = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        std::fs::write(pki.file("sa.key"), tokens.serialize_pem())?;
        std::fs::write(pki.file("sa.pub"), tokens.public_key_pem())?;
        Ok(pki)
    }

    /// Where the file of this name is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn leaf(&self, name: &str, params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        std::fs::write(self.file(&format!("{name}.crt")), params.signed_by(&key, issuer)?.pem())?;
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}

/// A certificate of its own with an RSA key, in PEM: the certificate alone, and with its key, as Azure's clients read it.
pub(crate) fn rsa_certificate(name: &str) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
    let certificate = params.self_signed(&key)?.pem();
    let with_key = format!("{certificate}{}", key.serialize_pem());
    Ok((certificate, with_key))
}

fn authority() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "flux-bearer-e2e");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn server() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(["127.0.0.1", "::1", "localhost"].map(str::to_owned))?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn administrator() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
