//! A closer look at a session whose node gossip doubts.
//!
//! A connection outlives its peer by many seconds. When gossip calls a node suspect or dead, or the node is not heard as often
//! as it was, the server that holds its session asks it whether it is there. No answer ends the session, which is the second signal, unless the machine still
//! answers: then the agent only stands still, and what it runs goes on. The leader has the machine of a node that nobody
//! has a session with looked at too, before it believes gossip.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use model::NodeId;
use transport::RequestError;

use crate::{Server, server::Inner};

/// Time for a node to answer. Lost packets are sent again within a fraction of it.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(700);
/// A timer that fires so late means that this server stood still itself; then silence says nothing.
const OWN_LAG_MAX: Duration = Duration::from_millis(200);

/// What a machine itself shows of an agent that does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostSign {
    /// The machine answers, and the agent's ports are open: it was stopped, or starves.
    Stalled,
    /// The machine answers, and nobody listens where the agent did.
    Closed,
    /// Nothing answers.
    Silent,
}

/// Which agent's machine is looked at, and what the server knows of where it is.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts {
    /// The node.
    pub node: NodeId,
    /// Where its connection comes from, if it has one.
    pub agent: Option<SocketAddr>,
    /// Where its API is, as its record says. Gossip's word may be missing or later.
    pub http: Option<SocketAddr>,
}

/// Looks at a machine without its agent's help.
pub trait HostProbe: Send + Sync + 'static {
    /// Looks at the machine of an agent. Takes a second at most.
    fn probe(&self, of: Whereabouts) -> BoxFuture<'_, HostSign>;
}

impl Server {
    /// Names what looks at machines. Without it, an agent that stands still counts as gone when gossip says so. Once named
    /// it stays.
    pub fn set_host_probe(&self, probe: Arc<dyn HostProbe>) {
        // A second one sees no more than the first.
        let _ = self.inner.host_probe.set(probe);
    }
}

/// Looks at a node's machine. Without anything that could, a node that does not answer has a machine that does not.
pub(crate) async fn look(inner: &Inner, node: NodeId, agent: Option<SocketAddr>) -> HostSign {
    let Some(probe) = inner.host_probe.get() else { return HostSign::Silent };
    let http = inner.hub.snapshot().node(node).and_then(|node| node.http_addr.parse().ok());
    probe.probe(Whereabouts { node, agent, http }).await
}

/// Asks a node whether it is there, and ends its session when it is not.
pub(crate) async fn verify(inner: Arc<Inner>, node: NodeId) {
    let Some(connection) = inner.sessions.connection(node) else { return };
    let deadline = inner.env.now() + ANSWER_TIMEOUT;
    let acknowledged = connection.acknowledged();
    // Both at once: a machine that is gone is known to be so the sooner.
    let machine = look(&inner, node, Some(connection.remote_addr()));
    tokio::pin!(machine);
    let answer = connection.request(Bytes::new(), deadline);
    tokio::pin!(answer);
    let (answer, sign) = tokio::select! {
        biased;
        answer = &mut answer => (answer, None),
        sign = &mut machine => (answer.await, Some(sign)),
    };
    match answer {
        Err(RequestError::DeadlineExceeded | RequestError::NotSent) => {}
        Ok(_) => return inner.sessions.beat(node, inner.env.now()),
        // Whatever else it says, it is there; and an end of the connection is told by the session.
        Err(_) => return,
    }
    if inner.env.now().saturating_duration_since(deadline) > OWN_LAG_MAX {
        return;
    }
    // An agent that starves acknowledges what it has no time to answer. Ending its session would only make more work.
    if connection.acknowledged() > acknowledged {
        tracing::debug!(%node, "agent does not answer, but it hears");
        return;
    }
    let sign = match sign {
        Some(sign) => sign,
        None => machine.await,
    };
    match sign {
        HostSign::Stalled => tracing::debug!(%node, "agent does not answer, but its machine does"),
        HostSign::Closed | HostSign::Silent => {
            tracing::info!(%node, ?sign, "node does not answer; its session is over");
            connection.close(transport::CloseCode::Done, "no answer");
        }
    }
}
