//! Tasks as containers, through the Docker or Podman API.
//!
//! The `docker` driver asks a container engine on this machine to pull images, to make and start containers and to tell
//! how they end; it follows their output into the allocation's log directory. Containers belong to the engine, so a
//! restart of the agent never touches them, and a restart of the engine is waited for.
//!
//! It never runs a command line tool, never touches a container that does not carry its own mark, and never waits for
//! the engine without a deadline of its own.
//!
//! Read [`Docker`] first; [`Config`] is what an operator sets.

#![cfg_attr(test, recursion_limit = "512")]

mod auth;
mod breaker;
mod capabilities;
mod config;
mod docker;
mod engine;
mod exec;
mod fingerprint;
mod image_name;
mod images;
mod labels;
mod launch;
mod logs;
mod mounts;
mod options;
mod pause;
mod request;
mod stats;
mod sweep;
mod task;

pub use auth::AuthConfig;
pub use config::{AllowedModes, Config, DanglingContainers, Endpoint, Garbage, LogDriver};
pub use docker::Docker;
