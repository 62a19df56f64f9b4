//! Writes down what is to be seen of the cluster.

use std::{collections::BTreeMap, sync::Arc};

use chaos_check::{
    AgentView, LogPoint, MemberTable, NodeView, Observation, Phase, ProcessHealth, RaftView, Role, Rows,
    RunningTask, ServerView, Vote, WatchSeen,
};
use gossip_core::Status;
use gossip_driver::{Handle, PoolKind};
use model::{AllocId, NodeId, Text, Timestamp};
use raft::Leadership;
use server::Server;
use uuid::Uuid;

use crate::{
    agent::Nets,
    faults::Agent,
    machine::{EPOCH_NANOS, Machine},
    trace::Trace,
};

/// Remembers what was written down already.
#[derive(Default)]
pub struct Observer {
    /// The rows of each server, while its index stands still.
    rows: BTreeMap<(Agent, u32), Arc<Rows>>,
    /// How often each disk had changed when its log was last handed over.
    disks: BTreeMap<Agent, u64>,
    /// Up to which index each server's hashes were handed over.
    hashed: BTreeMap<(Agent, u32), u64>,
    /// A clock was wrong when they were last looked at.
    clocks_were_wrong: bool,
}

impl Observer {
    /// Looks at everything.
    pub fn look(
        &mut self,
        machines: &BTreeMap<Agent, Machine>,
        nets: &Nets,
        trace: &Trace,
        phase: Phase,
        watched: Vec<WatchSeen>,
        panics: Vec<String>,
    ) -> Observation {
        let disks: BTreeMap<Agent, u64> =
            machines.values().map(|machine| (machine.agent, machine.disk.changes())).collect();
        // Logs that all stand still were looked at.
        let moved = disks != self.disks;
        self.disks = disks;
        let mut seen = Observation { at: trace.now(), phase, watched, ..Observation::default() };
        let right = machines.values().all(|machine| machine.skew.nanos() == 0);
        // What a wrong clock said may come a little later.
        if right && !self.clocks_were_wrong {
            seen.wall = Some(Timestamp(EPOCH_NANOS + i64::try_from(trace.now().as_nanos()).unwrap_or(0)));
        }
        self.clocks_were_wrong = !right;
        for machine in machines.values() {
            let name = Text::from(machine.agent.to_string());
            seen.agents.push(AgentView {
                name: name.clone(),
                running: machine.parts().is_some() && machine.held_still == 0,
                left: machine.left,
                reachable: nets.conditions.is_reachable(machine.agent.ip()),
            });
            if matches!(machine.agent, Agent::Client(_)) {
                seen.nodes.push(node_view(machine, &name));
            }
            let Some(parts) = machine.parts() else { continue };
            seen.members.push(member_table(&name, &parts.gossip));
            if let Some(server) = &parts.server {
                let view = self.server_view(machine, &name, server, moved);
                let (term, head) = view
                    .raft
                    .as_ref()
                    .map_or((0, 0), |raft| (raft.term, raft.applied.map_or(0, |applied| applied.index)));
                trace.mix(&[term, head, view.hashes.last().map_or(0, |(_, hash)| u64::from(hash[0]))]);
                seen.servers.push(view);
            }
        }
        seen.health.push(ProcessHealth { agent: "simulation".into(), panics, ..ProcessHealth::default() });
        seen
    }

    fn server_view(&mut self, machine: &Machine, name: &Text, server: &Server, moved: bool) -> ServerView {
        let run = (machine.agent, machine.boots);
        let snapshot = server.snapshot();
        let fresh = |rows: &Arc<Rows>| rows.index == snapshot.index();
        let rows = match self.rows.get(&run).filter(|rows| fresh(rows)) {
            Some(rows) => rows.clone(),
            None => {
                // Servers at one index have the same rows, which the hashes prove.
                let other = self.rows.values().find(|rows| fresh(rows)).cloned();
                let rows = other.unwrap_or_else(|| Arc::new(Rows::of(&snapshot)));
                self.rows.retain(|(agent, _), _| *agent != machine.agent);
                self.rows.insert(run, rows.clone());
                rows
            }
        };
        let from = self.hashed.get(&run).copied();
        let hashes: Vec<(u64, [u8; 32])> = server.raft().with_state(|machine| {
            let window = machine.store().chain().window();
            let later = window.rev().take_while(|(index, _)| from.is_none_or(|from| *index > from));
            let mut later: Vec<_> = later.map(|(index, hash)| (index, hash.0)).collect();
            later.reverse();
            later
        });
        if let Some((last, _)) = hashes.last() {
            self.hashed.insert(run, *last);
        }
        ServerView {
            id: server.replica().raft_id(),
            agent: name.clone(),
            boot: machine.boots,
            cluster: server.cluster().map(|marker| Uuid::from_u128(marker.0)),
            raft: raft_view(server, moved.then(|| machine.disk.durable())),
            rows: Some(rows),
            hashes,
        }
    }
}

/// What a crash would leave of a server's log, and its vote.
type Durable = (Vec<(raft::LogPoint, u64)>, Option<raft::VoteRecord>);

/// Looks at a server's part in Raft; none when it has stopped and knows nothing of it any more.
fn raft_view(server: &Server, disk: Option<Durable>) -> Option<RaftView> {
    let status = server.raft().status();
    let me = server.replica().raft_id();
    let (term, leads) = match status.leadership {
        Leadership::Leader { term } => (term, true),
        Leadership::Follower { term, .. } | Leadership::Unknown { term } => (term, false),
        Leadership::Stopped => return None,
    };
    let votes = status.members.voter_ids().contains(&me);
    let role = match (leads, votes) {
        (true, _) => Role::Leader,
        (false, true) => Role::Follower,
        (false, false) => Role::Learner,
    };
    let place = |point: raft::LogPoint| LogPoint { term: point.term, index: point.index };
    let (log, vote) = disk.unwrap_or_default();
    Some(RaftView {
        role,
        term,
        vote: vote.map(|vote| Vote { term: vote.term, server: vote.node, elected: vote.committed }),
        committed: status.committed.map(place),
        applied: status.applied.map(place),
        log: log.into_iter().map(|(point, sum)| (place(point), sum)).collect(),
        voters: status.members.voters.clone(),
    })
}

fn node_view(machine: &Machine, name: &Text) -> NodeView {
    let task = |id: driver::TaskId| {
        let alloc = AllocId(Uuid::parse_str(id.alloc_id()).ok()?);
        Some(RunningTask { alloc, task: id.task().into(), launch: id.as_str().into() })
    };
    NodeView {
        id: NodeId(Uuid::from_bytes(machine.agent.node_id())),
        agent: name.clone(),
        boot: machine.boots,
        life: machine.lives,
        tasks: machine.tasks.running().into_iter().filter_map(task).collect(),
        listeners: Vec::new(),
        leftovers: Vec::new(),
    }
}

fn member_table(name: &Text, gossip: &Handle) -> MemberTable {
    let mut table = MemberTable { agent: name.clone(), ..MemberTable::default() };
    for member in gossip.members(PoolKind::Region).iter() {
        let Some(digest) = &member.digest else { continue };
        let list = match member.status {
            Status::Alive | Status::Suspect => &mut table.alive,
            Status::Failed => &mut table.failed,
            Status::Left => &mut table.left,
        };
        list.insert(digest.name.as_str().into());
    }
    table
}
