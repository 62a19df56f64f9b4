//! One member of a pool.

use std::{collections::VecDeque, fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    cap::PeerCap,
    config::{Config, ConfigError},
    contact::Contact,
    detect::Detector,
    digest::{Digest, DigestError, Saying, Stamp},
    directory::{Directory, Slot},
    identity::Departures,
    member::{Incarnation, Me, Member, MemberId, Status},
    repair::Repair,
    spread::Spreader,
    step::{Counters, Event, Input, Output},
    table::{Record, Standing, Table},
    timers::{Timer, Timers},
};

/// A step that comes later than this after its timer shows that we were not running. Schedulers of busy machines are late by
/// tens of milliseconds.
const LAG_MIN: Duration = Duration::from_millis(200);

/// Packets that wait to be taken after one step. The longest step sends some dozens; beyond this they are dropped, as a
/// network would.
const SENDS_MAX: usize = 4_096;

/// One member of a pool: everything it knows, and what it does next.
///
/// Time is monotonic since any moment, the same for all calls, and never goes back. The outputs of a step must be taken
/// before the next step.
pub struct Gossip {
    pub(crate) config: Config,
    pub(crate) me: Me,
    /// Our own number, and our present life.
    pub(crate) slot: Slot,
    pub(crate) life: Incarnation,
    /// Of what we say about ourselves.
    pub(crate) stamp: Stamp,
    pub(crate) phase: Phase,
    pub(crate) now: Duration,
    pub(crate) directory: Directory,
    pub(crate) departures: Departures,
    pub(crate) table: Table,
    pub(crate) timers: Timers,
    pub(crate) spreader: Spreader,
    pub(crate) detector: Detector,
    pub(crate) contact: Contact,
    pub(crate) repair: Repair,
    pub(crate) heard_cap: PeerCap,
    pub(crate) told_cap: PeerCap,
    pub(crate) rng: SmallRng,
    pub(crate) counters: Counters,
    outputs: VecDeque<Output>,
}

/// How far we are on our way out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    Present,
    Leaving,
    Gone,
}

/// Why a member can not start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NewGossipError {
    /// The settings do not go together.
    #[error("gossip is configured wrongly")]
    Config(#[from] ConfigError),
    /// What we would say about ourselves can not be told.
    #[error("our digest can not be told")]
    Digest(#[from] DigestError),
    /// Nobody could answer us.
    #[error("gossip address {0} can not be reached by others: advertise a concrete address and port")]
    Unreachable(SocketAddr),
    /// The shared directory is full.
    #[error("too many members in one process")]
    Crowded,
}

impl Gossip {
    /// Starts alone. [`Input::Join`] makes it find others. The first outputs (a [`Output::Persist`] among them) are
    /// there at once.
    ///
    /// # Errors
    /// See [`NewGossipError`].
    pub fn new(config: Config, me: Me, now: Duration) -> Result<Self, NewGossipError> {
        Self::with_directory(config, me, now, Directory::default())
    }

    /// Starts alone, with numbers shared by many members of one process, as in a simulation.
    ///
    /// # Errors
    /// See [`NewGossipError`].
    pub fn with_directory(
        config: Config,
        me: Me,
        now: Duration,
        directory: Directory,
    ) -> Result<Self, NewGossipError> {
        config.check()?;
        let raw = me.digest.encode()?;
        if me.addr.ip().is_unspecified() || me.addr.port() == 0 {
            return Err(NewGossipError::Unreachable(me.addr));
        }
        let slot = directory.intern(me.id).ok_or(NewGossipError::Crowded)?;
        let life = Incarnation(me.persisted.0.saturating_add(1));
        directory.note_addr(slot, life, me.addr);
        let mut rng = SmallRng::seed_from_u64(config.seed);
        let departures = Departures::default();
        let spreader = Spreader::new(&config, slot, life, &directory, &departures, &mut rng);
        let mut gossip = Self {
            slot,
            life,
            stamp: Stamp { incarnation: life, version: 1 },
            phase: Phase::Present,
            now,
            departures,
            table: Table::new(),
            timers: Timers::default(),
            spreader,
            detector: Detector::default(),
            contact: Contact::default(),
            repair: Repair::default(),
            heard_cap: PeerCap::default(),
            told_cap: PeerCap::default(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
            directory,
            config,
            me,
            rng,
        };
        gossip.reserve_lives();
        gossip.table.set(&gossip.directory, slot, life, Standing::Alive, now);
        let saying = Saying { stamp: gossip.stamp, raw: raw.into() };
        gossip.table.tell(&gossip.directory, slot, &saying);
        gossip.start_timers();
        Ok(gossip)
    }

    /// Takes what happened, and does all that is due by `now`. Late calls are noticed and make this member more careful
    /// with others. Total: no input makes it fail.
    pub fn step(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        if self.phase == Phase::Gone {
            return;
        }
        self.run_timers();
        match input {
            Input::Packet { from, sender, bytes } => self.receive(from, sender, bytes),
            Input::Tick => {}
            Input::Join(addrs) => self.join(addrs),
            Input::Leave => self.leave(),
            Input::ForceLeave { id, prune } => self.force_leave(id, prune),
            Input::Seed(bytes) => self.take_seed(bytes),
            Input::Reap => self.reap(),
        }
    }

    /// The next thing to do. Call until it is empty.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to step with [`Input::Tick`] at the latest.
    pub fn next_wake(&self) -> Option<Duration> {
        match self.phase {
            Phase::Present | Phase::Leaving => self.timers.next_due(),
            Phase::Gone => None,
        }
    }

    /// Says something else about ourselves from here on. A change of load alone waits, so that ten thousand members do not
    /// talk of nothing else.
    ///
    /// # Errors
    /// [`DigestError::TooLarge`]; the former digest stays.
    pub fn set_digest(&mut self, now: Duration, digest: Digest) -> Result<(), DigestError> {
        digest.encode()?;
        self.now = self.now.max(now);
        let former = std::mem::replace(&mut self.me.digest, digest);
        if former != self.me.digest {
            self.announce_digest(&former);
        }
        Ok(())
    }

    /// Ourselves, as others see us.
    pub fn me(&self) -> &Me {
        &self.me
    }

    /// Our present life.
    pub fn incarnation(&self) -> Incarnation {
        self.life
    }

    /// Everyone who is remembered, ourselves included, in no order.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.table
            .iter()
            .filter(|(_, record)| record.standing != Standing::Pruned)
            .map(|(slot, record)| self.describe(slot, record))
    }

    /// One member.
    pub fn member(&self, id: &MemberId) -> Option<Member> {
        let slot = self.directory.find(*id)?;
        let record = self.table.record(slot).filter(|record| record.standing != Standing::Pruned)?;
        Some(self.describe(slot, record))
    }

    /// How many members are present, ourselves included.
    pub fn alive(&self) -> usize {
        self.table.alive()
    }

    /// The same number for all who know the same members with the same digests.
    pub fn fingerprint(&self) -> u64 {
        self.table.fingerprint()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        Counters { unwell: self.detector.health.unwell(), backlog: self.spreader.backlog(), ..self.counters }
    }

    fn describe(&self, slot: Slot, record: &Record) -> Member {
        let place = self.directory.place(slot);
        let status = match record.standing {
            Standing::Alive if self.detector.suspects(slot) => Status::Suspect,
            Standing::Alive => Status::Alive,
            Standing::Failed => Status::Failed,
            Standing::Left | Standing::Pruned => Status::Left,
        };
        Member {
            id: place.id,
            addr: place.addr,
            incarnation: record.incarnation,
            status,
            digest: record.told.as_ref().and_then(|told| told.digest.clone()),
        }
    }

    /// Tells the caller about a member.
    pub(crate) fn report(&mut self, slot: Slot, event: fn(Member) -> Event) {
        if slot == self.slot {
            return;
        }
        if let Some(record) = self.table.record(slot) {
            let member = self.describe(slot, record);
            self.outputs.push_back(Output::Event(event(member)));
        }
    }

    pub(crate) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Sends a packet, within the cap for its receiver.
    pub(crate) fn send(&mut self, to: SocketAddr, bytes: Bytes) {
        if to.ip().is_unspecified() || to.port() == 0 {
            return;
        }
        if !self.told_cap.admit(self.now, to) {
            self.counters.capped += 1;
            return;
        }
        if self.outputs.len() >= SENDS_MAX {
            self.counters.overflowed += 1;
            return;
        }
        self.counters.packets_out += 1;
        self.counters.bytes_out += bytes.len() as u64;
        self.outputs.push_back(Output::Send { to, bytes });
    }

    /// Up to a tenth more, so that members that start together do not stay together.
    pub(crate) fn jitter(&mut self, period: Duration) -> Duration {
        period + period.mul_f64(self.rng.random_range(0.0..0.1))
    }

    fn start_timers(&mut self) {
        let spread = |rng: &mut SmallRng, period: Duration| period.mul_f64(rng.random_range(0.0..1.0));
        let probe = spread(&mut self.rng, self.config.probe_period);
        let knock = spread(&mut self.rng, crate::contact::KNOCK_PERIOD);
        self.timers.push(self.now + probe, Timer::Probe);
        self.timers.push(self.now + knock, Timer::Knock);
        self.timers.push(self.now, Timer::Rejoin);
        self.timers.push(self.now, Timer::Reap);
    }

    fn run_timers(&mut self) {
        let late_by = self.timers.next_due().map_or(Duration::ZERO, |due| self.now.saturating_sub(due));
        let is_late = late_by > LAG_MIN;
        if is_late {
            self.notice_lag(late_by);
        }
        let mut postponed = Vec::new();
        while let Some(timer) = self.timers.pop_due(self.now) {
            // What others sent while we did not run waits behind this step: their answers are heard before anything is
            // made of their silence.
            if is_late && timer.judges() {
                postponed.push(timer);
                continue;
            }
            self.run_timer(timer);
        }
        for timer in postponed {
            self.timers.push(self.now + self.config.probe_timeout, timer);
        }
    }

    fn run_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Foca(timer) => self.run_foca_timer(timer),
            Timer::Probe => self.probe_next(),
            Timer::ProbeTimeout(number) => self.probe_timed_out(number),
            Timer::Suspicion(slot, number) => self.pursue_suspicion(slot, number),
            Timer::Check(slot, number) => self.pursue_check(slot, number),
            Timer::Rejoin => self.rejoin(),
            Timer::Knock => self.knock(),
            Timer::Depart(left) => self.depart(left),
            Timer::Announce => self.announce_late(),
            Timer::Absorb => self.absorb(),
            Timer::Reap => self.reap_again(),
        }
    }
}

impl fmt::Debug for Gossip {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Gossip")
            .field("id", &self.me.id)
            .field("life", &self.life)
            .field("alive", &self.table.alive())
            .field("dead", &self.table.dead())
            .finish_non_exhaustive()
    }
}
