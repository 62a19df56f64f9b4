//! Runs control, raft and the RPC endpoints on a server.
