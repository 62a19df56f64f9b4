//! The socket: what gossip needs of UDP, so that tests and the simulation can put something else in its place.

use std::{
    fmt, io,
    net::SocketAddr,
    task::{Context, Poll},
};

use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::io::ReadBuf;

/// Bytes asked of the kernel for datagrams not read yet. A region of 10,000 agents that changes all at once sends some
/// thousand packets within a second; at 1,232 bytes each this holds three thousand of them. The kernel may give less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes asked of the kernel for datagrams not sent yet.
const SEND_BUFFER: usize = 1 << 20;

/// Sends and receives datagrams. One task uses it, so one waker for each direction is enough.
pub trait Socket: fmt::Debug + Send + Sync + 'static {
    /// The address that it is bound to.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Sends one datagram, or registers to be woken when there is room.
    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<usize>>;

    /// Receives one datagram. One that is longer than the buffer is cut.
    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>>;
}

/// A UDP socket of the system. One that is bound to `[::]` carries IPv4 too; addresses are those of IPv4 then, not
/// mapped ones, so that a member has one address whatever its peers are bound to.
#[derive(Debug)]
pub struct Udp {
    inner: tokio::net::UdpSocket,
    is_v6: bool,
}

impl Udp {
    /// Binds a socket with large buffers. Port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// As the system says: the port is taken, the address is not this machine's.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        // Sizes are wishes: a kernel that gives less loses a datagram sooner, and gossip lives with loss.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(addr))?;
        Ok(Self { inner: tokio::net::UdpSocket::from_std(socket.into())?, is_v6: addr.is_ipv6() })
    }
}

impl Socket for Udp {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        let to = match to {
            SocketAddr::V4(v4) if self.is_v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        };
        self.inner.poll_send_to(cx, bytes, to)
    }

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>> {
        let received = self.inner.poll_recv_from(cx, buffer);
        received.map_ok(|from| SocketAddr::new(from.ip().to_canonical(), from.port()))
    }
}
