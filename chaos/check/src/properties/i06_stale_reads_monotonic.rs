use std::collections::BTreeMap;

use model::Text;

use crate::{History, Observation, Property};

/// Stale reads of one session from one server never go back, and are never newer than what is committed.
#[derive(Default)]
pub struct StaleReadsMonotonic {
    /// The last index that was known to be committed at each moment at which that rose.
    committed: u64,
}

impl Property for StaleReadsMonotonic {
    fn name(&self) -> &'static str {
        "I6 stale reads are monotonic"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let rafts = seen.servers.iter().filter_map(|server| server.raft.as_ref());
        let newest = rafts.filter_map(|raft| raft.committed).map(|point| point.index).max();
        self.committed = self.committed.max(newest.unwrap_or(0));
        Ok(())
    }

    fn end(&self, _last: &Observation, history: &History) -> Result<(), String> {
        let mut before: BTreeMap<(&Text, u64), u64> = BTreeMap::new();
        for read in &history.stale_reads {
            let last = before.insert((&read.session, read.server), read.index).unwrap_or(0);
            if read.index < last {
                return Err(format!(
                    "session {} was answered index {} after {last} by server {}",
                    read.session, read.index, read.server
                ));
            }
            if self.committed > 0 && read.index > self.committed {
                return Err(format!(
                    "server {} answered index {}, {} is committed",
                    read.server, read.index, self.committed
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        StaleRead,
        fixture::{holds, seconds, three_servers},
    };

    fn reads(indexes: &[(u64, u64)]) -> History {
        let read = |(server, index): &(u64, u64)| StaleRead {
            session: "one".into(),
            server: *server,
            index: *index,
            at: seconds(1),
        };
        History { operations: Vec::new(), stale_reads: indexes.iter().map(read).collect() }
    }

    #[test]
    fn another_server_may_be_behind() {
        let property: StaleReadsMonotonic = holds(&[three_servers()]);
        let last = Observation::default();
        assert_eq!(property.end(&last, &reads(&[(1, 3), (2, 1), (1, 4), (2, 1)])), Ok(()));
        property.end(&last, &reads(&[(1, 3), (1, 2)])).expect_err("it went back");
        property.end(&last, &reads(&[(1, 5)])).expect_err("only four entries are committed");
    }
}
