use std::{path::PathBuf, time::Duration};

use transport::{Credentials, CredentialsError, Files, Identity, Region, ReloadError, Scope, Transport};

/// The user's own certificate files, as Nomad's `tls` block names them.
///
/// Every connection of the cluster is mutually authenticated whatever `verify_server_hostname` and `rpc` say: role and
/// region in the certificate are always checked, by the names that Nomad's certificates carry. `verify_https_client` and
/// `http` concern the HTTP API, not the cluster.
#[derive(Clone, Debug)]
pub struct OwnFiles {
    /// `ca_file`: the authority's certificates.
    pub ca: PathBuf,
    /// `cert_file`: the agent's certificate, perhaps followed by intermediate ones.
    pub certificate: PathBuf,
    /// `key_file`: the agent's key.
    pub key: PathBuf,
}

impl OwnFiles {
    /// Reads the files. `regions` are further regions that are trusted; `now` is time since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Names the file that can not be read or does not fit.
    pub fn load(
        &self,
        identity: &Identity,
        regions: &[(Region, String)],
        now: Duration,
    ) -> Result<Credentials, CredentialsError> {
        let files = Files { ca: &self.ca, certificate: &self.certificate, key: &self.key };
        let credentials = Credentials::from_files(identity.clone(), &files, now)?;
        regions.iter().try_fold(credentials, |credentials, (region, pem)| {
            credentials.trusting(Scope::Region(region.clone()), pem)
        })
    }
}

/// Reads the user's files again (on SIGHUP) and puts them in place. Open connections stay.
///
/// # Errors
///
/// When the files can not be used; those before stay in use.
pub fn reload_files(
    transport: &dyn Transport,
    files: &OwnFiles,
    regions: &[(Region, String)],
    now: Duration,
) -> Result<(), ReloadFilesError> {
    let credentials = files.load(&transport.identity(), regions, now)?;
    Ok(transport.reload(&credentials)?)
}

/// Why the user's files were not put in place. Those before stay in use.
#[derive(Debug, thiserror::Error)]
pub enum ReloadFilesError {
    /// They can not be read or do not fit.
    #[error("the certificate files of the tls block can not be used")]
    Files(#[from] CredentialsError),
    /// The transport does not take them.
    #[error("the certificates of the tls block were not taken")]
    Reload(#[from] ReloadError),
}
