//! A region that a test starts: servers and clients, each a process.

use std::{
    fs,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tests::{Agent, Kind, agent::text, binary, http, process, wait};

/// Regions are many processes: one at a time is enough for a small machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Time for a region to form, on a machine that is busy.
pub const FORMED_WITHIN: Duration = Duration::from_secs(60);

/// Keeps other tests of this binary waiting.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The configuration of a server. Elections take longer than by default: many processes share a small machine.
pub fn server(name: &str, expect: usize, joins: Option<SocketAddr>, more: &str) -> String {
    format!(
        "name = \"{name}\"\nserver {{\n  enabled          = true\n  bootstrap_expect = {expect}\n  raft_multiplier  = 4\n{}{more}}}\n",
        join_block(joins)
    )
}

/// The configuration of a client.
pub fn client(name: &str, joins: Option<SocketAddr>) -> String {
    format!("name = \"{name}\"\nclient {{\n  enabled = true\n{}}}\n", join_block(joins))
}

fn join_block(joins: Option<SocketAddr>) -> String {
    let Some(addr) = joins else { return String::new() };
    format!("  server_join {{\n    retry_join     = [\"{addr}\"]\n    retry_interval = \"1s\"\n  }}\n")
}

/// Tells whether an agent knows who leads.
pub fn leader_of(agent: &Agent) -> Option<()> {
    let answer = http::request(agent.addr(), "GET", "/v1/status/leader", None).ok()?;
    (answer.status == 200 && answer.body.contains(':')).then_some(())
}

/// Servers and clients. The first server is named to the others and to the first client, which is named to the second.
pub struct Region {
    pub servers: Vec<Agent>,
    pub clients: Vec<Agent>,
    _alone: MutexGuard<'static, ()>,
}

impl Region {
    /// Starts a region and waits until all nodes are ready.
    pub fn start(servers: usize, clients: usize) -> Self {
        Self::start_with(servers, clients, "")
    }

    /// The same with more configuration for each agent.
    pub fn start_with(servers: usize, clients: usize, more: &str) -> Self {
        let alone = alone();
        let mut region = Self { servers: Vec::new(), clients: Vec::new(), _alone: alone };
        for at in 0..servers {
            let joins = region.servers.first().map(Agent::gossip_addr);
            let config = server(&format!("s{at}"), servers, joins, "") + more;
            region.servers.push(Agent::prepare(binary::path(), Kind::Member, &config));
        }
        for at in 0..clients {
            let joins = region.clients.last().or(region.servers.first()).map(Agent::gossip_addr);
            let config = client(&format!("c{at}"), joins) + more;
            region.clients.push(Agent::prepare(binary::path(), Kind::Member, &config));
        }
        region.launch_all();
        region.wait_until_settled();
        region
    }

    /// All agents.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.servers.iter().chain(&self.clients)
    }

    /// Starts every agent.
    pub fn launch_all(&mut self) {
        self.servers.iter_mut().chain(&mut self.clients).for_each(Agent::launch);
    }

    /// Kills every agent; tasks live.
    pub fn kill_all(&mut self) {
        self.servers.iter_mut().chain(&mut self.clients).for_each(Agent::kill);
    }

    /// Takes the addresses to join out of every configuration.
    pub fn forget_addresses(&self) {
        for agent in self.agents() {
            let path = agent.path().join("agent.hcl");
            let config = fs::read_to_string(&path).expect("a configuration");
            let kept = config.lines().filter(|line| !line.contains("retry_join"));
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            fs::write(&path, kept).expect("a configuration can be written");
        }
    }

    /// Waits until every agent knows a leader and every node is ready.
    pub fn wait_until_settled(&self) {
        for agent in self.agents() {
            wait::until_within(FORMED_WITHIN, "the agent knows a leader", || leader_of(agent));
        }
        wait::until_within(FORMED_WITHIN, "all nodes are ready", || {
            (self.ready_nodes() == self.clients.len()).then_some(())
        });
    }

    /// Counts the nodes that take work.
    pub fn ready_nodes(&self) -> usize {
        let answers =
            self.servers.iter().map(|server| http::request(server.addr(), "GET", "/v1/nodes", None));
        let Some(nodes) = answers.flatten().find(|answer| answer.status == 200) else { return 0 };
        let nodes = nodes.json();
        nodes.as_array().map_or(0, |nodes| nodes.iter().filter(|node| node["Status"] == "ready").count())
    }

    /// The server that leads.
    pub fn leader(&self) -> usize {
        wait::until("a server leads", || {
            self.servers.iter().position(|server| {
                let answer = http::request(server.addr(), "GET", "/v1/agent/self?stale", None);
                answer.is_ok_and(|answer| {
                    answer.status == 200 && answer.json()["stats"]["nomad"]["leader"] == "true"
                })
            })
        })
    }

    /// Registers a job with whichever agent takes it, as a user does who tries again.
    pub fn register_somewhere(&self, job: &Value) {
        let body = serde_json::json!({ "Job": job }).to_string();
        wait::until("the job is registered", || {
            self.agents().find_map(|agent| {
                let answer = http::request(agent.addr(), "PUT", "/v1/jobs", Some(&body)).ok()?;
                (answer.status == 200).then_some(())
            })
        });
    }

    /// The client that runs an allocation.
    pub fn client_of(&self, alloc: &Value) -> usize {
        let name = text(&alloc["NodeName"]);
        let number = name.strip_prefix('c').and_then(|number| number.parse().ok());
        number.expect("clients are named by their number")
    }

    /// The process of an allocation whose task has written its number first.
    pub fn pid_of(&self, alloc: &Value) -> u32 {
        let at = &self.clients[self.client_of(alloc)];
        let pid = wait::until("the task writes its number", || {
            at.output_of(alloc, "t").lines().next()?.trim().parse::<u32>().ok()
        });
        assert!(process::is_alive(pid));
        pid
    }
}
