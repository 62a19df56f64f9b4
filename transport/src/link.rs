//! What a carrier (QUIC, or the network in memory) gives to the layer of requests and streams above it.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{CloseCode, Closed, DatagramError};

/// The readable half of a byte stream.
pub(crate) type BoxRead = Box<dyn AsyncRead + Send + Sync + Unpin>;
/// The writable half. Dropped before its shutdown, the other end sees a broken stream, not a clean end.
pub(crate) type BoxWrite = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// One live connection, without meaning. Its first stream is the dialler's and carries the greeting and all requests.
pub(crate) trait Link: Send + Sync + 'static {
    fn remote_addr(&self) -> SocketAddr;
    fn rtt(&self) -> Duration;
    /// Counts what came from the peer, of whatever kind: as long as it stands still the peer is not heard.
    fn heard(&self) -> u64 {
        0
    }
    /// Looks whether the peer's process is gone, where that can be told. Then this link ends, and all others to its address.
    fn look(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    /// Counts what the peer acknowledged by itself, whoever reads it there; a link that does not see that counts nothing.
    fn acknowledged(&self) -> u64 {
        0
    }
    /// Waits until the peer permits another stream.
    fn open_stream(&self) -> BoxFuture<'_, Result<(BoxRead, BoxWrite), Closed>>;
    fn accept_stream(&self) -> BoxFuture<'_, Result<(BoxRead, BoxWrite), Closed>>;
    /// Never waits: when the peer is slow, the oldest datagrams are dropped.
    fn send_datagram(&self, datagram: Bytes) -> Result<(), DatagramError>;
    fn read_datagram(&self) -> BoxFuture<'_, Result<Bytes, Closed>>;
    fn datagram_max(&self) -> usize;
    /// Closes at once; what was not delivered is lost.
    fn close(&self, code: CloseCode, reason: &str);
    fn closed(&self) -> BoxFuture<'_, Closed>;
    /// A secret that both ends of this connection share, and nobody else.
    fn channel_binding(&self) -> [u8; 32];
    /// The certificates that the peer has shown, its own first, in DER.
    fn peer_certificates(&self) -> Vec<Vec<u8>>;
}
