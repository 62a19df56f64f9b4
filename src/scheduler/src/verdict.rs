//! Gathers what one evaluation came to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    AllocId, AllocMetric, AllocatedResources, Allocation, DesiredStatus, EvalId, EvalStatus, EvalTrigger,
    Evaluation, JobKey, PlanAnnotations, Text,
};
use protocol::{Plan, Stop};
use state::Snapshot;

use crate::{Context, feasibility::Candidates, reconcile::texts};

/// A plan in the making, and what could not be placed.
pub(crate) struct Verdict {
    pub(crate) plan: Plan,
    /// Groups that miss some, and why.
    pub(crate) failed: BTreeMap<Text, AllocMetric>,
    pub(crate) queued: BTreeMap<Text, u32>,
    pub(crate) annotations: PlanAnnotations,
    classes: BTreeMap<Text, bool>,
    escaped: bool,
    known_resources: BTreeMap<usize, u32>,
    known_metrics: BTreeMap<usize, u32>,
}

impl Verdict {
    /// Starts with an evaluation and nothing done.
    pub(crate) fn new(eval: &Evaluation) -> Self {
        Self {
            plan: Plan::of(eval.clone()),
            failed: BTreeMap::new(),
            queued: BTreeMap::new(),
            annotations: PlanAnnotations::default(),
            classes: BTreeMap::new(),
            escaped: false,
            known_resources: BTreeMap::new(),
            known_metrics: BTreeMap::new(),
        }
    }

    /// Puts resources into the plan once, however many share them.
    pub(crate) fn resources(&mut self, resources: &Arc<AllocatedResources>) -> u32 {
        let list = &mut self.plan.resources;
        *self.known_resources.entry(Arc::as_ptr(resources) as usize).or_insert_with(|| {
            list.push(resources.clone());
            position(list.len())
        })
    }

    /// Puts a metric into the plan once, however many share it.
    pub(crate) fn metric(&mut self, metric: &Arc<AllocMetric>) -> u32 {
        let list = &mut self.plan.metrics;
        *self.known_metrics.entry(Arc::as_ptr(metric) as usize).or_insert_with(|| {
            list.push(metric.clone());
            position(list.len())
        })
    }

    /// Notes that some of a group could not be placed.
    pub(crate) fn fail(
        &mut self,
        group: &Text,
        count: usize,
        mut metric: AllocMetric,
        candidates: &Candidates,
    ) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        *self.queued.entry(group.clone()).or_default() += count;
        for (class, feasible) in &candidates.classes {
            *self.classes.entry(class.clone()).or_default() |= feasible;
        }
        self.escaped |= candidates.escaped;
        match self.failed.get_mut(group) {
            Some(known) => known.coalesced_failures += count,
            None => {
                metric.coalesced_failures = count.saturating_sub(1);
                self.failed.insert(group.clone(), metric);
            }
        }
    }

    /// Notes who makes room for a new allocation of a group.
    pub(crate) fn preempt(&mut self, group: &Text, id: AllocId, preempted: &[Arc<Allocation>]) {
        if preempted.is_empty() {
            return;
        }
        let description = Text::from(format!("Preempted by alloc ID {id}"));
        self.plan.stops.extend(preempted.iter().map(|alloc| Stop {
            id: alloc.id,
            desired: DesiredStatus::Evict,
            description: description.clone(),
            client_status: None,
            followup_eval: None,
            preempted_by: Some(id),
            last_reschedule: Text::default(),
        }));
        self.annotations.groups.entry(group.clone()).or_default().preemptions += preempted.len() as u64;
    }

    /// Has the jobs looked at again that lose allocations to this one.
    fn follow_preemptions(&mut self, snapshot: &Snapshot, context: &mut Context<'_>) {
        let stops = self.plan.stops.iter().filter(|stop| stop.preempted_by.is_some());
        let losers: BTreeSet<&JobKey> =
            stops.filter_map(|stop| snapshot.alloc(stop.id)).map(|alloc| &alloc.job.key).collect();
        for job in losers.into_iter().filter_map(|key| snapshot.job(key)) {
            let id = EvalId::from_random(context.chance.random_u128());
            let (kind, priority) = (job.spec.kind, job.spec.priority);
            self.plan.new_evals.push(Evaluation {
                job_modify_index: job.modify_index,
                ..Evaluation::pending(
                    id,
                    job.key.clone(),
                    kind,
                    priority,
                    EvalTrigger::Preemption,
                    context.now,
                )
            });
        }
    }

    /// Cancels evaluations of the job that wait already: one for each job is enough, and the latest knows most.
    fn cancel_waiting(&mut self, snapshot: &Snapshot, context: &Context<'_>) {
        let eval = &self.plan.eval;
        if snapshot.job_counts(&eval.job).open_evals < 2 {
            return;
        }
        let waiting = |other: &&Arc<Evaluation>| other.status == EvalStatus::Blocked && other.id != eval.id;
        let description =
            Text::from(format!("existing blocked evaluation exists for job {:?}", eval.job.id.as_str()));
        let canceled = snapshot.evals_by_job(&eval.job).filter(waiting).map(|other| Evaluation {
            status: EvalStatus::Canceled,
            status_description: description.clone(),
            modify_time: context.now,
            ..Evaluation::clone(other)
        });
        let canceled: Vec<Evaluation> = canceled.collect();
        self.plan.new_evals.extend(canceled);
    }

    /// Ends the evaluation, which knew all room up to `snapshot_index`: complete, or waiting for room.
    pub(crate) fn finish(
        mut self,
        snapshot: &Snapshot,
        snapshot_index: u64,
        context: &mut Context<'_>,
    ) -> Plan {
        if !self.failed.is_empty() {
            self.cancel_waiting(snapshot, context);
        }
        let followup = self.plan.new_evals.iter().find(|eval| eval.status == EvalStatus::Pending);
        let followup = followup.map(|eval| eval.id);
        self.follow_preemptions(snapshot, context);
        let eval = &mut self.plan.eval;
        let waited = eval.status == EvalStatus::Blocked || eval.trigger == EvalTrigger::QueuedAllocs;
        eval.snapshot_index = snapshot_index;
        eval.queued = self.queued;
        eval.annotations = Some(Box::new(self.annotations));
        eval.modify_time = context.now;
        eval.status = EvalStatus::Complete;
        eval.class_eligibility.clear();
        eval.escaped_class = false;
        eval.next_eval = followup;
        if waited {
            eval.status_description = Text::default();
        }
        eval.failed_groups = self.failed;
        if eval.failed_groups.is_empty() {
            return self.plan;
        }
        if waited {
            // It waits on under its own id, knowing what it learned.
            eval.status = EvalStatus::Blocked;
            eval.status_description = Text::new_static(texts::BLOCKED);
            eval.class_eligibility = self.classes;
            eval.escaped_class = self.escaped;
            return self.plan;
        }
        let id = EvalId::from_random(context.chance.random_u128());
        let (job, kind, priority) = (eval.job.clone(), eval.kind, eval.priority);
        let blocked = Evaluation {
            status: EvalStatus::Blocked,
            status_description: Text::new_static(texts::BLOCKED),
            job_modify_index: eval.job_modify_index,
            previous_eval: Some(eval.id),
            failed_groups: eval.failed_groups.clone(),
            class_eligibility: self.classes,
            escaped_class: self.escaped,
            snapshot_index,
            ..Evaluation::pending(id, job, kind, priority, EvalTrigger::QueuedAllocs, context.now)
        };
        eval.blocked_eval = Some(id);
        self.plan.new_evals.push(blocked);
        self.plan
    }
}

fn position(len: usize) -> u32 {
    u32::try_from(len - 1).expect("a plan holds fewer than four billion rows")
}
