//! From what was seen to what took how long. Pure.

use serde::Serialize;

use crate::{
    fault::{Fault, Plane},
    injector::Done,
    layout::{Agent, Layout, Part},
    users::Write,
};

/// What is looked at after a leader was hit: longer than any election.
const AFTER_LEADER_MS: u64 = 4_000;

/// A server that came back before needs this long until it counts.
const BEFORE_LEADER_MS: u64 = 2_000;

/// One change of a node's status.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// When it was seen.
    pub at_ms: u64,
    /// Whose.
    pub agent: Agent,
    /// To what.
    pub status: String,
}

/// Some times of one thing, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Times {
    /// Sorted.
    pub ms: Vec<u64>,
}

impl Times {
    fn of(mut ms: Vec<u64>) -> Self {
        ms.sort_unstable();
        Self { ms }
    }

    /// The value that this part of them does not exceed.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        // Counts of one run fit a float exactly.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = ((self.ms.len() as f64 * part).ceil() as usize).saturating_sub(1);
        self.ms.get(at).copied()
    }

    /// Count, median, 99th percentile and most, in words.
    #[must_use]
    pub fn says(&self) -> String {
        match (self.quantile(0.5), self.quantile(0.99), self.ms.last()) {
            (Some(median), Some(p99), Some(most)) => {
                format!("{} times: median {median} ms, p99 {p99} ms, most {most} ms", self.ms.len())
            }
            _ => "never".to_owned(),
        }
    }
}

/// What a run measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// A leader was killed: the longest write among those that were tried in the seconds after.
    pub failover: Times,
    /// A client's machine was cut off or lost power: until its node counted as down.
    pub node_down: Times,
    /// It came back: until its node was ready again.
    pub node_back: Times,
}

/// Nodes that counted as down though nothing was done to them.
#[must_use]
pub fn false_downs(done: &[Done], changes: &[Change], aftermath_ms: u64) -> Vec<Change> {
    let excused = |change: &Change| {
        done.iter().any(|done| {
            let bearable_ms = u64::try_from(done.fault.bearable().as_millis()).unwrap_or(u64::MAX);
            let lasted = change.at_ms >= done.at_ms + bearable_ms
                && done.end_ms.is_none_or(|end| change.at_ms <= end + aftermath_ms);
            lasted && done.excuses.as_ref().is_none_or(|agents| agents.contains(&change.agent))
        })
    };
    changes.iter().filter(|change| change.status == "down" && !excused(change)).cloned().collect()
}

/// Adds up.
#[must_use]
pub fn measure(done: &[Done], changes: &[Change], writes: &[Write], layout: Layout) -> Measured {
    let led = done.iter().filter(|one| one.led && is_kill(&one.fault) && was_alone(one, done, layout));
    let failover = led.filter_map(|done| longest_write(writes, done.at_ms));
    let gone: Vec<(&Done, Agent)> =
        done.iter().filter_map(|done| Some((done, machine_gone(done)?))).collect();
    let first = |agent: Agent, status: &str, from: u64, to: u64| {
        let mut seen = changes.iter().filter(|change| change.agent == agent && change.status == status);
        seen.find(|change| (from..to).contains(&change.at_ms)).map(|change| change.at_ms - from)
    };
    let down = gone
        .iter()
        .filter_map(|(done, agent)| first(*agent, "down", done.at_ms, done.end_ms.unwrap_or(u64::MAX)));
    let back = gone.iter().filter_map(|(done, agent)| {
        let end = done.end_ms?;
        first(*agent, "down", done.at_ms, end)?;
        first(*agent, "ready", end, u64::MAX)
    });
    Measured {
        failover: Times::of(failover.collect()),
        node_down: Times::of(down.collect()),
        node_back: Times::of(back.collect()),
    }
}

/// Whether nothing else was wrong with any server around the time: how long an election takes without its voters says
/// nothing.
fn was_alone(one: &Done, all: &[Done], layout: Layout) -> bool {
    let servers =
        |agents: &[Agent]| agents.iter().filter(|agent| layout.part(**agent) == Part::Server).count();
    let (from, to) = (one.at_ms.saturating_sub(BEFORE_LEADER_MS), one.at_ms + AFTER_LEADER_MS);
    let others = all.iter().filter(|other| other.at_ms != one.at_ms);
    let near = others.filter(|other| other.at_ms <= to && other.end_ms.is_none_or(|end| end >= from));
    let mut near = near.filter(|other| !matches!(other.fault, Fault::Storm { .. }));
    servers(&one.hit) == 1
        && !near
            .any(|other| other.excuses.as_ref().is_none_or(|agents| servers(agents) > 0 || agents.is_empty()))
}

fn is_kill(fault: &Fault) -> bool {
    matches!(fault, Fault::Leader | Fault::Kill { .. })
}

/// The longest of the writes that were under way in the seconds after a moment.
fn longest_write(writes: &[Write], at_ms: u64) -> Option<u64> {
    let near =
        writes.iter().filter(|write| write.end_ms >= at_ms && write.start_ms <= at_ms + AFTER_LEADER_MS);
    near.map(|write| write.end_ms - write.start_ms.max(at_ms)).max()
}

/// The client whose machine is gone altogether for everybody.
fn machine_gone(done: &Done) -> Option<Agent> {
    match &done.fault {
        Fault::Power { agent } => Some(*agent),
        Fault::Cut { links, plane: Plane::All, shape } if shape.ends_with("cut off") => {
            let one = links.first()?.from;
            let alone = links.iter().all(|link| link.from == one || link.to == one);
            alone.then_some(one)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Weather;

    fn done(at_ms: u64, end_ms: u64, fault: Fault, led: bool) -> Done {
        let excuses = fault.excuses(std::time::Duration::from_millis(end_ms - at_ms));
        let (what, hit) = (fault.to_string(), fault.hits());
        Done { at_ms, end_ms: Some(end_ms), what, hit, led, kills: 0, excuses, note: None, fault }
    }

    fn leader_killed(at_ms: u64) -> Done {
        let hit = vec![Agent(0)];
        Done { excuses: Some(hit.clone()), hit, ..done(at_ms, at_ms + 2_000, Fault::Leader, true) }
    }

    fn change(at_ms: u64, agent: u8, status: &str) -> Change {
        Change { at_ms, agent: Agent(agent), status: status.to_owned() }
    }

    #[test]
    fn a_node_that_nobody_touched_may_not_be_down() {
        let calm = Weather { loss: 10, twice: 0, late: 0, delay_ms: 0, jitter_ms: 0 };
        let faults = [
            done(1_000, 5_000, Fault::Power { agent: Agent(3) }, false),
            done(0, 50_000, Fault::Weather(calm), false),
        ];
        let seen = [change(3_000, 3, "down"), change(4_000, 4, "down"), change(40_000, 3, "down")];
        let wrong: Vec<u64> = false_downs(&faults, &seen, 10_000).iter().map(|change| change.at_ms).collect();
        assert_eq!(wrong, [4_000, 40_000]);
        let pause = [done(0, 9_000, Fault::Pause { agent: Agent(3) }, false)];
        let early = [change(4_000, 3, "down"), change(6_000, 3, "down")];
        assert_eq!(false_downs(&pause, &early, 0).len(), 1, "a pause of 5 s has to be borne");
        let harsh = [done(0, 50_000, Fault::Weather(Weather { loss: 30, ..calm }), false)];
        assert!(false_downs(&harsh, &seen, 0).is_empty());
    }

    #[test]
    fn times_are_counted_from_the_fault() {
        let faults = [
            done(1_000, 9_000, Fault::Power { agent: Agent(3) }, false),
            leader_killed(20_000),
            // With another server gone too, no time is a failover's.
            leader_killed(59_000),
            done(59_500, 62_000, Fault::Kill { agents: vec![Agent(1)] }, false),
        ];
        let seen = [change(4_000, 3, "down"), change(9_700, 3, "ready")];
        let write = |start_ms, end_ms| Write { start_ms, end_ms, tries: 1 };
        let writes = [write(500, 520), write(19_990, 20_700), write(20_800, 20_810), write(60_000, 69_000)];
        let layout = Layout { servers: 3, clients: 5, spare_clients: 0, spare_servers: 0 };
        let measured = measure(&faults, &seen, &writes, layout);
        assert_eq!(measured.node_down.ms, [3_000]);
        assert_eq!(measured.node_back.ms, [700]);
        assert_eq!(measured.failover.ms, [700]);
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let times = Times::of((1..=200).rev().collect());
        assert_eq!((times.quantile(0.5), times.quantile(0.99)), (Some(100), Some(198)));
        assert_eq!(Times::default().quantile(0.5), None);
    }
}
