//! What the command line asks for.

use std::{net::IpAddr, path::PathBuf};

use crate::scenario::Scenario;

/// What `-help` shows.
pub const HELP: &str = "\
Usage: wayfarer bench SCENARIO [options]

  Measures a cluster that it starts: servers as processes, with fsync and TLS,
  and simulated nodes in one further process; or one that is there already.

Scenarios:
  burst        100 jobs of 100 on 1,000 nodes
  unique       5,000 jobs of 1, with constraints and a spread on 25 racks, on 10,000 nodes
  latency      500 jobs one at a time, then 20 a second
  node-death   two of five real client agents are killed; until their work runs elsewhere
  footprint    memory of a server, of an idle client agent and of a connected node
  packing      12,000 tasks of uneven sizes: nodes used against the lower bound
  c2m          2,000 jobs of 1,000 on 6,100 nodes
  sessions     memory and processor time of 1,000 and 2,000 idle sessions; all servers restart at once
  settle       10,000 jobs, a third of the nodes drained, a third lost, collected; twice

Options:
  -nodes N       simulated nodes
  -servers N     servers to start (3)
  -scale F       jobs and nodes times F, e.g. 0.1
  -address ADDR  use the cluster of this agent and its own nodes instead; may be repeated
  -json FILE     write what was measured there, too
  -binary FILE   the agents' program, when it is not this one
  -dir DIR       keep data directories and logs there instead of in a temporary directory
  -loopback IP   first of the loopback addresses to use, by their first three numbers (127.0.83)";

/// What is to be done.
#[derive(Debug)]
pub enum Asked {
    /// Say how it is used.
    Help,
    /// Measure.
    Scenario(Options),
    /// Be simulated nodes; a scenario starts this as a process.
    Nodes(NodesWanted),
}

/// How a scenario is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which.
    pub scenario: Scenario,
    /// Nodes, when not what the scenario has.
    pub nodes: Option<usize>,
    /// Servers to start.
    pub servers: usize,
    /// Jobs and nodes are multiplied by it.
    pub scale: f64,
    /// Agents of a cluster that is there already.
    pub addresses: Vec<String>,
    /// Where the figures go.
    pub json: Option<PathBuf>,
    /// The agents' program, when it is not this one.
    pub binary: Option<PathBuf>,
    /// Where processes keep their things.
    pub dir: Option<PathBuf>,
    /// First three numbers of the addresses.
    pub loopback: String,
}

/// The simulated nodes of one process.
#[derive(Clone, Debug)]
pub struct NodesWanted {
    /// How many.
    pub count: usize,
    /// The number of the first one: names, ids and racks follow from it.
    pub first: usize,
    /// Where the servers are.
    pub servers: Vec<std::net::SocketAddr>,
    /// Holds the region's authority, as a server keeps it.
    pub dir: PathBuf,
    /// The nodes' own address.
    pub bind: IpAddr,
    /// What they are like.
    pub kind: Kind,
}

/// What simulated nodes are like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// All of one size.
    Usual,
    /// The five machines of the packing scenario.
    Mixed,
    /// As usual, and they say at once that what runs is healthy, which drains wait for.
    Healthy,
}

impl Kind {
    const ALL: [(&'static str, Self); 3] =
        [("usual", Self::Usual), ("mixed", Self::Mixed), ("healthy", Self::Healthy)];

    /// The word for it on a command line.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    fn named(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(name, _)| *name == word);
        known.map(|(_, kind)| kind).ok_or_else(|| format!("-kind can not be {word:?}"))
    }
}

impl Options {
    /// Reads the words of a command line.
    ///
    /// # Errors
    ///
    /// Says which word is wrong.
    pub fn parse(args: &[String]) -> Result<Asked, String> {
        let mut words = args.iter();
        let first = words.next().ok_or("a scenario is needed")?;
        if matches!(first.as_str(), "-help" | "--help" | "-h") {
            return Ok(Asked::Help);
        }
        let mut rest = Flags::of(words)?;
        if rest.take("help").is_some() {
            return Ok(Asked::Help);
        }
        let asked = if first == "nodes" {
            Asked::Nodes(NodesWanted {
                count: rest.number("count")?.unwrap_or(0),
                first: rest.number("first")?.unwrap_or(0),
                servers: rest
                    .list("server")
                    .iter()
                    .map(|text| parsed("server", text))
                    .collect::<Result<_, _>>()?,
                dir: rest.take("dir").ok_or("-dir is needed")?.into(),
                bind: parsed("bind", &rest.take("bind").ok_or("-bind is needed")?)?,
                kind: rest.take("kind").map_or(Ok(Kind::Usual), |word| Kind::named(&word))?,
            })
        } else {
            let scenario = Scenario::named(first).ok_or_else(|| format!("there is no scenario {first:?}"))?;
            let scale = rest.take("scale").map(|text| parsed("scale", &text)).transpose()?.unwrap_or(1.0);
            if !(scale > 0.0 && scale <= 100.0) {
                return Err("-scale must be more than 0 and at most 100".to_owned());
            }
            Asked::Scenario(Self {
                scenario,
                nodes: rest.number("nodes")?,
                servers: rest.number("servers")?.unwrap_or(3),
                scale,
                addresses: rest.list("address"),
                json: rest.take("json").map(PathBuf::from),
                binary: rest.take("binary").map(PathBuf::from),
                dir: rest.take("dir").map(PathBuf::from),
                loopback: rest.take("loopback").unwrap_or_else(|| "127.0.83".to_owned()),
            })
        };
        rest.nothing_left()?;
        Ok(asked)
    }

    /// A count of jobs or nodes at this scale; never none.
    pub fn scaled(&self, count: usize) -> usize {
        // Counts are far below where a double loses whole numbers.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let scaled = (count as f64 * self.scale).round() as usize;
        scaled.max(1)
    }
}

/// Flags as Nomad's commands have them: `-name value` or `-name=value`.
struct Flags(Vec<(String, String)>);

impl Flags {
    fn of<'a>(mut words: impl Iterator<Item = &'a String>) -> Result<Self, String> {
        let mut flags = Vec::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
            let name = name.ok_or_else(|| format!("{word:?} is no option"))?;
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if matches!(name, "help" | "h") => ("help", String::new()),
                None => (name, words.next().ok_or_else(|| format!("-{name} needs a value"))?.clone()),
            };
            flags.push((name.to_owned(), value));
        }
        Ok(Self(flags))
    }

    fn list(&mut self, name: &str) -> Vec<String> {
        let (found, rest) = std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key == name);
        self.0 = rest;
        let found: Vec<(String, String)> = found;
        found.into_iter().map(|(_, value)| value).collect()
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.list(name).pop()
    }

    fn number(&mut self, name: &str) -> Result<Option<usize>, String> {
        self.take(name).map(|text| parsed(name, &text)).transpose()
    }

    fn nothing_left(&self) -> Result<(), String> {
        match self.0.first() {
            Some((name, _)) => Err(format!("there is no option -{name}")),
            None => Ok(()),
        }
    }
}

fn parsed<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("-{name} can not be {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read_in_both_forms_and_unknown_ones_refused() {
        let Ok(Asked::Scenario(options)) = parse("burst -nodes 500 -scale=0.5 -address a -address b") else {
            panic!("it can be read")
        };
        assert_eq!((options.nodes, options.scaled(100), options.scaled(0)), (Some(500), 50, 1));
        assert_eq!(options.addresses, ["a", "b"]);
        assert_eq!(parse("burst -noodles 5").expect_err("unknown"), "there is no option -noodles");
        assert!(parse("bursts").is_err() && parse("burst -nodes").is_err() && parse("burst 5").is_err());
        assert!(parse("burst -scale 0").is_err() && parse("burst -nodes five").is_err());
    }
}
