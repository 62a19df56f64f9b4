//! Runs allocations on a node.
//!
//! A client keeps one connection to a server, over which it learns what to run and tells what became of it. Each
//! allocation has a runner, each task of it another; drivers do the rest. What a client is about to do is on its disk
//! before it does it, so that an agent that is killed finds every task again and starts nothing twice.
//!
//! It decides nothing about where things run, and keeps running what it has while no server can be reached.
//!
//! Read [`Client`] first.

mod alloc_dir;
mod alloc_runner;
mod client;
mod context;
mod dial;
mod events;
pub mod exec;
mod files;
pub mod fingerprint;
mod health;
mod hooks;
pub mod journal;
mod launch;
mod lifecycle;
pub mod logs;
pub mod metadata;
mod offline;
mod outbox;
mod restart;
mod servers;
mod session;
pub mod stats;
mod task_env;
mod task_runner;

pub use alloc_dir::AllocDir;
pub use alloc_runner::{AskError, View};
pub use client::{Client, Config, Contact};
pub use context::Drivers;
pub use driver::{Signal, UnknownSignal};
pub use files::{AllocFiles, FileError, FileFacts};
pub use hooks::{Beneath, BeneathError};
pub use journal::OpenError;
pub use outbox::{Outbox, Said};
pub use servers::{ServerAddr, Servers};
pub use session::{MESSAGE_BYTES_MAX, Session, SessionNode, UnknownJob};
pub use task_runner::Assigned;
