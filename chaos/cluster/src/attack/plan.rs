//! Whom to hit on someone else's cluster, when, and never more than was allowed. Pure.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

/// The cluster is watched for this long before the first strike.
const CALM_MS: u64 = 5_000;
/// Between the beginnings of two strikes.
const BETWEEN_MS: (u64, u64) = (5_000, 20_000);
/// How long a strike lasts.
const LASTS_MS: (u64, u64) = (2_000, 30_000);
/// An agent is left alone for this long after a strike, so that what is seen is seen of one strike.
const REST_MS: u64 = 10_000;

/// An agent of the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// It is a server.
    pub server: bool,
}

/// What is done to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// Stopped and continued.
    Pause,
    /// Killed and started.
    Kill,
}

/// How far it may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Servers that may be hit at once.
    pub servers: usize,
    /// Clients that may be hit at once.
    pub clients: usize,
}

/// A limit that makes no sense for a cluster of this size.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadLimits {
    /// Too many servers for a quorum to be left.
    #[error("{wanted} servers at once would leave no quorum of {there}; {most} is the most")]
    NoQuorum {
        /// What was asked for.
        wanted: usize,
        /// Servers there are.
        there: usize,
        /// The most that leaves a quorum.
        most: usize,
    },
    /// None of those that may be hit is there.
    #[error("none of the agents that may be hit is there; these are: {0}")]
    NobodyAllowed(String),
}

impl Limits {
    /// Checks limits against a cluster: a quorum of servers always stays.
    ///
    /// # Errors
    ///
    /// When it would not.
    pub fn check(servers_max: usize, clients_percent: u8, all: &[Target]) -> Result<Self, BadLimits> {
        let there = all.iter().filter(|target| target.server).count();
        let most = there.saturating_sub(1) / 2;
        if servers_max > most {
            return Err(BadLimits::NoQuorum { wanted: servers_max, there, most });
        }
        let clients = (all.len() - there) * usize::from(clients_percent) / 100;
        Ok(Self { servers: servers_max, clients })
    }
}

/// One strike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Strike {
    /// When.
    pub at_ms: u64,
    /// For how long.
    pub lasts_ms: u64,
    /// Whom.
    pub target: Target,
    /// How.
    pub method: Method,
}

impl Strike {
    /// When it is over.
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        self.at_ms + self.lasts_ms
    }
}

/// Those who may be hit. `*` allows all.
///
/// # Errors
///
/// When nobody is left.
pub fn allowed(all: &[Target], names: &[String]) -> Result<Vec<Target>, BadLimits> {
    let is_allowed = |target: &&Target| names.iter().any(|name| name == "*" || *name == target.name);
    let found: Vec<Target> = all.iter().filter(is_allowed).cloned().collect();
    if found.is_empty() {
        let there: Vec<&str> = all.iter().map(|target| target.name.as_str()).collect();
        return Err(BadLimits::NobodyAllowed(there.join(", ")));
    }
    Ok(found)
}

/// Draws strikes. At no time are more agents hit than the limits say, counting those that rest.
#[must_use]
pub fn plan(
    targets: &[Target],
    methods: &[Method],
    limits: Limits,
    seed: u64,
    length: Duration,
) -> Vec<Strike> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut strikes: Vec<Strike> = Vec::new();
    let mut at_ms = CALM_MS;
    while at_ms < length_ms {
        let lasts_ms = rng.random_range(LASTS_MS.0..=LASTS_MS.1);
        let hit: Vec<&Target> = strikes
            .iter()
            .filter(|strike| strike.end_ms() + REST_MS > at_ms)
            .map(|strike| &strike.target)
            .collect();
        let count = |server: bool| hit.iter().filter(|target| target.server == server).count();
        let room = |target: &&Target| {
            let (used, most) =
                if target.server { (count(true), limits.servers) } else { (count(false), limits.clients) };
            used < most && !hit.contains(target)
        };
        let free: Vec<&Target> = targets.iter().filter(room).collect();
        let drawn = free.choose(&mut rng).zip(methods.choose(&mut rng));
        if let Some((target, method)) = drawn
            && at_ms + lasts_ms <= length_ms
        {
            strikes.push(Strike { at_ms, lasts_ms, target: (*target).clone(), method: *method });
        }
        at_ms += rng.random_range(BETWEEN_MS.0..=BETWEEN_MS.1);
    }
    strikes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(servers: usize, clients: usize) -> Vec<Target> {
        let target = |name: String, server| Target { host: name.clone(), name, server };
        let servers = (0..servers).map(|number| target(format!("s{number}"), true));
        servers.chain((0..clients).map(|number| target(format!("c{number}"), false))).collect()
    }

    #[test]
    fn a_quorum_always_stays() {
        assert!(Limits::check(2, 0, &cluster(3, 0)).is_err());
        assert!(Limits::check(1, 0, &cluster(1, 0)).is_err());
        assert_eq!(Limits::check(2, 50, &cluster(5, 7)), Ok(Limits { servers: 2, clients: 3 }));
    }

    #[test]
    fn never_are_more_hit_than_allowed() {
        let all = cluster(5, 10);
        let limits = Limits::check(1, 20, &all).expect("fine");
        for seed in 0..100 {
            let strikes =
                plan(&all, &[Method::Pause, Method::Kill], limits, seed, Duration::from_secs(1_800));
            assert!(!strikes.is_empty(), "seed {seed} does nothing");
            for strike in &strikes {
                let during = strikes
                    .iter()
                    .filter(|other| other.at_ms <= strike.at_ms && strike.at_ms < other.end_ms());
                let (servers, clients): (Vec<&Strike>, Vec<&Strike>) =
                    during.partition(|other| other.target.server);
                assert!(servers.len() <= 1 && clients.len() <= 2, "seed {seed} at {} ms", strike.at_ms);
            }
        }
    }

    #[test]
    fn only_those_who_are_named_may_be_hit() {
        let all = cluster(3, 3);
        let names = ["c1".to_owned(), "c2".to_owned()];
        let mine = allowed(&all, &names).expect("they are there");
        let limits = Limits { servers: 1, clients: 1 };
        let strikes = plan(&mine, &[Method::Pause], limits, 1, Duration::from_secs(600));
        assert!(strikes.iter().all(|strike| names.contains(&strike.target.name)));
        assert!(allowed(&all, &["x".to_owned()]).is_err());
    }
}
