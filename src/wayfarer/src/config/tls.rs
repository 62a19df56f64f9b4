//! Certificates of the user's own.

use std::path::PathBuf;

use super::{check::Fault, options::TlsOptions, raw::RawAgent};

/// Reads the `tls` block. Whether its files are there has been looked at before; what is in them is looked at when they
/// are used.
pub(super) fn options(raw: &RawAgent) -> Result<TlsOptions, Fault> {
    let tls = raw.tls.clone().unwrap_or_default();
    let (http, rpc) = (tls.http == Some(true), tls.rpc == Some(true));
    if !http && !rpc {
        return Ok(TlsOptions::default());
    }
    let path = |key: &str, path: &Option<String>| match path.as_deref() {
        None | Some("") => Err(Fault::Setup(format!("tls.{key} must be set when tls.http or tls.rpc is"))),
        Some(path) => Ok(PathBuf::from(path)),
    };
    Ok(TlsOptions {
        http,
        rpc,
        ca: path("ca_file", &tls.ca_file)?,
        certificate: path("cert_file", &tls.cert_file)?,
        key: path("key_file", &tls.key_file)?,
        verify_https_client: tls.verify_https_client.unwrap_or(false),
    })
}
