//! One pool: gossip-core with its seal, its keys, and what of it is shown to the rest of the agent.

use std::{io, mem, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gossip_core::{Digest, DigestError, Gossip, Incarnation, Input, Member, MemberId, Output, Status};
use tokio::{sync::oneshot, time::Instant};
use tracing::warn;

use crate::{
    config::{Config, PAYLOAD_MAX, Pool, StartError, Store, SyncBy},
    counters::Dropped,
    event::Event,
    host::Host,
    seal::{ChangeRingError, GossipKey, KeyId, KeyRing, PoolKind, Scope, Seal},
    sync::{Arrived, Exchange, Part, Syncs},
};

/// First byte of what is sealed: a packet of gossip-core, or a part of a synchronisation.
const CORE: u8 = 0;
const SYNC: u8 = 1;

/// Members up to which every change is shown at once.
const SMALL: usize = 256;
/// How often a larger pool is shown while it changes: each time copies the whole list.
const SHOW_EVERY: Duration = Duration::from_millis(50);
/// Changes that wait to be shown; then they are shown at once.
const CHANGES_MAX: usize = 512;
/// How long packets wait for our incarnation to be written. A disk that takes longer must not make us look dead; what
/// is risked is that a life's number comes twice, and lives begin at the time of day for that case.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);
/// Packets that wait for that; more are dropped.
const HELD_MAX: usize = 256;

/// A running pool.
pub(crate) struct Running {
    pub(crate) kind: PoolKind,
    pub(crate) gossip: Gossip,
    pub(crate) ring: KeyRing,
    seal: Seal,
    store: Arc<dyn Store>,
    sync_by: SyncBy,
    syncs: Syncs,
    /// When each key last opened a packet.
    heard_by: Vec<(KeyId, Instant)>,
    writing: Option<Writing>,
    held: Vec<(SocketAddr, Vec<u8>)>,
    unshown: Vec<Event>,
    changed: bool,
    shown: Arc<ArcSwap<Vec<Member>>>,
    shown_at: Duration,
    waiting_to_leave: Vec<oneshot::Sender<()>>,
}

/// A write of our incarnation under way.
struct Writing {
    value: Incarnation,
    next: Option<Incarnation>,
    since: Duration,
    /// It takes too long, and packets do not wait for it any more.
    overdue: bool,
}

/// What a pool wants done after an input.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) send: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) events: Vec<Event>,
    /// Write this and tell by [`Running::written`].
    pub(crate) persist: Option<(Arc<dyn Store>, Incarnation)>,
}

impl Running {
    pub(crate) fn start(
        pool: Pool,
        config: &Config,
        host: &dyn Host,
        shown: Arc<ArcSwap<Vec<Member>>>,
        now: Duration,
    ) -> Result<Self, StartError> {
        let Pool { kind, config: core, mut me, ring, cluster, store } = pool;
        if core.packet_bytes_max > PAYLOAD_MAX {
            return Err(StartError::PacketTooLong(core.packet_bytes_max));
        }
        // A member that lost what it had stored would begin a life that others know to be over. Milliseconds since the
        // epoch are above any number that an earlier life began with, unless the clock went back.
        let begun = u64::try_from(host.unix_time().as_millis()).unwrap_or(u64::MAX / 2);
        me.persisted = me.persisted.max(Incarnation(begun));
        let scope = Scope::new(kind, &me.digest.region, cluster);
        let seal = Seal::new(kind, scope, me.id.0, me.persisted.0.saturating_add(1), host.random());
        let gossip = Gossip::new(core, me, now).map_err(|source| StartError::Core { kind, source })?;
        Ok(Self {
            kind,
            gossip,
            ring,
            seal,
            store,
            sync_by: config.sync,
            syncs: Syncs::default(),
            heard_by: Vec::new(),
            writing: None,
            held: Vec::new(),
            unshown: Vec::new(),
            changed: true,
            shown,
            shown_at: Duration::ZERO,
            waiting_to_leave: Vec::new(),
        })
    }

    /// Opens a packet and takes what it says.
    pub(crate) fn packet(
        &mut self,
        now: Duration,
        at: Instant,
        from: SocketAddr,
        packet: &mut [u8],
    ) -> Result<(), Dropped> {
        let opened = self.seal.open(&self.ring, packet, at)?;
        let (id, key) = (MemberId(opened.sender), opened.key);
        let (kind, body) = opened.payload.split_first().ok_or(Dropped::Foreign)?;
        let body = Bytes::copy_from_slice(body);
        self.heard_with(key, at);
        match *kind {
            CORE => self.gossip.step(now, Input::Packet { from, sender: id, bytes: body }),
            SYNC => {
                let arrived = self.syncs.packet(now, id, from, &body).map_err(|_| Dropped::Sync)?;
                if let Some(arrived) = arrived {
                    self.arrived(now, &arrived)?;
                }
            }
            _ => return Err(Dropped::Foreign),
        }
        Ok(())
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.gossip.next_wake().is_some_and(|wake| wake <= now) {
            self.gossip.step(now, Input::Tick);
        }
        self.syncs.tick(now);
        if let Some(writing) = &mut self.writing
            && !writing.overdue
            && writing.since + WRITE_PATIENCE <= now
        {
            warn!(pool = %self.kind, "writing the incarnation takes long, gossip goes on without it");
            writing.overdue = true;
        }
    }

    /// When to tick at the latest.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let show = (self.changed || !self.unshown.is_empty()).then_some(self.shown_at + SHOW_EVERY);
        let write = self.writing.as_ref().filter(|writing| !writing.overdue);
        let write = write.map(|writing| writing.since + WRITE_PATIENCE);
        [self.gossip.next_wake(), self.syncs.next_wake(), show, write].into_iter().flatten().min()
    }

    /// Takes the outputs of gossip-core, seals what is to be sent, and shows what changed.
    pub(crate) fn take_effects(&mut self, host: &dyn Host, now: Duration, listened: bool) -> Effects {
        let mut effects = Effects::default();
        while let Some(output) = self.gossip.next_output() {
            match output {
                Output::Send { to, bytes } => self.send(to, CORE, &bytes, &mut effects),
                Output::Sync { id, addr } => match self.sync_by {
                    SyncBy::Caller if listened => {
                        effects.events.push(Event::Sync { pool: self.kind, id, addr });
                    }
                    SyncBy::Caller | SyncBy::Packets => {
                        let number = u32::try_from(host.random() >> 32).expect("32 bits are left");
                        let (exchange, request) = (Exchange { with: id, number }, self.gossip.sync_request());
                        if self.syncs.offer(now, exchange, Part::Request, addr, request).is_err() {
                            effects.dropped.push(Dropped::Sync);
                        }
                    }
                },
                Output::Event(change) => {
                    self.changed = true;
                    self.unshown.push(Event::Member { pool: self.kind, change });
                }
                Output::Persist(value) => self.persist(value, now, &mut effects),
                Output::Departed => {
                    effects.events.push(Event::Departed { pool: self.kind });
                    for waiting in self.waiting_to_leave.drain(..) {
                        // Who waited may have given up.
                        let _ = waiting.send(());
                    }
                }
            }
        }
        for (to, packet) in self.syncs.take_packets() {
            self.send(to, SYNC, &packet, &mut effects);
        }
        if !self.holds_packets() && !self.held.is_empty() {
            effects.send.splice(0..0, mem::take(&mut self.held));
        }
        self.show(now, &mut effects);
        effects
    }

    /// Our incarnation was written, or could not be.
    pub(crate) fn written(&mut self, value: Incarnation, result: &io::Result<()>, now: Duration) -> Effects {
        let mut effects = Effects::default();
        if let Err(error) = result {
            // Gossip goes on: an agent that fell silent would be declared dead for its full disk.
            warn!(pool = %self.kind, incarnation = value.0, %error, "could not write the incarnation");
        }
        if let Some(writing) = self.writing.take_if(|writing| writing.value == value)
            && let Some(next) = writing.next
        {
            self.persist(next, now, &mut effects);
        }
        effects
    }

    /// Says something else about ourselves.
    pub(crate) fn set_digest(&mut self, now: Duration, digest: Digest) -> Result<(), DigestError> {
        self.gossip.set_digest(now, digest)?;
        self.changed = true;
        Ok(())
    }

    /// Replaces the cluster that packets must be of.
    pub(crate) fn set_cluster(&mut self, cluster: Option<u128>) {
        self.seal.set_cluster(cluster);
    }

    /// Tells `done` when others know that we left.
    pub(crate) fn leave(&mut self, now: Duration, done: oneshot::Sender<()>) {
        self.waiting_to_leave.push(done);
        self.gossip.step(now, Input::Leave);
    }

    /// The members of a name, with or without the region behind it: those that are gone, or the ones that are there
    /// when none is gone.
    pub(crate) fn named(&self, name: &str) -> Vec<MemberId> {
        let is_meant = |member: &Member| {
            member.digest.as_ref().is_some_and(|digest| {
                let region = name.strip_prefix(digest.name.as_str());
                region.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.') == Some(&*digest.region))
            })
        };
        let meant: Vec<Member> = self.gossip.members().filter(is_meant).collect();
        let gone = |member: &&Member| match member.status {
            Status::Failed | Status::Left => true,
            Status::Alive | Status::Suspect => false,
        };
        let gone: Vec<MemberId> = meant.iter().filter(gone).map(|member| member.id).collect();
        if gone.is_empty() { meant.iter().map(|member| member.id).collect() } else { gone }
    }

    /// Changes the ring, or leaves it as it was.
    pub(crate) fn change_ring(
        &mut self,
        change: impl FnOnce(&mut KeyRing) -> Result<(), ChangeRingError>,
    ) -> Result<(), ChangeRingError> {
        change(&mut self.ring)?;
        self.heard_by.retain(|(id, _)| self.ring.by_id(*id).is_some());
        Ok(())
    }

    /// Since when no packet was opened with a key; none when none ever was.
    pub(crate) fn heard_by(&self, key: &GossipKey) -> Option<Instant> {
        self.heard_by.iter().find(|(id, _)| *id == key.id()).map(|(_, at)| *at)
    }

    fn heard_with(&mut self, key: KeyId, at: Instant) {
        match self.heard_by.iter_mut().find(|(id, _)| *id == key) {
            Some((_, heard)) => *heard = at,
            None => self.heard_by.push((key, at)),
        }
    }

    fn arrived(&mut self, now: Duration, arrived: &Arrived) -> Result<(), Dropped> {
        let Arrived { exchange, part, from, bytes } = arrived;
        let reply = match part {
            Part::Request => Some((Part::Answer, self.gossip.sync_answer(bytes).map_err(|_| Dropped::Sync)?)),
            Part::Answer => {
                self.gossip.step(now, Input::Seed(bytes.clone()));
                let reply = self.gossip.sync_return(bytes).map_err(|_| Dropped::Sync)?;
                (!reply.is_empty()).then_some((Part::Return, reply))
            }
            Part::Return => {
                self.gossip.step(now, Input::Seed(bytes.clone()));
                None
            }
        };
        match reply {
            Some((part, reply)) => {
                self.syncs.offer(now, *exchange, part, *from, reply).map_err(|_| Dropped::Sync)
            }
            None => Ok(()),
        }
    }

    fn send(&mut self, to: SocketAddr, kind: u8, body: &[u8], effects: &mut Effects) {
        let mut payload = Vec::with_capacity(body.len() + 1);
        payload.push(kind);
        payload.extend(body);
        let mut packet = Vec::with_capacity(PAYLOAD_MAX + crate::OVERHEAD);
        self.seal.seal(&self.ring, &payload, &mut packet);
        if !self.holds_packets() {
            effects.send.push((to, packet));
        } else if self.held.len() < HELD_MAX {
            self.held.push((to, packet));
        } else {
            effects.dropped.push(Dropped::OutboxFull);
        }
    }

    /// Whether packets wait for a write: they may speak of a life that is not written yet.
    fn holds_packets(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.overdue)
    }

    fn persist(&mut self, value: Incarnation, now: Duration, effects: &mut Effects) {
        match &mut self.writing {
            // One write at a time, so that an earlier value never lands on a later one.
            Some(writing) => writing.next = Some(value),
            None => {
                self.writing = Some(Writing { value, next: None, since: now, overdue: false });
                effects.persist = Some((Arc::clone(&self.store), value));
            }
        }
    }

    /// Shows the members and gives the events on, in this order: who hears of a change finds it in the list.
    fn show(&mut self, now: Duration, effects: &mut Effects) {
        if !self.changed && self.unshown.is_empty() {
            return;
        }
        let small = self.shown.load().len() <= SMALL;
        if small || now >= self.shown_at + SHOW_EVERY || self.unshown.len() >= CHANGES_MAX {
            let mut members: Vec<Member> = self.gossip.members().collect();
            members.sort_unstable_by_key(|member| member.id);
            self.shown.store(Arc::new(members));
            self.shown_at = now;
            self.changed = false;
            effects.events.append(&mut self.unshown);
        }
    }
}
