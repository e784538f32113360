//! Who we are to others over TLS: a certificate of the configuration, or one of our own that is made once and kept.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::settings::Fingerprint;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFault {
    /// A PEM file cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// None can be made.
    #[error("no certificate can be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// A certificate with those above it, and its key.
pub struct Identity {
    /// The certificate, then those that vouch for it; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// How a certificate of our own is made.
pub struct Own<'a> {
    /// The file it is kept in, with its key. Without one it is as old as the process.
    pub kept: Option<PathBuf>,
    /// The names of DNS in it.
    pub names: &'a [&'a str],
    /// Whose it is, where that is not a name of DNS.
    pub common: Option<&'a str>,
}

impl Identity {
    /// Of these files; the key may be in the file of the certificate.
    pub fn read(cert: &Path, key: Option<&Path>) -> Result<Identity, IdentityFault> {
        let key = key.unwrap_or(cert);
        let chain = certificates(cert)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|fault| file_fault(key, fault))?;
        Ok(Identity { chain, key })
    }

    /// Our own, made if it is not there yet.
    pub fn own(own: &Own<'_>) -> Result<Identity, IdentityFault> {
        if let Some(kept) = own.kept.as_deref().filter(|kept| kept.exists()) {
            return Identity::read(kept, None);
        }
        let key = rcgen::KeyPair::generate()?;
        let names: Vec<String> = own.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names)?;
        if let Some(common) = own.common {
            params.distinguished_name.push(rcgen::DnType::CommonName, common);
        }
        let cert = params.self_signed(&key)?;
        if let Some(kept) = &own.kept {
            keep(kept, &format!("{}{}", cert.pem(), key.serialize_pem()))?;
        }
        let key =
            PrivateKeyDer::try_from(key.serialize_der()).map_err(|fault| file_fault(Path::new("its key"), fault))?;
        Ok(Identity { chain: vec![cert.der().clone()], key })
    }

    /// What the others know us by.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.chain.first().map(fingerprint)
    }
}

/// SHA-256 of a certificate.
pub fn fingerprint(cert: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(Sha256::digest(cert).into())
}

/// The certificates of a PEM file; it is a fault if there is none.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityFault> {
    let certs: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|fault| file_fault(path, fault))?.collect();
    let certs = certs.map_err(|fault| file_fault(path, fault))?;
    if certs.is_empty() { Err(file_fault(path, "it holds no certificate")) } else { Ok(certs) }
}

/// Keeps it where only the bot's own account can read it.
fn keep(path: &Path, pem: &str) -> Result<(), IdentityFault> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(pem.as_bytes())).map_err(|fault| file_fault(path, fault))
}

pub(super) fn file_fault(path: &Path, reason: impl ToString) -> IdentityFault {
    IdentityFault::File { path: path.to_owned(), reason: reason.to_string() }
}
