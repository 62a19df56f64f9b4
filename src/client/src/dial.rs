//! Finds a server that answers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use runtime::Env;
use transport::{DialError, Expect, Opened, Plane, Transport};

/// Time that a server has to itself before the next one is dialled beside it. A handshake within a datacenter takes a few
/// milliseconds; a machine that is gone says nothing for as long as the transport waits.
const STAGGER: Duration = Duration::from_millis(250);

/// A server that gave no connection.
#[derive(Debug)]
pub struct Failure {
    /// Where it is.
    pub addr: SocketAddr,
    /// Why, with all causes.
    pub why: String,
}

/// Dials servers in their order, the next one as soon as one fails or takes long, and returns the first connection. The
/// others are given up.
pub async fn race(
    env: &Env,
    transport: &Arc<dyn Transport>,
    plane: Plane,
    addrs: &[SocketAddr],
    failures: &mut Vec<Failure>,
) -> Option<(SocketAddr, Opened)> {
    let mut rest = addrs.iter().copied();
    let mut dials = FuturesUnordered::new();
    loop {
        if let Some(addr) = rest.next() {
            dials.push(async move { (addr, transport.dial(addr, plane, Expect::Admitted).await) });
        }
        if dials.is_empty() {
            return None;
        }
        let waits = rest.len() > 0;
        let dialled = tokio::select! {
            biased;
            dialled = dials.next() => dialled,
            () = env.sleep(STAGGER), if waits => None,
        };
        match dialled {
            Some((addr, Ok(opened))) => return Some((addr, opened)),
            Some((addr, Err(error))) => failures.push(Failure { addr, why: explain(&error) }),
            None => {}
        }
    }
}

/// Says what went wrong, and what to do where that is known.
fn explain(error: &DialError) -> String {
    let mut text = crate::alloc_runner::chain(error);
    let advice = match error {
        DialError::Unacceptable(transport::Refusal::Cluster) => {
            Some("remove this agent's <data_dir>/tls to have it join the other one")
        }
        DialError::Refused { reason } if reason.contains("another cluster") => {
            Some("remove this agent's <data_dir>/tls to have it join the other one")
        }
        DialError::Handshake(_) => {
            Some("the agents trust different authorities: look at their tls blocks and at what they joined")
        }
        _ => None,
    };
    if let Some(advice) = advice {
        text.push_str("; ");
        text.push_str(advice);
    }
    text
}
