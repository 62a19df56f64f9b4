//! How an agent meets others: its port, what it proves itself with, and whom it asks to be let in.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use join::{Files, FilesError, Kept, Lifetimes, OwnFiles, RegionKey, Retry, Token};
use runtime::Env;
use transport::{Acceptor, Boot, Credentials, Identity, Region, Role, Transport, quic::Quic};

use super::{
    host::EnvHost,
    identity::{Dirs, Ids},
};
use crate::config::Options;

/// An open port, and what is known of the region behind it.
pub struct Endpoint {
    /// The way to peers.
    pub transport: Arc<dyn Transport>,
    /// The way of peers to us.
    pub acceptor: Acceptor,
    /// What is kept of being part of a region.
    pub files: Files,
    /// The user's own certificates, where there are such.
    pub own: Option<(OwnFiles, Credentials)>,
    /// What an earlier start has kept: the agent is part of a region already.
    pub kept: Option<Kept>,
}

/// Says who the agent is.
///
/// # Errors
///
/// When the region's name can not stand in a certificate.
pub fn identity(options: &Options, ids: &Ids) -> anyhow::Result<Identity> {
    let role = if options.server.is_some() { Role::Server } else { Role::Client };
    let region = Region::new(&options.region)?;
    Ok(Identity { role, region, node_id: ids.node_id(), name: options.name.clone() })
}

/// Opens the port: with the user's certificate, or the one that was kept, or a provisional one that opens the join plane
/// only.
///
/// # Errors
///
/// Names the file or the port that can not be used.
pub fn open(env: &Env, options: &Options, dirs: &Dirs, ids: &Ids) -> anyhow::Result<Endpoint> {
    let host = Arc::new(EnvHost(env.clone()));
    let identity = identity(options, ids)?;
    let now = unix_time(env);
    let files = Files::open(&dirs.root)?;
    let own = match options.tls.rpc {
        true => {
            let tls = &options.tls;
            let own =
                OwnFiles { ca: tls.ca.clone(), certificate: tls.certificate.clone(), key: tls.key.clone() };
            let credentials = own.load(&identity, &[], now).context("the tls block can not be used")?;
            Some((own, credentials))
        }
        false => None,
    };
    let kept = match files.load(&identity, own.as_ref().map(|(_, credentials)| credentials.clone()), now) {
        Ok(kept) => kept,
        Err(error @ FilesError::Expired { .. }) if identity.role == Role::Client => {
            tracing::warn!(%error, "joining anew");
            None
        }
        Err(error) => return Err(error.into()),
    };
    let provisional;
    let credentials = match (&kept, &own) {
        (Some(kept), _) => &kept.credentials,
        (None, Some((_, credentials))) => credentials,
        (None, None) => {
            provisional = Credentials::provisional(identity, &*host)?;
            &provisional
        }
    };
    let raw = transport::RawConfig::default();
    let config = transport::Config::check(options.rpc, ids.endpoint.clone(), &raw)?;
    let bound = Quic::bind(config, credentials, Boot(env.random_u64()), host).with_context(|| {
        format!(
            "could not listen for agents on UDP {}: is another agent running? Choose another port with ports {{ rpc = ... }}",
            options.rpc
        )
    })?;
    let bound = bound.erase();
    if let Some(kept) = &kept {
        bound.transport.set_cluster(kept.cluster);
    }
    Ok(Endpoint { transport: bound.transport, acceptor: bound.acceptor, files, own, kept })
}

/// Puts together what the agent brings when it joins. `life` is that of a server's log.
///
/// # Errors
///
/// When the token or the key is none.
pub fn join_config(options: &Options, identity: Identity, life: u64) -> anyhow::Result<join::Config> {
    let join = &options.join;
    let token = join.token.as_deref().map(str::parse::<Token>).transpose();
    let token = token.context("the join token (-token, join_token, WAYFARER_JOIN_TOKEN) can not be used")?;
    let key = options.encrypt.clone().map(RegionKey::try_from).transpose()?;
    Ok(join::Config {
        identity,
        rpc: options.advertise.rpc,
        gossip: options.advertise.serf,
        expect: options.server.as_ref().map_or(0, |server| server.bootstrap_expect),
        life,
        key,
        token,
        require_token: join.require_token,
        lifetimes: Lifetimes {
            certificate: join.certificate_ttl.unwrap_or(Lifetimes::default().certificate),
            ..Lifetimes::default()
        },
        retry: Retry { interval: join.interval, max: join.tries_max.unwrap_or(0) },
    })
}

/// Time since the Unix epoch.
pub fn unix_time(env: &Env) -> Duration {
    Duration::from_nanos(u64::try_from(env.wall()).unwrap_or(0))
}
