//! Sockets that take packets meant for others and send in others' names.

use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recvmsg,
        setsockopt, socket, sockopt,
    },
};

/// Larger than any packet of UDP.
pub(super) const PACKET_BYTES_MAX: usize = 65_536;

/// Sockets that are kept open, one for each address that ever sent. Agents use a handful each; what knocks at ports uses
/// one each time. Beyond it all are closed, and opened again as they are needed.
const OUTLETS_MAX: usize = 512;

/// Where the kernel puts packets for others.
pub(super) struct Inlet {
    socket: OwnedFd,
}

impl Inlet {
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let socket = transparent(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
        setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
        // A burst of a whole region's packets waits here while this process does not run.
        setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
        Ok(Self { socket })
    }

    /// Waits for one packet: who sent it, for whom it is, how long it is.
    pub(super) fn receive(
        &self,
        buffer: &mut [u8],
        patience: Duration,
    ) -> io::Result<Option<(SocketAddrV4, SocketAddrV4, usize)>> {
        let wait = PollTimeout::try_from(patience.as_millis()).unwrap_or(PollTimeout::ZERO);
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, wait)? == 0 {
            return Ok(None);
        }
        let mut parts = [IoSliceMut::new(buffer)];
        let mut space = nix::cmsg_space!(nix::libc::sockaddr_in);
        let fd = self.socket.as_raw_fd();
        let message = match recvmsg::<SockaddrIn>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT) {
            Ok(message) => message,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let from = message.address.map(|from| SocketAddrV4::new(from.ip(), from.port()));
        let to = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4OrigDstAddr(to) => {
                let ip = Ipv4Addr::from(u32::from_be(to.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(to.sin_port)))
            }
            _ => None,
        });
        Ok(from.zip(to).map(|(from, to)| (from, to, message.bytes)))
    }
}

/// Sends in the names of agents.
#[derive(Default)]
pub(super) struct Outlets {
    open: HashMap<SocketAddrV4, UdpSocket>,
}

impl Outlets {
    pub(super) fn send(&mut self, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) -> io::Result<usize> {
        if !self.open.contains_key(&from) {
            if self.open.len() >= OUTLETS_MAX {
                self.open.clear();
            }
            let socket = UdpSocket::from(transparent(from)?);
            socket.set_nonblocking(true)?;
            self.open.insert(from, socket);
        }
        self.open[&from].send_to(bytes, to)
    }
}

/// A socket bound to an address that need not be the machine's own.
fn transparent(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::IpTransparent, &true)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(socket)
}
