//! Which agents there are, what they are called and where they are.

use std::{fmt, net::Ipv4Addr};

use serde::{Serialize, Serializer};

/// Networks of agents lie below this one. Every run has them in namespaces of its own, so that runs do not meet.
const NETWORK: [u8; 2] = [10, 86];

/// One agent of the region, by position: servers first, then clients, then those that only storms bring in.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Agent(pub u8);

impl Agent {
    /// The agent's address; the ports are those that agents have by default.
    #[must_use]
    pub fn ip(self) -> Ipv4Addr {
        Ipv4Addr::new(NETWORK[0], NETWORK[1], self.0 + 1, 2)
    }

    /// The hub's end of the agent's link.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(NETWORK[0], NETWORK[1], self.0 + 1, 1)
    }

    /// Whose address this is.
    #[must_use]
    pub fn at(ip: Ipv4Addr) -> Option<Self> {
        let [a, b, number, host] = ip.octets();
        ([a, b] == NETWORK && host == 2 && number > 0).then(|| Self(number - 1))
    }
}

/// What an agent is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// A server.
    Server,
    /// A client.
    Client,
}

/// How many agents of which kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Layout {
    /// Servers that the region begins with.
    pub servers: u8,
    /// Clients that the region begins with.
    pub clients: u8,
    /// Clients that join and leave in storms.
    pub spare_clients: u8,
    /// Servers that join and leave in storms.
    pub spare_servers: u8,
}

impl Layout {
    /// The agents of every day.
    pub fn members(self) -> impl Iterator<Item = Agent> {
        (0..self.servers + self.clients).map(Agent)
    }

    /// The servers of every day.
    pub fn servers(self) -> impl Iterator<Item = Agent> {
        (0..self.servers).map(Agent)
    }

    /// The clients of every day.
    pub fn clients(self) -> impl Iterator<Item = Agent> {
        (self.servers..self.servers + self.clients).map(Agent)
    }

    /// Those that only storms bring in.
    pub fn spares(self) -> impl Iterator<Item = Agent> {
        (self.servers + self.clients..self.count()).map(Agent)
    }

    /// All agents.
    pub fn all(self) -> impl Iterator<Item = Agent> {
        (0..self.count()).map(Agent)
    }

    fn count(self) -> u8 {
        self.servers + self.clients + self.spare_clients + self.spare_servers
    }

    /// What an agent is.
    #[must_use]
    pub fn part(self, agent: Agent) -> Part {
        let clients_end = self.servers + self.clients + self.spare_clients;
        if agent.0 < self.servers || agent.0 >= clients_end { Part::Server } else { Part::Client }
    }

    /// Whether only storms bring the agent in.
    #[must_use]
    pub fn is_spare(self, agent: Agent) -> bool {
        agent.0 >= self.servers + self.clients
    }

    /// The agent of this name.
    #[must_use]
    pub fn named(self, name: &str) -> Option<Agent> {
        self.all().find(|agent| agent.to_string() == name)
    }
}

/// Agents are called `a1`, `a2` ...: what they are is in the layout.
impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", self.0 + 1)
    }
}

impl Serialize for Agent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { servers: 3, clients: 2, spare_clients: 2, spare_servers: 1 };

    #[test]
    fn every_agent_is_one_thing() {
        let parts: Vec<Part> = LAYOUT.all().map(|agent| LAYOUT.part(agent)).collect();
        let servers = parts.iter().filter(|part| **part == Part::Server).count();
        assert_eq!((parts.len(), servers), (8, 4));
        assert_eq!(LAYOUT.spares().filter(|agent| LAYOUT.part(*agent) == Part::Server).count(), 1);
    }

    #[test]
    fn names_and_addresses_lead_back() {
        for agent in LAYOUT.all() {
            assert_eq!(Agent::at(agent.ip()), Some(agent));
            assert_eq!(LAYOUT.named(&agent.to_string()), Some(agent));
            assert_eq!(Agent::at(agent.gateway()), None);
        }
    }
}
