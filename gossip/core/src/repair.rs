//! Differences, and how they go away: fingerprints in probes, lists over streams.

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use rand::RngExt;

use crate::{
    directory::Slot,
    gossip::{Gossip, Phase},
    spread::Spread,
    table::{BUCKETS, bucket},
    timers::Timer,
    wire::{self, Card, Entry, Kind},
};

/// Lists that wait to be taken in. One arrives after each stream that we opened, and one after each opened to us: many
/// when a server is the first whom all newcomers meet. What is dropped is found missing later.
const SEEDS_MAX: usize = 64;

/// Largest list: all members that can be known, with digests of the largest size that is common.
const SEED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Members of a list that one step takes in: a few milliseconds, so that probes are answered in between.
const ABSORBED_AT_ONCE: usize = 256;

/// Pause between two parts of a list.
const ABSORB_PAUSE: Duration = Duration::from_millis(1);

/// A list with fewer members than this is passed on: it repairs something. A longer one is what others have too.
const REPAIR_MAX: u32 = 32;

/// By how many more of those whom we met we must have differed from than agreed with before a difference counts. Eight
/// are met in a second, and news need two seconds to reach all.
const DIFFERENT_MIN: u32 = 20;

/// The same after a synchronisation that brought much.
const DIFFERENT_MIN_BUSY: u32 = 8;

/// Longest time between two synchronisations that we open when we differ all the time; half of it is chance.
const SYNC_PERIOD: Duration = Duration::from_secs(8);

/// The same after one that brought much: many join or return at once, and each synchronisation doubles what we know.
const SYNC_PERIOD_BUSY: Duration = Duration::from_secs(2);

/// Why a message of a synchronisation is refused. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SyncError {
    /// It is no such message, or too large.
    #[error("message of a synchronisation is malformed")]
    Malformed,
    /// It is of another pool or of another version.
    #[error("synchronisation with another pool or another version of gossip")]
    Foreign,
}

/// Lists on their way in, and what we make of fingerprints.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    seeds: VecDeque<Seed>,
    is_absorbing: bool,
    is_busy: bool,
    different: u32,
    sync_at: Duration,
}

#[derive(Debug)]
struct Seed {
    cards: Bytes,
    news: u32,
    spread: Spread,
}

impl Gossip {
    /// Compares what a member knows with what we know.
    pub(crate) fn compare(&mut self, with: Slot, fingerprint: u64) {
        if fingerprint == self.table.fingerprint() {
            // Not back to nothing: two who miss the same would keep each other from looking for it.
            self.repair.different = self.repair.different.saturating_sub(1);
            return;
        }
        let (min, period) = match self.repair.is_busy {
            true => (DIFFERENT_MIN_BUSY, SYNC_PERIOD_BUSY),
            false => (DIFFERENT_MIN, SYNC_PERIOD),
        };
        self.repair.different = self.repair.different.saturating_add(1);
        let is_absorbing = !self.repair.seeds.is_empty();
        if self.now < self.repair.sync_at || self.repair.different < min || is_absorbing {
            return;
        }
        self.repair.different = 0;
        let chance = period.mul_f64(self.rng.random_range(0.5..1.0));
        self.repair.sync_at = self.now + chance;
        self.ask_sync(with);
    }

    /// The opening message of a synchronisation, to send over the stream that [`crate::Output::Sync`] asked for.
    pub fn sync_request(&self) -> Bytes {
        let mut bytes = wire::open(Kind::SyncRequest, self.config.pool);
        self.put_buckets(&mut bytes);
        Bytes::from(bytes)
    }

    /// Answers the opening message of another member: everything in which we differ.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn sync_answer(&self, request: &[u8]) -> Result<Bytes, SyncError> {
        let mut body = self.read_stream(request, Kind::SyncRequest)?;
        let theirs = take_buckets(&mut body)?;
        Ok(self.list(&theirs))
    }

    /// What the other side lacks, told by its answer: the last message, from the opener. Empty when it lacks nothing.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn sync_return(&self, answer: &[u8]) -> Result<Bytes, SyncError> {
        let mut body = self.read_stream(answer, Kind::Seed)?;
        let theirs = take_buckets(&mut body)?;
        if theirs == *self.table.buckets() {
            return Ok(Bytes::new());
        }
        Ok(self.list(&theirs))
    }

    /// Our parts, and every member of those that differ.
    fn list(&self, theirs: &[u32; BUCKETS]) -> Bytes {
        let ours = self.table.buckets();
        let mut bytes = wire::open(Kind::Seed, self.config.pool);
        self.put_buckets(&mut bytes);
        let count_at = bytes.len();
        bytes.put_u32(0);
        let mut count = 0_u32;
        for (slot, record) in self.table.iter() {
            let place = self.directory.place(slot);
            let at = bucket(place.id);
            if ours[at] == theirs[at] || bytes.len() > SEED_BYTES_MAX - 1_024 {
                continue;
            }
            let entry = Entry {
                id: place.id,
                addr: place.addr,
                incarnation: record.incarnation,
                standing: record.standing,
            };
            Card { entry, saying: record.told.as_ref().map(|told| told.saying()) }.put(&mut bytes);
            count += 1;
        }
        bytes[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
        Bytes::from(bytes)
    }

    /// Queues a list. It is taken in bit by bit; one that is malformed is dropped from there on.
    pub(crate) fn take_seed(&mut self, bytes: Bytes) {
        let Ok(mut body) = self.read_stream(&bytes, Kind::Seed) else {
            self.counters.malformed += u64::from(!bytes.is_empty());
            return;
        };
        if self.repair.seeds.len() >= SEEDS_MAX {
            self.counters.overflowed += 1;
            return;
        }
        if take_buckets(&mut body).is_err() || body.len() < 4 {
            self.counters.malformed += 1;
            return;
        }
        let spread = if body.get_u32() <= REPAIR_MAX { Spread::Everyone } else { Spread::Nobody };
        self.repair.seeds.push_back(Seed { cards: body, news: 0, spread });
        if !self.repair.is_absorbing {
            self.repair.is_absorbing = true;
            self.timers.push(self.now + ABSORB_PAUSE, Timer::Absorb);
        }
    }

    /// Takes in the next part of the first list.
    pub(crate) fn absorb(&mut self) {
        self.repair.is_absorbing = false;
        if self.phase != Phase::Present {
            return;
        }
        if let Some(mut seed) = self.repair.seeds.pop_front() {
            for _ in 0..ABSORBED_AT_ONCE {
                if seed.cards.is_empty() {
                    break;
                }
                match Card::take(&mut seed.cards) {
                    Ok(card) => {
                        seed.news += u32::from(self.learn_card(&card, seed.spread));
                    }
                    Err(_) => {
                        self.counters.malformed += 1;
                        seed.cards.clear();
                    }
                }
            }
            if !seed.cards.is_empty() {
                self.repair.seeds.push_front(seed);
            } else {
                self.repair.is_busy = seed.news > REPAIR_MAX;
                if self.repair.is_busy {
                    self.repair.sync_at = self.repair.sync_at.min(self.now + SYNC_PERIOD_BUSY);
                }
            }
        }
        if !self.repair.seeds.is_empty() {
            self.repair.is_absorbing = true;
            self.timers.push(self.now + ABSORB_PAUSE, Timer::Absorb);
        }
    }

    fn read_stream(&self, bytes: &[u8], wanted: Kind) -> Result<Bytes, SyncError> {
        if bytes.len() > SEED_BYTES_MAX {
            return Err(SyncError::Malformed);
        }
        let (kind, body) =
            wire::read(Bytes::copy_from_slice(bytes), self.config.pool).map_err(|error| match error {
                wire::WireError::Foreign => SyncError::Foreign,
                _ => SyncError::Malformed,
            })?;
        if kind == wanted { Ok(body) } else { Err(SyncError::Malformed) }
    }

    fn put_buckets(&self, bytes: &mut Vec<u8>) {
        for bucket in self.table.buckets() {
            bytes.put_u32(*bucket);
        }
    }
}

fn take_buckets(body: &mut Bytes) -> Result<[u32; BUCKETS], SyncError> {
    if body.len() < BUCKETS * 4 {
        return Err(SyncError::Malformed);
    }
    let mut buckets = [0; BUCKETS];
    buckets.fill_with(|| body.get_u32());
    Ok(buckets)
}
