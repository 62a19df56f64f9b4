//! HTTP: routes, blocking queries, event stream.
//!
//! The API is Nomad's, path for path and field for field; `api-types` has the shapes. An agent that can not answer by
//! itself passes the whole request on, over a stream of the transport: a client to a server, a follower to the leader,
//! a server to the node that a request is about. So there is one kind of message between agents for all of them, and a
//! request is answered by the same code wherever it arrives.
//!
//! It decides nothing about jobs or nodes: it reads snapshots and submits commands.
//!
//! Read [`Api`] first, then [`routes`](mod@routes).

mod api;
mod blocking;
mod call;
mod error;
mod figures;
mod filter;
mod forward;
mod ids;
mod listen;
mod membership;
mod paging;
mod relay;
mod reply;
pub mod routes;
mod streaming;

pub use api::{Agent, Api, Monitor, Peers};
pub use call::{Call, Query};
pub use error::HttpError;
pub use forward::{HTTP_STREAM_HEADER, serve_stream};
pub use listen::{ListenError, serve_listener};
pub use membership::{
    JoinToken, Joined, JoinedBy, KeyringChange, KeyringReport, Member, MemberRole, MemberStatus, Membership,
    MembershipError, NewToken, TokenRole, TokenState, TokenWish, Trust, TrustedAuthority,
};
pub use reply::{Meta, Reply};
