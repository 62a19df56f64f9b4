//! Connections, requests and streams between agents, over QUIC with mutual TLS.
