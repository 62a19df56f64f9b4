//! The bytes of packets and of synchronisation.
//!
//! A packet is four parts: version, kind, pool, body. Readers take what they know and leave what follows it, so a later
//! version may add fields at the end of a body; a change of meaning takes another kind or another version.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::{
    digest::{DIGEST_BYTES_MAX, Saying, Stamp},
    member::{Incarnation, MemberId},
    table::Standing,
};

/// What packets start with.
const WIRE_VERSION: u8 = 1;

/// Version, kind and pool.
pub(crate) const ENVELOPE_BYTES: usize = 6;

/// Why bytes are not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("packet is malformed")]
    Malformed,
    #[error("packet is of another pool or version")]
    Foreign,
    #[error("no room left in the packet")]
    Full,
    #[error("too many members are known")]
    TooMany,
    #[error("a message of foca that is not used")]
    Unused,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Members and digests that spread.
    Foca,
    Ping,
    Ack,
    Doubt,
    Finding,
    Hello,
    Welcome,
    News,
    /// A stream's opening message.
    SyncRequest,
    /// A list of members, over a stream.
    Seed,
}

const KINDS: [Kind; 10] = [
    Kind::Foca,
    Kind::Ping,
    Kind::Ack,
    Kind::Doubt,
    Kind::Finding,
    Kind::Hello,
    Kind::Welcome,
    Kind::News,
    Kind::SyncRequest,
    Kind::Seed,
];

/// Starts a packet.
pub(crate) fn open(kind: Kind, pool: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.put_u8(WIRE_VERSION);
    bytes.put_u8(kind as u8);
    bytes.put_u32(pool);
    bytes
}

/// Reads the start of a packet and gives its body.
pub(crate) fn read(mut bytes: Bytes, pool: u32) -> Result<(Kind, Bytes), WireError> {
    if bytes.len() < ENVELOPE_BYTES {
        return Err(WireError::Malformed);
    }
    let (version, kind, from) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u32());
    if version != WIRE_VERSION || from != pool {
        return Err(WireError::Foreign);
    }
    let kind = KINDS.get(kind as usize).ok_or(WireError::Foreign)?;
    Ok((*kind, bytes))
}

/// One life of a member.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Life {
    pub(crate) id: MemberId,
    pub(crate) incarnation: Incarnation,
}

/// Why a member is pinged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Manner {
    Routine,
    /// It did not answer us so far.
    Accused,
    /// We hold the life that is named for over.
    Obituary,
}

/// "Are you there?"
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Ping {
    pub(crate) from: Life,
    /// Whom it is for, in the life that the sender knows.
    pub(crate) to: Life,
    pub(crate) number: u32,
    pub(crate) manner: Manner,
    pub(crate) said: Stamp,
    pub(crate) fingerprint: [u8; 8],
}

/// "I am."
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Ack {
    pub(crate) from: Life,
    pub(crate) to: MemberId,
    pub(crate) number: u32,
    /// The latest life of the receiver that the sender holds for over, if it is not before the present one.
    pub(crate) over: Option<Incarnation>,
    pub(crate) said: Stamp,
    pub(crate) fingerprint: [u8; 8],
}

/// "I do not hear this one. Do you?"
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Doubt {
    pub(crate) from: Life,
    pub(crate) subject: Life,
}

/// The answer to a doubt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) from: Life,
    pub(crate) subject: MemberId,
    /// Milliseconds since the subject was heard; absent when it did not answer.
    pub(crate) heard_ms: Option<u32>,
}

pub(crate) fn body<T: Serialize>(kind: Kind, pool: u32, message: &T) -> Bytes {
    let bytes = postcard::to_extend(message, open(kind, pool)).expect("a vector takes any message");
    Bytes::from(bytes)
}

pub(crate) fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, WireError> {
    postcard::take_from_bytes(body).map(|(message, _later)| message).map_err(|_| WireError::Malformed)
}

/// What is told about a member besides its digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: MemberId,
    pub(crate) addr: SocketAddr,
    pub(crate) incarnation: Incarnation,
    pub(crate) standing: Standing,
}

/// Most bytes of an entry: id, flags, address, port, incarnation.
const ENTRY_BYTES_MAX: usize = 16 + 1 + 16 + 2 + 10;

/// Marks an address of sixteen bytes.
const LONG_ADDR: u8 = 0x04;

impl Entry {
    pub(crate) fn put(&self, buf: &mut impl BufMut) -> Result<(), WireError> {
        if buf.remaining_mut() < ENTRY_BYTES_MAX {
            return Err(WireError::Full);
        }
        let standing = match self.standing {
            Standing::Alive => 0,
            Standing::Failed => 1,
            Standing::Left => 2,
            Standing::Pruned => 3,
        };
        buf.put_slice(&self.id.0);
        match self.addr.ip() {
            IpAddr::V4(ip) => {
                buf.put_u8(standing);
                buf.put_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                buf.put_u8(standing | LONG_ADDR);
                buf.put_slice(&ip.octets());
            }
        }
        buf.put_u16(self.addr.port());
        put_number(buf, self.incarnation.0);
        Ok(())
    }

    pub(crate) fn take(buf: &mut impl Buf) -> Result<Self, WireError> {
        let id = MemberId(take_array(buf)?);
        let [flags] = take_array(buf)?;
        let standing = match flags & 0x03 {
            0 => Standing::Alive,
            1 => Standing::Failed,
            2 => Standing::Left,
            _ => Standing::Pruned,
        };
        let ip = match flags & LONG_ADDR {
            0 => IpAddr::from(Ipv4Addr::from(take_array::<4>(buf)?)),
            _ => IpAddr::from(Ipv6Addr::from(take_array::<16>(buf)?)),
        };
        let port = u16::from_be_bytes(take_array(buf)?);
        let incarnation = Incarnation(take_number(buf)?);
        Ok(Self { id, addr: SocketAddr::new(ip, port), incarnation, standing })
    }
}

/// A member with what it says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Card {
    pub(crate) entry: Entry,
    pub(crate) saying: Option<Saying>,
}

impl Card {
    pub(crate) fn put(&self, buf: &mut Vec<u8>) {
        self.entry.put(buf).expect("a vector has room");
        let raw: &[u8] = self.saying.as_ref().map_or(&[], |saying| &saying.raw);
        buf.put_u16(u16::try_from(raw.len()).expect("a digest is short"));
        if let Some(saying) = &self.saying {
            buf.put_slice(raw);
            put_number(buf, saying.stamp.incarnation.0);
            put_number(buf, u64::from(saying.stamp.version));
        }
    }

    pub(crate) fn take(buf: &mut Bytes) -> Result<Self, WireError> {
        let entry = Entry::take(buf)?;
        let bytes = usize::from(u16::from_be_bytes(take_array(buf)?));
        if bytes == 0 {
            return Ok(Self { entry, saying: None });
        }
        if bytes > DIGEST_BYTES_MAX || bytes > buf.len() {
            return Err(WireError::Malformed);
        }
        let raw = buf.split_to(bytes);
        let incarnation = Incarnation(take_number(buf)?);
        let version = u32::try_from(take_number(buf)?).map_err(|_| WireError::Malformed)?;
        Ok(Self { entry, saying: Some(Saying { stamp: Stamp { incarnation, version }, raw }) })
    }
}

/// The messages of foca that are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FocaMessage {
    Announce,
    Feed,
    Gossip,
    Broadcast,
}

/// A packet of foca, read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FocaPacket {
    pub(crate) from: Entry,
    pub(crate) message: FocaMessage,
    pub(crate) to: Life,
    pub(crate) entries: Vec<Entry>,
    pub(crate) cards: Vec<Bytes>,
}

pub(crate) fn put_address(
    buf: &mut impl BufMut,
    message: FocaMessage,
    to: MemberId,
    incarnation: Incarnation,
) -> Result<(), WireError> {
    if buf.remaining_mut() < 27 {
        return Err(WireError::Full);
    }
    buf.put_u8(message as u8);
    buf.put_slice(&to.0);
    put_number(buf, incarnation.0);
    Ok(())
}

pub(crate) fn take_address(buf: &mut impl Buf) -> Result<(FocaMessage, MemberId, Incarnation), WireError> {
    let message = match take_array(buf)? {
        [0] => FocaMessage::Announce,
        [1] => FocaMessage::Feed,
        [2] => FocaMessage::Gossip,
        [3] => FocaMessage::Broadcast,
        _ => return Err(WireError::Malformed),
    };
    Ok((message, MemberId(take_array(buf)?), Incarnation(take_number(buf)?)))
}

impl FocaPacket {
    /// Reads all of a packet, so that a malformed one changes nothing.
    pub(crate) fn take(mut body: Bytes) -> Result<Self, WireError> {
        let from = Entry::take(&mut body)?;
        let (message, to, incarnation) = take_address(&mut body)?;
        let mut packet =
            Self { from, message, to: Life { id: to, incarnation }, entries: Vec::new(), cards: Vec::new() };
        if message != FocaMessage::Broadcast && body.len() >= 2 {
            // Each entry takes bytes off the packet, so the count can not make the list long.
            for _ in 0..body.get_u16() {
                packet.entries.push(Entry::take(&mut body)?);
            }
        }
        while body.len() >= 2 {
            let bytes = usize::from(body.get_u16());
            if bytes == 0 || bytes > body.len() {
                return Err(WireError::Malformed);
            }
            packet.cards.push(body.split_to(bytes));
        }
        Ok(packet)
    }
}

/// Seven bits in a byte, lowest first.
pub(crate) fn put_number(buf: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

pub(crate) fn take_number(buf: &mut impl Buf) -> Result<u64, WireError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take_array(buf)?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Err(WireError::Malformed);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError::Malformed)
}

pub(crate) fn take_array<const N: usize>(buf: &mut impl Buf) -> Result<[u8; N], WireError> {
    if buf.remaining() < N {
        return Err(WireError::Malformed);
    }
    let mut bytes = [0; N];
    buf.copy_to_slice(&mut bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Digest, Role, digest::Told};

    fn entry(standing: Standing) -> Entry {
        Entry {
            id: MemberId([7; 16]),
            addr: "[2001:db8::7]:4648".parse().expect("an address"),
            incarnation: Incarnation(u64::MAX),
            standing,
        }
    }

    #[test]
    fn entries_come_back_as_they_went() {
        for standing in [Standing::Alive, Standing::Failed, Standing::Left, Standing::Pruned] {
            let mut bytes = Vec::new();
            entry(standing).put(&mut bytes).expect("there is room");
            assert!(bytes.len() <= ENTRY_BYTES_MAX);
            assert_eq!(Entry::take(&mut Bytes::from(bytes)), Ok(entry(standing)));
        }
    }

    #[test]
    fn a_card_with_fields_of_a_later_version_is_read_and_passed_on_whole() {
        let digest = Digest { name: "n1".into(), role: Role::Server, ..Digest::default() };
        let mut raw = digest.encode().expect("it is small");
        raw.extend_from_slice(b"fields of a later version");
        let stamp = Stamp { incarnation: Incarnation(3), version: 9 };
        let saying = Saying { stamp, raw: raw.clone().into() };
        assert_eq!(Told::keep(&saying).digest.as_deref(), Some(&digest));
        let card = Card { entry: entry(Standing::Alive), saying: Some(saying) };
        let mut bytes = Vec::new();
        card.put(&mut bytes);
        let read = Card::take(&mut Bytes::from(bytes)).expect("it was written so");
        assert_eq!(read, card);
        assert_eq!(&*read.saying.expect("it has one").raw, &raw[..]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let bytes = Bytes::from(bytes);
            let _either = read(bytes.clone(), 0);
            let _either = FocaPacket::take(bytes.clone());
            let _either = Card::take(&mut bytes.clone());
            let _either = parse::<Ping>(&bytes);
            let _either = parse::<Ack>(&bytes);
            let _either = parse::<Finding>(&bytes);
            let _either = Digest::decode(&bytes);
        }

        #[test]
        fn numbers_come_back_as_they_went(value in any::<u64>()) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, value);
            prop_assert_eq!(take_number(&mut Bytes::from(bytes)), Ok(value));
        }
    }
}
