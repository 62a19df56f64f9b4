//! The region under test: agents, their network and their disks, and what can be done to each.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    agent::{Ending, Running, Setting},
    clock::{self, Mark},
    disk::Disk,
    engine::{self, Engine},
    http,
    layout::{Agent, Layout, Part},
    network::{self, Network},
    process,
    relay::Relay,
    wall::WallClock,
};

/// The directory of the container engine, beside those of the agents.
const ENGINE: &str = "engine";

/// The port of every agent's API.
const HTTP_PORT: u16 = 4646;

/// How long a region may take to form: a loaded machine starts eight agents one after the other.
const FORMING_MAX: Duration = Duration::from_secs(90);

/// How long an agent that was told to leave may take, before it is killed.
const LEAVING_MAX: Duration = Duration::from_secs(20);

/// How long one question to an agent may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// An agent that ended by itself.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Ended {
    /// When, since the run began.
    pub at_ms: u64,
    /// Who.
    pub agent: Agent,
    /// With what.
    pub ending: Ending,
}

/// A region of real processes.
pub struct Cluster {
    /// Who is there.
    pub layout: Layout,
    /// What everything of this run is named by.
    pub prefix: String,
    /// Everything of it on disk is below here.
    pub root: PathBuf,
    /// The network in the middle.
    pub relay: Relay,
    /// Namespaces.
    pub network: Network,
    /// When the run began.
    pub began: Mark,
    /// Containers, where the run has any.
    pub engine: Option<Engine>,
    binary: PathBuf,
    setting: Setting,
    wall_clock: Option<WallClock>,
    agents: Vec<Mutex<Running>>,
    disks: Vec<Option<Disk>>,
    endings: Mutex<Vec<Ended>>,
}

/// What a region is made of.
pub struct Wanted {
    /// Who is there.
    pub layout: Layout,
    /// What everything is named by.
    pub prefix: String,
    /// An empty directory.
    pub root: PathBuf,
    /// The program.
    pub binary: PathBuf,
    /// Where the relay's chance begins.
    pub seed: u64,
    /// Servers get disks of their own.
    pub disks: bool,
    /// Certificates last a minute, as short as a server lets them.
    pub short_certificates: bool,
    /// There are containers.
    pub engine: bool,
    /// Wall clocks can be set while agents run.
    pub wall_clocks: bool,
}

impl Cluster {
    /// Makes network and disks; starts nothing. The calling thread is in the hub from then on.
    ///
    /// # Errors
    ///
    /// When this machine does not let it.
    pub fn prepare(wanted: Wanted) -> io::Result<Self> {
        let Wanted { layout, prefix, root, binary, seed, disks, short_certificates, engine, wall_clocks } =
            wanted;
        let network = Network::lay(&prefix, layout)?;
        let engine = engine.then(|| Engine::start(&root.join(ENGINE), &prefix)).transpose()?;
        let wall_clock = wall_clocks.then(|| WallClock::make(&root)).transpose()?;
        let engine_at = engine.as_ref().map(Engine::endpoint);
        let setting = Setting { layout, short_certificates, engine: engine_at };
        let relay = Relay::start(seed)?;
        let agents: Vec<Running> = layout.all().map(|agent| Running::new(agent, &root)).collect();
        let mut mounted = Vec::new();
        for one in &agents {
            fs::create_dir_all(&one.dir)?;
            let own = disks && layout.servers().any(|server| server == one.agent);
            mounted.push(own.then(|| disk_of(one, &prefix)).transpose()?);
            one.configure(&setting)?;
        }
        let agents = agents.into_iter().map(Mutex::new).collect();
        let (began, endings) = (Mark::here(), Mutex::default());
        Ok(Self {
            layout,
            prefix,
            root,
            relay,
            network,
            began,
            engine,
            binary,
            setting,
            wall_clock,
            agents,
            disks: mounted,
            endings,
        })
    }

    /// An agent.
    pub fn agent(&self, agent: Agent) -> MutexGuard<'_, Running> {
        self.agents[usize::from(agent.0)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server's disk, where it has one.
    #[must_use]
    pub fn disk(&self, agent: Agent) -> Option<&Disk> {
        self.disks[usize::from(agent.0)].as_ref()
    }

    /// Where an agent's API is.
    #[must_use]
    pub fn address(&self, agent: Agent) -> SocketAddr {
        (agent.ip(), HTTP_PORT).into()
    }

    /// Starts an agent, unless it runs.
    ///
    /// # Errors
    ///
    /// When the program does not start.
    pub fn start(&self, agent: Agent, shift: i64) -> io::Result<()> {
        let mut one = self.agent(agent);
        if one.pid().is_some() {
            return Ok(());
        }
        one.start(&self.binary, &self.network.namespace(agent), shift, self.wall_clock.as_ref())
    }

    /// Ends an agent and all its tasks, as a machine that loses its power.
    ///
    /// # Errors
    ///
    /// When its processes can not be listed.
    pub fn power_off(&self, agent: Agent) -> io::Result<()> {
        let mut one = self.agent(agent);
        let inside = network::must("ip", &["netns", "pids", &self.network.namespace(agent)])?;
        inside.split_whitespace().filter_map(|pid| pid.parse().ok()).for_each(|pid| {
            process::signal(pid, Signal::SIGKILL);
        });
        one.kill();
        Ok(())
    }

    /// Starts an agent that knows nothing: what it had is thrown away.
    ///
    /// # Errors
    ///
    /// When it can not be thrown away, or the program does not start.
    pub fn start_afresh(&self, agent: Agent) -> io::Result<()> {
        self.wait_until_gone(agent)?;
        {
            let one = self.agent(agent);
            crate::disk::remove(&one.data(), &self.prefix);
            fs::remove_dir_all(one.data())?;
            one.configure(&self.setting)?;
        }
        self.start(agent, 0)
    }

    /// Waits until an agent that was told to leave is gone, kills it when that takes too long, and ends its tasks with all that
    /// its machine knew of them: who comes back under its name does not.
    ///
    /// # Errors
    ///
    /// When its processes can not be listed.
    pub fn wait_until_gone(&self, agent: Agent) -> io::Result<()> {
        let gone = clock::poll(LEAVING_MAX, || {
            self.look_for_endings();
            self.agent(agent).pid().is_none().then_some(())
        });
        if gone.is_none() {
            self.agent(agent).kill();
        }
        self.power_off(agent)?;
        let allocations = crate::census::allocations_below(&self.agent(agent).data());
        clock::poll(LEAVING_MAX, || {
            let left = crate::census::groups(&allocations);
            left.iter().for_each(|group| {
                // One whose processes are about to end is busy, and goes the next time.
                let _ = fs::remove_dir(&group.name);
            });
            left.is_empty().then_some(())
        });
        Ok(())
    }

    /// Notes which agents ended by themselves.
    pub fn look_for_endings(&self) {
        for agent in self.layout.all() {
            let ending = self.agent(agent).ended();
            if let Some(ending) = ending {
                let at_ms = u64::try_from(self.began.elapsed().as_millis()).expect("runs are bounded");
                self.endings().push(Ended { at_ms, agent, ending });
            }
        }
    }

    fn endings(&self) -> MutexGuard<'_, Vec<Ended>> {
        self.endings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Agents that ended by themselves so far.
    #[must_use]
    pub fn ended(&self) -> Vec<Ended> {
        self.endings().clone()
    }

    /// Reads a value from an agent.
    #[must_use]
    pub fn get(&self, agent: Agent, path: &str) -> Option<Value> {
        http::get(self.address(agent), path, ANSWER_MAX)
    }

    /// Those whose process is there.
    #[must_use]
    pub fn running(&self) -> Vec<Agent> {
        self.layout.all().filter(|agent| self.agent(*agent).pid().is_some()).collect()
    }

    /// The servers that run and are not stopped.
    #[must_use]
    pub fn working_servers(&self) -> Vec<Agent> {
        self.layout.servers().filter(|server| self.agent(*server).works()).collect()
    }

    /// Who leads, as most of the servers that answer say.
    #[must_use]
    pub fn leader(&self) -> Option<Agent> {
        let mut named: Vec<Agent> = Vec::new();
        for server in self.working_servers() {
            let answer = self.get(server, "/v1/status/leader");
            let text = answer.as_ref().and_then(Value::as_str).unwrap_or_default();
            let address = text.parse().ok().map(|address: std::net::SocketAddrV4| *address.ip());
            named.extend(address.and_then(Agent::at));
        }
        let votes = |agent: &Agent| named.iter().filter(|one| *one == agent).count();
        let best = named.iter().copied().max_by_key(votes)?;
        self.agent(best).works().then_some(best)
    }

    /// Status of each node by its agent's name, as a server sees it.
    #[must_use]
    pub fn statuses(&self, through: Agent) -> Option<Vec<(Agent, String)>> {
        let nodes = self.get(through, "/v1/nodes")?;
        let rows = nodes.as_array()?.iter();
        let row = |node: &Value| {
            let agent = self.layout.named(node["Name"].as_str()?)?;
            Some((agent, node["Status"].as_str()?.to_owned()))
        };
        Some(rows.filter_map(row).collect())
    }

    /// Voters of the region, by name.
    #[must_use]
    pub fn voters(&self, through: Agent) -> Option<Vec<Agent>> {
        let raft = self.get(through, "/v1/operator/raft/configuration")?;
        let rows = raft["Servers"].as_array()?.iter().filter(|server| server["Voter"] == true);
        let address = |server: &Value| server["Address"].as_str()?.parse::<std::net::SocketAddrV4>().ok();
        Some(rows.filter_map(|server| Agent::at(*address(server)?.ip())).collect())
    }

    /// Starts everybody and waits until there is a leader, every server votes and every node is ready.
    ///
    /// # Errors
    ///
    /// When that takes too long, with the ends of the logs.
    pub fn form(&self) -> io::Result<Duration> {
        let began = Mark::here();
        for agent in self.layout.members() {
            self.start(agent, 0)?;
        }
        clock::poll(FORMING_MAX, || self.is_whole().then_some(())).map(|()| began.elapsed()).ok_or_else(
            || {
                let tails: Vec<String> = self.layout.members().map(|agent| self.tail(agent)).collect();
                io::Error::other(format!("the region did not form\n{}", tails.join("\n")))
            },
        )
    }

    /// Whether all of every day are there, work together and are ready.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let voters = self.voters(leader).unwrap_or_default();
        let statuses = self.statuses(leader).unwrap_or_default();
        let ready = |agent: Agent| statuses.iter().any(|(one, status)| *one == agent && status == "ready");
        self.layout.servers().all(|server| voters.contains(&server)) && self.layout.clients().all(ready)
    }

    /// The end of what an agent wrote, under its name.
    #[must_use]
    pub fn tail(&self, agent: Agent) -> String {
        let text = fs::read_to_string(self.agent(agent).log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {agent}\n{}", lines[lines.len().saturating_sub(8)..].join("\n"))
    }

    /// Panics that agents wrote of.
    #[must_use]
    pub fn panics(&self, agent: Agent) -> Vec<String> {
        let text = fs::read(self.agent(agent).log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect()
    }

    /// What an agent is.
    #[must_use]
    pub fn part(&self, agent: Agent) -> Part {
        self.layout.part(agent)
    }
}

fn disk_of(one: &Running, prefix: &str) -> io::Result<Disk> {
    let image = one.dir.join("disk");
    Disk::mount(&image, &one.data(), &format!("{prefix}-{}", one.agent))
}

/// Ends and removes everything that a run made. Works also for a run whose program is gone.
pub fn remove(prefix: &str, root: &Path, keep_logs: bool) {
    // A frozen disk would hold whoever is to be ended.
    for place in fs::read_dir(root).into_iter().flatten().flatten() {
        let data = place.path().join("data");
        // Most are not frozen, and say so.
        let _ = network::must("fsfreeze", &["-u", &data.to_string_lossy()]);
    }
    engine::end_containers(&root.join(ENGINE));
    let gone = clock::poll(LEAVING_MAX, || {
        let mut left = process::of_directory(root);
        // One in a container does not know the directory.
        left.extend(process::tasks(prefix).iter().map(|task| task.pid));
        left.iter().for_each(|pid| process::signal(*pid, Signal::SIGKILL));
        left.is_empty().then_some(())
    });
    if gone.is_none() {
        eprintln!("processes of {} are left", root.display());
    }
    let allocations = crate::census::allocations_below(root);
    crate::disk::remove(root, prefix);
    crate::census::remove_groups(&allocations);
    engine::remove_groups(prefix);
    network::remove(prefix);
    if keep_logs {
        for place in fs::read_dir(root).into_iter().flatten().flatten() {
            // Data is large and says little without its region; logs and configurations stay.
            let _ = fs::remove_file(place.path().join("disk"));
            let _ = fs::remove_dir_all(place.path().join("data"));
        }
    } else if let Err(error) = fs::remove_dir_all(root)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("{} is left: {error}", root.display());
    }
}
