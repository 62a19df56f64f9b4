//! Sockets, timers and encryption around gossip-core.
