use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{TlsError, files, provider};

/// A connection to an agent.
pub type ClientStream = TlsStream<TcpStream>;

/// Whom a caller trusts, and what it shows. Nothing set means what the machine trusts, and to show nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientSettings {
    /// A file of authorities.
    pub ca_file: Option<PathBuf>,
    /// A directory of files of authorities. A file stands before it.
    pub ca_dir: Option<PathBuf>,
    /// The caller's certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The name that the agent's certificate must bear, where it is not the host's.
    pub server_name: Option<String>,
    /// Believe whoever answers.
    pub skip_verify: bool,
}

/// Opens connections to agents that speak TLS. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    ///
    /// Names the file that can not be used.
    pub fn new(settings: &ClientSettings) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| TlsError::Make(error.to_string()))?;
        let builder = match (settings.skip_verify, &settings.ca_file, &settings.ca_dir) {
            (true, _, _) => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider())))
            }
            (false, Some(file), _) => builder.with_root_certificates(files::authorities(file)?),
            (false, None, Some(dir)) => builder.with_root_certificates(files::authorities_in(dir)?),
            (false, None, None) => builder.with_root_certificates(files::system_authorities()?),
        };
        let mut config = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => {
                let config =
                    builder.with_client_auth_cert(files::certificates(certificate)?, files::key(key)?);
                config.map_err(|error| TlsError::Unusable {
                    path: certificate.clone(),
                    why: error.to_string(),
                })?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(_), None) | (None, Some(_)) => return Err(TlsError::Half),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server_name = settings.server_name.as_deref().map(name).transpose()?;
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// Shakes hands with an agent at `host`.
    ///
    /// # Errors
    ///
    /// When its certificate is not accepted, or it does not accept ours. See [`crate::explain`].
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<ClientStream> {
        let server_name = match &self.server_name {
            Some(server_name) => server_name.clone(),
            None => name(host).map_err(io::Error::other)?,
        };
        TlsConnector::from(self.config.clone()).connect(server_name, stream).await
    }
}

fn name(text: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = text.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(bare).map_err(|_| TlsError::Name(text.to_owned()))
}

/// Believes whoever answers; what is said is still between the two alone.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
