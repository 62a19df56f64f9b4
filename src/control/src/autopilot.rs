//! Which servers belong to the group, and which of them vote.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::AutopilotConfig;

/// How long a change of the voters may be under way before its second step counts as forgotten. Both steps take a few
/// round trips; whoever makes them at this leader is not hurt when somebody else makes the second one, too.
const UNFINISHED_AFTER: Duration = Duration::from_secs(2);

/// What is known of one server, member or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Its number in the group.
    pub raft_id: u64,
    /// What gossip says of it.
    pub presence: Presence,
    /// How long ago it answered the leader; none when it never did.
    pub contact: Option<Duration>,
    /// Up to where it has the log, as the leader knows.
    pub matched: Option<u64>,
    /// Whether it is reached elsewhere than the group's record says.
    pub moved: bool,
}

/// What gossip says of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// It answers.
    Alive,
    /// It stopped answering.
    Failed,
    /// It left, or goes on in another life: it will not come back as this one.
    Gone,
    /// Gossip has not heard of it.
    Unknown,
}

/// What the leader knows at one moment.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The settings.
    pub config: &'a AutopilotConfig,
    /// How often servers hear from the leader: what they answer can not be younger.
    pub heartbeat: Duration,
    /// The leader itself.
    pub leader: u64,
    /// Whether a change of the group is not settled yet.
    pub changing: bool,
    /// Who votes.
    pub voters: &'a BTreeSet<u64>,
    /// Who receives the log without a vote.
    pub learners: &'a BTreeSet<u64>,
    /// The last entry of the leader's log.
    pub last_log: u64,
    /// Every server that gossip or the group knows, one each.
    pub servers: &'a [Seen],
    /// With how many voters the region begins; until then nobody waits to prove stable.
    pub expect: usize,
}

/// One change of the group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A server begins to receive the log.
    Add(u64),
    /// One that has caught up gets a vote.
    Promote(u64),
    /// A server is taken out.
    Remove(u64),
    /// The group's record gets the address that a server has.
    Readdress(u64),
    /// A change of the voters that an earlier leader began, or that was given up on, is brought to its end.
    Finish,
}

/// How one server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerHealth {
    /// Its number in the group.
    pub raft_id: u64,
    /// Whether it answers and keeps up.
    pub healthy: bool,
    /// Since when that is so, on the leader's clock.
    pub since: Duration,
}

/// How the group is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Whether every member is healthy.
    pub healthy: bool,
    /// How many healthy voters may fail before nothing can be agreed on.
    pub failure_tolerance: usize,
    /// The members.
    pub servers: Vec<ServerHealth>,
}

/// Decides one change at a time. Remembers since when each server has been as it is; a leader that takes over begins
/// anew, and so waits once more.
#[derive(Debug, Default)]
pub struct Autopilot {
    since: BTreeMap<u64, (bool, Duration)>,
    /// Since when a change has been under way.
    changing_since: Option<Duration>,
}

impl Autopilot {
    /// Takes in a view and returns the next change, if one is due.
    ///
    /// What is returned is repeated for as long as it is due, so it need not be remembered. Removing never costs the
    /// group its ability to agree: those that remain must hold a quorum with the voters that are there.
    pub fn step(&mut self, now: Duration, view: &View<'_>) -> Option<Step> {
        self.follow(now, view);
        if view.changing {
            let since = *self.changing_since.get_or_insert(now);
            return (now.saturating_sub(since) >= UNFINISHED_AFTER).then_some(Step::Finish);
        }
        self.changing_since = None;
        removable(view)
            .map(Step::Remove)
            .or_else(|| self.promotable(now, view).map(Step::Promote))
            .or_else(|| self.abandoned(now, view).map(Step::Remove))
            .or_else(|| readdressed(view).map(Step::Readdress))
            .or_else(|| addable(view).map(Step::Add))
    }

    /// Tells how the group is, as of the last view.
    pub fn health(&self, view: &View<'_>) -> Health {
        let members = || view.voters.union(view.learners);
        let servers: Vec<_> = members()
            .map(|&raft_id| {
                let (healthy, since) = self.since.get(&raft_id).copied().unwrap_or_default();
                ServerHealth { raft_id, healthy, since }
            })
            .collect();
        let fit = |server: &&ServerHealth| server.healthy && view.voters.contains(&server.raft_id);
        let able = servers.iter().filter(fit).count();
        Health {
            healthy: servers.iter().all(|server| server.healthy),
            failure_tolerance: able.saturating_sub(quorum(view.voters.len())),
            servers,
        }
    }

    fn follow(&mut self, now: Duration, view: &View<'_>) {
        self.since.retain(|id, _| view.servers.iter().any(|seen| seen.raft_id == *id));
        for seen in view.servers {
            let healthy = is_healthy(seen, view);
            let entry = self.since.entry(seen.raft_id).or_insert((healthy, now));
            if entry.0 != healthy {
                *entry = (healthy, now);
            }
        }
    }

    /// Finds a learner that has caught up, and been healthy for long enough.
    fn promotable(&self, now: Duration, view: &View<'_>) -> Option<u64> {
        let forming = view.voters.len() < view.expect;
        let wait = if forming { Duration::ZERO } else { view.config.server_stabilization_time };
        view.learners
            .iter()
            .copied()
            .find(|id| self.since.get(id).is_some_and(|(healthy, since)| *healthy && now >= *since + wait))
    }

    /// Finds a failed learner: it costs the leader connections and counts for nothing.
    fn abandoned(&self, now: Duration, view: &View<'_>) -> Option<u64> {
        let wait = view.config.server_stabilization_time;
        let failed = |id: &u64| presence(view, *id) == Presence::Failed;
        let long =
            |id: &u64| self.since.get(id).is_some_and(|(healthy, since)| !healthy && now >= *since + wait);
        let mut failed = view.learners.iter().copied().filter(failed);
        failed.find(|id| view.config.cleanup_dead_servers && long(id))
    }
}

/// Finds a member that has to go: one that is gone for good, or a failed voter for whom others can stand in.
fn removable(view: &View<'_>) -> Option<u64> {
    let gone = |id: &u64| presence(view, *id) == Presence::Gone;
    if let Some(learner) = view.learners.iter().copied().find(gone) {
        return Some(learner);
    }
    let there: Vec<u64> = view.voters.iter().copied().filter(|id| is_there(view, *id)).collect();
    // The change itself is agreed on by the voters before it, and needs their quorum.
    if there.len() < quorum(view.voters.len()) && !mutants::on!("autopilot-below-quorum") {
        return None;
    }
    let mut voters = view.voters.iter().copied().filter(|id| *id != view.leader);
    if let Some(voter) = voters.clone().find(gone) {
        return Some(voter);
    }
    let failed = voters.clone().filter(|id| presence(view, *id) == Presence::Failed).count();
    let left = view.voters.len() - failed;
    // One dead of three counts for nothing either way; taking it out would only make its return slower. One dead of
    // four, or two of five, cost the others a failure that they could otherwise stand.
    let helps = tolerance(there.len(), left) > tolerance(there.len(), view.voters.len());
    let enough = view.voters.len() > usize::try_from(view.config.min_quorum).unwrap_or(usize::MAX);
    if view.config.cleanup_dead_servers && helps && enough {
        return voters.find(|id| presence(view, *id) == Presence::Failed);
    }
    None
}

fn readdressed(view: &View<'_>) -> Option<u64> {
    let member = |id: u64| view.voters.contains(&id) || view.learners.contains(&id);
    let moved = |seen: &&Seen| seen.moved && seen.presence == Presence::Alive && member(seen.raft_id);
    view.servers.iter().find(moved).map(|seen| seen.raft_id)
}

fn addable(view: &View<'_>) -> Option<u64> {
    let member = |id: u64| view.voters.contains(&id) || view.learners.contains(&id);
    let newcomer = |seen: &&Seen| seen.presence == Presence::Alive && !member(seen.raft_id);
    view.servers.iter().find(newcomer).map(|seen| seen.raft_id)
}

fn presence(view: &View<'_>, id: u64) -> Presence {
    view.servers.iter().find(|seen| seen.raft_id == id).map_or(Presence::Unknown, |seen| seen.presence)
}

/// Tells whether a voter takes part: the leader does, and whoever has answered it within the time that elections take.
fn is_there(view: &View<'_>, id: u64) -> bool {
    /// Longer than any pause of a server that is well.
    const SILENCE_MAX: Duration = Duration::from_secs(2);
    let answered = |seen: &Seen| seen.contact.is_some_and(|contact| contact <= SILENCE_MAX);
    id == view.leader
        || view.servers.iter().any(|seen| {
            seen.raft_id == id
                && matches!(seen.presence, Presence::Alive | Presence::Unknown)
                && answered(seen)
        })
}

/// A server that did not answer so many heartbeats in a row is not well.
const HEARTBEATS_MISSED: u32 = 3;

fn is_healthy(seen: &Seen, view: &View<'_>) -> bool {
    if seen.raft_id == view.leader {
        return true;
    }
    let near =
        seen.matched.is_some_and(|at| view.last_log.saturating_sub(at) <= view.config.max_trailing_logs);
    // Slow heartbeats are a setting too (`raft_multiplier`); with them nobody would ever be well.
    let silence_max = view.config.last_contact_threshold.max(view.heartbeat * HEARTBEATS_MISSED);
    let answers = seen.contact.is_some_and(|contact| contact <= silence_max);
    seen.presence == Presence::Alive && near && answers
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// How many of `there` may fail while a group of `voters` can still agree.
fn tolerance(there: usize, voters: usize) -> isize {
    let signed = |count: usize| isize::try_from(count).unwrap_or(isize::MAX);
    signed(there) - signed(quorum(voters))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Group {
        config: AutopilotConfig,
        voters: BTreeSet<u64>,
        learners: BTreeSet<u64>,
        servers: Vec<Seen>,
        expect: usize,
    }

    impl Group {
        fn of(voters: u64) -> Self {
            let ids = 1..=voters;
            Self {
                config: AutopilotConfig::default(),
                voters: ids.clone().collect(),
                learners: BTreeSet::new(),
                servers: ids.map(well).collect(),
                expect: 0,
            }
        }

        fn view(&self) -> View<'_> {
            View {
                heartbeat: Duration::from_millis(80),
                config: &self.config,
                leader: 1,
                changing: false,
                voters: &self.voters,
                learners: &self.learners,
                last_log: 1_000,
                servers: &self.servers,
                expect: self.expect,
            }
        }

        fn set(&mut self, id: u64, presence: Presence) {
            for seen in self.servers.iter_mut().filter(|seen| seen.raft_id == id) {
                seen.presence = presence;
                seen.contact =
                    if presence == Presence::Alive { Some(Duration::ZERO) } else { Some(60 * SECOND) };
            }
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Add(id) => drop(self.learners.insert(id)),
                Step::Promote(id) => {
                    self.learners.remove(&id);
                    self.voters.insert(id);
                }
                Step::Remove(id) => {
                    self.learners.remove(&id);
                    self.voters.remove(&id);
                }
                Step::Finish => {}
                Step::Readdress(id) => {
                    self.servers
                        .iter_mut()
                        .filter(|seen| seen.raft_id == id)
                        .for_each(|seen| seen.moved = false);
                }
            }
        }
    }

    fn well(raft_id: u64) -> Seen {
        Seen {
            raft_id,
            presence: Presence::Alive,
            contact: Some(Duration::ZERO),
            matched: Some(1_000),
            moved: false,
        }
    }

    #[test]
    fn with_slow_heartbeats_a_newcomer_is_well_all_the_same() {
        let mut group = Group::of(3);
        group.servers[1].contact = Some(Duration::from_millis(900));
        let (mut autopilot, slow) = (Autopilot::default(), Duration::from_millis(320));
        let is_well = |autopilot: &mut Autopilot, heartbeat| {
            let view = View { heartbeat, ..group.view() };
            autopilot.step(SECOND, &view);
            autopilot.health(&view).healthy
        };
        assert!(!is_well(&mut autopilot, Duration::from_millis(80)));
        assert!(is_well(&mut autopilot, slow));
    }

    #[test]
    fn a_newcomer_learns_proves_stable_and_votes() {
        let (mut group, mut autopilot) = (Group::of(3), Autopilot::default());
        assert_eq!(autopilot.step(Duration::ZERO, &group.view()), None);
        group.servers.push(Seen { matched: Some(0), ..well(4) });
        assert_eq!(autopilot.step(SECOND, &group.view()), Some(Step::Add(4)));
        group.take(Step::Add(4));
        assert_eq!(autopilot.step(20 * SECOND, &group.view()), None, "it has not caught up");
        group.servers[3].matched = Some(990);
        assert_eq!(autopilot.step(21 * SECOND, &group.view()), None, "it has just caught up");
        assert_eq!(autopilot.step(31 * SECOND, &group.view()), Some(Step::Promote(4)));
    }

    #[test]
    fn a_region_that_forms_does_not_wait() {
        let (mut group, mut autopilot) = (Group::of(1), Autopilot::default());
        group.expect = 3;
        group.servers.push(well(2));
        assert_eq!(autopilot.step(SECOND, &group.view()), Some(Step::Add(2)));
        group.take(Step::Add(2));
        assert_eq!(autopilot.step(SECOND, &group.view()), Some(Step::Promote(2)));
    }

    #[test]
    fn a_server_that_left_goes_at_once_and_a_dead_one_when_others_can_stand_in() {
        let (mut group, mut autopilot) = (Group::of(3), Autopilot::default());
        group.set(3, Presence::Failed);
        assert_eq!(
            autopilot.step(600 * SECOND, &group.view()),
            None,
            "two voters stand no more than three with one dead"
        );
        group.servers.push(well(4));
        group.voters.insert(4);
        assert_eq!(autopilot.step(601 * SECOND, &group.view()), Some(Step::Remove(3)));
        group.config.cleanup_dead_servers = false;
        assert_eq!(autopilot.step(602 * SECOND, &group.view()), None);
        group.set(3, Presence::Gone);
        assert_eq!(autopilot.step(603 * SECOND, &group.view()), Some(Step::Remove(3)));
    }

    #[test]
    fn nothing_is_removed_where_nothing_can_be_agreed_on() {
        let (mut group, mut autopilot) = (Group::of(3), Autopilot::default());
        group.set(2, Presence::Gone);
        group.set(3, Presence::Gone);
        assert_eq!(autopilot.step(SECOND, &group.view()), None);
        let health = autopilot.health(&group.view());
        assert_eq!((health.healthy, health.failure_tolerance), (false, 0));
    }

    #[test]
    fn a_min_quorum_is_kept() {
        let (mut group, mut autopilot) = (Group::of(4), Autopilot::default());
        group.set(4, Presence::Failed);
        group.config.min_quorum = 4;
        assert_eq!(autopilot.step(SECOND, &group.view()), None);
        group.config.min_quorum = 3;
        assert_eq!(autopilot.step(SECOND, &group.view()), Some(Step::Remove(4)));
    }

    #[test]
    fn a_change_that_nobody_ends_is_brought_to_its_end() {
        let (mut group, mut autopilot) = (Group::of(3), Autopilot::default());
        group.set(3, Presence::Gone);
        let changing =
            |autopilot: &mut Autopilot, at| autopilot.step(at, &View { changing: true, ..group.view() });
        assert_eq!(changing(&mut autopilot, SECOND), None, "it may have been begun just now");
        assert_eq!(changing(&mut autopilot, 3 * SECOND), Some(Step::Finish));
        assert_eq!(autopilot.step(4 * SECOND, &group.view()), Some(Step::Remove(3)));
        assert_eq!(changing(&mut autopilot, 5 * SECOND), None, "another one");
    }

    #[test]
    fn an_address_that_changed_is_written_down() {
        let (mut group, mut autopilot) = (Group::of(3), Autopilot::default());
        group.servers[1].moved = true;
        assert_eq!(autopilot.step(SECOND, &group.view()), Some(Step::Readdress(2)));
    }

    fn presences() -> impl Strategy<Value = Presence> {
        prop_oneof![
            Just(Presence::Alive),
            Just(Presence::Failed),
            Just(Presence::Gone),
            Just(Presence::Unknown)
        ]
    }

    proptest! {
        /// Whatever gossip says: no step leaves fewer voters there than a quorum of the group after it, the leader stays,
        /// and the steps come to an end.
        #[test]
        fn no_step_costs_the_group_its_quorum(
            voters in 1_u64..8,
            others in 0_u64..4,
            said in proptest::collection::vec(presences(), 12),
        ) {
            let (mut group, mut autopilot) = (Group::of(voters), Autopilot::default());
            group.servers.extend((voters + 1..=voters + others).map(well));
            for (id, presence) in (2..=voters + others).zip(said) {
                group.set(id, presence);
            }
            let mut steps = 0;
            for second in 0..200 {
                let view = group.view();
                let able = |voters: &BTreeSet<u64>| {
                    voters.iter().filter(|id| is_there(&view, **id)).count() >= quorum(voters.len())
                };
                let before = able(&group.voters);
                let Some(step) = autopilot.step(second * SECOND, &view) else { continue };
                steps += 1;
                let mut after = Group { servers: group.servers.clone(), ..Group::of(1) };
                (after.voters, after.learners) = (group.voters.clone(), group.learners.clone());
                after.take(step);
                prop_assert!(after.voters.contains(&1));
                prop_assert!(!before || able(&after.voters), "{:?} {:?}", step, group.voters);
                if let Step::Remove(id) = step {
                    prop_assert!(before || !group.voters.contains(&id));
                }
                group.take(step);
            }
            prop_assert!(steps <= 3 * (voters + others), "{steps} steps");
        }
    }
}
