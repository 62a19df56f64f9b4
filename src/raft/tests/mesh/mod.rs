//! A small state machine and a network in memory.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use raft::{
    ClusterMarker, Config, Halt, IoMode, MemoryDisk, Network, NetworkError, OpenError, Peer, Raft, RawConfig,
    RpcKind, SnapshotStream, StateMachine, Storage, WriteSnapshot,
};
use runtime::{Env, Shutdown};

pub const CLUSTER: ClusterMarker = ClusterMarker(0xC1);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers every command with its index; answers how many there are.
#[derive(Clone, Default)]
pub struct Ledger(pub Vec<(u64, Vec<u8>)>);

impl StateMachine for Ledger {
    type Response = usize;

    fn apply(&mut self, index: u64, command: &[u8]) -> Result<usize, Halt> {
        if command == b"halt" {
            return Err(Halt("told to".to_owned()));
        }
        self.0.push((index, command.to_vec()));
        Ok(self.0.len())
    }

    fn snapshot(&self) -> WriteSnapshot {
        let entries = self.0.clone();
        Box::new(move |out| out.write_all(&postcard::to_stdvec(&entries).map_err(io::Error::other)?))
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        self.0 = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        Ok(())
    }
}

/// Connects servers of one process; links can be cut.
#[derive(Clone, Default)]
pub struct Mesh(Arc<Mutex<Links>>);

#[derive(Default)]
struct Links {
    servers: BTreeMap<u64, Raft<Ledger>>,
    isolated: BTreeSet<u64>,
}

impl Mesh {
    pub fn join(&self, raft: &Raft<Ledger>) {
        self.0.lock().expect("no test panics here").servers.insert(raft.me().id, raft.clone());
    }

    pub fn isolate(&self, id: u64) {
        self.0.lock().expect("no test panics here").isolated.insert(id);
    }

    pub fn heal(&self) {
        self.0.lock().expect("no test panics here").isolated.clear();
    }

    pub fn leave(&self, id: u64) {
        self.0.lock().expect("no test panics here").servers.remove(&id);
    }

    fn find(&self, from: u64, to: u64) -> Result<Raft<Ledger>, NetworkError> {
        let links = self.0.lock().expect("no test panics here");
        if links.isolated.contains(&from) || links.isolated.contains(&to) {
            return Err(NetworkError::Unreachable("the link is cut".to_owned()));
        }
        links.servers.get(&to).cloned().ok_or_else(|| NetworkError::Unreachable("nobody is there".to_owned()))
    }
}

/// One server's end of the mesh.
pub struct Port {
    pub me: u64,
    pub mesh: Mesh,
}

impl Network for Port {
    async fn call(
        &self,
        target: &Peer,
        kind: RpcKind,
        payload: Bytes,
        _deadline: Duration,
    ) -> Result<Bytes, NetworkError> {
        let server = self.mesh.find(self.me, target.id)?;
        let answer =
            server.handle(kind, payload).await.map_err(|error| NetworkError::Failed(error.to_string()))?;
        // The answer travels over the same link.
        self.mesh.find(self.me, target.id)?;
        Ok(answer)
    }

    async fn send_snapshot(
        &self,
        target: &Peer,
        meta: Bytes,
        mut stream: SnapshotStream,
    ) -> Result<Bytes, NetworkError> {
        let server = self.mesh.find(self.me, target.id)?;
        server
            .receive_snapshot(meta, &mut stream)
            .await
            .map_err(|error| NetworkError::Failed(error.to_string()))
    }
}

pub fn env() -> Env {
    Env::real(Shutdown::new())
}

pub fn peer(id: u64) -> Peer {
    Peer { id, addr: format!("10.0.0.{id}:4647"), name: format!("server-{id}") }
}

pub fn on_disk(dir: &Path) -> Config {
    Config::check(&RawConfig::default(), Storage::Directory(dir.to_owned()), IoMode::Thread)
        .expect("defaults fit")
}

pub fn in_memory(disk: &MemoryDisk) -> Config {
    Config::check(&RawConfig::default(), Storage::Memory(disk.clone()), IoMode::Thread).expect("defaults fit")
}

pub async fn open(config: Config, id: u64, mesh: &Mesh) -> Result<Raft<Ledger>, OpenError> {
    let port = Arc::new(Port { me: id, mesh: mesh.clone() });
    let raft = Raft::open(config, peer(id), Ledger::default(), port, &env()).await?;
    mesh.join(&raft);
    Ok(raft)
}

/// Founds a cluster of one and waits until it leads.
pub async fn found_alone(config: Config) -> Raft<Ledger> {
    let raft = open(config, 1, &Mesh::default()).await.expect("an empty store opens");
    raft.bootstrap(&[peer(1)], CLUSTER).await.expect("an empty store can found a cluster");
    until("it leads", || raft.is_leader()).await;
    raft
}

pub async fn propose(raft: &Raft<Ledger>, text: &str) -> u64 {
    raft.propose(Bytes::copy_from_slice(text.as_bytes())).await.expect("the leader takes proposals").0
}

pub fn texts(raft: &Raft<Ledger>) -> Vec<String> {
    raft.with_state(|ledger| {
        ledger.0.iter().map(|(_, text)| String::from_utf8_lossy(text).into_owned()).collect()
    })
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let env = env();
    let deadline = env.now() + PATIENCE;
    while !holds() {
        assert!(env.now() < deadline, "in vain: {what}");
        env.sleep(Duration::from_millis(5)).await;
    }
}

/// Copies a data directory as it is at this moment, which is what a killed process leaves behind.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the copy's directory");
    for entry in std::fs::read_dir(from).expect("the directory exists") {
        let entry = entry.expect("the directory can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("the type is known").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            copy_sparse(&entry.path(), &target);
        }
    }
}

/// Journals are mostly holes; only what is before the last byte that is not zero is copied.
fn copy_sparse(from: &Path, to: &Path) {
    use std::io::Write;
    let bytes = std::fs::read(from).expect("the file can be read");
    let used = used_length(&bytes);
    let mut file = std::fs::File::create(to).expect("the copy can be made");
    file.write_all(&bytes[..used]).expect("the copy can be written");
    file.set_len(bytes.len() as u64).expect("the copy can be stretched");
}

/// Finds the end of what is not zero. By pages, because a test build is slow at looking at bytes one by one.
pub fn used_length(bytes: &[u8]) -> usize {
    const PAGE: usize = 4096;
    const ZEROES: [u8; PAGE] = [0; PAGE];
    let pages = bytes.chunks(PAGE).rposition(|page| *page != ZEROES[..page.len()]).map_or(0, |at| at + 1);
    let end = bytes.len().min(pages * PAGE);
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}
