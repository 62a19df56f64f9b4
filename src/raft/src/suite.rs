//! openraft's own conformance tests for stores, run against ours.

use std::{
    io,
    sync::{Arc, Mutex},
};

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};
use runtime::{Env, Shutdown, WallClock};
use tempfile::TempDir;

use crate::{
    config::IoMode,
    fault::FaultCell,
    journal::Journal,
    log::{FjallLog, LogStore, MarkSync, MemoryDisk, MemoryLog},
    machine::{Halt, Machine, StateMachine, WriteSnapshot},
    snapshot::{SNAPSHOT_DIR, SnapshotStore},
    types::Types,
};

/// Counts commands.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Response = u64;

    fn apply(&mut self, _index: u64, _command: &[u8]) -> Result<u64, Halt> {
        self.0 += 1;
        Ok(self.0)
    }

    fn snapshot(&self) -> WriteSnapshot {
        let count = self.0;
        Box::new(move |out| out.write_all(&count.to_le_bytes()))
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut count = [0; 8];
        reader.read_exact(&mut count)?;
        self.0 = u64::from_le_bytes(count);
        Ok(())
    }
}

fn build(store: Box<dyn LogStore>, snapshots: SnapshotStore, io: IoMode) -> (Journal, Machine) {
    let env = Env::with(WallClock::System, 1, Shutdown::new());
    let fault = FaultCell::new();
    let journal = Journal::start(store, io, fault.clone(), &env);
    let state = Arc::new(Mutex::new(Counter::default()));
    (journal, Machine::new(state, Arc::new(snapshots), None, io, &env, fault))
}

struct OnDisk(MarkSync);

impl StoreBuilder<Types, Journal, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, Journal, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let log = FjallLog::open(dir.path(), self.0).expect("an empty directory opens");
        let snapshots =
            SnapshotStore::directory(dir.path().join(SNAPSHOT_DIR)).expect("an empty directory opens");
        let (journal, machine) = build(Box::new(log), snapshots, IoMode::Thread);
        Ok((dir, journal, machine))
    }
}

struct InMemory(IoMode);

impl StoreBuilder<Types, Journal, Machine, ()> for InMemory {
    async fn build(&self) -> Result<((), Journal, Machine), StorageError<Types>> {
        let disk = MemoryDisk::new();
        let log = MemoryLog::open(disk.clone()).expect("an empty disk opens");
        let (journal, machine) = build(Box::new(log), SnapshotStore::Memory(disk), self.0);
        Ok(((), journal, machine))
    }
}

#[test]
fn the_log_on_disk_keeps_openrafts_contract() {
    Types::run(async {
        for mark_sync in [MarkSync::Behind, MarkSync::BeforeAck] {
            Suite::test_all(OnDisk(mark_sync)).await.expect("the contract holds");
        }
    });
}

#[test]
fn the_log_in_memory_keeps_openrafts_contract() {
    Types::run(async {
        for io in [IoMode::Inline, IoMode::Thread, IoMode::Task] {
            Suite::test_all(InMemory(io)).await.expect("the contract holds");
        }
    });
}
