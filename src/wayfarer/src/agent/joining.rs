//! How an agent becomes part of its region, and stays it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use gossip_driver::PoolKind;
use join::{Bootstrap, JoinError, Joiner, Kept, Locate, Renewal, RenewalEnd, founding::Found};
use model::SchedulerConfig;
use protocol::{Command, Named};
use raft::ClusterMarker;
use server::{Life, Replica, Server};
use tokio::net::lookup_host;
use transport::{Credentials, Plane};

use super::{
    feed,
    region::{Known, Region},
};

/// Time for a gossip port to say where its agent's transport is.
const LOCATE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Time to join the region whose server asked for it.
const INVITED_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the region that was just founded to have a leader that takes its first settings.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(60);

/// Time between two tries to hand in those.
const SETTINGS_PERIOD: Duration = Duration::from_millis(100);

/// Nomad's port of gossip, where an address names none.
const GOSSIP_PORT: u16 = 4648;

/// Makes the agent part of its region, and keeps it so until it stops. What can not be helped goes to the region's fault.
pub async fn run(region: Arc<Region>, kept: Option<Kept>, own: Option<Credentials>) {
    let env = region.env.clone();
    let lived = live(&region, kept, own);
    let ended = tokio::select! {
        biased;
        () = env.shutdown().wait() => return,
        ended = lived => ended,
    };
    if let Err(error) = ended {
        let text = format!("{error:#}");
        tracing::error!(error = text, "this agent can not be part of a region");
        region.fault.send_replace(Some(text));
    }
}

async fn live(region: &Arc<Region>, kept: Option<Kept>, own: Option<Credentials>) -> anyhow::Result<()> {
    let (mut kept, mut found) = match kept {
        Some(kept) => (kept, pending(region)?),
        None => join(region, own.as_ref()).await?,
    };
    enter(region, &kept).await?;
    loop {
        if let Some(found) = found.take() {
            begin(region, found).await?;
        }
        let validity = kept.credentials.validity()?;
        let renewed = region.clone();
        let renewal = Renewal::new(
            region.env.clone(),
            region.config.clone(),
            region.transport.clone(),
            region.files.clone(),
            Arc::new(Known(region.clone())),
            kept.auth,
            Arc::new(move |kept: &Kept| renewed.take(kept)),
        );
        match renewal.run(validity).await {
            RenewalEnd::Shutdown => return Ok(()),
            RenewalEnd::Expired => (kept, found) = join(region, own.as_ref()).await?,
        }
        region.take(&kept);
    }
}

/// A region that this server founded, and that it did not begin before it was killed.
fn pending(region: &Region) -> anyhow::Result<Option<Found>> {
    let found = region.files.founded()?;
    Ok(found.and_then(|(found, bootstrap)| (bootstrap == Bootstrap::Pending).then_some(found)))
}

/// Joins or founds, for as long as it takes. A user may name further addresses meanwhile.
async fn join(region: &Arc<Region>, own: Option<&Credentials>) -> anyhow::Result<(Kept, Option<Found>)> {
    let mut addresses = region.addresses.subscribe();
    loop {
        let named = addresses.borrow_and_update().clone();
        if named.is_empty() && region.config.expect == 0 {
            tracing::warn!(
                "this agent is told neither whom to join nor to found a region; it waits for `server join`"
            );
            let invited = tokio::select! {
                biased;
                changed = addresses.changed() => {
                    changed.context("the agent is stopping")?;
                    continue;
                }
                invited = invited(region) => invited,
            };
            // An invitation that leads nowhere is forgotten: the next one may be better.
            let joining = joiner(region, own).run(invited);
            match tokio::time::timeout(INVITED_TIMEOUT, joining).await {
                Ok(Ok(joined)) => return Ok((joined.kept, joined.found)),
                Ok(Err(JoinError::Shutdown)) => std::future::pending().await,
                Ok(Err(error)) => tracing::warn!(%error, "could not join the region that invited this agent"),
                Err(_) => tracing::warn!("the region that invited this agent was not joined in time"),
            }
            continue;
        }
        tokio::select! {
            biased;
            joined = joiner(region, own).run(named) => match joined {
                Ok(joined) => return Ok((joined.kept, joined.found)),
                Err(JoinError::Shutdown) => std::future::pending().await,
                Err(error) => return Err(error.into()),
            },
            // What was promised stays promised, and the next round knows more addresses.
            changed = addresses.changed() => changed.context("the agent is stopping")?,
        }
    }
}

/// Waits until a server of a region asks this server to join it. Clients are not asked.
async fn invited(region: &Arc<Region>) -> Vec<String> {
    if region.server.is_none() {
        return std::future::pending().await;
    }
    let mut invitations = region.service.await_invitation();
    match invitations.recv().await {
        Some(servers) => servers.iter().map(SocketAddr::to_string).collect(),
        None => std::future::pending().await,
    }
}

fn joiner(region: &Arc<Region>, own: Option<&Credentials>) -> Joiner {
    let joiner = Joiner::new(
        region.env.clone(),
        region.config.clone(),
        region.transport.clone(),
        region.service.clone(),
        region.files.clone(),
        own.cloned(),
    );
    joiner.with_locate(locate(region))
}

fn locate(region: &Arc<Region>) -> Locate {
    let region = region.clone();
    Arc::new(move |addr: SocketAddr| {
        let region = region.clone();
        Box::pin(async move {
            let located = region.gossip.locate(addr, LOCATE_TIMEOUT).await.ok()?;
            Some(SocketAddr::new(addr.ip(), located.rpc_port))
        })
    })
}

/// Takes part: answers joiners, gossips, tells server and client who is there.
async fn enter(region: &Arc<Region>, kept: &Kept) -> anyhow::Result<()> {
    region.take(kept);
    region.service.open(Arc::new(Known(region.clone())));
    region.open_pools(kept.auth, &kept.keys).await?;
    let mut peers: Vec<SocketAddr> = kept.servers.iter().map(|server| server.gossip).collect();
    let addresses = region.addresses.borrow().clone();
    for address in addresses {
        peers.extend(resolve(&address).await);
    }
    region.seek(PoolKind::Region, peers).await;
    let env = &region.env;
    env.spawn("region-members", feed::run(region.clone()));
    if region.server.is_some() {
        env.spawn("region-trust", region.clone().follow_regions());
        env.spawn("region-neighbours", region.clone().keep_neighbours());
        env.spawn("region-named", region.clone().join_named_regions());
    }
    tracing::info!(region = region.options.region, auth = %kept.auth, "part of the region");
    Ok(())
}

/// Finds the addresses of `host` or `host:port`; none when there are none.
pub async fn resolve(address: &str) -> Vec<SocketAddr> {
    if let Ok(ip) = address.parse() {
        return vec![SocketAddr::new(ip, GOSSIP_PORT)];
    }
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let name = if has_port { address.to_owned() } else { format!("{address}:{GOSSIP_PORT}") };
    match lookup_host(name).await {
        Ok(found) => found.collect(),
        Err(error) => {
            tracing::debug!(address, %error, "address is not found");
            Vec::new()
        }
    }
}

/// Begins the region that this server has founded.
async fn begin(region: &Arc<Region>, found: Found) -> anyhow::Result<()> {
    let server = region.server.as_ref().context("only a server founds a region")?;
    let founders = found.members.iter().map(|member| {
        let life = Life::numbered(member.life).context("a founder has no life that counts")?;
        let name = format!("{}.{}", member.name, region.options.region);
        Ok(Replica { node_id: member.node_id, life, name, rpc_addr: member.rpc })
    });
    let founders = founders.collect::<anyhow::Result<Vec<Replica>>>()?;
    // Killed between this and the next line, a server finds its log begun.
    if !server.has_state() {
        server.found(&founders, ClusterMarker(u128::from_be_bytes(found.cluster.0))).await?;
    }
    let files = region.files.clone();
    region.env.spawn_blocking(move || files.keep_bootstrapped()).await??;
    region.env.spawn("region-settings", settle(region.clone(), server.clone()));
    Ok(())
}

/// Hands in the settings that a region begins with, where the configuration has some.
async fn settle(region: Arc<Region>, server: Server) {
    let deadline = region.env.now() + SETTINGS_TIMEOUT;
    let wanted = region.options.server.as_ref().map(|server| server.scheduler.clone());
    let Some(config) = wanted.filter(|config| *config != SchedulerConfig::default()) else { return };
    let command = Command::SetSchedulerConfig { config: Named(config), cas: None };
    while let Err(error) = server.submit(&command).await {
        if region.env.now() > deadline || region.env.shutdown().fired() {
            tracing::warn!(%error, "settings of the configuration are not in place");
            return;
        }
        region.env.sleep(SETTINGS_PERIOD).await;
    }
}

/// Tells whether another agent may open a plane: before this one is part of a region only to join. Who has a certificate of
/// the users' own joins with it, on the plane that takes one.
pub fn is_open(region: &Region, plane: Plane) -> bool {
    let joins = plane == Plane::Join || (plane == Plane::Rpc && region.own.is_some());
    joins || region.within().is_some()
}
