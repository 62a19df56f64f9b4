use std::{collections::BTreeMap, net::IpAddr};

use runtime::{Duration, Instant};

/// Questions that an address may ask at once. Hundreds of agents behind one address join within this, with two each.
const BURST: f64 = 1_000.0;
/// Questions a second that an address may ask for ever. Founding asks two a second of each peer.
const PER_SECOND: f64 = 200.0;
/// What a refusal costs beside the question: guessing is slow.
const REFUSAL_COST: f64 = 10.0;
/// Addresses that are counted; the one that was quiet for longest is forgotten.
const SOURCES_MAX: usize = 4_096;

/// Counts questions by the address that they come from.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    sources: BTreeMap<IpAddr, Source>,
}

#[derive(Debug)]
struct Source {
    left: f64,
    at: Instant,
}

impl Rate {
    /// Counts a question; tells whether it may be asked.
    pub(crate) fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        self.take(now, source, 1.0)
    }

    /// Counts a refusal.
    pub(crate) fn note_refusal(&mut self, now: Instant, source: IpAddr) {
        self.take(now, source, REFUSAL_COST);
    }

    fn take(&mut self, now: Instant, source: IpAddr, cost: f64) -> bool {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            let quiet = self.sources.iter().min_by_key(|(_, source)| source.at).map(|(addr, _)| *addr);
            quiet.map(|addr| self.sources.remove(&addr));
        }
        let entry = self.sources.entry(source).or_insert(Source { left: BURST, at: now });
        let passed: Duration = now.saturating_duration_since(entry.at);
        entry.left = (entry.left + passed.as_secs_f64() * PER_SECOND).min(BURST);
        entry.at = now;
        let enough = entry.left >= cost;
        // A refusal that is not covered is a debt as large as what is left.
        entry.left = (entry.left - cost).max(0.0);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_asks_too_much_waits_and_others_do_not() {
        let mut rate = Rate::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let admitted = (0..3_000).filter(|_| rate.admit(start, one)).count();
        assert_eq!(admitted, 1_000);
        assert!(rate.admit(start, other));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| rate.admit(later, one)).count(), 200);
        (0..100).for_each(|_| rate.note_refusal(later, other));
        assert!(!rate.admit(later, other), "guessing uses up the rest");
        for number in 0..10_000_u32 {
            rate.admit(later, IpAddr::from(number.to_be_bytes()));
        }
        assert!(rate.sources.len() <= SOURCES_MAX);
    }
}
