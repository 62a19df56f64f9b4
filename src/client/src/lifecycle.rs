//! Which tasks of an allocation may run, and how the allocation is as a whole: pure.

use model::{ClientStatus, Lifecycle, LifecycleHook, Task, TaskRunState, TaskState};

/// Tells for each task whether it may start. `stopping` is set once the allocation is being stopped: then only
/// poststop tasks may.
pub fn may_start(tasks: &[Task], states: &[TaskState], stopping: bool) -> Vec<bool> {
    let phase = Phase::of(tasks, states);
    tasks.iter().map(|task| phase.lets(task.lifecycle, stopping)).collect()
}

/// What follows for the siblings from how the tasks are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consequence {
    /// Nothing.
    None,
    /// All are stopped because this one failed.
    SiblingFailed {
        /// Its position.
        task: usize,
    },
    /// All are stopped because the leader ended.
    LeaderDead,
    /// Sidecars are stopped because the main tasks ended.
    MainDead,
}

/// Decides what the state of the tasks means for those that are not over. Poststop tasks neither count nor are concerned.
pub fn consequence(tasks: &[Task], states: &[TaskState]) -> Consequence {
    let counted: Vec<usize> = (0..tasks.len()).filter(|at| !is_poststop(&tasks[*at])).collect();
    let dead = |at: &usize| states[*at].state == TaskRunState::Dead;
    let (over, live): (Vec<usize>, Vec<usize>) = counted.into_iter().partition(dead);
    if live.is_empty() {
        return Consequence::None;
    }
    if over.iter().any(|at| tasks[*at].leader && !states[*at].failed) {
        return Consequence::LeaderDead;
    }
    if let Some(task) = over.into_iter().find(|at| states[*at].failed) {
        return Consequence::SiblingFailed { task };
    }
    let sidecar = |at: &usize| tasks[*at].lifecycle.is_some_and(|lifecycle| lifecycle.sidecar);
    if live.iter().all(sidecar) { Consequence::MainDead } else { Consequence::None }
}

/// Tells whether a task runs when all others are over.
pub fn is_poststop(task: &Task) -> bool {
    matches!(task.lifecycle, Some(Lifecycle { hook: LifecycleHook::Poststop, .. }))
}

/// Returns an allocation's client status and its words, from its tasks.
pub fn status(states: &[TaskState]) -> (ClientStatus, &'static str) {
    let (mut pending, mut running, mut failed) = (states.is_empty(), false, false);
    for state in states {
        match state.state {
            TaskRunState::Pending => pending = true,
            TaskRunState::Running => running = true,
            TaskRunState::Dead => failed |= state.failed,
        }
    }
    match (failed, running, pending) {
        (true, _, _) => (ClientStatus::Failed, "Failed tasks"),
        (false, true, _) => (ClientStatus::Running, "Tasks are running"),
        (false, false, true) => (ClientStatus::Pending, "No tasks have started"),
        (false, false, false) => (ClientStatus::Complete, "All tasks have completed"),
    }
}

/// Returns the order in which tasks are stopped: leaders, then all that are meant to end or to serve, then sidecars.
/// Poststop tasks are not among them.
pub fn stop_order(tasks: &[Task]) -> [Vec<usize>; 3] {
    let mut order = [Vec::new(), Vec::new(), Vec::new()];
    for (at, task) in tasks.iter().enumerate() {
        match task.lifecycle {
            Some(Lifecycle { hook: LifecycleHook::Poststop, .. }) => {}
            _ if task.leader => order[0].push(at),
            Some(Lifecycle { sidecar: true, .. }) => order[2].push(at),
            None | Some(_) => order[1].push(at),
        }
    }
    order
}

/// How far an allocation is in its life.
struct Phase {
    prestart_done: bool,
    main_running: bool,
    all_over: bool,
}

impl Phase {
    fn of(tasks: &[Task], states: &[TaskState]) -> Self {
        let mut phase = Self { prestart_done: true, main_running: true, all_over: true };
        for (task, state) in tasks.iter().zip(states) {
            let dead = state.state == TaskRunState::Dead;
            match task.lifecycle {
                None => {
                    phase.main_running &= !state.started_at.is_zero();
                    phase.all_over &= dead;
                }
                Some(Lifecycle { hook: LifecycleHook::Prestart, sidecar }) => {
                    phase.prestart_done &=
                        if sidecar { !state.started_at.is_zero() } else { state.successful() };
                    phase.all_over &= dead;
                }
                Some(Lifecycle { hook: LifecycleHook::Poststart, .. }) => phase.all_over &= dead,
                Some(Lifecycle { hook: LifecycleHook::Poststop, .. }) => {}
            }
        }
        phase
    }

    fn lets(&self, lifecycle: Option<Lifecycle>, stopping: bool) -> bool {
        match lifecycle.map(|lifecycle| lifecycle.hook) {
            Some(LifecycleHook::Prestart) => !stopping,
            None => !stopping && self.prestart_done,
            Some(LifecycleHook::Poststart) => !stopping && self.prestart_done && self.main_running,
            Some(LifecycleHook::Poststop) => self.all_over,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    fn task(name: &str, lifecycle: Option<(LifecycleHook, bool)>) -> Task {
        let lifecycle = lifecycle.map(|(hook, sidecar)| Lifecycle { hook, sidecar });
        Task { name: name.into(), lifecycle, ..Task::default() }
    }

    fn state(state: TaskRunState, failed: bool) -> TaskState {
        let started_at = if state == TaskRunState::Pending { Timestamp::ZERO } else { Timestamp(1) };
        TaskState {
            name: "".into(),
            state,
            failed,
            restarts: 0,
            last_restart: Timestamp::ZERO,
            started_at,
            finished_at: Timestamp::ZERO,
            events: Box::new([]),
        }
    }

    use TaskRunState::{Dead, Pending, Running};

    #[test]
    fn main_tasks_wait_for_prestart_and_poststop_for_all() {
        let tasks = [
            task("init", Some((LifecycleHook::Prestart, false))),
            task("main", None),
            task("after", Some((LifecycleHook::Poststart, false))),
            task("last", Some((LifecycleHook::Poststop, false))),
        ];
        let states = |init, main, after| {
            [state(init, false), state(main, false), state(after, false), state(Pending, false)]
        };
        assert_eq!(may_start(&tasks, &states(Running, Pending, Pending), false), [true, false, false, false]);
        assert_eq!(may_start(&tasks, &states(Dead, Pending, Pending), false), [true, true, false, false]);
        assert_eq!(may_start(&tasks, &states(Dead, Running, Pending), false), [true, true, true, false]);
        assert_eq!(may_start(&tasks, &states(Dead, Dead, Dead), true), [false, false, false, true]);
    }

    #[test]
    fn a_failed_task_fails_its_allocation_even_while_others_run() {
        let states = [state(Dead, true), state(Running, false)];
        assert_eq!(status(&states), (ClientStatus::Failed, "Failed tasks"));
        let tasks = [task("a", None), task("b", None)];
        assert_eq!(consequence(&tasks, &states), Consequence::SiblingFailed { task: 0 });
    }

    #[test]
    fn sidecars_end_with_the_main_tasks() {
        let tasks = [task("side", Some((LifecycleHook::Prestart, true))), task("main", None)];
        let states = [state(Running, false), state(Dead, false)];
        assert_eq!(consequence(&tasks, &states), Consequence::MainDead);
        assert_eq!(stop_order(&tasks), [vec![], vec![1], vec![0]]);
    }

    #[test]
    fn a_leader_that_ended_takes_all_with_it_and_nothing_follows_when_nothing_runs() {
        let mut tasks =
            [task("lead", None), task("ship", None), task("last", Some((LifecycleHook::Poststop, false)))];
        tasks[0].leader = true;
        let states = |ship| [state(Dead, false), state(ship, false), state(Pending, false)];
        assert_eq!(consequence(&tasks, &states(Running)), Consequence::LeaderDead);
        assert_eq!(consequence(&tasks, &states(Dead)), Consequence::None);
        // One that failed is told as such.
        let failed = [state(Dead, true), state(Running, false), state(Pending, false)];
        assert_eq!(consequence(&tasks, &failed), Consequence::SiblingFailed { task: 0 });
    }

    #[test]
    fn what_prepares_is_waited_for_before_sidecars_end() {
        let tasks = [
            task("side", Some((LifecycleHook::Prestart, true))),
            task("after", Some((LifecycleHook::Poststart, false))),
            task("main", None),
        ];
        let states = |after| [state(Running, false), state(after, false), state(Dead, false)];
        assert_eq!(consequence(&tasks, &states(Running)), Consequence::None);
        assert_eq!(consequence(&tasks, &states(Dead)), Consequence::MainDead);
    }
}
