//! The dense table of nodes that the schedulers work on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{AllocId, AllocatedResources, Allocation, Node, NodeId, Text};
use state::{Changes, Snapshot};

use crate::{class::Classes, exclusive::Exclusive};

/// Position of a node in the table.
pub(crate) type Slot = u32;

/// Every node with what is free on it: arrays for what each pass reads, rows for the rest.
///
/// It counts what is committed and what plans that are not committed yet placed. A placement stays "in flight" until a
/// snapshot shows it or it is abandoned. What stops counts until its client says that it is over, but hands its room over
/// to a replacement on its node, as in [`state::fits`]; of the two the larger amount counts. A free amount is negative
/// where a node lost capacity.
#[derive(Debug, Default)]
pub(crate) struct NodeTable {
    slots: BTreeMap<NodeId, Slot>,
    vacant: Vec<Slot>,
    rows: Vec<Row>,
    classes: Classes,
    /// Changes whenever some node changes in what feasibility looks at.
    epoch: u64,
    /// Up to which index it counts everything. A snapshot may be later: what that shows as over may still count here.
    followed: u64,
    pub(crate) free_cpu: Vec<i32>,
    pub(crate) free_memory: Vec<i32>,
    pub(crate) free_disk: Vec<i32>,
    /// One over the capacity; 0 when there is none.
    pub(crate) inverse_cpu: Vec<f32>,
    pub(crate) inverse_memory: Vec<f32>,
}

/// What is not looked at for each node in each pass.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// None for a vacant slot.
    pub(crate) node: Option<Arc<Node>>,
    /// Index of its class.
    pub(crate) class: u32,
    /// Ports, cores and devices.
    pub(crate) exclusive: Exclusive,
    /// Allocations that hold something.
    pub(crate) allocs: u32,
    in_flight: Vec<InFlight>,
}

/// A placement that is not committed yet.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) id: AllocId,
    pub(crate) resources: Arc<AllocatedResources>,
    /// Those on the same node whose room it takes over.
    pub(crate) lenders: Vec<AllocId>,
}

impl NodeTable {
    /// Returns the number that changes with what feasibility looks at.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the index up to which everything is counted.
    pub(crate) fn followed(&self) -> u64 {
        self.followed
    }

    /// Finds a node's slot.
    pub(crate) fn slot(&self, id: NodeId) -> Option<Slot> {
        self.slots.get(&id).copied()
    }

    /// Returns a row.
    pub(crate) fn row(&self, slot: Slot) -> &Row {
        &self.rows[slot as usize]
    }

    /// Returns the node in a slot that candidates named.
    pub(crate) fn node(&self, slot: Slot) -> &Arc<Node> {
        self.row(slot).node.as_ref().expect("a slot that is in use has a node")
    }

    /// Lists the slots that have a node.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (Slot, &Arc<Node>)> {
        (0..).zip(&self.rows).filter_map(|(slot, row)| row.node.as_ref().map(|node| (slot, node)))
    }

    /// Returns what is free on a node.
    pub(crate) fn free(&self, slot: Slot) -> Room {
        let at = slot as usize;
        Room { cpu: self.free_cpu[at], memory: self.free_memory[at], disk: self.free_disk[at] }
    }

    /// Returns the number of classes.
    pub(crate) fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// Reads everything anew; what was in flight and is not in the snapshot is forgotten.
    pub(crate) fn rebuild(&mut self, snapshot: &Snapshot) {
        let epoch = self.epoch + 1;
        *self = Self { epoch, followed: snapshot.index(), ..Self::default() };
        for node in snapshot.nodes() {
            self.put_node(node);
        }
        for slot in 0..self.rows.len() {
            self.recount(snapshot, slot as Slot);
        }
    }

    /// Follows what one command changed.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot, changes: &Changes) {
        self.followed = self.followed.max(changes.index);
        for (before, after) in changes.nodes() {
            match (before, after) {
                (_, Some(node)) => {
                    let slot = self.put_node(node);
                    self.recount(snapshot, slot);
                }
                (Some(node), None) => self.remove_node(node.id),
                (None, None) => {}
            }
        }
        let mut dirty: Vec<Slot> = Vec::new();
        for (before, after) in changes.allocs() {
            let Some(slot) = before.or(after).and_then(|alloc| self.slot(alloc.node_id)) else { continue };
            if !self.settle(slot, before.map(|alloc| &**alloc), after.map(|alloc| &**alloc)) {
                dirty.push(slot);
            }
        }
        dirty.sort_unstable();
        dirty.dedup();
        for slot in dirty {
            self.recount(snapshot, slot);
        }
    }

    /// Drops what is in flight.
    pub(crate) fn abandon(&mut self, snapshot: &Snapshot) {
        for slot in 0..self.rows.len() {
            if !self.rows[slot].in_flight.is_empty() {
                self.rows[slot].in_flight.clear();
                self.recount(snapshot, slot as Slot);
            }
        }
    }

    /// Drops what one plan placed on a node.
    pub(crate) fn withdraw(&mut self, snapshot: &Snapshot, slot: Slot, ids: &[AllocId]) {
        self.rows[slot as usize].in_flight.retain(|placed| !ids.contains(&placed.id));
        self.recount(snapshot, slot);
    }

    /// Returns what a node is without what is unique to it, interned.
    pub(crate) fn class_of(&self, slot: Slot) -> u32 {
        self.row(slot).class
    }

    /// Counts a placement that is not committed yet.
    pub(crate) fn place(&mut self, slot: Slot, placed: InFlight) {
        // One that takes over was lent the room of those before, and takes their place among the allocations.
        self.occupy(slot, &placed.resources);
        if mutants::on!("room-counted-twice") {
            self.occupy(slot, &placed.resources);
        }
        let row = &mut self.rows[slot as usize];
        row.allocs = row.allocs.saturating_sub(count_of(&placed.lenders));
        row.in_flight.push(placed);
    }

    fn occupy(&mut self, slot: Slot, resources: &AllocatedResources) {
        let at = slot as usize;
        let room = Room::of(resources);
        // Far below zero is as bad as below zero, and sums of two amounts must not overflow.
        self.free_cpu[at] = (self.free_cpu[at] - room.cpu).max(-AMOUNT_MAX);
        self.free_memory[at] = (self.free_memory[at] - room.memory).max(-AMOUNT_MAX);
        self.free_disk[at] = (self.free_disk[at] - room.disk).max(-AMOUNT_MAX);
        let row = &mut self.rows[at];
        row.exclusive.take(resources);
        row.allocs += 1;
    }

    /// Counts a changed allocation where that is a matter of bookkeeping; false when the node must be counted anew.
    fn settle(&mut self, slot: Slot, before: Option<&Allocation>, after: Option<&Allocation>) -> bool {
        let held = before.is_some_and(Allocation::occupies);
        let holds = after.is_some_and(Allocation::occupies);
        match (held, holds) {
            (false, false) => true,
            (true, true) => {
                let room = |alloc: Option<&Allocation>| alloc.map(|alloc| alloc.resources.clone());
                // What stops for another one may hand its room over.
                let hands_over = |alloc: Option<&Allocation>| {
                    alloc.is_some_and(|alloc| {
                        let extra = alloc.extra();
                        alloc.server_terminal() && (extra.next.is_some() || extra.preempted_by.is_some())
                    })
                };
                room(before) == room(after) && hands_over(before) == hands_over(after)
            }
            (true, false) => mutants::on!("room-never-given-back"),
            (false, true) => {
                let after = after.expect("what holds something is there");
                let row = &mut self.rows[slot as usize];
                match row.in_flight.iter().position(|placed| placed.id == after.id) {
                    // It was counted when it was decided.
                    Some(at) if *row.in_flight[at].resources == *after.resources => {
                        row.in_flight.swap_remove(at);
                        true
                    }
                    _ => false,
                }
            }
        }
    }

    fn put_node(&mut self, node: &Arc<Node>) -> Slot {
        let slot = match self.slots.get(&node.id) {
            Some(&slot) => slot,
            None => self.new_slot(node.id),
        };
        let class = self.classes.intern(node);
        let row = &mut self.rows[slot as usize];
        let same = row.class == class
            && row.node.as_ref().is_some_and(|known| {
                known.schedulable() == node.schedulable()
                    && known.attributes == node.attributes
                    && known.meta == node.meta
                    && known.name == node.name
            });
        if !same {
            self.epoch += 1;
        }
        row.class = class;
        row.node = Some(node.clone());
        slot
    }

    fn new_slot(&mut self, id: NodeId) -> Slot {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.rows.push(Row::default());
            self.free_cpu.push(0);
            self.free_memory.push(0);
            self.free_disk.push(0);
            self.inverse_cpu.push(0.0);
            self.inverse_memory.push(0.0);
            (self.rows.len() - 1) as Slot
        });
        self.slots.insert(id, slot);
        slot
    }

    fn remove_node(&mut self, id: NodeId) {
        let Some(slot) = self.slots.remove(&id) else { return };
        self.rows[slot as usize] = Row::default();
        self.free_cpu[slot as usize] = 0;
        self.free_memory[slot as usize] = 0;
        self.free_disk[slot as usize] = 0;
        self.vacant.push(slot);
        self.epoch += 1;
    }

    /// Counts one node anew: the snapshot's allocations and what is in flight beside them.
    fn recount(&mut self, snapshot: &Snapshot, slot: Slot) {
        let at = slot as usize;
        let Some(node) = self.rows[at].node.clone() else { return };
        let has = state::available(&node);
        self.free_cpu[at] = amount(has.cpu_shares);
        self.free_memory[at] = amount(has.memory_mb);
        self.free_disk[at] = amount(has.disk_mb);
        self.inverse_cpu[at] = inverse(has.cpu_shares);
        self.inverse_memory[at] = inverse(has.memory_mb);
        self.rows[at].exclusive = Exclusive::of_node(&node);
        self.rows[at].allocs = 0;
        let mut in_flight = std::mem::take(&mut self.rows[at].in_flight);
        in_flight.retain(|placed| snapshot.alloc(placed.id).is_none());
        let on_node: Vec<&Allocation> =
            snapshot.allocs_by_node(node.id).map(|alloc| &**alloc).filter(|alloc| alloc.occupies()).collect();
        let loans = Loans::of(&on_node, &in_flight);
        for resources in on_node.iter().map(|alloc| &alloc.resources) {
            self.occupy(slot, resources);
        }
        for placed in &in_flight {
            self.occupy(slot, &placed.resources);
        }
        self.lend(slot, loans.room);
        let row = &mut self.rows[at];
        row.allocs -= u32::try_from(loans.lenders.len()).expect("fewer lenders than allocations");
        self.rows[at].in_flight = in_flight;
    }

    /// Tells whether an allocation's room is promised to a placement that is not committed yet.
    pub(crate) fn is_lent(&self, slot: Slot, id: AllocId) -> bool {
        self.row(slot).in_flight.iter().any(|placed| placed.lenders.contains(&id))
    }

    /// Lends a pass the room of an allocation that it will replace on its node.
    pub(crate) fn lend(&mut self, slot: Slot, room: Room) {
        let at = slot as usize;
        self.free_cpu[at] += room.cpu;
        self.free_memory[at] += room.memory;
        self.free_disk[at] += room.disk;
    }

    /// Takes lent room back.
    pub(crate) fn take_back(&mut self, slot: Slot, room: Room) {
        let at = slot as usize;
        self.free_cpu[at] -= room.cpu;
        self.free_memory[at] -= room.memory;
        self.free_disk[at] -= room.disk;
    }

    /// Returns the class that the nodes' owner gave to those of a class.
    pub(crate) fn node_class(&self, class: u32) -> &Text {
        self.classes.given(class)
    }

    /// Returns the class that the nodes' clients computed for those of a class.
    pub(crate) fn class_name(&self, class: u32) -> &Text {
        self.classes.computed(class)
    }
}

/// An amount of countable capacity.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Room {
    /// MHz.
    pub(crate) cpu: i32,
    /// MiB.
    pub(crate) memory: i32,
    /// MiB.
    pub(crate) disk: i32,
}

impl Room {
    /// Returns what an allocation holds.
    pub(crate) fn of(resources: &AllocatedResources) -> Self {
        let usage = resources.usage();
        Self { cpu: amount(usage.cpu_shares), memory: amount(usage.memory_mb), disk: amount(usage.disk_mb) }
    }

    /// Returns the sums, which are bounded like all amounts.
    pub(crate) fn plus(self, other: Self) -> Self {
        let sum = |left: i32, right: i32| left.saturating_add(right).min(AMOUNT_MAX);
        Self {
            cpu: sum(self.cpu, other.cpu),
            memory: sum(self.memory, other.memory),
            disk: sum(self.disk, other.disk),
        }
    }

    /// Returns the differences.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, memory: self.memory - other.memory, disk: self.disk - other.disk }
    }

    /// Tells whether each amount covers the one asked for.
    pub(crate) fn covers(self, asked: Self) -> bool {
        self.cpu >= asked.cpu && self.memory >= asked.memory && self.disk >= asked.disk
    }

    /// Returns the smaller of each amount.
    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.min(other.cpu),
            memory: self.memory.min(other.memory),
            disk: self.disk.min(other.disk),
        }
    }
}

/// The largest amount that the arrays hold: 536 THz, 512 TiB. A quarter of the range, so that sums do not overflow.
pub(crate) const AMOUNT_MAX: i32 = i32::MAX / 4;

/// What is about to hand its room over to other allocations of its node, as [`state::fits`] counts it.
#[derive(Default)]
struct Loans {
    lenders: BTreeSet<AllocId>,
    /// What would be counted twice: for each heir what it is lent, at most what it needs.
    room: Room,
}

impl Loans {
    fn of(on_node: &[&Allocation], in_flight: &[InFlight]) -> Self {
        let mut loans = Self::default();
        let stopping = || on_node.iter().filter(|alloc| alloc.server_terminal());
        let takes_over = |placed: &InFlight| !placed.lenders.is_empty();
        if stopping().next().is_none() && !in_flight.iter().any(takes_over) {
            return loans;
        }
        let stopping: BTreeMap<AllocId, Room> =
            stopping().map(|alloc| (alloc.id, Room::of(&alloc.resources))).collect();
        for heir in on_node {
            let extra = heir.extra();
            loans.add(extra.previous.iter().chain(&extra.preempted), &stopping, &heir.resources);
        }
        // What makes room for a placement that is not committed is not told to stop yet.
        let all: BTreeMap<AllocId, Room> =
            on_node.iter().map(|alloc| (alloc.id, Room::of(&alloc.resources))).collect();
        for placed in in_flight {
            loans.add(placed.lenders.iter(), &all, &placed.resources);
        }
        loans
    }

    fn add<'a>(
        &mut self,
        lenders: impl Iterator<Item = &'a AllocId>,
        known: &BTreeMap<AllocId, Room>,
        heir: &AllocatedResources,
    ) {
        let mut offered = Room::default();
        for id in lenders {
            let Some(room) = known.get(id) else { continue };
            // What one lends, it lends once.
            if self.lenders.insert(*id) {
                offered = offered.plus(*room);
            }
        }
        if offered != Room::default() {
            self.room = self.room.plus(offered.min(Room::of(heir)));
        }
    }
}

fn count_of(lenders: &[AllocId]) -> u32 {
    u32::try_from(lenders.len()).unwrap_or(u32::MAX)
}

/// Narrows an amount to what the arrays hold.
fn amount(value: u64) -> i32 {
    i32::try_from(value).unwrap_or(AMOUNT_MAX).min(AMOUNT_MAX)
}

fn inverse(capacity: u64) -> f32 {
    if capacity == 0 { 0.0 } else { 1.0 / capacity as f32 }
}
