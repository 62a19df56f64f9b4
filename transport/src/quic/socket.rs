use std::{io, net::UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use crate::config::Config;

/// Binds the UDP socket with buffers that hold a burst: the kernel's own would drop most of it.
pub(super) fn bind(config: &Config) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(config.bind), Type::DGRAM, Some(Protocol::UDP))?;
    if config.bind.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A smaller buffer costs speed, never correctness.
    if let Err(error) = socket.set_recv_buffer_size(config.socket_buffer) {
        debug!(%error, "receive buffer stays as it is");
    }
    if let Err(error) = socket.set_send_buffer_size(config.socket_buffer) {
        debug!(%error, "send buffer stays as it is");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&config.bind.into())?;
    Ok(socket.into())
}
