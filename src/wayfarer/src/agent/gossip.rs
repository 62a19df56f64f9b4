//! The agent in gossip: what it says of itself, and the pools that it takes part in.

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use futures_util::future::BoxFuture;
use gossip_core::{Digest, Flags, Incarnation, Me, MemberId, Role};
use gossip_driver::{
    Config, Driver, GossipKey, Handle, KeyRing, Located, NoStore, PAYLOAD_MAX, Pool, PoolKind, Store, SyncBy,
    Udp,
};
use join::{AuthMode, HandedKeys, PacketKey, RegionKey};
use runtime::Env;

use super::{host::GossipHost, identity, region::Region, start::NOMAD_VERSION};
use crate::config::Options;

/// Names of the small facts in a digest. Every byte of them is with every member, so they are short.
pub mod tag {
    /// The number of a server in Raft.
    pub const RAFT: &str = "r";
    /// How many servers it waits for before it founds a region.
    pub const EXPECT: &str = "e";
    /// How it was let in.
    pub const AUTH: &str = "a";
    /// Present on servers that run tasks as well.
    pub const CLIENT: &str = "c";
    /// The version of this program.
    pub const BUILD: &str = "b";
}

/// Opens the port of gossip. The agent says from then on where its transport is, and takes part in no pool yet.
///
/// # Errors
///
/// When the port is taken.
pub fn open(env: &Env, options: &Options) -> anyhow::Result<Handle> {
    let role = if options.server.is_some() { Role::Server } else { Role::Client };
    let rpc_port = options.advertise.rpc.port();
    let located = Located { rpc_port, role, region: options.region.clone() };
    let config = Config { located: Some(located), sync: SyncBy::Packets };
    let socket = Udp::bind(options.serf).with_context(|| {
        format!(
            "could not listen for gossip on UDP {}: is another agent running? Choose another port with ports {{ serf = ... }}",
            options.serf
        )
    })?;
    Ok(Driver::start(Arc::new(GossipHost(env.clone())), config, Arc::new(socket), Vec::new())?)
}

impl Region {
    /// Takes part in the gossip of the region, and on servers in that of all regions.
    pub(super) async fn open_pools(&self, auth: AuthMode, keys: &HandedKeys) -> anyhow::Result<()> {
        let digest = self.digest(auth);
        let keys_of_region = ring(keys, PoolKind::Region).context("the region has no gossip key")?;
        self.gossip.open(self.pool(PoolKind::Region, digest.clone(), keys_of_region)).await?;
        if let Some(wide) = self.wide_ring(keys) {
            self.gossip.open(self.pool(PoolKind::Wide, digest, wide)).await?;
        }
        Ok(())
    }

    fn pool(&self, kind: PoolKind, digest: Digest, ring: KeyRing) -> Pool {
        let (name, number) = match kind {
            PoolKind::Region => ("gossip", 1),
            PoolKind::Wide => ("gossip-wide", 2),
        };
        let seed = self.env.random_u64();
        let config = match kind {
            PoolKind::Region => gossip_core::Config::local(number, PAYLOAD_MAX, seed),
            PoolKind::Wide => gossip_core::Config::wide(number, PAYLOAD_MAX, seed),
        };
        let (store, persisted): (Arc<dyn Store>, u64) = match self.dirs.lasting(name) {
            Some(path) => {
                let kept = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                (Arc::new(Lives { env: self.env.clone(), path }), kept.unwrap_or(0))
            }
            None => (Arc::new(NoStore), 0),
        };
        let me = Me {
            id: MemberId(self.config.identity.node_id.0),
            addr: self.config.gossip,
            persisted: Incarnation(persisted),
            digest,
        };
        let cluster = self.within().map(|within| u128::from_be_bytes(within.cluster.0));
        Pool { kind, config, me, ring, cluster, store }
    }

    /// What this agent says of itself.
    pub(super) fn digest(&self, auth: AuthMode) -> Digest {
        let options = &self.options;
        let mut tags = BTreeMap::new();
        let mut say = |name: &str, value: String| drop(tags.insert(name.to_owned(), value));
        say(tag::AUTH, auth.as_str().to_owned());
        say(tag::BUILD, env!("CARGO_PKG_VERSION").to_owned());
        if let Some(server) = &self.server {
            say(tag::RAFT, server.replica().raft_id().to_string());
            say(tag::EXPECT, self.config.expect.to_string());
            if options.client.is_some() {
                say(tag::CLIENT, "1".to_owned());
            }
        }
        Digest {
            name: options.name.clone(),
            role: if self.server.is_some() { Role::Server } else { Role::Client },
            region: options.region.clone(),
            datacenter: options.datacenter.clone(),
            version: NOMAD_VERSION.to_owned(),
            rpc_addr: Some(options.advertise.rpc),
            http_addr: Some(options.advertise.http),
            load: 0,
            flags: Flags::default(),
            tags,
        }
    }

    /// Puts other keys in place, where they are others. A pool that is not open yet is opened with them.
    pub(super) async fn replace_gossip_keys(&self, keys: &HandedKeys) {
        for kind in PoolKind::ALL {
            let ring = match kind {
                PoolKind::Region => ring(keys, kind),
                PoolKind::Wide => self.wide_ring(keys),
            };
            let Some(ring) = ring else { continue };
            if let Err(error) = self.gossip.replace_keys(kind, ring).await {
                tracing::debug!(%error, %kind, "keys are not replaced");
            }
        }
    }

    /// The keys of the pool of all regions: this region's seals, those of the others open what they say.
    fn wide_ring(&self, keys: &HandedKeys) -> Option<KeyRing> {
        let mut ring = ring(keys, PoolKind::Wide)?;
        install(&mut ring, &self.neighbours.wide_keys());
        Some(ring)
    }

    /// Tells gossip where others may be.
    pub(super) async fn seek(&self, kind: PoolKind, addrs: Vec<SocketAddr>) {
        let own = self.config.gossip;
        let addrs: Vec<SocketAddr> = addrs.into_iter().filter(|addr| *addr != own).collect();
        if addrs.is_empty() {
            return;
        }
        if let Err(error) = self.gossip.join(kind, addrs).await {
            tracing::warn!(%error, "members could not be sought");
        }
    }
}

/// The keys of a pool; none where the agent has none for it.
pub fn ring(keys: &HandedKeys, kind: PoolKind) -> Option<KeyRing> {
    let packet_keys = match (kind, keys.ring()) {
        (PoolKind::Region, _) => keys.packet_keys(),
        (PoolKind::Wide, Some(ring)) => ring.keys().iter().map(RegionKey::wide_key).collect(),
        (PoolKind::Wide, None) => return None,
    };
    let (first, others) = packet_keys.split_first()?;
    let mut ring = KeyRing::new(GossipKey::from_bytes(first.expose()).ok()?);
    install(&mut ring, others);
    Some(ring)
}

fn install(ring: &mut KeyRing, keys: &[PacketKey]) {
    for key in keys.iter().filter_map(|key| GossipKey::from_bytes(key.expose()).ok()) {
        if let Err(error) = ring.install(key) {
            tracing::warn!(%error, "a gossip key is left out");
        }
    }
}

/// Keeps this agent's incarnation in a file.
#[derive(Debug)]
struct Lives {
    env: Env,
    path: PathBuf,
}

impl Store for Lives {
    fn persist(&self, incarnation: Incarnation) -> BoxFuture<'static, io::Result<()>> {
        let path = self.path.clone();
        let written =
            self.env.spawn_blocking(move || identity::replace(&path, &format!("{}\n", incarnation.0)));
        Box::pin(async move {
            let written = written.await.map_err(io::Error::other)?;
            written.map_err(io::Error::other)
        })
    }
}
