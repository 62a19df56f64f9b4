//! The real transport: QUIC by quinn, TLS 1.3 by rustls.

mod link;
mod port;
mod settings;
mod socket;
mod tls;

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use quinn::VarInt;
use rustls_pki_types::CertificateDer;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc},
    time::timeout,
};
use tracing::{debug, info, warn};

use self::{
    link::{QuicLink, closed_from},
    settings::Side,
    tls::Tls,
};
use crate::{
    config::Config,
    connection::Opened,
    credentials::Credentials,
    error::{CloseCode, DialError, ReloadError},
    greeting::{self, Local},
    host::Host,
    identity::{Boot, CertifiedName, ClusterId, Identity, Role, certificate_dns_name},
    link::Link,
    plane::{self, Plane},
    transport::{Acceptor, Bound, Expect, Transport},
    verify::{ServerTrust, certified_name},
};

/// Connections that wait for the acceptor. When it is behind, handshakes wait, and further diallers with them.
const ACCEPTED_MAX: usize = 64;
/// Closed ports that connections have not heard of yet; one that misses some finds out by itself.
const GONE_MAX: usize = 16;
/// How long closing waits for peers to hear of it.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// One UDP port, and all connections of an agent on it. An agent whose role is client, or that has no certificate yet,
/// answers on the join plane only.
pub struct Quic {
    local: Arc<Local>,
    endpoint: quinn::Endpoint,
    addr: SocketAddr,
    tls: ArcSwap<Tls>,
    /// Addresses whose port was found closed.
    gone: broadcast::Sender<SocketAddr>,
}

impl Quic {
    /// Takes the port and starts to accept. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address can not be bound, or TLS can not be set up.
    pub fn bind(
        config: Config,
        credentials: &Credentials,
        boot: Boot,
        host: Arc<dyn Host>,
    ) -> Result<Bound<Self>, BindError> {
        let bind = config.bind;
        let socket = socket::bind(&config).map_err(|source| BindError::Bind { addr: bind, source })?;
        let tls = Tls::build(credentials, &config, &host).map_err(BindError::Tls)?;
        let local = Arc::new(Local::new(credentials.identity.clone(), boot, config, host));
        let endpoint = quinn::Endpoint::new(
            settings::endpoint(&local.config),
            Some(tls.server.clone()),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(|source| BindError::Bind { addr: bind, source })?;
        let addr = endpoint.local_addr().map_err(|source| BindError::Bind { addr: bind, source })?;
        info!(%addr, identity = %local.identity, "transport listens");
        let (accepted, acceptor) = mpsc::channel(ACCEPTED_MAX);
        let accept = accept_all(endpoint.clone(), local.clone(), accepted);
        local.host.spawn("transport-accept", Box::pin(accept));
        let (tls, gone) = (ArcSwap::from_pointee(tls), broadcast::Sender::new(GONE_MAX));
        let transport = Arc::new(Self { local, endpoint, addr, tls, gone });
        Ok(Bound { transport, acceptor: Acceptor::new(acceptor) })
    }

    async fn dial_now(&self, addr: SocketAddr, plane: Plane, expect: Expect) -> Result<Opened, DialError> {
        let local = &self.local;
        plane::check_dial(plane, expect, self.tls.load().provisional)?;
        if self.endpoint.open_connections() >= local.config.connections_max {
            return Err(DialError::Start("this agent has as many connections as it may".into()));
        }
        let config = self.client_config(plane, expect)?;
        let server_name = certificate_dns_name(Role::Server, &local.identity.region);
        let connection = self
            .endpoint
            .connect_with(config, addr, &server_name)
            .map_err(|error| DialError::Start(error.to_string()))?
            .await
            .map_err(|error| match error {
                quinn::ConnectionError::TimedOut => {
                    DialError::TimedOut { after: local.config.handshake_timeout }
                }
                other => DialError::from_closed(closed_from(&other)),
            })?;
        let link = QuicLink::dialled(connection, self.gone.clone());
        let certified = match expect {
            // A certificate that nothing vouches for proves nothing.
            Expect::FirstContact if plane == Plane::Join => None,
            Expect::Admitted | Expect::Node(_) | Expect::Authority(_) | Expect::FirstContact => {
                let name = certified_peer(&link).map_err(DialError::Handshake)?;
                let name =
                    name.ok_or_else(|| DialError::Handshake("the server showed no certificate".into()))?;
                if let Err(refusal) = plane::admit_listener(plane, &local.identity, &name) {
                    link.close(CloseCode::Refused, &refusal.to_string());
                    return Err(DialError::Unacceptable(refusal));
                }
                Some(name)
            }
        };
        greeting::greet_listener(local, Arc::new(link), plane, certified, expect).await
    }

    fn client_config(&self, plane: Plane, expect: Expect) -> Result<quinn::ClientConfig, DialError> {
        let tls = self.tls.load();
        let trust = match expect {
            Expect::Admitted | Expect::Node(_) => return Ok(tls.client(plane)),
            Expect::Authority(fingerprint) => ServerTrust::Fingerprint(fingerprint),
            Expect::FirstContact => ServerTrust::FirstContact,
        };
        tls::joiner(trust, &self.local.config, &self.local.host)
            .map_err(|error| DialError::Start(error.to_string()))
    }
}

impl Transport for Quic {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn identity(&self) -> Identity {
        self.local.identity.clone()
    }

    fn dial(
        &self,
        addr: SocketAddr,
        plane: Plane,
        expect: Expect,
    ) -> BoxFuture<'_, Result<Opened, DialError>> {
        let after = self.local.config.handshake_timeout;
        Box::pin(async move {
            timeout(after, self.dial_now(addr, plane, expect))
                .await
                .unwrap_or(Err(DialError::TimedOut { after }))
        })
    }

    fn reload(&self, credentials: &Credentials) -> Result<(), ReloadError> {
        let ours = &self.local.identity;
        credentials.check_same_agent(ours)?;
        let tls = Tls::build(credentials, &self.local.config, &self.local.host).map_err(ReloadError::Tls)?;
        self.endpoint.set_server_config(Some(tls.server.clone()));
        self.tls.store(Arc::new(tls));
        info!(identity = %ours, "credentials replaced");
        Ok(())
    }

    fn set_cluster(&self, cluster: ClusterId) {
        self.local.set_cluster(cluster);
    }

    fn is_closed(&self, addr: SocketAddr) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let closed = port::is_closed(addr).await;
            if closed {
                // Without connections nobody has to know.
                let _ = self.gone.send(addr);
            }
            closed
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.endpoint.close(CloseCode::Shutdown.to_wire().into(), b"agent is shutting down");
            // Peers that do not answer find out by their idle timeout.
            let _ = timeout(CLOSE_WAIT, self.endpoint.wait_idle()).await;
        })
    }
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quic").field("addr", &self.addr).field("local", &self.local).finish_non_exhaustive()
    }
}

/// Takes handshakes until the endpoint is closed. Diallers that come in numbers must first show that they can be
/// reached; beyond the limits they are turned away with the least effort.
async fn accept_all(endpoint: quinn::Endpoint, local: Arc<Local>, accepted: mpsc::Sender<Opened>) {
    let handshakes = Arc::new(Semaphore::new(local.config.handshakes_max));
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() >= local.config.connections_max {
            warn!(addr = %incoming.remote_address(), "too many connections; peer turned away");
            incoming.refuse();
            continue;
        }
        let crowded = handshakes.available_permits() <= local.config.handshakes_max / 2;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            // The peer comes back with a token; an error means that it had one, which was looked at just above.
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            warn!(addr = %incoming.remote_address(), "too many handshakes; peer turned away");
            incoming.refuse();
            continue;
        };
        let handshake = shake_hands(incoming, local.clone(), accepted.clone(), permit);
        local.host.spawn("transport-handshake", Box::pin(handshake));
    }
}

async fn shake_hands(
    incoming: quinn::Incoming,
    local: Arc<Local>,
    accepted: mpsc::Sender<Opened>,
    _permit: OwnedSemaphorePermit,
) {
    let addr = incoming.remote_address();
    let connection = match incoming.accept() {
        Ok(connecting) => timeout(local.config.handshake_timeout, connecting).await,
        Err(error) => Ok(Err(error)),
    };
    let connection = match connection {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            warn!(%addr, reason = %error, "peer refused in the handshake");
            return;
        }
        Err(_) => {
            debug!(%addr, "handshake took too long");
            return;
        }
    };
    let link = QuicLink::accepted(connection);
    let Some(plane) = link.plane() else {
        warn!(%addr, "peer asked for no plane");
        link.close(CloseCode::Refused, "no such plane");
        return;
    };
    let certified = match certified_peer(&link) {
        Ok(certified) => certified,
        Err(reason) => {
            warn!(%addr, %plane, reason, "peer refused");
            link.close(CloseCode::Refused, &reason);
            return;
        }
    };
    if plane::admit_dialler(plane, &local.identity, certified.as_ref()).is_ok() {
        link.widen(&settings::Budget::of(plane, Side::Accepted, &local.config));
    }
    greeting::admit(local, Arc::new(link), plane, certified, accepted).await;
}

/// Reads whom the peer's certificate names. TLS has judged the certificate already.
fn certified_peer(link: &QuicLink) -> Result<Option<CertifiedName>, String> {
    let Some(first) = link.peer_certificates().into_iter().next() else {
        return Ok(None);
    };
    certified_name(&CertificateDer::from(first)).map(Some).map_err(|error| error.to_string())
}

fn varint(value: usize) -> VarInt {
    u64::try_from(value).ok().and_then(|value| VarInt::from_u64(value).ok()).unwrap_or(VarInt::MAX)
}

/// Why an endpoint did not start. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not ours.
    #[error("could not listen on UDP {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS can not be set up.
    #[error("could not set up TLS")]
    Tls(#[source] rustls::Error),
}
