//! Notices at once that the leader's process has ended, and has patience with one that is short of processor time.
//!
//! A follower waits for the leader's lease and for its election time before it stands: silence does not tell a leader that died
//! from one that is slow. Where the process ended and the machine did not, the machine says so: the leader's port is
//! closed. Each follower looks for itself, and believes nobody else; so a leader that only some can not reach stays.
//!
//! A leader whose signs of life have been coming late is likely to be late again. Another one in its place would have its work to
//! do, and all that a change costs besides: so it is waited for longer, by what its pauses have been.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use raft::Leadership;
use runtime::Instant;

use crate::{replica::Replica, server::Inner};

/// Signs of life that are missed before the leader's port is looked at, in halves of their period: one may be late.
const QUIET_HALVES: u32 = 5;
/// So long the next one in the order of numbers leaves the election to those before it: an election takes a fraction of it, and
/// two that stand at once get half of the votes each.
const TURN: Duration = Duration::from_millis(120);
/// Wait between two tries to stand: the others may notice a moment later, and do not vote before.
const TRY_AGAIN: Duration = Duration::from_millis(30);
/// Tries before the usual way is left to do it.
const TRIES_MAX: u32 = 10;

/// A silence counts as one only when it lasts so many times as long as the longest pause lately. With pauses as they should
/// be, that is less than a lease, and changes nothing.
const PATIENCE: u32 = 4;
/// The longest wait for a leader that is short of time, in signs of life; 2.4 s with the usual period.
const PATIENCE_MAX: u32 = 30;
/// With each sign of life, so large a part of the longest pause is forgotten: half of it in some ten seconds.
const FORGET: u32 = 200;

/// When the leader was heard last, and how long its pauses have been.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    heard: Option<Instant>,
    /// The last sign of life of this leader; none before its first.
    counted: Option<Instant>,
    longest: Duration,
}

impl Pauses {
    /// Takes in a sign of life.
    pub(crate) fn hear(&mut self, now: Instant) {
        if let Some(before) = self.counted {
            let faded = self.longest - self.longest / FORGET;
            self.longest = faded.max(now.saturating_duration_since(before));
        }
        (self.heard, self.counted) = (Some(now), Some(now));
    }

    /// Returns when a leader was last heard.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Forgets how another leader was.
    fn begin(&mut self) {
        (self.counted, self.longest) = (None, Duration::ZERO);
    }

    /// Tells whether the leader has been silent for longer than it is wont to be.
    fn is_silent(&self, now: Instant, heartbeat: Duration) -> bool {
        let patience = (self.longest * PATIENCE).min(heartbeat * PATIENCE_MAX);
        self.counted.is_none_or(|heard| now.saturating_duration_since(heard) >= patience)
    }
}

/// Watches whoever leads, until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut leadership = inner.raft.leadership();
    let quiet = inner.heartbeat * QUIET_HALVES / 2;
    let mut known = Leadership::Stopped;
    loop {
        let current = leadership.borrow_and_update().clone();
        let now = inner.env.now();
        let (heard, silent) = {
            let mut pauses = inner.heard.lock();
            if current != known {
                pauses.begin();
                known = current.clone();
            }
            (pauses.heard(), pauses.is_silent(now, inner.heartbeat))
        };
        let follows = matches!(current, Leadership::Follower { .. });
        inner.raft.allow_election(!follows || silent);
        let wait = match current {
            Leadership::Stopped => return,
            Leadership::Leader { .. } | Leadership::Unknown { .. } => None,
            Leadership::Follower { leader, term } => {
                let due = heard.map_or(now, |heard| heard + quiet);
                if due <= now {
                    let addr = Replica::from_peer(&leader).map(|replica| inner.peers.newest(&replica));
                    if heard.is_some() && is_gone(&inner, addr, heard).await {
                        tracing::warn!(leader = %leader.name, term, "the leader's process has ended");
                        succeed(&inner, leader.id, term).await;
                    }
                    Some(quiet)
                } else {
                    Some(due.saturating_duration_since(now))
                }
            }
        };
        tokio::select! {
            biased;
            () = inner.env.shutdown().wait() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            () = sleep(&inner, wait) => {}
        }
    }
}

async fn sleep(inner: &Inner, wait: Option<Duration>) {
    match wait {
        Some(wait) => inner.env.sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Tells whether the leader's port is closed, and nothing came from it meanwhile.
async fn is_gone(inner: &Inner, addr: Option<SocketAddr>, heard: Option<Instant>) -> bool {
    let Some(addr) = addr else { return false };
    inner.peers.transport().is_closed(addr).await && inner.heard.lock().heard() == heard
}

/// Votes for another leader, or becomes it when it is this server's turn.
async fn succeed(inner: &Inner, leader: u64, term: u64) {
    inner.raft.give_up_leader(leader, term).await;
    let me = inner.me.raft_id();
    let voters = inner.raft.members().voter_ids();
    if !voters.contains(&me) {
        return;
    }
    let before = voters.iter().filter(|id| **id != leader && **id < me).count();
    inner.env.sleep(TURN * u32::try_from(before).unwrap_or(u32::MAX)).await;
    for _ in 0..TRIES_MAX {
        // An election that has begun shows in the term.
        if inner.raft.term() != term {
            return;
        }
        inner.raft.stand().await;
        inner.env.sleep(TRY_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(80);

    /// Hears signs of life with these pauses in milliseconds, and tells after how long a silence counts.
    fn patience_after(pauses: &[u64]) -> Duration {
        let env = runtime::Env::real(runtime::Shutdown::new());
        let (mut known, mut now) = (Pauses::default(), env.now());
        known.hear(now);
        for pause in pauses {
            now += Duration::from_millis(*pause);
            known.hear(now);
        }
        let silent = |millis: &u64| known.is_silent(now + Duration::from_millis(*millis), HEARTBEAT);
        Duration::from_millis((0..=10_000).find(silent).expect("no leader is waited for that long"))
    }

    #[test]
    fn a_leader_that_is_punctual_is_waited_for_no_longer_than_its_lease() {
        assert!(patience_after(&[80; 20]) < Duration::from_millis(400));
        assert!(patience_after(&[]).is_zero(), "one that was not heard yet has no pauses");
    }

    #[test]
    fn a_leader_that_has_been_late_is_waited_for_longer_within_a_bound_and_for_a_while() {
        let mut pauses = vec![80, 400, 80];
        assert!(patience_after(&pauses) > Duration::from_millis(1_500));
        pauses.push(60_000);
        assert_eq!(patience_after(&pauses), HEARTBEAT * PATIENCE_MAX);
        pauses.extend([80; 2_000]);
        assert!(patience_after(&pauses) < Duration::from_millis(400), "it has been punctual for minutes");
    }

    #[test]
    fn another_leader_begins_anew() {
        let env = runtime::Env::real(runtime::Shutdown::new());
        let (mut known, now) = (Pauses::default(), env.now());
        known.hear(now);
        known.hear(now + Duration::from_secs(1));
        known.begin();
        assert!(known.is_silent(now + Duration::from_secs(1), HEARTBEAT));
        known.hear(now + Duration::from_secs(3));
        known.hear(now + Duration::from_millis(3_080));
        assert!(known.is_silent(now + Duration::from_millis(3_500), HEARTBEAT));
        assert_eq!(known.heard(), Some(now + Duration::from_millis(3_080)));
    }
}
