//! One group of a service or batch job.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{
    AllocId, Allocation, ClientStatus, EvalTrigger, Evaluation, Job, JobType, TaskGroup, Timestamp,
    UpdateStrategy,
};

use super::{
    GroupChanges, Scene, Want,
    deployment::{self, Rollout},
    difference::needs_replacement,
    disconnect, later, lost,
    names::Names,
    sort::{ByFate, ByNode, is_current},
    stop, texts, wait_for, without,
};

/// Replacements that are due within this time of each other share an evaluation.
const FOLLOWUP_BATCH: Duration = Duration::from_secs(5);

type Allocs = Vec<Arc<Allocation>>;

/// What is decided about one group.
pub(super) struct Group<'s, 'a> {
    scene: &'s mut Scene<'a>,
    job: &'s Arc<Job>,
    group: &'s TaskGroup,
    strategy: Option<&'s UpdateStrategy>,
    rollout: &'s mut Rollout,
    changes: GroupChanges,
}

/// Allocations of the group that count, by what becomes of them.
struct Counted {
    kept: Allocs,
    migrating: Allocs,
    lost: Allocs,
    /// Ended while the deployment held the group back, or went out of reach, and had no room for what was to come after them.
    owed: Allocs,
    replace_now: Allocs,
    canaries: Allocs,
}

impl<'s, 'a> Group<'s, 'a> {
    pub(super) fn new(
        scene: &'s mut Scene<'a>,
        job: &'s Arc<Job>,
        at: usize,
        rollout: &'s mut Rollout,
    ) -> Self {
        let group = &job.spec.groups[at];
        let strategy = deployment::strategy(group).filter(|_| scene.kind == JobType::Service);
        let changes = GroupChanges { name: group.name.clone(), ..GroupChanges::default() };
        Self { scene, job, group, strategy, rollout, changes }
    }

    /// Decides what is to happen to the group.
    pub(super) fn reconcile(mut self, all: Allocs, followups: &mut Vec<Evaluation>) -> GroupChanges {
        let had_running = all.iter().any(|alloc| is_current(alloc, self.job));
        let all = self.drop_old_canaries(all);
        let mut owed = self.owed(&all);
        let mut by_node = ByNode::sort(self.scene, self.group, all);
        let stay = self.reconnect(&mut by_node);
        by_node.kept.extend(stay);
        disconnect::disconnect(self.scene, self.group, &by_node.disconnecting, &mut self.changes, followups);
        if self.group.disconnect.as_ref().is_some_and(|disconnect| disconnect.replace == Some(false)) {
            by_node.kept.append(&mut by_node.unknown);
            by_node.kept.append(&mut by_node.disconnecting);
        }
        // What is out of reach and was to be replaced when there was no room for it: its replacement has to know it, so that
        // one of the two goes when it comes back.
        owed.extend(by_node.unknown.into_iter().filter(|alloc| alloc.extra().next.is_none()));
        let fates = ByFate::sort(self.scene, self.job, self.rollout, by_node.kept);
        let has_later = !fates.replace_later.is_empty();
        self.plan_followups(&fates.replace_later, followups);
        let mut counted = Counted {
            canaries: self.canaries(&fates.kept),
            kept: fates.kept,
            migrating: by_node.migrating,
            lost: by_node.lost,
            owed,
            replace_now: fates.replace_now,
        };
        self.stop_surplus(&mut counted);
        let destructive = self.sort_updates(&mut counted);
        self.give_up_canaries(&counted, &destructive);
        self.place_canaries(&counted, &destructive);
        let limit = self.limit(&counted, &destructive);
        self.place_missing(&counted, &destructive, limit);
        self.migrate(&counted);
        self.number(&counted);
        let updates = !destructive.is_empty() || !self.changes.in_place.is_empty();
        let nothing_left =
            !updates && !has_later && self.changes.wants.iter().all(moves) && counted.replace_now.is_empty();
        if let Some(strategy) = self.strategy {
            self.rollout.begin(self.group, strategy, self.group.count, updates || !had_running);
        }
        self.rollout.note_group(self.group, nothing_left);
        self.changes
    }

    /// Decides about those that came back; returns those that stay.
    fn reconnect(&mut self, by_node: &mut ByNode) -> Allocs {
        let mut changes = std::mem::take(&mut self.changes);
        let is_aside = |alloc: &Allocation| self.is_aside(alloc);
        let stay = disconnect::reconnect(self.job, self.group, by_node, is_aside, &mut changes);
        self.changes = changes;
        stay
    }

    /// Stops canaries of deployments that are over and never took over.
    fn drop_old_canaries(&mut self, all: Allocs) -> Allocs {
        let mut old: BTreeSet<AllocId> = BTreeSet::new();
        let of = |deployment: &model::Deployment| {
            let group = deployment.groups.get(&self.group.name).filter(|group| !group.promoted);
            group.map(|group| group.placed_canaries.clone()).unwrap_or_default()
        };
        if let Some(deployment) = &self.rollout.old {
            old.extend(of(deployment));
        }
        if let Some(deployment) = self.rollout.current.as_ref().filter(|_| self.rollout.is_failed()) {
            old.extend(of(deployment));
        }
        let mut stopped = BTreeSet::new();
        for alloc in all.iter().filter(|alloc| old.contains(&alloc.id)) {
            // One that failed is given up like the others; nobody waits for it any more.
            let told = alloc.server_terminal() && alloc.desired_description == texts::NOT_NEEDED;
            if !told {
                self.changes.stops.push(stop(alloc, texts::NOT_NEEDED));
                self.changes.desired.stop += 1;
            }
            stopped.insert(alloc.id);
        }
        without(all, &stopped)
    }

    /// Finds what was lost or had to move while the deployment held the group back and was not followed by anything, for there
    /// was no room. Nothing else would ever ask for it: what is merely missing waits for the deployment.
    fn owed(&self, all: &[Arc<Allocation>]) -> Allocs {
        let Some(current) = self.rollout.current.as_ref().filter(|_| !self.is_ready()) else {
            return Vec::new();
        };
        let is_owed = |alloc: &&Arc<Allocation>| {
            let extra = alloc.extra();
            let why = &alloc.desired_description;
            let old_canary = extra.health.is_some_and(|health| health.canary) && !self.rollout.has(alloc);
            alloc.server_terminal()
                && (*why == texts::LOST || *why == texts::MIGRATING)
                && extra.next.is_none()
                && extra.transition.migrate_disable_placement != Some(true)
                && alloc.job.create_index == self.job.create_index
                && alloc.modify_index >= current.create_index
                && !old_canary
        };
        all.iter().filter(is_owed).cloned().collect()
    }

    /// Tells whether the deployment lets the group get what it merely misses.
    fn is_ready(&self) -> bool {
        let held_back = self.is_canarying() && !mutants::on!("canaries-do-not-hold-back");
        !self.rollout.is_paused() && !self.rollout.is_failed() && !held_back
    }

    fn canaries(&self, kept: &[Arc<Allocation>]) -> Allocs {
        let placed = self
            .rollout
            .group(&self.group.name)
            .map(|group| group.placed_canaries.as_slice())
            .unwrap_or_default();
        kept.iter().filter(|alloc| placed.contains(&alloc.id)).cloned().collect()
    }

    fn is_canarying(&self) -> bool {
        self.rollout.is_canarying(&self.group.name)
    }

    /// Tells whether an allocation is a canary that waits: it runs beside the group's count, and so does what takes its place.
    fn is_aside(&self, alloc: &Allocation) -> bool {
        let placed = |group: &model::DeploymentGroup| group.placed_canaries.contains(&alloc.id);
        self.is_canarying() && self.rollout.group(&self.group.name).is_some_and(placed)
    }

    /// Ties failed allocations whose time has not come to evaluations that will look again.
    fn plan_followups(&mut self, waiting: &[(Arc<Allocation>, Timestamp)], followups: &mut Vec<Evaluation>) {
        let mut waiting: Vec<&(Arc<Allocation>, Timestamp)> = waiting.iter().collect();
        waiting.sort_by_key(|(alloc, at)| (*at, alloc.id));
        let mut current: Option<Evaluation> = None;
        for (alloc, at) in waiting {
            let joins = current.as_ref().is_some_and(|eval| at.since(eval.wait_until) < FOLLOWUP_BATCH);
            if !joins {
                followups.extend(current.take());
                current =
                    Some(later(self.scene, EvalTrigger::AllocReschedule, *at, texts::DELAYED_RESCHEDULE));
            }
            if let Some(eval) = &current {
                self.changes.stops.push(wait_for(alloc, eval.id));
                self.changes.desired.reschedule_later += 1;
            }
        }
        followups.extend(current);
    }

    /// Gives up what is lost and stops what is too many.
    fn stop_surplus(&mut self, counted: &mut Counted) {
        for alloc in counted.lost.iter().filter(|_| !mutants::on!("reconcile-keeps-lost")) {
            self.changes.stops.push(lost(alloc));
            self.changes.desired.stop += 1;
        }
        let canarying = self.is_canarying();
        let canaries: BTreeSet<AllocId> = counted.canaries.iter().map(|alloc| alloc.id).collect();
        let of_count = |alloc: &&Arc<Allocation>| !self.is_aside(alloc);
        let (migrating, failed): (Vec<_>, Vec<_>) = (
            counted.migrating.iter().filter(of_count).collect(),
            counted.replace_now.iter().filter(of_count).collect(),
        );
        let aside = if canarying { canaries.len() } else { 0 };
        let have = counted.kept.len() - aside + migrating.len() + failed.len();
        let mut surplus = have.saturating_sub(self.group.count as usize);
        let mut stopped: BTreeSet<AllocId> = BTreeSet::new();
        let mut candidates: Vec<(u8, &Arc<Allocation>)> = Vec::new();
        let canary_names: BTreeSet<u32> = counted.canaries.iter().map(|alloc| alloc.index).collect();
        candidates.extend(migrating.into_iter().map(|alloc| (1, alloc)));
        // One that failed is stopped rather than replaced where the others are enough.
        candidates.extend(failed.into_iter().map(|alloc| (2, alloc)));
        let mut names = BTreeSet::new();
        for alloc in counted.kept.iter().filter(|alloc| !canaries.contains(&alloc.id)) {
            let has_twin = !names.insert(alloc.index) || (!canarying && canary_names.contains(&alloc.index));
            let rank = if has_twin {
                0
            } else if alloc.client_status == ClientStatus::Failed {
                2
            } else {
                3
            };
            candidates.push((rank, alloc));
        }
        if !canarying {
            // Canaries that took over count like all others.
            candidates.extend(
                counted.kept.iter().filter(|alloc| canaries.contains(&alloc.id)).map(|alloc| (3, alloc)),
            );
        }
        // What runs beside the others comes after what is over; among equals the highest name goes first, and the older
        // version of two with one name.
        candidates.sort_by_key(|(rank, alloc)| {
            (*rank, std::cmp::Reverse(alloc.index), alloc.job.version, alloc.id)
        });
        for (_, alloc) in candidates {
            if surplus == 0 {
                break;
            }
            surplus -= 1;
            stopped.insert(alloc.id);
            if !alloc.client_status.is_terminal() || alloc.client_status == ClientStatus::Failed {
                self.changes.stops.push(stop(alloc, texts::NOT_NEEDED));
                self.changes.desired.stop += 1;
            }
        }
        counted.kept = without(std::mem::take(&mut counted.kept), &stopped);
        counted.migrating = without(std::mem::take(&mut counted.migrating), &stopped);
        counted.replace_now = without(std::mem::take(&mut counted.replace_now), &stopped);
    }

    /// Tells what is of an older version apart: what can move where it is, and what must be replaced.
    fn sort_updates(&mut self, counted: &mut Counted) -> Allocs {
        let mut destructive = Vec::new();
        let mut verdicts: BTreeMap<(u64, u64), bool> = BTreeMap::new();
        for alloc in &counted.kept {
            if is_current(alloc, self.job) {
                self.changes.desired.ignore += 1;
                continue;
            }
            let version = (alloc.job.create_index, alloc.job.version);
            let replace = *verdicts.entry(version).or_insert_with(|| {
                needs_replacement((&alloc.job, alloc.task_group()), (self.job, self.group))
            });
            if replace {
                destructive.push(alloc.clone());
            } else if alloc.client_status.is_terminal() {
                self.changes.desired.ignore += 1;
            } else if self.scene.nodes.meets(alloc, self.job, self.group) {
                self.changes.in_place.push(alloc.clone());
                self.changes.desired.in_place_update += 1;
            } else {
                destructive.push(alloc.clone());
            }
        }
        let canaries: BTreeSet<AllocId> = counted.canaries.iter().map(|alloc| alloc.id).collect();
        if self.is_canarying() {
            counted.kept = without(std::mem::take(&mut counted.kept), &canaries);
        }
        destructive.sort_by_key(|alloc| (alloc.index, alloc.id));
        destructive
    }

    /// Tells whether an allocation would have to be replaced to be of this version.
    fn is_outdated(&self, alloc: &Allocation) -> bool {
        !is_current(alloc, self.job)
            && needs_replacement((&alloc.job, alloc.task_group()), (self.job, self.group))
    }

    /// Asks for no canaries any more where none was ever placed and nothing is left that they would have stood beside.
    fn give_up_canaries(&mut self, counted: &Counted, destructive: &[Arc<Allocation>]) {
        let Some(strategy) = self.strategy.filter(|_| self.is_canarying()) else { return };
        let elsewhere = || [&counted.migrating, &counted.lost, &counted.owed].into_iter().flatten();
        let tried = counted.replace_now.iter().chain(elsewhere()).any(|alloc| self.is_aside(alloc));
        let beside = !destructive.is_empty() || elsewhere().any(|alloc| self.is_outdated(alloc));
        if counted.canaries.is_empty() && !tried && !beside {
            self.rollout.want_canaries(self.group, strategy, self.group.count, 0);
        }
    }

    fn place_canaries(&mut self, counted: &Counted, destructive: &[Arc<Allocation>]) {
        let Some(strategy) = self.strategy else { return };
        let promoted = self.rollout.group(&self.group.name).is_some_and(|group| group.promoted);
        // Those that move or failed are replaced each in its place.
        let replaced = counted.migrating.iter().chain(&counted.replace_now);
        let replaced = replaced.filter(|alloc| self.is_aside(alloc)).count();
        let missing = (strategy.canary as usize).saturating_sub(counted.canaries.len() + replaced);
        // What moves or is lost meanwhile comes back in its old version, and waits for canaries like the others.
        let elsewhere = [&counted.migrating, &counted.lost, &counted.owed].into_iter().flatten();
        let elsewhere = elsewhere.filter(|alloc| self.is_outdated(alloc));
        let outdated: Vec<u32> = destructive.iter().chain(elsewhere).map(|alloc| alloc.index).collect();
        if outdated.is_empty()
            || missing == 0
            || promoted
            || self.rollout.is_paused()
            || self.rollout.is_failed()
        {
            return;
        }
        self.rollout.want_canaries(self.group, strategy, self.group.count, strategy.canary);
        let taken: BTreeSet<u32> = counted.canaries.iter().map(|alloc| alloc.index).collect();
        let mut indexes: Vec<u32> =
            outdated.into_iter().filter(|index| !taken.contains(index)).take(missing).collect();
        let mut names = self.names(counted);
        indexes.extend(names.take(missing - indexes.len()));
        for index in indexes {
            self.changes.wants.push(Want { index, canary: true, ..Want::default() });
            self.changes.desired.canary += 1;
        }
    }

    fn names(&self, counted: &Counted) -> Names {
        let all = [&counted.kept, &counted.migrating, &counted.replace_now, &counted.lost, &counted.owed];
        let planned = self.changes.wants.iter().filter(|want| !want.canary).map(|want| want.index);
        Names::of(all.into_iter().flatten().map(|alloc| alloc.index).chain(planned))
    }

    /// Decides how many may change at once: an update never has more under way than it asks for.
    fn limit(&self, counted: &Counted, destructive: &[Arc<Allocation>]) -> usize {
        let Some(strategy) = self.strategy else { return self.group.count as usize };
        if destructive.is_empty() && counted.migrating.is_empty() {
            return self.group.count as usize;
        }
        let parallel = if mutants::on!("rollout-all-at-once") {
            self.group.count as usize
        } else {
            strategy.max_parallel as usize + usize::from(mutants::on!("rollout-one-more"))
        };
        if !self.is_ready() {
            return 0;
        }
        if self.rollout.current.is_none() {
            return parallel;
        }
        let health = |alloc: &Arc<Allocation>| alloc.extra().health.and_then(|health| health.healthy);
        let part: Vec<&Arc<Allocation>> =
            counted.kept.iter().filter(|alloc| self.rollout.has(alloc)).collect();
        if part.iter().any(|alloc| health(alloc) == Some(false)) {
            return 0;
        }
        parallel.saturating_sub(part.iter().filter(|alloc| health(alloc).is_none()).count())
    }

    /// Asks for what is missing and for replacements, as far as the deployment lets it.
    fn place_missing(&mut self, counted: &Counted, destructive: &[Arc<Allocation>], mut limit: usize) {
        let ready = self.is_ready();
        let mut missing = 0;
        // Replacements of what went out of reach are asked for already.
        let asked = self.changes.wants.iter().filter(|want| !want.canary).count();
        for alloc in &counted.replace_now {
            // What failed in a failed deployment would fail again.
            if !ready && self.rollout.is_failed() && self.rollout.has(alloc) {
                continue;
            }
            self.changes.wants.push(Want { reschedule: true, ..self.replacement(alloc) });
            self.changes.desired.stop += 1;
            missing += 1;
        }
        let of_count = |alloc: &&Arc<Allocation>| !self.is_aside(alloc);
        let replaced = counted.migrating.iter().chain(&counted.replace_now);
        let mut have = counted.kept.len() + replaced.filter(of_count).count() + asked;
        let count = self.group.count as usize + usize::from(mutants::on!("reconcile-one-too-many"));
        let lost: Vec<_> = counted.lost.iter().chain(&counted.owed).filter(of_count).collect();
        for alloc in lost.into_iter().take(count.saturating_sub(have)) {
            self.changes.wants.push(self.replacement(alloc));
            have += 1;
            missing += 1;
        }
        if ready && have < count {
            for index in self.names(counted).take(count - have) {
                self.changes.wants.push(Want { index, ..Want::default() });
                missing += 1;
            }
        }
        self.changes.desired.place += missing as u64;
        limit = limit.saturating_sub(missing);
        let replaced = if ready { destructive.len().min(limit) } else { 0 };
        self.changes.destructive = destructive[..replaced].to_vec();
        self.changes.desired.destructive_update += replaced as u64;
        self.changes.desired.ignore += (destructive.len() - replaced) as u64;
    }

    fn replacement(&self, alloc: &Arc<Allocation>) -> Want {
        let canary = alloc.extra().health.is_some_and(|health| health.canary) && is_current(alloc, self.job);
        Want {
            index: alloc.index,
            previous: Some(alloc.clone()),
            canary: canary && self.is_canarying(),
            // While canaries wait, what runs beside them stays what it is.
            job: (self.is_canarying() && !canary && !is_current(alloc, self.job)).then(|| alloc.job.clone()),
            ..Want::default()
        }
    }

    /// Gives each that is to come a number of its own: another one that came back, or a canary that took over, may have that of
    /// the one that it replaces.
    fn number(&mut self, counted: &Counted) {
        let mut taken: BTreeSet<u32> = counted.kept.iter().map(|alloc| alloc.index).collect();
        let wants = self.changes.wants.iter_mut().filter(|want| !want.canary);
        let twice: Vec<&mut Want> = wants.filter(|want| !taken.insert(want.index)).collect();
        let free = Names::of(taken).take(twice.len());
        twice.into_iter().zip(free).for_each(|(want, index)| want.index = index);
    }

    fn migrate(&mut self, counted: &Counted) {
        for alloc in &counted.migrating {
            self.changes.stops.push(stop(alloc, texts::MIGRATING));
            self.changes.desired.migrate += 1;
            if alloc.extra().transition.migrate_disable_placement != Some(true) {
                self.changes.wants.push(self.replacement(alloc));
            }
        }
    }
}

/// Tells whether an allocation is missing only because another one has to leave its node: it was counted already.
fn moves(want: &Want) -> bool {
    want.previous.as_ref().is_some_and(|alloc| alloc.extra().transition.migrate == Some(true))
}
