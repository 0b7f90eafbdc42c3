//! What clients trust, and the variables that tell them so.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The variables that name a file of trusted certificates, and who reads them: Go, Rust and OpenSSL; Python; Node.js; git;
/// curl, which prefers its own to the first.
pub const CA_VARIABLES: [&str; 5] =
    ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE"];

/// The variable with the URL of the admin API.
pub const ADMIN_VARIABLE: &str = "FLUX_BEARER_SIM_ADMIN";

/// The bundle's text: the simulator's own CA, every file of `extra`, and those of `issuers` that exist by now.
///
/// Most clients trust the bundle alone, in place of what they are told otherwise: so whatever a client inside must reach
/// over TLS has to be in it, a Kubernetes API server's CA too.
pub fn bundle(authority: &str, extra: &[PathBuf], issuers: &[PathBuf]) -> anyhow::Result<String> {
    let mut bundle = authority.to_owned();
    for file in extra {
        append(&mut bundle, &read(file)?);
    }
    for file in issuers {
        match read(file) {
            Ok(pem) => append(&mut bundle, &pem),
            Err(error) => tracing::info!("not in the trust bundle: {error:#}"),
        }
    }
    Ok(bundle)
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("can't read the CA file {}", file.display()))
}

fn append(bundle: &mut String, pem: &str) {
    bundle.push_str(pem);
    if !pem.ends_with('\n') {
        bundle.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::folder::Folder;

    #[test]
    fn a_bundle_holds_every_certificate_on_lines_of_its_own() {
        let folder = Folder::create().unwrap();
        let extra = folder.write("extra.pem", "EXTRA").unwrap();
        let issuer = folder.write("issuer.pem", "ISSUER\n").unwrap();
        assert_eq!(bundle("OWN\n", &[extra], &[issuer]).unwrap(), "OWN\nEXTRA\nISSUER\n");
    }

    #[test]
    fn an_issuers_file_may_come_later_but_an_extra_one_must_exist() {
        let absent = PathBuf::from("/nonexistent/ca.pem");
        assert_eq!(bundle("OWN\n", &[], std::slice::from_ref(&absent)).unwrap(), "OWN\n");
        let refused = bundle("OWN\n", &[absent], &[]).unwrap_err();
        assert_eq!(refused.to_string(), "can't read the CA file /nonexistent/ca.pem");
    }
}
