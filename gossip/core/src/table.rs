//! What we know about every member, and a fingerprint of it.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, rngs::SmallRng};

use crate::{
    digest::{Saying, Told},
    directory::{Directory, Slot, halves, mix},
    member::{Incarnation, MemberId},
};

/// Parts that the fingerprint has, so that a difference of one member moves a few members and not all of them.
/// 1,024 parts of 10,000 members hold ten each; sending all parts takes 4 KiB.
pub(crate) const BUCKETS: usize = 1_024;

/// Random places that are tried before the table is searched in order. Nine of ten slots are in use in a pool that
/// shrinks as fast as it forgets, so the search is rare.
const PICK_TRIES: usize = 16;

/// How a member is, without private suspicions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    Alive,
    Failed,
    Left,
    /// Left, and shown nowhere.
    Pruned,
}

impl Standing {
    pub(crate) fn is_alive(self) -> bool {
        self == Self::Alive
    }
}

/// One member, in 32 bytes: a member of a large pool keeps ten thousand of them.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) told: Option<Arc<Told>>,
    pub(crate) incarnation: Incarnation,
    /// When it was last heard by ourselves, in tenths of a second.
    heard: u32,
    /// Since when it stands as it does, in tenths of a second.
    since: u32,
    pub(crate) standing: Standing,
}

/// Everyone we know, ourselves included.
#[derive(Debug)]
pub(crate) struct Table {
    records: Vec<Option<Record>>,
    buckets: Box<[u32; BUCKETS]>,
    root: u64,
    alive: usize,
    failed: usize,
    dead: usize,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { records: Vec::new(), buckets: Box::new([0; BUCKETS]), root: 0, alive: 0, failed: 0, dead: 0 }
    }

    pub(crate) fn record(&self, slot: Slot) -> Option<&Record> {
        self.records.get(slot.0 as usize)?.as_ref()
    }

    /// Whether the member is known and present.
    pub(crate) fn is_alive(&self, slot: Slot) -> bool {
        self.record(slot).is_some_and(|record| record.standing.is_alive())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Record)> {
        self.records.iter().enumerate().filter_map(|(at, record)| {
            let slot = Slot(u32::try_from(at).expect("slots are numbered with 32 bits"));
            record.as_ref().map(|record| (slot, record))
        })
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive
    }

    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    pub(crate) fn dead(&self) -> usize {
        self.dead
    }

    /// The same for all who know the same members in the same lives with the same digests.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.root
    }

    pub(crate) fn buckets(&self) -> &[u32; BUCKETS] {
        &self.buckets
    }

    /// Puts a member in, or changes how it stands.
    pub(crate) fn set(
        &mut self,
        directory: &Directory,
        slot: Slot,
        incarnation: Incarnation,
        standing: Standing,
        now: Duration,
    ) {
        let at = slot.0 as usize;
        if self.records.len() <= at {
            self.records.resize_with(at + 1, || None);
        }
        let former = self.records[at].take();
        if former.is_none() {
            directory.hold(slot);
        }
        self.count(directory, slot, former.as_ref(), -1);
        let (told, heard) = former.map_or((None, 0), |record| (record.told, record.heard));
        let record = Record { told, incarnation, heard, since: tenths(now), standing };
        self.count(directory, slot, Some(&record), 1);
        self.records[at] = Some(record);
    }

    /// Keeps what a member says, if it is later than what it said before. Tells whether it was.
    pub(crate) fn tell(&mut self, directory: &Directory, slot: Slot, saying: &Saying) -> bool {
        let Some(record) = self.records.get_mut(slot.0 as usize).and_then(Option::as_mut) else {
            return false;
        };
        if record.told.as_ref().is_some_and(|known| known.stamp >= saying.stamp) {
            return false;
        }
        let former = record.clone();
        record.told = Some(directory.share(slot, saying));
        let record = record.clone();
        self.count(directory, slot, Some(&former), -1);
        self.count(directory, slot, Some(&record), 1);
        true
    }

    /// Takes a member out.
    pub(crate) fn forget(&mut self, directory: &Directory, slot: Slot) -> Option<Record> {
        let record = self.records.get_mut(slot.0 as usize)?.take()?;
        self.count(directory, slot, Some(&record), -1);
        directory.release(slot);
        Some(record)
    }

    pub(crate) fn hear(&mut self, slot: Slot, now: Duration) {
        if let Some(Some(record)) = self.records.get_mut(slot.0 as usize) {
            record.heard = tenths(now).max(1);
        }
    }

    /// How long ago a member was heard by ourselves, to a tenth of a second.
    pub(crate) fn silence(&self, slot: Slot, now: Duration) -> Option<Duration> {
        let heard = self.record(slot)?.heard;
        (heard > 0).then(|| Duration::from_millis(u64::from(tenths(now).saturating_sub(heard)) * 100))
    }

    /// How long a member has stood as it does.
    pub(crate) fn standing_for(&self, slot: Slot, now: Duration) -> Duration {
        let since = self.record(slot).map_or(0, |record| record.since);
        Duration::from_millis(u64::from(tenths(now).saturating_sub(since)) * 100)
    }

    /// Some member for which `wanted` holds, each with about the same chance.
    pub(crate) fn pick(&self, rng: &mut SmallRng, wanted: impl Fn(Slot, &Record) -> bool) -> Option<Slot> {
        let many = self.records.len();
        if many == 0 {
            return None;
        }
        let start = rng.random_range(0..many);
        let tries = (0..PICK_TRIES).map(|_| rng.random_range(0..many)).collect::<Vec<_>>();
        tries.into_iter().chain((0..many).map(|step| (start + step) % many)).find_map(|at| {
            let slot = Slot(u32::try_from(at).expect("slots are numbered with 32 bits"));
            self.records[at].as_ref().filter(|record| wanted(slot, record)).map(|_| slot)
        })
    }

    fn count(&mut self, directory: &Directory, slot: Slot, record: Option<&Record>, by: isize) {
        let Some(record) = record else { return };
        let step = |count: &mut usize| *count = count.saturating_add_signed(by);
        if record.standing.is_alive() {
            step(&mut self.alive);
            let hash = hash(directory.place(slot).id, record);
            self.buckets[bucket(directory.place(slot).id)] ^= hash as u32;
            self.root ^= mix(hash);
        } else {
            step(&mut self.dead);
            if record.standing == Standing::Failed {
                step(&mut self.failed);
            }
        }
    }
}

/// The part of the fingerprint that a member counts in.
pub(crate) fn bucket(id: MemberId) -> usize {
    let (low, high) = halves(id);
    (mix(low.rotate_left(17) ^ high) as usize) % BUCKETS
}

fn hash(id: MemberId, record: &Record) -> u64 {
    let (low, high) = halves(id);
    let said =
        record.told.as_ref().map_or(0, |told| mix(told.stamp.incarnation.0) ^ u64::from(told.stamp.version));
    mix(low ^ mix(high ^ mix(record.incarnation.0 ^ mix(said))))
}

fn tenths(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / 100).unwrap_or(u32::MAX)
}
