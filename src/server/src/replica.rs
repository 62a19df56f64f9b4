//! What a server is in Raft: its node, in one of its lives.

use std::{
    fmt, fs,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
};

use raft::Peer;
use transport::NodeId;

/// Counts how often a server began anew with an empty log. A log that was thrown away has promised and acknowledged
/// things, so the server that goes on without it must be another one in Raft.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Life(u16);

impl Life {
    /// The first life.
    pub const FIRST: Self = Self(1);

    /// Reads the life that a file keeps, and makes the file when there is none.
    ///
    /// # Errors
    ///
    /// When the file can not be read or made, or holds something else.
    pub fn keep(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let wrong = || {
                    let what = format!("{} does not hold a number from 1 to 65535", path.display());
                    io::Error::new(io::ErrorKind::InvalidData, what)
                };
                let number = text.trim().parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
                Ok(Self(number))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::FIRST.write(path)?;
                Ok(Self::FIRST)
            }
            Err(error) => Err(error),
        }
    }

    /// The life with this number, as agents tell each other; none when there can be no such.
    pub fn numbered(number: u64) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| *number > 0).map(Self)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }

    /// Puts a damaged log aside and begins the next life. The life is on the disk before the log is touched, so that
    /// whatever happens in between, an empty log never goes with an old life.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; then the next start finds the damage again.
    pub fn begin_anew(path: &Path, raft_dir: &Path) -> io::Result<Self> {
        let used_up = || io::Error::other("this server has begun anew 65535 times; give it another node id");
        let next = Self(Self::keep(path)?.0.checked_add(1).ok_or_else(used_up)?);
        next.write(path)?;
        raft::wipe(raft_dir)?;
        Ok(next)
    }

    fn write(self, path: &Path) -> io::Result<()> {
        let dir = path.parent().ok_or_else(|| io::Error::other("the file of lives has no directory"))?;
        fs::create_dir_all(dir)?;
        let draft = path.with_extension("tmp");
        let mut file = fs::File::create(&draft)?;
        writeln!(file, "{}", self.0)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        fs::File::open(dir)?.sync_all()
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One server's part in replication, for one of its lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replica {
    /// Which agent it is; certificates prove it.
    pub node_id: NodeId,
    /// Which life of it.
    pub life: Life,
    /// The name that members show, e.g. `server-1.global`.
    pub name: String,
    /// Where the other servers reach it.
    pub rpc_addr: SocketAddr,
}

impl Replica {
    /// The number that votes and quorums count.
    pub fn raft_id(&self) -> u64 {
        raft_id(self.node_id, self.life)
    }

    /// Writes it as a member of the group. The address carries the node id, so that whoever dials it knows whom to
    /// expect.
    pub fn to_peer(&self) -> Peer {
        Peer {
            id: self.raft_id(),
            addr: format!("{}@{}", self.node_id, self.rpc_addr),
            name: self.name.clone(),
        }
    }

    /// Reads a member of the group; none when its record was not made here or its id is not its node's.
    pub fn from_peer(peer: &Peer) -> Option<Self> {
        let (node_id, rpc_addr) = peer.addr.split_once('@')?;
        let node_id: NodeId = node_id.parse().ok()?;
        let life = life_of(peer.id);
        let replica = Self { node_id, life, name: peer.name.clone(), rpc_addr: rpc_addr.parse().ok()? };
        (replica.raft_id() == peer.id).then_some(replica)
    }
}

/// Bits of a Raft id that hold the life; the others hold what is made of the node id.
const LIFE_BITS: u32 = 16;

/// Makes the Raft id of a node in one of its lives. The upper bits depend on the node alone, so that a certificate
/// proves which ids its holder may speak for.
pub fn raft_id(node_id: NodeId, life: Life) -> u64 {
    node_bits(node_id) << LIFE_BITS | u64::from(life.0)
}

/// Tells whether a Raft id is of this node, in any of its lives.
pub(crate) fn is_of_node(raft_id: u64, node_id: NodeId) -> bool {
    raft_id >> LIFE_BITS == node_bits(node_id)
}

fn life_of(raft_id: u64) -> Life {
    Life(u16::try_from(raft_id & 0xffff).expect("sixteen bits were kept"))
}

/// Mixes a node id into 48 bits. Ids are random, so this only has to keep what they have; ids that an operator chose
/// may differ in few bits, which is why all of them count.
fn node_bits(NodeId(bytes): NodeId) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash >> LIFE_BITS) ^ (hash & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_survives_its_record_and_a_forged_one_is_nothing() {
        let replica = Replica {
            node_id: NodeId([7; 16]),
            life: Life(3),
            name: "server-7.global".to_owned(),
            rpc_addr: "10.0.0.7:4647".parse().expect("an address"),
        };
        let peer = replica.to_peer();
        assert_eq!(Replica::from_peer(&peer), Some(replica.clone()));
        assert!(is_of_node(peer.id, replica.node_id) && !is_of_node(peer.id, NodeId([8; 16])));
        assert_eq!(Replica::from_peer(&Peer { id: peer.id ^ 1 << 20, ..peer.clone() }), None);
        assert_eq!(Replica::from_peer(&Peer { addr: "10.0.0.7:4647".to_owned(), ..peer }), None);
    }

    #[test]
    fn a_new_life_is_another_id_and_lasts() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, log) = (dir.path().join("server/life"), dir.path().join("raft"));
        assert_eq!(Life::keep(&path).expect("it is made"), Life::FIRST);
        let next = Life::begin_anew(&path, &log).expect("an empty log can be put aside");
        assert_eq!(Life::keep(&path).expect("it is there"), next);
        assert_ne!(raft_id(NodeId([1; 16]), Life::FIRST), raft_id(NodeId([1; 16]), next));
        fs::write(&path, "none").expect("the file can be written");
        assert!(Life::keep(&path).is_err());
    }
}
