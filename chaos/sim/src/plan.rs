//! What one run will do, all of it from its seed.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::faults::{Agent, Fault, Happening};

/// Time for the region to begin and to take its first jobs.
const PEACE: Duration = Duration::from_secs(10);

/// Which faults a run has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Profile {
    /// None: users work, tasks fail now and then.
    Calm,
    /// All of them.
    Storm,
    /// Those of disks, and crashes.
    Disk,
    /// Those of gossip: cuts, loss, pauses.
    Gossip,
    /// Clients that come and go.
    Reconnect,
    /// One agent after the other is stopped and started again, servers first.
    Upgrade,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Calm, Self::Storm, Self::Disk, Self::Gossip, Self::Reconnect, Self::Upgrade];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Storm => "storm",
            Self::Disk => "disk",
            Self::Gossip => "gossip",
            Self::Reconnect => "reconnect",
            Self::Upgrade => "upgrade",
        }
    }

    fn kinds(self) -> &'static [Kind] {
        use Kind::*;
        match self {
            Self::Calm => &[TaskFailure],
            Self::Storm => Kind::ALL,
            Self::Disk => &[
                CrashServer,
                CrashMany,
                FailedSyncs,
                TornWrite,
                LostEntries,
                CrashClient,
                FullDisk,
                SlowDisk,
                FlippedBit,
                Reboot,
            ],
            Self::Gossip => &[GossipCut, OneWay, Pair, Weather, Pause, Clog, Partition],
            Self::Reconnect => &[
                CrashClient,
                PauseClient,
                ConnectionsCut,
                CutClient,
                Leave,
                TaskFailure,
                CrashServer,
                Reboot,
                Reinstall,
                ServerLeave,
            ],
            Self::Upgrade => &[],
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == text)
            .ok_or_else(|| format!("there is no profile {text}: take one of {}", names()))
    }
}

/// How large a cluster is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Size {
    /// Servers.
    pub servers: u8,
    /// Clients.
    pub clients: u8,
}

/// What users ask of the region.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Work {
    /// Jobs that run, end, scale, and change one after the other, on machines with room.
    Usual,
    /// Besides these, jobs with canaries, constraints and policies that give up, on machines that get full, with deployments
    /// that people promote, hold up and give up.
    #[default]
    Demanding,
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "usual" => Ok(Self::Usual),
            "demanding" => Ok(Self::Demanding),
            _ => Err(format!("there is no work {text}: take usual or demanding")),
        }
    }
}

impl Work {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Demanding => "demanding",
        }
    }
}

/// What one run will do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Which faults it has.
    pub profile: Profile,
    /// How large the cluster is.
    pub size: Size,
    /// Users at work.
    pub users: u32,
    /// What they do.
    #[serde(default)]
    pub work: Work,
    /// When the last fault has ended.
    pub faults_end: Duration,
    /// Entries between two snapshots, and entries kept behind one.
    pub snapshot_every: u64,
    /// The faults, by their time.
    pub happenings: Vec<Happening>,
}

/// What is drawn from; several kinds may make one sort of fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    CrashServer,
    CrashClient,
    CrashMany,
    Pause,
    PauseClient,
    Partition,
    CutClient,
    OneWay,
    Pair,
    GossipCut,
    ConnectionsCut,
    Weather,
    Clog,
    Clock,
    FailedSyncs,
    TornWrite,
    LostEntries,
    Transfer,
    TaskFailure,
    Leave,
    FullDisk,
    SlowDisk,
    FlippedBit,
    Reboot,
    Reinstall,
    ServerLeave,
}

impl Kind {
    const ALL: &[Self] = &[
        Self::CrashServer,
        Self::CrashClient,
        Self::CrashMany,
        Self::Pause,
        Self::PauseClient,
        Self::Partition,
        Self::CutClient,
        Self::OneWay,
        Self::Pair,
        Self::GossipCut,
        Self::ConnectionsCut,
        Self::Weather,
        Self::Clog,
        Self::Clock,
        Self::FailedSyncs,
        Self::TornWrite,
        Self::LostEntries,
        Self::Transfer,
        Self::TaskFailure,
        Self::Leave,
        Self::FullDisk,
        Self::SlowDisk,
        Self::FlippedBit,
        Self::Reboot,
        Self::Reinstall,
        Self::ServerLeave,
    ];
}

impl Plan {
    /// Makes the plan of a seed. `length` is how long faults go on.
    pub fn draw(seed: u64, profile: Profile, size: Size, length: Duration) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x51_4d);
        let faults_end = PEACE + length;
        let mut plan = Self {
            seed,
            profile,
            size,
            users: rng.random_range(2..=4),
            work: Work::default(),
            faults_end,
            snapshot_every: rng.random_range(30..400),
            happenings: Vec::new(),
        };
        plan.happenings = match profile {
            Profile::Upgrade => plan.restarts(&mut rng),
            _ => plan.faults(&mut rng),
        };
        plan.happenings.sort_by_key(|happening| happening.at);
        plan
    }

    /// The same without some of its faults, by their place.
    #[must_use]
    pub fn without(&self, places: &BTreeSet<usize>) -> Self {
        let kept = self.happenings.iter().enumerate().filter(|(place, _)| !places.contains(place));
        Self { happenings: kept.map(|(_, happening)| happening.clone()).collect(), ..self.clone() }
    }

    /// Every agent.
    pub fn agents(&self) -> impl Iterator<Item = Agent> {
        let servers = (1..=self.size.servers).map(Agent::Server);
        servers.chain((1..=self.size.clients).map(Agent::Client))
    }

    /// Draws a set of kinds, a rate, and faults of these kinds at this rate.
    fn faults(&self, rng: &mut SmallRng) -> Vec<Happening> {
        let mut kinds: Vec<Kind> = self.profile.kinds().to_vec();
        // Each seed has its own few kinds: what many faults at once would cover up shows under two of them.
        if kinds.len() > 3 {
            let wanted = rng.random_range(2..=kinds.len().min(8));
            while kinds.len() > wanted {
                let place = rng.random_range(0..kinds.len());
                kinds.remove(place);
            }
        }
        let pause_ms: u64 = *pick(rng, &[1_500, 4_000, 8_000, 15_000]);
        let mut all = Vec::new();
        let mut at = PEACE;
        loop {
            at += Duration::from_millis(rng.random_range(100..=2 * pause_ms));
            if at >= self.faults_end {
                return all;
            }
            let kind = *pick(rng, &kinds);
            let (fault, longest) = self.fault(kind, rng);
            let lasts = Duration::from_millis(rng.random_range(100..=longest));
            let lasts = lasts.min(self.faults_end - at);
            all.push(Happening { at, lasts, fault });
        }
    }

    /// One fault of a kind, and how many milliseconds it may last.
    fn fault(&self, kind: Kind, rng: &mut SmallRng) -> (Fault, u64) {
        let server = rng.random_range(1..=self.size.servers);
        let client = rng.random_range(1..=self.size.clients);
        let agent = if rng.random_bool(0.5) { Agent::Server(server) } else { Agent::Client(client) };
        let longest = *pick(rng, &[2_000, 10_000, 40_000]);
        let fault = match kind {
            Kind::CrashServer => Fault::Crash { agents: vec![Agent::Server(server)] },
            Kind::CrashClient => Fault::Crash { agents: vec![Agent::Client(client)] },
            Kind::CrashMany => Fault::Crash { agents: self.some(rng) },
            Kind::Pause => Fault::Pause { agent },
            Kind::PauseClient => Fault::Pause { agent: Agent::Client(client) },
            Kind::Partition => Fault::Partition { side: self.some(rng) },
            Kind::CutClient => Fault::Partition { side: vec![Agent::Client(client)] },
            Kind::OneWay => {
                let (from, to) = self.two(rng);
                Fault::OneWay { from, to }
            }
            Kind::Pair => {
                let (one, other) = self.two(rng);
                Fault::Pair { one, other }
            }
            Kind::GossipCut => Fault::GossipCut { agent },
            Kind::ConnectionsCut => Fault::ConnectionsCut { agent },
            Kind::Weather => Fault::Weather {
                lost_permille: *pick(rng, &[0, 20, 100, 300]),
                doubled_permille: *pick(rng, &[0, 50, 300]),
                delay_ms: *pick(rng, &[5, 50, 300]),
            },
            Kind::Clog => Fault::Clog { agent },
            Kind::Clock => {
                let seconds = *pick(rng, &[1, 30, 3_600, 86_400 * 365]);
                Fault::Clock { agent, seconds: if rng.random_bool(0.5) { seconds } else { -seconds } }
            }
            Kind::FailedSyncs => Fault::FailedSyncs { server },
            Kind::TornWrite => Fault::TornWrite { server, kept_permille: rng.random_range(0..=1_000) },
            Kind::LostEntries => Fault::LostEntries { server, entries: rng.random_range(1..50) },
            Kind::Transfer => Fault::Transfer,
            Kind::TaskFailure => Fault::TaskFailure { client },
            Kind::Leave => Fault::Leave { client },
            Kind::FullDisk => Fault::FullDisk { server },
            Kind::SlowDisk => Fault::SlowDisk { server, each_ms: *pick(rng, &[5, 30, 100, 400]) },
            Kind::FlippedBit => Fault::FlippedBit {
                server,
                in_snapshot: rng.random_bool(0.4),
                permille: rng.random_range(0..1_000),
            },
            Kind::Reboot => Fault::Reboot { agents: self.some(rng) },
            Kind::Reinstall => Fault::Reinstall { client },
            Kind::ServerLeave => Fault::ServerLeave { server },
        };
        (fault, longest)
    }

    /// A side of a partition, or those that crash together: one agent at least, not all.
    fn some(&self, rng: &mut SmallRng) -> Vec<Agent> {
        let all: Vec<Agent> = self.agents().collect();
        let mut some: Vec<Agent> = all.iter().copied().filter(|_| rng.random_bool(0.4)).collect();
        if some.is_empty() || some.len() == all.len() {
            some = vec![*pick(rng, &all)];
        }
        some
    }

    fn two(&self, rng: &mut SmallRng) -> (Agent, Agent) {
        let mut all: Vec<Agent> = self.agents().collect();
        let one = all.remove(rng.random_range(0..all.len()));
        (one, *pick(rng, &all))
    }

    /// Every agent is stopped and started again, one after the other, with time between them.
    fn restarts(&self, rng: &mut SmallRng) -> Vec<Happening> {
        let every = (self.faults_end - PEACE) / u32::try_from(self.agents().count()).unwrap_or(u32::MAX);
        let restart = |(place, agent)| {
            let at = PEACE + every * u32::try_from(place).unwrap_or(u32::MAX);
            let lasts = Duration::from_millis(rng.random_range(200..=2_000)).min(every);
            Happening { at, lasts, fault: Fault::Crash { agents: vec![agent] } }
        };
        self.agents().enumerate().map(restart).collect()
    }
}

/// Draws one of several.
pub(crate) fn pick<'a, T>(rng: &mut impl Rng, of: &'a [T]) -> &'a T {
    &of[rng.random_range(0..of.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { servers: 3, clients: 4 };
    const LENGTH: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_has_one_plan_and_another_seed_another() {
        let draw = |seed| Plan::draw(seed, Profile::Storm, SIZE, LENGTH);
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5).happenings, draw(6).happenings);
    }

    #[test]
    fn no_fault_outlasts_the_faults() {
        for seed in 0..200 {
            for profile in Profile::ALL {
                let plan = Plan::draw(seed, profile, SIZE, LENGTH);
                assert!(plan.happenings.iter().all(|each| each.at + each.lasts <= plan.faults_end));
            }
        }
    }

    #[test]
    fn faults_can_be_left_out_by_their_place() {
        let plan = Plan::draw(5, Profile::Storm, SIZE, LENGTH);
        let fewer = plan.without(&BTreeSet::from([0]));
        assert_eq!(fewer.happenings, plan.happenings[1..]);
    }
}
