//! One member of a pool.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::{Config, ConfigError, Counters, Digest, DigestError, Input, Me, Member, MemberId, Output};

/// One member of a pool: everything it knows, and what it does next.
///
/// Time is monotonic since any moment, the same for all calls, and never goes back. The outputs of a step must be taken
/// before the next step.
#[derive(Debug)]
pub struct Gossip {
    me: Me,
    outputs: VecDeque<Output>,
    counters: Counters,
}

/// Why a member can not start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NewGossipError {
    /// The settings do not go together.
    #[error("gossip is configured wrongly")]
    Config(#[from] ConfigError),
    /// What we would say about ourselves can not be told.
    #[error("our digest can not be told")]
    Digest(#[from] DigestError),
    /// Nobody could answer us.
    #[error("gossip address {0} can not be reached by others: advertise a concrete address and port")]
    Unreachable(std::net::SocketAddr),
}

/// Why a message of a synchronisation is refused. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SyncError {
    /// It is no such message, or too large.
    #[error("message of a synchronisation is malformed")]
    Malformed,
    /// It is of another pool or of another version.
    #[error("synchronisation with another pool or another version of gossip")]
    Foreign,
}

impl Gossip {
    /// Starts alone. [`Input::Join`] makes it find others. The first outputs (a [`Output::Persist`] among them) are
    /// there at once.
    ///
    /// # Errors
    /// See [`NewGossipError`].
    pub fn new(config: Config, me: Me, now: Duration) -> Result<Self, NewGossipError> {
        config.check()?;
        me.digest.encode()?;
        if me.addr.ip().is_unspecified() || me.addr.port() == 0 {
            return Err(NewGossipError::Unreachable(me.addr));
        }
        let _started = now;
        Ok(Self { me, outputs: VecDeque::new(), counters: Counters::default() })
    }

    /// Takes what happened, and does all that is due by `now`. Late calls are noticed and make this member more careful
    /// with others. Total: no input makes it fail.
    pub fn step(&mut self, now: Duration, input: Input) {
        let _taken = (now, input);
    }

    /// The next thing to do. Call until it is empty.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to step with [`Input::Tick`] at the latest.
    pub fn next_wake(&self) -> Option<Duration> {
        None
    }

    /// Says something else about ourselves from here on.
    ///
    /// # Errors
    /// [`DigestError::TooLarge`]; the former digest stays.
    pub fn set_digest(&mut self, now: Duration, digest: Digest) -> Result<(), DigestError> {
        digest.encode()?;
        let _from = now;
        self.me.digest = digest;
        Ok(())
    }

    /// Ourselves, as others see us.
    pub fn me(&self) -> &Me {
        &self.me
    }

    /// Everyone who is remembered, ourselves included, in no order.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        std::iter::empty()
    }

    /// One member.
    pub fn member(&self, id: &MemberId) -> Option<Member> {
        self.members().find(|member| member.id == *id)
    }

    /// The opening message of a synchronisation, to send over the stream that [`Output::Sync`] asked for.
    pub fn sync_request(&self) -> Bytes {
        Bytes::new()
    }

    /// Answers the opening message of another member: everything in which we differ.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn sync_answer(&self, request: &[u8]) -> Result<Bytes, SyncError> {
        Err(if request.is_empty() { SyncError::Malformed } else { SyncError::Foreign })
    }

    /// What the other side lacks, told by its answer: the last message, from the opener. Empty when it lacks nothing.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn sync_return(&self, answer: &[u8]) -> Result<Bytes, SyncError> {
        Err(if answer.is_empty() { SyncError::Malformed } else { SyncError::Foreign })
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
