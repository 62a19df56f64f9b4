//! Which nodes are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{EvalTrigger, Node, NodeEvent, NodeId, NodeStatus};
use protocol::{Command, NodeStatusUpdate};
use state::{ChangedRow, Changes, State};

use crate::{Moment, for_node};

/// Settings of the watch over nodes.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Time after which a node is down that gossip calls dead, that has no session, and whose machine does not answer
    /// either or says that the agent is not there; counted from when it was last heard in a session.
    pub grace: Duration,
    /// The same for one whose machine answers, or of whose machine nothing is known: its agent may only stand still.
    pub stall_grace: Duration,
    /// Time without a session after which a node is down whatever gossip says: one that no server hears can not be
    /// given work, and what it ran must go on elsewhere.
    pub silent_grace: Duration,
    /// Time that nodes have to come back after the leader changed: their sessions are with other servers, which tell
    /// of them one by one.
    pub failover_grace: Duration,
    /// Nodes that change in one command at most; the others follow in the next one.
    pub updates_max: usize,
}

impl Config {
    /// Down as soon as both signals agree and the machine is gone: it takes gossip longer than the grace to call a node
    /// dead. The grace covers a client that changes servers, which takes it well under a second. An agent that stands still
    /// for 5 s must be borne, also where it then needs seconds to find a server in a network that loses packets.
    pub const STANDARD: Self = Self {
        grace: Duration::from_millis(1_500),
        stall_grace: Duration::from_secs(10),
        silent_grace: Duration::from_secs(30),
        failover_grace: Duration::from_secs(10),
        updates_max: 512,
    };
}

/// Identifies a server's session with a node: the server, and a number of its own.
pub type SessionId = (u64, u64);

/// A node that was silent for so long when its session ended did not end it to change servers: its machine is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// What is known of the machine of a node that is not heard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Machine {
    /// It was not looked at since the node fell silent.
    #[default]
    Unknown,
    /// It answers, and the agent's ports are open: the agent may only stand still.
    Standing,
    /// It does not answer, or says that the agent is not there.
    Gone,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A server has a live session with a node.
    SessionOpened(NodeId, SessionId),
    /// The session ended, and the node was last heard in it at that moment.
    SessionClosed(NodeId, SessionId, Duration),
    /// A server holds exactly these sessions.
    Sessions(u64, &'a BTreeSet<(NodeId, u64)>),
    /// A server is gone since some moment, and its sessions with it.
    ServerLost(u64, Duration),
    /// Every server has told which sessions it holds: who has none has none.
    AllTold,
    /// Gossip calls the node dead.
    GossipDead(NodeId),
    /// Gossip calls the node alive.
    GossipAlive(NodeId),
    /// Somebody looked at the machine of a node, as [`Liveness::next_look`] asked.
    Looked(NodeId, Machine),
    /// A command was applied.
    Applied(&'a Changes),
    /// Time passed.
    Tick,
}

/// The watch over nodes: the leader marks one down only when no server holds a session with it for the grace time. A
/// session overrules gossip; gossip alone never takes a node down, it only shortens the wait. Silence does not tell an agent
/// that died from one that stands still, its machine does: so that is looked at before the short wait counts.
#[derive(Debug)]
pub struct Liveness {
    config: Config,
    nodes: BTreeMap<NodeId, Watched>,
    /// Nodes without a session, by when they are to be looked at again.
    deadlines: BTreeSet<(Duration, NodeId)>,
    /// Nodes with a session whose record does not say ready yet.
    returned: BTreeSet<NodeId>,
    /// Nodes whose machines are to be looked at.
    looks: BTreeSet<NodeId>,
}

#[derive(Debug, Default)]
struct Watched {
    sessions: BTreeSet<SessionId>,
    silent_since: Option<Duration>,
    deadline: Option<Duration>,
    gossip_dead: bool,
    machine: Machine,
}

impl Liveness {
    /// Makes the watch of the nodes in a state. Each has the time of a failover to be heard of.
    pub fn new(config: Config, state: &State, now: &Moment<'_>) -> Self {
        let mut liveness = Self {
            config,
            nodes: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            returned: BTreeSet::new(),
            looks: BTreeSet::new(),
        };
        // The time counts as if it had begun so that it ends when the failover's grace does.
        let silent_since = now.elapsed + config.failover_grace;
        for node in state.nodes().filter(|node| expected(node)) {
            liveness.silence(node.id, silent_since);
        }
        liveness
    }

    /// Takes in what happened and returns what to propose.
    pub fn step(&mut self, state: &State, now: &mut Moment<'_>, input: Input<'_>) -> Vec<Command> {
        match input {
            Input::SessionOpened(id, session) => self.open(id, session),
            Input::SessionClosed(id, session, heard) => {
                self.close(id, heard.min(now.elapsed), |held| held == session);
                let fell_silent = heard.saturating_add(LOOK_AFTER) <= now.elapsed;
                if fell_silent && self.nodes.get(&id).is_some_and(|node| node.silent_since.is_some()) {
                    self.looks.insert(id);
                }
            }
            Input::Sessions(server, held) => {
                held.iter().for_each(|(id, number)| self.open(*id, (server, *number)));
                let other = |id, (of, number): SessionId| of == server && !held.contains(&(id, number));
                self.close_all(now.elapsed, other);
            }
            Input::ServerLost(server, since) => self.close_all(since, |_, (of, _)| of == server),
            Input::AllTold => self.end_failover(now.elapsed),
            Input::GossipDead(id) => self.hear_gossip(id, true),
            Input::GossipAlive(id) => self.hear_gossip(id, false),
            Input::Looked(id, machine) => self.looked(id, machine),
            Input::Applied(changes) => self.applied(changes, now.elapsed),
            Input::Tick => {}
        }
        self.decide(state, now)
    }

    /// Returns the wait until [`Input::Tick`] is due; none when every node has a session.
    pub fn next_tick(&self, now: &Moment<'_>) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| at.saturating_sub(now.elapsed))
    }

    /// Takes a node whose machine is to be looked at; [`Input::Looked`] answers. Whoever calls it may look at a few at a
    /// time: what was not looked at waits for longer.
    pub fn next_look(&mut self) -> Option<NodeId> {
        self.looks.pop_first()
    }

    /// Tells whether any server holds a session with a node.
    pub fn has_session(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| !node.sessions.is_empty())
    }

    fn open(&mut self, id: NodeId, session: SessionId) {
        let node = self.nodes.entry(id).or_default();
        if !node.sessions.insert(session) {
            return;
        }
        if mutants::on!("liveness-session-does-not-count") {
            return;
        }
        node.silent_since = None;
        node.machine = Machine::Unknown;
        if let Some(at) = node.deadline.take() {
            self.deadlines.remove(&(at, id));
        }
        self.looks.remove(&id);
        self.returned.insert(id);
    }

    fn close(&mut self, id: NodeId, elapsed: Duration, closes: impl Fn(SessionId) -> bool) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let before = node.sessions.len();
        node.sessions.retain(|session| !closes(*session));
        if before > 0 && node.sessions.is_empty() {
            self.silence(id, elapsed);
        }
    }

    fn close_all(&mut self, since: Duration, closes: impl Fn(NodeId, SessionId) -> bool) {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close(id, since, |session| closes(id, session)));
    }

    /// Ends the time that nodes were given because sessions might be with servers that had not told yet.
    fn end_failover(&mut self, elapsed: Duration) {
        let waiting = |node: &Watched| node.silent_since.is_some_and(|since| since > elapsed);
        let ids: Vec<_> = self.nodes.iter().filter(|(_, node)| waiting(node)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.silence(id, elapsed));
    }

    fn silence(&mut self, id: NodeId, since: Duration) {
        self.returned.remove(&id);
        let node = self.nodes.entry(id).or_default();
        node.silent_since = Some(since);
        node.machine = Machine::Unknown;
        if node.gossip_dead {
            self.looks.insert(id);
        }
        self.set_deadline(id);
    }

    fn set_deadline(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(at) = node.deadline.take() {
            self.deadlines.remove(&(at, id));
        }
        let Some(since) = node.silent_since else { return };
        let at = since
            + if mutants::on!("liveness-without-grace") {
                Duration::ZERO
            } else {
                match (node.gossip_dead, node.machine) {
                    (true, Machine::Gone) => self.config.grace,
                    (true, Machine::Standing | Machine::Unknown) => self.config.stall_grace,
                    (false, _) => self.config.silent_grace,
                }
            };
        node.deadline = Some(at);
        self.deadlines.insert((at, id));
    }

    fn hear_gossip(&mut self, id: NodeId, dead: bool) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        // The word is kept while a session overrules it: should that end, the two signals are there.
        if node.gossip_dead != dead {
            node.gossip_dead = dead;
            if !dead {
                node.machine = Machine::Unknown;
                self.looks.remove(&id);
            } else if node.silent_since.is_some() && node.machine == Machine::Unknown {
                self.looks.insert(id);
            }
            self.set_deadline(id);
        }
    }

    fn looked(&mut self, id: NodeId, machine: Machine) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        // One that has a session again needs nobody's word.
        if node.silent_since.is_some() && node.deadline.is_some() {
            node.machine = machine;
            self.set_deadline(id);
        }
    }

    fn applied(&mut self, changes: &Changes, elapsed: Duration) {
        for row in &changes.rows {
            let ChangedRow::Node { before, after } = row else { continue };
            match (before, after) {
                (_, Some(node))
                    if self.nodes.get(&node.id).is_some_and(|known| !known.sessions.is_empty()) =>
                {
                    if node.status != NodeStatus::Ready {
                        self.returned.insert(node.id);
                    }
                }
                // A record that came without a session: whoever made it has to be heard of.
                (_, Some(node)) if expected(node) => {
                    if self.nodes.get(&node.id).is_none_or(|known| known.deadline.is_none()) {
                        self.silence(node.id, elapsed);
                    }
                }
                (_, Some(_)) => {}
                (Some(node), None) => self.forget(node.id),
                (None, None) => {}
            }
        }
    }

    fn forget(&mut self, id: NodeId) {
        self.returned.remove(&id);
        self.looks.remove(&id);
        if let Some(at) = self.nodes.remove(&id).and_then(|node| node.deadline) {
            self.deadlines.remove(&(at, id));
        }
    }

    /// Returns one command for all nodes whose status has to change.
    fn decide(&mut self, state: &State, now: &mut Moment<'_>) -> Vec<Command> {
        let (mut updates, mut evals) = (Vec::new(), Vec::new());
        let mut change = |node: &Node, status: NodeStatus, message: Option<&str>, now: &mut Moment<'_>| {
            updates.push(NodeStatusUpdate {
                node_id: node.id,
                status,
                event: message.map(|message| event(message, now)),
            });
            evals.extend(for_node(state, node, EvalTrigger::NodeUpdate, now));
            updates.len()
        };
        let mut count = 0;
        while count < self.config.updates_max {
            let Some(id) = self.returned.pop_first() else { break };
            if let Some(node) = state.node(id).filter(|node| node.status != NodeStatus::Ready) {
                count = change(node, NodeStatus::Ready, message_of_return(node), now);
            }
        }
        while count < self.config.updates_max {
            let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now.elapsed) else { break };
            self.deadlines.remove(&(at, id));
            if let Some(watched) = self.nodes.get_mut(&id) {
                watched.deadline = None;
            }
            if let Some(node) = state.node(id).filter(|node| expected(node)) {
                count = change(node, absence(state, node), Some("Node heartbeat missed"), now);
            }
        }
        if updates.is_empty() {
            return Vec::new();
        }
        vec![Command::UpdateNodeStatus { updates, evals, now: now.wall }]
    }
}

/// Tells whether the servers believe that the node is there.
fn expected(node: &Node) -> bool {
    match node.status {
        NodeStatus::Ready | NodeStatus::Initializing => true,
        NodeStatus::Down | NodeStatus::Disconnected => false,
    }
}

/// Decides what a silent node is: disconnected when something on it may come back, else down.
fn absence(state: &State, node: &Node) -> NodeStatus {
    let may_return = state.allocs_by_node(node.id).filter(|alloc| !alloc.terminal()).any(|alloc| {
        alloc.task_group().disconnect.as_ref().is_some_and(|disconnect| disconnect.lost_after.is_some())
    });
    if may_return { NodeStatus::Disconnected } else { NodeStatus::Down }
}

/// Returns what is noted on a node that is ready; a new one has its registration noted already.
fn message_of_return(node: &Node) -> Option<&'static str> {
    match node.status {
        NodeStatus::Initializing => None,
        NodeStatus::Ready | NodeStatus::Down | NodeStatus::Disconnected => {
            Some("Node reregistered by heartbeat")
        }
    }
}

fn event(message: &str, now: &Moment<'_>) -> NodeEvent {
    NodeEvent {
        message: message.into(),
        subsystem: "Cluster".into(),
        timestamp: now.wall,
        ..NodeEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Clock, Region, job};

    const SECOND: Duration = Duration::from_secs(1);
    const SESSION: SessionId = (1, 1);
    /// The node was heard until the end; what is in the future counts as the present.
    const JUST: Duration = Duration::MAX;

    #[test]
    fn a_node_is_down_when_both_signals_agree_and_its_jobs_are_looked_at() {
        let (mut region, mut clock, mut liveness, id) = started();
        region.register(job("web", "service", 50));
        region.place("web", 0, 1);
        assert!(
            liveness
                .step(region.state(), &mut clock.moment(), Input::SessionClosed(id, SESSION, JUST))
                .is_empty()
        );
        assert!(liveness.step(region.state(), &mut clock.moment(), Input::GossipDead(id)).is_empty());
        assert_eq!(liveness.next_tick(&clock.moment()), Some(Config::STANDARD.stall_grace));
        assert_eq!(liveness.next_look(), Some(id));
        let gone = Input::Looked(id, Machine::Gone);
        assert!(liveness.step(region.state(), &mut clock.moment(), gone).is_empty());
        assert_eq!(liveness.next_tick(&clock.moment()), Some(Config::STANDARD.grace));
        clock.pass(2 * SECOND);
        let commands = liveness.step(region.state(), &mut clock.moment(), Input::Tick);
        let [Command::UpdateNodeStatus { updates, evals, .. }] = &commands[..] else { panic!("it is down") };
        assert_eq!((updates[0].node_id, updates[0].status), (id, NodeStatus::Down));
        assert_eq!(evals.iter().map(|eval| eval.job.id.as_str()).collect::<Vec<_>>(), ["web"]);
    }

    #[test]
    fn gossip_alone_takes_nobody_down_and_a_session_overrules_it() {
        let (region, mut clock, mut liveness, id) = started();
        liveness.step(region.state(), &mut clock.moment(), Input::GossipDead(id));
        clock.pass(3600 * SECOND);
        assert!(liveness.step(region.state(), &mut clock.moment(), Input::Tick).is_empty());
        liveness.step(region.state(), &mut clock.moment(), Input::SessionClosed(id, SESSION, JUST));
        clock.pass(SECOND);
        liveness.step(region.state(), &mut clock.moment(), Input::GossipDead(id));
        liveness.step(region.state(), &mut clock.moment(), Input::SessionOpened(id, (2, 7)));
        clock.pass(3600 * SECOND);
        assert!(liveness.step(region.state(), &mut clock.moment(), Input::Tick).is_empty());
    }

    #[test]
    fn a_node_that_comes_back_is_ready_again() {
        let (mut region, mut clock, mut liveness, id) = started();
        liveness.step(region.state(), &mut clock.moment(), Input::SessionClosed(id, SESSION, JUST));
        clock.pass(31 * SECOND);
        for command in liveness.step(region.state(), &mut clock.moment(), Input::Tick) {
            region.apply(command);
        }
        assert_eq!(region.state().node(id).expect("it is there").status, NodeStatus::Down);
        liveness.step(region.state(), &mut clock.moment(), Input::Applied(region.last_changes()));
        let commands = liveness.step(region.state(), &mut clock.moment(), Input::SessionOpened(id, SESSION));
        for command in commands {
            region.apply(command);
        }
        assert_eq!(region.state().node(id).expect("it is there").status, NodeStatus::Ready);
    }

    #[test]
    fn a_new_leader_waits_for_the_other_servers_to_tell() {
        let region = Region::with_nodes(1);
        let mut clock = Clock::default();
        let mut liveness = Liveness::new(Config::STANDARD, region.state(), &clock.moment());
        clock.pass(Config::STANDARD.silent_grace);
        assert!(liveness.step(region.state(), &mut clock.moment(), Input::Tick).is_empty());
        clock.pass(Config::STANDARD.failover_grace);
        assert_eq!(liveness.step(region.state(), &mut clock.moment(), Input::Tick).len(), 1);
    }

    #[test]
    fn the_sessions_of_a_lost_server_are_gone() {
        let (region, mut clock, mut liveness, id) = started();
        liveness.step(region.state(), &mut clock.moment(), Input::SessionOpened(id, (2, 1)));
        liveness.step(region.state(), &mut clock.moment(), Input::ServerLost(1, Duration::ZERO));
        assert!(liveness.has_session(id));
        liveness.step(region.state(), &mut clock.moment(), Input::ServerLost(2, Duration::ZERO));
        assert!(!liveness.has_session(id));
        clock.pass(31 * SECOND);
        assert_eq!(liveness.step(region.state(), &mut clock.moment(), Input::Tick).len(), 1);
    }

    #[test]
    fn gossip_that_came_before_the_session_ended_counts() {
        let (region, mut clock, mut liveness, id) = started();
        liveness.step(region.state(), &mut clock.moment(), Input::GossipDead(id));
        clock.pass(10 * SECOND);
        liveness.step(region.state(), &mut clock.moment(), Input::SessionClosed(id, SESSION, JUST));
        liveness.step(region.state(), &mut clock.moment(), Input::Looked(id, Machine::Gone));
        assert_eq!(liveness.next_tick(&clock.moment()), Some(Config::STANDARD.grace));
        liveness.step(region.state(), &mut clock.moment(), Input::GossipAlive(id));
        assert_eq!(liveness.next_tick(&clock.moment()), Some(Config::STANDARD.silent_grace));
    }

    #[test]
    fn a_full_list_replaces_what_a_server_held() {
        let (region, mut clock, mut liveness, id) = started();
        let held = BTreeSet::from([(id, 9)]);
        liveness.step(region.state(), &mut clock.moment(), Input::Sessions(1, &held));
        liveness.step(region.state(), &mut clock.moment(), Input::SessionClosed(id, SESSION, JUST));
        assert!(liveness.has_session(id));
        liveness.step(region.state(), &mut clock.moment(), Input::Sessions(2, &BTreeSet::new()));
        assert!(liveness.has_session(id), "another server's list is its own");
        liveness.step(region.state(), &mut clock.moment(), Input::Sessions(1, &BTreeSet::new()));
        assert!(!liveness.has_session(id));
    }

    #[test]
    fn a_failover_ends_when_every_server_has_told() {
        let region = Region::with_nodes(1);
        let mut clock = Clock::default();
        let mut liveness = Liveness::new(Config::STANDARD, region.state(), &clock.moment());
        let id = region.node_id(0);
        liveness.step(region.state(), &mut clock.moment(), Input::GossipDead(id));
        liveness.step(region.state(), &mut clock.moment(), Input::AllTold);
        assert_eq!(liveness.next_look(), Some(id), "nobody looked at it for this leader");
        liveness.step(region.state(), &mut clock.moment(), Input::Looked(id, Machine::Gone));
        assert_eq!(liveness.next_tick(&clock.moment()), Some(Config::STANDARD.grace));
    }

    #[test]
    fn the_grace_counts_from_when_the_node_was_last_heard() {
        let (region, mut clock, mut liveness, id) = started();
        clock.pass(10 * SECOND);
        let heard = clock.moment().elapsed;
        clock.pass(3 * SECOND);
        let closed = Input::SessionClosed(id, SESSION, heard);
        assert!(liveness.step(region.state(), &mut clock.moment(), closed).is_empty());
        assert_eq!(liveness.next_look(), Some(id), "its machine is looked at before gossip has its verdict");
        liveness.step(region.state(), &mut clock.moment(), Input::Looked(id, Machine::Gone));
        let commands = liveness.step(region.state(), &mut clock.moment(), Input::GossipDead(id));
        assert_eq!(commands.len(), 1, "it was silent for longer than the grace");
    }

    #[test]
    fn an_agent_that_may_only_stand_still_gets_the_longer_grace() {
        for looked in [None, Some(Machine::Standing)] {
            let (region, mut clock, mut liveness, id) = started();
            let heard = clock.moment().elapsed;
            clock.pass(4 * SECOND);
            liveness.step(region.state(), &mut clock.moment(), Input::SessionClosed(id, SESSION, heard));
            liveness.step(region.state(), &mut clock.moment(), Input::GossipDead(id));
            if let Some(machine) = looked {
                liveness.step(region.state(), &mut clock.moment(), Input::Looked(id, machine));
            }
            clock.pass(5 * SECOND);
            assert!(liveness.step(region.state(), &mut clock.moment(), Input::Tick).is_empty());
            clock.pass(SECOND);
            assert_eq!(liveness.step(region.state(), &mut clock.moment(), Input::Tick).len(), 1);
        }
    }

    #[test]
    fn what_was_seen_of_a_machine_counts_for_one_silence() {
        let (region, mut clock, mut liveness, id) = started();
        liveness.step(region.state(), &mut clock.moment(), Input::GossipDead(id));
        liveness.step(region.state(), &mut clock.moment(), Input::SessionClosed(id, SESSION, JUST));
        assert_eq!(liveness.next_look(), Some(id));
        liveness.step(region.state(), &mut clock.moment(), Input::SessionOpened(id, (2, 7)));
        liveness.step(region.state(), &mut clock.moment(), Input::Looked(id, Machine::Gone));
        liveness.step(region.state(), &mut clock.moment(), Input::SessionClosed(id, (2, 7), JUST));
        assert_eq!(liveness.next_tick(&clock.moment()), Some(Config::STANDARD.stall_grace));
        assert_eq!((liveness.next_look(), liveness.next_look()), (Some(id), None));
    }

    /// A region with one node that has a session.
    fn started() -> (Region, Clock, Liveness, NodeId) {
        let region = Region::with_nodes(1);
        let mut clock = Clock::default();
        let mut liveness = Liveness::new(Config::STANDARD, region.state(), &clock.moment());
        let id = region.node_id(0);
        liveness.step(region.state(), &mut clock.moment(), Input::SessionOpened(id, SESSION));
        (region, clock, liveness, id)
    }
}
