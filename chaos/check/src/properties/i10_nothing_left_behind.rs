use crate::{History, Observation, Property};

/// After the last fault, on machines whose agent runs, nothing is left that no wanted allocation owns: no task, and
/// nothing that was made for one.
#[derive(Default)]
pub struct NothingLeftBehind;

impl Property for NothingLeftBehind {
    fn name(&self) -> &'static str {
        "I10 nothing is left behind"
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        let wanted = |id| rows.allocs.get(&id).is_some_and(|row| row.wanted());
        for machine in &last.nodes {
            if last.agent(&machine.agent).is_none_or(|agent| !agent.running) {
                continue;
            }
            if let Some(task) = machine.tasks.iter().find(|task| !wanted(task.alloc)) {
                return Err(format!(
                    "task {} ({}) of allocation {} runs on {}, which nobody wants",
                    task.task, task.launch, task.alloc, machine.agent
                ));
            }
            let owned =
                |alloc: model::AllocId| wanted(alloc) || machine.tasks.iter().any(|task| task.alloc == alloc);
            if let Some(left) = machine.leftovers.iter().find(|left| left.alloc.is_none_or(|id| !owned(id))) {
                return Err(format!(
                    "{} {} is left on {} by {:?}",
                    left.kind, left.name, machine.agent, left.alloc
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::DesiredStatus;

    use super::*;
    use crate::{
        LeftOver,
        fixture::{alloc_id, calm, change, end, rows, task},
    };

    #[test]
    fn a_task_that_nobody_wants_is_seen() {
        assert_eq!(end::<NothingLeftBehind>(&calm(rows())), Ok(()));
        let mut stranger = calm(rows());
        stranger.nodes[0].tasks.push(task(9, "z"));
        end::<NothingLeftBehind>(&stranger).expect_err("no row knows it");
        let mut stopped = calm(rows());
        change(&mut stopped, |rows| {
            rows.allocs.get_mut(&alloc_id(1)).expect("it is there").desired = DesiredStatus::Stop;
        });
        end::<NothingLeftBehind>(&stopped).expect_err("it should have stopped");
        stopped.agents[1].running = false;
        assert_eq!(end::<NothingLeftBehind>(&stopped), Ok(()));
    }

    #[test]
    fn what_was_made_for_one_that_is_gone_is_seen() {
        let left = |alloc: Option<u128>| {
            let mut seen = calm(rows());
            let alloc = alloc.map(alloc_id);
            seen.nodes[0].leftovers.push(LeftOver { kind: "cgroup".into(), name: "x".into(), alloc });
            seen
        };
        assert_eq!(end::<NothingLeftBehind>(&left(Some(1))), Ok(()));
        end::<NothingLeftBehind>(&left(Some(9))).expect_err("its allocation is gone");
        end::<NothingLeftBehind>(&left(None)).expect_err("nobody owns it");
    }
}
