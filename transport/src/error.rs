use std::{fmt, time::Duration};

use crate::{identity::Identity, plane::Refusal};

/// Why an agent closes a connection on purpose. The number travels to the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseCode {
    /// The work is done, or nobody holds the connection any more.
    Done,
    /// The peer may not open this plane.
    Refused,
    /// The agent is shutting down.
    Shutdown,
    /// A connection with the same peer has taken its place.
    Superseded,
    /// The peer broke the protocol.
    Protocol,
    /// A code that this version does not know.
    Other(u32),
}

impl CloseCode {
    pub(crate) fn to_wire(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Shutdown => 2,
            Self::Superseded => 3,
            Self::Protocol => 4,
            Self::Other(code) => code,
        }
    }

    pub(crate) fn from_wire(code: u64) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Refused,
            2 => Self::Shutdown,
            3 => Self::Superseded,
            4 => Self::Protocol,
            other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Closed {
    /// This agent closed it.
    #[error("closed by this agent: {reason}")]
    ByUs {
        /// Why.
        code: CloseCode,
        /// In words.
        reason: String,
    },
    /// The peer closed it.
    #[error("closed by the peer: {reason}")]
    ByPeer {
        /// Why.
        code: CloseCode,
        /// In words, as the peer put it; not to be trusted.
        reason: String,
    },
    /// The peer has lost its state: it was restarted.
    #[error("the peer was restarted")]
    Restarted,
    /// The peer's machine says that nobody has its port open: its process is gone.
    #[error("the peer's process is gone: its port is closed")]
    Vanished,
    /// Nothing was heard for the idle timeout.
    #[error("nothing was heard from the peer for the idle timeout")]
    TimedOut,
    /// TLS or QUIC itself failed.
    #[error("the connection failed: {0}")]
    Failed(String),
}

/// Why no connection was made. The peer may have seen an attempt, nothing more.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The address can not be dialled, or this endpoint is closed.
    #[error("could not start to dial: {0}")]
    Start(String),
    /// No answer in time.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// How long we waited.
        after: Duration,
    },
    /// This agent does not accept the one that answered.
    #[error("the peer that answered is not acceptable")]
    Unacceptable(#[source] Refusal),
    /// TLS failed: the peer's certificate is not trusted here, or ours is not trusted there.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// The peer turned us away.
    #[error("the peer refused: {reason}")]
    Refused {
        /// In words, as the peer put it.
        reason: String,
    },
    /// The connection ended during the greeting.
    #[error("the connection ended during the greeting")]
    Lost(#[source] Closed),
}

impl DialError {
    /// Turns the end of a connection during its greeting into what the dialler should know.
    pub(crate) fn from_closed(closed: Closed) -> Self {
        match closed {
            Closed::ByPeer { code: CloseCode::Refused, reason } => Self::Refused { reason },
            Closed::Failed(reason) => Self::Handshake(reason),
            Closed::ByUs { .. }
            | Closed::ByPeer { .. }
            | Closed::Restarted
            | Closed::Vanished
            | Closed::TimedOut => Self::Lost(closed),
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The body is larger than the peer takes. Nothing was sent.
    #[error("request of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The peer's limit.
        max: usize,
    },
    /// The deadline passed while the request waited for its turn. Nothing was sent.
    #[error("deadline passed before the request was sent")]
    NotSent,
    /// The peer has too many requests at hand. It did not run this one.
    #[error("the peer is busy")]
    Busy,
    /// Nobody serves requests at the other end. It did not run.
    #[error("the peer does not serve requests on this connection")]
    NotServed,
    /// The deadline passed after it was sent. It may have run.
    #[error("deadline passed before the answer came")]
    DeadlineExceeded,
    /// The handler ended without an answer. It may have run in part.
    #[error("the peer gave up on the request")]
    Abandoned,
    /// The handler answered with a failure of the transport's kind (its own errors travel in the body).
    #[error("the peer failed: {message}")]
    Failed {
        /// In words, as the peer put it.
        message: String,
    },
    /// The connection ended. The request may have run.
    #[error("the connection ended before the answer came")]
    Lost(#[source] Closed),
    /// The connection had ended already. Nothing was sent.
    #[error("the connection has ended")]
    Ended(#[source] Closed),
}

impl RequestError {
    /// Tells whether the peer may have run the request. One that has not may be sent again, elsewhere.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::NotSent | Self::Busy | Self::NotServed | Self::Ended(_) => false,
            Self::DeadlineExceeded | Self::Abandoned | Self::Failed { .. } | Self::Lost(_) => true,
        }
    }
}

/// Why no stream was opened. The peer has not seen it, or drops it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenStreamError {
    /// The header is larger than the peer takes.
    #[error("stream header of {len} bytes is over the limit of {max}")]
    HeaderTooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The peer permits no further stream, or takes no bytes.
    #[error("deadline passed before the stream was open")]
    DeadlineExceeded,
    /// The connection ended.
    #[error("the connection has ended")]
    Ended(#[source] Closed),
}

/// Why a datagram was not sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DatagramError {
    /// It does not fit one packet on this path.
    #[error("datagram of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit of the moment.
        max: usize,
    },
    /// The connection ended.
    #[error("the connection has ended")]
    Ended(#[source] Closed),
}

/// Why credentials were not replaced. Those before stay in use.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// They are another agent's.
    #[error("the credentials are those of {found}, this agent is {expected}")]
    OtherAgent {
        /// Who we are.
        expected: Box<Identity>,
        /// Whose they are.
        found: Box<Identity>,
    },
    /// TLS can not be set up.
    #[error("could not set up TLS")]
    Tls(#[source] rustls::Error),
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Refused => f.write_str("refused"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::Superseded => f.write_str("superseded"),
            Self::Protocol => f.write_str("protocol"),
            Self::Other(code) => write!(f, "code {code}"),
        }
    }
}
