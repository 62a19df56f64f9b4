//! Other regions: which are trusted, and where their servers are.

use std::{sync::Arc, time::Duration};

use gossip_driver::{GossipKey, PoolKind};
use join::{Federation, Registry, reload_regions};

use super::{
    endpoint::unix_time,
    region::{Known, Region},
};

/// Time between two looks at the regions that are trusted. It changes a few times in a region's life.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Region {
    /// Meets the servers of another region.
    pub(super) async fn meet(self: &Arc<Self>, other: &Federation) {
        for key in &other.wide_keys {
            let Ok(key) = GossipKey::from_bytes(key.expose()) else { continue };
            if let Err(error) = self.gossip.install_key(PoolKind::Wide, key).await {
                tracing::warn!(%error, region = %other.region, "a key of another region is not taken");
            }
        }
        self.seek(PoolKind::Wide, other.servers.iter().map(|server| server.gossip).collect()).await;
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
