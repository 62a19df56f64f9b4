//! Networks of the machine: the one that allocations get by default, and named ones.

use std::{fs, net::IpAddr};

use model::{NodeAddress, NodeNetwork, Text};
use nix::ifaddrs::getifaddrs;

use super::{Found, Settings};

/// Assumed where the interface does not say.
const MBITS_UNKNOWN: u64 = 1_000;

pub(super) fn look(settings: &Settings, found: &mut Found) {
    let wanted =
        settings.network_interface.clone().or_else(default_interface).unwrap_or_else(|| "lo".to_owned());
    let addresses = interfaces();
    let own: Vec<&(String, IpAddr)> = addresses.iter().filter(|(name, _)| *name == wanted).collect();
    if own.is_empty() {
        tracing::warn!(
            interface = wanted,
            "interface has no address; allocations with ports can not be placed here"
        );
    }
    if let Some((_, first)) = own.iter().find(|(_, ip)| ip.is_ipv4()).or(own.first()) {
        found.set("unique.network.ip-address", first.to_string());
    }
    let speed = settings.network_speed.or_else(|| speed_of(&wanted)).unwrap_or(MBITS_UNKNOWN);
    found.resources.networks.push(NodeNetwork {
        mode: Text::new_static("host"),
        device: wanted.as_str().into(),
        mac: mac_of(&wanted).unwrap_or_default().into(),
        speed,
        addresses: own.iter().map(|(_, ip)| address("default", *ip, "")).collect(),
    });
    for (name, network) in &settings.host_networks {
        let matches = |entry: &&(String, IpAddr)| {
            (network.interface.is_empty() || entry.0 == network.interface.as_str())
                && (network.cidr.is_empty()
                    || network.cidr.split(',').any(|cidr| holds(cidr.trim(), entry.1)))
        };
        for (device, ip) in addresses.iter().filter(matches) {
            let alias = address(name, *ip, &network.reserved_ports);
            let known = found.resources.networks.iter_mut().find(|known| known.device == *device);
            match known {
                Some(known) => known.addresses.push(alias),
                None => found.resources.networks.push(NodeNetwork {
                    mode: Text::new_static("host"),
                    device: device.as_str().into(),
                    mac: mac_of(device).unwrap_or_default().into(),
                    speed: speed_of(device).unwrap_or(MBITS_UNKNOWN),
                    addresses: vec![alias],
                }),
            }
        }
    }
}

fn address(alias: &str, ip: IpAddr, reserved_ports: &str) -> NodeAddress {
    NodeAddress {
        alias: alias.into(),
        address: ip.to_string().into(),
        family: Text::new_static(if ip.is_ipv4() { "ipv4" } else { "ipv6" }),
        reserved_ports: reserved_ports.into(),
    }
}

/// Lists interfaces with their addresses, link-local ones left out.
pub fn interfaces() -> Vec<(String, IpAddr)> {
    let Ok(found) = getifaddrs() else { return Vec::new() };
    found
        .filter_map(|entry| {
            let address = entry.address?;
            let ip: IpAddr = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => v4.ip().into(),
                (None, Some(v6)) => v6.ip().into(),
                (None, None) => return None,
            };
            let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            (!link_local).then_some((entry.interface_name, ip))
        })
        .collect()
}

/// The interface of the default route.
pub fn default_interface() -> Option<String> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    routes.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (device, destination) = (words.next()?, words.next()?);
        (destination == "00000000").then(|| device.to_owned())
    })
}

fn speed_of(device: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/sys/class/net/{device}/speed")).ok()?;
    text.trim().parse::<i64>().ok().and_then(|speed| u64::try_from(speed).ok()).filter(|speed| *speed > 0)
}

fn mac_of(device: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/class/net/{device}/address")).ok()?;
    Some(text.trim().to_owned()).filter(|mac| mac != "00:00:00:00:00:00")
}

/// Tells whether an address is in a network such as `10.0.0.0/8`.
pub fn holds(cidr: &str, ip: IpAddr) -> bool {
    let Some((network, bits)) = cidr.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (network.parse(), ip) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(ip)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            network.to_bits() & mask == ip.to_bits() & mask
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(ip)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            network.to_bits() & mask == ip.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(holds("10.0.0.0/8", ip("10.1.2.3")));
        assert!(!holds("10.0.0.0/8", ip("11.1.2.3")));
        assert!(holds("0.0.0.0/0", ip("192.0.2.1")));
        assert!(holds("fd00::/8", ip("fd12::1")));
        assert!(!holds("10.0.0.0/40", ip("10.1.2.3")));
        assert!(!holds("nonsense", ip("10.1.2.3")));
    }
}
