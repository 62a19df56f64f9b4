//! What becomes of a packet. Pure: chance comes from the generator that is handed in.

use std::{collections::BTreeMap, net::SocketAddrV4, time::Duration};

use rand::{RngExt, rngs::SmallRng};

use crate::{
    fault::{Link, Plane, Weather},
    layout::Agent,
};

/// The port of QUIC.
const QUIC_PORT: u16 = 4647;
/// The port of gossip.
const GOSSIP_PORT: u16 = 4648;

/// Packets that are overtaken come this much later than those that are not.
const OVERTAKEN: Duration = Duration::from_millis(40);

/// Names a rule, so that lifting one fault lifts nothing else.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RuleId(u64);

/// All rules that hold.
#[derive(Debug, Default)]
pub struct Policy {
    next: u64,
    cuts: BTreeMap<RuleId, (Vec<Link>, Plane)>,
    weathers: BTreeMap<RuleId, Weather>,
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    from: Option<Agent>,
    to: Option<Agent>,
    plane: Plane,
}

/// What becomes of it: each copy's delay.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Fate {
    pub(super) copies: Vec<Duration>,
}

impl Packet {
    pub(super) fn of(from: SocketAddrV4, to: SocketAddrV4) -> Self {
        // Gossip goes from port to port; whoever dials QUIC does so from its own QUIC port or from any.
        let is = |port| from.port() == port || to.port() == port;
        let plane = if is(GOSSIP_PORT) {
            Plane::Gossip
        } else if is(QUIC_PORT) {
            Plane::Quic
        } else {
            Plane::All
        };
        Self { from: Agent::at(*from.ip()), to: Agent::at(*to.ip()), plane }
    }
}

impl Policy {
    /// Cuts links until the rule is lifted.
    pub fn cut(&mut self, links: Vec<Link>, plane: Plane) -> RuleId {
        let id = self.name();
        self.cuts.insert(id, (links, plane));
        id
    }

    /// Makes the weather bad until the rule is lifted.
    pub fn weather(&mut self, weather: Weather) -> RuleId {
        let id = self.name();
        self.weathers.insert(id, weather);
        id
    }

    /// Lifts one rule.
    pub fn lift(&mut self, id: RuleId) {
        self.cuts.remove(&id);
        self.weathers.remove(&id);
    }

    fn name(&mut self) -> RuleId {
        self.next += 1;
        RuleId(self.next)
    }

    /// Decides about one packet.
    pub(super) fn fate(&self, packet: &Packet, rng: &mut SmallRng) -> Fate {
        if self.is_cut(packet) {
            return Fate { copies: Vec::new() };
        }
        let mut copies = vec![Duration::ZERO];
        for weather in self.weathers.values() {
            if percent(rng, weather.loss) {
                return Fate { copies: Vec::new() };
            }
            if percent(rng, weather.twice) {
                copies.push(copies[0]);
            }
            for copy in &mut copies {
                *copy += Duration::from_millis(u64::from(weather.delay_ms));
                *copy += Duration::from_millis(rng.random_range(0..=u64::from(weather.jitter_ms)));
                if percent(rng, weather.late) {
                    *copy += OVERTAKEN;
                }
            }
        }
        Fate { copies }
    }

    fn is_cut(&self, packet: &Packet) -> bool {
        let (Some(from), Some(to)) = (packet.from, packet.to) else { return false };
        self.cuts.values().any(|(links, plane)| {
            (*plane == Plane::All || *plane == packet.plane) && links.contains(&Link { from, to })
        })
    }
}

fn percent(rng: &mut SmallRng, percent: u8) -> bool {
    percent > 0 && rng.random_range(0..100) < percent
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const ONE: Agent = Agent(0);
    const OTHER: Agent = Agent(1);

    fn packet(from: Agent, to: Agent, port: u16) -> Packet {
        Packet::of(SocketAddrV4::new(from.ip(), port), SocketAddrV4::new(to.ip(), port))
    }

    fn arrives(policy: &Policy, packet: &Packet) -> bool {
        !policy.fate(packet, &mut SmallRng::seed_from_u64(1)).copies.is_empty()
    }

    #[test]
    fn a_cut_is_one_way_and_of_one_plane() {
        let mut policy = Policy::default();
        let rule = policy.cut(vec![Link { from: ONE, to: OTHER }], Plane::Gossip);
        assert!(!arrives(&policy, &packet(ONE, OTHER, GOSSIP_PORT)));
        assert!(arrives(&policy, &packet(OTHER, ONE, GOSSIP_PORT)));
        assert!(arrives(&policy, &packet(ONE, OTHER, QUIC_PORT)));
        policy.lift(rule);
        assert!(arrives(&policy, &packet(ONE, OTHER, GOSSIP_PORT)));
    }

    #[test]
    fn lifting_one_cut_leaves_the_other() {
        let mut policy = Policy::default();
        let links = vec![Link { from: ONE, to: OTHER }];
        let first = policy.cut(links.clone(), Plane::All);
        policy.cut(links, Plane::All);
        policy.lift(first);
        assert!(!arrives(&policy, &packet(ONE, OTHER, 50_000)));
    }

    #[test]
    fn weather_is_as_bad_as_it_says() {
        let mut policy = Policy::default();
        policy.weather(Weather { loss: 25, twice: 10, late: 0, delay_ms: 5, jitter_ms: 10 });
        let mut rng = SmallRng::seed_from_u64(2);
        let fates: Vec<Fate> =
            (0..10_000).map(|_| policy.fate(&packet(ONE, OTHER, QUIC_PORT), &mut rng)).collect();
        let lost = fates.iter().filter(|fate| fate.copies.is_empty()).count();
        let twice = fates.iter().filter(|fate| fate.copies.len() == 2).count();
        assert!((2_300..2_700).contains(&lost), "{lost} lost");
        assert!((650..850).contains(&twice), "{twice} twice");
        let delays = fates.iter().flat_map(|fate| &fate.copies);
        assert!(delays.into_iter().all(|delay| (5..=15).contains(&delay.as_millis())));
    }

    #[test]
    fn without_rules_everything_passes_at_once() {
        let fate = Policy::default().fate(&packet(ONE, OTHER, 1), &mut SmallRng::seed_from_u64(3));
        assert_eq!(fate, Fate { copies: vec![Duration::ZERO] });
    }
}
