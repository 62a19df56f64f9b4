use std::{io, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{TlsError, files, provider};

/// A connection that a caller opened.
pub type ServerStream = TlsStream<TcpStream>;

/// Time for a caller to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The first byte of every handshake. Whoever begins with something else speaks plain text.
const HANDSHAKE_BYTE: u8 = 0x16;

/// What a caller hears that speaks plain text here.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// The files of an agent's `tls` block, as far as its API needs them.
#[derive(Clone, Debug)]
pub struct ServerFiles {
    /// The authority that stands behind callers.
    pub ca: PathBuf,
    /// The agent's certificate, perhaps followed by others up to the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether callers must show a certificate of the authority.
    pub verify_client: bool,
}

impl ServerFiles {
    fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let unusable = |path: &PathBuf, why: String| TlsError::Unusable { path: path.clone(), why };
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable(&self.certificate, error.to_string()))?;
        let builder = if self.verify_client {
            let roots = Arc::new(files::authorities(&self.ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            let verifier = verifier.map_err(|error| unusable(&self.ca, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = (files::certificates(&self.certificate)?, files::key(&self.key)?);
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| unusable(&self.certificate, error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Answers callers of the API with an agent's certificate. Cheap to clone; clones change together.
#[derive(Clone)]
pub struct Acceptor {
    files: Arc<ServerFiles>,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Names the file that can not be used.
    pub fn open(files: ServerFiles) -> Result<Self, TlsError> {
        let config = files.load()?;
        Ok(Self { files: Arc::new(files), config: Arc::new(RwLock::new(config)) })
    }

    /// Reads the files again, for connections from here on.
    ///
    /// # Errors
    ///
    /// Names the file that can not be used; those before stay in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = self.files.load()?;
        *self.config.write() = config;
        Ok(())
    }

    /// Shakes hands with a caller. One that speaks plain text is told so.
    ///
    /// # Errors
    ///
    /// When the caller gives up, shows no good certificate, or takes too long.
    pub async fn accept(&self, mut stream: TcpStream) -> io::Result<ServerStream> {
        let config = self.config.read().clone();
        let shake = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE_BYTE {
                stream.write_all(PLAIN_ANSWER).await?;
                stream.shutdown().await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the caller speaks plain HTTP"));
            }
            TlsAcceptor::from(config).accept(stream).await
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, shake)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time")))
    }
}
