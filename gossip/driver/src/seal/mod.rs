//! Sealed packets: who may read them, who sent them, and which of them were here before.
//!
//! ```text
//!  0  u8     magic and version
//!  1  u8     pool
//!  2  [4]    key id
//!  6  [4]    tag of the region (zero in the wide pool)
//! 10  [4]    tag of the cluster (zero while there is none)
//! 14  [16]   sender: its node id
//! 30  u64    boot of the sender: grows with each of its lives
//! 38  [12]   nonce: 4 random bytes of this life, then a counter from 1
//! 50  ...    what gossip-core wrote, encrypted; then a tag of 16 bytes
//! ```
//!
//! All of the header is associated data, so none of it can be changed by who has no key, and a packet says truly who
//! sealed it, as far as members trust each other: whoever holds the key can seal in any name. Gossip is a hint for that
//! reason, and Raft decides.
//!
//! **Nonce.** A counter with a random part, under a key made for one sender's one life: AES-GCM fails when a nonce
//! comes twice under one key, and random nonces under one key that a whole region shares would pass the number that is
//! safe for GCM (2^32 packets) within days. Here nobody else seals under the key, within a life the counter does not
//! repeat, and should a life's number ever be used again (a restored disk image) the random part makes a repetition a
//! chance of one in 2^32.
//!
//! **Replay.** SWIM's incarnations make an old update harmless while members remember the newer one. They forget: a
//! member that left and was forgotten would be back for a while after its old packet is sent again, and an old answer
//! to a probe could keep a dead member alive. So each sender has a window of counters, and each life of a sender ends
//! the ones before. What is left: an agent that has just started takes packets of before its start; they name members
//! that it then probes and finds dead.

mod key;
mod ring;
mod window;

use std::fmt;

use ::ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tokio::time::Instant;

pub(crate) use self::key::KeyId;
use self::window::{Verdict, Windows};
pub use self::{
    key::{GossipKey, ParseKeyError},
    ring::{ChangeRingError, KeyRing},
};

/// First byte of each sealed packet: a magic and the version in one. It differs from QUIC's and serf's first bytes, so
/// that a packet to the wrong port is known for what it is.
pub(crate) const SEALED: u8 = 0xb7;

/// Bytes of a packet before what is encrypted.
pub(crate) const HEADER: usize = 50;

/// Bytes that sealing adds to what is sealed.
pub const OVERHEAD: usize = HEADER + 16;

/// The node id of whoever sealed a packet.
pub type Sender = [u8; 16];

/// Which gossip a packet belongs to: two share one socket.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PoolKind {
    /// All agents of one region.
    Region,
    /// The servers of all regions.
    Wide,
}

impl PoolKind {
    /// Both pools.
    pub const ALL: [Self; 2] = [Self::Region, Self::Wide];

    const fn byte(self) -> u8 {
        match self {
            Self::Region => 1,
            Self::Wide => 2,
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Region => 0,
            Self::Wide => 1,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|pool| pool.byte() == byte)
    }
}

impl fmt::Display for PoolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Region => "region",
            Self::Wide => "wide",
        })
    }
}

/// What a pool's packets are for; packets of another scope are dropped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Scope {
    /// Hash of the region's name in the region pool, zero in the wide pool: short in the header, whole in the key.
    region: [u8; 32],
    cluster: [u8; 4],
}

impl Scope {
    pub(crate) fn new(pool: PoolKind, region: &str, cluster: Option<u128>) -> Self {
        let mut scope = Self::default();
        if pool == PoolKind::Region {
            scope.region.copy_from_slice(digest(region.as_bytes()).as_ref());
        }
        scope.set_cluster(pool, cluster);
        scope
    }

    /// Learns the cluster. Agents that found a region gossip before there is one, so an unknown cluster fits any;
    /// regions of the wide pool are clusters of their own, so there it is not looked at.
    pub(crate) fn set_cluster(&mut self, pool: PoolKind, cluster: Option<u128>) {
        self.cluster = match (pool, cluster) {
            (PoolKind::Wide, _) | (_, None) => [0; 4],
            (PoolKind::Region, Some(cluster)) => {
                let mut tag = first_four(digest(&cluster.to_be_bytes()).as_ref());
                // Zero stands for none.
                tag[3] |= 1;
                tag
            }
        };
    }
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// Not a sealed packet of this version.
    Foreign,
    /// Of a pool that this agent is not in.
    Pool,
    /// Of another region.
    Region,
    /// Of another cluster.
    Cluster,
    /// From ourselves, of this life or one before: we joined by our own address, or it was sent back to us.
    Own,
    /// Sealed with a key that is not in the ring.
    UnknownKey,
    /// Not sealed by who has the key, or changed on the way.
    Forged,
    /// Was here before, or is too old to tell.
    Replayed,
}

/// A packet that was opened.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) sender: Sender,
    pub(crate) payload: &'a [u8],
    /// The key that it was sealed with.
    pub(crate) key: KeyId,
}

/// Seals and opens the packets of one pool.
pub(crate) struct Seal {
    pool: PoolKind,
    scope: Scope,
    me: Sender,
    boot: u64,
    salt: [u8; 4],
    counter: u64,
    /// The key of this life under the primary key, made again when the primary changes.
    sealing: Option<(KeyId, LessSafeKey)>,
    windows: Windows,
}

impl Seal {
    pub(crate) fn new(pool: PoolKind, scope: Scope, me: Sender, boot: u64, salt: u64) -> Self {
        let salt = first_four(&salt.to_be_bytes());
        Self { pool, scope, me, boot, salt, counter: 0, sealing: None, windows: Windows::default() }
    }

    pub(crate) fn set_cluster(&mut self, cluster: Option<u128>) {
        self.scope.set_cluster(self.pool, cluster);
    }

    /// Seals `payload` into `packet`, which it empties first.
    pub(crate) fn seal(&mut self, ring: &KeyRing, payload: &[u8], packet: &mut Vec<u8>) {
        let primary = ring.primary();
        if self.sealing.as_ref().is_none_or(|(id, _)| *id != primary.id()) {
            self.sealing = Some((primary.id(), self.key_of(primary, &self.me, self.boot)));
        }
        self.counter += 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        packet.clear();
        packet.extend([SEALED, self.pool.byte()]);
        packet.extend(primary.id().0);
        packet.extend(first_four(&self.scope.region));
        packet.extend(self.scope.cluster);
        packet.extend(self.me);
        packet.extend(self.boot.to_be_bytes());
        packet.extend(nonce);
        packet.extend(payload);
        let (header, sealed) = packet.split_at_mut(HEADER);
        let (_, key) = self.sealing.as_ref().expect("made above");
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), sealed)
            .expect("a datagram is far below the limit of the cipher");
        packet.extend(tag.as_ref());
    }

    /// Opens a packet in place. Nothing is remembered of a packet that is refused.
    pub(crate) fn open<'a>(
        &mut self,
        ring: &KeyRing,
        packet: &'a mut [u8],
        now: Instant,
    ) -> Result<Opened<'a>, Refusal> {
        let header = Header::read(packet).ok_or(Refusal::Foreign)?;
        // What is cheap to see comes before what costs a decryption.
        if header.pool != self.pool {
            return Err(Refusal::Pool);
        }
        if header.region != first_four(&self.scope.region) {
            return Err(Refusal::Region);
        }
        let known = |cluster: [u8; 4]| cluster != [0; 4];
        if known(header.cluster) && known(self.scope.cluster) && header.cluster != self.scope.cluster {
            return Err(Refusal::Cluster);
        }
        // A later life than ours is another agent with our id, of which gossip-core shall know.
        if header.sender == self.me && header.boot <= self.boot {
            return Err(Refusal::Own);
        }
        if self.windows.look(&header.sender, header.boot, header.counter()) == Verdict::Seen {
            return Err(Refusal::Replayed);
        }
        let key = ring.by_id(header.key).ok_or(Refusal::UnknownKey)?;
        let key = self.key_of(key, &header.sender, header.boot);
        let (associated, sealed) = packet.split_at_mut(HEADER);
        let nonce = Nonce::assume_unique_for_key(header.nonce);
        let payload =
            key.open_in_place(nonce, Aad::from(&*associated), sealed).map_err(|_| Refusal::Forged)?;
        self.windows.take(header.sender, header.boot, header.counter(), now);
        Ok(Opened { sender: header.sender, payload, key: header.key })
    }

    /// The key that one sender's one life seals with.
    fn key_of(&self, key: &GossipKey, sender: &Sender, boot: u64) -> LessSafeKey {
        let boot = boot.to_be_bytes();
        let info: [&[u8]; 5] = [b"packet", &[self.pool.byte()], &self.scope.region, sender, &boot];
        let material =
            key.material().expand(&info, &AES_256_GCM).expect("32 bytes are within what HKDF-SHA256 gives");
        LessSafeKey::new(UnboundKey::from(material))
    }
}

/// The pool that a packet says it is of.
pub(crate) fn pool_of(packet: &[u8]) -> Option<PoolKind> {
    (packet.first() == Some(&SEALED)).then(|| packet.get(1).copied().and_then(PoolKind::from_byte)).flatten()
}

struct Header {
    pool: PoolKind,
    key: KeyId,
    region: [u8; 4],
    cluster: [u8; 4],
    sender: Sender,
    boot: u64,
    nonce: [u8; NONCE_LEN],
}

impl Header {
    fn read(packet: &[u8]) -> Option<Self> {
        if packet.len() < OVERHEAD {
            return None;
        }
        Some(Self {
            pool: pool_of(packet)?,
            key: KeyId(field(packet, 2)),
            region: field(packet, 6),
            cluster: field(packet, 10),
            sender: field(packet, 14),
            boot: u64::from_be_bytes(field(packet, 30)),
            nonce: field(packet, 38),
        })
    }

    fn counter(&self) -> u64 {
        u64::from_be_bytes(field(&self.nonce, 4))
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the length was looked at")
}

fn first_four(bytes: &[u8]) -> [u8; 4] {
    field(bytes, 0)
}

fn digest(bytes: &[u8]) -> ::ring::digest::Digest {
    ::ring::digest::digest(&::ring::digest::SHA256, bytes)
}

#[cfg(test)]
mod tests;
