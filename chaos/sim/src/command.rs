//! What is asked of the program.

use std::{collections::BTreeSet, path::PathBuf, str::FromStr, time::Duration};

use chaos_sim::{Plan, Profile, Size, Work};

/// How it is called.
pub const USAGE: &str = "\
usage: chaos-sim --seeds COUNT [--from SEED] [--twice] [--first]   run that many seeds and print a table
       chaos-sim --seed SEED [--logs FILTER]             repeat one, step by step
       chaos-sim --minimise SEED                         find the fewest faults that a failing seed needs

  --twice            run each seed twice, all of them once and then again: the traces must be the same
  --first            begin no further seed after the first that fails
  --minutes COUNT    begin no further seed after so many minutes
  --profile NAME     calm, storm, disk, gossip, reconnect or upgrade; storm unless said
  --work NAME        demanding or usual, which leaves the demanding jobs out; demanding unless said
  --servers COUNT    3 unless said
  --clients COUNT    4 unless said
  --seconds COUNT    how long faults go on, in simulated time; 60 unless said
  --without PLACES   leave out these faults, by their numbers: 1,4,7
  --jobs COUNT       processes at a time; as many as the machine has processors unless said
  --results FILE     put the table into this page, too";

/// What is asked.
#[derive(Clone, Debug)]
pub struct Command {
    /// Which seeds, and how.
    pub task: Task,
    /// Which faults.
    pub profile: Profile,
    /// What users do.
    pub work: Work,
    /// How large the cluster is.
    pub size: Size,
    /// How long faults go on.
    pub length: Duration,
    /// Faults to leave out.
    pub without: BTreeSet<usize>,
    /// Processes at a time.
    pub jobs: usize,
    /// When to begin no further seed.
    pub most: Option<Duration>,
    /// Where the table goes besides.
    pub results: Option<PathBuf>,
    /// Which of the product's own log lines are shown.
    pub logs: Option<String>,
}

/// Which seeds, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// Many.
    Seeds {
        /// How many.
        count: u64,
        /// The first.
        from: u64,
        /// Each twice, compared.
        twice: bool,
        /// Only until one fails.
        first: bool,
    },
    /// One, with its trace.
    Seed(u64),
    /// One, with fewer and fewer faults.
    Minimise(u64),
    /// One, for the process that started this one.
    Quietly(u64),
}

impl Command {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// Names the argument that is wrong.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments;
        let (mut count, mut from, mut twice, mut first, mut one) = (None, 1, false, false, None);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Self {
            task: Task::Seed(0),
            profile: Profile::Storm,
            work: Work::default(),
            size: Size { servers: 3, clients: 4 },
            length: Duration::from_secs(60),
            without: BTreeSet::new(),
            jobs: processors,
            most: None,
            results: None,
            logs: None,
        };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--twice" => {
                    twice = true;
                    continue;
                }
                "--first" => {
                    first = true;
                    continue;
                }
                _ => {}
            }
            let value = arguments.next().ok_or_else(|| format!("{name} is not known, or needs a value"))?;
            match name.as_str() {
                "--seeds" => count = Some(number(&name, &value)?),
                "--from" => from = number(&name, &value)?,
                "--seed" => one = Some(Task::Seed(number(&name, &value)?)),
                "--minimise" => one = Some(Task::Minimise(number(&name, &value)?)),
                "--quietly" => one = Some(Task::Quietly(number(&name, &value)?)),
                "--profile" => command.profile = value.parse()?,
                "--work" => command.work = value.parse()?,
                "--servers" => command.size.servers = number(&name, &value)?,
                "--clients" => command.size.clients = number(&name, &value)?,
                "--seconds" => command.length = Duration::from_secs(number(&name, &value)?),
                "--minutes" => command.most = Some(Duration::from_secs(60 * number::<u64>(&name, &value)?)),
                "--jobs" => command.jobs = number::<usize>(&name, &value)?.max(1),
                "--without" => command.without = places(&name, &value)?,
                "--results" => command.results = Some(value.into()),
                "--logs" => command.logs = Some(value),
                _ => return Err(format!("{name} is not known")),
            }
        }
        command.task = match (one, count) {
            (Some(task), None) => task,
            (None, Some(count)) => Task::Seeds { count, from, twice, first },
            (None, None) => return Err("say which seeds".to_owned()),
            (Some(_), Some(_)) => return Err("either one seed or many".to_owned()),
        };
        if !(1..=9).contains(&command.size.servers) || !(1..=99).contains(&command.size.clients) {
            return Err("1 to 9 servers and 1 to 99 clients".to_owned());
        }
        Ok(command)
    }

    /// The plan of one of its seeds.
    pub fn plan(&self, seed: u64) -> Plan {
        let plan = Plan::draw(seed, self.profile, self.size, self.length).without(&self.without);
        Plan { work: self.work, ..plan }
    }

    /// The arguments that have another process run one seed without the faults at `without`.
    pub fn for_one(&self, seed: u64, without: &BTreeSet<usize>) -> Vec<String> {
        let mut arguments: Vec<String> = [
            ("--quietly", seed.to_string()),
            ("--profile", self.profile.to_string()),
            ("--work", self.work.name().to_owned()),
            ("--servers", self.size.servers.to_string()),
            ("--clients", self.size.clients.to_string()),
            ("--seconds", self.length.as_secs().to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        if !without.is_empty() {
            arguments.extend(["--without".to_owned(), listed(without)]);
        }
        arguments
    }
}

/// Writes places as `--without` takes them.
pub fn listed(places: &BTreeSet<usize>) -> String {
    places.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn places(name: &str, value: &str) -> Result<BTreeSet<usize>, String> {
    value.split(',').map(|place| number(name, place)).collect()
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} takes a number, not {value}"))
}
