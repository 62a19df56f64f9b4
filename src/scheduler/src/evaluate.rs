//! One evaluation: reconciles its job, then finds nodes for what is missing.

use std::{collections::BTreeSet, sync::Arc};

use model::{
    AllocId, AllocMetric, Allocation, DeploymentId, DesiredStatus, Evaluation, Job, JobType, NodeId,
    SchedulerAlgorithm, TaskGroup, Text,
};
use protocol::{InPlaceUpdate, Placement, PlacementLinks, Plan, PlannedJob, Stop};
use state::Snapshot;

use crate::{
    Context, Scheduler,
    ask::Ask,
    feasibility::{Candidates, Feasibility},
    fixed,
    place::{Choice, Lender, Outcome, Pass, Wish},
    preempt::Preemption,
    reconcile::{self, GroupChanges, Nodes, Scene, Want, reschedule, texts},
    rules::{JobUse, Rules},
    score::Affinities,
    table::NodeTable,
    verdict::Verdict,
};

/// What is evaluated.
pub(crate) struct Subject<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) eval: &'a Evaluation,
    /// None when the job was purged.
    pub(crate) job: Option<&'a Arc<Job>>,
}

/// Makes the plan of one evaluation.
pub(crate) fn evaluate(scheduler: &mut Scheduler, subject: &Subject<'_>, context: &mut Context<'_>) -> Plan {
    let kind = subject.job.map_or(subject.eval.kind, |job| job.spec.kind);
    let (algorithm, oversubscription) = settings(subject);
    let Scheduler { table, feasibility } = scheduler;
    // What the snapshot shows beyond the table has not given its room back here: whoever waits for room did not see it.
    let decided_at = subject.snapshot.index().min(table.followed());
    let reconciled = reconcile::reconcile(&mut Scene {
        snapshot: subject.snapshot,
        job: subject.job,
        kind,
        eval: subject.eval,
        now: context.now,
        chance: context.chance,
        nodes: &mut View { table, feasibility, oversubscription },
    });
    let mut verdict = Verdict::new(subject.eval);
    verdict.plan.eval.deployment_id = reconciled.current_deployment.or(subject.eval.deployment_id);
    verdict.plan.deployment = reconciled.deployment;
    verdict.plan.deployment_updates = reconciled.deployment_updates;
    verdict.plan.new_evals = reconciled.followups;
    let Some(job) = subject.job else {
        for changes in reconciled.groups {
            verdict.annotations.groups.insert(changes.name.clone(), changes.desired);
            verdict.plan.stops.extend(changes.stops);
        }
        return verdict.finish(subject.snapshot, decided_at, context);
    };
    verdict.plan.job =
        Some(PlannedJob { key: job.key.clone(), create_index: job.create_index, version: job.version });
    let used = used_by(table, subject, &reconciled.groups);
    let mut placing = Placing {
        table,
        feasibility,
        subject,
        context,
        job,
        kind,
        algorithm,
        oversubscription,
        joins: reconciled.joins,
        used,
        preemption: Preemption::of(subject.snapshot, job),
        verdict,
    };
    placing.groups(reconciled.groups);
    if job.spec.all_at_once && !placing.verdict.failed.is_empty() {
        placing.take_back_all();
    }
    let Placing { verdict, context, .. } = placing;
    verdict.finish(subject.snapshot, decided_at, context)
}

/// Returns how nodes are ranked and whether memory may be oversubscribed: the node pool's word counts before the region's.
fn settings(subject: &Subject<'_>) -> (SchedulerAlgorithm, bool) {
    let config = subject.snapshot.scheduler_config();
    let pool = subject.job.and_then(|job| subject.snapshot.node_pool(&job.spec.node_pool));
    let own = pool.and_then(|pool| pool.scheduler).unwrap_or_default();
    (
        own.algorithm.unwrap_or(config.algorithm),
        own.memory_oversubscription.unwrap_or(config.memory_oversubscription),
    )
}

/// What reconciling may see of nodes.
struct View<'a> {
    table: &'a NodeTable,
    feasibility: &'a mut Feasibility,
    oversubscription: bool,
}

impl Nodes for View<'_> {
    fn meets(&mut self, alloc: &Allocation, job: &Job, group: &TaskGroup) -> bool {
        let Some(slot) = self.table.slot(alloc.node_id) else { return false };
        let ask = Ask::of(job, group, self.oversubscription);
        self.feasibility.meets(self.table, slot, job, group, &ask)
    }

    fn eligible(&mut self, job: &Job, group: &TaskGroup) -> Vec<NodeId> {
        let ask = Ask::of(job, group, self.oversubscription);
        let candidates = self.feasibility.candidates(self.table, job, group, &ask);
        let mut nodes: Vec<NodeId> = candidates.slots.iter().map(|&slot| self.table.node(slot).id).collect();
        nodes.sort_unstable();
        nodes
    }
}

/// Counts where the job is, without what is about to stop.
fn used_by(table: &NodeTable, subject: &Subject<'_>, groups: &[GroupChanges]) -> JobUse {
    let stops = groups.iter().flat_map(|changes| &changes.stops);
    let stopping = stops.filter(|stop| stop.desired != DesiredStatus::Run).map(|stop| stop.id);
    let replaced = groups.iter().flat_map(|changes| &changes.destructive).map(|alloc| alloc.id);
    let gone: BTreeSet<AllocId> = stopping.chain(replaced).collect();
    let mut used = JobUse::default();
    for alloc in subject.snapshot.allocs_by_job(&subject.eval.job) {
        if alloc.terminal() || gone.contains(&alloc.id) {
            continue;
        }
        if let Some(slot) = table.slot(alloc.node_id) {
            used.add(slot, &alloc.task_group().name);
        }
    }
    used
}

/// Finds nodes for what is missing.
struct Placing<'a, 'c> {
    table: &'a mut NodeTable,
    feasibility: &'a mut Feasibility,
    subject: &'a Subject<'a>,
    context: &'a mut Context<'c>,
    job: &'a Arc<Job>,
    kind: JobType,
    algorithm: SchedulerAlgorithm,
    oversubscription: bool,
    joins: Option<DeploymentId>,
    used: JobUse,
    preemption: Option<Preemption>,
    verdict: Verdict,
}

/// What a new allocation is, beside where it goes.
struct Placed<'a> {
    group: usize,
    index: u32,
    previous: Option<&'a Arc<Allocation>>,
    canary: bool,
    reschedule: bool,
    job: &'a Arc<Job>,
}

impl Placing<'_, '_> {
    fn groups(&mut self, mut groups: Vec<GroupChanges>) {
        let system = matches!(self.kind, JobType::System | JobType::Sysbatch);
        for changes in &mut groups {
            self.verdict.plan.stops.append(&mut changes.stops);
            let quiet = changes.desired == model::DesiredUpdates::default();
            if !(system && quiet && self.job.stop) {
                self.verdict.annotations.groups.insert(changes.name.clone(), changes.desired);
                self.verdict.queued.insert(changes.name.clone(), 0);
            }
        }
        // What replaces something comes first: it needs no more room than it gives back.
        for changes in &groups {
            let Some((at, _)) = self.job.group(&changes.name) else { continue };
            self.update_in_place(at, &changes.in_place);
            if system {
                self.place_fixed(at, changes);
            } else {
                self.replace(at, &changes.destructive);
            }
        }
        if !system {
            for changes in &groups {
                self.place_wants(changes);
            }
        }
    }

    fn ask(&mut self, job: &Arc<Job>, at: usize) -> (Ask, Arc<Candidates>) {
        let group = &job.spec.groups[at];
        let ask = Ask::of(job, group, self.oversubscription);
        let candidates = self.feasibility.candidates(self.table, job, group, &ask);
        (ask, candidates)
    }

    fn update_in_place(&mut self, at: usize, allocs: &[Arc<Allocation>]) {
        for alloc in allocs {
            let resources = self.verdict.resources(&alloc.resources);
            let metric = alloc.metrics.clone().unwrap_or_default();
            let metrics = self.verdict.metric(&metric);
            self.verdict.plan.updates.push(InPlaceUpdate {
                id: alloc.id,
                group: group_number(at),
                resources,
                metrics,
                deployment: self.deployment_of(at),
                eval_id: self.subject.eval.id,
            });
        }
    }

    /// Replaces allocations that can not move to the job's version where they are.
    fn replace(&mut self, at: usize, replaced: &[Arc<Allocation>]) {
        if replaced.is_empty() {
            return;
        }
        let job = self.job;
        let group = &job.spec.groups[at];
        let (ask, candidates) = self.ask(job, at);
        // A node that is gone lends nothing, an allocation that is over has nothing to lend, and one that was told to
        // make room for another job by a plan that is not committed yet lends to that one.
        let lends = |alloc: &Allocation| {
            let slot = self.table.slot(alloc.node_id).filter(|_| alloc.occupies());
            slot.is_some_and(|slot| !self.table.is_lent(slot, alloc.id))
        };
        let lending: Vec<usize> = (0..replaced.len()).filter(|&at| lends(&replaced[at])).collect();
        let lenders: Vec<Lender<'_>> = lending
            .iter()
            .filter_map(|&at| {
                let slot = self.table.slot(replaced[at].node_id)?;
                Some(Lender { id: replaced[at].id, slot, resources: &replaced[at].resources })
            })
            .collect();
        let wishes: Vec<Wish> = replaced.iter().map(|alloc| self.wish(group, Some(alloc), false)).collect();
        let outcome = self.run(job, group, &ask, &candidates, &lenders, &wishes);
        let mut left: BTreeSet<usize> = (0..replaced.len()).collect();
        let matched: Vec<Option<usize>> =
            outcome.choices.iter().map(|choice| choice.lender.map(|lender| lending[lender])).collect();
        matched.iter().flatten().for_each(|at| _ = left.remove(at));
        let metric = Arc::new(outcome.metric);
        for (choice, matched) in outcome.choices.iter().zip(matched) {
            let which =
                matched.unwrap_or_else(|| left.pop_first().expect("there is a choice for each at most"));
            let previous = &replaced[which];
            self.stop(previous, texts::UPDATING);
            let placed = Placed {
                group: at,
                index: previous.index,
                previous: Some(previous),
                canary: false,
                reschedule: false,
                job,
            };
            self.write_down(choice, &metric, placed);
        }
        if let Some(failure) = outcome.failure {
            self.verdict.fail(&group.name, replaced.len() - outcome.choices.len(), failure, &candidates);
        }
    }

    /// Places what is missing; those of one job version in one pass.
    fn place_wants(&mut self, changes: &GroupChanges) {
        let mut wants: Vec<&Want> = changes.wants.iter().collect();
        while let Some(first) = wants.first() {
            let job = first.job.as_ref().unwrap_or(self.job).clone();
            let same = |want: &&Want| want.job.as_ref().unwrap_or(self.job).version == job.version;
            let (batch, rest): (Vec<&Want>, Vec<&Want>) = wants.into_iter().partition(same);
            wants = rest;
            let Some((at, _)) = job.group(&changes.name) else { continue };
            self.place_batch(&job, at, &batch);
        }
    }

    fn place_batch(&mut self, job: &Arc<Job>, at: usize, wants: &[&Want]) {
        let group = &job.spec.groups[at];
        let (ask, candidates) = self.ask(job, at);
        let wishes: Vec<Wish> =
            wants.iter().map(|want| self.wish(group, want.previous.as_ref(), want.reschedule)).collect();
        let outcome = self.run(job, group, &ask, &candidates, &[], &wishes);
        let metric = Arc::new(outcome.metric);
        let has_spreads = !group.spreads.is_empty() || !job.spec.spreads.is_empty();
        for (choice, (want, wish)) in outcome.choices.iter().zip(wants.iter().zip(&wishes)) {
            let own;
            let metric = if wish.penalised.is_empty() && choice.preempted.is_empty() {
                &metric
            } else {
                let mut shown = AllocMetric::clone(&metric);
                shown.scores = vec![choice.parts.show(self.table, choice.slot, has_spreads)];
                own = Arc::new(shown);
                &own
            };
            let placed = Placed {
                group: at,
                index: want.index,
                previous: want.previous.as_ref(),
                canary: want.canary,
                reschedule: want.reschedule,
                job,
            };
            if let (true, Some(previous)) = (want.reschedule, &want.previous) {
                self.stop(previous, "");
            }
            self.write_down(choice, metric, placed);
        }
        let unplaced = &wants[outcome.choices.len()..];
        for want in unplaced.iter().filter(|want| want.reschedule) {
            self.note_no_placement(want);
        }
        if let Some(failure) = outcome.failure {
            self.verdict.fail(&group.name, unplaced.len(), failure, &candidates);
        }
    }

    /// Notes on a failed allocation that there was no room for its replacement, once.
    fn note_no_placement(&mut self, want: &Want) {
        let Some(previous) =
            want.previous.as_ref().filter(|alloc| alloc.extra().last_reschedule != texts::NO_PLACEMENT)
        else {
            return;
        };
        self.verdict.plan.stops.push(Stop {
            id: previous.id,
            desired: previous.desired,
            description: previous.desired_description.clone(),
            client_status: None,
            followup_eval: None,
            preempted_by: None,
            last_reschedule: Text::new_static(texts::NO_PLACEMENT),
        });
    }

    fn place_fixed(&mut self, at: usize, changes: &GroupChanges) {
        if changes.wants.is_empty() && changes.destructive.is_empty() {
            return;
        }
        let job = self.job;
        let group = &job.spec.groups[at];
        let (ask, candidates) = self.ask(job, at);
        let wanted: Vec<fixed::Wanted<'_>> = changes
            .destructive
            .iter()
            .map(|alloc| fixed::Wanted { node: alloc.node_id, previous: Some(alloc), replaces: true })
            .chain(changes.wants.iter().filter_map(|want| {
                want.node.map(|node| fixed::Wanted {
                    node,
                    previous: want.previous.as_ref(),
                    replaces: false,
                })
            }))
            .collect();
        let outcome = fixed::Pass {
            table: self.table,
            chance: self.context.chance,
            ask: &ask,
            algorithm: self.algorithm,
            candidates: &candidates,
            preemption: self.preemption.as_mut(),
        }
        .run(&wanted);
        let metric = Arc::new(outcome.metric);
        let canaries = self.canaries_wanted(group);
        for (choice, wanted) in outcome.choices {
            if let (true, Some(previous)) = (wanted.replaces, wanted.previous) {
                self.stop(previous, texts::UPDATING);
            }
            let (previous, canary) = (wanted.previous, wanted.replaces && canaries);
            let placed = Placed { group: at, index: 0, previous, canary, reschedule: false, job };
            self.write_down(&choice, &metric, placed);
        }
        if outcome.failures > 0 {
            self.verdict.fail(&group.name, outcome.failures, outcome.failure, &candidates);
        }
    }

    /// Tells whether what a system job's group replaces in this plan are canaries.
    fn canaries_wanted(&self, group: &TaskGroup) -> bool {
        let progress = |deployment: &model::Deployment| {
            deployment
                .groups
                .get(&group.name)
                .is_some_and(|group| group.desired_canaries > 0 && !group.promoted)
        };
        match &self.verdict.plan.deployment {
            Some(deployment) => progress(deployment),
            None => self
                .joins
                .and_then(|id| self.subject.snapshot.deployment(id))
                .is_some_and(|deployment| progress(deployment)),
        }
    }

    fn wish(&self, group: &TaskGroup, previous: Option<&Arc<Allocation>>, reschedule: bool) -> Wish {
        let Some(previous) = previous else { return Wish::default() };
        let slot = |id: NodeId| self.table.slot(id);
        let mut wish = Wish::default();
        if group.ephemeral_disk.sticky {
            wish.preferred = slot(previous.node_id);
        }
        if reschedule {
            let earlier = previous.extra().reschedules.iter().map(|event| event.previous_node);
            wish.penalised = std::iter::once(previous.node_id).chain(earlier).filter_map(slot).collect();
        }
        wish
    }

    fn run(
        &mut self,
        job: &Job,
        group: &TaskGroup,
        ask: &Ask,
        candidates: &Candidates,
        lenders: &[Lender<'_>],
        wishes: &[Wish],
    ) -> Outcome {
        let rules = Rules::new(self.table, job, group, &self.used);
        let affinities = Affinities::of(job, group, self.table.class_count());
        Pass {
            table: self.table,
            chance: self.context.chance,
            candidates,
            ask,
            group,
            algorithm: self.algorithm,
            affinities,
            rules,
            used: &mut self.used,
            lenders,
            preemption: self.preemption.as_mut(),
        }
        .run(wishes)
    }

    fn stop(&mut self, alloc: &Allocation, description: &'static str) {
        self.verdict.plan.stops.push(Stop {
            id: alloc.id,
            desired: DesiredStatus::Stop,
            description: Text::new_static(description),
            client_status: None,
            followup_eval: None,
            preempted_by: None,
            last_reschedule: Text::default(),
        });
    }

    /// Returns the deployment that new allocations of a group join.
    fn deployment_of(&self, at: usize) -> Option<DeploymentId> {
        let rolls = self.job.spec.groups[at].update.as_ref().is_some_and(|update| update.max_parallel > 0);
        self.joins.filter(|_| rolls)
    }

    fn write_down(&mut self, choice: &Choice, metric: &Arc<AllocMetric>, placed: Placed<'_>) {
        let current = placed.job.version == self.job.version;
        let deployment = if current { self.deployment_of(placed.group) } else { None };
        let mut links = PlacementLinks {
            previous: placed.previous.map(|alloc| alloc.id),
            deployment,
            canary: placed.canary,
            preempted: choice.preempted.iter().map(|alloc| alloc.id).collect(),
            job_version: (!current).then_some(placed.job.version),
            ..PlacementLinks::default()
        };
        if let (true, Some(previous)) = (placed.reschedule, placed.previous) {
            let policy = placed.job.spec.groups[placed.group].reschedule.as_ref();
            links.reschedules = reschedule::events_after(previous, policy, self.context.now);
        }
        self.verdict.preempt(&placed.job.spec.groups[placed.group].name, choice.id, &choice.preempted);
        let resources = self.verdict.resources(&choice.resources);
        let metrics = self.verdict.metric(metric);
        self.verdict.plan.placements.push(Placement {
            id: choice.id,
            node_id: self.table.node(choice.slot).id,
            group: group_number(placed.group),
            index: placed.index,
            resources,
            metrics,
            links: (links != PlacementLinks::default()).then(|| Box::new(links)),
        });
    }

    /// Takes every placement back: the job wants all of them or none.
    fn take_back_all(&mut self) {
        let placements = std::mem::take(&mut self.verdict.plan.placements);
        let previous: BTreeSet<AllocId> =
            placements.iter().filter_map(|placement| placement.links.as_ref()?.previous).collect();
        // What was to be replaced runs on, and nobody has to make room.
        self.verdict.plan.stops.retain(|stop| {
            (!previous.contains(&stop.id) || stop.client_status.is_some()) && stop.preempted_by.is_none()
        });
        self.verdict.annotations.groups.values_mut().for_each(|group| group.preemptions = 0);
        for placement in &placements {
            if let Some(slot) = self.table.slot(placement.node_id) {
                self.table.withdraw(self.subject.snapshot, slot, &[placement.id]);
            }
            let group = &self.job.spec.groups[usize::from(placement.group)].name;
            *self.verdict.queued.entry(group.clone()).or_default() += 1;
        }
    }
}

fn group_number(at: usize) -> u16 {
    u16::try_from(at).expect("a job has fewer than 65536 groups")
}
