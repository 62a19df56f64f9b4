//! Which packets of a sender were here before.

use std::collections::HashMap;

use tokio::time::Instant;

use super::Sender;

/// Senders remembered. A region is meant for 10,000 agents; one that was forgotten can have its last packets replayed.
const SENDERS_MAX: usize = 65_536;
/// How many go at once when the table is full, so that finding the longest silent is done seldom.
const EVICTED_AT_ONCE: usize = SENDERS_MAX / 16;
/// Packets behind the newest that are still told apart; older ones are refused. A sender's counter runs over all whom it
/// sends to, so this is how far its packets may be out of order, not how many of them are for us.
const BEHIND_MAX: u64 = 512;
const WORDS: usize = (BEHIND_MAX / 64) as usize;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Fresh,
    Seen,
}

/// The windows of all senders of a pool.
#[derive(Default)]
pub(super) struct Windows {
    of: HashMap<Sender, Window>,
}

impl Windows {
    /// Tells whether a packet is new, and remembers nothing: the header is not proven yet.
    pub(super) fn look(&self, sender: &Sender, boot: u64, counter: u64) -> Verdict {
        match self.of.get(sender) {
            None => Verdict::Fresh,
            Some(window) => window.look(boot, counter),
        }
    }

    /// Remembers a packet that was proven to be the sender's.
    pub(super) fn take(&mut self, sender: Sender, boot: u64, counter: u64, now: Instant) {
        if self.of.len() >= SENDERS_MAX && !self.of.contains_key(&sender) {
            self.evict();
        }
        let window = self.of.entry(sender).or_insert_with(|| Window::new(boot, now));
        window.take(boot, counter, now);
    }

    fn evict(&mut self) {
        let mut heard: Vec<Instant> = self.of.values().map(|window| window.heard).collect();
        let (_, limit, _) = heard.select_nth_unstable(EVICTED_AT_ONCE);
        let limit = *limit;
        self.of.retain(|_, window| window.heard > limit);
    }
}

/// The last packets of one life of a sender: bit `n` of `seen` stands for `highest - n`.
struct Window {
    boot: u64,
    highest: u64,
    seen: [u64; WORDS],
    heard: Instant,
}

impl Window {
    fn new(boot: u64, now: Instant) -> Self {
        Self { boot, highest: 0, seen: [0; WORDS], heard: now }
    }

    fn look(&self, boot: u64, counter: u64) -> Verdict {
        if boot > self.boot || (boot == self.boot && counter > self.highest) {
            return Verdict::Fresh;
        }
        let behind = self.highest.saturating_sub(counter);
        if boot < self.boot || behind >= BEHIND_MAX || self.has(behind) {
            Verdict::Seen
        } else {
            Verdict::Fresh
        }
    }

    fn take(&mut self, boot: u64, counter: u64, now: Instant) {
        self.heard = now;
        if boot > self.boot {
            *self = Self::new(boot, now);
        }
        if counter > self.highest {
            self.advance(counter - self.highest);
            self.highest = counter;
        }
        let behind = self.highest - counter;
        self.seen[(behind / 64) as usize] |= 1 << (behind % 64);
    }

    fn has(&self, behind: u64) -> bool {
        self.seen[(behind / 64) as usize] & (1 << (behind % 64)) != 0
    }

    fn advance(&mut self, by: u64) {
        if by >= BEHIND_MAX {
            self.seen = [0; WORDS];
            return;
        }
        let (words, bits) = ((by / 64) as usize, by % 64);
        for at in (0..WORDS).rev() {
            let word = |at: Option<usize>| at.map_or(0, |at| self.seen[at]);
            let high = word(at.checked_sub(words));
            let low = word(at.checked_sub(words + 1));
            self.seen[at] = if bits == 0 { high } else { (high << bits) | (low >> (64 - bits)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Sender = [1; 16];

    fn taken(windows: &mut Windows, boot: u64, counter: u64) -> bool {
        let fresh = windows.look(&ALICE, boot, counter) == Verdict::Fresh;
        if fresh {
            windows.take(ALICE, boot, counter, Instant::now());
        }
        fresh
    }

    #[test]
    fn each_packet_is_taken_once_in_any_order() {
        let mut windows = Windows::default();
        // A walk that jumps forwards and back within the window, over word borders.
        let order: Vec<u64> = (0..2_000u64).map(|n| 1 + (n / 400) * 400 + (n * 147) % 400).collect();
        for counter in &order {
            assert!(taken(&mut windows, 7, *counter), "{counter} is new");
            assert!(!taken(&mut windows, 7, *counter), "{counter} was here");
        }
        for counter in &order {
            assert!(!taken(&mut windows, 7, *counter), "{counter} was here or is too old");
        }
    }

    #[test]
    fn a_jump_forgets_nothing_that_it_should_know() {
        let mut windows = Windows::default();
        assert!(taken(&mut windows, 1, 1));
        assert!(taken(&mut windows, 1, 1 + BEHIND_MAX - 1));
        assert!(!taken(&mut windows, 1, 1));
        assert!(taken(&mut windows, 1, 2));
        assert!(taken(&mut windows, 1, u64::MAX));
        assert!(!taken(&mut windows, 1, 3));
        assert!(taken(&mut windows, 1, u64::MAX - BEHIND_MAX + 1));
    }

    #[test]
    fn a_new_life_ends_the_one_before() {
        let mut windows = Windows::default();
        assert!(taken(&mut windows, 5, 100));
        assert!(taken(&mut windows, 6, 1));
        assert!(taken(&mut windows, 6, 9));
        // Counters of the old life mean nothing in the new one.
        assert!(!taken(&mut windows, 5, 3));
        assert!(!taken(&mut windows, 5, 101));
        assert!(taken(&mut windows, 6, 3));
    }

    #[test]
    fn the_table_is_bounded_and_the_longest_silent_go() {
        let mut windows = Windows::default();
        let start = Instant::now();
        for n in 0..u32::try_from(SENDERS_MAX + 10).expect("small") {
            let mut sender = [0; 16];
            sender[..4].copy_from_slice(&n.to_be_bytes());
            windows.take(sender, 1, 1, start + std::time::Duration::from_millis(u64::from(n)));
        }
        assert!(windows.of.len() <= SENDERS_MAX);
        assert_eq!(windows.look(&[0; 16], 1, 1), Verdict::Fresh);
        let mut last = [0; 16];
        last[..4].copy_from_slice(&u32::try_from(SENDERS_MAX).expect("small").to_be_bytes());
        assert_eq!(windows.look(&last, 1, 1), Verdict::Seen);
    }
}
