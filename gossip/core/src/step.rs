//! What goes in and what comes out.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::{Incarnation, Member, MemberId};

/// What happens to a member.
#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram arrived and was opened.
    Packet {
        /// Where it came from; answers go there.
        from: SocketAddr,
        /// Who sealed it. A body that speaks for another is refused.
        sender: MemberId,
        /// The opened bytes.
        bytes: Bytes,
    },
    /// Time passed: [`crate::Gossip::next_wake`] is due.
    Tick,
    /// Join by these addresses. They are kept, and tried until one answers and again whenever most members are gone.
    Join(Vec<SocketAddr>),
    /// Leave on purpose. [`Output::Departed`] comes when others had time to hear of it.
    Leave,
    /// Declare that a member left, as an operator does with one that will not come back. One that is alive refutes it.
    ForceLeave {
        /// Who.
        id: MemberId,
        /// Whether it stays in the list.
        prune: LeavePrune,
    },
    /// The other side's part of a synchronisation arrived over a stream: an answer of
    /// [`crate::Gossip::sync_answer`], or what [`crate::Gossip::sync_return`] gave.
    Seed(Bytes),
    /// Forget failed and left members whose time is over, without waiting for their timers.
    Reap,
}

/// What becomes of a member that was made to leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeavePrune {
    /// It stays listed as left.
    Keep,
    /// It is taken off every list at once.
    Prune,
}

/// What has to be done. Outputs are performed in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Seal and send; loss is expected.
    Send {
        /// To where.
        to: SocketAddr,
        /// At most `Config::packet_bytes_max`.
        bytes: Bytes,
    },
    /// Open a stream to this member and synchronise: send [`crate::Gossip::sync_request`], feed what comes back as
    /// [`Input::Seed`] and send it [`crate::Gossip::sync_return`]. When the stream fails, nothing is lost: it is asked for again.
    Sync {
        /// With whom.
        id: MemberId,
        /// Its gossip address.
        addr: SocketAddr,
    },
    /// Something changed.
    Event(Event),
    /// Write this value durably before performing any later output. Written ahead, so it is rare.
    Persist(Incarnation),
    /// Others know that we left; the socket may close.
    Departed,
}

/// What changed.
#[derive(Clone, Debug)]
pub enum Event {
    /// A member is there that was not known.
    Joined(Member),
    /// A member says something else about itself, or started another life.
    Updated(Member),
    /// We do not hear a member. Private, and often taken back.
    Suspected(Member),
    /// A suspected, failed or left member is there after all.
    Returned(Member),
    /// A member failed.
    Failed(Member),
    /// A member left on purpose.
    Left(Member),
    /// A failed or left member is not remembered any more.
    Forgotten(Member),
    /// Another agent at this address uses our id: two agents share one data directory. Neither is heard properly until one stops.
    Doubled {
        /// Where it is.
        addr: SocketAddr,
    },
}

/// What was counted since the start, and what is held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Packets given out.
    pub packets_out: u64,
    /// Their bytes, without seal and headers of the network.
    pub bytes_out: u64,
    /// Packets taken in.
    pub packets_in: u64,
    /// Packets that were no packets of ours.
    pub malformed: u64,
    /// Packets of another pool or wire version, or that spoke for another member.
    pub refused: u64,
    /// Packets, in or out, above the cap for one peer.
    pub capped: u64,
    /// Things dropped because a bounded list was full.
    pub overflowed: u64,
    /// Probes that were sent.
    pub probes: u64,
    /// Probes without an answer in time.
    pub probes_missed: u64,
    /// Suspicions that were taken back.
    pub suspicions_cleared: u64,
    /// Failures that we declared ourselves.
    pub declared: u64,
    /// Times we started another life because others held us for gone.
    pub renewals: u64,
    /// Steps that came too late.
    pub lags: u64,
    /// How unwell we are: zero is well.
    pub unwell: u32,
    /// News that wait to be told.
    pub backlog: usize,
}
