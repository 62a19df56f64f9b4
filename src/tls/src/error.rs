use std::{io, path::PathBuf};

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// Certificates can not be used. Nothing was opened; what was in use stays so.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or directory can not be read.
    #[error("could not read {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing of that kind in a file.
    #[error("{path} holds no {what} in PEM", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A file holds something else than it should.
    #[error("{path} can not be used: {why}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A certificate without its key, or the other way round.
    #[error("a certificate needs its key and a key its certificate: both must be set")]
    Half,
    /// Nobody is trusted.
    #[error(
        "this machine has no file of well-known authorities, so one must be named (-ca-cert, NOMAD_CACERT)"
    )]
    NoAuthorities,
    /// The name is none that a certificate can bear.
    #[error("{0:?} is no name that a certificate can bear")]
    Name(String),
    /// A certificate could not be made.
    #[error("could not make the certificate: {0}")]
    Make(String),
}

/// Says why a connection failed in the words that Nomad's users know.
pub fn explain(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return error.to_string();
    };
    let unverified = |why: String| format!("tls: failed to verify certificate: x509: {why}");
    match tls {
        rustls::Error::InvalidCertificate(error) => unverified(match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "certificate signed by unknown authority".to_owned()
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "certificate has expired or is not yet valid".to_owned()
            }
            CertificateError::NotValidForName => "certificate is not valid for this name".to_owned(),
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names: Vec<String> = presented.iter().map(|name| plain_name(name)).collect();
                format!("certificate is valid for {}, not {}", names.join(", "), expected.to_str())
            }
            error => error.to_string(),
        }),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "remote error: tls: certificate required".to_owned()
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::DecryptError,
        ) => "remote error: tls: bad certificate".to_owned(),
        error => format!("tls: {error}"),
    }
}

/// Takes `DnsName("a")` to `a`: the library tells names of a certificate in its own notation.
fn plain_name(name: &str) -> String {
    name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')')).trim_matches('"').to_owned()
}
