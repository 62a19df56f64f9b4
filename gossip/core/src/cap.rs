//! How much one peer may say, and hear from us.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

/// Packets to or from one peer in a second. In peace a pair exchanges one or two; a pair that suspects each other, or
/// heals, less than twenty. Whatever goes wrong between two members ends here.
pub(crate) const PEER_PACKETS_MAX: u16 = 40;

/// Peers in one second. Above it the count would take too much memory; only a flood of made-up addresses gets there.
const PEERS_MAX: usize = 16_384;

/// Counts packets for each peer in the present second.
#[derive(Debug, Default)]
pub(crate) struct PeerCap {
    second: u64,
    counts: HashMap<SocketAddr, u16>,
}

impl PeerCap {
    /// Whether one more is within the cap; if so, it is counted.
    pub(crate) fn admit(&mut self, now: Duration, peer: SocketAddr) -> bool {
        if self.second != now.as_secs() {
            self.second = now.as_secs();
            self.counts.clear();
        }
        if self.counts.len() >= PEERS_MAX && !self.counts.contains_key(&peer) {
            return false;
        }
        let count = self.counts.entry(peer).or_default();
        *count = count.saturating_add(1);
        *count <= PEER_PACKETS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_is_capped_each_second_and_others_are_not() {
        let (loud, quiet) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let mut cap = PeerCap::default();
        let admitted = (0..1_000).filter(|_| cap.admit(Duration::from_secs(1), loud)).count();
        assert_eq!(admitted, usize::from(PEER_PACKETS_MAX));
        assert!(cap.admit(Duration::from_secs(1), quiet));
        assert!(cap.admit(Duration::from_secs(2), loud));
    }
}
