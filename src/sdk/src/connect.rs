//! Opens connections to an agent, over TCP, with TLS or without, or a socket in the file system.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::Address;

/// Longest wait for a connection. An agent is near; what does not answer for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection can do.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections to one agent. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    address: Address,
    /// Present where the address wants TLS; what is wrong with its files is told by each connection.
    tls: Option<Result<tls::Connector, Arc<str>>>,
}

impl Connector {
    /// Reads the files about TLS, where the address needs them.
    pub fn new(address: &Address, tls: &tls::ClientSettings) -> Self {
        let tls = match address {
            Address::Https { .. } => {
                Some(tls::Connector::new(tls).map_err(|error| Arc::from(error.to_string())))
            }
            Address::Http { .. } | Address::Unix(_) => None,
        };
        Self { address: address.clone(), tls }
    }

    /// Opens a connection.
    pub async fn open(&self) -> io::Result<Box<dyn Stream>> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")))
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.address {
            Address::Http { authority, .. } => Ok(Box::new(dial(authority, 80).await?)),
            Address::Https { authority, .. } => {
                let tls = match &self.tls {
                    Some(Ok(tls)) => tls,
                    Some(Err(why)) => return Err(io::Error::other(why.to_string())),
                    None => unreachable!("an address with TLS has a connector for it"),
                };
                let stream = dial(authority, 443).await?;
                let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
                let stream = tls.connect(host, stream).await;
                Ok(Box::new(Explained(stream.map_err(|error| io::Error::other(tls::explain(&error)))?)))
            }
            Address::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        }
    }
}

async fn dial(authority: &str, usual_port: u16) -> io::Result<TcpStream> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port { authority.to_owned() } else { format!("{authority}:{usual_port}") };
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection with TLS whose errors are in the words that users know: an agent that does not accept our certificate says so
/// only after the handshake.
struct Explained(tls::ClientStream);

fn explained<T>(polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    polled.map_err(|error| io::Error::new(error.kind(), tls::explain(&error)))
}

impl AsyncRead for Explained {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        explained(Pin::new(&mut self.0).poll_read(cx, buf))
    }
}

impl AsyncWrite for Explained {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        explained(Pin::new(&mut self.0).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        explained(Pin::new(&mut self.0).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        explained(Pin::new(&mut self.0).poll_shutdown(cx))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Pooled;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Pooled>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.open().await.map(|stream| Pooled(TokioIo::new(stream))) })
    }
}

/// A connection of the pool.
pub(crate) struct Pooled(TokioIo<Box<dyn Stream>>);

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Pooled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
