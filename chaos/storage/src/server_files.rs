use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{self, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use model::{Namespace, Text};
use protocol::{Command, Named};
use raft::{ClusterMarker, IoMode, RawConfig, Storage};
use runtime::{Env, Shutdown};
use server::{Heartbeats, Life, Replica, Server, StartError};
use state::Hash;
use transport::{Boot, EndpointSecret, Identity, NodeId, Region, Role, TokioHost, Transport, memory};

use crate::{Files, Rehearsal, Subject, Verdict};

/// Commands of each half of the server's life. With a snapshot each forty and ten entries kept behind it, there are two
/// snapshots, a log that begins in the middle, and entries behind the last snapshot.
const COMMANDS: usize = 70;
const SNAPSHOT_EVERY: u64 = 40;
const KEPT_BEHIND: u64 = 10;
/// Starts that may be aborted one after the other; a server gives its log up after three.
const STARTS_MAX: usize = 6;
/// How long a server may take to lead itself and to apply what it has.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What a server keeps: its log, mark, snapshots and life, made by a region of one.
///
/// A region of one is the hardest case: nobody else notices, and nothing is fetched from others that would hide a loss.
#[derive(Debug)]
pub struct ServerFiles {
    files: Files,
    older: Files,
    expected: Expected,
    /// Starts a server in a process of its own: this with `open` and a directory.
    program: Option<PathBuf>,
}

/// What has to be found again.
#[derive(Debug)]
struct Expected {
    /// The last entry that was applied, and the hash of the state after it.
    index: u64,
    hash: Hash,
    /// The latest term that it voted in.
    term: u64,
    life: Life,
    namespaces: BTreeMap<Text, String>,
}

impl ServerFiles {
    /// Makes the files below a directory that is empty.
    ///
    /// # Errors
    ///
    /// When the server does not start or does not take the commands.
    pub async fn make(dir: &Path) -> anyhow::Result<Self> {
        let first = Running::start(dir).await?.context("an empty directory is nothing to refuse")?;
        first.server.found(std::slice::from_ref(&first.me), ClusterMarker(7)).await?;
        first.until_it_leads().await?;
        first.fill(0).await?;
        first.stop().await;
        let older = Files::read(dir)?;
        let second = Running::start(dir).await?.context("these files are whole")?;
        second.until_it_leads().await?;
        second.fill(COMMANDS).await?;
        let expected = second.expected();
        second.stop().await;
        Ok(Self { files: Files::read(dir)?, older, expected, program: None })
    }

    /// Has each start rehearsed by a program that calls [`ServerFiles::open`] when it is given `open` and a directory.
    #[must_use]
    pub fn rehearsed_by(self, program: PathBuf) -> Self {
        Self { program: Some(program), ..self }
    }

    /// Starts a server on files, waits until it leads or has found a fault, and stops it.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn open(dir: &Path) -> anyhow::Result<()> {
        if let Some(running) = Running::start(dir).await? {
            running.until_it_has(0, running.me.life).await;
            running.stop().await;
        }
        Ok(())
    }

    fn compare(&self, running: &Running) -> Verdict {
        let expected = &self.expected;
        if running.server.replica().life != expected.life {
            return Verdict::Detected;
        }
        let found = running.server.raft().with_state(|machine| machine.store().chain().at(expected.index));
        let namespaces = running.namespaces();
        let kept = expected.namespaces.iter().all(|(name, text)| namespaces.get(name) == Some(text));
        let term = running.server.raft().status().leadership;
        let voted_again = match term {
            raft::Leadership::Leader { term } => term <= expected.term,
            raft::Leadership::Follower { .. }
            | raft::Leadership::Unknown { .. }
            | raft::Leadership::Stopped => false,
        };
        if found == Some(expected.hash) && kept && !voted_again { Verdict::Harmless } else { Verdict::Silent }
    }
}

impl Subject for ServerFiles {
    fn name(&self) -> &'static str {
        "server"
    }

    fn files(&self) -> &Files {
        &self.files
    }

    fn older(&self) -> &Files {
        &self.older
    }

    fn rehearse(&self, dir: &Path) -> anyhow::Result<Rehearsal> {
        let Some(program) = &self.program else { return Ok(Rehearsal::Ended) };
        for start in 1..=STARTS_MAX {
            let mut command = process::Command::new(program);
            command.arg("open").arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let status = command.status().context("could not start a process")?;
            match (status.signal(), start) {
                (None, 1) => return Ok(Rehearsal::Ended),
                (None, _) => return Ok(Rehearsal::Aborted),
                (Some(_), _) => {}
            }
        }
        Ok(Rehearsal::NeverStarts)
    }

    async fn judge(&self, dir: &Path) -> anyhow::Result<Verdict> {
        let running = match Running::start(dir).await {
            Ok(Some(running)) => running,
            Ok(None) => return Ok(Verdict::Detected),
            Err(_) => return Ok(Verdict::Refused),
        };
        let verdict = match running.until_it_has(self.expected.index, self.expected.life).await {
            Ready::Yes => self.compare(&running),
            Ready::Stopped => Verdict::Detected,
            Ready::Never => Verdict::Silent,
        };
        running.stop().await;
        Ok(verdict)
    }
}

/// Whether a server has what it had.
enum Ready {
    Yes,
    /// It found a fault in its files and stopped.
    Stopped,
    /// It goes on without it.
    Never,
}

/// A server that runs, alone.
struct Running {
    env: Env,
    me: Replica,
    server: Server,
}

impl Running {
    /// Starts a server on its files as an agent does; none when it has to begin anew.
    async fn start(dir: &Path) -> anyhow::Result<Option<Self>> {
        let env = Env::real(Shutdown::new());
        let (life, log) = (dir.join("life"), dir.join("raft"));
        let life = Life::keep(&life, &log)?;
        let transport = alone()?;
        let node_id = NodeId([1; 16]);
        let me = Replica { node_id, life, name: "one.global".to_owned(), rpc_addr: transport.local_addr() };
        let raw = RawConfig {
            snapshot_threshold: Some(SNAPSHOT_EVERY),
            snapshot_interval: Some(Duration::from_millis(20)),
            trailing_logs: Some(KEPT_BEHIND),
            ..RawConfig::default()
        };
        let raft = raft::Config::check(&raw, Storage::Directory(log), IoMode::Thread)?;
        match Server::start(&env, config(), raft, me.clone(), transport).await {
            Ok(server) => Ok(Some(Self { env, me, server })),
            Err(StartError::Open(error)) if error.must_rejoin() => {
                env.shutdown().fire();
                Ok(None)
            }
            Err(error) => {
                env.shutdown().fire();
                Err(error.into())
            }
        }
    }

    async fn stop(self) {
        self.server.stop().await;
        self.env.shutdown().fire();
    }

    async fn until_it_leads(&self) -> anyhow::Result<()> {
        let deadline = self.env.now() + READY_WITHIN;
        while !self.server.is_leader() || self.server.snapshot().autopilot_config().modify_index == 0 {
            anyhow::ensure!(self.env.now() < deadline, "it does not lead itself");
            self.env.sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Waits until what was committed is applied again. One that began anew has nothing, and waits for nothing.
    async fn until_it_has(&self, index: u64, life: Life) -> Ready {
        let deadline = self.env.now() + READY_WITHIN;
        loop {
            if self.server.fault().borrow().is_some() {
                return Ready::Stopped;
            }
            let leads = self.server.is_leader() && self.server.snapshot().index() >= index;
            if leads || self.me.life != life {
                return Ready::Yes;
            }
            if self.env.now() >= deadline {
                return Ready::Never;
            }
            self.env.sleep(Duration::from_millis(2)).await;
        }
    }

    async fn fill(&self, from: usize) -> anyhow::Result<()> {
        for number in from..from + COMMANDS {
            let namespace = Namespace {
                name: format!("n-{number}").into(),
                description: format!("{number} ").repeat(number % 40),
                ..Namespace::default()
            };
            let command = Command::UpsertNamespaces { namespaces: vec![Named(namespace)] };
            self.server.submit(&command).await?;
        }
        // Snapshots are made beside the work; the files are to hold one of this half.
        let deadline = self.env.now() + READY_WITHIN;
        let wanted = self.server.snapshot().index().saturating_sub(SNAPSHOT_EVERY);
        while self.server.raft().status().snapshot.is_none_or(|point| point.index < wanted) {
            anyhow::ensure!(self.env.now() < deadline, "no snapshot is made");
            self.env.sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn expected(&self) -> Expected {
        let last = self.server.raft().with_state(|machine| machine.store().chain().window().next_back());
        let (index, hash) = last.expect("commands were applied");
        let term = match self.server.raft().status().leadership {
            raft::Leadership::Leader { term }
            | raft::Leadership::Follower { term, .. }
            | raft::Leadership::Unknown { term } => term,
            raft::Leadership::Stopped => 0,
        };
        Expected { index, hash, term, life: self.me.life, namespaces: self.namespaces() }
    }

    fn namespaces(&self) -> BTreeMap<Text, String> {
        let snapshot = self.server.snapshot();
        snapshot.namespaces().map(|row| (row.name.clone(), row.description.clone())).collect()
    }
}

/// A network with nobody else on it.
fn alone() -> anyhow::Result<Arc<dyn Transport>> {
    let links = Arc::new(memory::Switchboard::new(Duration::ZERO));
    let network = memory::Network::new(links, Arc::new(TokioHost));
    let node_id = NodeId([1; 16]);
    let region = Region::new("global")?;
    let identity = Identity { role: Role::Server, region, node_id, name: "one".to_owned() };
    let addr = "127.0.0.1:0".parse().expect("this is an address");
    let secret = EndpointSecret::from_bytes([1; 32]);
    let config = transport::Config::check(addr, secret, &transport::RawConfig::default())?;
    let agent = memory::Agent { identity, authority: "ours".to_owned(), boot: Boot(1), config };
    Ok(network.attach(agent).erase().transport)
}

fn config() -> server::Config {
    server::Config {
        region: "global".to_owned(),
        name: "one".to_owned(),
        datacenter: "dc1".to_owned(),
        heartbeats: Heartbeats::default(),
        bootstrap_expect: 1,
        autopilot: model::AutopilotConfig::default(),
        thresholds: control::collection::Thresholds::EVERYTHING,
        gc_interval: Duration::from_secs(3_600),
        event_buffer: 10,
    }
}
