//! Who is alive: probes, suspicions, and what others find when we ask them.
//!
//! Members stand on a ring. Each probes the few that follow it, one after the other, and one at random; so each is
//! watched by the same number of others and a death is noticed in a fraction of the probe period, at any size. A probe
//! without an answer starts a **suspicion**, which is private: the suspect is pinged again and again, and others are
//! asked whether they hear it. Only the verdict is told to all. So pauses, of which a large pool has hundreds in a second,
//! cost packets between a few members and nothing anywhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    directory::Slot,
    gossip::{Gossip, Phase},
    health::Health,
    member::{Incarnation, MemberId},
    spread::Spread,
    step::Event,
    table::Standing,
    timers::Timer,
    wire::{self, Ack, Doubt, Entry, Finding, Kind, Life, Manner, Ping, WireError},
};

/// Members that each one watches.
const WATCHED: usize = 3;

/// Members that are asked about a suspect at once.
const ASKED: usize = 4;

/// Confirmations that make a suspicion as short as it gets.
const CONFIRMATIONS: usize = 2;

/// Members that are remembered to have confirmed one suspicion.
const CONFIRMED_MAX: usize = 8;

/// Checks for others under way. Half of a large pool that vanishes makes its watchers ask about hundreds each second,
/// spread over all who are left; above this they are not answered, and others are asked.
const CHECKS_MAX: usize = 256;

/// Askers of one check.
const ASKERS_MAX: usize = 16;

/// Times that a suspect is pinged for another member.
const CHECK_PINGS: u32 = 3;

/// Probes that wait for an answer. A few are sent each second and wait for one at most.
const PROBES_MAX: usize = 64;

/// Pings of a suspect in one probe timeout.
const PINGS_PER_TIMEOUT: u32 = 2;

/// What we are finding out.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    pub(crate) health: Health,
    watch: Vec<Slot>,
    is_watch_current: bool,
    turn: usize,
    number: u32,
    accused_at: Option<Duration>,
    probes: BTreeMap<u32, Probe>,
    suspicions: BTreeMap<Slot, Suspicion>,
    checks: BTreeMap<Slot, Check>,
}

#[derive(Debug)]
struct Probe {
    subject: Slot,
    sent: Duration,
}

/// Somebody whom we do not hear.
#[derive(Debug)]
struct Suspicion {
    /// Tells its timer from that of an earlier one.
    number: u32,
    life: Incarnation,
    /// Since when it is silent, for us and for those who answered us.
    silent_since: Duration,
    confirmed: BTreeSet<Slot>,
    ask_at: Duration,
    asked: bool,
    answered: bool,
}

/// Somebody whom another member does not hear.
#[derive(Debug)]
struct Check {
    /// Tells its timer from that of an earlier one.
    number: u32,
    askers: Vec<SocketAddr>,
    pings: u32,
}

impl Detector {
    pub(crate) fn suspects(&self, slot: Slot) -> bool {
        self.suspicions.contains_key(&slot)
    }

    /// What was found out about a former life says nothing about the next.
    pub(crate) fn drop_subject(&mut self, slot: Slot) {
        self.suspicions.remove(&slot);
    }
}

impl Gossip {
    /// We did not run for a while: silence in that time was ours.
    pub(crate) fn notice_lag(&mut self, late_by: Duration) {
        self.counters.lags += 1;
        self.detector.health.worsen(1 + u32::try_from(late_by.as_secs()).unwrap_or(u32::MAX).min(3));
        for suspicion in self.detector.suspicions.values_mut() {
            suspicion.silent_since = (suspicion.silent_since + late_by).min(self.now);
        }
        for probe in self.detector.probes.values_mut() {
            probe.sent = (probe.sent + late_by).min(self.now);
        }
    }

    pub(crate) fn probe_next(&mut self) {
        self.look_around();
        let watched = self.detector.watch.len();
        let others = self.table.alive().saturating_sub(1);
        let turns = watched + usize::from(others > watched);
        let period = self.config.probe_period * self.detector.health.factor();
        let pause = period / u32::try_from(turns.max(1)).unwrap_or(u32::MAX);
        self.timers.push(self.now + pause, Timer::Probe);
        if turns == 0 || self.phase != Phase::Present {
            return;
        }
        self.detector.turn = (self.detector.turn + 1) % turns;
        let subject = match self.detector.watch.get(self.detector.turn) {
            Some(slot) => Some(*slot),
            None => self.pick_other(None),
        };
        if let Some(subject) = subject.filter(|slot| !self.detector.suspects(*slot)) {
            self.probe(subject);
        }
    }

    /// Somebody came or went, so others may follow us on the ring.
    pub(crate) fn member_changed(&mut self, slot: Slot) {
        let detector = &mut self.detector;
        if !detector.is_watch_current {
            return;
        }
        let is_watched = detector.watch.contains(&slot);
        let ring = self.directory.place(self.slot).ring;
        let distance = |slot: Slot| self.directory.place(slot).ring.wrapping_sub(ring);
        let is_nearer = match detector.watch.last() {
            Some(furthest) => detector.watch.len() < WATCHED || distance(slot) < distance(*furthest),
            None => true,
        };
        // Whoever is watched and changed is gone, or began another life; looking again is right for both.
        if is_watched || is_nearer {
            detector.is_watch_current = false;
        }
    }

    /// Finds out whom we watch, if that may have changed.
    fn look_around(&mut self) {
        if self.detector.is_watch_current {
            return;
        }
        let ring = self.directory.place(self.slot).ring;
        let others = self
            .table
            .iter()
            .filter(|(slot, record)| *slot != self.slot && record.standing.is_alive())
            .map(|(slot, _)| slot);
        self.detector.watch = self.directory.nearest(ring, others, WATCHED);
        self.detector.is_watch_current = true;
    }

    fn pick_other(&mut self, except: Option<Slot>) -> Option<Slot> {
        let me = self.slot;
        self.table.pick(&mut self.rng, |slot, record| {
            slot != me && Some(slot) != except && record.standing.is_alive()
        })
    }

    fn probe(&mut self, subject: Slot) {
        let number = self.ping(subject, Manner::Routine);
        self.counters.probes += 1;
        if self.detector.probes.len() >= PROBES_MAX {
            self.counters.overflowed += 1;
            return;
        }
        self.detector.probes.insert(number, Probe { subject, sent: self.now });
        let timeout = self.config.probe_timeout * self.detector.health.factor();
        self.timers.push(self.now + timeout, Timer::ProbeTimeout(number));
    }

    /// Asks a member whether it is there, in the life that we know.
    pub(crate) fn ping(&mut self, subject: Slot, manner: Manner) -> u32 {
        self.detector.number = self.detector.number.wrapping_add(1);
        let number = self.detector.number;
        let Some(record) = self.table.record(subject) else { return number };
        let place = self.directory.place(subject);
        let ping = Ping {
            from: self.my_life(),
            to: Life { id: place.id, incarnation: record.incarnation },
            number,
            manner,
            said: self.stamp,
            fingerprint: self.table.fingerprint().to_le_bytes(),
        };
        self.send(place.addr, wire::body(Kind::Ping, self.config.pool, &ping));
        number
    }

    pub(crate) fn receive_ping(
        &mut self,
        from: SocketAddr,
        sender: MemberId,
        body: &[u8],
    ) -> Result<(), WireError> {
        let ping: Ping = wire::parse(body)?;
        if (ping.from.id != sender && !mutants::on!("gossip-believes-anyone")) || ping.to.id != self.me.id {
            return Err(WireError::Foreign);
        }
        match ping.manner {
            Manner::Obituary if ping.to.incarnation >= self.life => self.renew_beyond(ping.to.incarnation),
            Manner::Accused => self.be_accused(),
            Manner::Routine | Manner::Obituary => {}
        }
        if ping.to.incarnation > self.life {
            self.renew_beyond(ping.to.incarnation);
        }
        let ack = Ack {
            from: self.my_life(),
            to: sender,
            number: ping.number,
            over: self.life_held_for_over(sender, ping.from.incarnation),
            said: self.stamp,
            fingerprint: self.table.fingerprint().to_le_bytes(),
        };
        self.send(from, wire::body(Kind::Ack, self.config.pool, &ack));
        if ack.over.is_none() {
            self.hear_from(from, ping.from, ping.said, u64::from_le_bytes(ping.fingerprint));
        }
        Ok(())
    }

    /// Others do not hear us. However many say so at once, it is one sign.
    fn be_accused(&mut self) {
        if self.detector.accused_at.is_none_or(|at| self.now >= at + self.config.probe_period) {
            self.detector.accused_at = Some(self.now);
            self.detector.health.worsen(1);
        }
    }

    pub(crate) fn receive_ack(
        &mut self,
        from: SocketAddr,
        sender: MemberId,
        body: &[u8],
    ) -> Result<(), WireError> {
        let ack: Ack = wire::parse(body)?;
        if ack.from.id != sender || ack.to != self.me.id {
            return Err(WireError::Foreign);
        }
        if let Some(over) = ack.over.filter(|over| *over >= self.life) {
            self.renew_beyond(over);
            self.greet(Kind::Hello, from, Incarnation(0));
        }
        if self.detector.probes.remove(&ack.number).is_some() {
            self.detector.health.improve();
        }
        if self.life_held_for_over(sender, ack.from.incarnation).is_none() {
            self.hear_from(from, ack.from, ack.said, u64::from_le_bytes(ack.fingerprint));
        }
        Ok(())
    }

    /// Takes what every ping and answer says about its sender.
    fn hear_from(&mut self, from: SocketAddr, life: Life, said: crate::digest::Stamp, fingerprint: u64) {
        let slot = self.directory.find(life.id).filter(|slot| self.table.record(*slot).is_some());
        let Some(slot) = slot else {
            // Whoever probes us without our knowing it is asked who it is.
            self.greet(Kind::Hello, from, Incarnation(0));
            return;
        };
        let addr = self.directory.place(slot).addr;
        let entry = Entry { id: life.id, addr, incarnation: life.incarnation, standing: Standing::Alive };
        self.learn(&entry, Spread::Everyone);
        let known = self.table.record(slot).and_then(|record| record.told.as_ref().map(|told| told.stamp));
        if known.is_none_or(|known| known < said) {
            self.greet(Kind::Hello, from, Incarnation(0));
        }
        self.heard(slot);
        self.compare(slot, fingerprint);
    }

    /// A member was heard by ourselves.
    pub(crate) fn heard(&mut self, slot: Slot) {
        self.table.hear(slot, self.now);
        self.trust(slot);
        if let Some(check) = self.detector.checks.remove(&slot) {
            for asker in check.askers {
                self.answer(asker, slot, Some(Duration::ZERO));
            }
        }
    }

    fn trust(&mut self, slot: Slot) {
        if !mutants::on!("gossip-suspects-for-ever") && self.detector.suspicions.remove(&slot).is_some() {
            self.counters.suspicions_cleared += 1;
            self.report(slot, Event::Returned);
        }
    }

    pub(crate) fn probe_timed_out(&mut self, number: u32) {
        let Some(probe) = self.detector.probes.remove(&number) else { return };
        self.counters.probes_missed += 1;
        let Some(record) = self.table.record(probe.subject) else { return };
        if !record.standing.is_alive() || self.detector.suspects(probe.subject) {
            return;
        }
        let suspicion = Suspicion {
            number,
            life: record.incarnation,
            // A stretched timeout gives the suspect more time, and must not be held against it: while it lasted, one ping
            // went out and no more.
            silent_since: probe.sent.max(self.now.saturating_sub(self.config.probe_timeout)),
            confirmed: BTreeSet::new(),
            ask_at: self.now,
            asked: false,
            answered: false,
        };
        self.detector.suspicions.insert(probe.subject, suspicion);
        self.report(probe.subject, Event::Suspected);
        self.pursue_suspicion(probe.subject, number);
    }

    /// Pings a suspect again, asks others, and declares it failed when it was silent for long enough.
    pub(crate) fn pursue_suspicion(&mut self, subject: Slot, number: u32) {
        let is_same_life = |life| self.table.record(subject).is_some_and(|record| record.incarnation == life);
        let suspicion = self.detector.suspicions.get(&subject);
        let Some(suspicion) = suspicion.filter(|suspicion| suspicion.number == number) else { return };
        if !self.table.is_alive(subject) || !is_same_life(suspicion.life) || self.phase != Phase::Present {
            self.detector.suspicions.remove(&subject);
            return;
        }
        let silence = self.now.saturating_sub(suspicion.silent_since);
        let (life, confirmations) = (suspicion.life, suspicion.confirmed.len());
        if silence >= self.patience(confirmations) {
            self.declare_failed(subject, life);
            return;
        }
        self.ping(subject, Manner::Accused);
        self.ask_others(subject, life);
        let pause = self.config.probe_timeout / PINGS_PER_TIMEOUT;
        self.timers.push(self.now + pause, Timer::Suspicion(subject, number));
    }

    /// How long a suspect may be silent. The first confirmations count most; our own trouble stretches all of it.
    fn patience(&self, confirmations: usize) -> Duration {
        let config = &self.config;
        let helpers = self.table.alive().saturating_sub(2);
        let needed = CONFIRMATIONS.min(helpers);
        let share = match needed {
            0 => 0.0,
            needed => (confirmations.min(needed) as f64 + 1.0).ln() / (needed as f64 + 1.0).ln(),
        };
        let range = config.suspicion_max - config.suspicion_min;
        let window = config.suspicion_max - range.mul_f64(share);
        (config.probe_timeout + window) * self.detector.health.factor()
    }

    fn ask_others(&mut self, subject: Slot, life: Incarnation) {
        let ask_again = self.now + self.config.probe_timeout * 2;
        let Some(suspicion) = self.detector.suspicions.get_mut(&subject) else { return };
        if self.now < suspicion.ask_at {
            return;
        }
        // Those who were asked are alive, as far as we know. If none of them answers, we may be the one that is cut off.
        let nobody_answered = suspicion.asked && !suspicion.answered;
        (suspicion.asked, suspicion.answered, suspicion.ask_at) = (true, false, ask_again);
        if nobody_answered {
            self.detector.health.worsen(1);
        }
        let doubt = Doubt {
            from: self.my_life(),
            subject: Life { id: self.directory.place(subject).id, incarnation: life },
        };
        let bytes = wire::body(Kind::Doubt, self.config.pool, &doubt);
        for _ in 0..ASKED.min(self.table.alive().saturating_sub(2)) {
            if let Some(other) = self.pick_other(Some(subject)) {
                self.send(self.directory.place(other).addr, bytes.clone());
            }
        }
    }

    fn declare_failed(&mut self, subject: Slot, life: Incarnation) {
        self.counters.declared += 1;
        let place = self.directory.place(subject);
        let entry = Entry { id: place.id, addr: place.addr, incarnation: life, standing: Standing::Failed };
        self.learn(&entry, Spread::Everyone);
        self.tell_servers(&entry);
        // If it lives after all, it hears its end from us first and comes back at once.
        self.ping(subject, Manner::Obituary);
    }

    pub(crate) fn receive_doubt(
        &mut self,
        from: SocketAddr,
        sender: MemberId,
        body: &[u8],
    ) -> Result<(), WireError> {
        let doubt: Doubt = wire::parse(body)?;
        if doubt.from.id != sender {
            return Err(WireError::Foreign);
        }
        let subject = self.directory.find(doubt.subject.id).filter(|slot| *slot != self.slot);
        let Some((subject, record)) = subject.and_then(|slot| Some((slot, self.table.record(slot)?))) else {
            return Ok(());
        };
        if !record.standing.is_alive() || record.incarnation > doubt.subject.incarnation {
            // Its life is over, or it began another: the asker hears the news itself.
            let place = self.directory.place(subject);
            let entry = Entry {
                id: place.id,
                addr: place.addr,
                incarnation: record.incarnation,
                standing: record.standing,
            };
            self.tell(from, &entry);
            return Ok(());
        }
        let silence = self.table.silence(subject, self.now);
        if let Some(silence) = silence.filter(|silence| *silence < self.config.probe_timeout) {
            self.answer(from, subject, Some(silence));
            return Ok(());
        }
        self.check(subject, from);
        Ok(())
    }

    fn check(&mut self, subject: Slot, asker: SocketAddr) {
        if let Some(check) = self.detector.checks.get_mut(&subject) {
            if check.askers.len() < ASKERS_MAX && !check.askers.contains(&asker) {
                check.askers.push(asker);
            }
            return;
        }
        if self.detector.checks.len() >= CHECKS_MAX {
            self.counters.overflowed += 1;
            return;
        }
        self.detector.number = self.detector.number.wrapping_add(1);
        let number = self.detector.number;
        self.detector.checks.insert(subject, Check { number, askers: vec![asker], pings: 0 });
        self.pursue_check(subject, number);
    }

    pub(crate) fn pursue_check(&mut self, subject: Slot, number: u32) {
        let check = self.detector.checks.get_mut(&subject);
        let Some(check) = check.filter(|check| check.number == number) else { return };
        if check.pings < CHECK_PINGS {
            check.pings += 1;
            let pause = self.config.probe_timeout / PINGS_PER_TIMEOUT;
            self.timers.push(self.now + pause, Timer::Check(subject, number));
            self.ping(subject, Manner::Routine);
            return;
        }
        if let Some(check) = self.detector.checks.remove(&subject) {
            for asker in check.askers {
                self.answer(asker, subject, None);
            }
        }
    }

    fn answer(&mut self, asker: SocketAddr, subject: Slot, heard: Option<Duration>) {
        let finding = Finding {
            from: self.my_life(),
            subject: self.directory.place(subject).id,
            heard_ms: heard.map(|ago| u32::try_from(ago.as_millis()).unwrap_or(u32::MAX)),
        };
        self.send(asker, wire::body(Kind::Finding, self.config.pool, &finding));
    }

    pub(crate) fn receive_finding(&mut self, sender: MemberId, body: &[u8]) -> Result<(), WireError> {
        let finding: Finding = wire::parse(body)?;
        if finding.from.id != sender {
            return Err(WireError::Foreign);
        }
        let Some(helper) = self.directory.find(sender).filter(|slot| self.table.is_alive(*slot)) else {
            return Ok(());
        };
        let Some(subject) = self.directory.find(finding.subject) else { return Ok(()) };
        let Some(suspicion) = self.detector.suspicions.get_mut(&subject) else { return Ok(()) };
        suspicion.answered = true;
        match finding.heard_ms {
            Some(ago) => {
                let heard_at = self.now.saturating_sub(Duration::from_millis(u64::from(ago)));
                if heard_at > suspicion.silent_since {
                    suspicion.silent_since = heard_at;
                    suspicion.confirmed.clear();
                }
            }
            None if suspicion.confirmed.len() < CONFIRMED_MAX => {
                suspicion.confirmed.insert(helper);
            }
            None => {}
        }
        Ok(())
    }

    /// Tells one member one thing.
    fn tell(&mut self, to: SocketAddr, entry: &Entry) {
        let mut bytes = wire::open(Kind::News, self.config.pool);
        bytes.extend_from_slice(&self.me.id.0);
        wire::put_number(&mut bytes, self.life.0);
        entry.put(&mut bytes).expect("a vector has room");
        self.send(to, Bytes::from(bytes));
    }

    fn my_life(&self) -> Life {
        Life { id: self.me.id, incarnation: self.life }
    }
}
