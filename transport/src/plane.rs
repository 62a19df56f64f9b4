use std::fmt;

use crate::{
    error::DialError,
    identity::{CertifiedName, ClusterId, Identity, NodeId, Region, Role},
    transport::Expect,
};

/// What a connection is for. Each plane is an application protocol of its own in the TLS handshake, and admits its
/// own peers: a client's certificate opens nothing that servers say among themselves.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Plane {
    /// Replication between the servers of one region.
    Raft,
    /// Requests of the agents of one region.
    Rpc,
    /// A client's session with a server: pushes, status, and streams opened by the server.
    Node,
    /// Requests between the servers of different regions.
    Federation,
    /// A newcomer asks for its certificate. The one who dials shows none. The only plane that clients answer on.
    Join,
}

impl Plane {
    /// All planes.
    pub const ALL: [Self; 5] = [Self::Raft, Self::Rpc, Self::Node, Self::Federation, Self::Join];

    /// The name in the TLS handshake. The digit rises when the plane's framing changes.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Raft => b"wf-raft/1",
            Self::Rpc => b"wf-rpc/1",
            Self::Node => b"wf-node/1",
            Self::Federation => b"wf-federation/1",
            Self::Join => b"wf-join/1",
        }
    }

    /// Finds the plane of a name in the TLS handshake.
    pub fn from_alpn(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|plane| plane.alpn() == name)
    }

    /// Whether both ends must belong to one region, and so to one cluster.
    fn within_region(self) -> bool {
        match self {
            Self::Raft | Self::Rpc | Self::Node => true,
            Self::Federation | Self::Join => false,
        }
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raft => "raft",
            Self::Rpc => "rpc",
            Self::Node => "node",
            Self::Federation => "federation",
            Self::Join => "join",
        })
    }
}

/// Why a peer was turned away. Nothing was changed for it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The plane needs a certificate.
    #[error("the {plane} plane needs a certificate and none was shown")]
    NoCertificate {
        /// The plane asked for.
        plane: Plane,
    },
    /// The plane is for servers.
    #[error("the {plane} plane admits servers only, the certificate is of a {role}")]
    Role {
        /// The plane asked for.
        plane: Plane,
        /// The peer's role.
        role: Role,
    },
    /// The plane stays within a region.
    #[error("the certificate is of region {theirs}, expected {ours}")]
    Region {
        /// Our region.
        ours: Region,
        /// The peer's region.
        theirs: Region,
    },
    /// The peer claims an id that its certificate does not carry.
    #[error("the certificate is of node {certified}, the peer claims {claimed}")]
    NodeId {
        /// In the certificate.
        certified: NodeId,
        /// In its greeting.
        claimed: NodeId,
    },
    /// Another agent than the one expected.
    #[error("node {found} answered, expected {expected}")]
    Unexpected {
        /// Who was expected.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// The peer belongs to another cluster.
    #[error("the peer belongs to another cluster; two clusters are never merged")]
    Cluster,
    /// The peer speaks another version of the greeting.
    #[error("the peer speaks version {theirs} of the transport, this agent speaks {ours}")]
    Version {
        /// Ours.
        ours: u16,
        /// Theirs.
        theirs: u16,
    },
}

/// Decides whether an agent that shows `peer` may open `plane` here.
pub(crate) fn admit_dialler(
    plane: Plane,
    own: &Identity,
    peer: Option<&CertifiedName>,
) -> Result<(), Refusal> {
    let Some(peer) = peer else {
        return match plane {
            Plane::Join => Ok(()),
            Plane::Raft | Plane::Rpc | Plane::Node | Plane::Federation => {
                Err(Refusal::NoCertificate { plane })
            }
        };
    };
    let servers_only = match plane {
        Plane::Raft | Plane::Federation => true,
        Plane::Rpc | Plane::Node | Plane::Join => false,
    };
    if servers_only && peer.role != Role::Server {
        return Err(Refusal::Role { plane, role: peer.role });
    }
    same_region(plane, own, peer)
}

/// Decides whether the agent that answered as `peer` is one that `plane` leads to. Servers answer; clients do on the join
/// plane alone, to tell which servers they know.
pub(crate) fn admit_listener(plane: Plane, own: &Identity, peer: &CertifiedName) -> Result<(), Refusal> {
    if peer.role != Role::Server && plane != Plane::Join {
        return Err(Refusal::Role { plane, role: peer.role });
    }
    same_region(plane, own, peer)
}

/// The planes that an agent answers on.
pub(crate) fn served(role: Role, provisional: bool) -> &'static [Plane] {
    match (role, provisional) {
        (Role::Server, false) => &Plane::ALL,
        (Role::Server, true) | (Role::Client, _) => &[Plane::Join],
    }
}

/// Decides whether an agent may dial at all: one without a certificate can only join.
pub(crate) fn check_dial(plane: Plane, expect: Expect, provisional: bool) -> Result<(), DialError> {
    let joins = match expect {
        Expect::Authority(_) | Expect::FirstContact => true,
        Expect::Admitted | Expect::Node(_) => false,
    };
    match (joins, plane) {
        (true, Plane::Join) => Ok(()),
        (true, plane) => Err(DialError::Start(format!("the {plane} plane takes no joiner's trust"))),
        (false, plane) if provisional => {
            Err(DialError::Start(format!("this agent has no certificate yet, the {plane} plane needs one")))
        }
        (false, _) => Ok(()),
    }
}

fn same_region(plane: Plane, own: &Identity, peer: &CertifiedName) -> Result<(), Refusal> {
    if plane.within_region() && peer.region != own.region {
        return Err(Refusal::Region { ours: own.region.clone(), theirs: peer.region.clone() });
    }
    Ok(())
}

/// Checks the node id that a peer claims against its certificate and against whom we meant to reach.
pub(crate) fn check_claim(
    certified: Option<&CertifiedName>,
    claimed: NodeId,
    expect: Option<&Expect>,
) -> Result<(), Refusal> {
    if let Some(certified) = certified.and_then(|name| name.node_id)
        && certified != claimed
    {
        return Err(Refusal::NodeId { certified, claimed });
    }
    match expect {
        Some(Expect::Node(expected)) if *expected != claimed => {
            Err(Refusal::Unexpected { expected: *expected, found: claimed })
        }
        Some(Expect::Node(_) | Expect::Admitted | Expect::Authority(_) | Expect::FirstContact) | None => {
            Ok(())
        }
    }
}

/// Checks that two agents of one region belong to one cluster. An agent that knows no cluster yet fits any.
pub(crate) fn check_cluster(
    plane: Plane,
    ours: Option<ClusterId>,
    theirs: Option<ClusterId>,
) -> Result<(), Refusal> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if plane.within_region() && ours != theirs => Err(Refusal::Cluster),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(role: Role, region: &str) -> CertifiedName {
        CertifiedName { role, region: Region::new(region).expect("a good name"), node_id: None }
    }

    fn own() -> Identity {
        Identity {
            role: Role::Server,
            region: Region::new("here").expect("a good name"),
            node_id: NodeId([1; 16]),
            name: String::new(),
        }
    }

    #[test]
    fn each_plane_admits_its_own() {
        let cases = [
            // plane, server here, server elsewhere, client here, client elsewhere, stranger
            (Plane::Raft, [true, false, false, false, false]),
            (Plane::Rpc, [true, false, true, false, false]),
            (Plane::Node, [true, false, true, false, false]),
            (Plane::Federation, [true, true, false, false, false]),
            (Plane::Join, [true, true, true, true, true]),
        ];
        let peers = [
            Some(certified(Role::Server, "here")),
            Some(certified(Role::Server, "elsewhere")),
            Some(certified(Role::Client, "here")),
            Some(certified(Role::Client, "elsewhere")),
            None,
        ];
        for (plane, admitted) in cases {
            for (peer, admitted) in peers.iter().zip(admitted) {
                let verdict = admit_dialler(plane, &own(), peer.as_ref());
                assert_eq!(verdict.is_ok(), admitted, "{plane} {peer:?}");
            }
        }
    }

    #[test]
    fn only_servers_answer_except_to_joiners() {
        for plane in Plane::ALL {
            let client = admit_listener(plane, &own(), &certified(Role::Client, "here"));
            assert_eq!(client.is_ok(), plane == Plane::Join);
            assert!(admit_listener(plane, &own(), &certified(Role::Server, "here")).is_ok());
            assert_eq!(Plane::from_alpn(plane.alpn()), Some(plane));
        }
    }

    #[test]
    fn clusters_of_one_region_do_not_mix() {
        let (a, b) = (Some(ClusterId([1; 16])), Some(ClusterId([2; 16])));
        assert_eq!(check_cluster(Plane::Raft, a, b), Err(Refusal::Cluster));
        assert!(check_cluster(Plane::Raft, a, None).is_ok());
        assert!(check_cluster(Plane::Federation, a, b).is_ok());
    }
}
