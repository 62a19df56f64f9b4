//! What outlives the agents that run on it: a machine with its disk, its tasks and its clock.

use std::{path::Path, sync::Arc};

use gossip_core::Incarnation;
use parking_lot::Mutex;
use raft::MemoryDisk;
use runtime::{Env, Instant, Process, Shutdown, Skew, WallClock};
use server::{Life, StartError};
use tokio::sync::oneshot;

use crate::{
    agent::{self, ClientSettings, Nets, Parts, ServerSettings, Settings},
    faults::Agent,
    plan::Plan,
    trace::Trace,
};

/// Wall time at the beginning of every run: the second of January 2026.
pub const EPOCH_NANOS: i64 = 1_767_312_000_000_000_000;

/// One machine and the agent on it, if one runs.
pub struct Machine {
    /// Which.
    pub agent: Agent,
    /// Counts the starts of its agent.
    pub boots: u32,
    /// Where its tasks live.
    pub tasks: driver_mock::World,
    /// The server's disk.
    pub disk: MemoryDisk,
    /// How far its clock is off.
    pub skew: Skew,
    /// Faults that keep its agent down.
    pub held_down: u32,
    /// Faults that keep its agent still.
    pub held_still: u32,
    /// Its agent left on purpose.
    pub left: bool,
    /// Counts the times that the machine lost all that ran on it.
    pub lives: u32,
    life: Life,
    incarnation: Arc<Mutex<Incarnation>>,
    dir: std::path::PathBuf,
    running: Option<Running>,
}

/// An agent that was started.
struct Running {
    env: Env,
    process: Process,
    parts: Option<Parts>,
    starting: Option<oneshot::Receiver<Result<Parts, NotStarted>>>,
}

/// Why an agent did not start.
enum NotStarted {
    /// Its log lost something, so it has to begin another life.
    MustRejoin(String),
    /// For another reason.
    Failed(String),
}

/// What became of an agent without anybody's doing.
#[derive(Debug, Eq, PartialEq)]
pub enum Became {
    /// Nothing: it runs, or it is down and known to be.
    Same,
    /// It has started.
    Started,
    /// It ended by itself, with this reason.
    Ended(String),
}

impl Machine {
    /// Makes a machine that nothing ever ran on, with a directory below `root`.
    pub fn new(agent: Agent, root: &Path) -> Self {
        Self {
            agent,
            boots: 0,
            tasks: driver_mock::World::default(),
            disk: MemoryDisk::new(),
            skew: Skew::default(),
            held_down: 0,
            held_still: 0,
            left: false,
            lives: 0,
            life: Life::FIRST,
            incarnation: Arc::default(),
            dir: root.join(agent.to_string()),
            running: None,
        }
    }

    /// The agent's parts, once they all run.
    pub fn parts(&self) -> Option<&Parts> {
        self.running.as_ref()?.parts.as_ref()
    }

    /// The agent's environment, while it is started.
    pub fn env(&self) -> Option<&Env> {
        self.running.as_ref().map(|running| &running.env)
    }

    /// Whether its process is there, started or starting.
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// The server's part in Raft in its present life.
    pub fn replica(&self) -> server::Replica {
        agent::replica(self.agent, self.life)
    }

    /// Starts the agent of a run that began then.
    pub fn start(&mut self, nets: &Nets, plan: &Plan, began: Instant, seed: u64) {
        self.boots += 1;
        self.left = false;
        // The epoch belongs to the beginning of the run, not to the start of this agent.
        let clock = WallClock::Simulated { epoch: EPOCH_NANOS, started: began, skew: self.skew.clone() };
        let (env, process) = Env::simulated(clock, seed, Shutdown::new());
        let settings = Settings {
            agent: self.agent,
            nets: nets.clone(),
            work: plan.work,
            boot: self.boots,
            servers: (1..=plan.size.servers).map(Agent::Server).collect(),
            incarnation: self.incarnation.clone(),
        };
        let (tell, starting) = oneshot::channel();
        let inside = env.clone();
        match self.agent {
            Agent::Server(_) => {
                let (disk, life) = (self.disk.clone(), self.life);
                let own = ServerSettings { disk, life, snapshot_every: plan.snapshot_every };
                env.spawn("sim-start", async move {
                    let started = agent::start_server(inside, settings, own).await;
                    // The world is there as long as the run.
                    let _ = tell.send(started.map_err(NotStarted::of));
                });
            }
            Agent::Client(_) => {
                let own = ClientSettings { dir: self.dir.clone(), tasks: self.tasks.clone() };
                env.spawn("sim-start", async move {
                    let started = agent::start_client(inside, settings, own).await;
                    // As above.
                    let _ = tell.send(started.map_err(NotStarted::Failed));
                });
            }
        }
        self.running = Some(Running { env, process, parts: None, starting: Some(starting) });
    }

    /// Kills the agent. What it had not synced is gone; its tasks go on.
    pub fn kill(&mut self, nets: &Nets) {
        let Some(running) = self.running.take() else { return };
        running.process.kill();
        nets.cut_off(self.agent);
        self.disk.crash();
    }

    /// Ends everything that runs on the machine, the agent's tasks too. The agent was killed before.
    pub fn lose_power(&mut self) {
        self.tasks.lose_all();
        self.lives += 1;
    }

    /// Takes what its agent remembers and made from the machine. The agent was killed before, and comes back as the same
    /// node.
    pub fn make_anew(&mut self) {
        self.lose_power();
        // What is not there need not go.
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// Lets the agent stand still or go on, as the faults that hold it say.
    pub fn hold(&self, nets: &Nets) {
        let is_still = self.held_still > 0;
        nets.conditions.silence(self.agent.ip(), is_still);
        let Some(running) = &self.running else { return };
        if is_still { running.process.pause() } else { running.process.resume() }
    }

    /// Has the server die in the middle of its next write.
    pub fn tear_next_write(&self, kept_permille: u32, nets: &Nets) {
        let Some(running) = &self.running else { return };
        let (process, nets, agent) = (running.process.clone(), nets.clone(), self.agent);
        self.disk.die_in_next_append(kept_permille, move || {
            process.kill();
            nets.cut_off(agent);
        });
    }

    /// Looks what became of the agent.
    pub fn look(&mut self, nets: &Nets, trace: &Trace) -> Became {
        let Some(running) = &mut self.running else { return Became::Same };
        if running.process.killed() {
            self.kill(nets);
            return Became::Ended("died in a write".to_owned());
        }
        if let Some(starting) = &mut running.starting {
            let started = match starting.try_recv() {
                Ok(started) => started,
                Err(oneshot::error::TryRecvError::Empty) => return Became::Same,
                Err(oneshot::error::TryRecvError::Closed) => {
                    Err(NotStarted::Failed("it panicked at the start".to_owned()))
                }
            };
            running.starting = None;
            match started {
                Ok(parts) => {
                    running.parts = Some(parts);
                    return Became::Started;
                }
                Err(NotStarted::MustRejoin(reason)) => {
                    self.kill(nets);
                    self.disk = MemoryDisk::new();
                    self.life = Life::numbered(self.life.number() + 1).expect("a run has few lives");
                    trace.note(format_args!("{} begins life {}: {reason}", self.agent, self.life));
                    return Became::Ended("begins anew".to_owned());
                }
                Err(NotStarted::Failed(reason)) => {
                    self.kill(nets);
                    return Became::Ended(reason);
                }
            }
        }
        let fault = running.parts.as_ref().and_then(|parts| parts.server.as_ref());
        let fault = fault.and_then(|server| server.fault().borrow().clone());
        if let Some(fault) = fault {
            self.kill(nets);
            return Became::Ended(fault.to_string());
        }
        if running.env.shutdown().fired() {
            self.kill(nets);
            return Became::Ended("stopped itself".to_owned());
        }
        Became::Same
    }
}

impl NotStarted {
    fn of(error: StartError) -> Self {
        let StartError::Open(open) = &error;
        if open.must_rejoin() { Self::MustRejoin(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}
