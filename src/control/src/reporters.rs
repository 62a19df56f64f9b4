//! Which servers have told the leader of their sessions, and which of them have fallen silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Silence after which a server that gossip calls failed is lost. Two reports may be late.
const FAILED_AFTER: Duration = Duration::from_millis(2_500);
/// Silence after which a server is lost whatever gossip says: nobody can tell what became of its sessions.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// Follows the reports of servers.
#[derive(Debug, Default)]
pub struct Reporters {
    heard: BTreeMap<u64, Heard>,
}

#[derive(Debug)]
struct Heard {
    run: u64,
    number: u64,
    at: Duration,
}

/// One report: who sends it, in which run of that server, and which of its reports it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The server.
    pub server: u64,
    /// Random; another run begins anew.
    pub run: u64,
    /// Counts up within a run.
    pub number: u64,
    /// Whether it carries everything, and not only what changed.
    pub full: bool,
}

impl Reporters {
    /// Takes in a report. False when something is missing before it: then a full one has to come.
    pub fn take(&mut self, now: Duration, stamp: Stamp) -> bool {
        let known = self.heard.get(&stamp.server);
        let follows = known.is_some_and(|known| known.run == stamp.run && known.number + 1 == stamp.number);
        let old = known.is_some_and(|known| known.run == stamp.run && known.number >= stamp.number);
        if (!stamp.full && !follows) || old {
            return false;
        }
        self.heard.insert(stamp.server, Heard { run: stamp.run, number: stamp.number, at: now });
        true
    }

    /// Forgets the servers that have been silent for too long, and returns them with the time of their last word.
    pub fn lost(&mut self, now: Duration, failed: &BTreeSet<u64>) -> Vec<(u64, Duration)> {
        let silent = |server: &u64, heard: &mut Heard| {
            let allowed = if failed.contains(server) { FAILED_AFTER } else { SILENT_AFTER };
            now >= heard.at + allowed
        };
        self.heard.extract_if(.., silent).map(|(server, heard)| (server, heard.at)).collect()
    }

    /// Tells whether each of these servers has told of its sessions.
    pub fn have_told(&self, servers: impl IntoIterator<Item = u64>) -> bool {
        servers.into_iter().all(|server| self.heard.contains_key(&server))
    }

    /// Returns the wait until the next server may be lost, if it is not heard of before.
    pub fn next_tick(&self, now: Duration, failed: &BTreeSet<u64>) -> Option<Duration> {
        let due = |(server, heard): (&u64, &Heard)| {
            let allowed = if failed.contains(server) { FAILED_AFTER } else { SILENT_AFTER };
            (heard.at + allowed).saturating_sub(now)
        };
        self.heard.iter().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stamp(run: u64, number: u64, full: bool) -> Stamp {
        Stamp { server: 7, run, number, full }
    }

    #[test]
    fn changes_are_taken_in_order_and_a_gap_asks_for_everything() {
        let mut reporters = Reporters::default();
        assert!(!reporters.take(SECOND, stamp(1, 4, false)), "it has never told everything");
        assert!(reporters.take(SECOND, stamp(1, 5, true)));
        assert!(reporters.take(SECOND, stamp(1, 6, false)));
        assert!(!reporters.take(SECOND, stamp(1, 6, false)), "said twice");
        assert!(!reporters.take(SECOND, stamp(1, 8, false)), "one is missing");
        assert!(!reporters.take(SECOND, stamp(1, 3, true)), "an old one came late");
        assert!(reporters.take(SECOND, stamp(2, 0, true)), "the server was restarted");
    }

    #[test]
    fn silence_means_less_while_gossip_hears_the_server() {
        let mut reporters = Reporters::default();
        reporters.take(SECOND, stamp(1, 0, true));
        assert!(reporters.have_told([7]) && !reporters.have_told([7, 8]));
        let failed = BTreeSet::from([7]);
        assert_eq!(reporters.lost(4 * SECOND, &BTreeSet::new()), []);
        assert_eq!(reporters.next_tick(2 * SECOND, &failed), Some(Duration::from_millis(1_500)));
        assert_eq!(reporters.lost(4 * SECOND, &failed), [(7, SECOND)]);
        assert!(!reporters.have_told([7]), "what it held is not known");
    }
}
