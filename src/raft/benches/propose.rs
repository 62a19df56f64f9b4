//! How long a proposal takes on a real disk, alone and among many. One voter: what replication itself costs.

use std::{io, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use raft::{
    ClusterMarker, Config, Halt, IoMode, MarkSync, Network, NetworkError, Peer, Raft, RawConfig, RpcKind,
    SnapshotStream, StateMachine, Storage, WriteSnapshot,
};
use runtime::{Env, Shutdown};

const COMMAND_BYTES: usize = 256;

fn main() {
    divan::main();
}

struct Nothing;

impl StateMachine for Nothing {
    type Response = ();

    fn apply(&mut self, _index: u64, _command: &[u8]) -> Result<(), Halt> {
        Ok(())
    }

    fn snapshot(&self) -> WriteSnapshot {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _reader: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

struct Nobody;

impl Network for Nobody {
    async fn call(&self, _: &Peer, _: RpcKind, _: Bytes, _: Duration) -> Result<Bytes, NetworkError> {
        Err(NetworkError::Unreachable("a single server".to_owned()))
    }

    async fn send_snapshot(&self, _: &Peer, _: Bytes, _: SnapshotStream) -> Result<Bytes, NetworkError> {
        Err(NetworkError::Unreachable("a single server".to_owned()))
    }
}

async fn leader(dir: &Path, mark_sync: MarkSync) -> Raft<Nothing> {
    let raw = RawConfig { mark_sync: Some(mark_sync), ..RawConfig::default() };
    let config =
        Config::check(&raw, Storage::Directory(dir.to_owned()), IoMode::Thread).expect("defaults fit");
    let me = Peer { id: 1, addr: String::new(), name: "bench".to_owned() };
    let env = Env::real(Shutdown::new());
    let raft =
        Raft::open(config, me.clone(), Nothing, Arc::new(Nobody), &env).await.expect("an empty directory");
    raft.bootstrap(&[me], ClusterMarker(1)).await.expect("it is empty");
    let mut leadership = raft.leadership();
    leadership.wait_for(raft::Leadership::is_leader).await.expect("it runs");
    raft
}

fn bench(bencher: Bencher<'_, '_>, mark_sync: MarkSync, at_once: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let raft = runtime.block_on(leader(dir.path(), mark_sync));
    let command = Bytes::from(vec![7; COMMAND_BYTES]);
    bencher.counter(ItemsCount::new(at_once)).bench_local(|| {
        runtime.block_on(async {
            let proposals = (0..at_once).map(|_| raft.propose(command.clone()));
            futures_util::future::try_join_all(proposals).await.expect("the leader takes proposals")
        })
    });
    runtime.block_on(raft.shutdown());
}

/// What the disk takes by itself: the same bytes appended to a preallocated file, one sync each.
#[divan::bench(sample_count = 300)]
fn bare_sync(bencher: Bencher<'_, '_>) {
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&vec![0; 1 << 20], 0).expect("the disk works");
    file.sync_all().expect("the disk works");
    let mut at = 0;
    bencher.bench_local(|| {
        file.write_all_at(&[7; COMMAND_BYTES], at % (1 << 20)).expect("the disk works");
        at += COMMAND_BYTES as u64;
        file.sync_data().expect("the disk works");
    });
}

#[divan::bench(args = [1, 64, 1024], sample_count = 200)]
fn mark_behind(bencher: Bencher<'_, '_>, at_once: usize) {
    bench(bencher, MarkSync::Behind, at_once);
}

#[divan::bench(args = [1, 64, 1024], sample_count = 200)]
fn mark_before_ack(bencher: Bencher<'_, '_>, at_once: usize) {
    bench(bencher, MarkSync::BeforeAck, at_once);
}
