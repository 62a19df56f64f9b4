//! Synchronisation in packets: how long messages of gossip-core go over the socket when nobody carries them over a stream.
//!
//! Whoever has a message offers it, with its length and first chunk; the other side pulls the rest in windows and asks
//! again for what was lost, so that nothing is sent faster than it arrives. Three messages make one exchange: request
//! and return from the opener, answer from the other. An exchange that fails is forgotten; gossip-core asks for another.
//!
//! Pure: bytes and time go in, packets and whole messages come out.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use gossip_core::MemberId;

/// Bytes of a message in one packet.
const CHUNK: usize = 1_100;
/// Bytes of a packet before its chunk: exchange, part, kind and a number.
const HEAD: usize = 10;
const _: () = assert!(HEAD + CHUNK < crate::PAYLOAD_MAX);
/// Longest message: ten thousand members with digests of 400 bytes. A longer one needs a stream.
const MESSAGE_MAX: usize = 4 << 20;
/// Messages held or being put together at once, and their bytes; more are refused. A server whom many agents ask at the
/// same time answers some, and the others ask again.
const MESSAGES_MAX: usize = 256;
const BYTES_MAX: usize = 16 << 20;
/// Chunks asked for at once: 35 kB, which no receive buffer loses.
const WINDOW: u16 = 32;
/// How long lost chunks and unanswered offers are waited for.
const PATIENCE: Duration = Duration::from_millis(400);
/// Offers of one message, when nobody answers.
const OFFERS_MAX: u8 = 5;
/// How long an exchange may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);

/// Which message of an exchange.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Part {
    Request,
    Answer,
    Return,
}

/// Who talks with us in which exchange.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Exchange {
    pub(crate) with: MemberId,
    pub(crate) number: u32,
}

/// A message that arrived whole.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Arrived {
    pub(crate) exchange: Exchange,
    pub(crate) part: Part,
    pub(crate) from: SocketAddr,
    pub(crate) bytes: Bytes,
}

/// A packet was not part of anything that we take part in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unwanted;

/// All exchanges under way.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    held: BTreeMap<(Exchange, Part), Held>,
    coming: BTreeMap<(Exchange, Part), Coming>,
    packets: Vec<(SocketAddr, Vec<u8>)>,
}

/// A message that the other side may pull.
#[derive(Debug)]
struct Held {
    to: SocketAddr,
    bytes: Bytes,
    until: Duration,
    /// When it is offered again; none once the other side pulls.
    offer_at: Option<Duration>,
    offers: u8,
}

/// A message that is being pulled.
#[derive(Debug)]
struct Coming {
    from: SocketAddr,
    until: Duration,
    state: Pull,
}

#[derive(Debug)]
enum Pull {
    Open {
        len: usize,
        chunks: Vec<Option<Bytes>>,
        missing: usize,
        asked_until: u16,
        ask_at: Duration,
    },
    /// Whole and given on; remembered, so that a repeated offer is not a second message.
    Whole,
}

enum Kind {
    Offer { len: u32 },
    Chunk { index: u16 },
    Pull { first: u16, count: u16 },
}

impl Syncs {
    /// Offers a message to the other side. Refused messages are dropped: the exchange ends there.
    pub(crate) fn offer(
        &mut self,
        now: Duration,
        exchange: Exchange,
        part: Part,
        to: SocketAddr,
        bytes: Bytes,
    ) -> Result<(), Unwanted> {
        let bytes_held: usize = self.held.values().map(|held| held.bytes.len()).sum();
        if bytes.len() > MESSAGE_MAX
            || self.held.len() >= MESSAGES_MAX
            || bytes_held + bytes.len() > BYTES_MAX
        {
            return Err(Unwanted);
        }
        let held = Held { to, bytes, until: now + EXCHANGE_MAX, offer_at: Some(now), offers: 0 };
        self.held.insert((exchange, part), held);
        self.tick(now);
        Ok(())
    }

    /// Takes a packet. A message that is whole by it comes back.
    pub(crate) fn packet(
        &mut self,
        now: Duration,
        with: MemberId,
        from: SocketAddr,
        packet: &[u8],
    ) -> Result<Option<Arrived>, Unwanted> {
        let (number, part, kind, chunk) = read(packet).ok_or(Unwanted)?;
        let key = (Exchange { with, number }, part);
        match kind {
            Kind::Offer { len } => self.offered(now, key, from, len as usize, chunk),
            Kind::Chunk { index } => self.chunk(now, key, index, chunk),
            Kind::Pull { first, count } => {
                let held = self.held.get_mut(&key).ok_or(Unwanted)?;
                held.offer_at = None;
                if count == 0 {
                    self.acknowledged(key);
                    return Ok(None);
                }
                for index in first..first.saturating_add(count.min(WINDOW)) {
                    let Some(chunk) = held.bytes.chunks(CHUNK).nth(usize::from(index)) else { break };
                    self.packets.push((held.to, write(key, &Kind::Chunk { index }, chunk)));
                }
                Ok(None)
            }
        }
    }

    /// Does what is due, and forgets what is over.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.held.retain(|_, held| {
            let given_up = held.offers >= OFFERS_MAX && held.offer_at.is_some_and(|at| at <= now);
            held.until > now && !given_up
        });
        self.coming.retain(|_, coming| coming.until > now);
        for (key, held) in &mut self.held {
            if held.offer_at.is_some_and(|at| at <= now) {
                held.offer_at = Some(now + PATIENCE);
                held.offers += 1;
                let len = u32::try_from(held.bytes.len()).expect("bounded when it was taken");
                let first = &held.bytes[..held.bytes.len().min(CHUNK)];
                self.packets.push((held.to, write(*key, &Kind::Offer { len }, first)));
            }
        }
        for (key, coming) in &mut self.coming {
            let from = coming.from;
            if let Some(pull) = coming.pull_again(now) {
                self.packets.push((from, write(*key, &pull, &[])));
            }
        }
    }

    /// When to tick at the latest.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let held = self.held.values().map(|held| held.offer_at.unwrap_or(held.until).min(held.until));
        let coming = self.coming.values().map(|coming| match coming.state {
            Pull::Open { ask_at, .. } => ask_at.min(coming.until),
            Pull::Whole => coming.until,
        });
        held.chain(coming).min()
    }

    /// Takes the packets that have to be sent.
    pub(crate) fn take_packets(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.packets)
    }

    fn offered(
        &mut self,
        now: Duration,
        key: (Exchange, Part),
        from: SocketAddr,
        len: usize,
        first: &[u8],
    ) -> Result<Option<Arrived>, Unwanted> {
        if let Some(coming) = self.coming.get(&key) {
            if matches!(coming.state, Pull::Whole) {
                self.packets.push((from, write(key, &Kind::Pull { first: 0, count: 0 }, &[])));
            }
            return Ok(None);
        }
        if !self.expects(key) || len > MESSAGE_MAX || first.len() != len.min(CHUNK) {
            return Err(Unwanted);
        }
        let bytes_coming: usize = self.coming.values().map(Coming::len).sum();
        if self.coming.len() >= MESSAGES_MAX || bytes_coming + len > BYTES_MAX {
            return Err(Unwanted);
        }
        let count = len.div_ceil(CHUNK).max(1);
        let mut chunks = vec![None; count];
        chunks[0] = Some(Bytes::copy_from_slice(first));
        let state = Pull::Open { len, chunks, missing: count - 1, asked_until: 1, ask_at: now };
        self.coming.insert(key, Coming { from, until: now + EXCHANGE_MAX, state });
        Ok(self.proceed(now, key))
    }

    fn chunk(
        &mut self,
        now: Duration,
        key: (Exchange, Part),
        index: u16,
        bytes: &[u8],
    ) -> Result<Option<Arrived>, Unwanted> {
        let coming = self.coming.get_mut(&key).ok_or(Unwanted)?;
        let Pull::Open { len, chunks, missing, .. } = &mut coming.state else { return Ok(None) };
        let at = usize::from(index);
        let place = chunks.get_mut(at).ok_or(Unwanted)?;
        if bytes.len() != (*len - at * CHUNK).min(CHUNK) {
            return Err(Unwanted);
        }
        if place.is_none() {
            *place = Some(Bytes::copy_from_slice(bytes));
            *missing -= 1;
        }
        Ok(self.proceed(now, key))
    }

    /// Asks for the next window when the last one is there, or gives the whole message on.
    fn proceed(&mut self, now: Duration, key: (Exchange, Part)) -> Option<Arrived> {
        let coming = self.coming.get_mut(&key)?;
        let Pull::Open { chunks, missing, asked_until, ask_at, .. } = &mut coming.state else { return None };
        if *missing > 0 {
            let asked = usize::from(*asked_until).min(chunks.len());
            if chunks[..asked].iter().all(Option::is_some) {
                *ask_at = now;
                self.tick(now);
            }
            return None;
        }
        let bytes = chunks.iter().flatten().flat_map(|chunk| chunk.iter().copied()).collect();
        coming.state = Pull::Whole;
        let (exchange, part) = key;
        let from = coming.from;
        if part == Part::Answer {
            self.held.remove(&(exchange, Part::Request));
        }
        self.packets.push((from, write(key, &Kind::Pull { first: 0, count: 0 }, &[])));
        Some(Arrived { exchange, part, from, bytes })
    }

    /// The other side has all of a message. A request is remembered without its bytes, so that its answer is expected.
    fn acknowledged(&mut self, key: (Exchange, Part)) {
        match key.1 {
            Part::Request => {
                if let Some(held) = self.held.get_mut(&key) {
                    held.bytes = Bytes::new();
                }
            }
            Part::Answer | Part::Return => drop(self.held.remove(&key)),
        }
    }

    /// Requests are taken from any member; the rest only as an answer to what we sent.
    fn expects(&self, (exchange, part): (Exchange, Part)) -> bool {
        match part {
            Part::Request => true,
            Part::Answer => self.held.contains_key(&(exchange, Part::Request)),
            Part::Return => self.coming.contains_key(&(exchange, Part::Request)),
        }
    }
}

impl Coming {
    fn len(&self) -> usize {
        match self.state {
            Pull::Open { len, .. } => len,
            Pull::Whole => 0,
        }
    }

    /// Asks for the first chunks that are not there, when it is time.
    fn pull_again(&mut self, now: Duration) -> Option<Kind> {
        let Pull::Open { chunks, asked_until, ask_at, .. } = &mut self.state else { return None };
        if *ask_at > now {
            return None;
        }
        let first = chunks.iter().position(Option::is_none)?;
        let first = u16::try_from(first).expect("a message has fewer chunks");
        *asked_until = first.saturating_add(WINDOW);
        *ask_at = now + PATIENCE;
        Some(Kind::Pull { first, count: WINDOW })
    }
}

fn write((exchange, part): (Exchange, Part), kind: &Kind, chunk: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEAD + chunk.len());
    packet.extend(exchange.number.to_be_bytes());
    packet.push(match part {
        Part::Request => 0,
        Part::Answer => 1,
        Part::Return => 2,
    });
    match kind {
        Kind::Offer { len } => {
            packet.push(0);
            packet.extend(len.to_be_bytes());
        }
        Kind::Chunk { index } => {
            packet.push(1);
            packet.extend(index.to_be_bytes());
            packet.extend([0; 2]);
        }
        Kind::Pull { first, count } => {
            packet.push(2);
            packet.extend(first.to_be_bytes());
            packet.extend(count.to_be_bytes());
        }
    }
    packet.extend(chunk);
    packet
}

fn read(packet: &[u8]) -> Option<(u32, Part, Kind, &[u8])> {
    let (number, rest) = packet.split_first_chunk()?;
    let (&[part, kind, a, b, c, d], chunk) = rest.split_first_chunk()?;
    let part = match part {
        0 => Part::Request,
        1 => Part::Answer,
        2 => Part::Return,
        _ => return None,
    };
    let kind = match kind {
        0 => Kind::Offer { len: u32::from_be_bytes([a, b, c, d]) },
        1 => Kind::Chunk { index: u16::from_be_bytes([a, b]) },
        2 => Kind::Pull { first: u16::from_be_bytes([a, b]), count: u16::from_be_bytes([c, d]) },
        _ => return None,
    };
    Some((u32::from_be_bytes(*number), part, kind, chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: MemberId = MemberId([1; 16]);
    const BOB: MemberId = MemberId([2; 16]);

    /// Two sides and a clock; of a hundred packets some are lost.
    struct Pair {
        alice: Syncs,
        bob: Syncs,
        now: Duration,
        sent: u64,
        lost_percent: u64,
        arrived: Vec<Arrived>,
    }

    impl Pair {
        fn new(lost_percent: u64) -> Self {
            let (alice, bob) = (Syncs::default(), Syncs::default());
            Self { alice, bob, now: Duration::ZERO, sent: 0, lost_percent, arrived: Vec::new() }
        }

        fn settle(&mut self) {
            for _ in 0..100_000 {
                let to_bob = self.alice.take_packets();
                let to_alice = self.bob.take_packets();
                if to_bob.is_empty() && to_alice.is_empty() {
                    let wakes = [self.alice.next_wake(), self.bob.next_wake()];
                    let Some(wake) = wakes.into_iter().flatten().min() else { return };
                    self.now = wake;
                    self.alice.tick(wake);
                    self.bob.tick(wake);
                }
                for (_, packet) in to_bob {
                    self.carry(&packet, ALICE);
                }
                for (_, packet) in to_alice {
                    self.carry(&packet, BOB);
                }
            }
            panic!("the two never fall silent");
        }

        fn carry(&mut self, packet: &[u8], sender: MemberId) {
            self.sent += 1;
            // Any mixing does: a plain count would lose the same chunk of each window.
            if (self.sent.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100 < self.lost_percent {
                return;
            }
            let to = if sender == ALICE { &mut self.bob } else { &mut self.alice };
            if let Ok(Some(arrived)) = to.packet(self.now, sender, addr(), packet) {
                self.arrived.push(arrived);
            }
        }
    }

    fn addr() -> SocketAddr {
        "192.0.2.1:4648".parse().expect("an address")
    }

    fn exchange(with: MemberId) -> Exchange {
        Exchange { with, number: 7 }
    }

    fn message(len: usize) -> Bytes {
        (0..len).map(|n| u8::try_from(n % 251).expect("small")).collect()
    }

    #[test]
    fn messages_of_any_length_arrive_whole_and_once() {
        for lost_percent in [0, 2, 20] {
            for len in [0, 1, CHUNK, CHUNK + 1, 40 * CHUNK, 300_000] {
                let mut pair = Pair::new(lost_percent);
                let offered = pair.alice.offer(pair.now, exchange(BOB), Part::Request, addr(), message(len));
                offered.expect("there is room");
                pair.settle();
                assert_eq!(pair.arrived.len(), 1, "{len} bytes, {lost_percent} % lost");
                assert_eq!(pair.arrived[0].bytes, message(len));
                assert_eq!(pair.arrived[0].exchange, exchange(ALICE));
                assert!(pair.alice.held.is_empty() && pair.bob.coming.is_empty(), "all is forgotten");
            }
        }
    }

    #[test]
    fn nobody_is_told_what_they_did_not_ask_for() {
        let mut bob = Syncs::default();
        for part in [Part::Answer, Part::Return] {
            let offer = write((exchange(BOB), part), &Kind::Offer { len: 1 }, &[9]);
            assert_eq!(bob.packet(Duration::ZERO, ALICE, addr(), &offer), Err(Unwanted));
        }
        for kind in [Kind::Pull { first: 0, count: 9 }, Kind::Chunk { index: 0 }] {
            let packet = write((exchange(BOB), Part::Request), &kind, &[]);
            assert_eq!(bob.packet(Duration::ZERO, ALICE, addr(), &packet), Err(Unwanted));
        }
        assert_eq!(bob.packet(Duration::ZERO, ALICE, addr(), &[1, 2, 3]), Err(Unwanted));
        assert!(bob.take_packets().is_empty());
    }

    #[test]
    fn what_is_held_is_bounded_and_ends() {
        let mut bob = Syncs::default();
        let big = u32::try_from(MESSAGE_MAX).expect("small");
        let first = vec![0; CHUNK];
        let taken = (0..1_000)
            .filter(|number| {
                let key = (Exchange { with: BOB, number: *number }, Part::Request);
                let offer = write(key, &Kind::Offer { len: big }, &first);
                bob.packet(Duration::ZERO, ALICE, addr(), &offer).is_ok()
            })
            .count();
        assert_eq!(taken, BYTES_MAX / MESSAGE_MAX);
        let longer = write((exchange(BOB), Part::Request), &Kind::Offer { len: big + 1 }, &first);
        assert_eq!(bob.packet(Duration::ZERO, ALICE, addr(), &longer), Err(Unwanted));
        bob.tick(EXCHANGE_MAX);
        assert_eq!(bob.next_wake(), None);
    }

    #[test]
    fn rubbish_of_any_kind_is_survived() {
        let mut bob = Syncs::default();
        let mut random = 1_u64;
        let mut draw = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8
        };
        for round in 0..5_000_u64 {
            // Small numbers, so that packets meet what others began.
            let mut packet =
                vec![0, 0, 0, draw() % 4, draw() % 4, draw() % 4, 0, draw() % 32, draw(), draw()];
            let chunk = [0, 1, CHUNK, usize::from(draw())][usize::from(draw() % 4)];
            packet.resize(HEAD + chunk, 7);
            packet.truncate(packet.len() - usize::from(draw() % 2));
            let now = Duration::from_millis(round);
            // Whatever it says, it is taken or refused.
            let _ = bob.packet(now, ALICE, addr(), &packet);
            let _ = bob.offer(now, exchange(ALICE), Part::Answer, addr(), message(usize::from(draw()) * 20));
            bob.tick(now);
            assert!(bob.take_packets().len() <= 64 + bob.coming.len() + bob.held.len());
        }
    }
}
