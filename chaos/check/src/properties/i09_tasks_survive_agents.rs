use std::collections::{BTreeMap, BTreeSet};

use model::{AllocId, NodeId, Text};

use crate::{History, Observation, Property};

/// A task is the same process however often its agent is killed: it is launched once, and once more for each restart
/// that its allocation tells of.
#[derive(Default)]
pub struct TasksSurviveAgents {
    launches: BTreeMap<(AllocId, Text), BTreeSet<Text>>,
    /// The machine of each task that was seen, and how often it was started. A machine takes its tasks with it.
    machines: BTreeMap<AllocId, (NodeId, u32)>,
    /// The most restarts that were ever told of each task: the row may be collected.
    restarts: BTreeMap<(AllocId, Text), u32>,
}

impl Property for TasksSurviveAgents {
    fn name(&self) -> &'static str {
        "I9 tasks survive their agents"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let with_machine =
            seen.nodes.iter().flat_map(|machine| machine.tasks.iter().map(move |task| (machine, task)));
        for (machine, task) in with_machine {
            let here = (machine.id, machine.life);
            if self.machines.insert(task.alloc, here).is_some_and(|before| before != here) {
                self.launches.retain(|(alloc, _), _| *alloc != task.alloc);
            }
            let launches = self.launches.entry((task.alloc, task.task.clone())).or_default();
            if !launches.contains(&task.launch) {
                launches.insert(task.launch.clone());
            }
        }
        let Some(rows) = seen.newest_rows() else { return Ok(()) };
        for ((alloc, task), _) in self.launches.iter().filter(|(_, launches)| launches.len() > 1) {
            let Some(told) = rows.allocs.get(alloc).and_then(|row| row.restarts.get(task)) else { continue };
            let most = self.restarts.entry((*alloc, task.clone())).or_default();
            *most = (*most).max(*told);
        }
        Ok(())
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        for (key, launches) in self.launches.iter().filter(|(_, launches)| launches.len() > 1) {
            let (alloc, task) = key;
            // One that is gone may have been started again unseen before its last word.
            let Some(row) = rows.allocs.get(alloc).filter(|row| row.wanted()) else { continue };
            let told = row.restarts.get(task).copied().max(self.restarts.get(key).copied()).unwrap_or(0);
            if launches.len() > usize::try_from(told).unwrap_or(usize::MAX).saturating_add(1) {
                return Err(format!(
                    "task {task} of allocation {alloc} was launched {} times and tells of {told} restarts: {launches:?}",
                    launches.len()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{alloc_id, calm, change, holds, rows, task};

    #[test]
    fn a_machine_takes_its_tasks_with_it() {
        let mut later = calm(rows());
        (later.nodes[0].boot, later.nodes[0].life) = (1, 1);
        later.nodes[0].tasks[0] = task(1, "another");
        let property: TasksSurviveAgents = holds(&[calm(rows()), later.clone()]);
        assert_eq!(property.end(&later, &History::default()), Ok(()));
    }

    #[test]
    fn a_second_launch_needs_a_restart() {
        let mut later = calm(rows());
        later.nodes[0].boot = 1;
        later.nodes[0].tasks[0] = task(1, "another");
        let property: TasksSurviveAgents = holds(&[calm(rows()), later.clone()]);
        property.end(&later, &History::default()).expect_err("nothing tells of a restart");
        change(&mut later, |rows| {
            let row = rows.allocs.get_mut(&alloc_id(1)).expect("it is there");
            row.restarts.insert("main".into(), 1);
        });
        let property: TasksSurviveAgents = holds(&[calm(rows()), later.clone()]);
        assert_eq!(property.end(&later, &History::default()), Ok(()));
    }
}
