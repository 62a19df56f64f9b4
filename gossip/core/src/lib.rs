//! SWIM membership: foca and our policy. No tokio, no sockets.
