//! Certificates and keys, as files hold them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::TlsError;

/// Where systems keep the authorities that everyone trusts, in the order in which they are looked for.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Files in a directory of authorities; a directory of more is another one than was meant.
const AUTHORITY_FILES_MAX: usize = 4_096;

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let unusable = |why: String| TlsError::Unusable { path: path.to_owned(), why };
    let found = found.map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        return Err(TlsError::Missing { path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}

pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| TlsError::Missing { path: path.to_owned(), what: "key" })
}

/// Reads the authorities of a file.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    trust(&mut roots, path)?;
    Ok(roots)
}

fn trust(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Unusable { path: path.to_owned(), why: error.to_string() })?;
    }
    Ok(())
}

/// Reads the authorities of every file in a directory that holds some; others are passed over.
pub(crate) fn authorities_in(dir: &Path) -> Result<RootCertStore, TlsError> {
    let failed = |source| TlsError::File { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)?.take(AUTHORITY_FILES_MAX) {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    let mut roots = RootCertStore::empty();
    for path in paths {
        match trust(&mut roots, &path) {
            Ok(()) | Err(TlsError::Missing { .. } | TlsError::File { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if roots.is_empty() {
        return Err(TlsError::Missing { path: dir.to_owned(), what: "certificate" });
    }
    Ok(roots)
}

/// The authorities that this machine trusts. One that can not be read is left out, as systems do.
pub(crate) fn system_authorities() -> Result<RootCertStore, TlsError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = SYSTEM_BUNDLES.iter().map(PathBuf::from);
    let path = named.into_iter().chain(usual).find(|path| path.is_file()).ok_or(TlsError::NoAuthorities)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&path)?);
    Ok(roots)
}
