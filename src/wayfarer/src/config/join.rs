//! Whom an agent joins, and how.

use std::{collections::BTreeSet, time::Duration};

use super::{
    check::Fault,
    options::JoinOptions,
    raw::{RawAgent, RawServerJoin},
    section::Added,
};

/// Time between two rounds, as Nomad has it.
const INTERVAL: Duration = Duration::from_secs(30);

/// The shortest life of a certificate: renewal at two thirds of it has to leave time for tries.
const CERTIFICATE_TTL_MIN: Duration = Duration::from_secs(60);

/// Reads every block that names servers. Flags stand in the server's block, and serve a client as well.
pub(super) fn options(raw: &RawAgent, warnings: &mut Vec<String>) -> Result<JoinOptions, Fault> {
    let server = raw.server.clone().unwrap_or_default();
    let client = raw.client.clone().unwrap_or_default();
    let blocks: Vec<RawServerJoin> = [server.server_join, client.server_join].into_iter().flatten().collect();
    let once = blocks.iter().map(|block| &block.start_join).chain([&server.start_join]);
    let again = blocks.iter().map(|block| &block.retry_join).chain([&server.retry_join, &client.servers]);
    let named = once.chain(again);
    let retry_max = blocks.iter().find_map(|block| block.retry_max).or(server.retry_max).unwrap_or(0);
    let Ok(tries_max) = u32::try_from(retry_max) else {
        return Err(Fault::Setup(format!("retry_max cannot be {retry_max}. Must be 0 (no end) or more")));
    };
    let interval = blocks.iter().find_map(|block| block.retry_interval.clone()).or(server.retry_interval);
    let certificate_ttl = server.certificate_ttl.map(|span| span.time);
    if certificate_ttl.is_some_and(|time| time < CERTIFICATE_TTL_MIN) {
        return Err(Fault::Setup("certificate_ttl must be a minute at the least".to_owned()));
    }
    let token = raw.join_token.as_ref().map(|token| token.0.trim().to_owned());
    Ok(JoinOptions {
        addresses: addresses(named, warnings),
        tries_max: Some(tries_max).filter(|tries| *tries > 0),
        interval: interval.map(|span| span.time).filter(|time| !time.is_zero()).unwrap_or(INTERVAL),
        token: token.filter(|token| !token.is_empty()),
        require_token: server.require_join_token.unwrap_or(false),
        certificate_ttl,
    })
}

fn addresses<'a>(lists: impl Iterator<Item = &'a Option<Added>>, warnings: &mut Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for address in lists.flatten().flat_map(|list| &list.0) {
        if address.contains("provider=") {
            let first = address.split_whitespace().next().unwrap_or_default();
            warnings.push(format!(
                "servers are not looked for in a cloud ({first} ...) yet; name addresses in retry_join"
            ));
        } else if seen.insert(address) {
            all.push(address.clone());
        }
    }
    all
}
