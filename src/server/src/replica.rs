//! What a server is in Raft: its node, in one of its lives.

use std::net::SocketAddr;

use raft::Peer;
use transport::NodeId;

use crate::Life;

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
}
