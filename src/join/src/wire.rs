//! What is said on the Join plane, and on the Rpc plane by agents that have a certificate.
//!
//! One frame asks, one answers. A frame is `wfj`, a version, and the message in postcard; between the two stands a MAC under
//! the region's key where the sender has one. The MAC covers the connection's channel binding, the direction and the
//! message, so that it is worth nothing on another connection: who stands in between can pass it on, and is found out.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use ring::hmac;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use transport::{ClusterId, NodeId, Region, Role};

use crate::{
    HandedKeys, PacketKey, RegionKey,
    founding::{Candidate, Message},
};

const MAGIC: [u8; 3] = *b"wfj";
/// Rises when a message changes in a way that the other end must know.
const VERSION: u8 = 1;
const MAC_LEN: usize = 32;
/// The longest frame: servers, members and authorities of a region with room to spare.
pub(crate) const FRAME_LEN_MAX: usize = 256 * 1024;
/// Servers, members or candidates in one message.
pub(crate) const LIST_MAX: usize = 128;
/// Names of nodes end where host names end.
const NAME_LEN_MAX: usize = 255;

/// A server of a region, and where it is reached.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Its id.
    pub node_id: NodeId,
    /// Its name.
    pub name: String,
    /// Where its transport is.
    pub rpc: SocketAddr,
    /// Where its gossip is.
    pub gossip: SocketAddr,
}

/// How an agent and its region came to know each other.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// It founded the region.
    Founder,
    /// By certificates that the user made.
    Tls,
    /// By a token.
    Token,
    /// By the region's key.
    Key,
    /// Not at all: each trusted the other on first contact.
    Trust,
}

impl AuthMode {
    /// The word for tables and tags.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Founder => "founder",
            Self::Tls => "tls",
            Self::Token => "token",
            Self::Key => "key",
            Self::Trust => "trust",
        }
    }
}

impl fmt::Display for AuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an agent asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    Greet,
    Enrol(Enrol),
    Federate(Federate),
    Founding(Speaker, Message),
    /// With a certificate of the region only: the next one for the same agent.
    Renew {
        public_key: Vec<u8>,
    },
    /// With a certificate of the region only: the keys, after a rotation that the agent missed.
    Keys,
    /// On the Federation plane only: a server of a trusted region says what is to be known of it, and asks the same.
    Exchange(Abroad),
    /// Of a server that waits to be told whom to join: that it join this region.
    Invite(Invitation),
}

/// Where a region is that a server is asked to join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Invitation {
    pub(crate) region: Region,
    pub(crate) servers: Vec<Server>,
}

/// What servers of two regions that trust each other tell each other. Said over mutual TLS only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Abroad {
    /// The region of whoever says it.
    pub region: Region,
    /// Its servers.
    pub servers: Vec<Server>,
    /// What packets of its servers are sealed with in the wide pool.
    pub wide_keys: Vec<PacketKey>,
}

/// Who speaks of founding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Speaker {
    pub(crate) region: Region,
    pub(crate) node_id: NodeId,
}

/// A wish to become part of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Enrol {
    pub(crate) role: Role,
    pub(crate) region: Region,
    pub(crate) node_id: NodeId,
    pub(crate) name: String,
    /// Absent: it has a certificate of its own.
    pub(crate) public_key: Option<Vec<u8>>,
    pub(crate) secret: Option<Vec<u8>>,
}

/// A wish of another region's server that the two trust each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Federate {
    pub(crate) region: Region,
    pub(crate) node_id: NodeId,
    /// Absent: the user's authority stands behind both.
    pub(crate) authority_pem: Option<String>,
    pub(crate) wide_keys: Vec<PacketKey>,
    pub(crate) servers: Vec<Server>,
    pub(crate) secret: Option<Vec<u8>>,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Answer {
    Greeting(Greeting),
    Enrolled(Box<Enrolled>),
    Federated(Federated),
    Founding(Speaker, Message),
    Renewed(Renewed),
    Keys(HandedKeys),
    Refused(Refusal),
    Exchanged(Abroad),
    Invited,
}

/// Who an agent is and whom it knows. Nothing secret is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) region: Region,
    pub(crate) role: Role,
    pub(crate) node_id: NodeId,
    pub(crate) name: String,
    /// Of the region that it is part of.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) servers: Vec<Server>,
    /// Of a region that is not there yet: itself and those that it has met.
    pub(crate) candidates: Vec<Candidate>,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Issued {
    pub(crate) chain_pem: String,
    pub(crate) authority_pem: String,
    /// To servers only.
    pub(crate) authority_key_pem: Option<String>,
}

/// Everything that makes an agent part of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Enrolled {
    pub(crate) cluster: ClusterId,
    /// Absent: the user makes the region's certificates.
    pub(crate) issued: Option<Issued>,
    pub(crate) keys: HandedKeys,
    pub(crate) servers: Vec<Server>,
    pub(crate) regions: Vec<(Region, String)>,
    pub(crate) auth: AuthMode,
}

/// What the other region has for this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Federated {
    pub(crate) region: Region,
    pub(crate) authority_pem: Option<String>,
    pub(crate) wide_keys: Vec<PacketKey>,
    pub(crate) servers: Vec<Server>,
    pub(crate) auth: AuthMode,
}

/// The next certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Renewed {
    pub(crate) issued: Issued,
    pub(crate) keys: HandedKeys,
    pub(crate) regions: Vec<(Region, String)>,
}

/// Why an agent is turned away, and what to do. Nothing was changed for it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// It belongs elsewhere.
    #[error("this is region {region}: set 'region = \"{region}\"', or give an address of your own region")]
    WrongRegion {
        /// The region of the one that answers.
        region: Region,
    },
    /// There is no region to join yet.
    #[error("no region has been founded here yet")]
    NotFounded,
    /// A client answers, and it issues nothing.
    #[error("a client can not admit anybody, ask a server")]
    NotServer,
    /// The region demands a token.
    #[error(
        "this region demands a token: make one with 'wayfarer server token create' and give it with '-token'"
    )]
    TokenRequired,
    /// The token is no good.
    #[error("{reason}")]
    Token {
        /// In the region's words.
        reason: String,
    },
    /// The region has a key and the joiner needs it.
    #[error("servers of this region need its gossip key ('encrypt') or a token: give either")]
    KeyRequired,
    /// The joiner has another key.
    #[error("the gossip key ('encrypt') is not this region's: give the right one, or a token instead")]
    KeyWrong,
    /// The id is in use.
    #[error(
        "node id {node_id} is in use by an agent that is alive: an agent needs a data directory of its own"
    )]
    NodeAlive {
        /// The id.
        node_id: NodeId,
    },
    /// The id was someone's who had another key.
    #[error(
        "node id {node_id} is known with another certificate: give a token or the gossip key, or start the agent with its old tls directory, if the certificate there is still valid"
    )]
    NodeKnown {
        /// The id.
        node_id: NodeId,
    },
    /// The name of a server is in use.
    #[error("a server named {name:?} is part of the region already: choose another name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The region is trusted with another authority.
    #[error(
        "region {region} is trusted already, with another authority: use a token ('wayfarer server token create -role region'), or forget the old one first"
    )]
    RegionKnown {
        /// The region.
        region: Region,
    },
    /// The user makes the certificates.
    #[error("this region's certificates are made by its operator: give this agent one in its 'tls' block")]
    OwnCertificates,
    /// Only with a certificate.
    #[error("that takes a certificate of this region")]
    CertificateRequired,
    /// Too many questions from one address.
    #[error("too many questions from this address, ask again later")]
    TooMany,
    /// It could not be done at this moment.
    #[error("not possible at this moment, ask again: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// It can not be read.
    #[error("the question can not be read: {what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },
}

impl Refusal {
    /// Whether asking again, without anybody changing anything, may end otherwise.
    pub fn passes(&self) -> bool {
        match self {
            Self::NotFounded
            | Self::NotServer
            | Self::NodeAlive { .. }
            | Self::TooMany
            | Self::Unavailable { .. } => true,
            Self::WrongRegion { .. }
            | Self::TokenRequired
            | Self::Token { .. }
            | Self::KeyRequired
            | Self::KeyWrong
            | Self::NodeKnown { .. }
            | Self::NameTaken { .. }
            | Self::RegionKnown { .. }
            | Self::OwnCertificates
            | Self::CertificateRequired
            | Self::Malformed { .. } => false,
        }
    }
}

/// Which way a frame goes: a question that is sent back is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    Ask,
    Answer,
}

/// How the sender of a frame proves itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Proven {
    /// It has this key.
    Key(RegionKey),
    /// It shows no key.
    Nothing,
    /// It shows a key that is not among ours.
    OtherKey,
}

/// Whether bytes are meant for this crate, on a plane that others use too.
pub(crate) fn is_frame(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Writes a frame.
pub(crate) fn encode<T: Serialize>(
    message: &T,
    direction: Direction,
    binding: &[u8; 32],
    key: Option<&RegionKey>,
) -> Bytes {
    let body = postcard::to_stdvec(message).expect("plain data, and a vector takes it");
    let mut frame = Vec::with_capacity(MAGIC.len() + 2 + MAC_LEN + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.push(VERSION);
    match key {
        Some(key) => {
            frame.push(1);
            frame.extend_from_slice(hmac_of(key, direction, binding, &body).as_ref());
        }
        None => frame.push(0),
    }
    frame.extend_from_slice(&body);
    frame.into()
}

/// Reads a frame, and finds which of `keys` its sender has.
pub(crate) fn decode<T: DeserializeOwned>(
    frame: &[u8],
    direction: Direction,
    binding: &[u8; 32],
    keys: &[RegionKey],
) -> Result<(T, Proven), FrameError> {
    if frame.len() > FRAME_LEN_MAX {
        return Err(FrameError::TooLong { len: frame.len() });
    }
    let rest = frame.strip_prefix(&MAGIC).ok_or(FrameError::Unreadable)?;
    let (version, rest) = rest.split_first().ok_or(FrameError::Unreadable)?;
    if *version != VERSION {
        return Err(FrameError::Version { theirs: *version });
    }
    let (mac, body) = match rest.split_first() {
        Some((0, body)) => (None, body),
        Some((1, rest)) => {
            let (mac, body) = rest.split_at_checked(MAC_LEN).ok_or(FrameError::Unreadable)?;
            (Some(mac), body)
        }
        Some(_) | None => return Err(FrameError::Unreadable),
    };
    let proven = match mac {
        None => Proven::Nothing,
        Some(mac) => {
            let data = mac_data(direction, binding, body);
            let fits = |key: &&RegionKey| hmac::verify(&key.proof_key(), &data, mac).is_ok();
            keys.iter().find(fits).cloned().map_or(Proven::OtherKey, Proven::Key)
        }
    };
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok((message, proven)),
        Ok(_) | Err(_) => Err(FrameError::Unreadable),
    }
}

fn hmac_of(key: &RegionKey, direction: Direction, binding: &[u8; 32], body: &[u8]) -> hmac::Tag {
    hmac::sign(&key.proof_key(), &mac_data(direction, binding, body))
}

fn mac_data(direction: Direction, binding: &[u8; 32], body: &[u8]) -> Vec<u8> {
    let label: &[u8] = match direction {
        Direction::Ask => b"wayfarer join 1 ask",
        Direction::Answer => b"wayfarer join 1 answer",
    };
    let mut data = Vec::with_capacity(label.len() + 1 + binding.len() + body.len());
    data.extend_from_slice(label);
    data.push(0);
    data.extend_from_slice(binding);
    data.extend_from_slice(body);
    data
}

impl Ask {
    /// Checks what is not in the types: lengths that a stranger chose.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Enrol(enrol) if enrol.name.len() > NAME_LEN_MAX => {
                Err(format!("a name has at most {NAME_LEN_MAX} bytes"))
            }
            Self::Founding(_, message) => message.check(LIST_MAX, NAME_LEN_MAX),
            Self::Federate(Federate { servers, wide_keys, .. })
            | Self::Exchange(Abroad { servers, wide_keys, .. })
                if servers.len() > LIST_MAX || wide_keys.len() > LIST_MAX =>
            {
                Err(format!("a region names at most {LIST_MAX} servers and keys"))
            }
            Self::Greet
            | Self::Enrol(_)
            | Self::Federate(_)
            | Self::Renew { .. }
            | Self::Keys
            | Self::Exchange(_)
            | Self::Invite(_) => Ok(()),
        }
    }
}

/// Bytes are no frame of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("it is no message of joining")]
    Unreadable,
    #[error("it has version {theirs}, this agent speaks {VERSION}: upgrade the older one")]
    Version { theirs: u8 },
    #[error("it has {len} bytes, more than {FRAME_LEN_MAX}")]
    TooLong { len: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: [u8; 32] = [1; 32];

    fn read(frame: &[u8], binding: &[u8; 32], keys: &[RegionKey]) -> Result<(Ask, Proven), FrameError> {
        decode(frame, Direction::Ask, binding, keys)
    }

    #[test]
    fn a_key_is_proven_on_its_own_connection_and_in_its_own_direction_only() {
        let (key, other) = (RegionKey::generate(), RegionKey::generate());
        let frame = encode(&Ask::Greet, Direction::Ask, &BINDING, Some(&key));
        let both = [other.clone(), key.clone()];
        assert_eq!(read(&frame, &BINDING, &both), Ok((Ask::Greet, Proven::Key(key.clone()))));
        assert_eq!(read(&frame, &BINDING, &[other]), Ok((Ask::Greet, Proven::OtherKey)));
        assert_eq!(read(&frame, &[2; 32], &both), Ok((Ask::Greet, Proven::OtherKey)));
        let back = decode::<Ask>(&frame, Direction::Answer, &BINDING, &both);
        assert_eq!(back, Ok((Ask::Greet, Proven::OtherKey)));
        let bare = encode(&Ask::Greet, Direction::Ask, &BINDING, None);
        assert_eq!(read(&bare, &BINDING, &both), Ok((Ask::Greet, Proven::Nothing)));
    }

    #[test]
    fn rubbish_is_refused() {
        let frame = encode(&Ask::Keys, Direction::Ask, &BINDING, None);
        assert!(is_frame(&frame));
        for cut in 0..frame.len() {
            assert!(read(&frame[..cut], &BINDING, &[]).is_err(), "{cut}");
        }
        let mut longer = frame.to_vec();
        longer.push(0);
        assert_eq!(read(&longer, &BINDING, &[]), Err(FrameError::Unreadable));
        longer[3] = 9;
        assert_eq!(read(&longer, &BINDING, &[]), Err(FrameError::Version { theirs: 9 }));
        assert!(matches!(read(&vec![0; FRAME_LEN_MAX + 1], &BINDING, &[]), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn version_one_stays_as_it_is() {
        let enrol = Ask::Enrol(Enrol {
            role: Role::Client,
            region: Region::new("here").expect("a good name"),
            node_id: NodeId([3; 16]),
            name: "a".into(),
            public_key: Some(vec![4, 5]),
            secret: None,
        });
        let mut expected = b"wfj\x01\x00\x01\x01\x04here".to_vec();
        expected.extend([3; 16]);
        expected.extend([1, b'a', 1, 2, 4, 5, 0]);
        assert_eq!(encode(&enrol, Direction::Ask, &BINDING, None), expected);
    }
}
