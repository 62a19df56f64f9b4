//! TLS over TCP, for the HTTP API: what an agent answers with, what commands ask with, and the certificates of both.
//!
//! Agents speak among themselves over QUIC, which `transport` does; this crate knows nothing of planes, regions or roles.
//! It never falls back to plain text, and never checks less than it is told to. Read [`Acceptor`] for the agent's end,
//! [`Connector`] for the other one, [`make`] for `tls ca create` and `tls cert create`, and [`read`] for what shows a certificate.

mod accept;
mod connect;
mod der;
mod error;
mod files;
pub mod make;
mod name;
pub mod read;

pub use accept::{Acceptor, ServerFiles, ServerStream};
pub use connect::{ClientSettings, ClientStream, Connector};
pub use error::{TlsError, explain};

/// The one provider of cryptography, always passed and never installed.
fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::ring::default_provider())
}
