//! Other regions: which are trusted, where their servers are, and what they seal their gossip with.
//!
//! That a region is trusted is in the state, with its authority and where its servers were, so that every server knows it,
//! also one that comes later. Keys are not: each server asks a server of the other region for them over mutual TLS, and
//! tells its own. It asks again when packets come that it can not open, and now and then.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use gossip_driver::PoolKind;
use join::{Abroad, PacketKey, Registry, exchange, federate, reload_regions};
use model::{JoinRole, TrustedRegion};
use parking_lot::Mutex;
use protocol::{Command, Named};
use runtime::Instant;

use super::{
    endpoint::unix_time,
    joining::resolve,
    region::{Known, Region},
};

/// Time between two looks at the regions that are trusted. It changes a few times in a region's life.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time between two questions to a region that answered: its keys and its servers change seldom, and packets that can not be
/// opened make the next question come at once.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Questions that something gave cause for follow each other so fast at most.
const ASK_PAUSE_MIN: Duration = Duration::from_secs(2);

/// A region that does not answer is asked ever less often until then.
const ASK_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Time for one server of another region to answer; the next question goes to another one.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for another region to commit that this one is trusted.
const TRUST_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a gossip port to say whose it is.
const LOCATE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What is known of the servers of other regions. Holds those that are trusted, no others.
#[derive(Debug, Default)]
pub struct Neighbours(Mutex<BTreeMap<transport::Region, Neighbour>>);

#[derive(Debug, Default)]
struct Neighbour {
    wide_keys: Vec<PacketKey>,
    asked: Option<Instant>,
    ask_at: Option<Instant>,
    failures: u32,
}

impl Neighbours {
    /// The keys of all of them.
    pub fn wide_keys(&self) -> Vec<PacketKey> {
        self.0.lock().values().flat_map(|known| known.wide_keys.iter().copied()).collect()
    }

    /// Has every region asked again, because something can not be opened.
    pub fn wake(&self, now: Instant) {
        for known in self.0.lock().values_mut() {
            let soonest = known.asked.map_or(now, |asked| asked + ASK_PAUSE_MIN);
            let at = soonest.max(now);
            known.ask_at = Some(known.ask_at.map_or(at, |planned| planned.min(at)));
        }
    }

    /// Notes what a region seals with; tells whether that is news.
    fn note(&self, abroad: &Abroad) -> bool {
        let mut all = self.0.lock();
        let known = all.entry(abroad.region.clone()).or_default();
        let changed = known.wide_keys != abroad.wide_keys;
        known.wide_keys.clone_from(&abroad.wide_keys);
        changed
    }

    /// Tells whether a region is to be asked, and if so which of its servers: how many did not answer before.
    fn begin(&self, region: &transport::Region, now: Instant) -> Option<usize> {
        let mut all = self.0.lock();
        let known = all.entry(region.clone()).or_default();
        if known.ask_at.is_some_and(|at| at > now) {
            return None;
        }
        known.asked = Some(now);
        known.ask_at = Some(now + ASK_PAUSE_MIN);
        Some(known.failures as usize)
    }

    fn answered(&self, region: &transport::Region, now: Instant) {
        if let Some(known) = self.0.lock().get_mut(region) {
            known.failures = 0;
            known.ask_at = Some(now + ASK_EVERY);
        }
    }

    fn failed(&self, region: &transport::Region, now: Instant) {
        if let Some(known) = self.0.lock().get_mut(region) {
            known.failures = known.failures.saturating_add(1);
            let pause = LOOK_EVERY.saturating_mul(1 << known.failures.min(10)).min(ASK_PAUSE_MAX);
            known.ask_at = Some(now + pause);
        }
    }

    /// Forgets the regions that are not trusted any more; tells whether there were any.
    fn retain(&self, trusted: &BTreeSet<transport::Region>) -> bool {
        let mut all = self.0.lock();
        let before = all.len();
        all.retain(|region, _| trusted.contains(region));
        all.len() < before
    }
}

impl Region {
    /// Takes in what a server of another region says of it, and meets its servers.
    pub(super) async fn meet(self: &Arc<Self>, abroad: Abroad) {
        if self.neighbours.note(&abroad) {
            tracing::info!(region = %abroad.region, "keys of another region are in place");
            self.replace_wide_keys().await;
        }
        let met = self.gossip.members(PoolKind::Wide);
        let is_met = |server: &&join::Server| {
            met.iter().any(|member| member.id.0 == server.node_id.0 && member.status.is_active())
        };
        if !abroad.servers.iter().any(|server| is_met(&server)) {
            let gossip = abroad.servers.iter().map(|server| server.gossip).collect();
            self.seek(PoolKind::Wide, gossip).await;
        }
    }

    async fn replace_wide_keys(&self) {
        if let Some(within) = self.within() {
            self.replace_gossip_keys(&within.keys).await;
        }
    }

    /// Asks a server of another region that the two trust each other.
    pub(super) async fn join_region(self: &Arc<Self>, rpc: SocketAddr) -> Result<(), String> {
        let registry = Known(self.clone());
        let deadline = self.env.now() + TRUST_TIMEOUT;
        let token = self.config.token.as_ref().filter(|token| token.role() == JoinRole::Region);
        let joined = federate(&*self.transport, rpc, &self.config, &registry, token, deadline).await;
        let joined = joined.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        tracing::info!(region = %joined.region, auth = %joined.auth, "regions trust each other");
        Ok(())
    }

    /// Joins the regions of the addresses that the configuration names and that are in others, once each.
    pub(super) async fn join_named_regions(self: Arc<Self>) {
        let mut left = self.options.join.addresses.clone();
        while !left.is_empty() {
            let mut again = Vec::new();
            for address in left {
                if let Err(error) = self.join_named(&address).await {
                    tracing::debug!(address, error, "not known yet whether this is in another region");
                    again.push(address);
                }
            }
            left = again;
            tokio::select! {
                biased;
                () = self.env.shutdown().wait() => return,
                () = self.env.sleep(self.options.join.interval) => {}
            }
        }
    }

    async fn join_named(self: &Arc<Self>, address: &str) -> Result<(), String> {
        let mut last = "it is not found".to_owned();
        for addr in resolve(address).await {
            let located = match self.gossip.locate(addr, LOCATE_TIMEOUT).await {
                Ok(located) => located,
                Err(error) => {
                    last = error.to_string();
                    continue;
                }
            };
            let trusted = self.trusted_regions();
            let known = trusted.iter().any(|row| *row.name == *located.region && !row.servers.is_empty());
            if located.region == self.options.region || known {
                return Ok(());
            }
            let joined = self.join_region(SocketAddr::new(addr.ip(), located.rpc_port)).await;
            return joined.inspect_err(|error| {
                tracing::warn!(
                    address,
                    region = located.region,
                    error,
                    "another region could not be joined yet"
                );
            });
        }
        Err(last)
    }

    fn trusted_regions(&self) -> Vec<Arc<TrustedRegion>> {
        let Some(server) = &self.server else { return Vec::new() };
        server.snapshot().trusted_regions().cloned().collect()
    }

    /// Keeps what is known of other regions, for as long as the agent runs.
    pub(super) async fn keep_neighbours(self: Arc<Self>) {
        let env = self.env.clone();
        loop {
            tokio::select! {
                biased;
                () = env.shutdown().wait() => return,
                () = env.sleep(LOOK_EVERY) => {}
            }
            let named =
                |row: Arc<TrustedRegion>| Some((transport::Region::new(row.name.as_str()).ok()?, row));
            let rows: Vec<_> = self.trusted_regions().into_iter().filter_map(named).collect();
            let trusted = rows.iter().map(|(region, _)| region.clone()).collect();
            if self.neighbours.retain(&trusted) {
                self.replace_wide_keys().await;
            }
            for (region, row) in rows {
                if let Some(turn) = self.neighbours.begin(&region, env.now()) {
                    self.ask_abroad(&region, &row, turn).await;
                }
            }
        }
    }

    async fn ask_abroad(self: &Arc<Self>, region: &transport::Region, row: &TrustedRegion, turn: usize) {
        let servers = self.servers_abroad(region, row);
        let Some(addr) = servers.get(turn % servers.len().max(1)) else {
            return self.neighbours.failed(region, self.env.now());
        };
        let registry = Known(self.clone());
        let deadline = self.env.now() + ASK_TIMEOUT;
        match exchange(&*self.transport, *addr, region, &registry, deadline).await {
            Ok(abroad) => {
                self.neighbours.answered(region, self.env.now());
                self.write_down(row, &abroad).await;
                self.meet(abroad).await;
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::debug!(%region, %addr, error, "a server of another region was not asked");
                self.neighbours.failed(region, self.env.now());
            }
        }
    }

    /// Where servers of another region may be: those that gossip hears first.
    fn servers_abroad(&self, region: &transport::Region, row: &TrustedRegion) -> Vec<SocketAddr> {
        let members = self.gossip.members(PoolKind::Wide);
        let alive = members.iter().filter(|member| member.status.is_active());
        let digests = alive.filter_map(|member| member.digest.as_ref());
        let there = digests.filter(|digest| digest.region == region.as_str());
        let mut servers: Vec<SocketAddr> = there.filter_map(|digest| digest.rpc_addr).collect();
        servers.sort_unstable();
        for addr in &row.servers {
            if !servers.contains(addr) {
                servers.push(*addr);
            }
        }
        servers
    }

    /// Has the leader write down where the servers of another region are, when they are elsewhere than they were.
    async fn write_down(&self, row: &TrustedRegion, abroad: &Abroad) {
        let Some(server) = self.server.as_ref().filter(|server| server.is_leader()) else { return };
        let found: BTreeSet<SocketAddr> = abroad.servers.iter().map(|server| server.rpc).collect();
        if found.is_empty() || row.servers.iter().copied().collect::<BTreeSet<_>>() == found {
            return;
        }
        let row = TrustedRegion { servers: found.into_iter().collect(), ..row.clone() };
        if let Err(error) = server.submit(&Command::TrustRegion { region: Named(row) }).await {
            tracing::debug!(%error, "servers of another region are not written down");
        }
    }

    /// Trusts whom the region trusts, for as long as the agent runs.
    pub(super) async fn follow_regions(self: Arc<Self>) {
        let env = self.env.clone();
        let registry = Known(self.clone());
        let mut trusted = self.within().map(|within| within.regions.clone()).unwrap_or_default();
        loop {
            tokio::select! {
                biased;
                () = env.shutdown().wait() => return,
                () = env.sleep(LOOK_EVERY) => {}
            }
            let wanted = registry.regions();
            if wanted == trusted {
                continue;
            }
            let own = self.own.as_ref().map(|own| own.load(&self.config.identity, &[], unix_time(&env)));
            let own = match own.transpose() {
                Ok(own) => own,
                Err(error) => {
                    tracing::warn!(%error, "certificates of the tls block can not be used");
                    continue;
                }
            };
            match reload_regions(&*self.transport, &self.files, own, &wanted, unix_time(&env)) {
                Ok(()) => {
                    tracing::info!(regions = wanted.len(), "regions are trusted");
                    trusted = wanted;
                }
                Err(error) => tracing::warn!(%error, "another region is not trusted yet"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> transport::Region {
        transport::Region::new(name).expect("a good name")
    }

    fn says(name: &str, keys: &[join::RegionKey]) -> Abroad {
        let wide_keys = keys.iter().map(join::RegionKey::wide_key).collect();
        Abroad { region: region(name), servers: Vec::new(), wide_keys }
    }

    #[test]
    fn keys_of_every_trusted_region_open_and_no_others() {
        let neighbours = Neighbours::default();
        let key = join::RegionKey::generate();
        assert!(neighbours.note(&says("eu", std::slice::from_ref(&key))));
        assert!(!neighbours.note(&says("eu", std::slice::from_ref(&key))), "that is no news");
        assert!(neighbours.note(&says("us", &[join::RegionKey::generate()])));
        assert_eq!(neighbours.wide_keys().len(), 2);
        assert!(neighbours.retain(&BTreeSet::from([region("eu")])));
        assert_eq!(neighbours.wide_keys(), [key.wide_key()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_region_is_asked_at_once_then_seldom_and_again_when_there_is_cause() {
        let neighbours = Neighbours::default();
        let (eu, now) = (region("eu"), Instant::now());
        assert_eq!(neighbours.begin(&eu, now), Some(0));
        neighbours.failed(&eu, now);
        assert_eq!(neighbours.begin(&eu, now), None);
        let later = now + ASK_PAUSE_MAX;
        assert_eq!(neighbours.begin(&eu, later), Some(1), "another server is asked");
        neighbours.answered(&eu, later);
        assert_eq!(neighbours.begin(&eu, later + ASK_PAUSE_MAX), None);
        neighbours.wake(later + ASK_PAUSE_MAX);
        assert_eq!(neighbours.begin(&eu, later + ASK_PAUSE_MAX), Some(0));
        neighbours.wake(later + ASK_PAUSE_MAX);
        assert_eq!(neighbours.begin(&eu, later + ASK_PAUSE_MAX), None, "not twice in a moment");
    }
}
