//! From a seed to a schedule: which fault, when, for how long. Pure: the same wishes give the same schedule.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use serde::Serialize;

use crate::{
    fault::{Fault, Kind, Link, Plane, Weather},
    layout::{Agent, Layout, Part},
};

/// The region works for this long before the first fault, so that there is something to break.
const CALM_MS: u64 = 3_000;

/// Shortest and longest time between the beginnings of two faults: shorter than most last, so that they overlap.
const BETWEEN_MS: (u64, u64) = (1_500, 9_000);

/// The same where a number of kills is asked for: agents are hit again while they still find each other.
const BETWEEN_KILLS_MS: (u64, u64) = (400, 1_600);

/// The part of them that hits whoever leads.
const KILLS_OF_LEADERS: f64 = 0.2;

/// How long who was killed stays away there.
const KILLED_FOR_MS: (u64, u64) = (100, 1_200);

/// A server whose log was damaged needs this long to catch up, before another may lose data: two damaged at once may be
/// more than the region has copies.
const RECOVERY_MS: u64 = 30_000;

/// Wall clocks jump by at most so many seconds. Certificates are valid from an hour before they are made.
const WALL_SHIFT_MAX: i64 = 3_500;

/// The container engine is left alone for this long after it was started again.
const ENGINE_STARTS_MS: u64 = 5_000;

/// Schedules are not longer than this: a day.
pub const LENGTH_MAX: Duration = Duration::from_secs(86_400);

/// Until when faults go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// For this long.
    Lasts(Duration),
    /// Until so many processes were killed, one soon after the other.
    Kills(usize),
}

/// What a schedule is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Wishes {
    /// Where chance begins.
    pub seed: u64,
    /// How long faults go on.
    pub extent: Extent,
    /// Which faults; empty: the seed chooses.
    pub kinds: Vec<Kind>,
    /// From which it chooses: those that the machine can do.
    pub possible: Vec<Kind>,
    /// Who is there.
    pub layout: Layout,
}

/// One fault with its time.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Step {
    /// When, since faults began.
    pub at_ms: u64,
    /// For how long.
    pub lasts_ms: u64,
    /// What.
    pub fault: Fault,
}

impl Step {
    /// When it is over.
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        self.at_ms + self.lasts_ms
    }
}

/// Draws a schedule.
#[must_use]
pub fn plan(wishes: &Wishes) -> Vec<Step> {
    match wishes.extent {
        Extent::Lasts(length) => plan_time(wishes, length),
        Extent::Kills(count) => plan_kills(wishes, count),
    }
}

/// Faults for this long, which overlap.
fn plan_time(wishes: &Wishes, length: Duration) -> Vec<Step> {
    let mut rng = SmallRng::seed_from_u64(wishes.seed);
    let kinds =
        if wishes.kinds.is_empty() { choose_kinds(&mut rng, &wishes.possible) } else { wishes.kinds.clone() };
    let length_ms = u64::try_from(length.as_millis()).expect("schedules are bounded");
    let mut draw =
        Draw { rng, layout: wishes.layout, busy: BTreeMap::new(), fragile_until_ms: 0, engine_until_ms: 0 };
    let mut steps = Vec::new();
    let mut at_ms = CALM_MS;
    while at_ms < length_ms {
        let kind = *kinds.choose(&mut draw.rng).expect("there is at least one kind");
        let (shortest, longest) = kind.about().lasts;
        let lasts_ms = draw.rng.random_range(shortest * 1_000..=longest * 1_000);
        if at_ms + lasts_ms <= length_ms
            && let Some(fault) = draw.fault(kind, at_ms, at_ms + lasts_ms)
        {
            steps.push(Step { at_ms, lasts_ms, fault });
        }
        at_ms += draw.rng.random_range(BETWEEN_MS.0..=BETWEEN_MS.1);
    }
    steps
}

/// Kills of servers, of clients and of both, one soon after the other, until they are so many.
fn plan_kills(wishes: &Wishes, count: usize) -> Vec<Step> {
    let rng = SmallRng::seed_from_u64(wishes.seed);
    let mut draw =
        Draw { rng, layout: wishes.layout, busy: BTreeMap::new(), fragile_until_ms: 0, engine_until_ms: 0 };
    let (mut steps, mut killed, mut at_ms) = (Vec::new(), 0, CALM_MS);
    while killed < count {
        let lasts_ms = draw.rng.random_range(KILLED_FOR_MS.0..=KILLED_FOR_MS.1);
        let kind = if draw.rng.random_bool(KILLS_OF_LEADERS) { Kind::Leader } else { Kind::Kill };
        if let Some(fault) = draw.fault(kind, at_ms, at_ms + lasts_ms) {
            // Nobody may lead when it is the leader's turn, and it may be one who is away: these come on top.
            killed += fault.hits().len();
            steps.push(Step { at_ms, lasts_ms, fault });
        }
        at_ms += draw.rng.random_range(BETWEEN_KILLS_MS.0..=BETWEEN_KILLS_MS.1);
    }
    steps
}

/// Each seed breaks some things and leaves others alone: what hides when everything breaks shows when little does.
fn choose_kinds(rng: &mut SmallRng, possible: &[Kind]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|_| rng.random_bool(0.6)).collect();
    kinds.retain(|kind| possible.contains(kind));
    if kinds.is_empty() {
        kinds.push(Kind::Kill);
    }
    kinds
}

struct Draw {
    rng: SmallRng,
    layout: Layout,
    /// Until when each agent's process or disk has a fault.
    busy: BTreeMap<Agent, u64>,
    /// Until when a server may lack data that it once had.
    fragile_until_ms: u64,
    /// Until when the container engine is away.
    engine_until_ms: u64,
}

impl Draw {
    fn fault(&mut self, kind: Kind, from_ms: u64, to_ms: u64) -> Option<Fault> {
        let fault = match kind {
            Kind::Kill => Fault::Kill { agents: self.some_to_kill(from_ms) },
            Kind::Leader => Fault::Leader,
            Kind::Power => Fault::Power { agent: self.free(from_ms, Some(Part::Client))? },
            Kind::Pause => Fault::Pause { agent: self.free(from_ms, None)? },
            Kind::Cut => self.cut(),
            Kind::OneWay => self.one_way(),
            Kind::Partial => self.partial(),
            Kind::Plane => self.plane(),
            Kind::Rain => Fault::Weather(self.weather(10, 50, 100)),
            Kind::Weather => Fault::Weather(self.weather(40, 300, 300)),
            Kind::DiskFull => Fault::DiskFull { agent: self.free(from_ms, Some(Part::Server))? },
            Kind::DiskSlow => {
                let rate = 1_024 * self.rng.random_range(16..=512);
                Fault::DiskSlow { agent: self.free(from_ms, Some(Part::Server))?, rate }
            }
            Kind::DiskStuck => Fault::DiskStuck { agent: self.free(from_ms, Some(Part::Server))? },
            Kind::Clock => {
                let shift = self.rng.random_range(-3_600..=3_600 * 24 * 365);
                Fault::Clock { agent: self.free(from_ms, None)?, shift }
            }
            Kind::Wall => {
                let shift = self.rng.random_range(-WALL_SHIFT_MAX..=WALL_SHIFT_MAX);
                Fault::Wall { agent: self.free(from_ms, None)?, shift }
            }
            Kind::Damage => self.damage(from_ms, to_ms)?,
            // A client that knows neither token nor key is not taken back without its certificate, on purpose.
            Kind::Expire => Fault::Expire { agent: self.free(from_ms, Some(Part::Server))? },
            Kind::Engine => self.engine(from_ms, to_ms)?,
            Kind::Storm => self.storm(from_ms, to_ms)?,
        };
        for agent in fault.hits() {
            self.busy.insert(agent, to_ms + 500);
        }
        (!matches!(&fault, Fault::Kill { agents } if agents.is_empty())).then_some(fault)
    }

    fn is_free(&self, agent: Agent, at_ms: u64) -> bool {
        self.busy.get(&agent).is_none_or(|until| *until <= at_ms)
    }

    fn free(&mut self, at_ms: u64, part: Option<Part>) -> Option<Agent> {
        let wanted = |agent: &Agent| part.is_none_or(|part| self.layout.part(*agent) == part);
        let free: Vec<Agent> =
            self.layout.members().filter(wanted).filter(|agent| self.is_free(*agent, at_ms)).collect();
        free.choose(&mut self.rng).copied()
    }

    fn any(&mut self) -> Agent {
        let all: Vec<Agent> = self.layout.members().collect();
        *all.choose(&mut self.rng).expect("a region has agents")
    }

    /// Mostly one agent; at times several, or all servers at once, which ends every quorum.
    fn some_to_kill(&mut self, at_ms: u64) -> Vec<Agent> {
        let mut free: Vec<Agent> =
            self.layout.members().filter(|agent| self.is_free(*agent, at_ms)).collect();
        match self.rng.random_range(0..10) {
            0 => free.retain(|agent| self.layout.part(*agent) == Part::Server),
            1..=3 => {
                let count = self.rng.random_range(2..=3);
                free = free.sample(&mut self.rng, count).copied().collect();
            }
            _ => free = free.choose(&mut self.rng).copied().into_iter().collect(),
        }
        free.sort_unstable();
        free
    }

    fn cut(&mut self) -> Fault {
        let mut inside = vec![self.any()];
        if self.rng.random_bool(0.3) {
            let other = self.any();
            inside.extend((other != inside[0]).then_some(other));
        }
        let outside: Vec<Agent> = self.layout.all().filter(|agent| !inside.contains(agent)).collect();
        let links = inside.iter().flat_map(|a| outside.iter().flat_map(|b| both(*a, *b))).collect();
        let names: Vec<String> = inside.iter().map(ToString::to_string).collect();
        Fault::Cut { shape: format!("{} cut off", names.join(" with ")), links, plane: Plane::All }
    }

    fn one_way(&mut self) -> Fault {
        let agent = self.any();
        let deaf = self.rng.random_bool(0.5);
        let others = self.layout.all().filter(|other| *other != agent);
        let link =
            |other| if deaf { Link { from: other, to: agent } } else { Link { from: agent, to: other } };
        let shape = format!("{agent} {}", if deaf { "hears nobody" } else { "is heard by nobody" });
        Fault::Cut { shape, links: others.map(link).collect(), plane: Plane::All }
    }

    fn partial(&mut self) -> Fault {
        let all: Vec<Agent> = self.layout.members().collect();
        let two: Vec<Agent> = all.sample(&mut self.rng, 2).copied().collect();
        let shape = format!("{} and {} do not reach each other", two[0], two[1]);
        Fault::Cut { shape, links: both(two[0], two[1]).to_vec(), plane: Plane::All }
    }

    fn plane(&mut self) -> Fault {
        let agent = self.any();
        let plane = if self.rng.random_bool(0.5) { Plane::Gossip } else { Plane::Quic };
        let others = self.layout.all().filter(|other| *other != agent);
        let shape = match plane {
            Plane::Gossip => format!("gossip of {agent} cut"),
            Plane::Quic | Plane::All => format!("QUIC of {agent} cut"),
        };
        Fault::Cut { shape, links: others.flat_map(|other| both(agent, other)).collect(), plane }
    }

    fn weather(&mut self, loss: u8, delay_ms: u16, jitter_ms: u16) -> Weather {
        Weather {
            loss: self.rng.random_range(0..=loss),
            twice: self.rng.random_range(0..=30),
            late: self.rng.random_range(0..=20),
            delay_ms: self.rng.random_range(0..=delay_ms),
            jitter_ms: self.rng.random_range(0..=jitter_ms),
        }
    }

    fn damage(&mut self, from_ms: u64, to_ms: u64) -> Option<Fault> {
        if from_ms < self.fragile_until_ms {
            return None;
        }
        let agent = self.free(from_ms, Some(Part::Server))?;
        self.fragile_until_ms = to_ms + RECOVERY_MS;
        Some(Fault::Damage { agent, place: self.rng.random() })
    }

    fn engine(&mut self, from_ms: u64, to_ms: u64) -> Option<Fault> {
        let free = self.engine_until_ms <= from_ms;
        self.engine_until_ms = self.engine_until_ms.max(to_ms + ENGINE_STARTS_MS);
        free.then_some(Fault::Engine)
    }

    fn storm(&mut self, from_ms: u64, to_ms: u64) -> Option<Fault> {
        let free: Vec<Agent> = self.layout.spares().filter(|agent| self.is_free(*agent, from_ms)).collect();
        let count = self.rng.random_range(1..=free.len().max(1));
        let mut agents: Vec<Agent> = free.sample(&mut self.rng, count).copied().collect();
        agents.sort_unstable();
        // A server that leaves while nobody leads stays a voter, and with one more that lost its log two of four are gone for
        // good: no region stands that.
        let servers = agents.iter().any(|agent| self.layout.part(*agent) == Part::Server);
        if servers && from_ms < self.fragile_until_ms {
            agents.retain(|agent| self.layout.part(*agent) == Part::Client);
        } else if servers {
            self.fragile_until_ms = to_ms + RECOVERY_MS;
        }
        (!agents.is_empty()).then_some(Fault::Storm { agents })
    }
}

fn both(one: Agent, other: Agent) -> [Link; 2] {
    [Link { from: one, to: other }, Link { from: other, to: one }]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { servers: 3, clients: 5, spare_clients: 2, spare_servers: 1 };

    fn wishes(seed: u64, kinds: &[Kind]) -> Wishes {
        let extent = Extent::Lasts(Duration::from_secs(600));
        Wishes { seed, extent, kinds: kinds.to_vec(), possible: Kind::ALL.to_vec(), layout: LAYOUT }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        assert_eq!(plan(&wishes(7, &[])), plan(&wishes(7, &[])));
        assert_ne!(plan(&wishes(7, &[])), plan(&wishes(8, &[])));
    }

    #[test]
    fn no_log_is_damaged_while_a_server_joins_and_leaves() {
        let (mut damages, mut storms) = (0, 0);
        for seed in 0..200 {
            let steps = plan(&wishes(seed, &[Kind::Damage, Kind::Storm, Kind::Kill]));
            for (number, step) in steps.iter().enumerate() {
                let fragile = |fault: &Fault| match fault {
                    Fault::Damage { .. } => true,
                    Fault::Storm { agents } => agents.iter().any(|agent| LAYOUT.part(*agent) == Part::Server),
                    _ => false,
                };
                damages += usize::from(matches!(step.fault, Fault::Damage { .. }));
                storms += usize::from(fragile(&step.fault));
                if fragile(&step.fault) {
                    let close = |earlier: &Step| earlier.end_ms() + RECOVERY_MS > step.at_ms;
                    assert!(!steps[..number].iter().any(|it| fragile(&it.fault) && close(it)), "seed {seed}");
                }
            }
        }
        assert!(damages > 100 && storms > damages + 100, "there are both: {damages}, {storms}");
    }

    #[test]
    fn no_agent_has_two_faults_of_its_process_at_once() {
        for seed in 0..200 {
            let steps = plan(&wishes(seed, &Kind::ALL));
            for (number, step) in steps.iter().enumerate() {
                for earlier in &steps[..number] {
                    let overlap = earlier.end_ms() > step.at_ms;
                    let shared = step.fault.hits().into_iter().any(|one| earlier.fault.hits().contains(&one));
                    assert!(!(overlap && shared), "seed {seed}: {earlier:?} and {step:?}");
                }
            }
        }
    }

    #[test]
    fn logs_are_damaged_one_at_a_time() {
        for seed in 0..200 {
            let steps = plan(&wishes(seed, &[Kind::Damage, Kind::Kill]));
            let damaged: Vec<u64> = steps
                .iter()
                .filter(|step| matches!(step.fault, Fault::Damage { .. }))
                .map(|step| step.at_ms)
                .collect();
            assert!(!damaged.is_empty(), "seed {seed} damages nothing");
            assert!(damaged.windows(2).all(|two| two[1] - two[0] >= RECOVERY_MS), "seed {seed}: {damaged:?}");
        }
    }

    #[test]
    fn only_what_was_asked_for_happens_and_it_ends_in_time() {
        let steps = plan(&wishes(3, &[Kind::Pause]));
        assert!(steps.len() > 20, "{} steps in ten minutes", steps.len());
        assert!(
            steps.iter().all(|step| matches!(step.fault, Fault::Pause { .. }) && step.end_ms() <= 600_000)
        );
    }

    #[test]
    fn as_many_kills_as_asked_for_hit_everybody() {
        for seed in 0..50 {
            let steps = plan(&Wishes { extent: Extent::Kills(200), ..wishes(seed, &[]) });
            let killed: usize = steps.iter().map(|step| step.fault.hits().len()).sum();
            assert!((200..208).contains(&killed), "seed {seed}: {killed}");
            let hit = |agents: &[Agent]| {
                let part = |part| agents.iter().any(|agent| LAYOUT.part(*agent) == part);
                (part(Part::Server), part(Part::Client))
            };
            let shapes: Vec<(bool, bool)> = steps.iter().map(|step| hit(&step.fault.hits())).collect();
            for shape in [(true, false), (false, true), (true, true)] {
                assert!(shapes.contains(&shape), "seed {seed} has no kill of servers, clients: {shape:?}");
            }
        }
    }

    #[test]
    fn every_kind_is_drawn() {
        for kind in Kind::ALL {
            assert!(!plan(&wishes(1, &[kind])).is_empty(), "{kind:?}");
        }
    }
}
