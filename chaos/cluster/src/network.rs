//! A network of its own for every agent: namespaces around a hub, through which everything passes.
//!
//! Each agent has a namespace with one link to the hub's. This process lives in the hub, so it reaches every agent's API
//! whatever is cut between agents. UDP between agents goes through the relay; the rest goes through the hub's packet
//! filter, which is nobody else's: the machine's own rules are neither seen nor changed.

use std::{
    fs::{self, File},
    io,
    process::Command,
};

use nix::sched::{CloneFlags, setns};

use crate::{
    fault::Link,
    layout::{Agent, Layout},
    relay,
};

/// The namespaces of a run.
pub struct Network {
    prefix: String,
    layout: Layout,
}

/// Runs a program that must succeed.
///
/// # Errors
///
/// With the program's own words when it fails.
pub fn must(program: &str, words: &[&str]) -> io::Result<String> {
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{program} does not start: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {}: {}", words.join(" "), said.trim())))
}

fn ip(words: &[&str]) -> io::Result<()> {
    must("ip", words).map(drop)
}

impl Network {
    /// Makes the namespaces and moves the calling thread, and all that it starts from then on, into the hub.
    ///
    /// # Errors
    ///
    /// When this machine does not let it; what was made is left for [`remove`].
    pub fn lay(prefix: &str, layout: Layout) -> io::Result<Self> {
        let network = Self { prefix: prefix.to_owned(), layout };
        let hub = network.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        for agent in layout.all() {
            network.connect(agent)?;
        }
        let file = File::open(format!("/run/netns/{hub}"))?;
        setns(file, CloneFlags::CLONE_NEWNET)?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        divert()?;
        Ok(network)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    /// The name of an agent's namespace.
    #[must_use]
    pub fn namespace(&self, agent: Agent) -> String {
        format!("{}-{agent}", self.prefix)
    }

    fn connect(&self, agent: Agent) -> io::Result<()> {
        let (hub, own, port) = (self.hub(), self.namespace(agent), format!("to-{agent}"));
        ip(&["netns", "add", &own])?;
        ip(&["-n", &own, "link", "set", "lo", "up"])?;
        ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &own])?;
        ip(&["-n", &hub, "addr", "add", &format!("{}/30", agent.gateway()), "dev", &port])?;
        ip(&["-n", &hub, "link", "set", &port, "up"])?;
        ip(&["-n", &own, "addr", "add", &format!("{}/30", agent.ip()), "dev", "eth0"])?;
        ip(&["-n", &own, "link", "set", "eth0", "up"])?;
        ip(&["-n", &own, "route", "add", "default", "via", &agent.gateway().to_string()])
    }

    /// Cuts what is not UDP on these links. The calling thread must be in the hub.
    ///
    /// # Errors
    ///
    /// When the packet filter refuses.
    pub fn cut(&self, links: &[Link]) -> io::Result<()> {
        self.filter("-A", links)
    }

    /// Lifts one cut of these links.
    ///
    /// # Errors
    ///
    /// When there was none.
    pub fn mend(&self, links: &[Link]) -> io::Result<()> {
        self.filter("-D", links)
    }

    fn filter(&self, action: &str, links: &[Link]) -> io::Result<()> {
        debug_assert!(links.iter().all(|link| self.layout.all().any(|agent| agent == link.from)));
        for Link { from, to } in links {
            let (from, to) = (from.ip().to_string(), to.ip().to_string());
            must("iptables", &["-w", action, "FORWARD", "-s", &from, "-d", &to, "-j", "DROP"])?;
        }
        Ok(())
    }
}

/// Hands every UDP packet between agents to the relay. Without tracking of connections: nothing here is translated.
fn divert() -> io::Result<()> {
    let port = relay::PORT.to_string();
    let table = ["-w", "-t", "mangle", "-A", "PREROUTING", "-p", "udp", "-j", "TPROXY"];
    let target = ["--on-ip", "0.0.0.0", "--on-port", &port, "--tproxy-mark", "1"];
    must("iptables", &[&table[..], &target[..]].concat())?;
    must("ip", &["rule", "add", "fwmark", "1", "lookup", "100"])?;
    must("ip", &["route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100"])?;
    Ok(())
}

/// Removes every namespace of a prefix. Links go with them.
pub fn remove(prefix: &str) {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{prefix}-"))
            && let Err(error) = ip(&["netns", "del", &name])
        {
            eprintln!("namespace {name} is left: {error}");
        }
    }
}
