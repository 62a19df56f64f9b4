//! Typed HTTP client of the API, used by commands, tests and users' own programs.
//!
//! It speaks Nomad's API: one method an endpoint, blocking queries, paging, streams of logs, files and events, and
//! commands in tasks over a websocket. It knows `http://`, `https://` and `unix://` addresses. It never retries by itself, never
//! reads the environment unless asked to ([`Config::from_env`]) and keeps no state but idle connections.
//!
//! Read [`Client`] first.

mod agent;
mod allocs;
mod client;
mod cluster;
mod config;
mod connect;
mod deployments;
mod error;
mod evals;
mod exec;
mod files;
mod jobs;
mod nodes;
mod operator;
mod query;
mod stream;

pub use api_types as types;
pub use tls::{ClientSettings as TlsSettings, TlsError};

pub use allocs::AllocStopOptions;
pub use client::{Client, RawRequest, RawResponse};
pub use config::{Address, BadAddress, Config};
pub use error::RequestError;
pub use exec::{ExecCommand, ExecError, ExecInputHalf, ExecOutputHalf, base64};
pub use files::{LogKind, LogQuery, Origin};
pub use jobs::{DeregisterOptions, RegisterOptions};
pub use operator::MonitorOptions;
pub use query::{Query, QueryMeta};
pub use stream::{ByteStream, JsonStream};
