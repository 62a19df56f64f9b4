//! Short numbers for members, so that what is kept of each is small.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    digest::{Saying, Told},
    member::{Incarnation, MemberId},
};

/// Most members that are known at once, dead ones included. Beyond it, strangers are ignored; six times the largest
/// pool we aim at.
const KNOWN_MAX: usize = 65_536;

/// Stands for a member within this process. Given again to another member once nobody holds it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Slot(pub(crate) u32);

/// Numbers members. Each [`crate::Gossip`] has its own unless many live in one process, as in a simulation, and share one.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<Mutex<Names>>);

#[derive(Debug, Default)]
struct Names {
    by_id: HashMap<MemberId, Slot>,
    entries: Vec<Entry>,
    free: Vec<Slot>,
}

#[derive(Debug)]
struct Entry {
    id: MemberId,
    ring: u64,
    addr: SocketAddr,
    incarnation: Incarnation,
    told: Option<Arc<Told>>,
    holders: u32,
}

/// Who and where a member is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: MemberId,
    /// Its place on the ring that says who watches whom.
    pub(crate) ring: u64,
    pub(crate) addr: SocketAddr,
}

impl Directory {
    /// The number of a member, given now if it had none. `None` when there are too many.
    pub(crate) fn intern(&self, id: MemberId) -> Option<Slot> {
        let mut names = self.names();
        if let Some(slot) = names.by_id.get(&id) {
            return Some(*slot);
        }
        if names.by_id.len() >= KNOWN_MAX {
            return None;
        }
        let entry = Entry {
            id,
            ring: ring_place(id),
            addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            incarnation: Incarnation(0),
            told: None,
            holders: 0,
        };
        let slot = match names.free.pop() {
            Some(slot) => {
                names.entries[slot.0 as usize] = entry;
                slot
            }
            None => {
                names.entries.push(entry);
                Slot(u32::try_from(names.entries.len() - 1).expect("no more than KNOWN_MAX entries"))
            }
        };
        names.by_id.insert(id, slot);
        Some(slot)
    }

    /// The number of a member that has one.
    pub(crate) fn find(&self, id: MemberId) -> Option<Slot> {
        self.names().by_id.get(&id).copied()
    }

    /// Who and where.
    pub(crate) fn place(&self, slot: Slot) -> Place {
        let names = self.names();
        let entry = &names.entries[slot.0 as usize];
        Place { id: entry.id, ring: entry.ring, addr: entry.addr }
    }

    /// Remembers where the latest life of a member is.
    pub(crate) fn note_addr(&self, slot: Slot, incarnation: Incarnation, addr: SocketAddr) {
        let mut names = self.names();
        let entry = &mut names.entries[slot.0 as usize];
        if incarnation >= entry.incarnation {
            entry.incarnation = incarnation;
            entry.addr = addr;
        }
    }

    /// Keeps one copy of what a member says, however many in this process hold it.
    pub(crate) fn share(&self, slot: Slot, saying: &Saying) -> Arc<Told> {
        let mut names = self.names();
        let entry = &mut names.entries[slot.0 as usize];
        match &entry.told {
            Some(known) if known.stamp == saying.stamp && known.raw == saying.raw => known.clone(),
            _ => {
                let told = Arc::new(Told::keep(saying));
                entry.told = Some(told.clone());
                told
            }
        }
    }

    pub(crate) fn hold(&self, slot: Slot) {
        self.names().entries[slot.0 as usize].holders += 1;
    }

    pub(crate) fn release(&self, slot: Slot) {
        let mut names = self.names();
        let entry = &mut names.entries[slot.0 as usize];
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders == 0 {
            let id = entry.id;
            entry.told = None;
            names.by_id.remove(&id);
            names.free.push(slot);
        }
    }

    /// Those of `candidates` that follow `from` most closely on the ring, nearest first.
    pub(crate) fn nearest(
        &self,
        from: u64,
        candidates: impl Iterator<Item = Slot>,
        most: usize,
    ) -> Vec<Slot> {
        let names = self.names();
        let mut nearest: Vec<(u64, Slot)> = Vec::with_capacity(most + 1);
        for slot in candidates {
            let distance = names.entries[slot.0 as usize].ring.wrapping_sub(from);
            if nearest.len() == most && nearest.last().is_some_and(|(furthest, _)| distance >= *furthest) {
                continue;
            }
            let at = nearest.partition_point(|(near, _)| *near <= distance);
            nearest.insert(at, (distance, slot));
            nearest.truncate(most);
        }
        nearest.into_iter().map(|(_, slot)| slot).collect()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // Nothing that runs under this lock leaves it half done, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Spreads ids evenly, whatever they look like.
fn ring_place(id: MemberId) -> u64 {
    let (low, high) = halves(id);
    mix(low ^ mix(high))
}

/// Both halves of an id as numbers.
pub(crate) fn halves(id: MemberId) -> (u64, u64) {
    let value = u128::from_le_bytes(id.0);
    (value as u64, (value >> 64) as u64)
}

/// Splitmix64's last step: every bit of the input changes half of the output's.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
