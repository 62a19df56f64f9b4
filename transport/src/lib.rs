//! Connections, requests and streams between agents, over QUIC with mutual TLS.
//!
//! Agents speak over one UDP port. Each connection belongs to a [`Plane`], knows who is at the other end
//! ([`Identity`], read from a certificate), and carries requests with deadlines, byte streams opened by either side,
//! and datagrams. The same [`Connection`] runs over real QUIC ([`quic`]) and over a network in memory
//! ([`memory`]) whose links the caller delays, loses and cuts: that is how the simulation sees every message.
//!
//! This crate never reads agent configuration, never decides who is alive, never repeats a request that may have
//! run, and never accepts a peer that its plane does not admit.
//!
//! Read [`Transport`] first, then [`Connection`].

pub mod ca;
pub mod framed;
pub mod memory;
pub mod peers;
pub mod quic;

mod config;
mod connection;
mod credentials;
mod error;
mod greeting;
mod host;
mod identity;
mod link;
mod plane;
mod requests;
mod stream;
mod transport;
mod validity;
mod verify;

pub use config::{Config, ConfigError, EndpointSecret, Offload, RawConfig};
pub use connection::{Connection, Inbound, Incoming, Opened};
pub use credentials::{Authorities, Credentials, CredentialsError, Files, Scope};
pub use error::{CloseCode, Closed, DatagramError, DialError, OpenStreamError, ReloadError, RequestError};
pub use host::{Host, TokioHost};
pub use identity::{Binding, Boot, ClusterId, Identity, IdentityError, NodeId, Peer, Region, Role};
pub use peers::Peers;
pub use plane::{Plane, Refusal};
pub use requests::{Reply, Request};
pub use stream::{Stream, StreamReader, StreamWriter};
pub use transport::{Acceptor, Bound, Expect, Transport};
pub use validity::Validity;
