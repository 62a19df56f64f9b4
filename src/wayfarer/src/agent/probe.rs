//! Looks at the machine of an agent that does not answer.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use gossip_driver::PoolKind;
use runtime::Env;
use server::{HostProbe, HostSign, Whereabouts};
use tokio::net::{TcpStream, UdpSocket};

use super::region::Region;

/// Time for a machine to answer.
const PATIENCE: Duration = Duration::from_millis(800);

/// Time between two tries to open a connection: a lost packet is sent again only after a second, which is too late.
const TRY_AGAIN: Duration = Duration::from_millis(150);

/// Asks machines by their own means: the kernel takes connections for a process that stands still, and says that a port is
/// closed when nobody has it open.
pub struct Machines(pub Arc<Region>);

impl HostProbe for Machines {
    fn probe(&self, of: Whereabouts) -> BoxFuture<'_, HostSign> {
        Box::pin(async move {
            let members = self.0.gossip.members(PoolKind::Region);
            let member = members.iter().find(|member| member.id.0 == *of.node.0.as_bytes());
            let digest = member.and_then(|member| member.digest.as_ref());
            // A member that returned and whose digest did not come yet still has its record.
            let agent = of.agent.or_else(|| digest?.rpc_addr);
            let http = digest.and_then(|digest| digest.http_addr).or(of.http);
            tokio::select! {
                biased;
                () = port_is_closed(agent) => HostSign::Closed,
                sign = takes_connections(&self.0.env, http) => sign,
                () = self.0.env.sleep(PATIENCE) => HostSign::Silent,
            }
        })
    }
}

/// Waits for the machine to say that nobody has the port open; for ever when it does not.
async fn port_is_closed(agent: Option<SocketAddr>) {
    let Some(agent) = agent else { return std::future::pending().await };
    let any: SocketAddr = if agent.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let asked = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(agent).await?;
        // Too short to be a packet of QUIC, so an agent that is there drops it.
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 16]).await
    };
    match asked.await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Ok(_) | Err(_) => std::future::pending().await,
    }
}

/// Tells what becomes of a connection to the agent's API; waits for ever when nothing does.
async fn takes_connections(env: &Env, http: Option<SocketAddr>) -> HostSign {
    let Some(http) = http else { return std::future::pending().await };
    let mut tries = FuturesUnordered::new();
    loop {
        tries.push(TcpStream::connect(http));
        let pause = env.sleep(TRY_AGAIN);
        tokio::pin!(pause);
        loop {
            let tried = tokio::select! {
                Some(tried) = tries.next(), if !tries.is_empty() => tried,
                () = &mut pause => break,
            };
            match tried {
                Ok(_) => return HostSign::Stalled,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return HostSign::Closed,
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_nobody_has_open_is_closed() {
        let open = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let addr = open.local_addr().expect("its address");
        let short = Duration::from_millis(100);
        assert!(tokio::time::timeout(short, port_is_closed(Some(addr))).await.is_err());
        drop(open);
        assert!(tokio::time::timeout(PATIENCE, port_is_closed(Some(addr))).await.is_ok());
    }

    #[tokio::test]
    async fn an_api_that_listens_shows_that_the_agent_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let env = Env::real(runtime::Shutdown::new());
        assert_eq!(takes_connections(&env, Some(addr)).await, HostSign::Stalled);
        drop(listener);
        assert_eq!(takes_connections(&env, Some(addr)).await, HostSign::Closed);
    }
}
