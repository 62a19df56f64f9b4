//! Several drivers on a network in memory, on a clock that the tests move; and two of them on real sockets.

mod broken_socket;
mod cluster;
mod hostile;
mod keys;
mod locating;
mod membership;
mod sockets;
