//! The group of servers: who is in it, how they are, and what the leader and operators change about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use control::autopilot::{Autopilot, Presence, Seen, Step, View};
use model::Timestamp;
use raft::{ChangeError, Leadership, Peer};

use crate::{
    MemberStatus, Replica, Server, ServerMember,
    asks::{Answer, Ask},
    forward::{Again, settled},
    members::Servers,
    server::{Inner, SubmitError},
};

/// Time between looks at the servers; what gossip says of them is looked at as it comes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Wait after a change that could not be made.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long one change may take. It is not taken back then, but looked at again.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a newcomer may take to say that it is there.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// How long another server may take to become leader when it is asked to.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between looks for a voter that answers.
const SUCCESSOR_PAUSE: Duration = Duration::from_millis(25);
/// Servers that are asked in turn to take over from a leader that leaves.
const TRANSFERS_MAX: usize = 3;
/// How often a server that leaves hands over; in an uneasy group it may be elected once more before it is out.
const HAND_OVERS_MAX: usize = 4;

/// A member of the group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupServer {
    /// Its number in the group.
    pub raft_id: u64,
    /// Who it is and where; none for a record that was not made by a server of ours.
    pub replica: Option<Replica>,
    /// The name in the record.
    pub name: String,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it votes.
    pub voter: bool,
}

/// How the group is, as its leader sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// Whether every member is healthy.
    pub healthy: bool,
    /// How many healthy voters may fail before nothing can be agreed on.
    pub failure_tolerance: usize,
    /// The members.
    pub servers: Vec<ServerHealth>,
}

/// How one member of the group is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerHealth {
    /// Which.
    pub server: GroupServer,
    /// What gossip says of it; none when gossip does not know it.
    pub member: Option<ServerMember>,
    /// Whether it answers and keeps up.
    pub healthy: bool,
    /// How long ago it answered the leader; none when it never did.
    pub last_contact: Option<Duration>,
    /// The term of its last entry, as far as the leader knows.
    pub last_term: u64,
    /// Its last entry, as far as the leader knows.
    pub last_index: u64,
    /// Since when it has been healthy, or not.
    pub stable_since: Timestamp,
}

/// Why the group was not changed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Another server leads, or none.
    #[error("this server is not the leader")]
    NotLeader,
    /// There is no such member.
    #[error("server {0} is not a member of the group")]
    NoSuchServer(u64),
    /// The group can not be changed so.
    #[error("{0}")]
    Refused(String),
    /// It may have happened.
    #[error("the group may or may not have been changed: {0}")]
    Unknown(String),
}

impl From<ChangeError> for GroupError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotLeader { .. } => Self::NotLeader,
            ChangeError::Refused { reason } => Self::Refused(reason),
            ChangeError::Unknown | ChangeError::Stopped { .. } => Self::Unknown(error.to_string()),
        }
    }
}

impl From<SubmitError> for GroupError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::NotLeader => Self::NotLeader,
            SubmitError::Unknown => Self::Unknown(error.to_string()),
            SubmitError::Refused(_) | SubmitError::Unavailable(_) => Self::Refused(error.to_string()),
        }
    }
}

impl Server {
    /// Lists the members of the group, as this server knows it, and the index of the entry that made them so.
    pub fn group(&self) -> (Vec<GroupServer>, u64) {
        let status = self.inner.raft.status();
        let leader = self.inner.raft.leader().map(|leader| leader.id);
        (servers_of(&status.members, leader), status.members_index)
    }

    /// Tells how the group is; none where this server does not lead.
    pub fn autopilot_health(&self) -> Option<Health> {
        if self.is_leader() { self.inner.health.lock().clone() } else { None }
    }

    /// Hands leadership to another voter: to this one, or to the one that is least behind. Returns who leads then.
    ///
    /// # Errors
    ///
    /// When this server does not lead, the other is no voter, or it did not take over in time.
    pub async fn transfer_leadership(&self, to: Option<u64>) -> Result<u64, GroupError> {
        let target = match to {
            Some(to) => to,
            None => self.inner.successors().await.first().copied().ok_or_else(no_successor)?,
        };
        self.inner.transfer(target).await?;
        Ok(target)
    }

    /// Takes a server out of the group, voter or not, as operators do with one that is gone.
    ///
    /// # Errors
    ///
    /// When this server does not lead, there is no such member, or the others could not agree on it in time.
    pub async fn remove_server(&self, raft_id: u64) -> Result<(), GroupError> {
        if !self.inner.raft.members().peers.contains_key(&raft_id) {
            return Err(GroupError::NoSuchServer(raft_id));
        }
        in_time(self.inner.raft.remove(raft_id)).await
    }

    /// Leaves the group for good: hands leadership over, and has the others take this server out. One that is alone, or in
    /// no group, has nothing to leave.
    ///
    /// # Errors
    ///
    /// When the others could not agree on it; then they notice in time that this server is gone.
    pub async fn leave(&self) -> Result<(), GroupError> {
        let inner = &self.inner;
        let (me, members) = (inner.me.raft_id(), inner.raft.members());
        let others = members.voter_ids().into_iter().filter(|id| *id != me).count();
        if others == 0 || !members.peers.contains_key(&me) {
            return Ok(());
        }
        for _ in 0..HAND_OVERS_MAX {
            if inner.raft.is_leader() {
                inner.hand_over().await?;
            }
            match inner.at_leader(Ask::Leave { raft_id: me }, Again::Harmless).await? {
                // It came to lead meanwhile.
                Answer::Denied { .. } if inner.raft.is_leader() => {}
                answer => {
                    settled(answer)?;
                    tracing::info!("left the group of servers");
                    return Ok(());
                }
            }
        }
        Err(GroupError::Refused("the others made this server their leader again and again".to_owned()))
    }
}

impl Inner {
    /// Has one of the others lead.
    async fn hand_over(&self) -> Result<(), GroupError> {
        let mut handed_over = Err(no_successor());
        for successor in self.successors().await.into_iter().take(TRANSFERS_MAX) {
            handed_over = self.transfer(successor).await;
            if handed_over.is_ok() {
                break;
            }
        }
        handed_over
    }

    /// Lists the other voters that answer, the one that is least behind first. A leader that was just elected has to hear
    /// from them first.
    async fn successors(&self) -> Vec<u64> {
        /// One that has been silent for longer would not take over.
        const SILENCE_MAX: Duration = Duration::from_secs(1);
        let me = self.me.raft_id();
        let deadline = self.env.now() + TRANSFER_TIMEOUT;
        loop {
            let status = self.raft.status();
            let answers = |id: &u64| status.answered.get(id).is_some_and(|ago| *ago <= SILENCE_MAX);
            let voters = status.members.voter_ids();
            let mut able: Vec<u64> = voters.into_iter().filter(|id| *id != me && answers(id)).collect();
            able.sort_by_key(|id| std::cmp::Reverse(status.matched.get(id).copied().flatten()));
            if !able.is_empty() || self.env.now() >= deadline {
                return able;
            }
            self.env.sleep(SUCCESSOR_PAUSE).await;
        }
    }

    async fn transfer(&self, to: u64) -> Result<(), GroupError> {
        let mut leadership = self.raft.leadership();
        self.raft.transfer_leader(to).await?;
        let other = leadership.wait_for(|current| match current {
            Leadership::Follower { .. } | Leadership::Stopped => true,
            Leadership::Leader { .. } | Leadership::Unknown { .. } => false,
        });
        match tokio::time::timeout(TRANSFER_TIMEOUT, other).await {
            Ok(_) => Ok(()),
            Err(_) => Err(GroupError::Unknown(format!("server {to} did not take over in time"))),
        }
    }
}

fn no_successor() -> GroupError {
    GroupError::Refused("there is no other voter that answers".to_owned())
}

async fn in_time(change: impl Future<Output = Result<u64, ChangeError>>) -> Result<(), GroupError> {
    match tokio::time::timeout(STEP_TIMEOUT, change).await {
        Ok(changed) => Ok(changed.map(drop)?),
        Err(_) => Err(GroupError::Unknown("the servers did not agree on it in time".to_owned())),
    }
}

/// Keeps the group as autopilot decides, for as long as this server leads in this term.
pub(crate) async fn keep(inner: Arc<Inner>, term: u64) {
    let mut autopilot = Autopilot::default();
    let mut leadership = inner.raft.leadership();
    let mut gossip = inner.gossip.follow();
    let started = inner.env.now();
    while *leadership.borrow_and_update() == (Leadership::Leader { term }) {
        let servers = gossip.borrow_and_update().clone();
        let elapsed = inner.env.now().saturating_duration_since(started);
        let step = look(&inner, &mut autopilot, &servers, elapsed);
        let mut wait = LOOK_EVERY;
        if let Some(step) = step {
            match perform(&inner, step, &servers).await {
                Ok(()) => {
                    tracing::info!(?step, "group of servers changed");
                    continue;
                }
                Err(error) => {
                    tracing::warn!(?step, %error, "group of servers could not be changed");
                    wait = RETRY_PAUSE;
                }
            }
        }
        tokio::select! {
            biased;
            changed = leadership.changed() => if changed.is_err() { return },
            changed = gossip.changed() => if changed.is_err() { return },
            () = inner.env.sleep(wait) => {}
        }
    }
}

/// Looks at the servers, notes how they are, and returns what is to be changed.
fn look(inner: &Inner, autopilot: &mut Autopilot, servers: &Servers, elapsed: Duration) -> Option<Step> {
    let snapshot = inner.hub.snapshot();
    let status = inner.raft.status();
    let (voters, learners) = (status.members.voter_ids(), status.members.learner_ids());
    let seen = seen(inner, &status, servers);
    let view = View {
        config: snapshot.autopilot_config(),
        heartbeat: inner.heartbeat,
        leader: inner.me.raft_id(),
        changing: status.members.voters.len() > 1,
        voters: &voters,
        learners: &learners,
        last_log: status.last_log.unwrap_or(0),
        servers: &seen,
        expect: inner.config.bootstrap_expect,
    };
    let step = autopilot.step(elapsed, &view);
    let health = autopilot.health(&view);
    let by_id: BTreeMap<u64, _> = health.servers.iter().map(|server| (server.raft_id, server)).collect();
    let wall = Timestamp(inner.env.wall());
    let members = servers_of(&status.members, Some(inner.me.raft_id())).into_iter().map(|server| {
        let how = by_id.get(&server.raft_id);
        let ago = how.map_or(Duration::ZERO, |how| elapsed.saturating_sub(how.since));
        let me = server.leader;
        let last = if me { status.applied } else { status.matched.get(&server.raft_id).copied().flatten() };
        let replica = server.replica.as_ref();
        let member = replica.and_then(|replica| servers.get(&replica.node_id)).cloned();
        let answered = status.answered.get(&server.raft_id).copied();
        ServerHealth {
            healthy: how.is_some_and(|how| how.healthy),
            last_contact: if me { Some(Duration::ZERO) } else { answered },
            last_term: last.map_or(0, |last| last.term),
            last_index: last.map_or(0, |last| last.index),
            stable_since: Timestamp(wall.0 - i64::try_from(ago.as_nanos()).unwrap_or_default()),
            member,
            server,
        }
    });
    *inner.health.lock() = Some(Health {
        healthy: health.healthy,
        failure_tolerance: health.failure_tolerance,
        servers: members.collect(),
    });
    step
}

fn seen(inner: &Inner, status: &raft::Status, servers: &Servers) -> Vec<Seen> {
    let replicas: BTreeMap<u64, Replica> =
        status.members.peers.values().filter_map(|peer| Some((peer.id, Replica::from_peer(peer)?))).collect();
    let gossiped: BTreeMap<u64, &ServerMember> =
        servers.values().map(|server| (server.replica.raft_id(), server)).collect();
    let ids: BTreeSet<u64> = status.members.peers.keys().chain(gossiped.keys()).copied().collect();
    ids.into_iter()
        .map(|raft_id| {
            let known = gossiped.get(&raft_id);
            let record = replicas.get(&raft_id);
            let presence = match known.map(|server| server.status) {
                _ if raft_id == inner.me.raft_id() => Presence::Alive,
                Some(MemberStatus::Alive) => Presence::Alive,
                Some(MemberStatus::Failed) => Presence::Failed,
                Some(MemberStatus::Left) => Presence::Gone,
                // The node is there in another life: this one is over.
                None if record.is_some_and(|record| servers.contains_key(&record.node_id)) => Presence::Gone,
                None => Presence::Unknown,
            };
            let moved = match (known, record) {
                (Some(known), Some(record)) => known.replica != *record,
                (Some(_) | None, Some(_) | None) => false,
            };
            Seen {
                raft_id,
                presence,
                contact: status.answered.get(&raft_id).copied(),
                matched: status.matched.get(&raft_id).copied().flatten().map(|at| at.index),
                moved,
            }
        })
        .collect()
}

async fn perform(inner: &Inner, step: Step, servers: &Servers) -> Result<(), GroupError> {
    let peer_of = |id: u64| {
        let known = servers.values().find(|server| server.replica.raft_id() == id);
        known.map(|server| server.replica.to_peer()).ok_or(GroupError::NoSuchServer(id))
    };
    match step {
        Step::Add(id) => {
            let peer = peer_of(id)?;
            greet(inner, &peer).await?;
            in_time(inner.raft.add_learner(peer, false)).await
        }
        Step::Promote(id) => in_time(inner.raft.promote(BTreeSet::from([id]))).await,
        Step::Remove(id) => in_time(inner.raft.remove(id)).await,
        Step::Finish => in_time(inner.raft.finish_change()).await,
        Step::Readdress(id) => in_time(inner.raft.update_member(peer_of(id)?)).await,
    }
}

/// Makes sure that a newcomer is who gossip says it is: its certificate must name it.
async fn greet(inner: &Inner, peer: &Peer) -> Result<(), GroupError> {
    let answer = inner.peers.ask(peer, Ask::Hello.encode(), HELLO_TIMEOUT).await;
    let answer = answer.map_err(|error| GroupError::Refused(format!("{peer} does not answer: {error}")))?;
    match protocol::decode(&answer) {
        Ok(Answer::Here) => Ok(()),
        Ok(other) => Err(GroupError::Refused(format!("{peer} does not take part: {other:?}"))),
        Err(error) => Err(GroupError::Refused(format!("{peer} speaks another protocol: {error}"))),
    }
}

fn servers_of(members: &raft::Members, leader: Option<u64>) -> Vec<GroupServer> {
    let voters = members.voter_ids();
    let server = |peer: &Peer| GroupServer {
        raft_id: peer.id,
        replica: Replica::from_peer(peer),
        name: peer.name.clone(),
        leader: leader == Some(peer.id),
        voter: voters.contains(&peer.id),
    };
    members.peers.values().map(server).collect()
}
