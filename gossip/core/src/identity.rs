//! What foca knows of a member, and how it is written in packets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, BufMut};
use foca::{Header, Message};

use crate::{
    directory::{Directory, Slot},
    member::{Incarnation, MemberId},
    table::Standing,
    wire::{self, Entry, WireError},
};

/// A member in one of its lives. Twelve bytes, since foca keeps one for every member of the pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) slot: Slot,
    high: u32,
    low: u32,
}

impl Identity {
    pub(crate) fn new(slot: Slot, incarnation: Incarnation) -> Self {
        Self { slot, high: (incarnation.0 >> 32) as u32, low: incarnation.0 as u32 }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation(u64::from(self.high) << 32 | u64::from(self.low))
    }
}

impl foca::Identity for Identity {
    type Addr = Slot;

    fn renew(&self) -> Option<Self> {
        self.incarnation().0.checked_add(1).map(|next| Self::new(self.slot, Incarnation(next)))
    }

    fn addr(&self) -> Slot {
        self.slot
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self.incarnation() > other.incarnation()
    }
}

/// Who left on purpose, and in which life: foca knows only that they are down. Shared with the codec, which tells it to
/// others in the same breath as the end itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Departures(Arc<Mutex<BTreeMap<Slot, (Incarnation, Standing)>>>);

impl Departures {
    pub(crate) fn note(&self, slot: Slot, incarnation: Incarnation, standing: Standing) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(slot, (incarnation, standing));
    }

    pub(crate) fn forget(&self, slot: Slot) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot);
    }

    /// How a life ended that is over.
    pub(crate) fn end_of(&self, slot: Slot, incarnation: Incarnation) -> Standing {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&slot) {
            Some((life, standing)) if *life == incarnation => *standing,
            _ => Standing::Failed,
        }
    }
}

/// Writes and reads foca's packets. Its probes are not among them: ours are smaller and know of local health.
#[derive(Clone, Debug)]
pub(crate) struct PacketCodec {
    pub(crate) directory: Directory,
    pub(crate) departures: Departures,
}

impl PacketCodec {
    fn entry(&self, identity: Identity, state: foca::State) -> Entry {
        let place = self.directory.place(identity.slot);
        let incarnation = identity.incarnation();
        let standing = match state {
            foca::State::Alive | foca::State::Suspect => Standing::Alive,
            foca::State::Down => self.departures.end_of(identity.slot, incarnation),
        };
        Entry { id: place.id, addr: place.addr, incarnation, standing }
    }

    fn known(&self, entry: &Entry) -> Result<Identity, WireError> {
        let slot = self.directory.intern(entry.id).ok_or(WireError::TooMany)?;
        self.directory.note_addr(slot, entry.incarnation, entry.addr);
        Ok(Identity::new(slot, entry.incarnation))
    }
}

impl foca::Codec<Identity> for PacketCodec {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Identity>, mut buf: impl BufMut) -> Result<(), WireError> {
        let message = match header.message {
            Message::Announce => wire::FocaMessage::Announce,
            Message::Feed => wire::FocaMessage::Feed,
            Message::Gossip => wire::FocaMessage::Gossip,
            Message::Broadcast => wire::FocaMessage::Broadcast,
            Message::Ping(_)
            | Message::Ack(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::ForwardedAck { .. }
            | Message::TurnUndead => return Err(WireError::Unused),
        };
        self.entry(header.src, foca::State::Alive).put(&mut buf)?;
        let to = self.directory.place(header.dst.slot).id;
        wire::put_address(&mut buf, message, to, header.dst.incarnation())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, WireError> {
        let src = Entry::take(&mut buf)?;
        let (message, to, incarnation) = wire::take_address(&mut buf)?;
        let message = match message {
            wire::FocaMessage::Announce => Message::Announce,
            wire::FocaMessage::Feed => Message::Feed,
            wire::FocaMessage::Gossip => Message::Gossip,
            wire::FocaMessage::Broadcast => Message::Broadcast,
        };
        let dst = Identity::new(self.directory.find(to).ok_or(WireError::Malformed)?, incarnation);
        Ok(Header { src: self.known(&src)?, src_incarnation: 0, dst, message })
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<Identity>,
        mut buf: impl BufMut,
    ) -> Result<(), WireError> {
        self.entry(*member.id(), member.state()).put(&mut buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<foca::Member<Identity>, WireError> {
        let entry = Entry::take(&mut buf)?;
        let state = if entry.standing.is_alive() { foca::State::Alive } else { foca::State::Down };
        Ok(foca::Member::new(self.known(&entry)?, 0, state))
    }
}

/// Names the digests that foca carries along: a later one of the same member takes the place of an earlier one.
#[derive(Debug)]
pub(crate) struct DigestKey(MemberId);

impl foca::Invalidates for DigestKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// Lets foca carry digests. What is news is decided before foca is asked.
#[derive(Debug)]
pub(crate) struct Carrier;

impl foca::BroadcastHandler<Identity> for Carrier {
    type Key = DigestKey;
    type Error = WireError;

    fn receive_item(
        &mut self,
        item: &[u8],
        _from: Option<&Identity>,
    ) -> Result<Option<DigestKey>, WireError> {
        let id = item.first_chunk::<16>().ok_or(WireError::Malformed)?;
        Ok(Some(DigestKey(MemberId(*id))))
    }
}
