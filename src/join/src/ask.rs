use std::{net::SocketAddr, time::Duration};

use runtime::Instant;
use transport::{
    Authorities, Connection, CredentialsError, DialError, Expect, Opened, Peer, Plane, Region, RequestError,
    Scope, Transport, ca::Fingerprint,
};

use crate::{
    Abroad, AuthMode, Config, KeyOrigin, KeyRing, PacketKey, Refusal, RegionKey, Registry, Server, Token,
    TrustRegionError, TrustWish,
    wire::{self, Answer, Ask, Direction, Federate, Federated, LIST_MAX, Proven},
};

/// A question and its answer, with a token's commit in between, take no longer.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks one question. With a key, the answer must be proven by the same key; a refusal need not be, since it gives nothing.
pub(crate) async fn ask(
    connection: &Connection,
    question: &Ask,
    key: Option<&RegionKey>,
    deadline: Instant,
) -> Result<Answer, AskError> {
    let binding = connection.channel_binding();
    let frame = wire::encode(question, Direction::Ask, &binding, key);
    let answer = connection.request(frame, deadline).await?;
    let keys = key.map(std::slice::from_ref).unwrap_or_default();
    let (answer, proven) = wire::decode(&answer, Direction::Answer, &binding, keys)
        .map_err(|error| AskError::Unreadable { what: error.to_string() })?;
    match answer {
        Answer::Refused(refusal) => Err(AskError::Refused(refusal)),
        answer if key.is_none() || matches!(proven, Proven::Key(_)) => Ok(answer),
        _ => Err(AskError::Unproven),
    }
}

/// What it came to that another region was asked for trust.
#[derive(Clone, Debug)]
pub struct Federation {
    /// The other region.
    pub region: Region,
    /// How the two came to know each other.
    pub auth: AuthMode,
}

/// Asks a server of another region that the two trust each other, and has this region commit its side.
///
/// # Errors
///
/// When the other is not reached, refuses or does not prove itself, or this region could not commit; asking again is harmless.
pub async fn federate(
    transport: &dyn Transport,
    addr: SocketAddr,
    config: &Config,
    registry: &dyn Registry,
    token: Option<&Token>,
    deadline: Instant,
) -> Result<Federation, AskError> {
    let authority = registry.authority();
    let (plane, expect) = match (&authority, token) {
        (None, _) => (Plane::Federation, Expect::Admitted),
        (Some(_), Some(token)) => (Plane::Join, Expect::Authority(token.authority())),
        (Some(_), None) => (Plane::Join, Expect::FirstContact),
    };
    let Opened { connection, inbound: _inbound } = transport.dial(addr, plane, expect).await?;
    let keys = registry.keys();
    let ring = keys.ring().ok_or(AskError::NotServer)?;
    let proof = token.is_none() && ring.origin == KeyOrigin::Configured && plane == Plane::Join;
    let question = Ask::Federate(Federate {
        region: config.identity.region.clone(),
        node_id: config.identity.node_id,
        authority_pem: authority.map(|authority| authority.certificate_pem().to_owned()),
        wide_keys: wide_keys(ring),
        servers: known_servers(registry),
        secret: token.map(|token| token.expose_secret().to_vec()),
    });
    let answer = ask(&connection, &question, proof.then(|| &ring.keys()[0]), deadline).await?;
    let Answer::Federated(Federated { region, authority_pem, wide_keys, servers, auth }) = answer else {
        return Err(AskError::Unexpected);
    };
    if region == config.identity.region || token.is_some_and(|token| *token.region() != region) {
        return Err(AskError::Refused(Refusal::WrongRegion { region }));
    }
    if let Some(pem) = &authority_pem {
        check_authority(&region, pem)?;
        if let Some(token) = token
            && Fingerprint::of_pem(pem)? != token.authority()
        {
            return Err(AskError::Unproven);
        }
    }
    registry.trust_region(TrustWish::new(&region, authority_pem, &servers)).await?;
    registry.meet(Abroad { region: region.clone(), servers, wide_keys });
    Ok(Federation { region, auth })
}

/// Tells a server of a trusted region what is to be known of this one, and asks the same.
///
/// # Errors
///
/// When the other is not reached, is of another region, or does not trust this one; asking again is harmless.
pub async fn exchange(
    transport: &dyn Transport,
    addr: SocketAddr,
    region: &Region,
    registry: &dyn Registry,
    deadline: Instant,
) -> Result<Abroad, AskError> {
    let dial = transport.dial(addr, Plane::Federation, Expect::Admitted);
    let dialled = tokio::time::timeout_at(deadline, dial).await.map_err(|_| AskError::Late)?;
    let Opened { connection, inbound: _inbound } = dialled?;
    let question = Ask::Exchange(own_abroad(transport.identity().region, registry)?);
    let answer = ask(&connection, &question, None, deadline).await?;
    let Answer::Exchanged(abroad) = answer else { return Err(AskError::Unexpected) };
    let proven =
        matches!(connection.peer(), Peer::Known { identity, .. } if identity.region == abroad.region);
    if !proven || abroad.region != *region {
        return Err(AskError::Refused(Refusal::WrongRegion { region: abroad.region }));
    }
    Ok(abroad)
}

/// What is to be known of this region.
pub(crate) fn own_abroad(region: Region, registry: &dyn Registry) -> Result<Abroad, AskError> {
    let keys = registry.keys();
    let ring = keys.ring().ok_or(AskError::NotServer)?;
    Ok(Abroad { region, servers: known_servers(registry), wide_keys: wide_keys(ring) })
}

pub(crate) fn wide_keys(ring: &KeyRing) -> Vec<PacketKey> {
    ring.keys().iter().map(RegionKey::wide_key).collect()
}

pub(crate) fn known_servers(registry: &dyn Registry) -> Vec<Server> {
    let mut servers = registry.servers();
    servers.truncate(LIST_MAX);
    servers
}

/// Checks that a text that came from elsewhere is an authority's certificate.
pub(crate) fn check_authority(region: &Region, pem: &str) -> Result<(), CredentialsError> {
    Authorities::none().trust_pem(Scope::Region(region.clone()), pem).map(drop)
}

/// Why a question has no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody was reached.
    #[error("could not connect")]
    Dial(#[from] DialError),
    /// It took too long to connect.
    #[error("could not connect in time")]
    Late,
    /// No answer came.
    #[error("no answer")]
    Request(#[from] RequestError),
    /// Turned away; the reason says what to do.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The one that answered does not have our key, or not the token's authority.
    #[error(
        "the agent that answered does not prove that it knows the gossip key ('encrypt') or stands under the \
         token's authority: it is another region, or someone stands in between"
    )]
    Unproven,
    /// The region is another than the one that the agent is part of.
    #[error(
        "it is another cluster than the one that this agent is part of: give an address of its own, or remove the \
         agent's data directory if it is to move"
    )]
    OtherCluster,
    /// Not an answer.
    #[error("the answer can not be read: {what}")]
    Unreadable {
        /// What is wrong.
        what: String,
    },
    /// An answer to something else.
    #[error("the answer is to another question")]
    Unexpected,
    /// Only servers can.
    #[error("only a server can join regions together")]
    NotServer,
    /// What was given is no good.
    #[error("the authority that was given can not be used")]
    Credentials(#[from] CredentialsError),
    /// This region did not commit its side.
    #[error("trust was not written down")]
    Trust(#[from] TrustRegionError),
}
