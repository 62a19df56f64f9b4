//! What spreads: who is there, who is not, and what each says. The only file that speaks to foca.

use std::{num::NonZeroU8, num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use foca::{Foca, Notification, PeriodicParams, Runtime};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    config::Config,
    digest::Saying,
    directory::{Directory, Slot},
    gossip::{Gossip, Phase},
    identity::{Carrier, Departures, Identity, PacketCodec},
    member::{Incarnation, MemberId},
    step::{Event, Output},
    table::Standing,
    timers::Timer,
    wire::{self, Card, ENVELOPE_BYTES, Entry, FocaMessage, FocaPacket, Kind, WireError},
};

/// Who came and who went: news that wait to be told to others, as many as thirty packets hold. Above it, more are taken
/// in but not passed on, and those who miss them find out by comparing fingerprints. Foca looks at all that wait for each
/// that is added, so a long list costs.
const NEWS_MAX: usize = 1_024;

/// The same for digests, which are ten times as large: thousands of them are told once by a list over a stream, and many
/// times by gossip.
const DIGESTS_MAX: usize = 256;

/// Dead members that are remembered. A region of ten thousand that breaks in halves remembers five thousand.
const DEAD_MAX: usize = 16_384;

/// How often a few members are asked for a page of theirs: finds others when streams do not work.
const FEED_PERIOD: Duration = Duration::from_secs(30);

/// How often the dead are gone through.
const REAP_PERIOD: Duration = Duration::from_secs(60);

/// Foca, and what it wanted in its last call.
pub(crate) struct Spreader {
    foca: Foca<Identity, PacketCodec, SmallRng, Carrier>,
    wishes: Wishes,
    told_for: usize,
}

/// What foca wants done.
#[derive(Debug, Default)]
struct Wishes {
    sends: Vec<(Identity, Vec<u8>)>,
    timers: Vec<(Duration, foca::Timer<Identity>)>,
}

impl Runtime<Identity> for Wishes {
    fn notify(&mut self, _change: Notification<'_, Identity>) {
        // Every change goes in through `learn`, which knows what it means.
    }

    fn send_to(&mut self, to: Identity, packet: &[u8]) {
        self.sends.push((to, packet.to_vec()));
    }

    fn submit_after(&mut self, timer: foca::Timer<Identity>, after: Duration) {
        self.timers.push((after, timer));
    }
}

impl Spreader {
    pub(crate) fn new(
        config: &Config,
        slot: Slot,
        life: Incarnation,
        directory: &Directory,
        departures: &Departures,
        rng: &mut SmallRng,
    ) -> Self {
        let codec = PacketCodec { directory: directory.clone(), departures: departures.clone() };
        let chance = SmallRng::seed_from_u64(rng.random());
        let identity = Identity::new(slot, life);
        let foca = Foca::with_custom_broadcast(identity, foca_config(config, 1), chance, codec, Carrier);
        Self { foca, wishes: Wishes::default(), told_for: 1 }
    }

    pub(crate) fn backlog(&self) -> usize {
        self.foca.updates_backlog() + self.foca.custom_broadcast_backlog()
    }
}

/// What foca is told. It never suspects and never probes here, so most of it has no effect.
fn foca_config(config: &Config, members: usize) -> foca::Config {
    let one = NonZeroUsize::MIN;
    foca::Config {
        probe_period: config.probe_period,
        probe_rtt: config.probe_timeout,
        num_indirect_probes: NonZeroUsize::new(config.gossip_fanout).unwrap_or(one),
        max_transmissions: transmissions(members),
        suspect_to_down_after: config.suspicion_max,
        // We say when, so that there is one timer for all and not one for each death.
        remove_down_after: None,
        max_packet_size: NonZeroUsize::new(config.packet_bytes_max - ENVELOPE_BYTES).unwrap_or(one),
        // Two members that hold each other for down would answer each other without end. Ours learn it from probes.
        notify_down_members: false,
        periodic_announce: Some(PeriodicParams { frequency: FEED_PERIOD, num_members: one }),
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: config.gossip_period,
            num_members: NonZeroUsize::new(config.gossip_fanout).unwrap_or(one),
        }),
    }
}

/// How often each member passes one piece of news on: with four times the logarithm, a pool of ten thousand where one
/// packet in ten is lost leaves nobody out.
fn transmissions(members: usize) -> NonZeroU8 {
    let times = ((members as f64 + 1.0).log10() * 4.0).ceil().clamp(4.0, 40.0);
    NonZeroU8::new(times as u8).unwrap_or(NonZeroU8::MIN)
}

impl Gossip {
    /// Takes one piece of news in. `spread` passes it on to others. Tells whether it was news.
    pub(crate) fn learn(&mut self, entry: &Entry, spread: Spread) -> bool {
        if entry.id == self.me.id {
            self.hear_of_ourselves(entry);
            return false;
        }
        let Some(slot) = self.directory.intern(entry.id) else {
            self.counters.overflowed += 1;
            return false;
        };
        let former = self.table.record(slot).map(|record| (record.incarnation, record.standing));
        let is_news = match former {
            None => true,
            Some((life, _)) if entry.incarnation != life => entry.incarnation > life,
            Some((_, standing)) => standing.is_alive() && !entry.standing.is_alive(),
        };
        if is_news {
            self.directory.note_addr(slot, entry.incarnation, entry.addr);
            self.change(slot, entry, former.map(|(_, standing)| standing), spread);
        } else if former == Some((entry.incarnation, Standing::Failed)) && !entry.standing.is_alive() {
            self.learn_how_it_ended(slot, entry);
        }
        is_news
    }

    /// What was taken for a failure may have been a leave.
    fn learn_how_it_ended(&mut self, slot: Slot, entry: &Entry) {
        if entry.standing != Standing::Failed {
            self.departures.note(slot, entry.incarnation, entry.standing);
            self.table.set(&self.directory, slot, entry.incarnation, entry.standing, self.now);
            self.report(slot, Event::Left);
        }
    }

    fn change(&mut self, slot: Slot, entry: &Entry, former: Option<Standing>, spread: Spread) {
        let identity = Identity::new(slot, entry.incarnation);
        let state = if entry.standing.is_alive() { foca::State::Alive } else { foca::State::Down };
        if matches!(entry.standing, Standing::Left | Standing::Pruned) {
            self.departures.note(slot, entry.incarnation, entry.standing);
        }
        self.table.set(&self.directory, slot, entry.incarnation, entry.standing, self.now);
        let spreads = match spread {
            Spread::Everyone => self.spreader.foca.updates_backlog() < NEWS_MAX,
            Spread::Nobody => false,
        };
        let member = foca::Member::new(identity, 0, state);
        self.call_foca(|foca, wishes| foca.apply_many(std::iter::once(member), spreads, wishes));
        self.detector.drop_subject(slot);
        self.member_changed(slot);
        match (former, entry.standing) {
            (None | Some(Standing::Pruned), Standing::Alive) => self.report(slot, Event::Joined),
            (Some(Standing::Alive), Standing::Alive) => self.report(slot, Event::Updated),
            (Some(Standing::Failed | Standing::Left), Standing::Alive) => {
                self.contact.someone_returned(self.now);
                self.report(slot, Event::Returned);
            }
            (Some(Standing::Alive), Standing::Failed) => self.report(slot, Event::Failed),
            (Some(Standing::Alive | Standing::Failed), Standing::Left) => self.report(slot, Event::Left),
            (Some(Standing::Alive | Standing::Failed | Standing::Left), Standing::Pruned) => {
                self.report(slot, Event::Forgotten)
            }
            // The end of a member that we never knew, or another end of one that was over.
            (_, Standing::Failed | Standing::Left | Standing::Pruned) => {}
        }
        self.follow_size();
        if !entry.standing.is_alive() && self.table.dead() > DEAD_MAX {
            self.forget_oldest();
        }
    }

    /// Keeps what a member says, and passes it on. The card of a stranger introduces it.
    pub(crate) fn learn_card(&mut self, card: &Card, spread: Spread) -> bool {
        let mut is_news = self.learn(&card.entry, spread);
        let Some(saying) = &card.saying else { return is_news };
        let Some(slot) = self.directory.find(card.entry.id) else { return is_news };
        let was_silent = self.table.record(slot).is_some_and(|record| record.told.is_none());
        if slot != self.slot && self.table.tell(&self.directory, slot, saying) {
            is_news = true;
            if spread == Spread::Everyone {
                self.carry(card);
            }
            // Somebody whose end we heard of first has nothing to say.
            if self.table.is_alive(slot) || was_silent {
                self.report(slot, Event::Updated);
            }
        }
        is_news
    }

    /// Lets foca carry a digest along.
    pub(crate) fn carry(&mut self, card: &Card) {
        if self.spreader.foca.custom_broadcast_backlog() >= DIGESTS_MAX {
            self.counters.overflowed += 1;
            return;
        }
        let mut bytes = Vec::with_capacity(128);
        card.put(&mut bytes);
        self.call_foca(|foca, _wishes| foca.add_broadcast(&bytes).map(|_| ()));
    }

    pub(crate) fn receive_foca(&mut self, sender: MemberId, body: Bytes) -> Result<(), WireError> {
        let packet = FocaPacket::take(body.clone())?;
        if packet.from.id != sender || packet.to.id != self.me.id || !packet.from.standing.is_alive() {
            return Err(WireError::Foreign);
        }
        let Some(slot) = self.meet(&packet.from) else { return Ok(()) };
        match packet.message {
            FocaMessage::Announce => self.call_foca(|foca, wishes| foca.handle_data(&body, wishes)),
            FocaMessage::Feed | FocaMessage::Gossip | FocaMessage::Broadcast => {
                for entry in &packet.entries {
                    self.learn(entry, Spread::Everyone);
                }
                for bytes in packet.cards {
                    let card = Card::take(&mut bytes.clone())?;
                    self.learn_card(&card, Spread::Everyone);
                }
            }
        }
        self.heard(slot);
        Ok(())
    }

    pub(crate) fn run_foca_timer(&mut self, timer: foca::Timer<Identity>) {
        self.call_foca(|foca, wishes| foca.handle_timer(timer, wishes));
    }

    /// Forgets a dead member.
    pub(crate) fn forget(&mut self, slot: Slot, life: Incarnation) {
        self.report(slot, Event::Forgotten);
        let timer = foca::Timer::RemoveDown(Identity::new(slot, life));
        self.call_foca(|foca, wishes| foca.handle_timer(timer, wishes));
        self.departures.forget(slot);
        self.table.forget(&self.directory, slot);
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .table
            .iter()
            .filter(|(_, record)| !record.standing.is_alive())
            .map(|(slot, record)| (self.table.standing_for(slot, self.now), slot, record.incarnation))
            .max_by_key(|(age, ..)| *age);
        if let Some((_, slot, life)) = oldest {
            self.counters.overflowed += 1;
            self.forget(slot, life);
        }
    }

    /// Forgets those who are dead for long enough, from time to time.
    pub(crate) fn reap_again(&mut self) {
        self.timers.push(self.now + REAP_PERIOD, Timer::Reap);
        if self.table.dead() > 0 {
            self.reap();
        }
    }

    /// Forgets those who were dead for long enough.
    pub(crate) fn reap(&mut self) {
        let over: Vec<(Slot, Incarnation)> = self
            .table
            .iter()
            .filter(|(slot, record)| {
                !record.standing.is_alive()
                    && self.table.standing_for(*slot, self.now) >= self.config.remember
            })
            .map(|(slot, record)| (slot, record.incarnation))
            .collect();
        for (slot, life) in over {
            self.forget(slot, life);
        }
    }

    /// Starts another life in foca's eyes and tells some members at once.
    pub(crate) fn rename(&mut self) {
        let identity = Identity::new(self.slot, self.life);
        self.call_foca(|foca, wishes| foca.change_identity(identity, wishes));
        // Foca starts its timers again when it looks at its members the next time.
        self.call_foca(|foca, wishes| foca.apply_many(std::iter::empty(), false, wishes));
    }

    /// Tells that we leave.
    pub(crate) fn tell_leave(&mut self) {
        self.call_foca(|foca, wishes| foca.leave_cluster(wishes));
    }

    /// Tells what there is to some members, out of turn.
    pub(crate) fn gossip_at_once(&mut self) {
        self.call_foca(|foca, wishes| foca.gossip(wishes));
    }

    /// More members need more repetitions.
    fn follow_size(&mut self) {
        let members = self.table.alive();
        if transmissions(members) == transmissions(self.spreader.told_for) {
            return;
        }
        self.spreader.told_for = members;
        let config = foca_config(&self.config, members);
        self.call_foca(|foca, _wishes| foca.set_config(config));
    }

    fn call_foca(
        &mut self,
        call: impl FnOnce(
            &mut Foca<Identity, PacketCodec, SmallRng, Carrier>,
            &mut Wishes,
        ) -> Result<(), foca::Error>,
    ) {
        let Spreader { foca, wishes, .. } = &mut self.spreader;
        if call(foca, wishes).is_err() {
            // Packets are checked before foca sees them, so what is left is a stale timer; nothing was changed.
            self.counters.malformed += 1;
        }
        let timers = std::mem::take(&mut self.spreader.wishes.timers);
        for (after, timer) in timers {
            // Probing is ours. Foca would wait for this one for ever and does nothing else with it.
            if !matches!(timer, foca::Timer::ProbeRandomMember(_)) {
                self.timers.push(self.now + after, Timer::Foca(timer));
            }
        }
        let sends = std::mem::take(&mut self.spreader.wishes.sends);
        for (to, packet) in sends {
            if self.phase != Phase::Gone {
                let mut bytes = wire::open(Kind::Foca, self.config.pool);
                bytes.extend_from_slice(&packet);
                self.send(self.directory.place(to.slot).addr, Bytes::from(bytes));
            }
        }
    }

    /// Tells others what we say about ourselves, as of `self.me.digest`.
    pub(crate) fn tell_digest(&mut self) {
        self.stamp.version = self.stamp.version.saturating_add(1);
        let Ok(raw) = self.me.digest.encode() else { return };
        let saying = Saying { stamp: self.stamp, raw: raw.into() };
        self.table.tell(&self.directory, self.slot, &saying);
        let card = self.my_card();
        self.carry(&card);
    }

    /// Asks for a synchronisation with a member.
    pub(crate) fn ask_sync(&mut self, slot: Slot) {
        let place = self.directory.place(slot);
        self.emit(Output::Sync { id: place.id, addr: place.addr });
    }
}

/// Whether news are passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spread {
    Everyone,
    /// They come from a list that others have too.
    Nobody,
}
