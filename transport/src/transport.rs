use std::{fmt, net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    ca::Fingerprint,
    connection::Opened,
    credentials::Credentials,
    error::{DialError, ReloadError},
    identity::{ClusterId, Identity, NodeId},
    plane::Plane,
};

/// One agent's way to its peers. Real over QUIC, simulated in memory; both pass the same suite.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// The address that peers reach this agent at, as far as it knows.
    fn local_addr(&self) -> SocketAddr;

    /// Who this agent is.
    fn identity(&self) -> Identity;

    /// Opens a connection to the server at `addr` (on the join plane: to any agent), within the handshake timeout. The peer
    /// has then accepted us too.
    fn dial(
        &self,
        addr: SocketAddr,
        plane: Plane,
        expect: Expect,
    ) -> BoxFuture<'_, Result<Opened, DialError>>;

    /// Uses other credentials for every handshake from then on. Connections that are open stay open.
    ///
    /// # Errors
    ///
    /// When the credentials are another agent's or TLS can not be set up; those before stay in use.
    fn reload(&self, credentials: &Credentials) -> Result<(), ReloadError>;

    /// Names the cluster that this agent belongs to. From then on it refuses peers of its region that name another.
    fn set_cluster(&self, cluster: ClusterId);

    /// Asks a machine whether the port at which a server listened is closed, which ends all connections that were dialled
    /// to it. False where it does not say so, or where the carrier has no such thing.
    fn is_closed(&self, _addr: SocketAddr) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Closes every connection with `CloseCode::Shutdown`, tells the peers, and ends the acceptor.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Whom a dialler means to reach, beyond what the plane demands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Expect {
    /// Any server that the plane leads to and whose authority is trusted.
    Admitted,
    /// This node.
    Node(NodeId),
    /// Join plane: a server whose certificate chains to the authority with this fingerprint (from a join token).
    Authority(Fingerprint),
    /// Join plane: whoever answers. The caller decides afterwards whether to trust it, and says so to the user.
    FirstContact,
}

/// Hands out the connections that peers have opened here, each one admitted.
#[derive(Debug)]
pub struct Acceptor {
    accepted: mpsc::Receiver<Opened>,
}

impl Acceptor {
    pub(crate) fn new(accepted: mpsc::Receiver<Opened>) -> Self {
        Self { accepted }
    }

    /// Waits for the next connection; `None` once the transport is closed.
    pub async fn accept(&mut self) -> Option<Opened> {
        self.accepted.recv().await
    }
}

/// A transport that has its address, and the other half of it.
#[derive(Debug)]
pub struct Bound<T: ?Sized> {
    /// The way to peers.
    pub transport: Arc<T>,
    /// The way of peers to us. Dropped, peers are turned away.
    pub acceptor: Acceptor,
}

impl<T: Transport> Bound<T> {
    /// Forgets which transport it is.
    pub fn erase(self) -> Bound<dyn Transport> {
        Bound { transport: self.transport, acceptor: self.acceptor }
    }
}
