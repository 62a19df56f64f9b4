use std::{collections::BTreeMap, time::Duration};

use model::Text;

use crate::{History, Observation, ProcessHealth, Property};

/// The longest step of a task: longer ones hold up everything else on its thread.
const POLL_MAX: Duration = Duration::from_secs(5);
/// What memory may have grown by in the end, in percent of the first figure, and at least in bytes: an allocator keeps
/// what it once needed.
const MEMORY_GROWTH_PERCENT: u64 = 5;
const MEMORY_GROWTH_BYTES: u64 = 16 << 20;
/// Files that may be open in the end beyond those of the first figure: connections that are being made.
const FILES_GROWTH: u64 = 16;

/// No agent panics or stands still, no queue is beyond its bound, and in the end memory and open files are where they
/// were. The first figures of an agent, taken when the cluster was idle, are what the last are compared with.
#[derive(Default)]
pub struct ProcessesStaySound {
    first: BTreeMap<Text, (Option<u64>, Option<u64>)>,
}

impl Property for ProcessesStaySound {
    fn name(&self) -> &'static str {
        "I16 processes stay sound"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for health in &seen.health {
            self.first.entry(health.agent.clone()).or_insert((health.memory, health.files));
            if let Some(panic) = health.panics.first() {
                return Err(format!("{} panicked: {panic}", health.agent));
            }
            if let Some(poll) = health.longest_poll.filter(|poll| *poll > POLL_MAX) {
                return Err(format!("a task of {} stood still for {poll:?}", health.agent));
            }
            let over = health.queues.iter().find(|(_, depth)| depth.waiting > depth.most);
            if let Some((queue, depth)) = over {
                return Err(format!("queue {queue} of {} is at {depth:?}", health.agent));
            }
        }
        Ok(())
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        last.health.iter().try_for_each(|health| self.compare(health))
    }
}

impl ProcessesStaySound {
    fn compare(&self, health: &ProcessHealth) -> Result<(), String> {
        let Some((memory, files)) = self.first.get(&health.agent) else { return Ok(()) };
        if let (Some(before), Some(after)) = (memory, health.memory) {
            let growth = (before / 100 * MEMORY_GROWTH_PERCENT).max(MEMORY_GROWTH_BYTES);
            if after > before + growth {
                return Err(format!("{} grew from {before} to {after} bytes", health.agent));
            }
        }
        if let (Some(before), Some(after)) = (files, health.files)
            && after > before + FILES_GROWTH
        {
            return Err(format!("{} had {before} files open and has {after}", health.agent));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        QueueDepth,
        fixture::{breaks, holds},
    };

    fn with_health(change: impl FnOnce(&mut ProcessHealth)) -> Observation {
        let mut health = ProcessHealth {
            agent: "server-1".into(),
            memory: Some(100 << 20),
            files: Some(50),
            queues: [("plans".into(), QueueDepth { waiting: 3, most: 64 })].into(),
            ..ProcessHealth::default()
        };
        change(&mut health);
        Observation { health: vec![health], ..Observation::default() }
    }

    #[test]
    fn what_must_not_be_is_seen_at_once() {
        holds::<ProcessesStaySound>(&[with_health(|_| ())]);
        breaks::<ProcessesStaySound>(&[with_health(|health| health.panics.push("oh".into()))]);
        breaks::<ProcessesStaySound>(&[with_health(|health| health.longest_poll = Some(POLL_MAX * 2))]);
        breaks::<ProcessesStaySound>(&[with_health(|health| {
            health.queues.insert("plans".into(), QueueDepth { waiting: 65, most: 64 });
        })]);
    }

    #[test]
    fn what_grew_is_seen_in_the_end() {
        let property: ProcessesStaySound = holds(&[with_health(|_| ())]);
        let end = |last: Observation| property.end(&last, &History::default());
        assert_eq!(end(with_health(|health| health.memory = Some(110 << 20))), Ok(()));
        end(with_health(|health| health.memory = Some(130 << 20))).expect_err("it grew");
        end(with_health(|health| health.files = Some(500))).expect_err("files leak");
    }
}
