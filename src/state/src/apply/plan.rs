use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    AllocExtra, AllocHealth, AllocId, Allocation, ClientStatus, Deployment, DeploymentGroup, DesiredStatus,
    Evaluation, Job, Node, NodeId, Timestamp, Usage,
};
use protocol::{InPlaceUpdate, Placement, Plan, Stop};

use super::{Writer, writer::Spot};
use crate::{Outcome, PlanRejection, allocs::Held, fits};

/// A plan's place in its command: when, and the numbers of the rows that it makes.
struct Round<'a> {
    now: Timestamp,
    /// The ids of all allocations that the command places, in order: rows of one commit are listed so.
    ids: &'a [AllocId],
}

impl Round<'_> {
    fn ordinal(&self, id: AllocId) -> Option<u64> {
        self.ids.binary_search(&id).ok().map(|at| at as u64)
    }
}

impl Writer<'_> {
    /// Applies plans in order. One that does not fit the state any more is left out, with its evaluation as it was.
    pub(super) fn apply_plans(&mut self, plans: &[Plan], now: Timestamp) -> Outcome {
        let mut ids: Vec<_> =
            plans.iter().flat_map(|plan| &plan.placements).map(|placement| placement.id).collect();
        ids.sort_unstable();
        let round = Round { now, ids: &ids };
        let (mut rejected, mut evals) = (Vec::new(), Vec::new());
        for (at, plan) in plans.iter().enumerate() {
            match self.check_plan(plan) {
                Ok(checked) => {
                    self.apply_plan(plan, &checked, &round);
                    evals.push(&plan.eval);
                    evals.extend(&plan.new_evals);
                }
                Err(rejection) => rejected.push((at, rejection)),
            }
        }
        self.put_plan_evals(evals);
        Outcome::Plans { rejected }
    }

    /// Puts in the evaluations of plans, each plan's own before those that it made.
    fn put_plan_evals(&mut self, evals: Vec<&Evaluation>) {
        // New rows of one commit are listed in the order of their ids; the known ones have their place.
        let (known, new): (Vec<_>, Vec<_>) =
            evals.into_iter().partition(|eval| self.state.eval(eval.id).is_some());
        known.into_iter().for_each(|eval| self.put_eval(eval));
        self.put_evals(new);
    }

    /// Decides whether a plan fits the state. Reads only.
    fn check_plan(&self, plan: &Plan) -> Result<Checked, PlanRejection> {
        let Some(planned) = &plan.job else {
            // A job that is gone has nothing to place; a plan that says otherwise was made wrongly.
            return match plan.placements.is_empty() && plan.updates.is_empty() {
                true => Ok(Checked::default()),
                false => Err(PlanRejection::Malformed { key: plan.eval.job.clone() }),
            };
        };
        let version = |version: u64| {
            let job = self.state.job_version(&planned.key, version);
            let job = job.filter(|job| job.create_index == planned.create_index);
            job.cloned().ok_or_else(|| PlanRejection::NoSuchJob { key: planned.key.clone(), version })
        };
        let mut checked = Checked::default();
        if plan.placements.is_empty() && plan.updates.is_empty() {
            return Ok(checked);
        }
        checked.versions.insert(planned.version, version(planned.version)?);
        for other in plan.placements.iter().filter_map(|placement| placement.links.as_ref()?.job_version) {
            if checked.versions.contains_key(&other) {
                continue;
            }
            // A version that is kept no more may still be held by an allocation that is to be replaced.
            let held = || self.held_version(plan, planned.create_index, other);
            let job = version(other).or_else(|rejection| held().ok_or(rejection))?;
            checked.versions.insert(other, job);
        }
        checked.planned = planned.version;
        check_references(plan, &checked)?;
        self.check_nodes(plan, &checked)?;
        Ok(checked)
    }

    fn held_version(&self, plan: &Plan, create_index: u64, version: u64) -> Option<Arc<Job>> {
        let previous = plan.placements.iter().filter_map(|placement| placement.links.as_ref()?.previous);
        previous
            .filter_map(|id| self.state.alloc(id))
            .map(|alloc| &alloc.job)
            .find(|job| job.create_index == create_index && job.version == version)
            .cloned()
    }

    /// Decides whether every node that the plan uses is ready and has room for what would be on it.
    fn check_nodes(&self, plan: &Plan, checked: &Checked) -> Result<(), PlanRejection> {
        let stops: BTreeMap<AllocId, &Stop> = plan.stops.iter().map(|stop| (stop.id, stop)).collect();
        let mut changes: BTreeMap<NodeId, NodeChange<'_>> = BTreeMap::new();
        for update in &plan.updates {
            let alloc = self.state.alloc(update.id).filter(|alloc| !alloc.terminal());
            let alloc = alloc.ok_or(PlanRejection::AllocGone { id: update.id })?;
            changes.entry(alloc.node_id).or_default().updates.insert(update.id, update);
        }
        for placement in &plan.placements {
            if self.state.allocs.position(placement.id).is_none() {
                changes.entry(placement.node_id).or_default().placements.push(placement);
            }
        }
        let amounts: Vec<Option<Usage>> = plan.resources.iter().map(|held| Held::plain(held)).collect();
        let stopping: BTreeSet<NodeId> =
            plan.stops.iter().filter_map(|stop| Some(self.state.alloc(stop.id)?.node_id)).collect();
        for (id, change) in &changes {
            let node = self.state.node(*id).ok_or(PlanRejection::NodeNotReady { id: *id })?;
            if !change.placements.is_empty()
                && !node.schedulable()
                && !mutants::on!("plan-on-a-node-that-is-down")
            {
                return Err(PlanRejection::NodeNotReady { id: *id });
            }
            if !stopping.contains(id) && self.surely_has_room(node, change, &amounts) {
                debug_assert_eq!(self.check_room(plan, checked, node, change, &stops), Ok(()));
                continue;
            }
            self.check_room(plan, checked, node, change, &stops)?;
        }
        Ok(())
    }

    /// Tells whether a node has room for what a plan places there by the sums that are kept of it. False where they can not
    /// tell: then all that is on the node has to be looked at.
    fn surely_has_room(&self, node: &Node, change: &NodeChange<'_>, amounts: &[Option<Usage>]) -> bool {
        let mut held = self.state.allocs.held_on(node.id);
        for placement in &change.placements {
            let replaces =
                placement.links.as_ref().is_some_and(|it| it.previous.is_some() || !it.preempted.is_empty());
            match amounts[placement.resources as usize].filter(|_| !replaces) {
                Some(usage) => held.add(usage),
                None => return false,
            }
        }
        change.updates.is_empty() && held.surely_fits(node)
    }

    fn check_room(
        &self,
        plan: &Plan,
        checked: &Checked,
        node: &Node,
        change: &NodeChange<'_>,
        stops: &BTreeMap<AllocId, &Stop>,
    ) -> Result<(), PlanRejection> {
        let mut changed = Vec::new();
        let mut unchanged = Vec::new();
        for alloc in self.state.allocs_by_node(node.id).filter(|alloc| alloc.occupies()) {
            let (update, stop) = (change.updates.get(&alloc.id), stops.get(&alloc.id));
            if update.is_none() && stop.is_none() {
                unchanged.push(alloc);
                continue;
            }
            let mut next = Allocation::clone(alloc);
            if let Some(update) = update {
                next.resources = plan.resources[update.resources as usize].clone();
            }
            if let Some(stop) = stop {
                next.desired = stop.desired;
                next.client_status = stop.client_status.unwrap_or(next.client_status);
            }
            changed.push(next);
        }
        for placement in &change.placements {
            changed.push(placed(plan, checked, placement, Timestamp::ZERO));
        }
        let after = unchanged.iter().map(|alloc| &***alloc).chain(&changed);
        let Some(misfit) = fits(node, after).err().filter(|_| !mutants::on!("plan-without-room")) else {
            return Ok(());
        };
        // A node that lost capacity is too full already; what stays on it may still be updated.
        let was_full = || fits(node, self.state.allocs_by_node(node.id).map(|alloc| &**alloc)).is_err();
        if change.placements.is_empty() && was_full() {
            return Ok(());
        }
        Err(PlanRejection::NodeFull { id: node.id, misfit })
    }

    /// Applies a plan that was checked.
    fn apply_plan(&mut self, plan: &Plan, checked: &Checked, round: &Round<'_>) {
        if let Some(deployment) = &plan.deployment {
            self.put_planned_deployment(deployment, round.now);
        }
        for update in &plan.deployment_updates {
            self.set_deployment_status(update, round.now);
        }
        for stop in plan.stops.iter().skip(usize::from(mutants::on!("plan-forgets-a-stop"))) {
            self.stop_alloc(stop, round.now);
        }
        for update in &plan.updates {
            self.update_in_place(plan, checked, update, round.now);
        }
        for placement in &plan.placements {
            self.place(plan, checked, placement, round);
        }
    }

    /// Puts in a deployment that begins, or the wanted counts of one that goes on. The rest of a known one is decided
    /// elsewhere: by users who pause it, and by what is placed and healthy, which is counted here.
    fn put_planned_deployment(&mut self, planned: &Deployment, now: Timestamp) {
        let Some(known) = self.state.deployment(planned.id) else {
            let deployment = Deployment { create_index: self.index, modify_time: now, ..planned.clone() };
            return self.put_deployment(deployment);
        };
        if !known.status.is_active() {
            return;
        }
        self.edit_deployment(planned.id, now, |deployment| {
            for (name, group) in &planned.groups {
                let known = deployment.groups.entry(name.clone()).or_default();
                *known = DeploymentGroup {
                    placed: known.placed,
                    healthy: known.healthy,
                    unhealthy: known.unhealthy,
                    placed_canaries: std::mem::take(&mut known.placed_canaries),
                    require_progress_by: known.require_progress_by,
                    promoted: known.promoted,
                    ..group.clone()
                };
            }
        });
    }

    fn stop_alloc(&mut self, stop: &Stop, now: Timestamp) {
        self.edit_alloc(stop.id, now, |alloc| {
            alloc.desired = stop.desired;
            // What is said of one out of reach is about its client: the servers want of it what they wanted.
            if stop.client_status == Some(ClientStatus::Unknown) {
                alloc.client_description = stop.description.clone();
            } else {
                alloc.desired_description = stop.description.clone();
            }
            if let Some(status) = stop.client_status.filter(|_| !alloc.client_status.is_terminal()) {
                if status != alloc.client_status && status == ClientStatus::Unknown {
                    alloc.extra_mut().states.push((status, now));
                }
                alloc.client_status = status;
            }
            if stop.followup_eval.is_some() {
                alloc.extra_mut().followup_eval = stop.followup_eval;
            }
            if stop.preempted_by.is_some() {
                alloc.extra_mut().preempted_by = stop.preempted_by;
            }
            if !stop.last_reschedule.is_empty() {
                alloc.extra_mut().last_reschedule = stop.last_reschedule.clone();
            }
        });
    }

    fn update_in_place(&mut self, plan: &Plan, checked: &Checked, update: &InPlaceUpdate, now: Timestamp) {
        let Some(position) = self.state.allocs.position(update.id) else { return };
        let mut alloc = Allocation::clone(self.state.allocs.at(position));
        let joins = update.deployment.filter(|id| alloc.extra().deployment != Some(*id));
        alloc.job = checked.planned_job().clone();
        alloc.group = update.group;
        alloc.resources = plan.resources[update.resources as usize].clone();
        alloc.metrics = Some(plan.metrics[update.metrics as usize].clone());
        alloc.eval_id = update.eval_id;
        alloc.alloc_modify_index = self.index;
        alloc.modify_time = now;
        if let Some(id) = joins {
            let extra = alloc.extra_mut();
            extra.deployment = Some(id);
            extra.health = None;
        }
        let group = alloc.task_group().name.clone();
        self.put_alloc(alloc, Spot::At(position));
        if let Some(id) = joins {
            self.count_placed(id, &group, None, now);
        }
    }

    fn place(&mut self, plan: &Plan, checked: &Checked, placement: &Placement, round: &Round<'_>) {
        let known = self.state.allocs.position(placement.id);
        if known.is_some() && !mutants::on!("plan-places-twice") {
            return;
        }
        let spot = known.map_or(Spot::New { ordinal: round.ordinal(placement.id) }, Spot::At);
        let mut alloc = placed(plan, checked, placement, round.now);
        alloc.create_index = self.index;
        alloc.alloc_modify_index = self.index;
        let group = alloc.task_group().name.clone();
        self.put_alloc(alloc, spot);
        let Some(links) = &placement.links else { return };
        if let Some(previous) = links.previous.filter(|_| !mutants::on!("next-is-not-noted")) {
            self.edit_alloc(previous, round.now, |alloc| alloc.extra_mut().next = Some(placement.id));
        }
        if let Some(deployment) = links.deployment {
            self.count_placed(deployment, &group, links.canary.then_some(placement.id), round.now);
        }
    }
}

/// What a plan refers to, found.
#[derive(Default)]
struct Checked {
    planned: u64,
    versions: BTreeMap<u64, Arc<Job>>,
}

impl Checked {
    fn planned_job(&self) -> &Arc<Job> {
        &self.versions[&self.planned]
    }

    fn job_of(&self, placement: &Placement) -> &Arc<Job> {
        let version = placement.links.as_ref().and_then(|links| links.job_version).unwrap_or(self.planned);
        &self.versions[&version]
    }
}

/// What a plan does on one node.
#[derive(Default)]
struct NodeChange<'a> {
    updates: BTreeMap<AllocId, &'a InPlaceUpdate>,
    placements: Vec<&'a Placement>,
}

/// Decides whether all that a plan's rows point to is there.
fn check_references(plan: &Plan, checked: &Checked) -> Result<(), PlanRejection> {
    let key = || plan.eval.job.clone();
    let held = |resources: u32, metrics: u32| {
        (resources as usize) < plan.resources.len() && (metrics as usize) < plan.metrics.len()
    };
    let updates =
        plan.updates.iter().map(|row| (row.resources, row.metrics, row.group, checked.planned_job()));
    let placements =
        plan.placements.iter().map(|row| (row.resources, row.metrics, row.group, checked.job_of(row)));
    for (resources, metrics, group, job) in updates.chain(placements) {
        if !held(resources, metrics) {
            return Err(PlanRejection::Malformed { key: key() });
        }
        if usize::from(group) >= job.spec.groups.len() {
            return Err(PlanRejection::NoSuchGroup { key: key(), group });
        }
    }
    Ok(())
}

/// Makes the row of a placement.
fn placed(plan: &Plan, checked: &Checked, placement: &Placement, now: Timestamp) -> Allocation {
    Allocation {
        id: placement.id,
        eval_id: plan.eval.id,
        node_id: placement.node_id,
        job: checked.job_of(placement).clone(),
        group: placement.group,
        index: placement.index,
        desired: DesiredStatus::Run,
        client_status: ClientStatus::Pending,
        desired_description: Default::default(),
        client_description: Default::default(),
        resources: plan.resources[placement.resources as usize].clone(),
        metrics: Some(plan.metrics[placement.metrics as usize].clone()),
        task_states: Arc::new([]),
        extra: placement.links.as_ref().map(|links| {
            Box::new(AllocExtra {
                previous: links.previous,
                deployment: links.deployment,
                health: links.canary.then(|| AllocHealth { canary: true, ..AllocHealth::default() }),
                reschedules: links.reschedules.clone(),
                preempted: links.preempted.clone(),
                ..AllocExtra::EMPTY
            })
        }),
        create_index: 0,
        modify_index: 0,
        alloc_modify_index: 0,
        create_time: now,
        modify_time: now,
    }
}
