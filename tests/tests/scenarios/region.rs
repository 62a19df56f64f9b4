//! The region that the scenarios were recorded on.

use std::net::SocketAddr;

use tests::{Agent, Kind, binary, http, wait};

/// Time for the region to form, on a machine that is busy.
const FORMED_WITHIN: std::time::Duration = std::time::Duration::from_secs(90);

/// One server and four nodes: two datacenters, two racks, two classes, 4000 MHz and 4000 MiB each.
pub struct Region {
    server: Agent,
    nodes: Vec<Agent>,
}

impl Region {
    /// Starts it and waits until all nodes are ready.
    pub fn start() -> Self {
        let server = "name = \"s1\"\nserver {\n  enabled          = true\n  bootstrap_expect = 1\n}\n";
        let mut server = Agent::prepare(binary::path(), Kind::Member, server);
        server.launch();
        let mut nodes = Vec::new();
        for number in 1..=4 {
            let mut node = Agent::prepare(binary::path(), Kind::Member, &node(number, server.gossip_addr()));
            node.launch();
            nodes.push(node);
        }
        wait::until_within(FORMED_WITHIN, "all nodes are ready", || {
            let answer = http::request(server.addr(), "GET", "/v1/nodes", None).ok()?;
            let ready = answer.body.matches("\"Status\":\"ready\"").count();
            (answer.status == 200 && ready == nodes.len()).then_some(())
        });
        Self { server, nodes }
    }

    /// Where its API is.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The last lines that each agent wrote.
    pub fn tails(&self) -> String {
        let tail = |agent: &Agent| {
            let log = agent.log();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(8)..].join("\n")
        };
        let tails: Vec<String> = [&self.server].into_iter().chain(&self.nodes).map(tail).collect();
        tails.join("\n---\n")
    }
}

fn node(number: usize, joins: SocketAddr) -> String {
    let (datacenter, class) = if number <= 2 { ("dc1", "a") } else { ("dc2", "b") };
    let rack = if number % 2 == 1 { "r1" } else { "r2" };
    format!(
        "name = \"c{number}\"\ndatacenter = \"{datacenter}\"\nclient {{\n  enabled           = true\n  \
         node_class        = \"{class}\"\n  cpu_total_compute = 4000\n  memory_total_mb   = 4000\n  \
         meta {{\n    rack = \"{rack}\"\n  }}\n  server_join {{\n    retry_join     = [\"{joins}\"]\n    \
         retry_interval = \"1s\"\n  }}\n}}\n"
    )
}
