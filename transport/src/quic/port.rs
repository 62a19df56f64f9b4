//! Asks a machine whether anybody has a port open.
//!
//! QUIC says nothing when its peer's process is gone, for as long as a slow peer may take. The machine itself knows: it answers a
//! datagram to a port that nobody has open. Only listening servers are asked: what stands before a client (a translator of
//! addresses, a packet filter) may refuse a stranger's datagram while the client is well.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use tokio::net::UdpSocket;

/// Datagrams that are sent; each may be lost, and machines answer only so many in a second.
const TRIES: u32 = 2;
/// Wait for the answer to each.
const WAIT: Duration = Duration::from_millis(60);

/// Tells whether the machine said that the port is closed. False says nothing.
pub(super) async fn is_closed(addr: SocketAddr) -> bool {
    let any: SocketAddr = if addr.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let Ok(socket) = UdpSocket::bind(any).await else { return false };
    if socket.connect(addr).await.is_err() {
        return false;
    }
    let refused = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
    for _ in 0..TRIES {
        // Too short to be a packet of QUIC, so an endpoint that is there drops it.
        if let Err(error) = socket.send(&[0]).await {
            return refused(&error);
        }
        match tokio::time::timeout(WAIT, socket.recv(&mut [0; 16])).await {
            Ok(Err(error)) => return refused(&error),
            Ok(Ok(_)) => return false,
            Err(_) => {}
        }
    }
    false
}
