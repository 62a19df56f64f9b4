//! Coming, being met, coming back, and leaving.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use bytes::{BufMut, Bytes};
use rand::RngExt;

use crate::{
    digest::{Digest, Role},
    directory::Slot,
    gossip::{Gossip, Phase},
    member::{Incarnation, MemberId},
    spread::Spread,
    step::{Event, LeavePrune, Output},
    table::Standing,
    timers::Timer,
    wire::{self, Card, Entry, Kind, Life, Manner, WireError},
};

/// Addresses to join by that are kept. The first ones win.
const SEEDS_MAX: usize = 64;

/// Seeds that are greeted at once.
const HELLOS_AT_ONCE: usize = 8;

/// How often seeds are tried while we are alone or with a minority.
const REJOIN_PERIOD: Duration = Duration::from_secs(2);

/// How often one seed is tried of those that are not alive as far as we know. All of a pool's servers may have left and come
/// back without a word to those who only know them as gone: whoever leaves is not tried again.
const LOST_SEED_PERIOD: Duration = Duration::from_secs(15);

/// How often failed members may be tried.
pub(crate) const KNOCK_PERIOD: Duration = Duration::from_secs(1);

/// Failed members that one member tries in a second, at most.
const KNOCKS_MAX: f64 = 10.0;

/// How often all members together try each failed member, in a second: in peace, and while some return.
const KNOCKS_PER_FAILED: (f64, f64) = (1.0, 20.0);

/// How long the others are tried harder after one returned: a partition that heals gives back many at once.
const RETURN_RUSH: Duration = Duration::from_secs(10);

/// Lives that are set aside by one write to disk.
const LIVES_RESERVED: u64 = 32;

/// New lives at once. When a link that was clogged comes free, old news of our end comes by the dozen.
const RENEWALS_MAX: u32 = 10;

/// Time in which one more new life may be begun. Two agents with one id would else outbid each other as fast as they can; who
/// has used up its lives is still heard again this soon.
const RENEWAL_PERIOD: Duration = Duration::from_secs(2);

/// Highest life that a stranger's word makes us go beyond. Nobody gets there by restarting; who says so lies, and would
/// use up the numbers.
const LIFE_BELIEVED_MAX: u64 = 1 << 48;

/// Servers that are told of a failure directly. Regions have three to seven.
const SERVERS_TOLD: usize = 5;

/// How often our leave is told, in periods of gossip: enough for the news to be with a hundred members or so, who do
/// the rest.
const DEPART_ROUNDS: u8 = 5;

/// Between two words of one about agents that share our id.
const DOUBLED_PERIOD: Duration = Duration::from_secs(10);

/// What we do about those whom we do not know or do not hear.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    seeds: Vec<SocketAddr>,
    next_seed: usize,
    seeds_checked_at: Duration,
    welcomed: bool,
    /// When all the lives that were begun will have had their period each.
    renewed_until: Duration,
    returned_at: Option<Duration>,
    reserved: Incarnation,
    doubled_at: Option<Duration>,
    told_at: Duration,
    is_late_due: bool,
}

impl Contact {
    pub(crate) fn someone_returned(&mut self, now: Duration) {
        self.returned_at = Some(now);
    }
}

impl Gossip {
    pub(crate) fn join(&mut self, addrs: Vec<SocketAddr>) {
        for addr in addrs {
            let is_known = addr == self.me.addr || self.contact.seeds.contains(&addr);
            if !is_known && self.contact.seeds.len() < SEEDS_MAX {
                self.contact.seeds.push(addr);
            } else if !is_known {
                self.counters.overflowed += 1;
            }
        }
        self.greet_seeds();
    }

    /// Tries seeds until one answers, again whenever most of the known members are gone, and now and then one that is not
    /// there.
    pub(crate) fn rejoin(&mut self) {
        let after = self.jitter(REJOIN_PERIOD);
        self.timers.push(self.now + after, Timer::Rejoin);
        if self.phase != Phase::Present {
            return;
        }
        let (alive, failed) = (self.table.alive(), self.table.failed());
        let is_minority = alive <= failed;
        if !self.contact.welcomed || alive == 1 || is_minority {
            self.greet_seeds();
        } else if self.now.saturating_sub(self.contact.seeds_checked_at) >= LOST_SEED_PERIOD {
            self.contact.seeds_checked_at = self.now;
            self.greet_lost_seed();
        }
    }

    /// Greets the next seed at whose address nobody is alive.
    fn greet_lost_seed(&mut self) {
        let alive = self.table.iter().filter(|(_, record)| record.standing.is_alive());
        let heard: BTreeSet<SocketAddr> = alive
            .map(|(slot, _)| self.directory.place(slot).addr)
            .filter(|addr| self.contact.seeds.contains(addr))
            .collect();
        let many = self.contact.seeds.len();
        let turns = (1..=many).map(|turn| (self.contact.next_seed + turn) % many);
        let lost = turns.into_iter().find(|at| !heard.contains(&self.contact.seeds[*at]));
        if let Some(at) = lost {
            self.contact.next_seed = at;
            self.greet(Kind::Hello, self.contact.seeds[at], Incarnation(0));
        }
    }

    fn greet_seeds(&mut self) {
        let many = self.contact.seeds.len();
        for _ in 0..many.min(HELLOS_AT_ONCE) {
            self.contact.next_seed = (self.contact.next_seed + 1) % many;
            let to = self.contact.seeds[self.contact.next_seed];
            self.greet(Kind::Hello, to, Incarnation(0));
        }
    }

    /// Says who we are. `over` is the life of the receiver that we hold for over.
    pub(crate) fn greet(&mut self, kind: Kind, to: SocketAddr, over: Incarnation) {
        let mut bytes = wire::open(kind, self.config.pool);
        wire::put_number(&mut bytes, over.0);
        self.my_card().put(&mut bytes);
        self.send(to, Bytes::from(bytes));
    }

    /// Takes a greeting or its answer.
    pub(crate) fn receive_greeting(
        &mut self,
        kind: Kind,
        from: SocketAddr,
        sender: MemberId,
        mut body: Bytes,
    ) -> Result<(), WireError> {
        let over = Incarnation(wire::take_number(&mut body)?);
        let card = Card::take(&mut body)?;
        if card.entry.id != sender || !card.entry.standing.is_alive() {
            return Err(WireError::Foreign);
        }
        if over >= self.life {
            self.renew_beyond(over);
        }
        let held_for_over = self.life_held_for_over(sender, card.entry.incarnation);
        if held_for_over.is_none() {
            self.learn_card(&card, Spread::Everyone);
        }
        if kind == Kind::Hello {
            self.greet(Kind::Welcome, from, held_for_over.unwrap_or_default());
        } else if held_for_over.is_none() && !self.contact.welcomed {
            self.contact.welcomed = true;
            if let Some(slot) = self.directory.find(sender) {
                self.ask_sync(slot);
            }
        }
        if let (None, Some(slot)) = (held_for_over, self.directory.find(sender)) {
            self.heard(slot);
        }
        Ok(())
    }

    /// The latest life of a member that we hold for over or replaced, if the member still lives in it or before it.
    pub(crate) fn life_held_for_over(&self, id: MemberId, life: Incarnation) -> Option<Incarnation> {
        let record = self.table.record(self.directory.find(id)?)?;
        match record.standing {
            Standing::Alive => (record.incarnation > life).then_some(record.incarnation),
            Standing::Failed | Standing::Left | Standing::Pruned => {
                (record.incarnation >= life).then_some(record.incarnation)
            }
        }
    }

    /// Takes note of the sender of a packet. `None` if it speaks from a life that is over; it is told so.
    pub(crate) fn meet(&mut self, entry: &Entry) -> Option<Slot> {
        if self.life_held_for_over(entry.id, entry.incarnation).is_some() {
            let slot = self.directory.find(entry.id)?;
            self.ping(slot, Manner::Obituary);
            return None;
        }
        self.learn(entry, Spread::Everyone);
        self.directory.find(entry.id).filter(|slot| self.table.is_alive(*slot))
    }

    /// Others speak of us: of an end that we know nothing of, or of a life that we did not begin.
    pub(crate) fn hear_of_ourselves(&mut self, entry: &Entry) {
        let is_wrong = match entry.standing {
            Standing::Alive => entry.incarnation > self.life,
            Standing::Failed | Standing::Left | Standing::Pruned => entry.incarnation >= self.life,
        };
        if is_wrong {
            self.renew_beyond(entry.incarnation);
        }
    }

    /// Begins a life above `over`, at once, and tells it.
    pub(crate) fn renew_beyond(&mut self, over: Incarnation) {
        let renewed_until = self.contact.renewed_until.max(self.now) + RENEWAL_PERIOD;
        let is_believable = over.0 <= self.life.0.saturating_add(LIFE_BELIEVED_MAX);
        if mutants::on!("gossip-never-refutes")
            || self.phase != Phase::Present
            || renewed_until > self.now + RENEWAL_PERIOD * RENEWALS_MAX
            || !is_believable
        {
            return;
        }
        self.contact.renewed_until = renewed_until;
        self.counters.renewals += 1;
        let was_outdated = over > self.life;
        self.life = Incarnation(self.life.max(over).0.saturating_add(1));
        self.reserve_lives();
        self.directory.note_addr(self.slot, self.life, self.me.addr);
        self.table.set(&self.directory, self.slot, self.life, Standing::Alive, self.now);
        self.rename();
        if was_outdated {
            // Our numbers were lost, so what we said since would be taken for old.
            self.stamp.incarnation = self.life;
            self.tell_digest();
        }
    }

    /// Sees to it that lives are written down before they are used.
    pub(crate) fn reserve_lives(&mut self) {
        if self.life.0.saturating_add(LIVES_RESERVED / 4) >= self.contact.reserved.0 {
            self.contact.reserved = Incarnation(self.life.0.saturating_add(LIVES_RESERVED));
            self.emit(Output::Persist(self.contact.reserved));
        }
    }

    /// A packet came that bears our own id.
    pub(crate) fn meet_ourselves(&mut self, from: SocketAddr) {
        let was_said = self.contact.doubled_at.is_some_and(|at| self.now < at + DOUBLED_PERIOD);
        if from != self.me.addr && !was_said {
            self.contact.doubled_at = Some(self.now);
            self.emit(Output::Event(Event::Doubled { addr: from }));
        }
    }

    /// Tries failed members: whoever answers is told that it was given up, and comes back.
    pub(crate) fn knock(&mut self) {
        self.timers.push(self.now + KNOCK_PERIOD, Timer::Knock);
        if self.phase != Phase::Present || self.table.failed() == 0 {
            return;
        }
        let rush = self.contact.returned_at.is_some_and(|at| self.now < at + RETURN_RUSH);
        let per_failed = if rush { KNOCKS_PER_FAILED.1 } else { KNOCKS_PER_FAILED.0 };
        let share = self.table.failed() as f64 / self.table.alive() as f64;
        let knocks = (share * per_failed).min(KNOCKS_MAX);
        let chance = knocks.fract();
        let knocks = knocks as usize + usize::from(chance > 0.0 && self.rng.random_bool(chance));
        for _ in 0..knocks {
            let failed = self.table.pick(&mut self.rng, |_, record| record.standing == Standing::Failed);
            if let Some(slot) = failed {
                self.ping(slot, Manner::Obituary);
            }
        }
    }

    pub(crate) fn leave(&mut self) {
        if self.phase != Phase::Present {
            return;
        }
        self.phase = Phase::Leaving;
        self.departures.note(self.slot, self.life, Standing::Left);
        self.tell_leave();
        let gone = Entry { standing: Standing::Left, ..self.my_card().entry };
        self.tell_servers(&gone);
        self.depart(DEPART_ROUNDS);
    }

    pub(crate) fn depart(&mut self, left: u8) {
        if left == 0 {
            self.phase = Phase::Gone;
            self.emit(Output::Departed);
            return;
        }
        self.gossip_at_once();
        self.timers.push(self.now + self.config.gossip_period, Timer::Depart(left - 1));
    }

    pub(crate) fn force_leave(&mut self, id: MemberId, prune: LeavePrune) {
        let Some(slot) = self.directory.find(id).filter(|slot| *slot != self.slot) else { return };
        let Some(record) = self.table.record(slot) else { return };
        let incarnation = match record.standing {
            Standing::Alive => record.incarnation,
            // The end of its present life is old news. The end of the next one spreads, and a member that starts again
            // begins far above it.
            Standing::Failed | Standing::Left | Standing::Pruned => {
                Incarnation(record.incarnation.0.saturating_add(1))
            }
        };
        let standing = match prune {
            LeavePrune::Keep => Standing::Left,
            LeavePrune::Prune => Standing::Pruned,
        };
        let addr = self.directory.place(slot).addr;
        let entry = Entry { id, addr, incarnation, standing };
        self.learn(&entry, Spread::Everyone);
        self.tell_servers(&entry);
    }

    /// Tells servers directly: whoever decides by it should not wait for it to spread.
    pub(crate) fn tell_servers(&mut self, entry: &Entry) {
        let mut servers: Vec<Slot> = self
            .table
            .iter()
            .filter(|(slot, record)| {
                let said = record.told.as_ref().and_then(|told| told.digest.as_ref());
                *slot != self.slot
                    && record.standing.is_alive()
                    && said.is_some_and(|digest| digest.role == Role::Server)
            })
            .map(|(slot, _)| slot)
            .collect();
        while servers.len() > SERVERS_TOLD {
            let one = self.rng.random_range(0..servers.len());
            servers.swap_remove(one);
        }
        let mut bytes = wire::open(Kind::News, self.config.pool);
        bytes.put_slice(&self.me.id.0);
        wire::put_number(&mut bytes, self.life.0);
        entry.put(&mut bytes).expect("a vector has room");
        let bytes = Bytes::from(bytes);
        for server in servers {
            self.send(self.directory.place(server).addr, bytes.clone());
        }
    }

    pub(crate) fn receive_news(&mut self, sender: MemberId, mut body: Bytes) -> Result<(), WireError> {
        let from = Life {
            id: MemberId(wire::take_array(&mut body)?),
            incarnation: Incarnation(wire::take_number(&mut body)?),
        };
        let entry = Entry::take(&mut body)?;
        if from.id != sender {
            return Err(WireError::Foreign);
        }
        let is_own_leave = entry.id == sender && entry.standing == Standing::Left;
        let slot = self.directory.find(sender).filter(|slot| self.table.is_alive(*slot));
        if slot.is_some() && (self.life_held_for_over(from.id, from.incarnation).is_none() || is_own_leave) {
            self.learn(&entry, Spread::Everyone);
        }
        Ok(())
    }

    /// What we say about ourselves, as a packet carries it.
    pub(crate) fn my_card(&self) -> Card {
        let record = self.table.record(self.slot);
        let saying = record.and_then(|record| record.told.as_ref()).map(|told| told.saying());
        let entry =
            Entry { id: self.me.id, addr: self.me.addr, incarnation: self.life, standing: Standing::Alive };
        Card { entry, saying }
    }

    /// Tells a changed digest, at once or, when only the load differs, after a pause.
    pub(crate) fn announce_digest(&mut self, former: &Digest) {
        let pace = Duration::from_millis(40) * u32::try_from(self.table.alive()).unwrap_or(u32::MAX);
        let due = self.contact.told_at + pace;
        if !former.differs_in_load_only(&self.me.digest) || self.now >= due {
            self.contact.told_at = self.now;
            self.tell_digest();
        } else if !self.contact.is_late_due {
            self.contact.is_late_due = true;
            self.timers.push(due, Timer::Announce);
        }
    }

    pub(crate) fn announce_late(&mut self) {
        self.contact.is_late_due = false;
        self.contact.told_at = self.now;
        self.tell_digest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Digest, Input, Me, MemberId};

    /// Begins as many lives as it may; returns how many.
    fn begin_lives(gossip: &mut Gossip) -> u64 {
        let before = gossip.life.0;
        for _ in 0..100 {
            gossip.renew_beyond(gossip.life);
        }
        gossip.life.0 - before
    }

    #[test]
    fn lives_that_a_burst_used_up_come_back_one_by_one() {
        let me = Me {
            id: MemberId([1; 16]),
            addr: SocketAddr::from(([10, 0, 0, 1], 4_648)),
            persisted: Incarnation(0),
            digest: Digest::default(),
        };
        let start = Duration::from_secs(5);
        let mut gossip = Gossip::new(Config::local(1, 1_200, 7), me, start).expect("it is configured well");
        assert_eq!(begin_lives(&mut gossip), u64::from(RENEWALS_MAX));
        let mut now = start + RENEWAL_PERIOD;
        gossip.step(now, Input::Tick);
        assert_eq!(begin_lives(&mut gossip), 1);
        now += RENEWAL_PERIOD * 3;
        gossip.step(now, Input::Tick);
        assert_eq!(begin_lives(&mut gossip), 3);
        gossip.step(now + RENEWAL_PERIOD * 1_000, Input::Tick);
        assert_eq!(begin_lives(&mut gossip), u64::from(RENEWALS_MAX), "never more of them at once");
    }
}
