//! A server that is part of a region asks one that waits to be told whom to join to join this one: the same as if its user
//! had named an address there. What is asked is a hint and no more; the invited one joins as any other does.

use std::net::SocketAddr;

use runtime::Instant;
use tokio::time::timeout_at;
use tracing::warn;
use transport::{Connection, Expect, Identity, Opened, Peer, Plane, Role, Transport};

use crate::{
    AskError, Config, KeyOrigin, Refusal, Registry, Server,
    ask::{ask, known_servers},
    wire::{Answer, Ask, Invitation, LIST_MAX, Proven},
};

/// Asks a server that waits for a region to join this one.
///
/// # Errors
///
/// When the other is not reached, does not wait, or does not prove itself where this region's users set a key.
pub async fn invite(
    transport: &dyn Transport,
    addr: SocketAddr,
    config: &Config,
    registry: &dyn Registry,
    deadline: Instant,
) -> Result<(), AskError> {
    let (plane, expect) = match registry.authority() {
        None => (Plane::Rpc, Expect::Admitted),
        Some(_) => (Plane::Join, Expect::FirstContact),
    };
    let dialled =
        timeout_at(deadline, transport.dial(addr, plane, expect)).await.map_err(|_| AskError::Late)?;
    let Opened { connection, inbound: _inbound } = dialled?;
    let keys = registry.keys();
    let ring = keys.ring().ok_or(AskError::NotServer)?;
    let proof = ring.origin == KeyOrigin::Configured && plane == Plane::Join;
    let region = config.identity.region.clone();
    let question = Ask::Invite(Invitation { region, servers: known_servers(registry) });
    match ask(&connection, &question, proof.then(|| &ring.keys()[0]), deadline).await? {
        Answer::Invited => Ok(()),
        _ => Err(AskError::Unexpected),
    }
}

/// Tells whether an agent that waits for a region may follow an invitation: whoever it would join by it is asked for no
/// less than if the user had named the address, but nobody named this one.
pub(crate) fn check(
    own: &Config,
    connection: &Connection,
    proven: &Proven,
    invitation: &Invitation,
) -> Result<(), Refusal> {
    let Identity { role, region, .. } = &own.identity;
    if invitation.region != *region {
        return Err(Refusal::WrongRegion { region: region.clone() });
    }
    if *role != Role::Server || invitation.servers.is_empty() || invitation.servers.len() > LIST_MAX {
        return Err(Refusal::Malformed { what: "servers alone are invited, by servers".to_owned() });
    }
    match (connection.peer(), proven) {
        (Peer::Known { identity, .. }, _) if identity.role == Role::Server && identity.region == *region => {}
        (Peer::Known { .. }, _) => return Err(Refusal::CertificateRequired),
        (Peer::Stranger, Proven::Key(_)) => {}
        // Its token says whom it joins, whoever names the address.
        (Peer::Stranger, _) if own.token.is_some() => {}
        (Peer::Stranger, Proven::OtherKey) if own.key.is_some() => return Err(Refusal::KeyWrong),
        (Peer::Stranger, _) if own.key.is_some() => return Err(Refusal::KeyRequired),
        (Peer::Stranger, _) if own.require_token => return Err(Refusal::TokenRequired),
        (Peer::Stranger, Proven::OtherKey | Proven::Nothing) => {
            warn!(addr = %connection.remote_addr(), "invited into a region on trust: nothing proves who asks");
        }
    }
    Ok(())
}

/// The addresses that an invitation names.
pub(crate) fn addresses(invitation: Invitation) -> Vec<SocketAddr> {
    invitation.servers.into_iter().map(|Server { rpc, .. }| rpc).collect()
}
