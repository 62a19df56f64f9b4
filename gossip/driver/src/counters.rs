//! What was sent, received and dropped, and log lines about it that a flood can not make many.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::seal::Refusal;

/// How often a reason to drop packets may have a log line: a flood of bad packets must not become a flood of lines.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dropped {
    /// Not a packet of this protocol and version.
    Foreign,
    /// Of a pool that this agent is not in.
    Pool,
    /// Of another region.
    Region,
    /// Of another cluster.
    Cluster,
    /// Sealed by ourselves: we joined by our own address, or a packet was sent back to us.
    Own,
    /// Sealed with a key that is not in the ring.
    UnknownKey,
    /// Sealed with no key of ours, or changed on the way.
    Forged,
    /// Was here before.
    Replayed,
    /// Part of a synchronisation that nobody asked for, or of too many at once.
    Sync,
    /// A question to locate that is malformed, or above what its source may ask.
    Locate,
    /// To be sent, while too many were waiting.
    OutboxFull,
    /// The system would not send it.
    SendFailed,
    /// The system would not receive it.
    ReceiveFailed,
}

impl Dropped {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::Foreign,
        Self::Pool,
        Self::Region,
        Self::Cluster,
        Self::Own,
        Self::UnknownKey,
        Self::Forged,
        Self::Replayed,
        Self::Sync,
        Self::Locate,
        Self::OutboxFull,
        Self::SendFailed,
        Self::ReceiveFailed,
    ];

    /// The reason in one word, as metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Pool => "pool",
            Self::Region => "region",
            Self::Cluster => "cluster",
            Self::Own => "own",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Sync => "sync",
            Self::Locate => "locate",
            Self::OutboxFull => "outbox_full",
            Self::SendFailed => "send_failed",
            Self::ReceiveFailed => "receive_failed",
        }
    }
}

impl From<Refusal> for Dropped {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Foreign => Self::Foreign,
            Refusal::Pool => Self::Pool,
            Refusal::Region => Self::Region,
            Refusal::Cluster => Self::Cluster,
            Refusal::Own => Self::Own,
            Refusal::UnknownKey => Self::UnknownKey,
            Refusal::Forged => Self::Forged,
            Refusal::Replayed => Self::Replayed,
        }
    }
}

/// What passed the socket since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Packets sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets received, good and bad.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    dropped: [u64; Dropped::ALL.len()],
}

impl Traffic {
    /// How many packets were dropped for a reason.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped[reason as usize]
    }

    /// How many packets were dropped.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

/// Counts; shared between the driver's task and its handles.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    lines: Mutex<[Option<Line>; Dropped::ALL.len()]>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    written: Instant,
    unsaid: u64,
}

impl Counters {
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a dropped packet. Returns how many were dropped for this reason since its last log line when it is time
    /// for another.
    pub(crate) fn dropped(&self, reason: Dropped, now: Instant) -> Option<u64> {
        self.dropped[reason as usize].fetch_add(1, Ordering::Relaxed);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut lines[reason as usize] {
            Some(line) if now.duration_since(line.written) < LINE_EVERY => {
                line.unsaid += 1;
                None
            }
            line => {
                let unsaid = line.map_or(0, |line| line.unsaid);
                *line = Some(Line { written: now, unsaid: 0 });
                Some(unsaid + 1)
            }
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            sent: read(&self.sent),
            sent_bytes: read(&self.sent_bytes),
            received: read(&self.received),
            received_bytes: read(&self.received_bytes),
            dropped: self.dropped.each_ref().map(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_makes_one_line_and_the_next_says_how_many() {
        let (counters, start) = (Counters::default(), Instant::now());
        let lines = (0..1_000).filter_map(|_| counters.dropped(Dropped::Forged, start)).collect::<Vec<_>>();
        assert_eq!(lines, [1]);
        assert_eq!(counters.dropped(Dropped::Replayed, start), Some(1));
        assert_eq!(counters.dropped(Dropped::Forged, start + LINE_EVERY), Some(1_000));
        let traffic = counters.traffic();
        assert_eq!((traffic.dropped(Dropped::Forged), traffic.dropped_in_all()), (1_001, 1_002));
    }

    #[test]
    fn each_reason_has_its_place() {
        for (at, reason) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }
}
