//! What the configuration needs to know of the machine.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use super::sockaddr::{is_link_local, is_private, is_public};

/// What the configuration needs to know of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub hostname: String,
    /// Its interfaces and their addresses.
    pub interfaces: Vec<(String, IpAddr)>,
    /// The interface of the default route.
    pub default_interface: Option<String>,
    /// Where a dev agent keeps what ends with it.
    pub temp_dir: PathBuf,
    /// Tells this process from others, in names of directories.
    pub process_id: u32,
    /// Finds the addresses of a host.
    pub resolve: fn(&str) -> io::Result<Vec<IpAddr>>,
}

impl Machine {
    /// Looks at the machine that this runs on.
    pub fn look() -> Self {
        Self {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            interfaces: client::fingerprint::interfaces(),
            default_interface: client::fingerprint::default_interface(),
            temp_dir: std::env::temp_dir(),
            process_id: std::process::id(),
            resolve: |host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()),
        }
    }

    /// The address that others in a private network reach this machine at; the default route's first.
    pub(super) fn private_ip(&self) -> Option<IpAddr> {
        self.best(is_private)
    }

    /// The address that anyone reaches this machine at; the default route's first.
    pub(super) fn public_ip(&self) -> Option<IpAddr> {
        self.best(is_public)
    }

    /// The address that others are told when nobody said which: one at which a socket bound to `any`, the unspecified
    /// address, is reached; a private one rather than a public one, and either rather than one set apart for examples.
    pub(super) fn own_ip(&self, any: IpAddr) -> Option<IpAddr> {
        let known = |ip: IpAddr| is_private(ip) || is_public(ip);
        let other =
            |ip: IpAddr| !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || is_link_local(ip));
        let same =
            |wanted: &dyn Fn(IpAddr) -> bool| self.best(|ip| ip.is_ipv4() == any.is_ipv4() && wanted(ip));
        same(&is_private).or_else(|| same(&is_public)).or_else(|| same(&other)).or_else(|| self.best(known))
    }

    fn best(&self, wanted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let candidates = self.interfaces.iter().filter(|(_, ip)| wanted(*ip));
        let worth =
            |(name, ip): &&(String, IpAddr)| (Some(name) != self.default_interface.as_ref(), ip.is_ipv6());
        candidates.min_by_key(worth).map(|(_, ip)| *ip)
    }

    /// A directory for one dev agent, removed when it ends.
    pub(super) fn scratch_dir(&self, data_dir: Option<&Path>) -> PathBuf {
        data_dir.unwrap_or(&self.temp_dir).join(format!("wayfarer-dev-{}", self.process_id))
    }
}
