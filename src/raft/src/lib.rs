//! Replication: one leader, a log on every server, the same commands in the same order everywhere.
//!
//! This crate is the only one that knows openraft and fjall. It does not know what it replicates: commands are bytes,
//! and a [`StateMachine`] gives them meaning. It opens no sockets either: a [`Network`] carries its messages. It never
//! answers a proposal before a quorum has it on disk, and never takes part in a vote with a log that has lost something
//! ([`OpenError::LostEntries`]).
//!
//! Read [`Raft`] first. What stands on disk is in `docs/raft.md`.

mod config;
mod error;
mod fault;
mod journal;
mod leadership;
mod log;
mod machine;
mod network;
mod raft;
mod snapshot;
#[cfg(test)]
mod suite;
mod tasks;
mod types;
mod wire;

pub use self::{
    config::{Config, ConfigError, IoMode, RawConfig, Storage},
    error::{BootstrapError, ChangeError, Fault, HandleError, Loss, OpenError, ProposeError, ReadError},
    leadership::Leadership,
    log::{
        ChainHash, ClusterMarker, Counts, DecodeEntryError, ENTRY_VERSION, FjallLog, Found, LogRead,
        LogStore, MARK_VERSION, Mark, MarkError, MarkSync, MemoryDisk, MemoryLog, Settled, StoreError,
        decode_entry, decode_mark, encode_entry, encode_mark, wipe,
    },
    machine::{Halt, StateMachine, WriteSnapshot},
    network::{Network, NetworkError, RpcKind, SnapshotStream},
    raft::{Raft, ReadMode, Status},
    snapshot::{SNAPSHOT_VERSION, SnapshotError, check_snapshot},
    types::{LogPoint, Members, Payload, Peer, Record, VoteRecord},
    wire::sender_of,
};
