//! Which allocations of less important jobs make room on a node: Nomad's rules.
//!
//! Only jobs whose priority is lower by [`PRIORITY_GAP`] give way, those of the lowest priority first; among them those
//! that hold about as much as is asked for. A group that gave way as often as its `migrate` block lets it move at a time
//! is spared where another one can give way. Who turns out not to be needed in the end stays.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{AllocId, AllocatedResources, Allocation, Job, JobKey, JobType, Node, Text};
use state::Snapshot;

use crate::{
    ask::Ask,
    exclusive::Exclusive,
    table::{NodeTable, Room, Slot},
};

/// How much lower a job's priority must be for its allocations to give way.
const PRIORITY_GAP: i32 = 10;

/// What each one of a group beyond its `max_parallel` adds to its distance, which is a few units at most otherwise.
const PARALLEL_PENALTY: f32 = 50.0;

/// The right of one job to displace others, and how often it used it in this evaluation.
pub(crate) struct Preemption {
    snapshot: Snapshot,
    job: JobKey,
    /// The highest priority that gives way.
    ceiling: i32,
    /// Some job is less important; found out when it is first asked for, since most evaluations find room.
    possible: OnceCell<bool>,
    /// By job and group: how many give way already.
    taken: BTreeMap<(JobKey, Text), u32>,
}

/// What is asked of one node.
#[derive(Clone, Copy)]
pub(crate) struct Need<'a> {
    pub(crate) slot: Slot,
    pub(crate) ask: &'a Ask,
    /// The one that is replaced there, whose room is not counted as free.
    pub(crate) lender: Option<&'a AllocatedResources>,
    /// What is free there.
    pub(crate) free: Room,
}

/// Those that make room on one node.
#[derive(Clone, Debug)]
pub(crate) struct Victims(pub(crate) Vec<Arc<Allocation>>);

impl Preemption {
    /// Returns the right of a job's scheduler, if operators gave it one.
    pub(crate) fn of(snapshot: &Snapshot, job: &Job) -> Option<Self> {
        let config = snapshot.scheduler_config();
        let allowed = match job.spec.kind {
            JobType::Service => config.preempt_service,
            JobType::Batch => config.preempt_batch,
            JobType::System => config.preempt_system,
            JobType::Sysbatch => config.preempt_sysbatch,
        };
        allowed.then(|| Self {
            snapshot: snapshot.clone(),
            job: job.key.clone(),
            ceiling: job.spec.priority - PRIORITY_GAP,
            possible: OnceCell::new(),
            taken: BTreeMap::new(),
        })
    }

    /// Tells whether any job is less important.
    pub(crate) fn is_possible(&self) -> bool {
        *self.possible.get_or_init(|| self.snapshot.all_jobs().any(|job| job.spec.priority <= self.ceiling))
    }

    /// Finds who would have to give way on a node; none when that is not enough, or when nobody has to.
    pub(crate) fn victims(&self, table: &NodeTable, need: Need<'_>) -> Option<Victims> {
        let node = table.node(need.slot);
        let on_node: Vec<&Arc<Allocation>> =
            self.snapshot.allocs_by_node(node.id).filter(|alloc| alloc.occupies()).collect();
        let there: BTreeSet<AllocId> = on_node.iter().map(|alloc| alloc.id).collect();
        let yields = |alloc: &Allocation| {
            let extra = alloc.extra();
            // Who still waits for the room of another one has none to give.
            let waits = extra.previous.iter().chain(&extra.preempted).any(|id| there.contains(id));
            alloc.job.spec.priority <= self.ceiling
                && alloc.job.key != self.job
                && !alloc.server_terminal()
                && !waits
                && !table.is_lent(need.slot, alloc.id)
        };
        let mut search = Search {
            need,
            node,
            exclusive: &table.row(need.slot).exclusive,
            allocs: table.row(need.slot).allocs,
            room: need.ask.room_on(node),
            taken: &self.taken,
            left: on_node.into_iter().filter(|alloc| yields(alloc)).collect(),
            chosen: Vec::new(),
        };
        search.left.sort_by_key(|alloc| alloc.job.spec.priority);
        let found = search.take_what_is_exclusive() && search.take_room();
        if !found || search.chosen.is_empty() {
            return None;
        }
        search.spare_the_needless();
        Some(Victims(search.chosen.into_iter().cloned().collect()))
    }

    /// Counts those that give way.
    pub(crate) fn take(&mut self, victims: &[Arc<Allocation>]) {
        for alloc in victims {
            *self.taken.entry(group_of(alloc)).or_default() += 1;
        }
    }
}

impl Victims {
    /// Lists what they hold.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &AllocatedResources> {
        self.0.iter().map(|alloc| &*alloc.resources)
    }

    /// Returns how good it is to displace these, from 0 to 1: the fewer and the less important, the better.
    pub(crate) fn score(&self) -> f32 {
        // The published curve: its middle is a net priority of 2048, its steepness 0.0048.
        const MIDDLE: f32 = 2048.0;
        const STEEPNESS: f32 = 0.0048;
        let priorities = || self.0.iter().map(|alloc| alloc.job.spec.priority as f32);
        let (most, sum) = (priorities().fold(0.0, f32::max), priorities().sum::<f32>());
        let net = if most > 0.0 { most + sum / most } else { 0.0 };
        1.0 / (1.0 + (STEEPNESS * (net - MIDDLE)).exp())
    }
}

/// Adds up what allocations hold.
pub(crate) fn room_of<'a>(held: impl Iterator<Item = &'a AllocatedResources>) -> Room {
    held.fold(Room::default(), |sum, held| sum.plus(Room::of(held)))
}

/// The search on one node.
struct Search<'a> {
    need: Need<'a>,
    node: &'a Node,
    exclusive: &'a Exclusive,
    /// How many are there.
    allocs: u32,
    /// The countable part of what is asked for.
    room: Room,
    taken: &'a BTreeMap<(JobKey, Text), u32>,
    /// Who may give way, the lowest priority first.
    left: Vec<&'a Arc<Allocation>>,
    /// Who does.
    chosen: Vec<&'a Arc<Allocation>>,
}

impl Search<'_> {
    /// Takes those that hold ports, cores or devices that are asked for, as far as these are not free.
    fn take_what_is_exclusive(&mut self) -> bool {
        let (exclusive, node, ask) = (self.exclusive, self.node, self.need.ask);
        if !ask.is_exclusive() {
            return true;
        }
        while !self.exclusive_do(&self.chosen) {
            let useful = |alloc: &&&Arc<Allocation>| exclusive.contends(node, ask, &alloc.resources);
            let Some(priority) = self.left.iter().find(useful).map(|alloc| alloc.job.spec.priority) else {
                return false;
            };
            if !self.take_nearest(|alloc| alloc.job.spec.priority == priority && useful(&alloc)) {
                return false;
            }
        }
        true
    }

    /// Takes as many as countable room needs.
    fn take_room(&mut self) -> bool {
        while !self.room_does(&self.chosen) {
            let Some(priority) = self.left.first().map(|alloc| alloc.job.spec.priority) else { return false };
            if !self.take_nearest(|alloc| alloc.job.spec.priority == priority) {
                return false;
            }
        }
        true
    }

    /// Takes the one that holds about as much as is still asked for.
    fn take_nearest(&mut self, eligible: impl Fn(&&Arc<Allocation>) -> bool) -> bool {
        let wanted = self.room.minus(self.sum(&self.chosen));
        let mut nearest: Option<(f32, usize)> = None;
        for (at, alloc) in self.left.iter().enumerate().filter(|(_, alloc)| eligible(alloc)) {
            let distance = distance(wanted, Room::of(&alloc.resources)) + self.penalty(alloc);
            if nearest.is_none_or(|(found, _)| distance < found) {
                nearest = Some((distance, at));
            }
        }
        let Some((_, at)) = nearest else { return false };
        self.chosen.push(self.left.remove(at));
        true
    }

    /// Spares those without whom it is enough, the most important first, then those that hold something else than what
    /// is asked for.
    fn spare_the_needless(&mut self) {
        let key = |alloc: &&Arc<Allocation>| {
            (-alloc.job.spec.priority, -distance(self.room, Room::of(&alloc.resources)))
        };
        self.chosen.sort_by(|left, right| key(left).partial_cmp(&key(right)).expect("distances are numbers"));
        let mut at = 0;
        while self.chosen.len() > 1 && at < self.chosen.len() {
            let mut others = self.chosen.clone();
            others.remove(at);
            if self.room_does(&others) && self.exclusive_do(&others) {
                self.chosen = others;
            } else {
                at += 1;
            }
        }
    }

    fn penalty(&self, alloc: &Allocation) -> f32 {
        let most = alloc.task_group().migrate.as_ref().map_or(0, |migrate| migrate.max_parallel);
        let group = group_of(alloc);
        let here = self.chosen.iter().filter(|other| group_of(other) == group).count();
        let before = self.taken.get(&group).copied().unwrap_or(0);
        let given = before.saturating_add(u32::try_from(here).unwrap_or(u32::MAX));
        if most > 0 && given >= most { (given + 1 - most) as f32 * PARALLEL_PENALTY } else { 0.0 }
    }

    fn room_does(&self, chosen: &[&Arc<Allocation>]) -> bool {
        let lenders = chosen.len() + usize::from(self.need.lender.is_some());
        let others = (self.allocs as usize).saturating_sub(lenders);
        let may_join = self.node.max_allocs == 0 || others < self.node.max_allocs as usize;
        // Nobody borrows more than is needed: what is beyond stays with its owner until that one is over.
        may_join && self.need.free.plus(self.sum(chosen).min(self.room)).covers(self.room)
    }

    fn exclusive_do(&self, chosen: &[&Arc<Allocation>]) -> bool {
        if !self.need.ask.is_exclusive() {
            return true;
        }
        let held: Vec<&AllocatedResources> =
            self.need.lender.into_iter().chain(chosen.iter().map(|alloc| &*alloc.resources)).collect();
        self.exclusive.would_do(self.node, self.need.ask, &held)
    }

    fn sum(&self, chosen: &[&Arc<Allocation>]) -> Room {
        room_of(self.need.lender.into_iter().chain(chosen.iter().map(|alloc| &*alloc.resources)))
    }
}

fn group_of(alloc: &Allocation) -> (JobKey, Text) {
    (alloc.job.key.clone(), alloc.task_group().name.clone())
}

/// Returns how far what one holds is from what is asked for: relative to what is asked, in the dimensions that are.
fn distance(wanted: Room, held: Room) -> f32 {
    let parts = [(wanted.cpu, held.cpu), (wanted.memory, held.memory), (wanted.disk, held.disk)];
    let square = |(wanted, held): (i32, i32)| {
        let off = (wanted as f32 - held as f32) / wanted as f32;
        off * off
    };
    parts.into_iter().filter(|(wanted, _)| *wanted > 0).map(square).sum::<f32>().sqrt()
}
