//! Addresses to listen on and to tell others.

use std::net::{IpAddr, SocketAddr};

use super::{
    Machine,
    options::Advertise,
    raw::RawAgent,
    sockaddr::{TemplateError, expand},
};

/// Addresses can not be worked out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// A template is wrong.
    #[error("Failed to parse {key}: {source}")]
    Template {
        /// The key.
        key: &'static str,
        /// What is wrong.
        source: TemplateError,
    },
    /// No address can be told to others.
    #[error("Failed to parse {part} advertise address ({given}, {bind}, {port}, {dev}): {why}")]
    Advertise {
        /// HTTP, RPC or Serf.
        part: &'static str,
        /// What was given.
        given: String,
        /// What is listened on.
        bind: String,
        /// The port.
        port: u16,
        /// Whether this is a dev agent.
        dev: bool,
        /// What is wrong.
        why: String,
    },
    /// The address to listen on leads nowhere.
    #[error("Failed to parse {part} bind address {bind:?}: {why}")]
    Bind {
        /// HTTP, RPC or Serf.
        part: &'static str,
        /// The address.
        bind: String,
        /// What is wrong.
        why: String,
    },
    /// A port that there is not.
    #[error("ports.{key} cannot be {port}. Must be between 1 and 65535")]
    Port {
        /// The key.
        key: &'static str,
        /// The number.
        port: i64,
    },
}

/// All addresses of an agent.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub bind: IpAddr,
    pub http: Vec<SocketAddr>,
    pub rpc: SocketAddr,
    pub serf: SocketAddr,
    pub advertise: Advertise,
}

/// One of the three things that an agent listens for.
struct Part<'a> {
    name: &'static str,
    bind: &'a str,
    port: u16,
    given: String,
    dev: bool,
    machine: &'a Machine,
}

/// Works out the addresses.
pub(super) fn resolve(raw: &RawAgent, dev: bool, machine: &Machine) -> Result<Addresses, AddressError> {
    let expanded = |key: &'static str, text: Option<&String>, default: &str| {
        let text = text.map(String::as_str).filter(|text| !text.is_empty()).unwrap_or(default);
        expand(text, machine).map_err(|source| AddressError::Template { key, source })
    };
    let ports = raw.ports.clone().unwrap_or_default();
    let ports =
        [port("http", ports.http, 4646)?, port("rpc", ports.rpc, 4647)?, port("serf", ports.serf, 4648)?];
    let bind = expanded("bind_addr", raw.bind_addr.as_ref(), "0.0.0.0")?;
    let own = raw.addresses.clone().unwrap_or_default();
    let http = expanded("addresses.http", own.http.as_ref(), &bind)?;
    let rpc = expanded("addresses.rpc", own.rpc.as_ref(), &bind)?;
    let serf = expanded("addresses.serf", own.serf.as_ref(), &bind)?;
    let told = raw.advertise.clone().unwrap_or_default();
    let told = [
        expanded("advertise.http", told.http.as_ref(), "")?,
        expanded("advertise.rpc", told.rpc.as_ref(), "")?,
        expanded("advertise.serf", told.serf.as_ref(), "")?,
    ];
    let first_http = http.split_whitespace().next().unwrap_or(&bind).to_owned();
    let [told_http, told_rpc, told_serf] = told;
    let http_part = Part { name: "HTTP", bind: &first_http, port: ports[0], given: told_http, dev, machine };
    let rpc_part = Part { name: "RPC", bind: &rpc, port: ports[1], given: told_rpc, dev, machine };
    let serf_part = Part { name: "Serf", bind: &serf, port: ports[2], given: told_serf, dev, machine };
    let advertise =
        Advertise { http: http_part.advertise()?, rpc: rpc_part.advertise()?, serf: serf_part.advertise()? };
    let https = http.split_whitespace().map(|bind| Part { bind, given: String::new(), ..http_part }.listen());
    Ok(Addresses {
        bind: Part { bind: &bind, given: String::new(), ..http_part }.listen()?.ip(),
        http: https.collect::<Result<_, _>>()?,
        rpc: rpc_part.listen()?,
        serf: serf_part.listen()?,
        advertise,
    })
}

fn port(key: &'static str, wanted: Option<i64>, default: u16) -> Result<u16, AddressError> {
    match wanted {
        // Zero is what an unset port looks like in files that programs write.
        None | Some(0) => Ok(default),
        Some(port) => u16::try_from(port).map_err(|_| AddressError::Port { key, port }),
    }
}

impl Part<'_> {
    /// The address to listen on.
    fn listen(&self) -> Result<SocketAddr, AddressError> {
        let ip = look_up(self.bind, self.machine).map_err(|why| AddressError::Bind {
            part: self.name,
            bind: self.bind.to_owned(),
            why,
        })?;
        Ok(SocketAddr::new(ip, self.port))
    }

    /// The address that others are told: the one given, or else the one listened on, or else the machine's own.
    fn advertise(&self) -> Result<SocketAddr, AddressError> {
        if !self.given.is_empty() {
            let (host, port) = split_port(&self.given, self.port).map_err(|why| self.fault(why))?;
            let ip = look_up(host, self.machine)
                .map_err(|why| self.fault(format!("Error resolving advertise address {host:?}: {why}")))?;
            return Ok(SocketAddr::new(ip, port));
        }
        let ip = look_up(self.bind, self.machine)
            .map_err(|why| self.fault(format!("Error resolving bind address {:?}: {why}", self.bind)))?;
        if ip.is_loopback() && !self.dev {
            let why = "Defaulting advertise to localhost is unsafe, please set advertise manually";
            return Err(self.fault(why.to_owned()));
        }
        if !ip.is_unspecified() {
            return Ok(SocketAddr::new(ip, self.port));
        }
        match self.machine.own_ip(ip) {
            Some(ip) => Ok(SocketAddr::new(ip, self.port)),
            None if self.dev => Ok(SocketAddr::new([127, 0, 0, 1].into(), self.port)),
            None => {
                let why = "No private or public address found on this machine, please set advertise manually";
                Err(self.fault(why.to_owned()))
            }
        }
    }

    fn fault(&self, why: String) -> AddressError {
        AddressError::Advertise {
            part: self.name,
            given: self.given.clone(),
            bind: self.bind.to_owned(),
            port: self.port,
            dev: self.dev,
            why,
        }
    }
}

/// Splits `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn split_port(text: &str, default: u16) -> Result<(&str, u16), String> {
    let bad_port = |port: &str| format!("{port:?} is not a port");
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("missing ']' in address")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, port.parse().map_err(|_| bad_port(port))?)),
            None => Ok((host, default)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, port.parse().map_err(|_| bad_port(port))?)),
        _ => Ok((text, default)),
    }
}

fn look_up(host: &str, machine: &Machine) -> Result<IpAddr, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse() {
        return Ok(ip);
    }
    let found = (machine.resolve)(host).ok().and_then(|mut found| {
        found.sort_by_key(IpAddr::is_ipv6);
        found.first().copied()
    });
    found.ok_or_else(|| format!("lookup {host}: no such host"))
}
