//! Looks at the region from outside, in the words of the properties.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chaos_check::{
    AgentView, LeftOver, MemberTable, Moment, NodeView, Observation, Phase, ProcessHealth, Rows, RunningTask,
    ServerView, WatchSeen,
};
use model::{NodeId, Text};

use crate::{
    census,
    cluster::Cluster,
    layout::{Agent, Part},
    process, rows,
};

/// Looks again and again, and remembers what makes that cheap.
pub struct Observer {
    cluster: Arc<Cluster>,
    rows: BTreeMap<Agent, Arc<Rows>>,
    node_ids: BTreeMap<Agent, NodeId>,
}

/// What whoever breaks things knows.
pub struct Known {
    /// When.
    pub at: Moment,
    /// Whether faults go on.
    pub phase: Phase,
    /// Who is hit by one.
    pub hit: Vec<Agent>,
    /// What watchers saw.
    pub watched: Vec<WatchSeen>,
    /// Also look for what is slow to find: mounts, groups, panics, members.
    pub thorough: bool,
}

impl Observer {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, rows: BTreeMap::new(), node_ids: BTreeMap::new() }
    }

    /// Looks once.
    pub fn look(&mut self, known: Known) -> Observation {
        let servers = self.servers();
        self.learn_nodes();
        let rows = servers.iter().filter_map(|server| server.rows.as_ref()).max_by_key(|rows| rows.index);
        let left = rows.filter(|_| known.thorough).map(|rows| self.leftovers(rows)).unwrap_or_default();
        Observation {
            at: known.at,
            phase: known.phase,
            agents: self.agents(&known.hit),
            nodes: self.nodes(&left),
            servers,
            members: if known.thorough { self.members() } else { Vec::new() },
            watched: known.watched,
            health: if known.thorough { self.health() } else { Vec::new() },
            ..Observation::default()
        }
    }

    fn agents(&self, hit: &[Agent]) -> Vec<AgentView> {
        let seen = self.cluster.layout.all().filter_map(|agent| {
            let one = self.cluster.agent(agent);
            (one.boot > 0).then(|| AgentView {
                name: agent.to_string().into(),
                running: one.works(),
                left: one.left,
                reachable: one.works() && !hit.contains(&agent),
            })
        });
        seen.collect()
    }

    fn servers(&mut self) -> Vec<ServerView> {
        let mut seen = Vec::new();
        for server in self.cluster.working_servers() {
            let boot = self.cluster.agent(server).boot;
            let Some(rows) = rows::read(&self.cluster, server, self.rows.get(&server)) else { continue };
            self.rows.insert(server, rows.clone());
            seen.push(ServerView {
                id: u64::from(server.0) + 1,
                agent: server.to_string().into(),
                boot,
                rows: Some(rows),
                ..ServerView::default()
            });
        }
        seen
    }

    /// The node ids of clients: from any server, once.
    fn learn_nodes(&mut self) {
        if self.node_ids.len() >= usize::from(self.cluster.layout.clients) {
            return;
        }
        for server in self.cluster.working_servers() {
            let Some(nodes) = self.cluster.get(server, "/v1/nodes?stale") else { continue };
            for node in nodes.as_array().into_iter().flatten() {
                let agent = node["Name"].as_str().and_then(|name| self.cluster.layout.named(name));
                let id = node["ID"].as_str().and_then(|id| id.parse().ok());
                self.node_ids.extend(agent.zip(id));
            }
            return;
        }
    }

    fn nodes(&self, left: &[LeftOver]) -> Vec<NodeView> {
        let tasks = process::tasks(&self.cluster.prefix);
        let clients =
            self.cluster.layout.clients().filter_map(|agent| Some((agent, self.node_ids.get(&agent)?)));
        let seen = clients.map(|(agent, id)| {
            let one = self.cluster.agent(agent);
            let data = one.data();
            let name = agent.to_string();
            let own = tasks.iter().filter(|task| task.node == name);
            let tasks = own.filter_map(|task| {
                Some(RunningTask {
                    alloc: task.alloc.parse().ok()?,
                    task: task.task.as_str().into(),
                    launch: format!("{}@{}", task.pid, task.started).into(),
                })
            });
            let text = data.to_string_lossy();
            NodeView {
                id: *id,
                agent: agent.to_string().into(),
                boot: one.boot,
                life: 0,
                tasks: tasks.collect(),
                listeners: Vec::new(),
                leftovers: left.iter().filter(|left| left.name.contains(&*text)).cloned().collect(),
            }
        });
        seen.collect()
    }

    /// Mounts of allocations that nobody knows. Those of known ones belong to their directories, which stay until they are
    /// collected. Control groups do not say here on whose machine they are; they are counted when everything was stopped.
    fn leftovers(&self, rows: &Rows) -> Vec<LeftOver> {
        let is_known =
            |found: &census::Found| found.alloc.parse().is_ok_and(|id| rows.allocs.contains_key(&id));
        let found = census::mounts(&self.cluster.root).into_iter().filter(|found| !is_known(found));
        let left = found.map(|found| LeftOver {
            kind: found.kind.into(),
            name: found.name.into(),
            alloc: found.alloc.parse().ok(),
        });
        left.collect()
    }

    fn members(&self) -> Vec<MemberTable> {
        let working = self.cluster.layout.members().filter(|agent| self.cluster.agent(*agent).works());
        let tables = working.filter_map(|agent| {
            let answer = self.cluster.get(agent, "/v1/agent/members")?;
            // Servers are listed by name and region, and clients are not listed for those who know Nomad's answer.
            let rows = answer["Members"].as_array()?.clone();
            let of = |status: &str| -> BTreeSet<Text> {
                let rows = rows.iter().filter(|row| row["Status"] == status);
                rows.filter_map(|row| Some(short(row["Name"].as_str()?))).collect()
            };
            let (alive, failed, left) = (of("alive"), of("failed"), of("left"));
            Some(MemberTable { agent: agent.to_string().into(), alive, failed, left })
        });
        tables.filter(|table| table.alive.len() > usize::from(self.cluster.layout.servers)).collect()
    }

    fn health(&self) -> Vec<ProcessHealth> {
        let seen = self.cluster.layout.all().filter(|agent| self.cluster.agent(*agent).boot > 0);
        let health = seen.map(|agent| {
            let pid = self.cluster.agent(agent).pid();
            // Memory grows with what users write, and says nothing here.
            ProcessHealth {
                agent: agent.to_string().into(),
                panics: self.cluster.panics(agent),
                files: pid.and_then(process::files),
                ..ProcessHealth::default()
            }
        });
        health.collect()
    }
}

/// Members are called `name.region`.
fn short(name: &str) -> Text {
    name.split('.').next().unwrap_or(name).into()
}

/// Status of each node as the region has it now. What a server has that catches up from nothing is long past.
#[must_use]
pub fn statuses(cluster: &Cluster, avoid: &[Agent]) -> Option<Vec<(Agent, String)>> {
    let working = cluster.working_servers();
    let (good, other): (Vec<Agent>, Vec<Agent>) =
        working.into_iter().partition(|server| !avoid.contains(server));
    let seen = good.into_iter().chain(other).find_map(|server| cluster.statuses(server))?;
    Some(seen.into_iter().filter(|(agent, _)| cluster.part(*agent) == Part::Client).collect())
}
