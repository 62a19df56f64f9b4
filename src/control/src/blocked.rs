//! Which evaluations that wait for room may try again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{EvalId, EvalStatus, EvalTrigger, Evaluation, JobKey, Node, NodeId, Text};
use state::{ChangedRow, Changes, State, Table};

use crate::Moment;

/// Time after which evaluations that lost too many races try again without any change.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Classes whose last change is remembered. Classes are few (a machine type each); when there are more, a newly blocked
/// evaluation tries once more than it would need to.
const CLASSES_MAX: usize = 4096;

/// Evaluations that wait for room, by what would help them.
///
/// A blocked evaluation knows the node classes that were looked at and whether each would do. Room on a class that
/// would do, or that it never saw, wakes it. It holds nothing that is not in the state, and one evaluation a job.
#[derive(Debug, Default)]
pub struct Blocked {
    evals: BTreeMap<EvalId, Arc<Evaluation>>,
    by_job: BTreeMap<JobKey, EvalId>,
    /// When each class last got room: an evaluation that was decided on an older state missed it.
    last_room: BTreeMap<Text, u64>,
    /// The latest room on a class that is not remembered.
    forgotten_room: u64,
    retry_at: Option<Duration>,
}

/// What the leader writes down: evaluations that are pending again, and needless ones.
pub type Output = Vec<Evaluation>;

impl Blocked {
    /// Makes the machine of what is blocked in a state. What was decided before the last change may have missed room,
    /// so it tries again at once.
    pub fn new(state: &State, now: &Moment<'_>) -> (Self, Output) {
        let mut blocked = Self {
            forgotten_room: state.last_index_of(&[Table::Nodes, Table::Allocs]),
            retry_at: Some(now.elapsed + RETRY_AFTER),
            ..Self::default()
        };
        let mut out = Vec::new();
        for eval in state.evals().filter(|eval| eval.status == EvalStatus::Blocked) {
            blocked.block(eval, now, &mut out);
        }
        (blocked, out)
    }

    /// Takes in what a command touched.
    pub fn applied(&mut self, state: &State, changes: &Changes, now: &Moment<'_>) -> Output {
        let mut out = Vec::new();
        let classes = classes_with_room(state, changes);
        if !classes.is_empty() && !mutants::on!("blocked-sleeps-on") {
            self.remember(&classes, changes.index);
            self.wake(now, &mut out, |eval| classes.iter().any(|class| may_help(eval, class)));
        }
        // What ends comes first: rows come in any order, and one that a plan cancels for another must not keep that one out.
        for row in &changes.rows {
            let ChangedRow::Eval { before, after } = row else { continue };
            match after {
                Some(eval) if eval.status == EvalStatus::Blocked => {}
                Some(eval) => self.forget(eval.id),
                None => before.iter().for_each(|eval| self.forget(eval.id)),
            }
        }
        for row in &changes.rows {
            if let ChangedRow::Eval { after: Some(eval), .. } = row
                && eval.status == EvalStatus::Blocked
            {
                self.block(eval, now, &mut out);
            }
        }
        out
    }

    /// Takes in that plans were rejected which had placed on these nodes. While they were on their way their room counted as
    /// taken, so whoever was decided meanwhile may wait for it, and no row tells that it is free.
    pub fn given_back(
        &mut self,
        state: &State,
        nodes: impl IntoIterator<Item = NodeId>,
        now: &Moment<'_>,
    ) -> Output {
        let class = |id: NodeId| Some(state.node(id)?.computed_class.clone());
        let classes: BTreeSet<Text> = nodes.into_iter().filter_map(class).collect();
        let mut out = Vec::new();
        if !classes.is_empty() {
            // What is decided on this very state counts the room as free, but what was decided on it before did not.
            self.remember(&classes, state.index() + 1);
            self.wake(now, &mut out, |eval| classes.iter().any(|class| may_help(eval, class)));
        }
        out
    }

    /// Lets evaluations that lost too many races try again, once in a while.
    pub fn tick(&mut self, now: &Moment<'_>) -> Output {
        let mut out = Vec::new();
        if self.retry_at.is_none_or(|at| at <= now.elapsed) {
            self.retry_at = Some(now.elapsed + RETRY_AFTER);
            self.wake(now, &mut out, |eval| eval.trigger == EvalTrigger::MaxPlanAttempts);
        }
        out
    }

    /// Returns how many evaluations wait.
    pub fn len(&self) -> usize {
        self.evals.len()
    }

    /// Tells whether none waits.
    pub fn is_empty(&self) -> bool {
        self.evals.is_empty()
    }

    /// Returns the evaluation of a job that waits.
    pub fn of_job(&self, job: &JobKey) -> Option<&Arc<Evaluation>> {
        self.evals.get(self.by_job.get(job)?)
    }

    fn block(&mut self, eval: &Arc<Evaluation>, now: &Moment<'_>, out: &mut Output) {
        if let Some(older) = self.by_job.get(&eval.job).copied().filter(|older| *older != eval.id) {
            // Rows of one commit come in any order: the later one of the two stays.
            let known = self.evals[&older].clone();
            let (kept, ended) =
                if known.create_index > eval.create_index { (&known, eval) } else { (eval, &known) };
            out.push(Evaluation {
                status: EvalStatus::Canceled,
                status_description: format!("existing blocked evaluation exists for job {:?}", eval.job.id)
                    .into(),
                modify_time: now.wall,
                ..Evaluation::clone(ended)
            });
            if kept.id == older {
                return;
            }
            self.forget(older);
        }
        self.by_job.insert(eval.job.clone(), eval.id);
        self.evals.insert(eval.id, eval.clone());
        if self.missed_room(eval) {
            let id = eval.id;
            self.wake(now, out, |eval| eval.id == id);
        }
    }

    /// Tells whether a class that would do got room after the state that the evaluation was decided on.
    fn missed_room(&self, eval: &Evaluation) -> bool {
        self.forgotten_room > eval.snapshot_index
            || self
                .last_room
                .iter()
                .any(|(class, index)| *index > eval.snapshot_index && may_help(eval, class))
    }

    fn remember(&mut self, classes: &BTreeSet<Text>, index: u64) {
        for class in classes {
            self.last_room.insert(class.clone(), index);
        }
        while self.last_room.len() > CLASSES_MAX {
            let oldest =
                self.last_room.iter().min_by_key(|(_, index)| **index).map(|(class, _)| class.clone());
            let Some(index) = oldest.and_then(|class| self.last_room.remove(&class)) else { break };
            self.forgotten_room = self.forgotten_room.max(index);
        }
    }

    fn wake(&mut self, now: &Moment<'_>, out: &mut Output, wanted: impl Fn(&Evaluation) -> bool) {
        let woken: Vec<_> = self.evals.values().filter(|eval| wanted(eval)).cloned().collect();
        for eval in woken {
            self.forget(eval.id);
            out.push(Evaluation {
                status: EvalStatus::Pending,
                modify_time: now.wall,
                ..Evaluation::clone(&eval)
            });
        }
    }

    fn forget(&mut self, id: EvalId) {
        if let Some(eval) = self.evals.remove(&id)
            && self.by_job.get(&eval.job) == Some(&id)
        {
            self.by_job.remove(&eval.job);
        }
    }
}

/// Tells whether room on a class could help: it would do, or was never looked at.
fn may_help(eval: &Evaluation, class: &Text) -> bool {
    eval.escaped_class || eval.class_eligibility.get(class).copied().unwrap_or(true)
}

/// Returns the classes of the nodes that got room: they became usable or changed, or something on them ended.
fn classes_with_room(state: &State, changes: &Changes) -> BTreeSet<Text> {
    let mut classes = BTreeSet::new();
    for row in &changes.rows {
        match row {
            ChangedRow::Node { before, after: Some(after) } if got_room(before.as_deref(), after) => {
                classes.insert(after.computed_class.clone());
            }
            ChangedRow::Alloc { before: Some(before), after }
                if before.occupies() && !after.as_ref().is_some_and(|after| after.occupies()) =>
            {
                classes.extend(state.node(before.node_id).map(|node| node.computed_class.clone()));
            }
            _ => {}
        }
    }
    classes
}

fn got_room(before: Option<&Node>, after: &Node) -> bool {
    let Some(before) = before else { return after.schedulable() };
    after.schedulable()
        && (!before.schedulable()
            || before.computed_class != after.computed_class
            || before.resources != after.resources
            || before.reserved != after.reserved
            || before.reserved_ports != after.reserved_ports
            || before.max_allocs != after.max_allocs
            || before.host_volumes != after.host_volumes
            || before.attributes != after.attributes
            || before.drivers.keys().any(|name| !before.has_driver(name) && after.has_driver(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Clock, Region, job, key};
    use model::ClientStatus;
    use protocol::Command;

    #[test]
    fn room_on_a_class_that_would_do_wakes_and_on_others_does_not() {
        let (mut region, mut clock) = (Region::with_nodes(2), Clock::default());
        region.set_class(0, "good");
        region.set_class(1, "bad");
        for id in ["web", "other"] {
            region.register(job(id, "service", 50));
        }
        region.place("other", 0, 1);
        region.place("other", 1, 1);
        let id = region.add_blocked_eval("web", &[("good", true), ("bad", false)]);
        let (mut blocked, out) = Blocked::new(region.state(), &clock.moment());
        assert_eq!((out.len(), blocked.len()), (0, 1), "it saw all that there is");
        region.client_says(1, ClientStatus::Complete);
        assert_eq!(blocked.applied(region.state(), region.last_changes(), &clock.moment()), []);
        region.client_says(0, ClientStatus::Complete);
        let out = blocked.applied(region.state(), region.last_changes(), &clock.moment());
        assert_eq!(
            out.iter().map(|eval| (eval.id, eval.status)).collect::<Vec<_>>(),
            [(id, EvalStatus::Pending)]
        );
        assert!(blocked.is_empty());
    }

    #[test]
    fn room_that_came_between_decision_and_commit_is_not_missed() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        for id in ["web", "other"] {
            region.register(job(id, "service", 50));
        }
        region.place("other", 0, 1);
        let (mut blocked, _) = Blocked::new(region.state(), &clock.moment());
        let decided_at = region.state().index();
        region.client_says(0, ClientStatus::Failed);
        blocked.applied(region.state(), region.last_changes(), &clock.moment());
        region.add_blocked_eval_decided_at("web", &[("v1:1", true)], decided_at);
        let out = blocked.applied(region.state(), region.last_changes(), &clock.moment());
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].status, EvalStatus::Pending);
    }

    /// A round is decided while the one before is on its way; what that one had placed may be rejected.
    #[test]
    fn room_that_rejected_plans_give_back_is_not_missed() {
        let (mut region, mut clock) = (Region::with_nodes(2), Clock::default());
        for id in ["early", "late", "elsewhere"] {
            region.register(job(id, "service", 50));
        }
        let (mut blocked, _) = Blocked::new(region.state(), &clock.moment());
        region.add_blocked_eval("early", &[("v1:1", true)]);
        blocked.applied(region.state(), region.last_changes(), &clock.moment());
        region.add_blocked_eval("elsewhere", &[("v1:1", false)]);
        blocked.applied(region.state(), region.last_changes(), &clock.moment());
        let decided_at = region.state().index();
        let node = region.state().nodes().next().expect("it has nodes").id;
        let class = region.state().nodes().next().expect("it has nodes").computed_class.clone();
        assert_eq!(class.as_str(), "v1:1");

        let out = blocked.given_back(region.state(), [node], &clock.moment());
        let jobs = |out: &[Evaluation]| out.iter().map(|eval| eval.job.id.to_string()).collect::<Vec<_>>();
        assert_eq!(jobs(&out), ["early"], "one that waits for it tries again");
        region.add_blocked_eval_decided_at("late", &[("v1:1", true)], decided_at);
        let out = blocked.applied(region.state(), region.last_changes(), &clock.moment());
        assert_eq!(jobs(&out), ["late"], "and so does one that was decided before");
        let index = region.state().index();
        region.add_blocked_eval_decided_at("early", &[("v1:1", true)], index);
        let out = blocked.applied(region.state(), region.last_changes(), &clock.moment());
        assert_eq!(out, [], "once");
    }

    #[test]
    fn a_job_has_one_blocked_evaluation() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        let (mut blocked, _) = Blocked::new(region.state(), &clock.moment());
        let first = region.add_blocked_eval("web", &[]);
        blocked.applied(region.state(), region.last_changes(), &clock.moment());
        region.add_blocked_eval("web", &[]);
        let out = blocked.applied(region.state(), region.last_changes(), &clock.moment());
        assert_eq!(
            out.iter().map(|eval| (eval.id, eval.status)).collect::<Vec<_>>(),
            [(first, EvalStatus::Canceled)]
        );
        assert_eq!(blocked.len(), 1);
    }

    /// One that tried again waits on under its own id, and its plan cancels the later one that was made meanwhile.
    #[test]
    fn one_that_waits_on_and_the_one_that_its_plan_cancels_do_not_end_each_other() {
        for first_row in [0, 1] {
            let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
            region.register(job("web", "service", 50));
            let (mut blocked, _) = Blocked::new(region.state(), &clock.moment());
            let earlier = region.add_blocked_eval("web", &[]);
            blocked.applied(region.state(), region.last_changes(), &clock.moment());
            let with_status = |region: &Region, id: EvalId, status: EvalStatus| Evaluation {
                status,
                ..Evaluation::clone(region.state().eval(id).expect("it is there"))
            };
            let tries = with_status(&region, earlier, EvalStatus::Pending);
            region.apply(Command::UpsertEvals { evals: vec![tries] });
            blocked.applied(region.state(), region.last_changes(), &clock.moment());
            let later = region.add_blocked_eval("web", &[]);
            blocked.applied(region.state(), region.last_changes(), &clock.moment());
            let mut evals = vec![
                with_status(&region, later, EvalStatus::Canceled),
                with_status(&region, earlier, EvalStatus::Blocked),
            ];
            evals.swap(0, first_row);
            region.apply(Command::UpsertEvals { evals });
            let out = blocked.applied(region.state(), region.last_changes(), &clock.moment());
            assert_eq!(out, []);
            assert_eq!(blocked.of_job(&key("web")).map(|eval| eval.id), Some(earlier));
        }
    }

    #[test]
    fn a_later_leader_lets_those_try_that_may_have_missed_room() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        region.add_blocked_eval("web", &[]);
        region.touch_node(0);
        let (blocked, out) = Blocked::new(region.state(), &clock.moment());
        assert_eq!((out.len(), blocked.len()), (1, 0));
    }
}
